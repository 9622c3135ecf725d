/* Compiled once per dtype by conv.kernel.c. */

/* acc[m][v] += x[off[k] + m * x_step] * w[k][v] over one chunk of taps, starting from zero. */
CK_INLINE void CK_TYPED(sum_chunk)(const ck_conv_tile *t, ptrdiff_t first, ptrdiff_t last, ptrdiff_t x_step,
                                   const int M, const int N, V *acc)
{
    const T *x = t->x, *w = (const T *)t->w + first * N * L;
    const ptrdiff_t *off = t->off;
    const char *ahead = t->ahead;
    CK_UNROLL for (int i = 0; i < M * N; i++) acc[i] = (V){0};
    for (ptrdiff_t k = first; k < last; k++, w += N * L) {
        const T *p = x + off[k];
        __builtin_prefetch(p + M * x_step, 0, 3); /* the next run of the row, straight from memory for a 1x1 */
        __builtin_prefetch(ahead + k * 64, 0, 2);
        V row[CK_CONV_VECTORS];
        CK_UNROLL for (int v = 0; v < N; v++) row[v] = vload(w + v * L);
        CK_UNROLL for (int m = 0; m < M; m++)
        {
            V pixel = vset1(p[m * x_step]);
            CK_UNROLL for (int v = 0; v < N; v++) acc[m * N + v] = vfma(pixel, row[v], acc[m * N + v]);
        }
    }
}

/* Pixels are neighbours in y: transpose L x L blocks so that every filter stores a run of pixels. */
CK_INLINE void CK_TYPED(store_rows)(const ck_conv_tile *t, const T *sum, const int M, const int N)
{
    for (int v = 0; v < N; v++)
        CK_UNROLL for (int m0 = 0; m0 < M; m0 += L)
        {
            const int pixels = M - m0 < L ? M - m0 : L;
            V r[L];
            CK_UNROLL for (int i = 0; i < L; i++)
                r[i] = i < pixels ? vload(sum + ((m0 + i) * N + v) * L) : (V){0};
            vtranspose(r);
            T *y = (T *)t->y + v * L * t->y_filter + m0;
            ptrdiff_t filters = t->filters - v * L;
            CK_UNROLL for (int f = 0; f < L; f++)
            {
                if (f >= filters) break;
                T *p = y + f * t->y_filter;
                if (t->accumulate) r[f] += pixels == L ? vload(p) : vload_part(p, pixels);
                if (pixels == L)
                    vstore(p, r[f]);
                else
                    vstore_part(p, r[f], pixels);
            }
        }
}

/* Filters are neighbours in y (linear layers, weight gradients): the sums go out as they are. */
CK_INLINE void CK_TYPED(store_columns)(const ck_conv_tile *t, const T *sum, const int M, const int N)
{
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) {
            ptrdiff_t filters = t->filters - v * L;
            if (filters <= 0) break;
            if (filters > L) filters = L;
            T *p = (T *)t->y + m * t->y_pixel + v * L;
            V r = vload(sum + (m * N + v) * L);
            if (t->accumulate) r += filters == L ? vload(p) : vload_part(p, filters);
            if (filters == L)
                vstore(p, r);
            else
                vstore_part(p, r, filters);
        }
}

/* Any other layout of y (input gradients of strided layers write every s-th pixel). */
CK_INLINE void CK_TYPED(store_scattered)(const ck_conv_tile *t, const T *sum, const int M, const int N)
{
    for (ptrdiff_t f = 0; f < t->filters; f++)
        for (int m = 0; m < M; m++) {
            T *p = (T *)t->y + m * t->y_pixel + f * t->y_filter;
            T s = sum[m * N * L + f];
            *p = t->accumulate ? *p + s : s;
        }
}

/* Ask for the lines that the store will write while the sums are still being made: y is rarely in a near cache. */
CK_INLINE void CK_TYPED(prefetch_rows)(const ck_conv_tile *t, const int M)
{
    if (t->y_pixel != 1) return;
    for (ptrdiff_t f = 0; f < t->filters; f++) {
        const T *p = (const T *)t->y + f * t->y_filter;
        __builtin_prefetch(p, 1);
        __builtin_prefetch(p + M - 1, 1);
    }
}

CK_INLINE void CK_TYPED(conv_tile)(const ck_conv_tile *t, const int M, const int N)
{
    T sum[CK_CONV_PIXELS * CK_CONV_VECTORS * L] __attribute__((aligned(CK_VBYTES)));
    V acc[CK_CONV_PIXELS * CK_CONV_VECTORS];
    const ptrdiff_t chunks = (t->taps + CK_CONV_CHUNK - 1) / CK_CONV_CHUNK;
    CK_ASSERT(t->taps >= 1 && t->filters >= 1 && t->filters <= N * L);
    CK_TYPED(prefetch_rows)(t, M);
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const ptrdiff_t first = t->taps * i / chunks, last = t->taps * (i + 1) / chunks;
        /* Neighbouring pixels get constant displacements; any other stride walks a pointer. */
        if (t->x_step == 1)
            CK_TYPED(sum_chunk)(t, first, last, 1, M, N, acc);
        else
            CK_TYPED(sum_chunk)(t, first, last, t->x_step, M, N, acc);
        CK_UNROLL for (int j = 0; j < M * N; j++) vstore(sum + j * L, i ? vload(sum + j * L) + acc[j] : acc[j]);
    }
    if (t->bias)
        CK_UNROLL for (int v = 0; v < N; v++)
        {
            V bias = vload((const T *)t->bias + v * L);
            CK_UNROLL for (int m = 0; m < M; m++)
                vstore(sum + (m * N + v) * L, vload(sum + (m * N + v) * L) + bias);
        }
    if (t->y_pixel == 1)
        CK_TYPED(store_rows)(t, sum, M, N);
    else if (t->y_filter == 1)
        CK_TYPED(store_columns)(t, sum, M, N);
    else
        CK_TYPED(store_scattered)(t, sum, M, N);
}

CK_NOINLINE void CK_TYPED(conv_transpose)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t dst_row,
                                          ptrdiff_t rows, ptrdiff_t columns)
{
    for (ptrdiff_t j = 0; j < columns; j += L) {
        const ptrdiff_t nj = columns - j < L ? columns - j : L;
        for (ptrdiff_t i = 0; i < rows; i += L) {
            const ptrdiff_t ni = rows - i < L ? rows - i : L;
            const T *from = (const T *)src + i * src_row + j;
            T *to = (T *)dst + j * dst_row + i;
            V r[L];
            if (ni == L && nj == L) {
                CK_UNROLL for (int a = 0; a < L; a++) r[a] = vload(from + a * src_row);
                vtranspose(r);
                CK_UNROLL for (int b = 0; b < L; b++) vstore(to + b * dst_row, r[b]);
            } else {
                CK_UNROLL for (int a = 0; a < L; a++)
                    r[a] = a < ni ? vload_part(from + a * src_row, nj) : (V){0};
                vtranspose(r);
                CK_UNROLL for (int b = 0; b < L; b++)
                    if (b < nj) vstore_part(to + b * dst_row, r[b], ni);
            }
        }
    }
}

/* One function per tile shape, out of line: inlined into a loop nest, GCC spills the sums. */
#define CK_CONV_FITS(vectors, pixels) ((vectors) * (pixels) + (vectors) < CK_REGISTERS)
#define CK_CONV_ROW(vectors, pixels)                                                                         \
    CK_NOINLINE void CK_TYPED(conv_##vectors##x##pixels)(const ck_conv_tile *t)                              \
    {                                                                                                        \
        if (CK_CONV_FITS(vectors, pixels)) CK_TYPED(conv_tile)(t, pixels, vectors);                          \
    }
#include "conv/kernels.def"
#undef CK_CONV_ROW

#define CK_CONV_ROW(vectors, pixels)                                                                         \
    [(vectors)-1][(pixels)-1] = CK_CONV_FITS(vectors, pixels) ? CK_TYPED(conv_##vectors##x##pixels) : NULL,
extern const ck_conv_table CK_KERNEL(ck_conv);
const ck_conv_table CK_KERNEL(ck_conv) = {.lanes = L, .transpose = CK_TYPED(conv_transpose), .kernel = {
#include "conv/kernels.def"
}};
#undef CK_CONV_ROW
#undef CK_CONV_FITS
