/* Small planes: L of them side by side in the lanes. A group is transposed into a box, pooled there row by row with no
 * edge that is special, and its windows are transposed back. Included by pool.body.h, for one dtype. */

/* `rows` rows of n elements into n vectors, lane q of which is from row q; no lane past them means anything. */
CK_NOINLINE void CK_TYPED(to_lanes)(const T *x, ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t n, T *box, V *odd)
{
    for (ptrdiff_t i = 0; i < n; i += L) {
        const ptrdiff_t from = n >= L && n - i < L ? n - L : i; /* the last vectors overlap those before */
        V r[L];
        CK_UNROLL for (int q = 0; q < L; q++)
        {
            const T *row = x + (q < rows ? q : 0) * pitch + from;
            r[q] = n >= L ? vload(row) : vload_part(row, n);
            *odd = vfma(r[q], vset1(0), *odd);
        }
        vtranspose(r);
        CK_UNROLL for (int q = 0; q < L; q++) vstore(box + (from + q) * L, r[q]);
    }
}

/* n vectors back into `rows` rows of n elements. */
CK_NOINLINE void CK_TYPED(from_lanes)(const T *box, ptrdiff_t n, T *y, ptrdiff_t pitch, ptrdiff_t rows)
{
    for (ptrdiff_t i = 0; i < n; i += L) {
        const ptrdiff_t from = n >= L && n - i < L ? n - L : i;
        V r[L];
        CK_UNROLL for (int q = 0; q < L; q++) r[q] = vload(box + (from + q) * L);
        vtranspose(r);
        CK_UNROLL for (int q = 0; q < L; q++)
        {
            if (q < rows) CK_TYPED(deliver)(y + q * pitch + from, r[q], n - from);
        }
    }
}

/* Without a NaN larger and smaller take one instruction. The levels without one choose among zeros in another way. */
CK_INLINE V CK_TYPED(join_lanes)(int op, int nans, V next, V acc)
{
#if defined(CK_AVX2)
    if (!nans && op == POOL_MAX) return CK_TYPED(ck_larger)(next, acc);
    if (!nans && op == POOL_MIN) return CK_TYPED(ck_smaller)(next, acc);
#else
    (void)nans;
#endif
    return CK_TYPED(join)(op, next, acc);
}

/* One row of windows: rows of the box into one, that by the columns of each window. */
CK_INLINE void CK_TYPED(lanes_row)(int op, int nans, const ck_pool *p, const pool_taps *cols, const T *box, pool_taps d,
                                   pool_taps h, T *row, const MEAN *mean, T *y)
{
    const ptrdiff_t W = p->size[2], step_d = p->dilation[0] * p->size[1] * W * L, step_h = p->dilation[1] * W * L;
    const T *from = box + (d.first * p->size[1] + h.first) * W * L;
    for (ptrdiff_t j = 0; j < W; j++) {
        V acc = vset1(0);
        for (ptrdiff_t i = 0; i < d.n; i++)
            for (ptrdiff_t k = 0; k < h.n; k++) {
                V next = vload(from + i * step_d + k * step_h + j * L);
                if (op == POOL_POWER) next = CK_TYPED(raise)(next, p->power);
                acc = i + k ? CK_TYPED(join_lanes)(op, nans, next, acc) : next;
            }
        vstore(row + j * L, acc);
    }
    for (ptrdiff_t o = 0; o < p->out[2]; o++) {
        const T *at = row + cols[o].first * L;
        V acc = vload(at);
        for (ptrdiff_t k = 1; k < cols[o].n; k++)
            acc = CK_TYPED(join_lanes)(op, nans, vload(at + k * p->dilation[2] * L), acc);
        if (op == POOL_SUM || op == POOL_POWER)
            acc = mean->scale != 0 ? acc * mean->scale : acc / (mean->cols[o] * mean->row);
        vstore(y + o * L, op == POOL_POWER ? CK_TYPED(root)(acc, mean->power) : acc);
    }
}

CK_INLINE void CK_TYPED(forward_in_lanes)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                          char *scratch)
{
    const ptrdiff_t S = p->size[0] * p->size[1] * p->size[2], O = p->out[0] * p->out[1] * p->out[2];
    T *box = ck_pool_take(&scratch, (S + L) * L, sizeof(T)), *out = ck_pool_take(&scratch, (O + L) * L, sizeof(T));
    T *row = ck_pool_take(&scratch, p->size[2] * L, sizeof(T));
    T *counts = ck_pool_take(&scratch, p->out[2] + CK_POOL_LINE, sizeof(T));
    pool_taps *cols = ck_pool_take(&scratch, p->out[2], sizeof *cols);
    const ck_pool_block all = {0, 0, 0, p->out[2]};
    const ptrdiff_t same = op == POOL_SUM || op == POOL_POWER ? CK_TYPED(column_counts)(p, &all, counts) : 0;
    for (ptrdiff_t o = 0; o < p->out[2]; o++) cols[o] = pool_inside(p, 2, o);
    for (ptrdiff_t plane = b->row0; plane < b->row1; plane += L) {
        const ptrdiff_t planes = b->row1 - plane < L ? b->row1 - plane : L;
        V odd = vset1(0);
        CK_TYPED(to_lanes)((const T *)a->in + plane * S, S, planes, S, box, &odd);
        const int nans = vsum(odd) != 0;
        pool_cursor c = {0, {0, 0}};
        for (ptrdiff_t r = 0; r < p->out[0] * p->out[1]; r++, pool_next(p->out, &c)) {
            const pool_taps d = pool_inside(p, 0, c.at[0]), h = pool_inside(p, 1, c.at[1]);
            const MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            T *y = out + r * p->out[2] * L;
            if (op == POOL_POWER || (nans && op != POOL_SUM))
                CK_TYPED(lanes_row)(op, 1, p, cols, box, d, h, row, &mean, y);
            else if (d.n == 1 && h.n == 2)
                CK_TYPED(lanes_row)(op, 0, p, cols, box, d, (pool_taps){0, h.first, 2}, row, &mean, y);
            else if (d.n == 1 && h.n == 3)
                CK_TYPED(lanes_row)(op, 0, p, cols, box, d, (pool_taps){0, h.first, 3}, row, &mean, y);
            else
                CK_TYPED(lanes_row)(op, 0, p, cols, box, d, h, row, &mean, y);
        }
        CK_TYPED(from_lanes)(out, O, (T *)a->out + plane * O, O, planes);
    }
}
