/* The largest or smallest of windows in rows too short for whole vectors of windows: two vectors hold a row of x, the last
 * overlapping the first, and a row of windows takes each of its taps out of both, wherever it is. So any stride, padding,
 * dilation and adaptive windows are the same; for a tap that a window lacks its last one stands in. Included by pool.body.h,
 * for one dtype; vectors have eight lanes. */

/* Where the windows of a row find their taps: lane o of tap k is lane low[k][o] of the columns from 0 on, or, where late[k][o]
 * is set, lane high[k][o] of the last columns. */
typedef struct {
    ptrdiff_t taps;
    VI low[CK_POOL_SHORT], high[CK_POOL_SHORT], late[CK_POOL_SHORT];
} CK_TYPED(short_t);

#define SHORT CK_TYPED(short_t)

CK_INLINE void CK_TYPED(short_taps)(const ck_pool *p, SHORT *s)
{
    const ptrdiff_t W = p->size[2];
    s->taps = 0;
    for (ptrdiff_t o = 0; o < L; o++) {
        const pool_taps t = pool_inside(p, 2, o < p->out[2] ? o : 0);
        if (s->taps < t.n) s->taps = t.n;
        for (ptrdiff_t k = 0; k < CK_POOL_SHORT; k++) {
            const ptrdiff_t column = t.first + (k < t.n ? k : t.n - 1) * p->dilation[2];
            s->low[k][o] = (TI)column, s->high[k][o] = (TI)(column - (W - L)), s->late[k][o] = -(TI)(column >= L);
        }
    }
}

CK_INLINE V CK_TYPED(short_tap)(const SHORT *s, ptrdiff_t k, V low, V high)
{
    const __m256 from_low = _mm256_permutevar8x32_ps((__m256)low, (__m256i)s->low[k]);
    const __m256 from_high = _mm256_permutevar8x32_ps((__m256)high, (__m256i)s->high[k]);
    return (V)_mm256_blendv_ps(from_low, from_high, (__m256)s->late[k]); /* GCC makes three of vselect */
}

/* `rows` rows of windows under each other; y may be written up to `end`. */
CK_INLINE void CK_TYPED(short_rows)(int op, const SHORT *s, const ptrdiff_t taps, const ROWS *r, ptrdiff_t nd,
                                    ptrdiff_t nh, ptrdiff_t step, ptrdiff_t rows, T *y, const T *end, ptrdiff_t pitch,
                                    V total[2])
{
    const T *x = r->x;
    const ptrdiff_t last = r->n - L;
    V sum[2] = {total[0], total[1]};
    for (; rows > 0; rows--, x += step, y += pitch) {
        V low = vload(x), high = vload(x + last);
        CK_HOLD(low);
        CK_HOLD(high);
        V read[2] = {low, high};
        for (ptrdiff_t d = 0; d < nd; d++)
            for (ptrdiff_t h = d == 0; h < nh; h++) {
                const T *row = x + d * r->step_d + h * r->step_h;
                V next[2] = {vload(row), vload(row + last)};
                CK_HOLD(next[0]); /* or it is read twice */
                CK_HOLD(next[1]);
                read[0] += next[0], read[1] += next[1];
                low = CK_TYPED(join)(op, next[0], low), high = CK_TYPED(join)(op, next[1], high);
            }
        sum[0] += read[0], sum[1] += read[1];
        V acc = CK_TYPED(short_tap)(s, 0, low, high);
        for (ptrdiff_t k = 1; k < taps; k++) acc = CK_TYPED(join)(op, CK_TYPED(short_tap)(s, k, low, high), acc);
        if (end - y >= L)
            vstore(y, acc); /* the rest of it is the next row's */
        else
            vstore_part(y, acc, pitch);
    }
    total[0] = sum[0], total[1] = sum[1];
}

/* As `forward`. */
CK_INLINE ptrdiff_t CK_TYPED(forward_short)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                            ptrdiff_t r)
{
    const ptrdiff_t W = p->size[2], step = p->stride[1] * W, n = p->out[2];
    T *y = a->out;
    V total[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
    SHORT s;
    CK_TYPED(short_taps)(p, &s);
    pool_cursor c = pool_seek(p->out, r), first = {0, {0, 0}};
    const ptrdiff_t all = pool_alike(p, &first);
    for (ptrdiff_t rows; r < b->row1; r += rows, c.at[1] += rows - 1, pool_next(p->out, &c)) {
        rows = all == p->out[1] ? all - c.at[1] : pool_alike(p, &c);
        if (rows > b->row1 - r) rows = b->row1 - r;
        const ROWS window = CK_TYPED(rows_of)(p, a->in, &c, 0, W);
        if (s.taps == 3 && window.nd == 1 && window.nh == 3)
            CK_TYPED(short_rows)(op, &s, 3, &window, 1, 3, step, rows, y + r * n, y + b->row1 * n, n, total);
        else
            CK_TYPED(short_rows)(op, &s, s.taps, &window, window.nd, window.nh, step, rows, y + r * n, y + b->row1 * n,
                                 n, total);
        if (CK_TYPED(any_nan)(total)) break;
    }
    return r;
}
#undef SHORT

static ptrdiff_t CK_TYPED(short_larger)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, ptrdiff_t r)
{
    return CK_TYPED(forward_short)(POOL_LARGER, p, a, b, r);
}

static ptrdiff_t CK_TYPED(short_smaller)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, ptrdiff_t r)
{
    return CK_TYPED(forward_short)(POOL_SMALLER, p, a, b, r);
}
