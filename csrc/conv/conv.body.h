/* Compiled once per dtype by conv.kernel.c. */

/* Taps to a turn of the inner loop. Where 16 registers hold the sums a tap is some 28 instructions, of which a turn of two
 * saves three; one vector by 14 pixels has no register left for it. */
#define CK_CONV_TURN(vectors) (CK_VBYTES == 32 && sizeof(T) == 4 && (vectors) > 1 ? 2 : 1)

/* Whether a grid of tiles has a kernel, for the panels that Winograd, gemm and direct layers take; else a call for each tile. */
#define CK_CONV_HAS_GRID(vectors) (CK_VBYTES >= 32 && sizeof(T) == 4 && ((vectors) == 2 || (vectors) == 3))

/* And one for pixels that lie any step apart: a line of sums each, of weight gradients; not for the few tiles that are low. */
#define CK_CONV_HAS_STEPS(vectors, pixels) ((vectors) == CK_CONV_STEPPED && (pixels) >= 4)

/* Elements by which a padding copy of short rows fetches ahead: 2 KB. */
#define CK_CONV_PAD_AHEAD (2048 / (ptrdiff_t)sizeof(T))

/* Vectors of sums in a tile which is often the only one of its panel: it fetches with every tap. */
#define CK_CONV_SMALL 8

/* acc += a * b. Two taps to a turn make GCC rename the sums between registers, and spill some of 12 in 16: here they
 * stay where they are. */
#if defined(CK_AVX2)
#define CK_ADD_PRODUCT(acc, a, b)                                                                                      \
    do {                                                                                                               \
        if (sizeof(T) == 4)                                                                                            \
            __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));                                            \
        else                                                                                                           \
            __asm__("vfmadd231pd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(b));                                            \
    } while (0)
#else
#define CK_ADD_PRODUCT(acc, a, b) ((acc) = vfma(a, b, acc))
#endif

/* acc[m][v] += x[m * x_step] * w[v] for one tap; the pixels from `near` on are found from q. */
CK_INLINE void CK_TYPED(sum_tap)(V *acc, const T *p, const T *q, const T *w, ptrdiff_t x_step, const int near,
                                 const int M, const int N)
{
    V row[CK_CONV_VECTORS];
    CK_UNROLL for (int v = 0; v < N; v++) row[v] = vload(w + v * L);
    CK_UNROLL for (int m = 0; m < M; m++)
    {
        V pixel = vset1(m < near ? p[m * x_step] : q[(m - near) * x_step]);
        CK_UNROLL for (int v = 0; v < N; v++) CK_ADD_PRODUCT(acc[m * N + v], pixel, row[v]);
    }
}

/* sum[m][v], rows `row` apart, = acc[m][v], or += it. The pointer walks: GCC would keep all rows' distances on the stack. */
CK_INLINE void CK_TYPED(close_chunk)(V *acc, T *sum, ptrdiff_t row, const int add, const int M, const int N)
{
    CK_UNROLL for (int m = 0; m < M; m++)
    {
        CK_UNROLL for (int v = 0; v < N; v++)
            vstore(sum + v * L, add ? acc[m * N + v] + vload(sum + v * L) : acc[m * N + v]);
        sum += row;
        if (CK_CONV_TURN(N) > 1) __asm__("" : "+r"(sum));
    }
}

/* Whether grids keep sums within limits in registers: at every level and dtype the code would cost more than it gives. */
enum { CK_TYPED(limits) = CK_VBYTES == 32 && sizeof(T) == 4 };

/* `within_limits` of all sums, here and now: left to GCC, the loop over the taps would move some of them about. */
CK_INLINE void CK_TYPED(limit_sums)(V *acc, const ck_finish *f, const int n)
{
#ifdef CK_AVX2
    V zero = vset1((T)f->zero), low = vset1((T)f->low), high = vset1((T)f->high);
    CK_UNROLL for (int i = 0; i < n; i++) __asm__ volatile(
        "vaddps %1, %0, %0\n\tvmaxps %0, %2, %0\n\tvminps %0, %3, %0" : "+x"(acc[i]) : "x"(zero), "x"(low), "x"(high));
#else
    (void)acc, (void)f, (void)n;
#endif
}

/* What follows the sums of a panel that a tile has just written; what the next panels meet is fetched. */
CK_NOINLINE void CK_TYPED(finish_panel)(const ck_finish *f, T *y, ptrdiff_t row, ptrdiff_t pixels)
{
    enum { N = CK_CONV_FINISHED };
    const ck_finish own = *f; /* stores through y cannot change a copy: nothing is reloaded */
    for (ptrdiff_t m = 0; m < pixels; m++, y += row) {
        __asm__("" : "+r"(pixels)); /* as if it were another every time: the loop is not written out */
        V v[N];
        CK_UNROLL for (int i = 0; i < N; i++) v[i] = vload(y + i * L);
        if (own.past) {
            const T *past = (const T *)((const char *)y + own.past);
            CK_UNROLL for (int i = 0; i < N; i++) v[i] += vload(past + i * L);
            for (int i = 0; i < N * L; i += 64 / (int)sizeof(T))
                __builtin_prefetch(past + CK_CONV_PANELS_AHEAD * N * L + i);
        }
        CK_UNROLL for (int i = 0; i < N; i++) vstore(y + i * L, CK_TYPED(within_limits)(&own, v[i]));
    }
}

/* sum[m][v], rows c->row apart, = row_bias[m] + sum over the chunks of (sum over their taps of
 * x[off[k] + m * x_step] * w[k][v]), each chunk from zero. The chunks are closed in here, not by the caller: the next
 * one's multiply-adds overlap the additions. What is fetched begins at `ahead`, `beside` elements after the tile's own;
 * returns where it ends. */
CK_INLINE const char *CK_TYPED(sum_taps)(const ck_conv_tile *t, const ck_conv_chunks *c, ptrdiff_t x_step, const T *x,
                                         const T *w, const char *ahead, ptrdiff_t beside, T *sum,
                                         const ck_finish *limits, const int M, const int N)
{
    const int turn = CK_CONV_TURN(N);
    const int stepped = CK_CONV_TURN(N) > 1 && !__builtin_constant_p(x_step);
    /* pixels found from x; the others from x_half after it */
    const int near = N > 1 && (M % 2 == 0 || stepped) ? (M + 1) / 2 : M;
    const ptrdiff_t half = t->x_half ? t->x_half : near * x_step;
    const ptrdiff_t *off = t->off + c->first;
    const char *ahead_end = t->ahead_end ? (const char *)((const T *)t->ahead_end + beside) : NULL;
    const ptrdiff_t ahead_step = t->ahead_end ? t->ahead_step : turn * t->ahead_step;
    const ptrdiff_t back = 64 - ((const char *)t->ahead_end - (const char *)t->ahead);
    for (ptrdiff_t i = 0, line = c->line; i < c->count; i++) {
        const ptrdiff_t *last = off + c->length + (i >= c->longer);
        V acc[CK_CONV_PIXELS * CK_CONV_VECTORS];
        /* not the first products: one of zero may be -0, and then bits would depend on the tile */
        CK_UNROLL for (int j = 0; j < M * N; j++) acc[j] = (V){0};
        /* The lines that the store will write, a few at a time: all at once they take the buffers that loads need. */
        for (int j = 0; j < 4 && line < t->filters; j++, line++)
            __builtin_prefetch((T *)t->y + line * t->y_filter, 1, 3);
        if (turn > 1 && (last - off) % turn) {
            CK_TYPED(sum_tap)(acc, x + *off, x + *off + half, w, x_step, near, M, N);
            off++, w += N * L;
        }
        for (; off < last; off += turn, w += turn * N * L) {
            __builtin_prefetch(ahead, 0, 2); /* once a turn: lines of y are fewer than taps */
            if (turn > 1 && M * N <= CK_CONV_SMALL) __builtin_prefetch(ahead + t->ahead_step, 0, 2);
            ahead += ahead_step;
            if (ahead == ahead_end) ahead += back, ahead_end += 64;
            CK_UNROLL for (int u = 0; u < turn; u++)
            {
                if (stepped) { /* three pixels from each pointer, by scaled steps: GCC would add step after step */
                    const T *p = x + off[u], *q = p + half;
                    __asm__("" : "+r"(p), "+r"(q));
                    CK_TYPED(sum_tap)(acc, p, q, w + u * N * L, x_step, near, M, N);
                } else {
                    CK_TYPED(sum_tap)(acc, x + off[u], x + off[u] + half, w + u * N * L, x_step, near, M, N);
                }
            }
        }
        const int add = __builtin_expect(i || c->add, 1);
        if (!add && c->row_bias)
            CK_UNROLL for (int m = 0; m < M; m++) CK_UNROLL for (int v = 0; v < N; v++) acc[m * N + v] +=
                vset1(((const T *)c->row_bias)[m]);
        if (__builtin_expect(limits != NULL, 0) && i == c->count - 1) {
            if (add) CK_UNROLL for (int j = 0; j < M * N; j++) acc[j] += vload(sum + j / N * c->row + j % N * L);
            CK_TYPED(limit_sums)(acc, limits, M * N);
            CK_TYPED(close_chunk)(acc, sum, c->row, 0, M, N);
        } else if (add)
            CK_TYPED(close_chunk)(acc, sum, c->row, 1, M, N);
        else
            CK_TYPED(close_chunk)(acc, sum, c->row, 0, M, N);
    }
    return ahead;
}

/* As even as they can be, the longer ones last. */
CK_INLINE ck_conv_chunks CK_TYPED(chunks_of)(const ck_conv_tile *t)
{
    const ptrdiff_t count = (t->taps + CK_CONV_CHUNK - 1) / CK_CONV_CHUNK;
    ck_conv_chunks c = {.count = count, .length = t->taps, .longer = count, .row_bias = t->row_bias};
    if (count > 1) {
        c.length = t->taps / count;
        c.longer = count - t->taps % count;
    }
    return c;
}

/* On to the next chunks, `count` of them at most, of all that there are. */
CK_INLINE void CK_TYPED(next_chunks)(ck_conv_chunks *c, ptrdiff_t done, ptrdiff_t all, ptrdiff_t count)
{
    c->first += c->count * c->length + (c->count > c->longer ? c->count - (c->longer > 0 ? c->longer : 0) : 0);
    c->longer -= c->count;
    c->count = all - done < count ? all - done : count;
    c->row_bias = NULL;
}

/* The strides of most layers get constant displacements, stride 2 only in the tiles that most layers take, for the
 * size of the code; any other walks a pointer. */
CK_INLINE void CK_TYPED(sum_any_step)(const ck_conv_tile *t, const ck_conv_chunks *c, T *sum, const int M, const int N)
{
    const T *x = t->x, *w = (const T *)t->w + c->first * N * L;
    const char *ahead = (const char *)t->ahead + c->first * t->ahead_step;
    if (t->x_step == 1)
        CK_TYPED(sum_taps)(t, c, 1, x, w, ahead, 0, sum, NULL, M, N);
    else if (sizeof(T) == 4 && N == 2 && t->x_step == 2)
        CK_TYPED(sum_taps)(t, c, 2, x, w, ahead, 0, sum, NULL, M, N);
    else
        CK_TYPED(sum_taps)(t, c, t->x_step, x, w, ahead, 0, sum, NULL, M, N);
}

/* The tiles of a grid, with chunk and panel in the outermost loops: its weights stay in L1. */
CK_INLINE void CK_TYPED(sum_grid)(const ck_conv_tile *t, const ck_conv_chunks *c, const ck_conv_grid *grid, const int M,
                                  const int N)
{
    /* copies: what the stores may write would be read again for every tile */
    const ck_conv_tile tile = *t;
    ck_conv_chunks chunks = *c;
    chunks.line = tile.filters; /* none of y: it is in a cache, or `ahead` fetches it */
    const ck_conv_grid g = *grid;
    const ck_finish *const limits =
        CK_TYPED(limits) && N == CK_CONV_FINISHED && tile.finish && !tile.finish->past ? tile.finish : NULL;
    const ptrdiff_t all = chunks.count;
    if (g.by_chunk) chunks.count = 1;
    for (ptrdiff_t done = 0; done < all; done += chunks.count) {
        if (done) CK_TYPED(next_chunks)(&chunks, done, all, 1), chunks.add = 1;
        for (ptrdiff_t p = 0; p < g.panels; p++) {
            const T *x = tile.x, *w = (const T *)tile.w + p * g.w_panel + chunks.first * N * L;
            T *to = (T *)tile.y + p * g.y_panel;
            const char *ahead = (const char *)((const T *)tile.ahead + p * g.ahead_panel + chunks.first * N * L);
            if (CK_CONV_HAS_STEPS(N, M) && tile.x_step != 1) {
                for (ptrdiff_t i = 0; i < g.runs; i++, x += M * tile.x_step, to += M * chunks.row) {
                    const ptrdiff_t beside = p * g.ahead_panel + i * g.ahead_run;
                    ahead = (const char *)((const T *)tile.ahead + beside);
                    CK_TYPED(sum_taps)(&tile, &chunks, tile.x_step, x, w, ahead, beside, to, NULL, M, N);
                }
                continue;
            }
            for (ptrdiff_t j = 0; j < g.rows; j++, x += g.x_row - g.runs * M, to += g.y_row - g.runs * M * chunks.row)
                for (ptrdiff_t i = 0; i < g.runs; i++, x += M, to += M * chunks.row) {
                    ahead = CK_TYPED(sum_taps)(&tile, &chunks, 1, x, w, ahead, p * g.ahead_panel, to, limits, M, N);
                    if (N == CK_CONV_FINISHED && tile.finish && !limits)
                        CK_TYPED(finish_panel)(tile.finish, to, chunks.row, M);
                }
        }
    }
}

/* One function per tile shape, out of line: inlined into a loop nest, GCC spills the sums. */
typedef void (*CK_TYPED(sum_kernel))(const ck_conv_tile *t, const ck_conv_chunks *c, T *sum);
typedef void (*CK_TYPED(grid_kernel))(const ck_conv_tile *t, const ck_conv_chunks *c, const ck_conv_grid *g);
#define CK_CONV_FITS(vectors, pixels) ((vectors) * (pixels) + (vectors) < CK_REGISTERS)
#define CK_CONV_ROW(vectors, pixels)                                                                                   \
    CK_NOINLINE void CK_TYPED(sum_##vectors##x##pixels)(const ck_conv_tile *t, const ck_conv_chunks *c, T *sum)        \
    {                                                                                                                  \
        if (CK_CONV_FITS(vectors, pixels)) CK_TYPED(sum_any_step)(t, c, sum, pixels, vectors);                         \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(grid_##vectors##x##pixels)(const ck_conv_tile *t, const ck_conv_chunks *c,               \
                                                         const ck_conv_grid *g)                                        \
    {                                                                                                                  \
        if (CK_CONV_FITS(vectors, pixels)) CK_TYPED(sum_grid)(t, c, g, pixels, vectors);                               \
    }
#include "conv/kernels.def"
#undef CK_CONV_ROW

#define CK_CONV_ROW(vectors, pixels)                                                                                   \
    [(vectors) - 1][(pixels) - 1] = CK_CONV_FITS(vectors, pixels) ? CK_TYPED(sum_##vectors##x##pixels) : NULL,
static const CK_TYPED(sum_kernel) CK_TYPED(sum_kernels)[CK_CONV_VECTORS][CK_CONV_PIXELS] = {
#include "conv/kernels.def"
};
#undef CK_CONV_ROW

#define CK_CONV_ROW(vectors, pixels)                                                                                   \
    [(vectors) - 1][(pixels) - 1] =                                                                                    \
        CK_CONV_HAS_GRID(vectors) && CK_CONV_FITS(vectors, pixels) ? CK_TYPED(grid_##vectors##x##pixels) : NULL,
static const CK_TYPED(grid_kernel) CK_TYPED(grid_kernels)[CK_CONV_VECTORS][CK_CONV_PIXELS] = {
#include "conv/kernels.def"
};
#undef CK_CONV_ROW

/* The stores take the tile's shape at run time: they run once per reduction, and one copy of each for all tiles keeps
 * the code small. `sum` is [pixel][vectors * L]. */

/* Pixels are neighbours in y: transpose L x L blocks so that every filter stores a run of pixels. */
CK_NOINLINE void CK_TYPED(store_rows)(const ck_conv_tile *t, const T *sum, ptrdiff_t pixels, int vectors)
{
    for (int v = 0; v < vectors; v++) {
        const ptrdiff_t filters = t->filters - v * L < L ? t->filters - v * L : L;
        /* a store each, without branches, which other levels have no need of */
        const int plain = CK_VBYTES == 32 && filters == L && !t->finish && !t->accumulate;
        const V bias = t->bias ? vload((const T *)t->bias + v * L) : (V){0};
        for (ptrdiff_t m = 0; m < pixels; m += L) {
            const ptrdiff_t n = pixels - m < L ? pixels - m : L, row = t->y_filter;
            T *y = (T *)t->y + v * L * row + m;
            V r[L];
            /* Rows past the last pixel are whatever the buffer holds; their lanes are not stored. */
            CK_UNROLL for (int i = 0; i < L; i++) r[i] = vload(sum + ((m + i) * vectors + v) * L) + bias;
            vtranspose(r);
            if (plain && n == L) {
                CK_UNROLL for (int f = 0; f < L; f++) vstore(y + f * row, r[f]);
                continue;
            }
            if (t->finish) {
                T of_filter[L * L];
                CK_UNROLL for (int f = 0; f < L; f++) vstore(of_filter + f * L, r[f]);
                CK_TYPED(store_finished)(t->finish, of_filter, 1, y, t->y_filter, filters, n);
                continue;
            }
            CK_UNROLL for (int f = 0; f < L; f++)
            {
                if (f >= filters) break;
                T *p = y + f * t->y_filter;
                if (t->accumulate) r[f] += vload_part(p, n);
                vstore_part(p, r[f], n);
            }
        }
    }
}

/* Filters are neighbours in y (linear layers, weight gradients): the sums go out as they are. */
CK_NOINLINE void CK_TYPED(store_columns)(const ck_conv_tile *t, const T *sum, ptrdiff_t pixels, int vectors)
{
    for (int v = 0; t->finish && v < vectors; v++) {
        const ptrdiff_t filters = t->filters - v * L < L ? t->filters - v * L : L;
        CK_TYPED(store_finished)(t->finish, sum + v * L, vectors, (T *)t->y + v * L, t->y_pixel, pixels, filters);
    }
    if (t->finish) return;
    for (ptrdiff_t m = 0; m < pixels; m++)
        for (int v = 0; v < vectors; v++) {
            const ptrdiff_t filters = t->filters - v * L < L ? t->filters - v * L : L;
            T *p = (T *)t->y + m * t->y_pixel + v * L;
            V r = vload(sum + (m * vectors + v) * L);
            if (t->bias) r += vload((const T *)t->bias + v * L);
            if (t->accumulate) r += vload_part(p, filters);
            vstore_part(p, r, filters);
        }
}

/* Any other layout of y (input gradients of strided layers write every s-th pixel). */
CK_NOINLINE void CK_TYPED(store_scattered)(const ck_conv_tile *t, const T *sum, ptrdiff_t pixels, int vectors)
{
    for (ptrdiff_t f = 0; f < t->filters; f++)
        for (ptrdiff_t m = 0; m < pixels; m++) {
            T *p = (T *)t->y + m * t->y_pixel + f * t->y_filter;
            T s = sum[m * vectors * L + f];
            if (t->bias) s += ((const T *)t->bias)[f];
            *p = t->accumulate ? *p + s : s;
        }
}

/* Every other pixel of y (transposed layers and input gradients of stride 2): the pixels between keep what they hold. */
CK_NOINLINE void CK_TYPED(store_every_other)(const ck_conv_tile *t, const T *sum, ptrdiff_t pixels, int vectors)
{
    VI even;
    CK_UNROLL for (int i = 0; i < L; i++) even[i] = i % 2 ? 0 : -1;
    for (int v = 0; v < vectors; v++) {
        const ptrdiff_t filters = t->filters - v * L < L ? t->filters - v * L : L;
        const V bias = t->bias ? vload((const T *)t->bias + v * L) : (V){0};
        for (ptrdiff_t m = 0; m < pixels; m += L) {
            const ptrdiff_t n = 2 * (pixels - m < L ? pixels - m : L) - 1, low = n < L ? n : L;
            T *y = (T *)t->y + v * L * t->y_filter + 2 * m;
            V r[L];
            CK_UNROLL for (int i = 0; i < L; i++) r[i] = vload(sum + ((m + i) * vectors + v) * L) + bias;
            vtranspose(r);
            CK_UNROLL for (int f = 0; f < L; f++)
            {
                if (f >= filters) break;
                T *p = y + f * t->y_filter;
                vstore_part(p, vselect(even, vziplo(r[f], r[f]), vload_part(p, low)), low);
                if (n > L) vstore_part(p + L, vselect(even, vziphi(r[f], r[f]), vload_part(p + L, n - L)), n - L);
            }
        }
    }
}

CK_NOINLINE void CK_TYPED(store)(const ck_conv_tile *t, const void *sum, ptrdiff_t pixels, int vectors)
{
    CK_ASSERT(!t->finish || (!t->accumulate && (t->y_pixel == 1 || (t->y_filter == 1 && !t->bias))));
    if (t->y_pixel == 1)
        CK_TYPED(store_rows)(t, sum, pixels, vectors);
    else if (t->y_filter == 1)
        CK_TYPED(store_columns)(t, sum, pixels, vectors);
    else if (t->y_pixel == 2 && !t->accumulate)
        CK_TYPED(store_every_other)(t, sum, pixels, vectors);
    else
        CK_TYPED(store_scattered)(t, sum, pixels, vectors);
}

CK_NOINLINE void CK_TYPED(add_sums)(void *sums, const void *more, ptrdiff_t n, int start)
{
    T *to = sums;
    const T *from = more;
    for (ptrdiff_t i = 0; i < n; i += L) vstore(to + i, start ? vload(from + i) : vload(to + i) + vload(from + i));
}

CK_INLINE void CK_TYPED(store_tile)(const ck_conv_tile *t, const T *sum, int pixels, int vectors)
{
    if (t->x_half) {
        ck_conv_tile second = *t;
        second.y = (T *)t->y + t->y_half;
        CK_TYPED(store)(t, sum, pixels / 2, vectors);
        CK_TYPED(store)(&second, sum + pixels / 2 * vectors * L, pixels / 2, vectors);
    } else {
        CK_TYPED(store)(t, sum, pixels, vectors);
    }
}

CK_NOINLINE void CK_TYPED(conv_run)(const ck_conv_tile *t, int pixels, int vectors)
{
    T sum[CK_CONV_PIXELS * CK_CONV_VECTORS * L] __attribute__((aligned(64)));
    const CK_TYPED(sum_kernel) kernel = CK_TYPED(sum_kernels)[vectors - 1][pixels - 1];
    ck_conv_chunks c = CK_TYPED(chunks_of)(t);
    const ptrdiff_t chunks = c.count;
    CK_ASSERT(!(t->accumulate && t->row_bias));
    CK_ASSERT(!t->x_half || (pixels % 2 == 0 && vectors > 1));
    CK_ASSERT(kernel && t->taps >= 1 && t->filters >= 1 && t->filters <= vectors * L);
    /* Whole vectors of filters beside each other are what the sums are: no copy (Winograd's products, panels of pixels). */
    const int as_is = t->y_filter == 1 && t->filters == vectors * L && !t->bias && !t->finish &&
                      chunks <= CK_CONV_CHUNKS && (!t->x_half || t->y_half == pixels / 2 * t->y_pixel);
    c.add = as_is && t->accumulate;
    T *to = as_is ? t->y : sum;
    c.row = as_is ? t->y_pixel : vectors * L;
    if (chunks <= CK_CONV_CHUNKS) {
        kernel(t, &c, to);
        if (as_is) return;
    } else { /* a reduction of many chunks (a weight gradient over a large batch) closes them in turn */
        T total[CK_CONV_PIXELS * CK_CONV_VECTORS * L] __attribute__((aligned(64)));
        c.count = CK_CONV_CHUNKS;
        for (ptrdiff_t i = 0; i < chunks; i += CK_CONV_CHUNKS) {
            if (i) CK_TYPED(next_chunks)(&c, i, chunks, CK_CONV_CHUNKS);
            kernel(t, &c, sum);
            CK_TYPED(add_sums)(total, sum, pixels * vectors * L, i == 0);
        }
        CK_TYPED(add_sums)(sum, total, pixels * vectors * L, 1);
    }
    CK_TYPED(store_tile)(t, sum, pixels, vectors);
}

CK_NOINLINE void CK_TYPED(conv_run_grid)(const ck_conv_tile *t, int pixels, int vectors, const ck_conv_grid *g)
{
    ck_conv_chunks c = CK_TYPED(chunks_of)(t);
    CK_ASSERT(t->y_filter == 1 && t->filters == vectors * L && !t->bias && t->taps >= 1);
    CK_ASSERT(t->x_step == 1 || (g->rows == 1 && !t->finish && !g->by_chunk));
    CK_ASSERT(!(t->accumulate && t->row_bias) && !(g->by_chunk && t->finish));
    const CK_TYPED(grid_kernel) kernel = CK_TYPED(grid_kernels)[vectors - 1][pixels - 1];
    if (kernel && c.count <= CK_CONV_CHUNKS && (!t->finish || vectors == CK_CONV_FINISHED) &&
        (t->x_step == 1 || CK_CONV_HAS_STEPS(vectors, pixels))) {
        c.add = t->accumulate;
        c.row = t->y_pixel;
        kernel(t, &c, g);
        return;
    }
    for (ptrdiff_t p = 0; p < g->panels; p++)
        for (ptrdiff_t j = 0; j < g->rows; j++)
            for (ptrdiff_t i = 0; i < g->runs; i++) {
                ck_conv_tile tile = *t;
                tile.x = (const T *)t->x + j * g->x_row + i * pixels * t->x_step;
                tile.w = (const T *)t->w + p * g->w_panel;
                tile.y = (T *)t->y + p * g->y_panel + j * g->y_row + i * pixels * t->y_pixel;
                tile.ahead = (const char *)((const T *)t->ahead + p * g->ahead_panel) +
                             (j * g->runs + i) * t->taps * t->ahead_step;
                if (t->ahead_end) tile.ahead_end = (const T *)t->ahead_end + p * g->ahead_panel;
                CK_TYPED(conv_run)(&tile, pixels, vectors);
            }
}

/* The sums of each of the tiles that go through a panel together; none has more than the registers hold. */
typedef T CK_TYPED(tile_sums)[CK_REGISTERS * L];

CK_NOINLINE void CK_TYPED(conv_run_together)(const ck_conv_tile *t, const int *pixels, ptrdiff_t n, int vectors)
{
    const ptrdiff_t segment = vectors > CK_CONV_SEGMENT ? 1 : CK_CONV_SEGMENT / vectors;
    ck_conv_chunks c = CK_TYPED(chunks_of)(t);
    const ptrdiff_t chunks = c.count;
    if (!t->accumulate && (n == 1 || chunks <= segment)) { /* added to y they would not be summed up first */
        for (ptrdiff_t i = 0; i < n; i++) CK_TYPED(conv_run)(t + i, pixels[i], vectors);
        return;
    }
    /* and one more: the store of the last tile reads a vector's pixels */
    CK_TYPED(tile_sums) sum[CK_CONV_TOGETHER + 1], total[CK_CONV_TOGETHER + 1] __attribute__((aligned(64)));
    CK_ASSERT(n <= CK_CONV_TOGETHER && CK_CONV_CHUNKS % segment == 0 && !t->row_bias);
    c.count = chunks < segment ? chunks : segment;
    c.row = vectors * L;
    for (ptrdiff_t done = 0; done < chunks; done += c.count) {
        if (done) CK_TYPED(next_chunks)(&c, done, chunks, segment);
        c.add = done % CK_CONV_CHUNKS != 0;
        c.line = 4 * done;
        const int closed = done + c.count == chunks || (done + c.count) % CK_CONV_CHUNKS == 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            CK_TYPED(sum_kernels)[vectors - 1][pixels[i] - 1](t + i, &c, sum[i]);
            if (closed && chunks > CK_CONV_CHUNKS)
                CK_TYPED(add_sums)(total[i], sum[i], pixels[i] * vectors * L, done < CK_CONV_CHUNKS);
        }
    }
    for (ptrdiff_t i = 0; i < n; i++)
        CK_TYPED(store_tile)(t + i, chunks > CK_CONV_CHUNKS ? total[i] : sum[i], pixels[i], vectors);
}

CK_NOINLINE void CK_TYPED(conv_transpose)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t dst_row,
                                          ptrdiff_t rows, ptrdiff_t columns)
{
    /* Whole cache lines of the source at a time: with many rows a line is gone when its second half is wanted. */
    const ptrdiff_t line = rows > L || CK_VBYTES >= 64 ? 64 / (ptrdiff_t)sizeof(T) : columns;
    for (ptrdiff_t begin = 0; begin < columns; begin += line)
        for (ptrdiff_t i = 0; i < rows; i += L) {
            const ptrdiff_t ni = rows - i < L ? rows - i : L, end = columns - begin < line ? columns : begin + line;
            for (ptrdiff_t j = begin; j < end; j += L) {
                /* The last columns once more rather than in parts: a branch for each of 8 rows, and for its length. */
                if (columns >= L && end - j < L) j = end - L;
                const ptrdiff_t nj = end - j < L ? end - j : L;
                const T *from = (const T *)src + i * src_row + j;
                T *to = (T *)dst + j * dst_row + i;
                V r[L];
                if (ni == L && nj == L) {
                    if (rows > L && j == begin)
                        CK_UNROLL for (int a = 0; a < L; a++) __builtin_prefetch(from + a * src_row + 2 * line);
                    CK_UNROLL for (int a = 0; a < L; a++) r[a] = vload(from + a * src_row);
                } else if (nj == L || (ni == L && i + L < rows && src_row + columns >= j + L)) {
                    /* behind a short row lies the next one */
                    CK_UNROLL for (int a = 0; a < L; a++) r[a] = a < ni ? vload(from + a * src_row) : (V){0};
                } else {
                    CK_UNROLL for (int a = 0; a < L; a++) r[a] = a < ni ? vload_part(from + a * src_row, nj) : (V){0};
                }
                vtranspose(r);
                if (ni == L && nj == L)
                    CK_UNROLL for (int b = 0; b < L; b++) vstore(to + b * dst_row, r[b]);
                else
                    CK_UNROLL for (int b = 0; b < L; b++) if (b < nj) vstore_part(to + b * dst_row, r[b], ni);
            }
        }
}

/* Neighbouring pixels, or every step-th, side by side. */
CK_INLINE void CK_TYPED(copy_pixels)(T *to, const T *from, ptrdiff_t n, ptrdiff_t step)
{
    if (step == 1) {
        ptrdiff_t i = 0;
        for (; i + L <= n; i += L) vstore(to + i, vload(from + i));
        if (i < n) vstore_part(to + i, vload_part(from + i, n - i), n - i);
    } else if (step == 2) {
        ptrdiff_t i = 0;
        for (; i + L < n; i += L) vstore(to + i, veven(vload(from + 2 * i), vload(from + 2 * i + L)));
        if (i < n) { /* after the last of them there may be nothing to read */
            const ptrdiff_t rest = 2 * (n - i) - 1, low = rest < L ? rest : L;
            const V high = rest > L ? vload_part(from + 2 * i + L, rest - L) : (V){0};
            vstore_part(to + i, veven(vload_part(from + 2 * i, low), high), n - i);
        }
    } else {
        for (ptrdiff_t i = 0; i < n; i++) to[i] = from[i * step];
    }
}

/* Not a loop over elements: GCC makes a call of memset out of it, for one or two of them. */
CK_INLINE void CK_TYPED(zero_pixels)(T *to, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += L) vstore_part(to + i, (V){0}, n - i < L ? n - i : L);
}

/* The row that is copied 2 KB later, behind the last one the first of the next rows: at AVX2 it is fetched, where grids leave
 * nothing to those that the machine fetches by itself. Long rows need nothing. */
CK_INLINE const T *CK_TYPED(row_ahead)(const T *src, ptrdiff_t src_row, ptrdiff_t rows, const T *next, ptrdiff_t soon)
{
    return soon < rows ? src + soon * src_row : next + (soon - rows) * src_row;
}

/* The zeros between numbers, `n` of them, behind which L numbers are written later if there are `more`. */
CK_INLINE void CK_TYPED(zero_gap)(T *to, ptrdiff_t n, int more)
{
    if (n == 0) return;
    if (more && n <= L)
        vstore(to, (V){0});
    else
        CK_TYPED(zero_pixels)(to, n);
}

/* Not memcpy row by row: a row of a small map is shorter than a call. */
CK_NOINLINE void CK_TYPED(conv_pad)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t rows, ptrdiff_t before,
                                    ptrdiff_t n, ptrdiff_t after, const void *next)
{
    if (!before && !after && src_row == n) {
        n *= rows;
        rows = 1;
    }
    const ptrdiff_t ahead = CK_VBYTES == 32 && next && n ? CK_CONV_PAD_AHEAD / n : 0, last = n - L;
    T *to = (T *)dst + before;
    if (rows) CK_TYPED(zero_pixels)(dst, before);
    for (ptrdiff_t i = 0; i < rows; i++, to += n + after + before) {
        const T *from = (const T *)src + i * src_row;
        CK_TYPED(zero_gap)(to + n, i + 1 < rows ? after + before : after, i + 1 < rows && n >= L);
        if (n < L) {
            CK_TYPED(copy_pixels)(to, from, n, 1);
        } else { /* the last ones once more rather than in parts */
            const T *soon = ahead ? CK_TYPED(row_ahead)(src, src_row, rows, next, i + ahead) : from;
            for (ptrdiff_t j = 0; j < last; j += L) {
                if (CK_VBYTES == 32) __builtin_prefetch(soon + j, 0, 2);
                vstore(to + j, vload(from + j));
            }
            vstore(to + last, vload(from + last));
        }
    }
}

/* A row of a box, the even columns before the odd ones: n elements, of which the even go to `first`; `soon` is fetched. */
CK_INLINE void CK_TYPED(split_row)(const T *from, const T *soon, T *first, T *second, ptrdiff_t n)
{
    if (n >= 2 * L) {
        if (n % 2) first[n / 2] = from[n - 1];
        for (ptrdiff_t i = 0, last = n / 2 - L;; i += L) {
            if (i > last) i = last; /* the last ones once more rather than in parts */
            __builtin_prefetch(soon + 2 * i, 0, 2);
            const V a = vload(from + 2 * i), b = vload(from + 2 * i + L);
            vstore(first + i, veven(a, b));
            vstore(second + i, vodd(a, b));
            if (i == last) return;
        }
    }
    for (ptrdiff_t i = 0; i < n; i += 2 * L) {
        const ptrdiff_t rest = n - i < 2 * L ? n - i : 2 * L, low = rest < L ? rest : L;
        const V a = vload_part(from + i, low), b = rest > L ? vload_part(from + i + L, rest - L) : (V){0};
        vstore_part(first + i / 2, veven(a, b), (rest + 1) / 2);
        if (rest > 1) vstore_part(second + i / 2, vodd(a, b), rest / 2);
    }
}

CK_NOINLINE void CK_TYPED(conv_pad_apart)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t rows,
                                          ptrdiff_t before, ptrdiff_t n, ptrdiff_t after, const void *next)
{
    const ptrdiff_t width = before + n + after, odd = (width + 1) / 2, end = before + n;
    const ptrdiff_t ahead = next && n ? CK_CONV_PAD_AHEAD / n : 0;
    /* zeros before, between and behind the two halves of a row, and where its columns of even number go, and the others */
    const ptrdiff_t head = (before + 1) / 2, middle = odd - (end + 1) / 2 + before / 2, tail = width / 2 - end / 2;
    const ptrdiff_t first = before % 2 ? odd + before / 2 : head, second = before % 2 ? head : odd + before / 2;
    const int more = n >= 2 * L;
    T *to = dst;
    if (rows) CK_TYPED(zero_pixels)(to, head);
    for (ptrdiff_t i = 0; i < rows; i++, to += width) {
        const T *from = (const T *)src + i * src_row;
        const T *soon = ahead ? CK_TYPED(row_ahead)(src, src_row, rows, next, i + ahead) : from;
        CK_TYPED(zero_gap)(to + (end + 1) / 2, middle, more);
        CK_TYPED(zero_gap)(to + odd + end / 2, i + 1 < rows ? tail + head : tail, more && i + 1 < rows);
        CK_TYPED(split_row)(from, soon, to + first, to + second, n);
    }
}

CK_NOINLINE void CK_TYPED(conv_fill)(const ck_conv_fill *job)
{
    for (ptrdiff_t c = 0; c < job->channels; c++) {
        const T *x = (const T *)job->x + c * job->plane;
        T *panels = (T *)job->panels + c * job->channel_step;
        for (const ck_conv_piece *p = job->piece; p < job->piece + job->pieces; p++) {
            if (p->source >= 0)
                CK_TYPED(copy_pixels)(panels + p->to, x + p->source, p->n, job->step);
            else
                CK_TYPED(zero_pixels)(panels + p->to, p->n);
        }
    }
}

CK_NOINLINE void CK_TYPED(conv_weave)(const void *sums, ptrdiff_t phase, ptrdiff_t row, void *y, ptrdiff_t y_filter,
                                      ptrdiff_t filters, ptrdiff_t n)
{
    for (ptrdiff_t f = 0; f < filters; f++) {
        const T *even = (const T *)sums + f * row, *odd = even + phase;
        T *to = (T *)y + f * y_filter;
        for (ptrdiff_t i = 0; i < n; i += 2 * L) {
            /* whole vectors of sums are there to be read, in y only what is written */
            const V a = vload(even + i / 2), b = vload(odd + i / 2);
            if (i + 2 * L <= n) {
                vstore(to + i, vziplo(a, b));
                vstore(to + i + L, vziphi(a, b));
            } else {
                const ptrdiff_t rest = n - i;
                vstore_part(to + i, vziplo(a, b), rest < L ? rest : L);
                if (rest > L) vstore_part(to + i + L, vziphi(a, b), rest - L);
            }
        }
    }
}

CK_NOINLINE void CK_TYPED(conv_spread)(const void *sums, ptrdiff_t row, void *y, ptrdiff_t y_filter, ptrdiff_t step,
                                       ptrdiff_t filters, ptrdiff_t n)
{
    for (ptrdiff_t f = 0; f < filters; f++) {
        const T *from = (const T *)sums + f * row;
        T *to = (T *)y + f * y_filter;
        if (step == 1)
            CK_TYPED(copy_pixels)(to, from, n, 1);
        else
            for (ptrdiff_t i = 0; i < n; i++) to[i * step] = from[i];
    }
}

CK_NOINLINE int CK_TYPED(conv_all_finite)(const void *a, ptrdiff_t n)
{
    const T *from = a;
    V zeros[4] = {{0}}; /* each number times 0 */
    ptrdiff_t i = 0;
    for (; i + 4 * L <= n; i += 4 * L)
        CK_UNROLL for (int j = 0; j < 4; j++) zeros[j] += vload(from + i + j * L) * vset1(0);
    for (; i < n; i += L) zeros[0] += vload_part(from + i, n - i < L ? n - i : L) * vset1(0);
    T lanes[L], sum = 0;
    vstore(lanes, zeros[0] + zeros[1] + (zeros[2] + zeros[3]));
    for (int j = 0; j < L; j++) sum += lanes[j];
    return sum == 0;
}

/* The longest run of pixels at a number of vectors: the last row of the registry that the registers hold. */
#define CK_CONV_MOST(vectors) ((CK_REGISTERS - 1 - (vectors)) / (vectors))
#define CK_CONV_CAP(vectors, cap) (CK_CONV_MOST(vectors) < (cap) ? CK_CONV_MOST(vectors) : (cap))
extern const ck_conv_table CK_KERNEL(ck_conv);
const ck_conv_table CK_KERNEL(ck_conv) = {
    .lanes = L,
    .most_pixels = {CK_CONV_CAP(1, 16), CK_CONV_CAP(2, 14), CK_CONV_CAP(3, 9), CK_CONV_CAP(4, 7)},
    .grids = CK_CONV_HAS_GRID(2) && CK_CONV_HAS_GRID(3),
    .run = CK_TYPED(conv_run),
    .run_together = CK_TYPED(conv_run_together),
    .run_grid = CK_TYPED(conv_run_grid),
    .add = CK_TYPED(add_sums),
    .store = CK_TYPED(store),
    .transpose = CK_TYPED(conv_transpose),
    .fill = CK_TYPED(conv_fill),
    .pad = CK_TYPED(conv_pad),
    .pad_apart = CK_CONV_HAS_GRID(2) ? CK_TYPED(conv_pad_apart) : NULL,
    .weave = CK_TYPED(conv_weave),
    .spread = CK_TYPED(conv_spread),
    .all_finite = CK_TYPED(conv_all_finite),
};
#undef CK_CONV_CAP
#undef CK_CONV_MOST
#undef CK_CONV_FITS
