/* Compiled once per dtype by depthwise.kernel.c: depthwise with channels in the lanes. A unit is L neighbouring channels of
 * one image: a block of their rows is transposed into a box of pixels, L channels each, computed tap by tap, and
 * transposed back. */

enum { CK_TYPED(most_wide) = 14 }; /* pixels of a row that share one load of a weight */

/* out[place[p]] = pixel p of all channels, for n pixels whose channels lie `plane` apart. */
CK_INLINE void CK_TYPED(to_lanes)(T *out, const ptrdiff_t *place, const T *x, ptrdiff_t plane, ptrdiff_t channels,
                                  ptrdiff_t n)
{
    const T *from[L]; /* a channel that is not there is a copy of the last one */
    CK_UNROLL for (int c = 0; c < L; c++) from[c] = x + (c < channels ? c : channels - 1) * plane;
    V r[L];
    for (ptrdiff_t p = 0; p < n; p += L) {
        ptrdiff_t left = n - p;
        if (left <= L / 4) {
            for (; p < n; p++)
                CK_UNROLL for (int c = 0; c < L; c++) out[place[p] + c] = from[c][p];
            return;
        }
        if (left >= L || n >= L) {
            if (left < L) p = n - L;
            CK_UNROLL for (int c = 0; c < L; c++) r[c] = vload(from[c] + p);
            vtranspose(r);
            CK_UNROLL for (int i = 0; i < L; i++) vstore(out + place[p + i], r[i]);
        } else {
            CK_UNROLL for (int c = 0; c < L; c++) r[c] = vload_part(from[c] + p, left);
            vtranspose(r);
            CK_UNROLL for (int i = 0; i < L; i++) if (i < left) vstore(out + place[p + i], r[i]);
        }
    }
}

/* The inverse, for pixels that lie side by side. */
CK_INLINE void CK_TYPED(from_lanes)(T *y, ptrdiff_t plane, ptrdiff_t channels, const T *out, ptrdiff_t n)
{
    V r[L];
    for (ptrdiff_t p = 0; p < n; p += L) {
        ptrdiff_t left = n - p;
        if (left <= L / 4) {
            for (; p < n; p++)
                for (int c = 0; c < channels; c++) y[c * plane + p] = out[p * L + c];
            return;
        }
        if (left < L && n >= L) p = n - L, left = L;
        CK_UNROLL for (int i = 0; i < L; i++) r[i] = vload(out + (p + (i < left ? i : 0)) * L);
        vtranspose(r);
        if (left >= L && channels == L)
            CK_UNROLL for (int c = 0; c < L; c++) vstore(y + c * plane + p, r[c]);
        else
            CK_UNROLL for (int c = 0; c < L; c++)
                if (c < channels) vstore_part(y + c * plane + p, r[c], left < L ? left : L);
    }
}

/* What one row of targets sees: runs of taps, each along a row of the box. */
typedef struct {
    const T *x[CK_DEPTHWISE_CHUNK], *w[CK_DEPTHWISE_CHUNK];
    ptrdiff_t runs, across, x_tap, w_tap;
    V bias;
    ptrdiff_t y_step;
} CK_TYPED(window);

CK_INLINE void CK_TYPED(run_pixels)(const CK_TYPED(window) * t, ptrdiff_t shift, T *y, const int M, const int S)
{
    V acc[CK_TYPED(most_wide)];
    const ptrdiff_t across = t->across, x_tap = t->x_tap, w_tap = t->w_tap;
    CK_UNROLL for (int m = 0; m < M; m++) acc[m] = (V){0};
    for (ptrdiff_t r = 0; r < t->runs; r++) {
        const T *x = t->x[r] + shift, *w = t->w[r];
        for (ptrdiff_t k = 0; k < across; k++, x += x_tap, w += w_tap) {
            V weight = vload(w);
            CK_UNROLL for (int m = 0; m < M; m++) acc[m] = vfma(weight, vload(x + m * S * L), acc[m]);
        }
    }
    CK_UNROLL for (int m = 0; m < M; m++) vstore(y + m * t->y_step, acc[m] + t->bias);
}

#define CK_PIXELS(M)                                                                                                   \
    CK_NOINLINE void CK_TYPED(pixels_##M##_1)(const CK_TYPED(window) * t, ptrdiff_t shift, T *y)                       \
    {                                                                                                                  \
        CK_TYPED(run_pixels)(t, shift, y, M, 1);                                                                       \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(pixels_##M##_2)(const CK_TYPED(window) * t, ptrdiff_t shift, T *y)                       \
    {                                                                                                                  \
        CK_TYPED(run_pixels)(t, shift, y, M, 2);                                                                       \
    }
CK_PIXELS(1)
CK_PIXELS(2)
CK_PIXELS(3)
CK_PIXELS(4)
CK_PIXELS(5)
CK_PIXELS(6)
CK_PIXELS(7)
CK_PIXELS(8)
CK_PIXELS(9)
CK_PIXELS(10)
CK_PIXELS(11)
CK_PIXELS(12)
CK_PIXELS(13)
CK_PIXELS(14)
#undef CK_PIXELS
#define CK_BOTH(M) {CK_TYPED(pixels_##M##_1), CK_TYPED(pixels_##M##_2)}
static void (*const CK_TYPED(pixels_of)[][2])(const CK_TYPED(window) *, ptrdiff_t, T *) = {
    {NULL, NULL}, CK_BOTH(1), CK_BOTH(2),  CK_BOTH(3),  CK_BOTH(4),  CK_BOTH(5),  CK_BOTH(6), CK_BOTH(7),
    CK_BOTH(8),   CK_BOTH(9), CK_BOTH(10), CK_BOTH(11), CK_BOTH(12), CK_BOTH(13), CK_BOTH(14)};
#undef CK_BOTH

/* All targets of one phase of a block whose box and packed weights are ready. */
CK_INLINE void CK_TYPED(sum_pixels)(const ck_depthwise *g, const ck_depthwise_phase *s, ptrdiff_t origin, const T *box,
                                    const T *w, V bias, int skip, T *out)
{
    const ptrdiff_t pitch = g->box[2] * L, n = s->count[2], S = g->source_step[2];
    const ptrdiff_t rows = CK_TYPED(least)(g->block[1], s->count[1] - origin), runs = s->taps / s->across;
    const ptrdiff_t parts = (n + CK_TYPED(most_wide) - 1) / CK_TYPED(most_wide), M = (n + parts - 1) / parts;
    CK_TYPED(window)
    t = {.across = s->across,
         .x_tap = s->across > 1 ? (s->column[1] - s->column[0]) * L : 0,
         .w_tap = s->across > 1 ? (s->weight[1] - s->weight[0]) * L : 0,
         .bias = bias,
         .y_step = s->step[2] * L};
    void (*const run)(const CK_TYPED(window) *, ptrdiff_t, T *) = CK_TYPED(pixels_of)[M][S - 1];
    for (ptrdiff_t y = 0; y < rows; y++) {
        t.runs = 0;
        for (ptrdiff_t r = 0; r < runs; r++) {
            const ptrdiff_t row = y * g->source_step[1] + s->row[r * s->across];
            const size_t real = (size_t)(origin * g->source_step[1] - g->lo[1] + row);
            if (skip && real >= (size_t)g->source[1]) continue;
            t.x[t.runs] = box + row * pitch + s->column[0] * L;
            t.w[t.runs++] = w + s->weight[r * s->across] * L;
        }
        T *to = out + ((s->start[1] + y * s->step[1]) * g->target[2] + s->start[2]) * L;
        for (ptrdiff_t q = 0; q < n; q += M) {
            if (q + M > n) q = n - M;
            run(&t, q * S * L, to + q * t.y_step);
        }
    }
}

/* Rows of the box that lie in the source, transposed; the others are zero. */
CK_INLINE void CK_TYPED(fill_box)(const ck_depthwise *g, T *box, const T *x, ptrdiff_t channels, ptrdiff_t origin)
{
    const ptrdiff_t first = origin * g->source_step[1] - g->lo[1], pitch = g->box[2] * L, width = g->source[2];
    ptrdiff_t a = first < 0 ? CK_TYPED(least)(-first, g->box[1]) : 0;
    ptrdiff_t end = CK_TYPED(least)(g->source[1] - first, g->box[1]);
    if (end < a) end = a;
    if (g->blocks[1] > 1) {
        memset(box, 0, (size_t)(a * pitch) * sizeof(T));
        memset(box + end * pitch, 0, (size_t)((g->box[1] - end) * pitch) * sizeof(T));
    }
    if (end > a)
        CK_TYPED(to_lanes)(box + a * pitch, g->place, x + (first + a) * width, g->source[1] * width, channels, (end - a) * width);
}

static void CK_TYPED(sum_channels)(const ck_depthwise *g, const void *source, const void *weights, const void *bias,
                                   void *target, ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[1] * g->source[2], area = g->target[1] * g->target[2], taps = g->w_filter;
    const ptrdiff_t parts = (g->groups + L - 1) / L, step = g->phase[0].step[1];
    T *box = scratch, *out = box + g->box[1] * g->box[2] * L, *w = out + (g->block[1] + 1) * step * g->target[2] * L;
    ptrdiff_t packed = -1;
    int skip = 0;
    V b = {0};
    memset(box, 0, (size_t)(g->box[1] * g->box[2] * L) * sizeof(T));
    memset(out, 0, (size_t)((g->block[1] + 1) * step * g->target[2] * L) * sizeof(T));
    for (ptrdiff_t i = first; i < last; i++) {
        const ptrdiff_t origin = i % g->blocks[1] * g->block[1], part = i / g->blocks[1] % parts;
        const ptrdiff_t image = i / g->blocks[1] / parts, channel = part * L;
        const ptrdiff_t channels = CK_TYPED(least)(L, g->groups - channel);
        if (packed != part) {
            CK_TYPED(to_lanes)(w, g->dense, (const T *)weights + channel * taps, taps, channels, taps);
            skip = CK_TYPED(all_finite)(w, taps * L);
            if (bias) b = vload_part((const T *)bias + channel, channels);
            packed = part;
        }
        CK_TYPED(fill_box)(g, box, (const T *)source + (image * g->groups + channel) * plane, channels, origin);
        for (ptrdiff_t j = 0; j < g->phases; j++)
            if (g->phase[j].count[1] > origin) CK_TYPED(sum_pixels)(g, g->phase + j, origin, box, w, b, skip, out);
        const ptrdiff_t top = origin * step; /* rows that no tap reaches may follow the last */
        const ptrdiff_t rows = origin + g->block[1] < g->blocks[1] * g->block[1] ? g->block[1] * step : g->target[1] - top;
        CK_TYPED(from_lanes)((T *)target + (image * g->groups + channel) * area + top * g->target[2], area, channels, out, rows * g->target[2]);
    }
}

/* Sums of products of one block of one image, added to sum[taps][L]. */
CK_INLINE void CK_TYPED(dot_pixels)(const ck_depthwise *g, const T *box, const T *dy, ptrdiff_t rows, T *sum)
{
    const ck_depthwise_phase *s = g->phase;
    const ptrdiff_t S = g->source_step[2], pitch = g->box[2] * L, width = s->count[2];
    const ptrdiff_t wide = CK_TYPED(least)(width, CK_DEPTHWISE_RUN), together = CK_DEPTHWISE_RUN / wide;
    CK_TYPED(dots) t = {.x_row = g->source_step[1] * pitch, .dy_row = width * L, .sum = sum};
    for (ptrdiff_t y = 0; y < rows; y += together)
        for (ptrdiff_t i = 0; i < width; i += wide) {
            t.x = box + y * t.x_row + S * i * L;
            t.dy = dy + y * t.dy_row + i * L;
            t.rows = CK_TYPED(least)(together, rows - y);
            t.n = CK_TYPED(least)(wide, width - i) * L;
            CK_TYPED(dot_run)(t, s->offset, s->taps, (int)S);
        }
}

static void CK_TYPED(dot_channels)(const ck_depthwise *g, const void *dy, const void *x, void *dw, ptrdiff_t from,
                                   ptrdiff_t to, ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[1] * g->source[2], width = g->target[2], area = g->target[1] * width;
    const ptrdiff_t taps = g->phase[0].taps;
    T *box = scratch, *tile = box + g->box[1] * g->box[2] * L, *sum = tile + g->block[1] * width * L;
    memset(box, 0, (size_t)(g->box[1] * g->box[2] * L) * sizeof(T));
    for (ptrdiff_t part = first; part < last; part++) {
        const ptrdiff_t channel = part * L, channels = CK_TYPED(least)(L, g->groups - channel);
        T *total = sum + taps * L;
        memset(total, 0, (size_t)(taps * L) * sizeof(T));
        for (ptrdiff_t i = from; i < to; i++) {
            const ptrdiff_t origin = i % g->blocks[1] * g->block[1], plane0 = i / g->blocks[1] * g->groups + channel;
            const ptrdiff_t rows = CK_TYPED(least)(g->block[1], g->target[1] - origin);
            CK_TYPED(fill_box)(g, box, (const T *)x + plane0 * plane, channels, origin);
            CK_TYPED(to_lanes)(tile, g->dense, (const T *)dy + plane0 * area + origin * width, area, channels, rows * width);
            memset(sum, 0, (size_t)(taps * L) * sizeof(T));
            CK_TYPED(dot_pixels)(g, box, tile, rows, sum);
            for (ptrdiff_t k = 0; k < taps * L; k += L) vstore(total + k, vload(total + k) + vload(sum + k));
        }
        CK_TYPED(from_lanes)((T *)dw + channel * taps, taps, channels, total, taps);
    }
}
