/* Compiled once per dtype by depthwise.kernel.c: depthwise with channels in the lanes. A unit is L neighbouring channels of
 * one image: a block of their rows is transposed into a box of pixels, L channels each, computed tap by tap, and
 * transposed back. */

enum { CK_TYPED(most_wide) = 14 }; /* pixels of a row that share one load of a weight */

/* out[place[p]] = pixel p of all channels, for n pixels whose channels lie `plane` apart. */
CK_NOINLINE void CK_TYPED(to_lanes)(T *out, const ptrdiff_t *place, const T *x, ptrdiff_t plane, ptrdiff_t channels,
                                    ptrdiff_t n)
{
    const T *from[L]; /* a channel that is not there is a copy of the last one */
    CK_UNROLL for (int c = 0; c < L; c++) from[c] = x + (c < channels ? c : channels - 1) * plane;
    V r[L];
    for (ptrdiff_t p = 0; p < n; p += L) {
        ptrdiff_t left = n - p;
        if (left <= L / 4) {
            for (; p < n; p++) CK_UNROLL for (int c = 0; c < L; c++) out[place[p] + c] = from[c][p];
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
CK_NOINLINE void CK_TYPED(from_lanes)(T *y, ptrdiff_t plane, ptrdiff_t channels, const T *out, ptrdiff_t n)
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
            CK_UNROLL for (int c = 0; c < L; c++) if (c < channels)
                vstore_part(y + c * plane + p, r[c], left < L ? left : L);
    }
}

/* A tile: M neighbouring pixels of R rows. Taps [first, last) of a table of offsets, weights side by side. */
typedef struct {
    const T *x;
    const ptrdiff_t *offset;
    const T *w;
    ptrdiff_t first, last, x_row;
    V bias;
    T *y;
    ptrdiff_t y_row, y_step;
} CK_TYPED(pixels);

CK_INLINE void CK_TYPED(run_pixels)(const CK_TYPED(pixels) * t, const int R, const int M, const int S)
{
    V acc[CK_TYPED(most_wide)];
    const ptrdiff_t *offset = t->offset, x_row = t->x_row, last = t->last;
    const T *const first = t->x, *const w = t->w;
    CK_UNROLL for (int m = 0; m < R * M; m++) acc[m] = (V){0};
    for (ptrdiff_t k = t->first; k < last; k++) {
        const T *x = first + offset[k];
        V weight = vload(w + k * L);
        CK_UNROLL for (int m = 0; m < M; m++) acc[m] = vfma(weight, vload(x + m * S * L), acc[m]);
        x += x_row;
        if (R == 2) CK_UNROLL for (int m = 0; m < M; m++) acc[M + m] = vfma(weight, vload(x + m * S * L), acc[M + m]);
    }
    CK_UNROLL for (int r = 0; r < R; r++) CK_UNROLL for (int m = 0; m < M; m++)
        vstore(t->y + r * t->y_row + m * t->y_step, acc[r * M + m] + t->bias);
}

/* The same for rows of K neighbouring taps: weights stay in registers and every pixel is loaded once for all of them. */
CK_INLINE void CK_TYPED(run_rows)(const CK_TYPED(pixels) * t, const int R, const int M, const int S, const int K)
{
    V acc[CK_TYPED(most_wide)], weight[CK_TYPED(most_kernel)];
    const ptrdiff_t *offset = t->offset, x_row = t->x_row, last = t->last;
    const T *const first = t->x, *const w = t->w;
    CK_UNROLL for (int m = 0; m < R * M; m++) acc[m] = (V){0};
    for (ptrdiff_t k = t->first; k < last; k += K) {
        const T *x = first + offset[k];
        CK_UNROLL for (int j = 0; j < K; j++)
        {
            weight[j] = vload(w + (k + j) * L);
            CK_HOLD(weight[j]);
        }
        CK_UNROLL for (int i = 0; i < (M - 1) * S + K; i++)
        {
            CK_UNROLL for (int r = 0; r < R; r++)
            {
                V pixel = vload(x + r * x_row + i * L);
                CK_HOLD(pixel);
                CK_UNROLL for (int m = 0; m < M; m++) if (i >= m * S && i < m * S + K) acc[r * M + m] =
                    vfma(weight[i - m * S], pixel, acc[r * M + m]);
            }
        }
    }
    CK_UNROLL for (int r = 0; r < R; r++) CK_UNROLL for (int m = 0; m < M; m++)
        vstore(t->y + r * t->y_row + m * t->y_step, acc[r * M + m] + t->bias);
}

#define CK_PIXELS(R, M)                                                                                                \
    CK_NOINLINE void CK_TYPED(pixels_##R##_##M##_1)(const CK_TYPED(pixels) * t) { CK_TYPED(run_pixels)(t, R, M, 1); }  \
    CK_NOINLINE void CK_TYPED(pixels_##R##_##M##_2)(const CK_TYPED(pixels) * t) { CK_TYPED(run_pixels)(t, R, M, 2); }
#define CK_EACH_TILE(DO)                                                                                               \
    DO(1, 1)                                                                                                           \
    DO(1, 2)                                                                                                           \
    DO(1, 3)                                                                                                           \
    DO(1, 4)                                                                                                           \
    DO(1, 5)                                                                                                           \
    DO(1, 6)                                                                                                           \
    DO(1, 7)                                                                                                           \
    DO(1, 8)                                                                                                           \
    DO(1, 9)                                                                                                           \
    DO(1, 10) DO(1, 11) DO(1, 12) DO(1, 13) DO(1, 14) DO(2, 1) DO(2, 2) DO(2, 3) DO(2, 4) DO(2, 5) DO(2, 6) DO(2, 7)
CK_EACH_TILE(CK_PIXELS)
#undef CK_PIXELS
#define CK_NAME(R, M) [R - 1][M] = {CK_TYPED(pixels_##R##_##M##_1), CK_TYPED(pixels_##R##_##M##_2)},
static void (*const CK_TYPED(pixels_of)[2][CK_TYPED(most_wide) + 1][2])(const CK_TYPED(pixels) *) = {
    CK_EACH_TILE(CK_NAME)};
#undef CK_NAME
#undef CK_EACH_TILE

/* [kernel / 2][stride - 1][one row of half a tile, two of them, one row of a tile] */
enum { CK_TYPED(half_wide) = CK_TYPED(most_wide) / 2, CK_TYPED(whole) = CK_REGISTERS == 32 };
#define CK_ROWS(K, S)                                                                                                  \
    CK_NOINLINE void CK_TYPED(half_##K##_##S)(const CK_TYPED(pixels) * t)                                              \
    {                                                                                                                  \
        CK_TYPED(run_rows)(t, 1, CK_TYPED(half_wide), S, K);                                                           \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(halves_##K##_##S)(const CK_TYPED(pixels) * t)                                            \
    {                                                                                                                  \
        if (CK_TYPED(whole)) CK_TYPED(run_rows)(t, 2, CK_TYPED(half_wide), S, K);                                      \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(whole_##K##_##S)(const CK_TYPED(pixels) * t)                                             \
    {                                                                                                                  \
        if (CK_TYPED(whole)) CK_TYPED(run_rows)(t, 1, CK_TYPED(most_wide), S, K);                                      \
    }
CK_ROWS(3, 1)
CK_ROWS(5, 1)
CK_ROWS(7, 1)
CK_ROWS(3, 2)
CK_ROWS(5, 2)
CK_ROWS(7, 2)
#undef CK_ROWS
#define CK_NAME(K, S) {CK_TYPED(half_##K##_##S), CK_TYPED(halves_##K##_##S), CK_TYPED(whole_##K##_##S)}
static void (*const CK_TYPED(rows_of)[][2][3])(const CK_TYPED(pixels) *) = {
    {{NULL}}, {CK_NAME(3, 1), CK_NAME(3, 2)}, {CK_NAME(5, 1), CK_NAME(5, 2)}, {CK_NAME(7, 1), CK_NAME(7, 2)}};
#undef CK_NAME

/* Whether tap k of any of the target rows whose windows begin at rows `top` to `end` lies in the source. */
CK_INLINE int CK_TYPED(sees)(const ck_depthwise *g, const ck_depthwise_phase *s, ptrdiff_t k, ptrdiff_t top,
                             ptrdiff_t end)
{
    return end + s->row[k] >= 0 && top + s->row[k] < g->source[1];
}

/* Rows [from, to) of the targets of one phase of a block; `w` has the phase's weights side by side. Taps that see
 * only padding, which are the first and the last of the table, are left out if `skip`. */
CK_INLINE void CK_TYPED(sum_pixels)(const ck_depthwise *g, const ck_depthwise_phase *s, ptrdiff_t origin,
                                    ptrdiff_t from, ptrdiff_t to, const T *box, const T *w, V bias, int skip, T *out)
{
    enum { MOST = CK_TYPED(most_wide), HALF = CK_TYPED(half_wide) };
    const ptrdiff_t n = s->count[2], S = g->source_step[2], across = s->across;
    const ptrdiff_t rows = CK_TYPED(least)(to, s->count[1] - origin);
    const int odd = across == 3 || across == 5 || across == 7;
    const int fast = odd && s->offset[1] == s->offset[0] + L && n >= HALF && (n + HALF - 1) / HALF * HALF * 4 <= n * 5;
    const ptrdiff_t parts = n <= MOST ? 1 : (n + MOST - 1) / MOST, even = parts == 1 ? n : (n + parts - 1) / parts;
    const ptrdiff_t first = origin * g->source_step[1] - g->lo[1];
    CK_TYPED(pixels) t; /* whose other fields need no zeros: `rep stos` takes longer than a row of some tiles */
    t.offset = s->offset, t.w = w, t.bias = bias;
    t.x_row = g->source_step[1] * g->box[2] * L;
    t.y_row = s->step[1] * g->target[2] * L, t.y_step = s->step[2] * L;
    for (ptrdiff_t y = from, R; y < rows; y += R) {
        R = y + 1 < rows && 2 * n <= MOST && (CK_TYPED(whole) || !fast) ? 2 : 1;
        t.first = 0, t.last = s->taps;
        if (skip) {
            const ptrdiff_t top = first + y * g->source_step[1], end = top + (R - 1) * g->source_step[1];
            while (t.first < t.last && !CK_TYPED(sees)(g, s, t.first, top, end)) t.first += across;
            while (t.first < t.last && !CK_TYPED(sees)(g, s, t.last - 1, top, end)) t.last -= across;
        }
        T *row = out + ((s->start[1] + (y - from) * s->step[1]) * g->target[2] + s->start[2]) * L;
        for (ptrdiff_t q = 0, M; q < n; q += M) {
            const int whole = CK_TYPED(whole) && n >= MOST && n - q > HALF;
            M = !fast ? even : whole ? MOST : HALF;
            if (q + M > n) q = n - M;
            t.x = box + y * t.x_row + q * S * L;
            t.y = row + q * t.y_step;
            if (fast)
                CK_TYPED(rows_of)[across / 2][S - 1][whole ? 2 : R - 1](&t);
            else
                CK_TYPED(pixels_of)[R - 1][M][S - 1](&t);
        }
    }
}

/* Zero the rows of the box that lie outside the source; `rows` gets those that do not, [0] to [1]. */
CK_INLINE void CK_TYPED(open_box)(const ck_depthwise *g, T *box, ptrdiff_t origin, ptrdiff_t rows[2])
{
    const ptrdiff_t first = origin * g->source_step[1] - g->lo[1], pitch = g->box[2] * L;
    rows[0] = first < 0 ? CK_TYPED(least)(-first, g->box[1]) : 0;
    rows[1] = CK_TYPED(least)(g->source[1] - first, g->box[1]);
    if (rows[1] < rows[0]) rows[1] = rows[0];
    if (g->blocks[1] > 1) {
        memset(box, 0, (size_t)(rows[0] * pitch) * sizeof(T));
        memset(box + rows[1] * pitch, 0, (size_t)((g->box[1] - rows[1]) * pitch) * sizeof(T));
    }
}

/* Transpose the next rows of the source, up to what targets below `to` see, and take them off `rows`. */
CK_INLINE void CK_TYPED(fill_box)(const ck_depthwise *g, T *box, const T *x, ptrdiff_t channels, ptrdiff_t origin,
                                  ptrdiff_t to, ptrdiff_t rows[2])
{
    const ptrdiff_t width = g->source[2], row = origin * g->source_step[1] - g->lo[1] + rows[0];
    const ptrdiff_t end = CK_TYPED(least)(g->box[1] - (g->block[1] - to) * g->source_step[1], rows[1]);
    if (end <= rows[0]) return;
    CK_TYPED(to_lanes)(box + rows[0] * g->box[2] * L, g->place, x + row * width, g->source[1] * width, channels,
                       (end - rows[0]) * width);
    rows[0] = end;
}

/* Blocks of L channels: the weights of each phase side by side, those of no phase behind them, and the sum of all times
 * zero, which tells whether they are finite. */
static void CK_TYPED(pack_channels)(const ck_depthwise *g, const void *weights, void *packed)
{
    const ptrdiff_t taps = g->w_filter;
    T *to = packed;
    for (ptrdiff_t channel = 0; channel < g->groups; channel += L) {
        CK_TYPED(to_lanes)(to, g->place_tap, (const T *)weights + channel * taps, taps,
                           CK_TYPED(least)(L, g->groups - channel), taps);
        V zero = {0};
        for (ptrdiff_t k = 0; k < taps; k++, to += L) zero = vfma(vload(to), (V){0}, zero);
        vstore(to, zero);
        to += L;
    }
}

static void CK_TYPED(sum_channels)(const ck_depthwise *g, const void *source, const void *packed, const void *bias,
                                   void *target, ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[1] * g->source[2], area = g->target[1] * g->target[2], taps = g->w_filter;
    const ptrdiff_t parts = (g->groups + L - 1) / L, step = g->phase[0].step[1], slab = g->slab;
    const ptrdiff_t width = g->target[2];
    T *box = scratch, *out = box + g->box[1] * g->box[2] * L;
    ptrdiff_t reached = 0;
    memset(box, 0, (size_t)(g->box[1] * g->box[2] * L) * sizeof(T));
    for (ptrdiff_t j = 0; j < g->phases; j++) reached += g->phase[j].count[1] * g->phase[j].count[2];
    ptrdiff_t origin = first % g->blocks[1] * g->block[1], part = first / g->blocks[1] % parts;
    ptrdiff_t image = first / g->blocks[1] / parts;
    for (ptrdiff_t i = first; i < last; i++) {
        const ptrdiff_t channel = part * L;
        const ptrdiff_t channels = CK_TYPED(least)(L, g->groups - channel);
        const T *x = (const T *)source + (image * g->groups + channel) * plane;
        T *y = (T *)target + (image * g->groups + channel) * area;
        const int more =
            origin + g->block[1] < g->blocks[1] * g->block[1]; /* the last takes rows that no tap reaches */
        const ptrdiff_t targets = more ? g->block[1] : (g->target[1] + step - 1) / step - origin;
        ptrdiff_t rows[2];
        const T *w = (const T *)packed + part * (taps + 1) * L;
        const int skip = vsum(vload(w + taps * L)) == 0;
        const V b = bias ? vload_part((const T *)bias + channel, channels) : (V){0};
        CK_TYPED(open_box)(g, box, origin, rows);
        for (ptrdiff_t from = 0, to; from < targets; from = to) {
            to = CK_TYPED(least)(from + slab, targets);
            CK_TYPED(fill_box)(g, box, x, channels, origin, to, rows);
            if (reached < area) /* targets that no tap reaches */
                for (ptrdiff_t p = 0; p < slab * step * width * L; p += L) vstore(out + p, b);
            const T *own = w;
            for (ptrdiff_t j = 0; j < g->phases; own += g->phase[j++].taps * L)
                CK_TYPED(sum_pixels)(g, g->phase + j, origin, from, to, box, own, b, skip, out);
            const ptrdiff_t top = (origin + from) * step,
                            height = CK_TYPED(least)((to - from) * step, g->target[1] - top);
            if (CK_TYPED(finishes) && g->finish)
                for (ptrdiff_t p = 0; p < height * width * L; p += L)
                    vstore(out + p, CK_TYPED(within_limits)(g->finish, vload(out + p)));
            CK_TYPED(from_lanes)(y + top * width, area, channels, out, height * width);
        }
        origin = more ? origin + g->block[1] : 0;
        if (!more && ++part == parts) part = 0, image++;
    }
}

/* Sums of products of some rows of one image, added to sum[taps][L]. */
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
    T *box = scratch, *tile = box + g->box[1] * g->box[2] * L, *sum = tile + g->slab * width * L;
    memset(box, 0, (size_t)(g->box[1] * g->box[2] * L) * sizeof(T));
    for (ptrdiff_t part = first; part < last; part++) {
        const ptrdiff_t channel = part * L, channels = CK_TYPED(least)(L, g->groups - channel);
        T *total = sum + taps * L;
        memset(total, 0, (size_t)(taps * L) * sizeof(T));
        for (ptrdiff_t i = from; i < to; i++) {
            const ptrdiff_t origin = i % g->blocks[1] * g->block[1], plane0 = i / g->blocks[1] * g->groups + channel;
            const ptrdiff_t targets = CK_TYPED(least)(g->block[1], g->target[1] - origin);
            ptrdiff_t rows[2];
            memset(sum, 0, (size_t)(taps * L) * sizeof(T));
            CK_TYPED(open_box)(g, box, origin, rows);
            for (ptrdiff_t y = 0, to; y < targets; y = to) {
                to = CK_TYPED(least)(y + g->slab, targets);
                CK_TYPED(fill_box)(g, box, (const T *)x + plane0 * plane, channels, origin, to, rows);
                CK_TYPED(to_lanes)(tile, g->dense, (const T *)dy + plane0 * area + (origin + y) * width, area, channels,
                                   (to - y) * width);
                CK_TYPED(dot_pixels)(g, box + y * g->source_step[1] * g->box[2] * L, tile, to - y, sum);
            }
            for (ptrdiff_t k = 0; k < taps * L; k += L) vstore(total + k, vload(total + k) + vload(sum + k));
        }
        CK_TYPED(from_lanes)((T *)dw + channel * taps, taps, channels, total, taps);
    }
}
