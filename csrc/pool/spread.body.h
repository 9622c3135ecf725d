/* Gradients of means and norms whose windows hold pairs of columns side by side, or three of every second one, and all count
 * alike: each row of dx straight from the rows of windows that cover it, without scratch memory. Included by pool.body.h,
 * for one dtype. */

/* The first of the `rows` of windows that cover a row of dx, n windows each. Each element of a window takes `share` of dy,
 * and of a norm that over y, times its own value. */
typedef struct {
    const T *dy, *y, *x;
    ptrdiff_t rows, n;
    T share;
} CK_TYPED(covered_t);

#define COVERED CK_TYPED(covered_t)

CK_INLINE V CK_TYPED(load_some)(const T *p, ptrdiff_t left) { return left >= L ? vload(p) : vload_part(p, left); }

/* What a vector of windows from o on gives to each of its elements: nothing where there are none. */
CK_INLINE V CK_TYPED(given)(int op, const COVERED *c, ptrdiff_t rows, ptrdiff_t o)
{
    if (o >= c->n) return vset1(0);
    V v = CK_TYPED(load_some)(c->dy + o, c->n - o);
    for (ptrdiff_t h = 1; h < rows; h++) v += CK_TYPED(load_some)(c->dy + h * c->n + o, c->n - o);
    v *= c->share;
    if (op != POOL_SQUARES) return v;
    const V root = CK_TYPED(load_some)(c->y + o, c->n - o);
    return vselect((VI)(root == vset1(0)), vset1(0), v / root);
}

/* n columns of dx from i on into `copies` rows, 1 or 2. */
CK_INLINE void CK_TYPED(take)(int op, const COVERED *c, T *dx, ptrdiff_t copies, V v, ptrdiff_t i, ptrdiff_t n)
{
    if (i >= n) return;
    for (ptrdiff_t k = 0; k < copies; k++, dx += n) {
        const V own = op == POOL_SQUARES ? v * CK_TYPED(load_some)(c->x + k * n + i, n - i) : v;
        CK_TYPED(deliver)(dx + i, own, n - i);
    }
}

/* `kernel` 2: pairs; 3: window o has columns 2 * o - 1 to 2 * o + 1. */
CK_INLINE void CK_TYPED(spread_covered)(int op, const int kernel, const COVERED *covered, ptrdiff_t rows, T *dx,
                                        ptrdiff_t copies, ptrdiff_t n)
{
    const COVERED c = *covered;
    const ptrdiff_t last = kernel == 2 && n == 2 * c.n && c.n >= L ? n - 2 * L : n; /* overlaps those before */
    V here = vset1(0);
    if (kernel == 3) here = CK_TYPED(given)(op, &c, rows, 0);
    for (ptrdiff_t at = 0; at < n; at += 2 * L) {
        const ptrdiff_t i = at < last ? at : last;
        const V next = CK_TYPED(given)(op, &c, rows, kernel == 3 ? i / 2 + L : i / 2);
        const V even = kernel == 3 ? here : next, odd = kernel == 3 ? here + CK_TYPED(from_right)(here, next) : next;
        __builtin_prefetch((const char *)(dx + i) + CK_POOL_AHEAD, 1, 3);
        if (copies > 1) __builtin_prefetch((const char *)(dx + n + i) + CK_POOL_AHEAD, 1, 3);
        CK_TYPED(take)(op, &c, dx, copies, vziplo(even, odd), i, n);
        CK_TYPED(take)(op, &c, dx, copies, vziphi(even, odd), i + L, n);
        here = next;
    }
}

/* All columns in one window. */
CK_INLINE void CK_TYPED(spread_one)(int op, const COVERED *c, T *dx, ptrdiff_t n)
{
    T lane[L];
    vstore(lane, CK_TYPED(given)(op, c, 1, 0));
    for (ptrdiff_t i = 0; i < n; i += L) CK_TYPED(take)(op, c, dx, 1, vset1(lane[0]), i, n);
}

/* Rows [b->row0, b->row1); those under the same windows two at a time. */
CK_INLINE void CK_TYPED(spread_rows)(int op, const int kernel, const ck_pool *p, const ck_pool_arrays *a,
                                     const ck_pool_block *b, T share)
{
    const ptrdiff_t W = p->size[2], n = p->out[2];
    pool_cursor c = pool_seek(p->size, b->row0);
    for (ptrdiff_t r = b->row0, copies; r < b->row1; r += copies, c.at[1] += copies - 1, pool_next(p->size, &c)) {
        const pool_cover d = pool_covering(p, 0, c.at[0]), h = pool_covering(p, 1, c.at[1]);
        const ptrdiff_t at = ((c.plane * p->out[0] + d.first) * p->out[1] + h.first) * n;
        const COVERED covered = {(const T *)a->in + at,
                                 op == POOL_SQUARES ? (const T *)a->y + at : NULL,
                                 op == POOL_SQUARES ? (const T *)a->x + r * W : NULL,
                                 h.last - h.first + 1,
                                 n,
                                 share};
        T *dx = (T *)a->out + r * W;
        copies = 1;
        if (d.first > d.last || h.first > h.last) {
            CK_TYPED(fill)(dx, W, 0);
            continue;
        }
        if (kernel == 2 && r + 1 < b->row1 && c.at[1] + 1 < p->size[1]) {
            const pool_cover below = pool_covering(p, 1, c.at[1] + 1);
            copies += below.first == h.first && below.last == h.last;
        }
        if (kernel == 1)
            CK_TYPED(spread_one)(op, &covered, dx, W);
        else if (kernel == 2 || covered.rows == 1)
            CK_TYPED(spread_covered)(op, kernel, &covered, 1, dx, copies, W);
        else
            CK_TYPED(spread_covered)(op, kernel, &covered, covered.rows, dx, 1, W);
    }
}

#define SPREAD(name, op, kernel)                                                                                       \
    CK_NOINLINE void CK_TYPED(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, T share)        \
    {                                                                                                                  \
        CK_TYPED(spread_rows)(op, kernel, p, a, b, share);                                                             \
    }
SPREAD(spread_pairs, POOL_SUM, 2)
SPREAD(spread_three, POOL_SUM, 3)
SPREAD(spread_norm_of_pairs, POOL_SQUARES, 2)
SPREAD(spread_norm_of_rows, POOL_SQUARES, 1)
#undef SPREAD

/* Elements that every window counts, or 0 if they differ. */
CK_INLINE ptrdiff_t CK_TYPED(count_of_all)(const ck_pool *p)
{
    if (p->divisor) return p->divisor;
    for (int i = 0; i < 3; i++)
        if (pool_count(p, i, 0) != p->kernel[i] || pool_count(p, i, p->out[i] - 1) != p->kernel[i]) return 0;
    return p->kernel[0] * p->kernel[1] * p->kernel[2];
}

/* Returns whether this way knew the windows; the block must be of whole rows. */
static int CK_TYPED(spread_straight)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b)
{
    const ptrdiff_t count = p->adaptive ? 0 : CK_TYPED(count_of_all)(p);
    const T share = op == POOL_SQUARES ? (T)(p->whole / (double)count) : 1 / (T)count;
    const int apart = p->kernel[1] <= p->stride[1]; /* no two rows of windows share a row */
    if (count == 0 || b->col1 - b->col0 < p->size[2] || p->kernel[0] > p->stride[0]) return 0;
    if (op == POOL_SQUARES && apart && pool_whole_rows(p))
        CK_TYPED(spread_norm_of_rows)(p, a, b, share);
    else if (op == POOL_SQUARES && apart && pool_side_by_side(p, 2))
        CK_TYPED(spread_norm_of_pairs)(p, a, b, share);
    else if (op == POOL_SUM && apart && pool_side_by_side(p, 2))
        CK_TYPED(spread_pairs)(p, a, b, share);
    else if (op == POOL_SUM && p->kernel[2] == 3 && p->stride[2] == 2 && p->pad[2] == 1)
        CK_TYPED(spread_three)(p, a, b, share);
    else
        return 0;
    return 1;
}
#undef COVERED
