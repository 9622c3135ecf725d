/* Gradients of averages and norms, and of the largest and the smallest by their taps. Included by pool.body.h, for one
 * dtype. */

/* A row of gradients of windows; `g` points at window 0, with nothing to give where there are no windows. Where
 * `which` is not NULL, the row gives to tap base + k only the windows whose number is base + k. */
typedef struct {
    const T *g;
    const TI *which;
    TI base;
} CK_TYPED(giver_t);

#define GIVER CK_TYPED(giver_t)

/* Rows of windows -> one row of dx: dx[P] = sum of g[o] over the windows o that cover padded column P, where
 * P = o * stride + tap, in ascending order of rows and windows. Columns of one phase (P % stride) take neighbours
 * of g. P0 is the padded column of dx[0]. */
CK_INLINE V CK_TYPED(spread)(int some, const GIVER *row, ptrdiff_t rows, ptrdiff_t o, ptrdiff_t phase, ptrdiff_t stride,
                             ptrdiff_t taps)
{
    V acc = vset1(0);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t m = taps - 1; m >= 0; m--) {
            V g = vload(row[r].g + o - m);
            if (some)
                acc = CK_TYPED(pool_add_where)(acc, g, CK_TYPED(load_numbers)(row[r].which + o - m),
                                               row[r].base + (TI)(phase + m * stride));
            else
                acc += g;
        }
    return acc;
}

CK_INLINE void CK_TYPED(spread_step1)(int some, const GIVER *row, ptrdiff_t rows, ptrdiff_t kernel, ptrdiff_t P0, T *dx,
                                      ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += L)
        CK_TYPED(deliver)(dx + i, CK_TYPED(spread)(some, row, rows, P0 + i, 0, 1, kernel), n - i);
}

CK_INLINE void CK_TYPED(spread_step2)(int some, const GIVER *row, ptrdiff_t rows, ptrdiff_t kernel, ptrdiff_t P0, T *dx,
                                      ptrdiff_t n)
{
    ptrdiff_t i = 0, o = P0 / 2, even = (kernel + 1) / 2, odd = kernel / 2;
    if (P0 % 2) { /* begin in the middle of a pair */
        vstore_part(dx, CK_TYPED(spread)(some, row, rows, o, 1, 2, odd), 1);
        o++, i++;
    }
    for (; i < n; i += 2 * L, o += L) {
        V a = CK_TYPED(spread)(some, row, rows, o, 0, 2, even), b = CK_TYPED(spread)(some, row, rows, o, 1, 2, odd);
        CK_TYPED(deliver)(dx + i, vziplo(a, b), n - i);
        if (i + L < n) CK_TYPED(deliver)(dx + i + L, vziphi(a, b), n - i - L);
    }
}

#if CK_POOL_GUESSES
/* Every column is then a window of `kernel` columns of the row. */
static void CK_TYPED(spread_long)(const T *row, ptrdiff_t kernel, T *eight, T *dx, ptrdiff_t n)
{
    const MEAN sum = {1, 1, NULL, 1};
    CK_TYPED(taps_long)(POOL_SUM, row, kernel, eight, &sum, dx, n);
}
#endif

CK_INLINE void CK_TYPED(spread_any)(int some, const GIVER *row, ptrdiff_t rows, ptrdiff_t kernel, ptrdiff_t stride,
                                    ptrdiff_t P0, T *dx, ptrdiff_t n)
{
    for (ptrdiff_t first = 0; first < stride && first < n; first++) {
        ptrdiff_t phase = (P0 + first) % stride, taps = phase < kernel ? (kernel - 1 - phase) / stride + 1 : 0;
        ptrdiff_t o = (P0 + first) / stride;
        for (ptrdiff_t i = first; i < n; o += L) {
            T lane[L];
            vstore(lane, CK_TYPED(spread)(some, row, rows, o, phase, stride, taps));
            for (int w = 0; w < L && i < n; w++, i += stride) dx[i] = lane[w];
        }
    }
}

/* One row of dx, from column b->col0 on. */
CK_INLINE void CK_TYPED(spread_row)(int some, const ck_pool *p, const GIVER *row, ptrdiff_t rows, ptrdiff_t P0, T *dx,
                                    ptrdiff_t n)
{
    const ptrdiff_t kernel = p->kernel[2], stride = p->stride[2];
    if (stride == 2 && kernel == 2 && rows == 1)
        CK_TYPED(spread_step2)(some, row, 1, 2, P0, dx, n);
    else if (stride == 2 && kernel == 3)
        CK_TYPED(spread_step2)(some, row, rows, 3, P0, dx, n);
    else if (stride == 1 && kernel == 3)
        CK_TYPED(spread_step1)(some, row, rows, 3, P0, dx, n);
    else if (stride == 1)
        CK_TYPED(spread_step1)(some, row, rows, kernel, P0, dx, n);
    else if (stride == 2)
        CK_TYPED(spread_step2)(some, row, rows, kernel, P0, dx, n);
    else
        CK_TYPED(spread_any)(some, row, rows, kernel, stride, P0, dx, n);
}

/* g (+)= dy * share * shares, and for POOL_POWER over y^(p - 1), nothing where y is 0. */
CK_INLINE void CK_TYPED(add_row)(int op, int first, double power, T *g, const T *dy, const T *y, T share,
                                 const T *shares, ptrdiff_t n)
{
    V s = vset1(share);
    for (ptrdiff_t o = 0; o < n; o += L) {
        V v = n - o >= L ? vload(dy + o) : vload_part(dy + o, n - o), each = s * vload(shares + o);
        if (op == POOL_POWER) {
            V root = n - o >= L ? vload(y + o) : vload_part(y + o, n - o);
            each = vselect((VI)(root == vset1(0)), vset1(0), each / CK_TYPED(raise)(root, power - 1));
        }
        CK_TYPED(deliver)(g + o, first ? v * each : vfma(v, each, vload(g + o)), n - o);
    }
}

/* Shares of the windows [w.first, w.last] along the columns; returns 0, or the count that all have and leaves
 * ones. */
CK_INLINE ptrdiff_t CK_TYPED(column_shares)(const ck_pool *p, pool_cover w, T *shares)
{
    ptrdiff_t n = w.last - w.first + 1, first = n > 0 ? pool_count(p, 2, w.first) : 0, same = first;
    for (ptrdiff_t o = 0; o < n; o++) {
        ptrdiff_t count = pool_count(p, 2, w.first + o);
        shares[o] = 1 / (T)count;
        if (count != first) same = 0;
    }
    if (same) CK_TYPED(fill)(shares, n, 1);
    CK_TYPED(fill)(shares + (n > 0 ? n : 0), L, 0);
    return same;
}

/* Sum the shares of every window row that covers one row of dx. */
CK_INLINE void CK_TYPED(covering_rows)(int op, const ck_pool *p, const ck_pool_arrays *a, const pool_cursor *c,
                                       pool_cover d, pool_cover h, pool_cover w, const T *shares, ptrdiff_t same, T *g)
{
    ptrdiff_t n = w.last - w.first + 1;
    T whole = op == POOL_POWER ? (T)p->whole : 1;
    if (d.first > d.last || h.first > h.last) CK_TYPED(fill)(g, n, 0);
    for (ptrdiff_t i = d.first; i <= d.last; i++)
        for (ptrdiff_t j = h.first; j <= h.last; j++) {
            ptrdiff_t row = ((c->plane * p->out[0] + i) * p->out[1] + j) * p->out[2] + w.first;
            ptrdiff_t count = p->divisor ? p->divisor : pool_count(p, 0, i) * pool_count(p, 1, j);
            T share = whole / (T)(same ? count * same : count);
            CK_TYPED(add_row)(op, i == d.first && j == h.first, p->power, g, (const T *)a->in + row,
                              op == POOL_POWER ? (const T *)a->y + row : NULL, share, shares, n);
        }
}

/* dx *= x^(p - 1) */
CK_INLINE void CK_TYPED(times_x)(T *dx, const T *x, double power, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += L) {
        V v = n - i >= L ? vload(x + i) : vload_part(x + i, n - i);
        V d = n - i >= L ? vload(dx + i) : vload_part(dx + i, n - i);
        CK_TYPED(deliver)(dx + i, d * CK_TYPED(raise)(v, power - 1), n - i);
    }
}

/* Averages of whole planes: each row of dx is full of the one share. */
CK_INLINE void CK_TYPED(fill_planes)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b)
{
    const ptrdiff_t rows = p->size[0] * p->size[1];
    const ptrdiff_t count = p->divisor ? p->divisor : pool_count(p, 0, 0) * pool_count(p, 1, 0) * pool_count(p, 2, 0);
    for (ptrdiff_t r = b->row0, end; r < b->row1; r = end) {
        ptrdiff_t plane = r / rows;
        end = (plane + 1) * rows < b->row1 ? (plane + 1) * rows : b->row1;
        T share = ((const T *)a->in)[plane] * (1 / (T)count);
        T *dx = (T *)a->out + r * p->size[2];
        const V v = vset1(share); /* of `fill` GCC makes one store an element here */
        for (ptrdiff_t i = 0, n = (end - r) * p->size[2]; i < n; i += L) CK_TYPED(deliver)(dx + i, v, n - i);
    }
}

CK_INLINE void CK_TYPED(sum_backward)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                      char *scratch)
{
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_shares(p, n);
    const ptrdiff_t P0 = b->col0 + p->pad[2], zeros = (p->kernel[2] - 1) / p->stride[2];
    const pool_cover w = {pool_covering(p, 2, b->col0).first, pool_covering(p, 2, b->col1 - 1).last};
    T *shares = ck_pool_take(&scratch, width, sizeof(T)), *g[CK_POOL_ROWS];
#if CK_POOL_GUESSES
    T *eight = ck_pool_take(&scratch, width, sizeof(T)); /* for long windows */
#endif
    const ptrdiff_t same = CK_TYPED(column_shares)(p, w, shares);
    for (int i = 0; i < CK_POOL_ROWS; i++) {
        T *row = ck_pool_take(&scratch, width, sizeof(T));
        CK_TYPED(fill)(row, width, 0);
        g[i] = row - (p->adaptive ? w.first : P0 / p->stride[2] - zeros); /* the place of window 0 */
    }

    pool_cursor c = pool_seek(p->size, b->row0);
    pool_cover old_d = {0, 0}, old_h = {0, 0};
    ptrdiff_t old_plane = -1;
    for (ptrdiff_t r = b->row0; r < b->row1; r += CK_POOL_ROWS) { /* some rows at a time, as in `forward` */
        ptrdiff_t rows = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        int repeats[CK_POOL_ROWS]; /* lies under the same windows as the row before */
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->size, &c)) {
            pool_cover d = pool_covering(p, 0, c.at[0]), h = pool_covering(p, 1, c.at[1]);
            /* lp multiplies by x once its rows are spread, so the row before is only this group's */
            repeats[i] = c.plane == old_plane && d.first == old_d.first && d.last == old_d.last &&
                         h.first == old_h.first && h.last == old_h.last && (i || op == POOL_SUM);
            old_plane = c.plane, old_d = d, old_h = h;
            if (!repeats[i]) CK_TYPED(covering_rows)(op, p, a, &c, d, h, w, shares, same, g[i] + w.first);
        }
        T *dx = (T *)a->out + r * p->size[2] + b->col0;
        for (ptrdiff_t i = 0; i < rows; i++) {
            T *row = dx + i * p->size[2];
            if (repeats[i])
                memcpy(row, row - p->size[2], (size_t)n * sizeof(T));
            else if (p->adaptive)
                CK_TYPED(split_row)(POOL_SUM, g[i] + w.first, p->out[2], p->size[2], b->col0, row, n);
#if CK_POOL_GUESSES
            else if (LONG(POOL_SUM, p))
                CK_TYPED(spread_long)(g[i] + P0 - zeros, p->kernel[2], eight, row, n);
#endif
            else
                CK_TYPED(spread_row)(0, p, &(GIVER){g[i], NULL, 0}, 1, P0, row, n);
        }
        if (op == POOL_POWER)
            for (ptrdiff_t i = 0; i < rows; i++) {
                const T *x = (const T *)a->x + (r + i) * p->size[2] + b->col0;
                CK_TYPED(times_x)(dx + i * p->size[2], x, p->power, n);
            }
    }
}

#if CK_POOL_GUESSES
#include "pool/spread.body.h"
#define STRAIGHT(op) (sizeof(T) == 4 && CK_TYPED(spread_straight)(op, p, a, b))
#else
#define STRAIGHT(op) 0
#endif

#define SUM_BACKWARD(name, op, straight)                                                                               \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        if (op == POOL_SUM && pool_whole_planes(p) && b->col1 - b->col0 == p->size[2])                                 \
            CK_TYPED(fill_planes)(p, a, b);                                                                            \
        else if (!(straight))                                                                                          \
            CK_TYPED(sum_backward)(op, p, a, b, s);                                                                    \
        return 1;                                                                                                      \
    }
SUM_BACKWARD(ck_pool_avg_backward, POOL_SUM, STRAIGHT(POOL_SUM))
SUM_BACKWARD(ck_pool_lp_backward, POOL_POWER, p->power == 2 && STRAIGHT(POOL_SQUARES))
#undef SUM_BACKWARD
#undef STRAIGHT

/* Copy the window rows that cover one row of dx into the slots that have not got them, and list them. */
CK_INLINE ptrdiff_t CK_TYPED(givers)(const ck_pool *p, const ck_pool_arrays *a, const pool_cursor *c, pool_cover w,
                                     ptrdiff_t to, T *g, TI *which, ptrdiff_t *held, ptrdiff_t width, GIVER *list)
{
    const pool_cover d = pool_covering(p, 0, c->at[0]), h = pool_covering(p, 1, c->at[1]);
    const ptrdiff_t slots_d = ck_pool_giver_slots(p, 0), slots_h = ck_pool_giver_slots(p, 1);
    ptrdiff_t count = 0;
    for (ptrdiff_t i = d.first; i <= d.last; i++)
        for (ptrdiff_t j = h.first; j <= h.last; j++, count++) {
            ptrdiff_t slot = (i & (slots_d - 1)) * slots_h + (j & (slots_h - 1)),
                      id = (c->plane * p->out[0] + i) * p->out[1] + j;
            T *row = g + slot * width;
            TI *numbers = which + slot * width;
            if (held[slot] != id) {
                const uint8_t *bytes = (const uint8_t *)a->chosen + id * p->out[2] + w.first;
                ptrdiff_t n = w.last - w.first + 1;
                if (n > 0) memcpy(row + to, (const T *)a->in + id * p->out[2] + w.first, (size_t)n * sizeof(T));
                for (ptrdiff_t o = 0; o < n; o++) numbers[to + o] = bytes[o];
                held[slot] = id;
            }
            ptrdiff_t tap_d = c->at[0] + p->pad[0] - i * p->stride[0], tap_h = c->at[1] + p->pad[1] - j * p->stride[1];
            list[count] = (GIVER){row + to - w.first, numbers + to - w.first,
                                  (TI)((tap_d * p->kernel[1] + tap_h) * p->kernel[2])};
        }
    return count;
}

/* Windows of pairs of columns side by side that share no rows: one window row for each row of dx, read as it lies. */
CK_INLINE void CK_TYPED(pairs_backward)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b)
{
    const ptrdiff_t n = b->col1 - b->col0, first = b->col0 / 2, windows = p->out[2] - first;
    pool_cursor c = pool_seek(p->size, b->row0);
    for (ptrdiff_t r = b->row0; r < b->row1; r++, pool_next(p->size, &c)) {
        const pool_cover d = pool_covering(p, 0, c.at[0]), h = pool_covering(p, 1, c.at[1]);
        T *dx = (T *)a->out + r * p->size[2] + b->col0;
        if (d.first > d.last || h.first > h.last) {
            CK_TYPED(fill)(dx, n, 0);
            continue;
        }
        const ptrdiff_t tap_d = c.at[0] + p->pad[0] - d.first * p->stride[0];
        const ptrdiff_t tap_h = c.at[1] + p->pad[1] - h.first * p->stride[1];
        const TI base = (TI)((tap_d * p->kernel[1] + tap_h) * 2);
        const ptrdiff_t from = ((c.plane * p->out[0] + d.first) * p->out[1] + h.first) * p->out[2] + first;
        const T *dy = (const T *)a->in + from;
        const uint8_t *taps = (const uint8_t *)a->chosen + from;
        for (ptrdiff_t o = 0; 2 * o < n; o += L) {
            const ptrdiff_t have = windows - o < 0 ? 0 : windows - o, left = n - 2 * o;
            V g = have >= L ? vload(dy + o) : vload_part(dy + o, have), zero = vset1(0);
            VI number = CK_TYPED(pool_bytes)(taps + o, have);
            V even = CK_TYPED(pool_add_where)(zero, g, number, base);
            V odd = CK_TYPED(pool_add_where)(zero, g, number, base + 1);
            CK_TYPED(deliver)(dx + 2 * o, vziplo(even, odd), left);
            if (left > L) CK_TYPED(deliver)(dx + 2 * o + L, vziphi(even, odd), left - L);
        }
    }
}

static int CK_KERNEL(ck_pool_taps_backward)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)
{
    if (pool_side_by_side(p, 2) && p->stride[0] >= p->kernel[0] && p->stride[1] >= p->kernel[1] && b->col0 % 2 == 0) {
        CK_TYPED(pairs_backward)(p, a, b);
        return 1;
    }
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_shares(p, n), P0 = b->col0 + p->pad[2];
    const pool_cover w = {pool_covering(p, 2, b->col0).first, pool_covering(p, 2, b->col1 - 1).last};
    const ptrdiff_t zeros = (p->kernel[2] - 1) / p->stride[2], to = w.first - (P0 / p->stride[2] - zeros);
    const ptrdiff_t slots = ck_pool_giver_slots(p, 0) * ck_pool_giver_slots(p, 1);
    char *scratch = s;
    T *g = ck_pool_take(&scratch, slots * width, sizeof(T));
    TI *which = ck_pool_take(&scratch, slots * width, sizeof(TI));
    ptrdiff_t *held = ck_pool_take(&scratch, slots, sizeof *held), count[CK_POOL_ROWS];
    GIVER *list = ck_pool_take(&scratch, CK_POOL_ROWS * slots, sizeof *list);
    CK_TYPED(fill)(g, slots * width, 0);
    for (ptrdiff_t i = 0; i < slots * width; i++) which[i] = -1;
    for (ptrdiff_t i = 0; i < slots; i++) held[i] = -1;

    pool_cursor c = pool_seek(p->size, b->row0);
    for (ptrdiff_t r = b->row0; r < b->row1;) {
        /* some rows of one plane at a time, as in `indexed` */
        ptrdiff_t rows = p->size[1] - c.at[1];
        if (rows > CK_POOL_ROWS) rows = CK_POOL_ROWS;
        if (rows > b->row1 - r) rows = b->row1 - r;
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->size, &c))
            count[i] = CK_TYPED(givers)(p, a, &c, w, to, g, which, held, width, list + i * slots);
        for (ptrdiff_t i = 0; i < rows; i++, r++)
            CK_TYPED(spread_row)(1, p, list + i * slots, count[i], P0, (T *)a->out + r * p->size[2] + b->col0, n);
    }
    return 1;
}
