/* Compiled once per dtype by depthwise.kernel.c. */

/* Whether kernels finish their sums, and n of them where something follows: 40 bytes a vector, which only float32 at AVX2
 * and AVX-512 has been seen to be worth; others leave it to a pass over what is still in L1. */
enum { CK_TYPED(finishes) = CK_VBYTES >= 32 && sizeof(T) == 4 };
CK_INLINE void CK_TYPED(limit_sums)(const ck_finish *f, V *sums, const int n)
{
    if (CK_TYPED(finishes) && f) CK_UNROLL for (int i = 0; i < n; i++) sums[i] = CK_TYPED(within_limits)(f, sums[i]);
}

/* ---- the padded copy ---------------------------------------------------------------------------------- */

CK_INLINE ptrdiff_t CK_TYPED(lane)(ptrdiff_t i) { return i < 0 ? 0 : i > L ? L : i; }

/* The vector at x[i], zero outside [0, n). */
CK_INLINE V CK_TYPED(load_inside)(const T *x, ptrdiff_t n, ptrdiff_t i)
{
    if (i >= 0 && i + L <= n) return vload(x + i);
    return vload_lanes(x + i, vlanes(CK_TYPED(lane)(-i), CK_TYPED(lane)(n - i)));
}

CK_INLINE ptrdiff_t CK_TYPED(least)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* row[a] = 0 for a in [from, to), and up to a vector behind. */
CK_INLINE void CK_TYPED(clear)(T *row, ptrdiff_t from, ptrdiff_t to)
{
    for (ptrdiff_t a = from; a < to; a += L) vstore(row + a, (V){0});
}

/* y[a] = x[a] for a below n; of less than a vector by the lanes, with zeros behind. */
CK_INLINE void CK_TYPED(copy)(T *y, const T *x, ptrdiff_t n, VL lanes)
{
    if (n < L)
        vstore(y, vload_lanes(x, lanes));
    else
        for (ptrdiff_t a = 0; a < n; a += L) {
            const ptrdiff_t i = CK_TYPED(least)(a, n - L);
            vstore(y + i, vload(x + i));
        }
}

/* n / step rounded up, 0 for a negative n. */
CK_INLINE ptrdiff_t CK_TYPED(up)(ptrdiff_t n, ptrdiff_t step) { return n <= 0 ? 0 : (n + step - 1) / step; }

/* row[r * pitch + i] = x[first + r + step * i], zero outside [0, n): the residues r of a strided row, each a run. */
CK_INLINE void CK_TYPED(split_row)(T *row, ptrdiff_t pitch, ptrdiff_t step, const T *x, ptrdiff_t n, ptrdiff_t first)
{
    if (step == 2) {
        const ptrdiff_t inside = CK_TYPED(least)(pitch, (n - first) / 2) - L; /* of whole vectors, from the second on */
        for (ptrdiff_t i = 0; i < pitch; i += L) {
            if (i > 0 && i <= inside && first >= -L) {
                V lo = vload(x + first + 2 * i), hi = vload(x + first + 2 * i + L);
                vstore(row + i, veven(lo, hi));
                vstore(row + pitch + i, vodd(lo, hi));
                continue;
            }
            V lo = CK_TYPED(load_inside)(x, n, first + 2 * i), hi = CK_TYPED(load_inside)(x, n, first + 2 * i + L);
            if (i + L <= pitch)
                vstore(row + i, veven(lo, hi));
            else /* the other residue begins behind it */
                vstore_part(row + i, veven(lo, hi), pitch - i);
            vstore(row + pitch + i, vodd(lo, hi));
        }
        return;
    }
    memset(row, 0, (size_t)(step * pitch) * sizeof(T));
    const ptrdiff_t a = first < 0 ? -first : 0, end = n - first < step * pitch ? n - first : step * pitch;
    for (ptrdiff_t r = 0; r < step; r++)
        for (ptrdiff_t i = CK_TYPED(up)(a - r, step); r + step * i < end; i++)
            row[r * pitch + i] = x[first + r + step * i];
}

/* The box of one source plane, from element `first` along each axis. Rows are filled in ascending order, so that what is
 * written past the end of one is written again by the next; a vector of slack follows the last. */
CK_NOINLINE void CK_TYPED(fill_plane)(const ck_depthwise *g, T *box, const T *source, const ptrdiff_t first[3])
{
    const ptrdiff_t step = g->source_step[2], pitch = g->box[2], width = g->source[2];
    const ptrdiff_t lo = first[2] < 0 ? CK_TYPED(least)(-first[2], pitch) : 0, at = first[2] + lo;
    const ptrdiff_t n = at < width ? CK_TYPED(least)(width - at, pitch - lo) : 0; /* that a row takes from the source */
    const VL lanes = vlanes(0, CK_TYPED(least)(n, L));
    const ptrdiff_t ahead =
        step == 1 && lo <= L ? lo : 0; /* of the next row's zeros, which one vector stores with this one's */
    const ptrdiff_t rows = g->box[1], size = step * pitch, plane = g->source[1] * width;
    const ptrdiff_t above = first[1] < 0 ? CK_TYPED(least)(-first[1], rows) : 0;
    const ptrdiff_t end = CK_TYPED(least)(rows, g->source[1] - first[1]), inside = end > above ? end - above : 0;
    T *row = box, *zeros = box; /* from here to the next row inside the source */
    for (ptrdiff_t z = first[0]; z < first[0] + g->box[0]; z++, row += (rows - above - inside) * size) {
        row += above * size;
        if (z < 0 || z >= g->source[0]) {
            row += inside * size;
            continue;
        }
        CK_TYPED(clear)(zeros, 0, row - zeros + ahead);
        const T *x = source + z * plane + (first[1] + above) * width;
        for (ptrdiff_t y = 0; y < inside; y++, row += size, x += width) {
            if (CK_VBYTES == 32) /* the same row of the next plane, which the processor does not expect */
                for (ptrdiff_t i = 0; i < n; i += 64 / (ptrdiff_t)sizeof(T)) __builtin_prefetch(x + plane + at + i);
            if (step > 1) {
                CK_TYPED(split_row)(row, pitch, step, x, width, first[2]);
                continue;
            }
            if (!ahead) CK_TYPED(clear)(row, 0, lo);
            CK_TYPED(copy)(row + lo, x + at, n, lanes);
            CK_TYPED(clear)(row, lo + n, pitch + ahead);
        }
        zeros = row;
    }
    CK_TYPED(clear)(zeros, 0, row - zeros);
    vstore(row, (V){0});
}

/* Which block of which group of which image a unit is. */
typedef struct {
    ptrdiff_t image, group, origin[3];
} CK_TYPED(unit);

CK_INLINE CK_TYPED(unit) CK_TYPED(unit_at)(const ck_depthwise *g, ptrdiff_t i)
{
    CK_TYPED(unit) u;
    for (int axis = 2; axis >= 0; axis--) {
        u.origin[axis] = i % g->blocks[axis] * g->block[axis];
        i /= g->blocks[axis];
    }
    u.group = i % g->groups;
    u.image = i / g->groups;
    return u;
}

/* ---- any taps: sums ----------------------------------------------------------------------------------- */

/* Runs of vectors of pixels, wherever they lie, P of them and F filters at a time, which share a table of taps. */
enum {
    CK_TYPED(slots) = 8,
    CK_TYPED(most_run) = 24,
    CK_TYPED(most_filters) = CK_REGISTERS == 32 ? CK_DEPTHWISE_FILTERS : 4,
    CK_TYPED(most_sums) = 24
};
typedef struct {
    const T *x[CK_TYPED(most_run) + CK_TYPED(slots)]; /* each readable for L elements at every offset */
    ptrdiff_t to[CK_TYPED(most_run) + CK_TYPED(slots)]; /* where in y they go; behind the last there are copies of it */
    T *y;
    ptrdiff_t vectors, most, n; /* of this run and of any, and elements of each of them, L or fewer */
    const ptrdiff_t *offset;
    ptrdiff_t taps, chunk;
    const T *w; /* [taps][F] */
    const T *bias; /* F of them */
    const ck_finish *finish; /* or NULL */
    ptrdiff_t y_filter;
} CK_TYPED(run);

CK_INLINE void CK_TYPED(run_tile)(const CK_TYPED(run) * t, ptrdiff_t i, ptrdiff_t first, ptrdiff_t last, T *sum,
                                  const int F, const int P)
{
    const ptrdiff_t y_filter = t->y_filter, n = t->n;
    const ptrdiff_t *const offset = t->offset;
    const T *const bias = t->bias, *x[CK_TYPED(slots)], *w = t->w + first * F;
    V acc[CK_TYPED(most_sums)];
    CK_UNROLL for (int p = 0; p < P; p++) x[p] = t->x[i + p];
    if (CK_VBYTES == 32 && first == 0) /* the lines of y, which have the time of a tile to come */
        CK_UNROLL for (int f = 0; f < F; f++)
        {
            __builtin_prefetch(t->y + t->to[i] + f * y_filter, 1, 3);
            __builtin_prefetch(t->y + t->to[i + P - 1] + L - 1 + f * y_filter, 1, 3);
        }
    CK_UNROLL for (int j = 0; j < F * P; j++) acc[j] = (V){0};
    ptrdiff_t k = first;
    do {
        const ptrdiff_t o = offset[k];
        V held[CK_TYPED(slots)]; /* what there is less of, for which registers are left */
        CK_UNROLL for (int j = 0; j < (F < P ? F : P); j++)
        {
            held[j] = F < P ? vset1(w[j]) : vload(x[j] + o);
            CK_HOLD(held[j]);
        }
        CK_UNROLL for (int j = 0; j < (F < P ? P : F); j++)
        {
            V other = F < P ? vload(x[j] + o) : vset1(w[j]);
            if (F < P) CK_HOLD(other);
            if (F < P)
                CK_UNROLL for (int f = 0; f < F; f++) acc[f * P + j] = vfma(held[f], other, acc[f * P + j]);
            else
                CK_UNROLL for (int p = 0; p < P; p++) acc[j * P + p] = vfma(other, held[p], acc[j * P + p]);
        }
        w += F;
    } while (++k < last);
    if (first > 0) CK_UNROLL for (int j = 0; j < F * P; j++) acc[j] += vload(sum + j * L);
    if (last < t->taps) {
        CK_UNROLL for (int j = 0; j < F * P; j++) vstore(sum + j * L, acc[j]);
        return;
    }
    T *y[CK_TYPED(slots)];
    CK_UNROLL for (int p = 0; p < P; p++) y[p] = t->y + t->to[i + p];
    CK_UNROLL for (int f = 0; f < F; f++)
    {
        V b = vset1(bias[f]);
        CK_UNROLL for (int p = 0; p < P; p++) acc[f * P + p] += b;
    }
    CK_TYPED(limit_sums)(t->finish, acc, F * P);
    if (n == L) CK_UNROLL for (int f = 0; f < F; f++) CK_UNROLL for (int p = 0; p < P; p++)
        {
            if (CK_VBYTES != 32) __builtin_prefetch(y[p] + P * L, 1, 3); /* for the next tile */
            vstore(y[p], acc[f * P + p]);
            y[p] += y_filter;
        }
    else
        CK_UNROLL for (int f = 0; f < F; f++) CK_UNROLL for (int p = 0; p < P; p++)
            vstore_part(y[p] + f * y_filter, acc[f * P + p], n);
}

/* A chunk of taps after the other, of all tiles of a run at AVX2, where its planes stay in L1, or of one. */
CK_INLINE void CK_TYPED(run_tiles)(const CK_TYPED(run) * t, const int F, const int P)
{
    enum { MOST = CK_TYPED(most_run) * CK_TYPED(most_filters) };
    const ptrdiff_t together = CK_VBYTES == 32 ? CK_TYPED(most_run) : P, taps = t->taps, chunk = t->chunk;
    T sums[(CK_VBYTES == 32 ? MOST : CK_TYPED(most_sums)) * L];
    for (ptrdiff_t i = 0; i < t->vectors; i += together)
        for (ptrdiff_t k = 0, last; k < taps; k = last) {
            last = taps - k <= chunk ? taps : k + chunk;
            for (ptrdiff_t j = 0; j < together && i + j < t->vectors; j += P)
                CK_TYPED(run_tile)(t, i + j, k, last, sums + j * F * L, F, P);
        }
}

/* Out of line: inlined into the loops below, GCC spills the sums. Pixels per tile fill the registers. */
#define CK_TILES(DO) DO(1, 8, 8) DO(2, 8, 4) DO(3, 8, 4) DO(4, 6, 3) DO(8, 3, 1)
#define CK_TILE(F, P32, P16)                                                                                           \
    CK_NOINLINE void CK_TYPED(tiles##F)(const CK_TYPED(run) * t)                                                       \
    {                                                                                                                  \
        if (F <= CK_TYPED(most_filters)) CK_TYPED(run_tiles)(t, F, CK_REGISTERS == 32 ? P32 : P16);                    \
    }
CK_TILES(CK_TILE)
#undef CK_TILE
#define CK_TILE(F, P32, P16) [F] = CK_TYPED(tiles##F),
static void (*const CK_TYPED(tiles_of)[])(const CK_TYPED(run) *) = {CK_TILES(CK_TILE)};
#undef CK_TILE

/* Filters of the next tile where so many are left. */
CK_INLINE ptrdiff_t CK_TYPED(filters_of)(ptrdiff_t left)
{
    return left >= CK_TYPED(most_filters) ? CK_TYPED(most_filters) : left >= 4 ? 4 : left;
}

/* Weights as the tiles read them: [group][phase][filters of a tile][tap][filter]. */
static void CK_TYPED(pack_taps)(const ck_depthwise *g, const void *weights, void *packed)
{
    T *to = packed;
    for (ptrdiff_t group = 0; group < g->groups; group++)
        for (const ck_depthwise_phase *s = g->phase; s < g->phase + g->phases; s++)
            for (ptrdiff_t f = 0, F; f < g->filters; f += F) {
                F = CK_TYPED(filters_of)(g->filters - f);
                const T *w = (const T *)weights + group * g->w_group + f * g->w_filter;
                for (ptrdiff_t k = 0; k < s->taps; k++)
                    for (ptrdiff_t i = 0; i < F; i++) *to++ = w[i * g->w_filter + s->weight[k]];
            }
}

/* Where the results of one phase go: row (z, y) starts at y + z * z_step + y * y_step, F filters y_filter apart. */
typedef struct {
    T *y;
    ptrdiff_t z_step, y_step, y_filter;
} CK_TYPED(sink);

/* The next run of the pixels of count[0] x count[1] rows of count[2], from place `at` on; 0 if none are left. The last
 * vector of a row overlaps the one before. */
CK_INLINE ptrdiff_t CK_TYPED(next_run)(const ck_depthwise *g, CK_TYPED(run) * t, const T *box, CK_TYPED(sink) to,
                                       const ptrdiff_t count[3], ptrdiff_t at[3])
{
    const ptrdiff_t row = g->source_step[2] * g->box[2];
    ptrdiff_t p = 0;
    while (p < t->most && at[0] < count[0]) {
        const T *x = box + (at[0] * g->source_step[0] * g->box[1] + at[1] * g->source_step[1]) * row;
        const ptrdiff_t y = at[0] * to.z_step + at[1] * to.y_step;
        for (; at[2] < count[2] && p < t->most; at[2] += L, p++) {
            const ptrdiff_t i = CK_TYPED(least)(at[2], count[2] - t->n);
            t->x[p] = x + i;
            t->to[p] = y + i;
        }
        if (at[2] < count[2]) break;
        at[2] = 0;
        if (++at[1] == count[1]) at[1] = 0, at[0]++;
    }
    for (int i = 0; p && i < CK_TYPED(slots); i++) t->x[p + i] = t->x[p - 1], t->to[p + i] = t->to[p - 1];
    return t->vectors = p;
}

/* One phase of one unit, filters [first, end); w are those of the phase. At AVX2 all filters follow on a run of pixels,
 * which stays in L1; elsewhere long runs of y are better. */
CK_NOINLINE void CK_TYPED(sum_filters)(const ck_depthwise *g, const ck_depthwise_phase *s, const T *box, const T *w,
                                       const T *bias, CK_TYPED(sink) to, const ptrdiff_t count[3], ptrdiff_t first,
                                       ptrdiff_t end)
{
    const T none[CK_DEPTHWISE_FILTERS] = {0};
    CK_TYPED(run)
    t = {.offset = s->offset,
         .taps = s->taps,
         .chunk = g->planes > 1 ? CK_DEPTHWISE_CHUNK_OF_PLANES : CK_DEPTHWISE_CHUNK,
         .most = CK_TYPED(most_run),
         .n = CK_TYPED(least)(count[2], L),
         .finish = g->finish,
         .y_filter = to.y_filter};
    for (ptrdiff_t next; first < end; first = next) {
        ptrdiff_t at[3] = {0, 0, 0};
        next = CK_VBYTES == 32 ? end : first + CK_TYPED(filters_of)(end - first);
        while (CK_TYPED(next_run)(g, &t, box, to, count, at))
            for (ptrdiff_t f = first, F; f < next; f += F) {
                F = CK_TYPED(filters_of)(end - f);
                t.w = w + f * s->taps;
                t.bias = bias ? bias + f : none;
                t.y = to.y + f * to.y_filter;
                CK_TYPED(tiles_of)[F](&t);
            }
    }
}

/* y[r + step * i] = run[r * pitch + i] for every y below n: the inverse of split_row. */
CK_INLINE void CK_TYPED(merge_row)(T *y, ptrdiff_t n, const T *run, ptrdiff_t pitch, ptrdiff_t step)
{
    ptrdiff_t a = 0;
    if (step == 2)
        for (; a + 2 * L <= n; a += 2 * L) {
            V even = vload(run + a / 2), odd = vload(run + pitch + a / 2);
            vstore(y + a, vziplo(even, odd));
            vstore(y + a + L, vziphi(even, odd));
        }
    for (ptrdiff_t r = 0; r < step; r++)
        for (ptrdiff_t i = CK_TYPED(up)(a - r, step); r + step * i < n; i++) y[r + step * i] = run[r * pitch + i];
}

/* Phases of one (depth, height) residue whose targets are `step` apart along a row: computed side by side, then
 * interleaved into the rows. Residues that no tap reaches are bias. */
CK_INLINE void CK_TYPED(sum_strided)(const ck_depthwise *g, const ck_depthwise_phase *s, ptrdiff_t phases, const T *box,
                                     const T *w, const T *bias, CK_TYPED(sink) to, ptrdiff_t column,
                                     const ptrdiff_t count[3], T *rows)
{
    const ptrdiff_t step = s->step[2], pitch = (count[2] + L - 1) / L * L, lines = count[0] * count[1];
    const ptrdiff_t n = CK_TYPED(least)(step * count[2], g->target[2] - column);
    for (ptrdiff_t f = g->first_filter, F; f < g->end_filter; f += F) {
        F = CK_TYPED(filters_of)(g->end_filter - f);
        for (ptrdiff_t i = 0; phases < step && i < F * lines * step * pitch; i++)
            rows[i] = bias ? bias[f + i / (lines * step * pitch)] : 0;
        const T *weights = w;
        for (ptrdiff_t i = 0; i < phases; weights += g->filters * s[i++].taps) {
            const ptrdiff_t y_filter = lines * step * pitch;
            const CK_TYPED(sink)
                aside = {rows + s[i].start[2] * pitch - f * y_filter, count[1] * step * pitch, step * pitch, y_filter};
            CK_TYPED(sum_filters)(g, s + i, box, weights, bias, aside, count, f, f + F);
        }
        for (ptrdiff_t i = 0; i < F * lines; i++)
            CK_TYPED(merge_row)(to.y + (f + i / lines) * to.y_filter + i % lines / count[1] * to.z_step +
                                    i % count[1] * to.y_step,
                                n, rows + i * step * pitch, pitch, step);
    }
}

/* The rows of a plane as one run, what lies between their targets included, from which they are taken afterwards. */
CK_INLINE void CK_TYPED(sum_flat)(const ck_depthwise *g, const ck_depthwise_phase *s, const T *box, const T *w,
                                  const T *bias, CK_TYPED(sink) to, const ptrdiff_t count[3], T *run)
{
    const ptrdiff_t pitch = g->box[2], n = CK_TYPED(least)(count[2], L), length = (count[1] - 1) * pitch + count[2];
    const ptrdiff_t all[3] = {count[0], 1, length};
    for (ptrdiff_t f = g->first_filter, F; f < g->end_filter; f += F) {
        F = CK_TYPED(filters_of)(g->end_filter - f);
        const ptrdiff_t volume = count[0] * length;
        const CK_TYPED(sink) aside = {run - f * volume, length, 0, volume};
        CK_TYPED(sum_filters)(g, s, box, w, bias, aside, all, f, f + F);
        const T *from = run;
        for (ptrdiff_t i = 0; i < F; i++)
            for (ptrdiff_t z = 0; z < count[0]; z++, from += length)
                for (ptrdiff_t y = 0; y < count[1]; y++) {
                    T *row = to.y + (f + i) * to.y_filter + z * to.z_step + y * to.y_step;
                    if (n < L)
                        vstore_part(row, vload(from + y * pitch), n);
                    else
                        CK_TYPED(copy)(row, from + y * pitch, count[2], vlanes(0, L));
                }
    }
}

static void CK_TYPED(sum_taps)(const ck_depthwise *g, const void *source, const void *w, const void *bias, void *target,
                               ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[0] * g->source[1] * g->source[2];
    const ptrdiff_t area = g->target[1] * g->target[2], volume = g->target[0] * area;
    T *const copy = scratch, *rows = copy + (g->in_place ? 0 : g->planes * g->plane_pitch + 2 * L);
    for (ptrdiff_t i = first; i < last; i++) {
        const CK_TYPED(unit) u = CK_TYPED(unit_at)(g, i);
        const ptrdiff_t channel = u.image * g->groups + u.group;
        ptrdiff_t corner[3];
        for (int a = 0; a < 3; a++) corner[a] = u.origin[a] * g->source_step[a] - g->lo[a];
        const T *x = (const T *)source + channel * g->planes * plane, *box = copy;
        if (g->in_place) box = x + (corner[0] * g->source[1] + corner[1]) * g->source[2] + corner[2];
        for (ptrdiff_t c = 0; c < g->planes && !g->copied && !g->in_place; c++)
            CK_TYPED(fill_plane)(g, copy + c * g->plane_pitch, x + c * plane, corner);
        const T *weights = (const T *)w + u.group * g->w_packed, *next = weights;
        const T *b = bias ? (const T *)bias + u.group * g->filters : NULL;
        for (ptrdiff_t j = 0, run; j < g->phases; j += run, weights = next) {
            const ck_depthwise_phase *s = g->phase + j;
            /* the phases that differ along a row only */
            for (run = 0; j + run < g->phases && s[run].start[0] == s->start[0] && s[run].start[1] == s->start[1];)
                next += g->filters * s[run++].taps;
            ptrdiff_t count[3], at[3];
            for (int a = 0; a < 3; a++) {
                count[a] = CK_TYPED(least)(g->block[a], s->count[a] - u.origin[a]);
                at[a] = u.origin[a] * s->step[a] + (a < 2 ? s->start[a] : 0);
            }
            for (ptrdiff_t k = 1; k < run; k++) {
                ptrdiff_t longest = CK_TYPED(least)(g->block[2], s[k].count[2] - u.origin[2]);
                if (longest > count[2]) count[2] = longest;
            }
            if (count[0] <= 0 || count[1] <= 0 || count[2] <= 0) continue;
            const CK_TYPED(sink)
                to = {(T *)target + channel * g->filters * volume + at[0] * area + at[1] * g->target[2] + at[2],
                      s->step[0] * area, s->step[1] * g->target[2], volume};
            if (s->step[2] > 1)
                CK_TYPED(sum_strided)(g, s, run, box, weights, b, to, at[2], count, rows);
            else if (CK_VBYTES == 32 && g->flat)
                CK_TYPED(sum_flat)(g, s, box, weights, b, to, count, rows);
            else
                CK_TYPED(sum_filters)(g, s, box, weights, b, to, count, g->first_filter, g->end_filter);
        }
    }
}

/* ---- any taps: dot products ---------------------------------------------------------------------------- */

/* Rows of dy against rows of the padded box, for up to most_taps taps at a time. */
enum { CK_TYPED(most_taps) = 9 };
typedef struct {
    const T *x, *dy;
    ptrdiff_t x_row, dy_row, rows, n; /* n elements of each row */
    const ptrdiff_t *offset;
    T *sum; /* [taps][L], added to */
} CK_TYPED(dots);

CK_INLINE void CK_TYPED(run_dots)(const CK_TYPED(dots) * t, const int K, const int S)
{
    V acc[CK_TYPED(most_taps)];
    ptrdiff_t offset[CK_TYPED(most_taps)];
    CK_UNROLL for (int k = 0; k < K; k++) acc[k] = (V){0}, offset[k] = t->offset[k];
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const T *x = t->x + r * t->x_row, *dy = t->dy + r * t->dy_row;
        ptrdiff_t i = 0;
        for (; i + L <= t->n; i += L) {
            V d = vload(dy + i);
            CK_UNROLL for (int k = 0; k < K; k++) acc[k] = vfma(d, vload(x + S * i + offset[k]), acc[k]);
        }
        if (i < t->n) { /* what lies past the row may be infinite: it must not meet a zero */
            V d = vload_part(dy + i, t->n - i);
            CK_UNROLL for (int k = 0; k < K; k++) acc[k] = vfma(d, vload_part(x + i + offset[k], t->n - i), acc[k]);
        }
    }
    CK_UNROLL for (int k = 0; k < K; k++) vstore(t->sum + k * L, vload(t->sum + k * L) + acc[k]);
}

#define CK_DOTS(K)                                                                                                     \
    CK_NOINLINE void CK_TYPED(dots_##K##_1)(const CK_TYPED(dots) * t) { CK_TYPED(run_dots)(t, K, 1); }                 \
    CK_NOINLINE void CK_TYPED(dots_##K##_2)(const CK_TYPED(dots) * t) { CK_TYPED(run_dots)(t, K, 2); }
CK_DOTS(1)
CK_DOTS(2)
CK_DOTS(3)
CK_DOTS(4)
CK_DOTS(5)
CK_DOTS(6)
CK_DOTS(7)
CK_DOTS(8)
CK_DOTS(9)
#undef CK_DOTS
#define CK_DOTS(K) {CK_TYPED(dots_##K##_1), CK_TYPED(dots_##K##_2)}
static void (*const CK_TYPED(dots_of)[][2])(const CK_TYPED(dots) *) = {{NULL, NULL}, CK_DOTS(1), CK_DOTS(2), CK_DOTS(3),
                                                                       CK_DOTS(4),   CK_DOTS(5), CK_DOTS(6), CK_DOTS(7),
                                                                       CK_DOTS(8),   CK_DOTS(9)};
#undef CK_DOTS

/* Add one run of at most CK_DEPTHWISE_RUN vectors to the sums of all taps. */
CK_INLINE void CK_TYPED(dot_run)(CK_TYPED(dots) t, const ptrdiff_t *offset, ptrdiff_t taps, int S)
{
    const ptrdiff_t parts = (taps + CK_TYPED(most_taps) - 1) / CK_TYPED(most_taps);
    T *sum = t.sum;
    for (ptrdiff_t i = 0; i < parts; i++) {
        ptrdiff_t k = taps * i / parts, n = taps * (i + 1) / parts - k;
        t.offset = offset + k;
        t.sum = sum + k * L;
        CK_TYPED(dots_of)[n][S - 1](&t);
    }
}

/* One block of one image: rows are taken together, or cut, so that a run has CK_DEPTHWISE_RUN vectors at most. */
CK_INLINE void CK_TYPED(dot_block)(const ck_depthwise *g, const T *box, const T *dy, const ptrdiff_t count[3],
                                   const ck_depthwise_phase *s, T *sum)
{
    const ptrdiff_t row = g->source_step[2] * g->box[2], width = CK_DEPTHWISE_RUN * L;
    const ptrdiff_t vectors = (CK_TYPED(least)(count[2], width) + L - 1) / L, together = CK_DEPTHWISE_RUN / vectors;
    CK_TYPED(dots) t = {.x_row = g->source_step[1] * row, .dy_row = g->target[2], .sum = sum};
    for (ptrdiff_t z = 0; z < count[0]; z++)
        for (ptrdiff_t y = 0; y < count[1]; y += together)
            for (ptrdiff_t i = 0; i < count[2]; i += width) {
                t.x = box + (z * g->source_step[0] * g->box[1] + y * g->source_step[1]) * row + i;
                t.dy = dy + (z * g->target[1] + y) * g->target[2] + i;
                t.rows = CK_TYPED(least)(together, count[1] - y);
                t.n = CK_TYPED(least)(width, count[2] - i);
                CK_TYPED(dot_run)(t, s->offset, s->taps, 1);
            }
}

/* Where the padded source of the block from `origin` on begins, and how many targets it has along each axis. */
CK_INLINE void CK_TYPED(cut)(const ck_depthwise *g, const ck_depthwise_phase *s, const ptrdiff_t origin[3],
                             ptrdiff_t corner[3], ptrdiff_t count[3])
{
    for (int a = 0; a < 3; a++) {
        corner[a] = origin[a] * g->source_step[a] - g->lo[a];
        count[a] = CK_TYPED(least)(g->block[a], s->count[a] - origin[a]);
    }
}

/* out[k] = sum of the lanes of vector k, L of them at a time: after a transpose lane k of the sum of all is k's. */
CK_NOINLINE void CK_TYPED(sum_lanes)(T *out, const T *sum, ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < n; k += L) {
        V r[L];
        CK_UNROLL for (int i = 0; i < L; i++) r[i] = vload(sum + CK_TYPED(least)(k + i, n - 1) * L);
        vtranspose(r);
        CK_UNROLL for (int half = L / 2; half > 0; half /= 2) CK_UNROLL for (int i = 0; i < half; i++) r[i] +=
            r[i + half];
        if (n - k < L)
            vstore_part(out + k, r[0], n - k);
        else
            vstore(out + k, r[0]);
    }
}

static void CK_TYPED(dot_taps)(const ck_depthwise *g, const void *dy, const void *x, void *dw, ptrdiff_t from,
                               ptrdiff_t to, ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[0] * g->source[1] * g->source[2];
    const ptrdiff_t area = g->target[1] * g->target[2], volume = g->target[0] * area;
    const ptrdiff_t blocks = g->blocks[0] * g->blocks[1] * g->blocks[2];
    ck_depthwise_phase s = g->phase[0];
    s.taps /= g->planes; /* those of plane 0 come first, and every plane is copied to the place of plane 0 */
    T *box = scratch, *sum = box + g->plane_pitch + 2 * L;
    for (ptrdiff_t i = first; i < last; i++) {
        const ptrdiff_t filter = i / g->planes, c = filter / g->filters * g->planes + i % g->planes;
        memset(sum, 0, (size_t)(s.taps * L) * sizeof(T));
        for (ptrdiff_t b = from; b < to; b++) {
            const ptrdiff_t image = b / blocks;
            const CK_TYPED(unit) u = CK_TYPED(unit_at)(g, b % blocks);
            ptrdiff_t corner[3], count[3];
            CK_TYPED(cut)(g, &s, u.origin, corner, count);
            CK_TYPED(fill_plane)(g, box, (const T *)x + (image * g->groups * g->planes + c) * plane, corner);
            CK_TYPED(dot_block)(g, box,
                                (const T *)dy + (image * g->groups * g->filters + filter) * volume +
                                    u.origin[0] * area + u.origin[1] * g->target[2] + u.origin[2],
                                count, &s, sum);
        }
        CK_TYPED(sum_lanes)((T *)dw + i * s.taps, sum, s.taps);
    }
}

/* ---- any taps of several planes and filters: dot products ------------------------------------------------- */

/* Tiles of filters by taps: a vector of x meets dy of every filter, and a vector of dy x of every tap, in registers. */
enum { CK_TYPED(tile_filters) = CK_REGISTERS == 32 ? 4 : 3, CK_TYPED(tile_taps) = CK_REGISTERS == 32 ? 6 : 4 };
typedef struct {
    CK_TYPED(dots) of; /* `offset` and `sum` are those of the tile's first tap, `dy` of its first filter */
    ptrdiff_t dy_filter, sum_filter; /* from one filter to the next */
} CK_TYPED(tile_dots);

CK_INLINE void CK_TYPED(run_tile_dots)(const CK_TYPED(tile_dots) * tile, const int F, const int K)
{
    const CK_TYPED(dots) *t = &tile->of;
    const ptrdiff_t whole = t->n / L * L;
    const VL rest = vlanes(0, t->n - whole);
    V acc[CK_TYPED(tile_filters) * CK_TYPED(tile_taps)];
    const T *x[CK_TYPED(tile_taps)];
    CK_UNROLL for (int i = 0; i < F * K; i++) acc[i] = (V){0};
    CK_UNROLL for (int k = 0; k < K; k++) x[k] = t->x + t->offset[k];
    ptrdiff_t at = 0; /* of a row of x */
    const T *dy = t->dy;
    for (ptrdiff_t r = 0; r < t->rows; r++, at += t->x_row, dy += t->dy_row) {
        for (ptrdiff_t i = 0; i < whole; i += L) {
            V d[CK_TYPED(tile_filters)];
            CK_UNROLL for (int f = 0; f < F; f++) d[f] = vload(dy + f * tile->dy_filter + i);
            CK_UNROLL for (int k = 0; k < K; k++)
            {
                V v = vload(x[k] + at + i);
                CK_HOLD(v);
                CK_UNROLL for (int f = 0; f < F; f++) acc[f * K + k] = vfma(d[f], v, acc[f * K + k]);
            }
        }
        if (whole < t->n) { /* what lies past the row may be infinite: it must not meet a zero */
            V d[CK_TYPED(tile_filters)];
            CK_UNROLL for (int f = 0; f < F; f++) d[f] = vload_lanes(dy + f * tile->dy_filter + whole, rest);
            CK_UNROLL for (int k = 0; k < K; k++)
            {
                V v = vload_lanes(x[k] + at + whole, rest);
                CK_HOLD(v);
                CK_UNROLL for (int f = 0; f < F; f++) acc[f * K + k] = vfma(d[f], v, acc[f * K + k]);
            }
        }
    }
    CK_UNROLL for (int f = 0; f < F; f++) CK_UNROLL for (int k = 0; k < K; k++)
    {
        T *sum = t->sum + f * tile->sum_filter + k * L;
        vstore(sum, vload(sum) + acc[f * K + k]);
    }
}

#define CK_TILE(F, K)                                                                                                  \
    CK_NOINLINE void CK_TYPED(dots_of_##F##_##K)(const CK_TYPED(tile_dots) * t) { CK_TYPED(run_tile_dots)(t, F, K); }
#if CK_REGISTERS == 32
#define CK_EACH_TILE(FILTERS) FILTERS(1) FILTERS(2) FILTERS(3) FILTERS(4)
#define CK_EACH_TAP(F, TILE) TILE(F, 1) TILE(F, 2) TILE(F, 3) TILE(F, 4) TILE(F, 5) TILE(F, 6)
#else
#define CK_EACH_TILE(FILTERS) FILTERS(1) FILTERS(2) FILTERS(3)
#define CK_EACH_TAP(F, TILE) TILE(F, 1) TILE(F, 2) TILE(F, 3) TILE(F, 4)
#endif
#define CK_FILTERS(F) CK_EACH_TAP(F, CK_TILE)
CK_EACH_TILE(CK_FILTERS)
#undef CK_FILTERS
#define CK_PLACE(F, K) CK_TYPED(dots_of_##F##_##K),
#define CK_FILTERS(F) {CK_EACH_TAP(F, CK_PLACE)},
static void (*const CK_TYPED(tile_dots_of)[][CK_TYPED(tile_taps)])(const CK_TYPED(tile_dots) *) = {
    CK_EACH_TILE(CK_FILTERS)};
#undef CK_FILTERS
#undef CK_PLACE
#undef CK_EACH_TAP
#undef CK_EACH_TILE
#undef CK_TILE

/* Filters of one tile against one block of one image: all taps meet a run of CK_DEPTHWISE_RUN vectors at most before
 * the next run. */
CK_INLINE void CK_TYPED(tile_block)(const ck_depthwise *g, const T *box, const T *dy, const ptrdiff_t count[3],
                                    const ck_depthwise_phase *s, ptrdiff_t filters, T *sum)
{
    const ptrdiff_t row = g->source_step[2] * g->box[2], width = CK_DEPTHWISE_RUN * L;
    const ptrdiff_t vectors = (CK_TYPED(least)(count[2], width) + L - 1) / L, together = CK_DEPTHWISE_RUN / vectors;
    const ptrdiff_t parts = (s->taps + CK_TYPED(tile_taps) - 1) / CK_TYPED(tile_taps);
    CK_TYPED(tile_dots)
    t = {.of = {.x_row = g->source_step[1] * row, .dy_row = g->target[2]},
         .dy_filter = g->target[0] * g->target[1] * g->target[2],
         .sum_filter = s->taps * L};
    for (ptrdiff_t z = 0; z < count[0]; z++)
        for (ptrdiff_t y = 0; y < count[1]; y += together)
            for (ptrdiff_t i = 0; i < count[2]; i += width) {
                t.of.x = box + (z * g->source_step[0] * g->box[1] + y * g->source_step[1]) * row + i;
                t.of.dy = dy + (z * g->target[1] + y) * g->target[2] + i;
                t.of.rows = CK_TYPED(least)(together, count[1] - y);
                t.of.n = CK_TYPED(least)(width, count[2] - i);
                for (ptrdiff_t part = 0, k = 0, end; part < parts; part++, k = end) {
                    end = s->taps * (part + 1) / parts;
                    t.of.offset = s->offset + k;
                    t.of.sum = sum + k * L;
                    CK_TYPED(tile_dots_of)[filters - 1][end - k - 1](&t);
                }
            }
}

static void CK_TYPED(dot_tiles)(const ck_depthwise *g, const void *dy, const void *x, void *dw, ptrdiff_t from,
                                ptrdiff_t to, ptrdiff_t first, ptrdiff_t last, void *scratch)
{
    const ptrdiff_t plane = g->source[0] * g->source[1] * g->source[2];
    const ptrdiff_t area = g->target[1] * g->target[2], volume = g->target[0] * area;
    const ptrdiff_t blocks = g->blocks[0] * g->blocks[1] * g->blocks[2];
    const ptrdiff_t tiles = (g->filters + CK_TYPED(tile_filters) - 1) / CK_TYPED(tile_filters);
    const ck_depthwise_phase *s = g->phase;
    T *copy = scratch, *sums = copy + (g->in_place ? 0 : g->planes * g->plane_pitch + 2 * L);
    for (ptrdiff_t i = first, n; i < last; i += n) {
        const ptrdiff_t group = i / tiles, tile = i % tiles, f0 = g->filters * tile / tiles;
        n = CK_TYPED(least)(tiles - tile, last - i);
        const ptrdiff_t count_of_sums = (g->filters * (tile + n) / tiles - f0) * s->taps;
        memset(sums, 0, (size_t)(count_of_sums * L) * sizeof(T));
        for (ptrdiff_t b = from; b < to; b++) {
            const ptrdiff_t image = b / blocks;
            const CK_TYPED(unit) u = CK_TYPED(unit_at)(g, b % blocks);
            ptrdiff_t corner[3], count[3];
            CK_TYPED(cut)(g, s, u.origin, corner, count);
            const T *planes = (const T *)x + (image * g->groups + group) * g->planes * plane, *met = copy;
            if (g->in_place)
                met = planes + (corner[0] * g->source[1] + corner[1]) * g->source[2] + corner[2];
            else
                for (ptrdiff_t c = 0; c < g->planes; c++)
                    CK_TYPED(fill_plane)(g, copy + c * g->plane_pitch, planes + c * plane, corner);
            const T *origin = (const T *)dy + (image * g->groups + group) * g->filters * volume + u.origin[0] * area +
                              u.origin[1] * g->target[2] + u.origin[2];
            for (ptrdiff_t t = tile, f = f0, end; t < tile + n; t++, f = end) {
                end = g->filters * (t + 1) / tiles;
                CK_TYPED(tile_block)(g, met, origin + f * volume, count, s, end - f, sums + (f - f0) * s->taps * L);
            }
        }
        CK_TYPED(sum_lanes)((T *)dw + (group * g->filters + f0) * s->taps, sums, count_of_sums);
    }
}

/* ---- rows in place: one plane per group, square kernel, stride 1 or 2 ----------------------------------- */

#if defined(CK_AVX2)
#include "depthwise/strips.body.h"
#else

/* A strip of N vectors of columns is walked from its first row to its last. Every input row is loaded once, straight
 * from the source: lanes outside it are masked off, rows outside it are read from zeros. It feeds the K output rows
 * that see it, whose sums move up one place per row and leave at the top. */
enum { CK_TYPED(most_kernel) = 7, CK_TYPED(most_vectors) = 4 };

typedef struct {
    const T *x; /* row 0 at the first column that tap 0 of the strip sees, inside the row or not */
    ptrdiff_t x_row, height;     /* rows of x */
    ptrdiff_t first, step;       /* row that tap 0 of the first output row sees, and rows from tap to tap */
    ptrdiff_t dilation;          /* columns from tap to tap, if the stride is 1 */
    const T *zeros;              /* what rows outside x hold */
    int skip;                    /* such rows need not be added: no weight would make a NaN of a zero */
    T *nowhere;                  /* where the sums go that belong to no output row */
    /* lanes of the load of tap s (stride 1), or 2j and 2j + L (stride 2), of the first and the
     * last vector; the others lie inside the row */
    VL lanes[2][CK_TYPED(most_kernel) + 1];
    T *y;
    ptrdiff_t y_row, rows, n; /* rows of y, and how many elements the strip's last vector has */
    const T *w;
    const T *bias;
    const ck_finish *finish; /* or NULL */
} CK_TYPED(strip);

/* What one tap of a row sees; if S is 2 the next one too, whose pixels are the odd lanes of the same loads. */
CK_INLINE void CK_TYPED(load_taps)(const T *x, const VL *lanes, const int S, const int masked, V *pixels)
{
    V lo = masked ? vload_lanes(x, lanes[0]) : vload(x);
    pixels[0] = lo;
    if (S == 1) CK_HOLD(pixels[0]);
    if (S == 2) {
        V hi = masked ? vload_lanes(x + L, lanes[1]) : vload(x + L);
        pixels[0] = veven(lo, hi);
        pixels[1] = vodd(lo, hi);
    }
}

CK_INLINE void CK_TYPED(walk)(const CK_TYPED(strip) * t, const int K, const int S, const int N, const int masked)
{
    enum { MOST = CK_TYPED(most_kernel), VECTORS = CK_TYPED(most_vectors), COLUMNS = MOST + 1 };
    const int A = (K + S - 1) / S; /* output rows that one input row feeds */
    const int hoisted = K * K + A * N + N * S < CK_REGISTERS;
    const ptrdiff_t steps = t->rows + A - 1, x_row = t->x_row, height = t->height, y_row = t->y_row, n = t->n;
    const ptrdiff_t dilation = S == 1 ? t->dilation : 1, step = t->step;
    const int skip = t->skip;
    const V bias = vset1(t->bias ? *t->bias : 0);
    const T *w = t->w, *top = t->x;
    const T *zeros = t->zeros;
    const ck_finish *const finish = t->finish;
    T *y = t->y, *nowhere = t->nowhere;
    V acc[MOST * VECTORS], held[MOST * MOST];
    CK_UNROLL for (int i = 0; i < A * N; i++) acc[i] = (V){0};
    VL head[COLUMNS], tail[COLUMNS];
    if (masked)
        CK_UNROLL for (int s = 0; s < (K + S - 1) / S * S; s++) head[s] = t->lanes[0][s], tail[s] = t->lanes[1][s];
    if (hoisted) CK_UNROLL for (int i = 0; i < K * K; i++) held[i] = vset1(w[i]);
    for (ptrdiff_t i = 0; i < steps; i++) {
        CK_UNROLL for (int r = 0; r < S; r++)
        {
            const ptrdiff_t row = t->first + (i * S + r) * step;
            const int inside = (size_t)row < (size_t)height;
            const T *x = inside ? top + row * x_row : zeros;
            if (!inside && skip) continue;
            CK_UNROLL for (int s = 0; s < K; s += S)
            {
                V pixels[VECTORS * 2];
                CK_UNROLL for (int v = 0; v < N; v++)
                    CK_TYPED(load_taps)(x + v * S * L + s * dilation, v == 0 ? head + s : tail + s, S,
                                        masked && (v == 0 || v == N - 1), pixels + 2 * v);
                CK_UNROLL for (int k = r; k < K; k += S) CK_UNROLL for (int j = s; j < (s + S < K ? s + S : K); j++)
                {
                    V weight = hoisted ? held[k * K + j] : vset1(w[k * K + j]);
                    CK_UNROLL for (int v = 0; v < N; v++) acc[k / S * N + v] =
                        vfma(weight, pixels[2 * v + j - s], acc[k / S * N + v]);
                }
            }
        }
        T *out = i < A - 1 ? nowhere : y + (i - A + 1) * y_row;
        V *const sums = acc + (A - 1) * N;
        CK_UNROLL for (int v = 0; v < N; v++) sums[v] += bias;
        CK_TYPED(limit_sums)(finish, sums, N);
        CK_UNROLL for (int v = 0; v < N; v++)
        {
            if (masked && v == N - 1)
                vstore_part(out + v * L, sums[v], n);
            else
                vstore(out + v * L, sums[v]);
        }
        CK_UNROLL for (int j = A * N - 1; j >= N; j--) acc[j] = acc[j - N];
        CK_UNROLL for (int j = 0; j < N; j++) acc[j] = (V){0};
    }
}

/* Lanes inside a row of `width`, for each load of a vector whose tap 0 sees column `first`. */
CK_INLINE void CK_TYPED(set_lanes)(VL *lanes, ptrdiff_t first, ptrdiff_t width, ptrdiff_t dilation, const int K,
                                   const int S)
{
    for (int s = 0; s < (K + S - 1) / S * S; s++) {
        ptrdiff_t column = first + (S == 1 ? s * dilation : s / 2 * 2 + s % 2 * L);
        lanes[s] = vlanes(CK_TYPED(lane)(-column), CK_TYPED(lane)(width - column));
    }
}

/* Sums, pixels and a weight fit the registers. */
#define CK_STRIP_FITS(K, S, N) (((K) + (S) - 1) / (S) * (N) + (S) * (N) + 1 <= CK_REGISTERS)

/* How many vectors of columns the next strip takes: wide ones load each weight less often. `reach` is what the last
 * load of a strip takes beyond its own columns. */
CK_INLINE int CK_TYPED(vectors_of)(ptrdiff_t left, ptrdiff_t column, ptrdiff_t width, ptrdiff_t reach, const int K,
                                   const int S)
{
    const int inside = column + S * L >= 0 && column + 3 * S * L + reach <= width; /* vectors 1 and 2 of 4 */
    if (CK_STRIP_FITS(K, S, 4) && left > 3 * L && inside) return 4;
    return CK_STRIP_FITS(K, S, 2) && left > L ? 2 : 1;
}

/* All columns of the output rows that t holds, `y` and `x` being column 0 of their first row. */
CK_INLINE void CK_TYPED(sum_columns)(const ck_depthwise *g, CK_TYPED(strip) * t, const T *x, T *y, ptrdiff_t *prepared,
                                     const int K, const int S, void (*const walks[5])(const CK_TYPED(strip) *))
{
    const ptrdiff_t width = g->source[2], across = g->target[2], reach = (K - 1) * t->dilation + S - 1;
    for (ptrdiff_t q = 0; q < across;) {
        const ptrdiff_t left = across - q, column = q * S - g->lo[2];
        const int N = CK_TYPED(vectors_of)(left, column, width, reach, K, S);
        const ptrdiff_t last = column + (N - 1) * S * L;
        const int masked = N == 1 || column < 0 || left < N * L || last + S * L + reach > width;
        if (masked && *prepared != q) { /* often the same strip of the plane before */
            CK_TYPED(set_lanes)(t->lanes[0], column, width, t->dilation, K, S);
            CK_TYPED(set_lanes)(t->lanes[1], last, width, t->dilation, K, S);
            *prepared = q;
        }
        t->x = x + column;
        t->y = y + q;
        t->n = CK_TYPED(least)(left - (N - 1) * L, L);
        walks[N - 1 + (N > 1 && masked)](t);
        q += N * L;
    }
}

CK_INLINE int CK_TYPED(all_finite)(const T *w, ptrdiff_t n)
{
    V z = {0};
    for (ptrdiff_t i = 0; i < n; i += L) z = vfma(vload_part(w + i, CK_TYPED(least)(n - i, L)), (V){0}, z);
    return vsum(z) == 0;
}

#define CK_WALK(K, S, N, masked)                                                                                       \
    CK_NOINLINE void CK_TYPED(walk_##K##_##S##_##N##_##masked)(const CK_TYPED(strip) * t)                              \
    {                                                                                                                  \
        if (CK_STRIP_FITS(K, S, N)) CK_TYPED(walk)(t, K, S, N, masked);                                                \
    }

#if CK_VBYTES == 64
/* 3x3 of stride 2. A row is loaded once: the columns of taps 1 and 2 are the even and the odd lanes of a pair of vectors that
 * begins at tap 1 of the strip, where lines begin if the padding is 1, and tap 0 sees those of tap 2 one lane later. `before`
 * is the vector that ends with the first of them. */
typedef struct {
    VL before, ends[4]; /* lanes inside the row: before it, and of the pairs at both ends of the strip */
} CK_TYPED(pair_lanes);

#define CK_LATER_4 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define CK_LATER_8 7, 8, 9, 10, 11, 12, 13, 14
#define lane_later_f32(before, v) CK_SHUFFLE(before, v, VI, CK_LATER_4)
#define lane_later_f64(before, v) CK_SHUFFLE(before, v, VI, CK_LATER_8)

CK_INLINE V CK_TYPED(load_pair)(const T *x, const CK_TYPED(pair_lanes) * m, int v, int n, V *odd)
{
    V a, b;
    x += 2 * v * L;
    if (v == 0 || v == n - 1) {
        const VL *ends = m->ends + (v == 0 ? 0 : 2);
        a = vload_lanes(x, ends[0]), b = vload_lanes(x + L, ends[1]);
    } else
        a = vload(x), b = vload(x + L);
    *odd = vodd(a, b);
    return veven(a, b);
}

CK_INLINE void CK_TYPED(walk_pairs)(const CK_TYPED(strip) * t, const CK_TYPED(pair_lanes) * lanes, const int N)
{
    const V bias = vset1(t->bias ? *t->bias : 0);
    const CK_TYPED(pair_lanes) m = *lanes;
    V w[9], sums[CK_TYPED(most_vectors)];
    T *y = t->y - t->y_row; /* of no row: the one above the first only begins its sums */
    CK_UNROLL for (int v = 0; v < N; v++) sums[v] = (V){0};
    CK_UNROLL for (int k = 0; k < 9; k++) w[k] = vset1(t->w[k]);
    for (ptrdiff_t i = -1; i < t->rows; i++, y += t->y_row) {
        const ptrdiff_t row = t->first + 2 * i + 1;
        const int inside1 = (size_t)row < (size_t)t->height, inside2 = (size_t)(row + 1) < (size_t)t->height;
        const T *x1 = inside1 ? t->x + row * t->x_row : t->zeros,
                *x2 = inside2 ? t->x + (row + 1) * t->x_row : t->zeros;
        V last1 = inside1 ? vload_lanes(x1 - L, m.before) : (V){0},
          last2 = inside2 ? vload_lanes(x2 - L, m.before) : (V){0};
        V out[CK_TYPED(most_vectors)];
        CK_UNROLL for (int v = 0; v < N; v++)
        {
            V odd1, odd2;
            const V even1 = CK_TYPED(load_pair)(x1, &m, v, N, &odd1), even2 = CK_TYPED(load_pair)(x2, &m, v, N, &odd2);
            const V later1 = CK_TYPED(lane_later)(last1, odd1), later2 = CK_TYPED(lane_later)(last2, odd2);
            last1 = odd1, last2 = odd2;
            out[v] = vfma(w[5], odd1, vfma(w[4], even1, vfma(w[3], later1, sums[v])));
            out[v] = vfma(w[8], odd2, vfma(w[7], even2, vfma(w[6], later2, out[v]))) + bias;
            sums[v] = vfma(w[2], odd2, vfma(w[1], even2, vfma(w[0], later2, (V){0})));
        }
        if (i < 0) continue;
        CK_TYPED(limit_sums)(t->finish, out, N);
        CK_UNROLL for (int v = 0; v < N; v++)
        {
            if (v == N - 1)
                vstore_part(y + v * L, out[v], t->n);
            else
                vstore(y + v * L, out[v]);
        }
    }
}

#define CK_PAIRS_OF_ROWS(N)                                                                                            \
    CK_NOINLINE void CK_TYPED(walk_pairs_##N)(const CK_TYPED(strip) * t, const CK_TYPED(pair_lanes) * m)               \
    {                                                                                                                  \
        CK_TYPED(walk_pairs)(t, m, N);                                                                                 \
    }
CK_PAIRS_OF_ROWS(1)
CK_PAIRS_OF_ROWS(2)
CK_PAIRS_OF_ROWS(3)
CK_PAIRS_OF_ROWS(4)
#undef CK_PAIRS_OF_ROWS

/* All columns of the output rows that t holds, in strips of nearly the same width. */
static void CK_TYPED(sum_pairs)(const ck_depthwise *g, CK_TYPED(strip) * t, const T *x, T *y)
{
    static void (*const walks[])(const CK_TYPED(strip) *, const CK_TYPED(pair_lanes) *) = {
        CK_TYPED(walk_pairs_1), CK_TYPED(walk_pairs_2), CK_TYPED(walk_pairs_3), CK_TYPED(walk_pairs_4)};
    const ptrdiff_t width = g->source[2], across = g->target[2], vectors = (across + L - 1) / L;
    for (ptrdiff_t q = 0, end; q < across; q = end) {
        const ptrdiff_t column = 2 * q + 1 - g->lo[2], left = vectors - q / L, strips = (left + 3) / 4;
        ptrdiff_t n = (left + strips - 1) / strips;
        /* only the pairs at both ends are masked */
        if (n > 2 && (column + 2 * L < 0 || column + 2 * (n - 1) * L > width)) n = 2;
        end = q + n * L;
        const ptrdiff_t last = column + 2 * (n - 1) * L;
        CK_TYPED(pair_lanes) m = {.before = vlanes(CK_TYPED(lane)(L - column), CK_TYPED(lane)(width - column + L))};
        for (int j = 0; j < 4; j++) {
            const ptrdiff_t first = (j < 2 ? column : last) + j % 2 * L;
            m.ends[j] = vlanes(CK_TYPED(lane)(-first), CK_TYPED(lane)(width - first));
        }
        t->x = x + column;
        t->y = y + q;
        t->n = CK_TYPED(least)(across, end) - q - (n - 1) * L;
        walks[n - 1](t, &m);
    }
}
#endif

/* All planes of units [first, last); a unit is a block of rows. */
CK_INLINE void CK_TYPED(sum_rows)(const ck_depthwise *g, const T *source, const T *w, const T *bias, T *target,
                                  ptrdiff_t first, ptrdiff_t last, T *scratch, const int K, const int S,
                                  void (*const walks[5])(const CK_TYPED(strip) *))
{
    const ptrdiff_t width = g->source[2], across = g->target[2], step = g->dilation[1];
    T rotated[CK_TYPED(most_kernel) * CK_TYPED(most_kernel)];
    const ptrdiff_t zeros = 2 * CK_TYPED(most_vectors) * L + CK_TYPED(most_kernel) * g->dilation[2];
    CK_TYPED(strip)
    t = {.x_row = width,
         .height = g->source[1],
         .step = step,
         .dilation = g->dilation[2],
         .zeros = scratch,
         .nowhere = scratch + zeros,
         .y_row = step * across,
         .finish = g->finish};
    ptrdiff_t prepared = -1;
    memset(scratch, 0, (size_t)zeros * sizeof(T));
    for (ptrdiff_t i = first; i < last; i++) {
        const CK_TYPED(unit) u = CK_TYPED(unit_at)(g, i);
        const ptrdiff_t channel = u.image * g->groups + u.group, top = u.origin[1];
        const ptrdiff_t rows = CK_TYPED(least)(g->block[1], g->target[1] - top);
        t.w = w + u.group * K * K;
        if (g->reversed) {
            for (int k = 0; k < K * K; k++) rotated[k] = t.w[K * K - 1 - k];
            t.w = rotated;
        }
        t.skip = K > 3 && CK_TYPED(all_finite)(t.w, K * K); /* finding out pays where it saves more than a few taps */
        t.bias = bias ? bias + u.group : NULL;
        /* with dilation, every step-th output row sees its own rows only: as many separate convolutions */
        for (ptrdiff_t r = 0; r < CK_TYPED(least)(step, rows); r++) {
            t.first = top * S + r - g->lo[1];
            t.rows = (rows - r + step - 1) / step;
            const T *x = source + channel * g->source[1] * width;
            T *y = target + (channel * g->target[1] + top + r) * across;
#if CK_VBYTES == 64
            if (K == 3 && S == 2) {
                CK_TYPED(sum_pairs)(g, &t, x, y);
                continue;
            }
#endif
            CK_TYPED(sum_columns)(g, &t, x, y, &prepared, K, S, walks);
        }
    }
}

#define CK_SUM_ROWS(K, S)                                                                                              \
    CK_WALK(K, S, 1, 1)                                                                                                \
    CK_WALK(K, S, 2, 0)                                                                                                \
    CK_WALK(K, S, 2, 1)                                                                                                \
    CK_WALK(K, S, 4, 0)                                                                                                \
    CK_WALK(K, S, 4, 1)                                                                                                \
    static void CK_TYPED(sum_rows_##K##_##S)(const ck_depthwise *g, const void *source, const void *w,                 \
                                             const void *bias, void *target, ptrdiff_t first, ptrdiff_t last,          \
                                             void *scratch)                                                            \
    {                                                                                                                  \
        static void (*const walks[])(const CK_TYPED(strip) *) = {                                                      \
            CK_TYPED(walk_##K##_##S##_1_1), CK_TYPED(walk_##K##_##S##_2_0), CK_TYPED(walk_##K##_##S##_2_1),            \
            CK_TYPED(walk_##K##_##S##_4_0), CK_TYPED(walk_##K##_##S##_4_1)};                                           \
        CK_TYPED(sum_rows)(g, source, w, bias, target, first, last, scratch, K, S, walks);                             \
    }
CK_SUM_ROWS(3, 1)
CK_SUM_ROWS(5, 1)
CK_SUM_ROWS(7, 1)
CK_SUM_ROWS(3, 2)
CK_SUM_ROWS(5, 2)
CK_SUM_ROWS(7, 2)
#undef CK_SUM_ROWS
#undef CK_WALK
#endif

#include "depthwise/channels.body.h"

/* ---- registry ------------------------------------------------------------------------------------------ */

#define CK_DEPTHWISE_ROW(name, kernel, stride, lanes, filters, pack, sum, dot)                                         \
    {#name, kernel, stride, lanes, filters, CK_TYPED(finishes), CK_TYPED(pack), CK_TYPED(sum), CK_TYPED(dot)},
#define none_f32 NULL
#define none_f64 NULL
#if !defined(CK_AVX2)
#define dot_rows_3_1_f32 NULL
#define dot_rows_3_2_f32 NULL
#endif
#define dot_rows_3_1_f64 NULL /* double goes by channels: 2 KB of the wheel */
#define dot_rows_3_2_f64 NULL
extern const ck_depthwise_row CK_KERNEL(ck_depthwise)[];
const ck_depthwise_row CK_KERNEL(ck_depthwise)[] = {
#include "depthwise/kernels.def"
    {NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL}};
#undef CK_DEPTHWISE_ROW
#undef none_f32
#undef none_f64
#undef dot_rows_3_1_f32
#undef dot_rows_3_1_f64
#undef dot_rows_3_2_f32
#undef dot_rows_3_2_f64
