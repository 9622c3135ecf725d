/* Windows of three rows and three columns, in registers: rows joined vector by vector, each such vector then with itself
 * one lane to the left and one to the right. No scratch row and no margins. Included by pool.body.h, for one dtype. */

/* Lane i of what comes back is lane i - 1, or i + 1, of v; the one that v lacks is the last of `before`, or the first of
 * `after`. */
CK_INLINE V CK_TYPED(from_left)(V before, V v)
{
    const __m256d between = _mm256_permute2f128_pd((__m256d)before, (__m256d)v, 0x21);
    return (V)_mm256_alignr_epi8((__m256i)v, (__m256i)between, 16 - sizeof(T));
}

CK_INLINE V CK_TYPED(from_right)(V v, V after)
{
    const __m256d between = _mm256_permute2f128_pd((__m256d)v, (__m256d)after, 0x21);
    return (V)_mm256_alignr_epi8((__m256i)between, (__m256i)v, sizeof(T));
}

/* The rows of a window, or of two, joined: `v` holds one vector of each row. A product and a sum are NaN if any of what
 * they come from is. */
CK_INLINE void CK_TYPED(three_joined)(int op, const int two, const V v[4], V out[2], V *total)
{
    const V late = CK_TYPED(join)(op, v[2], v[1]);
    if (POOL_ADDS(op) || !two)
        out[0] = CK_TYPED(join)(op, v[2], CK_TYPED(join)(op, v[1], v[0]));
    else
        out[0] = CK_TYPED(join)(op, late, v[0]);
    if (two) out[1] = CK_TYPED(join)(op, v[3], late);
    if (!POOL_NO_NAN(op)) return;
    if (two)
        total[0] = vfma(v[0], v[1], total[0]), total[1] = vfma(v[2], v[3], total[1]);
    else
        total[0] += vfma(v[0], v[1], v[2]);
}

/* How a row is cut: the middle column of the first window, how many vectors of windows need nothing that is not there,
 * and which lanes there are of the first vector that may lack some, and of the one behind it. */
typedef struct {
    ptrdiff_t middle, whole;
    VL lanes[2];
} CK_TYPED(three_cut_t);

#define CUT CK_TYPED(three_cut_t)

/* The columns from j on; lanes that are not `there` are neutral. */
CK_INLINE void CK_TYPED(three_rows)(int op, const int two, const VL *there, const THREE *t, ptrdiff_t j, V out[2],
                                    V *total)
{
    V v[4];
    CK_UNROLL for (int i = 0; i < 3 + two; i++) v[i] =
        there ? vload_lanes(t->row[i] + j, *there) : vload(t->row[i] + j);
    CK_TYPED(three_joined)(op, two, v, out, total);
    if (!there || POOL_ADDS(op)) return;
    CK_UNROLL for (int i = 0; i <= two; i++) out[i] = vselect((VI)*there, out[i], vset1(CK_TYPED(neutral)(op)));
}

/* What lies before the middle column of the first window: a column of x in all lanes, or nothing. */
CK_INLINE void CK_TYPED(three_first)(int op, const int two, const THREE *t, V out[2], V *total)
{
    V v[4];
    out[0] = out[1] = vset1(CK_TYPED(neutral)(op));
    if (t->lacks) return;
    CK_UNROLL for (int i = 0; i < 3 + two; i++) v[i] = vset1(t->row[i][0]);
    CK_TYPED(three_joined)(op, two, v, out, total);
}

CK_INLINE V CK_TYPED(three_columns)(int op, const MEAN *mean, V a, V b, V c, ptrdiff_t o)
{
    return CK_TYPED(finish)(op, mean, CK_TYPED(join)(op, c, CK_TYPED(join)(op, b, a)), o);
}

/* Two rows of n windows side by side, the second one stored last. */
CK_INLINE void CK_TYPED(three_step1)(int op, const THREE *t, const CUT *cut, const MEAN *mean, T *y, ptrdiff_t pitch,
                                     ptrdiff_t n, V *total)
{
    V before[2], v[2], after[2];
    ptrdiff_t o = 0;
    CK_TYPED(three_first)(op, 1, t, before, total);
    CK_TYPED(three_rows)(op, 1, &cut->lanes[0], t, cut->middle, v, total);
    for (; o < cut->whole * L; o += L) {
        CK_TYPED(three_rows)(op, 1, NULL, t, cut->middle + o + L, after, total);
        CK_UNROLL for (int k = 0; k < 2; k++)
        {
            const V left = CK_TYPED(from_left)(before[k], v[k]), right = CK_TYPED(from_right)(v[k], after[k]);
            vstore(y + k * pitch + o, CK_TYPED(three_columns)(op, mean, left, v[k], right, o));
            before[k] = v[k], v[k] = after[k];
        }
    }
    CK_TYPED(three_rows)(op, 1, &cut->lanes[1], t, cut->middle + o + L, after, total);
    for (; o < n; o += L) {
        CK_UNROLL for (int k = 0; k < 2; k++)
        {
            const V left = CK_TYPED(from_left)(before[k], v[k]), right = CK_TYPED(from_right)(v[k], after[k]);
            CK_TYPED(deliver)(y + k * pitch + o, CK_TYPED(three_columns)(op, mean, left, v[k], right, o), n - o);
            before[k] = v[k], v[k] = after[k], after[k] = vset1(CK_TYPED(neutral)(op));
        }
    }
}

/* A vector of windows whose middle columns are the even ones of a and b; it leaves the odd ones. */
CK_INLINE V CK_TYPED(three_of_pairs)(int op, const MEAN *mean, V a, V b, V *before, ptrdiff_t o)
{
    const V lo = (V)_mm256_permute2f128_pd((__m256d)a, (__m256d)b, 0x20);
    const V hi = (V)_mm256_permute2f128_pd((__m256d)a, (__m256d)b, 0x31);
    const V even = EVEN(lo, hi), odd = ODD(lo, hi), left = CK_TYPED(from_left)(*before, odd);
    *before = odd;
    return CK_TYPED(three_columns)(op, mean, left, even, odd, o);
}

/* n windows, every second column. */
CK_INLINE void CK_TYPED(three_step2)(int op, const THREE *t, const CUT *cut, const MEAN *mean, T *y, ptrdiff_t n,
                                     V *total)
{
    V a[2], b[2], before[2];
    ptrdiff_t o = 0;
    CK_TYPED(three_first)(op, 0, t, before, total);
    for (; o < cut->whole * L; o += L) {
        CK_TYPED(three_rows)(op, 0, NULL, t, cut->middle + 2 * o, a, total);
        CK_TYPED(three_rows)(op, 0, NULL, t, cut->middle + 2 * o + L, b, total + 1);
        vstore(y + o, CK_TYPED(three_of_pairs)(op, mean, a[0], b[0], before, o));
    }
    if (o == n) return;
    CK_TYPED(three_rows)(op, 0, &cut->lanes[0], t, cut->middle + 2 * o, a, total);
    CK_TYPED(three_rows)(op, 0, &cut->lanes[1], t, cut->middle + 2 * o + L, b, total + 1);
    CK_TYPED(deliver)(y + o, CK_TYPED(three_of_pairs)(op, mean, a[0], b[0], before, o), n - o);
}

/* Of `left` lanes those that there are. */
CK_INLINE VL CK_TYPED(three_lanes)(ptrdiff_t left) { return vlanes(0, left < 0 ? 0 : left < L ? left : L); }

/* `rows` rows of n windows: side by side, two at a time, or every second column. */
CK_INLINE void CK_TYPED(three_some)(int op, const int stride, THREE t, const MEAN *mean, T *y, ptrdiff_t pitch,
                                    ptrdiff_t n, ptrdiff_t rows, V *total)
{
    const MEAN m = *mean;
    const ptrdiff_t middle = 1 - t.lacks, left = t.cols - middle;
    const ptrdiff_t most = stride == 2 ? left / 2 : left < L ? 0 : left - L, whole = (n < most ? n : most) / L;
    const ptrdiff_t rest = left - stride * whole * L;
    const CUT cut = {
        middle, whole, {CK_TYPED(three_lanes)(stride == 2 ? rest : left), CK_TYPED(three_lanes)(rest - L)}};
    V sum[2] = {total[0], total[1]};
    for (ptrdiff_t r = 0; r < rows; r += 3 - stride, y += (3 - stride) * pitch) {
        if (stride == 1)
            CK_TYPED(three_step1)(op, &t, &cut, &m, y, pitch, n, sum);
        else
            CK_TYPED(three_step2)(op, &t, &cut, &m, y, n, sum);
        CK_UNROLL for (int i = 0; i < 4; i++) t.row[i] += t.step;
    }
    total[0] = sum[0], total[1] = sum[1];
}

#define EACH_THREE(op)                                                                                                 \
    static void CK_TYPED(three_pairs_##op)(const THREE *t, const MEAN *mean, T *y, ptrdiff_t pitch, ptrdiff_t n,       \
                                           ptrdiff_t rows, V *total)                                                   \
    {                                                                                                                  \
        CK_TYPED(three_some)(op, 1, *t, mean, y, pitch, n, rows, total);                                               \
    }                                                                                                                  \
    static void CK_TYPED(three_seconds_##op)(const THREE *t, const MEAN *mean, T *y, ptrdiff_t pitch, ptrdiff_t n,     \
                                             ptrdiff_t rows, V *total)                                                 \
    {                                                                                                                  \
        CK_TYPED(three_some)(op, 2, *t, mean, y, pitch, n, rows, total);                                               \
    }
EACH_THREE(POOL_LARGER)
EACH_THREE(POOL_SMALLER)
EACH_THREE(POOL_SUM)
#undef EACH_THREE

/* The rows of x for rows of windows from c on; returns how many, `most` at most: where two are done at a time an even
 * number, or one as the second of two. For rows that a window lacks the next one inside stands in, which it holds as
 * well; for a sum, which takes no row twice, the zeros that are `spare`. Rows that windows hold one behind the other are
 * first joined, into `spare`. `t` is not returned: its pointers, stored one by one, would be copied as vectors, which
 * waits. */
CK_INLINE ptrdiff_t CK_TYPED(three_of)(const PASSES *pass, const ck_pool *p, const ROWS *all, const pool_cursor *c,
                                       ptrdiff_t most, T *spare, ptrdiff_t width, THREE *t, V total[4])
{
    const ptrdiff_t step = p->stride[1], first = c->at[1] * step - p->pad[1], last = p->size[1] - 1;
    const int sum = pass->op == POOL_SUM, deep = p->kernel[0] > 1, pairs = p->stride[2] == 1;
    const ptrdiff_t room = (2 * CK_POOL_ROWS - 1 + step) / step, from = first < 0 ? 0 : first;
    ptrdiff_t some = pool_alike(p, c), pitch = p->size[2];
    const T *x = all->x;
    if (some > most) some = most;
    if (deep && some > room) some = room;
    if (pairs) some = some > 1 ? some / 2 * 2 : most > 1 && !sum ? 2 : 1;
    if (deep) {
        const ptrdiff_t to = first + (some - 1) * step + 2;
        ROWS behind = *all;
        behind.nd = 1, behind.nh = all->nd, behind.step_h = all->step_d;
        pass->vertical(&behind, pitch, (to < last ? to : last) - from + 1, spare, width, total);
        x = spare, pitch = width;
    }
    t->step = (pairs ? 2 : step) * pitch;
    for (ptrdiff_t i = 0; i < 4; i++) {
        const ptrdiff_t h = first + i - (pairs && some == 1), inside = h < 0 ? 0 : h < last ? h : last;
        t->row[i] = sum && h != inside ? spare : x + ((inside < from ? from : inside) - from) * pitch;
    }
    return some;
}

/* ---- narrow rows: strips of one or two vectors down the rows of a plane. Each row is joined along its columns once, from
 * two loads, and the last three of them are a row of windows. */

/* The lanes that there are of the columns to the left of a strip and to the right of it, and what stands in the others. */
typedef struct {
    VL there[2];
    V others[2];
} CK_TYPED(three_edges_t);

#define EDGES CK_TYPED(three_edges_t)

/* Rows of windows under each other: x at the middle of the first one; `behind` of the rows have another one behind their
 * middle. `lacks`: whether there is nothing above x, and nothing to the left and to the right of the windows. */
typedef struct {
    const T *x;
    T *y;
    ptrdiff_t pitch, out_pitch, rows, behind;
    int lacks[3];
} CK_TYPED(strip_t);

#define STRIP CK_TYPED(strip_t)

CK_INLINE EDGES CK_TYPED(three_edges)(int op, int lacks_left, int lacks_right)
{
    EDGES e = {{vlanes(lacks_left, L), vlanes(0, L - lacks_right)}, {vset1(0)}};
    for (int i = 0; i < 2; i++) e.others[i] = (V)(~(VI)e.there[i] & (VI)vset1(CK_TYPED(neutral)(op)));
    return e;
}

/* The windows' columns of one row, joined; `edges`: 1 to the left, 2 to the right. What lies between the columns to the
 * left and to the right is found in both. */
CK_INLINE V CK_TYPED(three_across)(int op, const int edges, const EDGES *e, const T *x, V *total)
{
    V left = edges & 1 ? vload_lanes(x - 1, e->there[0]) : vload(x - 1);
    V right = edges & 2 ? vload_lanes(x + 1, e->there[1]) : vload(x + 1);
    const V middle = (V)_mm256_shuffle_ps((__m256)left, (__m256)right, 0x99);
    *total = vfma(left, right, *total);
    if (edges & 1) left = (V)((VI)left | (VI)e->others[0]);
    if (edges & 2) right = (V)((VI)right | (VI)e->others[1]);
    return CK_TYPED(join)(op, middle, CK_TYPED(join)(op, right, left));
}

/* `some` vectors of windows from o on. */
CK_INLINE void CK_TYPED(three_down)(int op, const int some, const STRIP *s, const EDGES *e, ptrdiff_t o, V total[2])
{
    const V neutral = vset1(CK_TYPED(neutral)(op));
    const ptrdiff_t pitch = s->pitch, out_pitch = s->out_pitch, behind = s->behind < s->rows ? s->behind : s->rows;
    const EDGES edges = *e;
    const T *x = s->x + o;
    T *y = s->y + o;
    V above[2], here[2], sum[2] = {total[0], total[1]};
    CK_UNROLL for (int q = 0; q < some; q++)
    {
        const int which = (q == 0) + 2 * (q == some - 1);
        above[q] = neutral;
        if (!s->lacks[0]) above[q] = CK_TYPED(three_across)(op, which, &edges, x - pitch + q * L, &sum[q]);
        here[q] = CK_TYPED(three_across)(op, which, &edges, x + q * L, &sum[q]);
    }
    for (ptrdiff_t r = 0; r < behind; r++, y += out_pitch) {
        x += pitch;
        CK_UNROLL for (int q = 0; q < some; q++)
        {
            const int which = (q == 0) + 2 * (q == some - 1);
            const V below = CK_TYPED(three_across)(op, which, &edges, x + q * L, &sum[q]);
            vstore(y + q * L, CK_TYPED(join)(op, below, CK_TYPED(join)(op, here[q], above[q])));
            above[q] = here[q], here[q] = below;
        }
    }
    if (behind < s->rows) /* the last row of the plane */
        CK_UNROLL for (int q = 0; q < some; q++) vstore(y + q * L, CK_TYPED(join)(op, here[q], above[q]));
    total[0] = sum[0], total[1] = sum[1];
}

/* Rows of n windows, a vector of them or more; the last strip overlaps the one before. */
CK_INLINE void CK_TYPED(three_strips)(int op, const STRIP *s, ptrdiff_t n, V *total)
{
    const ptrdiff_t wide = n < 2 * L ? L : 2 * L;
    for (ptrdiff_t o = 0; o < n; o += wide) {
        const ptrdiff_t at = o < n - wide ? o : n - wide;
        const EDGES e = CK_TYPED(three_edges)(op, at == 0 && s->lacks[1], at == n - wide && s->lacks[2]);
        if (n < 2 * L)
            CK_TYPED(three_down)(op, 1, s, &e, at, total);
        else
            CK_TYPED(three_down)(op, 2, s, &e, at, total);
    }
}

static void CK_TYPED(strips_larger)(const STRIP *s, ptrdiff_t n, V *total)
{
    CK_TYPED(three_strips)(POOL_LARGER, s, n, total);
}

static void CK_TYPED(strips_smaller)(const STRIP *s, ptrdiff_t n, V *total)
{
    CK_TYPED(three_strips)(POOL_SMALLER, s, n, total);
}

/* As `forward`, for the largest or smallest of such windows. Of rows that windows hold one behind the other some are joined
 * first, into `spare`, and stand for those of the plane. */
static ptrdiff_t CK_TYPED(forward_strips)(const PASSES *pass, const ck_pool *p, const ck_pool_arrays *a,
                                          const ck_pool_block *b, ptrdiff_t r, T *spare)
{
    const ptrdiff_t n = b->col1 - b->col0, W = p->size[2], H = p->size[1], start = pool_start(p, 2, b->col0);
    const ptrdiff_t width = ck_pool_row_width(p, n), reach = start + n + 2, lo = start < 0 ? 0 : start;
    V total[4] = {vset1(1), vset1(0), vset1(0), vset1(0)}; /* so that no sum with a tiny product is as tiny */
    pool_cursor c = pool_seek(p->out, r);
    for (ptrdiff_t rows; r < b->row1; r += rows, c.at[1] += rows - 1, pool_next(p->out, &c)) {
        const ptrdiff_t left = p->out[1] - c.at[1], first = c.at[1] - p->pad[1], from = first < 0 ? 0 : first;
        const ROWS all = CK_TYPED(rows_of)(p, a->in, &c, lo, reach < W ? reach : W);
        const T *x = all.x;
        ptrdiff_t pitch = W;
        rows = left < b->row1 - r ? left : b->row1 - r;
        if (p->kernel[0] > 1) {
            rows = rows < 2 * CK_POOL_ROWS ? rows : 2 * CK_POOL_ROWS;
            const ptrdiff_t end = first + rows + 2 < H ? first + rows + 2 : H;
            const ROWS behind = {x, 1, all.nd, 0, all.step_d, all.n, 0};
            pass->vertical(&behind, W, end - from, spare, width, total);
            x = spare, pitch = width;
        }
        const STRIP s = {x + (first + 1 - from) * pitch + start + 1 - lo,
                         (T *)a->out + r * p->out[2] + b->col0,
                         pitch,
                         p->out[2],
                         rows,
                         H - 2 - first,
                         {first < 0, start<0, reach> W}};
        if (pass->op == POOL_LARGER)
            CK_TYPED(strips_larger)(&s, n, total);
        else
            CK_TYPED(strips_smaller)(&s, n, total);
        if (CK_TYPED(any_nan)(total)) break;
    }
    return r;
}
#undef EDGES
#undef STRIP

/* As `forward`, for such windows. */
static ptrdiff_t CK_TYPED(forward_three)(const PASSES *pass, const ck_pool *p, const ck_pool_arrays *a,
                                         const ck_pool_block *b, ptrdiff_t r, const T *counts, ptrdiff_t same,
                                         char *scratch)
{
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_row_width(p, n);
    const ptrdiff_t start = pool_start(p, 2, b->col0), reach = pool_end(p, 2, b->col1 - 1), lo = start < 0 ? 0 : start;
    T *spare = (T *)(void *)scratch;
    V total[4] = {vset1(1), vset1(0), vset1(0), vset1(0)}; /* so that no sum with a tiny product is as tiny */
    if (pass->op == POOL_SUM) CK_TYPED(fill)(spare, width, 0);
    pool_cursor c = pool_seek(p->out, r);
    for (ptrdiff_t rows; r < b->row1; r += rows, c.at[1] += rows - 1, pool_next(p->out, &c)) {
        const ptrdiff_t left = p->out[1] - c.at[1], most = left < b->row1 - r ? left : b->row1 - r;
        ROWS all = CK_TYPED(rows_of)(p, a->in, &c, lo, reach < p->size[2] ? reach : p->size[2]);
        THREE t = {.cols = all.n, .lacks = lo - start};
        rows = CK_TYPED(three_of)(pass, p, &all, &c, most, spare, width, &t, total);
        const MEAN mean = CK_TYPED(mean_of_row)(pass->op, p, c.at, counts, same);
        pass->three[p->stride[2] - 1](&t, &mean, (T *)a->out + r * p->out[2] + b->col0, rows > 1 ? p->out[2] : 0, n,
                                      rows, total);
        if (POOL_NO_NAN(pass->op) && CK_TYPED(any_nan)(total)) break;
    }
    return r;
}
