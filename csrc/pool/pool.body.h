/* Pooling for one dtype; included by pool.kernel.c once per dtype. The contract is in pool.h, the plan in
 * README.md.
 *
 * Forward without indices: the rows of a window are reduced into one row of scratch memory whose margins hold
 * the neutral element (`vertical`), that row by its column taps into the output (`horizontal`). */
#ifndef T
#error "include base/float32.h or base/float64.h first"
#endif

/* `next` wins over `acc` where it is better or NaN; equal values keep `acc`. */
CK_INLINE V CK_TYPED(join)(int op, V next, V acc)
{
    return op == POOL_MAX ? vmax(next, acc) : op == POOL_MIN ? vmin(next, acc) : acc + next;
}

CK_INLINE T CK_TYPED(join1)(int op, T next, T acc)
{
    if (op == POOL_SUM) return acc + next;
    return (op == POOL_MAX ? next > acc : next < acc) || next != next ? next : acc;
}

CK_INLINE T CK_TYPED(neutral)(int op) { return op == POOL_MAX ? -(T)INFINITY : op == POOL_MIN ? (T)INFINITY : (T)0; }

CK_INLINE void CK_TYPED(fill)(T *p, ptrdiff_t n, T value)
{
    for (ptrdiff_t i = 0; i < n; i++) p[i] = value;
}

/* Ask for n elements some way behind p: the hardware's own reading ahead stops at the end of every page. */
CK_INLINE void CK_TYPED(fetch)(const T *p, ptrdiff_t n)
{
    const char *at = (const char *)p + CK_POOL_AHEAD, *end = at + n * (ptrdiff_t)sizeof(T);
    for (; at < end; at += 64) __builtin_prefetch(at);
}

/* ---- rows of a window -> one row */

typedef struct {
    const T *x;                          /* the first element that counts */
    ptrdiff_t nd, nh, step_d, step_h, n; /* taps along d and h, and columns */
} CK_TYPED(rows_t);

#define ROWS CK_TYPED(rows_t)

/* The rows of n columns (L or, if the whole row is shorter than a vector, fewer) from column j on. */
CK_INLINE V CK_TYPED(column)(int op, const ROWS *r, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t j, int part)
{
    const T *x = r->x + j;
    V acc = part ? vload_part(x, r->n) : vload(x);
    for (ptrdiff_t d = 0; d < nd; d++)
        for (ptrdiff_t h = d == 0; h < nh; h++) {
            const T *row = x + d * r->step_d + h * r->step_h;
            acc = CK_TYPED(join)(op, part ? vload_part(row, r->n) : vload(row), acc);
        }
    return acc;
}

CK_INLINE void CK_TYPED(vertical_rows)(int op, const ROWS *r, ptrdiff_t nd, ptrdiff_t nh, T *out)
{
    if (r->n < L) {
        vstore_part(out, CK_TYPED(column)(op, r, nd, nh, 0, 1), r->n);
        return;
    }
    ptrdiff_t j = 0;
    for (; j + L <= r->n; j += L) vstore(out + j, CK_TYPED(column)(op, r, nd, nh, j, 0));
    j = r->n - L; /* the last vector overlaps the one before */
    vstore(out + j, CK_TYPED(column)(op, r, nd, nh, j, 0));
}

CK_INLINE void CK_TYPED(vertical)(int op, const ROWS *r, T *out)
{
    if (r->nd == 1 && r->nh == 3)
        CK_TYPED(vertical_rows)(op, r, 1, 3, out);
    else if (r->nd == 1 && r->nh == 2)
        CK_TYPED(vertical_rows)(op, r, 1, 2, out);
    else
        CK_TYPED(vertical_rows)(op, r, r->nd, r->nh, out);
}

/* ---- one row -> its windows */

/* How a sum becomes an average: times `scale`, or, where that is 0, over `row * cols[o]`. */
typedef struct {
    T scale, row;
    const T *cols;
} CK_TYPED(mean_t);

#define MEAN CK_TYPED(mean_t)

CK_INLINE V CK_TYPED(finish)(int op, const MEAN *mean, V acc, ptrdiff_t o)
{
    if (op != POOL_SUM) return acc;
    if (mean->scale != 0) return acc * mean->scale;
    return acc / (vload(mean->cols + o) * mean->row);
}

CK_INLINE void CK_TYPED(deliver)(T *y, V v, ptrdiff_t left)
{
    if (left >= L)
        vstore(y, v);
    else
        vstore_part(y, v, left);
}

CK_INLINE void CK_TYPED(taps_step1)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, const MEAN *mean, T *y,
                                    ptrdiff_t n)
{
    for (ptrdiff_t o = 0; o < n; o += L) {
        V acc = vload(v + o);
        for (ptrdiff_t k = 1; k < kernel; k++) acc = CK_TYPED(join)(op, vload(v + o + k * dilation), acc);
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, mean, acc, o), n - o);
    }
}

/* Stride 2: even lanes of two loads are one tap, odd lanes the next one. */
CK_INLINE void CK_TYPED(taps_step2)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, const MEAN *mean, T *y,
                                    ptrdiff_t n)
{
    for (ptrdiff_t o = 0; o < n; o += L) {
        const T *at = v + 2 * o;
        V a = vload(at), b = vload(at + L), acc = veven(a, b);
        ptrdiff_t k = 1;
        if (dilation == 1 && kernel > 1) acc = CK_TYPED(join)(op, vodd(a, b), acc), k = 2;
        for (; k < kernel; k++) {
            a = vload(at + k * dilation), b = vload(at + k * dilation + L);
            acc = CK_TYPED(join)(op, veven(a, b), acc);
            if (dilation == 1 && k + 1 < kernel) acc = CK_TYPED(join)(op, vodd(a, b), acc), k++;
        }
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, mean, acc, o), n - o);
    }
}

/* Any stride: reduce at every column, as for stride 1, then pick. */
CK_INLINE void CK_TYPED(taps_any)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t stride, T *all,
                                  const MEAN *mean, T *y, ptrdiff_t n)
{
    MEAN none = {1, 1, mean->cols};
    CK_TYPED(taps_step1)(op, v, kernel, dilation, &none, all, (n - 1) * stride + 1);
    for (ptrdiff_t o = 0; o < n; o++) all[o] = all[o * stride];
    for (ptrdiff_t o = 0; o < n; o += L) CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, mean, vload(all + o), o), n - o);
}

CK_INLINE void CK_TYPED(horizontal)(int op, const ck_pool *p, const T *v, T *all, const MEAN *mean, T *y, ptrdiff_t n)
{
    ptrdiff_t kernel = p->kernel[2], dilation = p->dilation[2], stride = p->stride[2];
    if (stride == 2 && dilation == 1 && kernel == 2)
        CK_TYPED(taps_step2)(op, v, 2, 1, mean, y, n);
    else if (stride == 2 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step2)(op, v, 3, 1, mean, y, n);
    else if (stride == 1 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step1)(op, v, 3, 1, mean, y, n);
    else if (stride == 2)
        CK_TYPED(taps_step2)(op, v, kernel, dilation, mean, y, n);
    else if (stride == 1)
        CK_TYPED(taps_step1)(op, v, kernel, dilation, mean, y, n);
    else
        CK_TYPED(taps_any)(op, v, kernel, dilation, stride, all, mean, y, n);
}

/* ---- windows of whole rows: one long run each */

/* Reduce n neighbours: eight vectors of partial results, folded in a fixed tree. */
CK_INLINE T CK_TYPED(run)(int op, const T *x, ptrdiff_t n)
{
    enum { WAYS = 8 };
    V acc[WAYS];
    T rest = CK_TYPED(neutral)(op), lane[L];
    ptrdiff_t i = 0;
    CK_UNROLL for (int w = 0; w < WAYS; w++) acc[w] = vset1(rest);
    for (; i + WAYS * L <= n; i += WAYS * L) {
        CK_TYPED(fetch)(x + i, WAYS * L);
        CK_UNROLL for (int w = 0; w < WAYS; w++) acc[w] = CK_TYPED(join)(op, vload(x + i + w * L), acc[w]);
    }
    for (; i + L <= n; i += L) acc[0] = CK_TYPED(join)(op, vload(x + i), acc[0]);
    for (; i < n; i++) rest = CK_TYPED(join1)(op, x[i], rest);
    CK_UNROLL for (int half = WAYS / 2; half > 0; half /= 2)
    {
        CK_UNROLL for (int w = 0; w < half; w++) acc[w] = CK_TYPED(join)(op, acc[w + half], acc[w]);
    }
    vstore(lane, acc[0]);
    for (int half = L / 2; half > 0; half /= 2)
        for (int w = 0; w < half; w++) lane[w] = CK_TYPED(join1)(op, lane[w + half], lane[w]);
    return CK_TYPED(join1)(op, rest, lane[0]);
}

CK_INLINE T CK_TYPED(whole_rows)(int op, ROWS r, ptrdiff_t width)
{
    if (r.step_h == width) r.n *= r.nh, r.nh = 1; /* rows that follow each other are one */
    if (r.nh == 1 && r.step_d == r.n) r.n *= r.nd, r.nd = 1;
    T acc = CK_TYPED(neutral)(op);
    for (ptrdiff_t d = 0; d < r.nd; d++)
        for (ptrdiff_t h = 0; h < r.nh; h++)
            acc = CK_TYPED(join1)(op, CK_TYPED(run)(op, r.x + d * r.step_d + h * r.step_h, r.n), acc);
    return acc;
}

/* ---- forward */

/* Elements of each window along the columns, for averages; returns the count that all share, or 0. */
CK_INLINE ptrdiff_t CK_TYPED(column_counts)(const ck_pool *p, const ck_pool_block *b, T *counts)
{
    ptrdiff_t n = b->col1 - b->col0, first = pool_count(p, 2, b->col0), same = first;
    for (ptrdiff_t o = 0; o < n; o++) {
        ptrdiff_t count = pool_count(p, 2, b->col0 + o);
        counts[o] = (T)count;
        if (count != first) same = 0;
    }
    CK_TYPED(fill)(counts + n, L, 1);
    return same;
}

CK_INLINE MEAN CK_TYPED(mean_of_row)(int op, const ck_pool *p, const ptrdiff_t at[2], const T *counts, ptrdiff_t same)
{
    if (op != POOL_SUM) return (MEAN){1, 1, counts};
    ptrdiff_t row = p->divisor ? p->divisor : pool_count(p, 0, at[0]) * pool_count(p, 1, at[1]);
    ptrdiff_t all = row * same;
    MEAN mean = {0, (T)row, counts};
    if (all && (all & (all - 1)) == 0) mean.scale = 1 / (T)all; /* a power of two: exact */
    return mean;
}

CK_INLINE ROWS CK_TYPED(rows_of)(const ck_pool *p, const T *x, const pool_cursor *c, ptrdiff_t lo, ptrdiff_t hi)
{
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t W = p->size[2];
    return (ROWS){x + ((c->plane * p->size[0] + d.first) * p->size[1] + h.first) * W + lo,
                  d.n,
                  h.n,
                  p->dilation[0] * p->size[1] * W,
                  p->dilation[1] * W,
                  hi - lo};
}

CK_INLINE void CK_TYPED(forward)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                 char *scratch)
{
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_row_width(p, n), W = p->size[2];
    const ptrdiff_t start = b->col0 * p->stride[2] - p->pad[2]; /* where in x the first window begins */
    const ptrdiff_t reach = start + (n - 1) * p->stride[2] + ck_pool_span(p, 2);
    const ptrdiff_t lo = start < 0 ? 0 : start, hi = reach < W ? reach : W;
    T *all = ck_pool_take(&scratch, width, sizeof(T));
    T *counts = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof(T));
    T *row[CK_POOL_ROWS];
    const T *x = a->in;
    T *y = (T *)a->out + b->col0;
    const ptrdiff_t same = op == POOL_SUM ? CK_TYPED(column_counts)(p, b, counts) : 0;
    pool_cursor c = pool_seek(p->out, b->row0);
    if (p->out[2] == 1 && p->dilation[2] == 1 && lo == 0 && hi == W) {
        for (ptrdiff_t r = b->row0; r < b->row1; r++, pool_next(p->out, &c)) {
            MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            V v = vset1(CK_TYPED(whole_rows)(op, CK_TYPED(rows_of)(p, x, &c, lo, hi), W));
            vstore_part(y + r, CK_TYPED(finish)(op, &mean, v, 0), 1);
        }
        return;
    }
    for (int i = 0; i < CK_POOL_ROWS; i++) { /* column lo of x is aligned */
        row[i] = (T *)ck_pool_take(&scratch, width, sizeof(T)) + (start - lo) % L + (lo > start ? L : 0);
        CK_TYPED(fill)(row[i], lo - start, CK_TYPED(neutral)(op));
        CK_TYPED(fill)(row[i] + hi - start, width - (hi - start) - L, CK_TYPED(neutral)(op));
    }
    /* Some rows at a time: a load of what several stores have just written would have to wait for them. */
    for (ptrdiff_t r = b->row0; r < b->row1; r += CK_POOL_ROWS) {
        ptrdiff_t rows = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        MEAN mean[CK_POOL_ROWS];
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->out, &c)) {
            ROWS window = CK_TYPED(rows_of)(p, x, &c, lo, hi);
            CK_TYPED(fetch)(window.x, p->stride[1] * W);
            mean[i] = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            CK_TYPED(vertical)(op, &window, row[i] + lo - start);
        }
        for (ptrdiff_t i = 0; i < rows; i++)
            CK_TYPED(horizontal)(op, p, row[i], all, &mean[i], y + (r + i) * p->out[2], n);
    }
}

#define FORWARD(name, op)                                                                                              \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        CK_TYPED(forward)(op, p, a, b, s);                                                                             \
        return 1;                                                                                                      \
    }
FORWARD(ck_pool_max, POOL_MAX)
FORWARD(ck_pool_min, POOL_MIN)
FORWARD(ck_pool_avg, POOL_SUM)
#undef FORWARD

/* ---- forward with indices */

/* Copy n elements to position `left` of a row that is kept by phases (element i of phase q is column
 * i * stride + q), so that every tap of every stride reads neighbours. Returns `odd` plus 0 * x: zeros,
 * unless an x was NaN or infinite. */
CK_INLINE V CK_TYPED(copy_phases)(const T *x, ptrdiff_t n, ptrdiff_t left, ptrdiff_t stride, T *row, ptrdiff_t pitch,
                                  V odd)
{
    V zero = vset1(0);
    if (stride == 1) {
        for (ptrdiff_t i = 0; i < n; i += L) {
            V v = n - i >= L ? vload(x + i) : vload_part(x + i, n - i);
            odd = vfma(v, zero, odd);
            CK_TYPED(deliver)(row + left + i, v, n - i);
        }
    } else if (stride == 2) {
        T *first = row + left % 2 * pitch + left / 2, *second = row + (left + 1) % 2 * pitch + (left + 1) / 2;
        ptrdiff_t i = 0;
        for (; i + 2 * L <= n; i += 2 * L) {
            V a = vload(x + i), b = vload(x + i + L);
            odd = vfma(a, zero, vfma(b, zero, odd));
            vstore(first + i / 2, veven(a, b));
            vstore(second + i / 2, vodd(a, b));
        }
        if (i < n) {
            ptrdiff_t m = n - i;
            V a = vload_part(x + i, m < L ? m : L), b = m > L ? vload_part(x + i + L, m - L) : zero;
            odd = vfma(a, zero, vfma(b, zero, odd));
            vstore_part(first + i / 2, veven(a, b), (m + 1) / 2);
            vstore_part(second + i / 2, vodd(a, b), m / 2);
        }
    } else {
        for (ptrdiff_t q = 0; q < stride && q < n; q++) {
            T *to = row + (left + q) % stride * pitch + (left + q) / stride;
            T rest = 0;
            for (ptrdiff_t i = q; i < n; i += stride) {
                *to++ = x[i];
                rest += x[i] * 0;
            }
            odd += rest;
        }
    }
    return odd;
}

/* What the windows of one output row look at: tap t of window o is taps[t][o], and lies flat[t] behind the
 * window's start in the plane; its first tap inside the plane, skip[o] further than flat[0]. */
typedef struct {
    const T **taps;
    TI *flat, *skip;
    ptrdiff_t count;
    TI start, stride; /* flat position of window 0, and the step to the next */
} CK_TYPED(windows_t);

CK_INLINE void CK_TYPED(search_some)(int op, int nans, int ways, const CK_TYPED(windows_t) * w, ptrdiff_t o, T *y,
                                     int64_t *indices, ptrdiff_t n)
{
    V best[2];
    VI at[2], ramp;
    for (int i = 0; i < L; i++) ramp[i] = i;
    for (int v = 0; v < ways; v++) {
        /* As if the first tap inside had been seen already: a window of only -inf points into the plane. */
        best[v] = vset1(CK_TYPED(neutral)(op));
        at[v] = (VI)vload((const T *)(const void *)(w->skip + o + v * L)) + w->flat[0];
    }
    for (ptrdiff_t t = 0; t < w->count; t++) {
        VI flat = w->flat[t] - (VI){0};
        for (int v = 0; v < ways; v++)
            CK_TYPED(pool_keep)(op == POOL_MAX, nans, vload(w->taps[t] + o + v * L), flat, &best[v], &at[v]);
    }
    for (int v = 0; v < ways; v++, o += L) {
        CK_TYPED(deliver)(y + o, best[v], n - o);
        CK_TYPED(pool_widen)(indices + o, at[v] + (TI)(w->start + o * w->stride) + ramp * w->stride, n - o);
    }
}

CK_INLINE void CK_TYPED(search)(int op, int nans, const CK_TYPED(windows_t) * w, T *y, int64_t *indices, ptrdiff_t n)
{
    ptrdiff_t o = 0;
    for (; o + L < n; o += 2 * L) CK_TYPED(search_some)(op, nans, 2, w, o, y, indices, n);
    if (o < n) CK_TYPED(search_some)(op, nans, 1, w, o, y, indices, n);
}

/* Rows of x held by phases. Tap i along d and row h of the plane are in slot i * slots_h + h % slots_h. */
typedef struct {
    T *rows;
    ptrdiff_t *held; /* which row of x, counted over all planes, or -1 */
    ptrdiff_t slots_h, pitch, lo, hi, start;
    V odd;
} CK_TYPED(ring_t);

CK_INLINE void CK_TYPED(hold)(const ck_pool *p, const T *x, const pool_cursor *c, CK_TYPED(ring_t) * ring)
{
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t step = p->dilation[1], first = h.first % ring->slots_h; /* step < slots_h wherever h.n > 1 */
    for (ptrdiff_t i = 0; i < d.n; i++) {
        ptrdiff_t id = (c->plane * p->size[0] + d.first + i * p->dilation[0]) * p->size[1] + h.first;
        ptrdiff_t at = first;
        for (ptrdiff_t j = 0; j < h.n; j++, id += step, at += at + step < ring->slots_h ? step : step - ring->slots_h) {
            ptrdiff_t slot = (d.skip + i) * ring->slots_h + at;
            if (ring->held[slot] == id) continue;
            const T *from = x + id * p->size[2] + ring->lo;
            CK_TYPED(fetch)(from, ring->hi - ring->lo);
            ring->odd = CK_TYPED(copy_phases)(from, ring->hi - ring->lo, ring->lo - ring->start, p->stride[2],
                                              ring->rows + slot * p->stride[2] * ring->pitch, ring->pitch, ring->odd);
            ring->held[slot] = id;
        }
    }
}

/* List the taps of one output row. `columns` is where tap k begins in a held row. */
CK_INLINE void CK_TYPED(list_taps)(const ck_pool *p, const pool_cursor *c, const CK_TYPED(ring_t) * ring,
                                   const ptrdiff_t *columns, CK_TYPED(windows_t) * w)
{
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t H = p->size[1], W = p->size[2], count = 0;
    ptrdiff_t step = p->dilation[1], first = h.first % ring->slots_h;
    for (ptrdiff_t i = d.skip; i < d.skip + d.n; i++) {
        ptrdiff_t flat = (i * p->dilation[0] * H + h.skip * step) * W, at = first;
        for (ptrdiff_t j = 0; j < h.n; j++, flat += step * W) {
            const T *row = ring->rows + (i * ring->slots_h + at) * p->stride[2] * ring->pitch;
            at += at + step < ring->slots_h ? step : step - ring->slots_h;
            for (ptrdiff_t k = 0; k < p->kernel[2]; k++, count++) {
                w->taps[count] = row + columns[k];
                w->flat[count] = (TI)(flat + k * p->dilation[2]);
            }
        }
    }
    w->count = count;
    w->start = (TI)(((d.first - d.skip * p->dilation[0]) * H + h.first - h.skip * p->dilation[1]) * W + ring->start);
}

CK_INLINE void CK_TYPED(indexed)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                 char *scratch)
{
    const ptrdiff_t n = b->col1 - b->col0, stride = p->stride[2], pitch = ck_pool_phase_width(p, n);
    const ptrdiff_t slots_h = ck_pool_slots(p), slots = p->kernel[0] * slots_h;
    const ptrdiff_t taps = p->kernel[0] * p->kernel[1] * p->kernel[2];
    const ptrdiff_t start = b->col0 * stride - p->pad[2];
    const ptrdiff_t reach = start + (n - 1) * stride + ck_pool_span(p, 2);
    CK_TYPED(ring_t)
    ring = {.rows = ck_pool_take(&scratch, slots * stride * pitch, sizeof(T)),
            .held = ck_pool_take(&scratch, slots, sizeof *ring.held),
            .slots_h = slots_h,
            .pitch = pitch,
            .lo = start < 0 ? 0 : start,
            .hi = reach < p->size[2] ? reach : p->size[2],
            .start = start,
            .odd = vset1(0)};
    CK_TYPED(windows_t)
    w = {.taps = ck_pool_take(&scratch, taps, sizeof *w.taps),
         .flat = ck_pool_take(&scratch, taps, sizeof *w.flat),
         .skip = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof *w.skip),
         .stride = (TI)stride};
    ptrdiff_t *columns = ck_pool_take(&scratch, p->kernel[2], sizeof *columns);
    CK_TYPED(fill)(ring.rows, slots * stride * pitch, CK_TYPED(neutral)(op));
    for (ptrdiff_t i = 0; i < slots; i++) ring.held[i] = -1;
    for (ptrdiff_t k = 0; k < p->kernel[2]; k++)
        columns[k] = k * p->dilation[2] % stride * pitch + k * p->dilation[2] / stride;
    for (ptrdiff_t o = 0; o < n + 2 * L; o++)
        w.skip[o] = o < n ? (TI)(pool_inside(p, 2, b->col0 + o).skip * p->dilation[2]) : 0;

    pool_cursor c = pool_seek(p->out, b->row0);
    for (ptrdiff_t r = b->row0; r < b->row1;) {
        /* Some rows at a time, as in `forward`, but of one plane: the next one's would take their slots. */
        ptrdiff_t rows = p->out[1] - c.at[1];
        if (rows > CK_POOL_ROWS) rows = CK_POOL_ROWS;
        if (rows > b->row1 - r) rows = b->row1 - r;
        pool_cursor ahead = c;
        for (ptrdiff_t i = 0; i < rows; i++, ahead.at[1]++) CK_TYPED(hold)(p, a->in, &ahead, &ring);
        int nans = vsum(ring.odd) != 0; /* once seen, the check for NaN stays on: it costs time, no result */
        for (ptrdiff_t i = 0; i < rows; i++, r++, pool_next(p->out, &c)) {
            T *y = (T *)a->out + r * p->out[2] + b->col0;
            int64_t *indices = a->indices + r * p->out[2] + b->col0;
            CK_TYPED(list_taps)(p, &c, &ring, columns, &w);
            if (nans)
                CK_TYPED(search)(op, 1, &w, y, indices, n);
            else
                CK_TYPED(search)(op, 0, &w, y, indices, n);
        }
    }
}

#define INDEXED(name, op)                                                                                              \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        CK_TYPED(indexed)(op, p, a, b, s);                                                                             \
        return 1;                                                                                                      \
    }
INDEXED(ck_pool_max_indices, POOL_MAX)
INDEXED(ck_pool_min_indices, POOL_MIN)
#undef INDEXED

/* ---- backward */

static int CK_KERNEL(ck_pool_scatter)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)
{
    const ptrdiff_t n = p->out[0] * p->out[1] * p->out[2];
    const uint64_t size = (uint64_t)(p->size[0] * p->size[1] * p->size[2]);
    (void)s;
    for (ptrdiff_t plane = b->row0; plane < b->row1; plane++) {
        const T *dy = (const T *)a->in + plane * n;
        const int64_t *indices = a->indices + plane * n;
        T *dx = (T *)a->out + plane * (ptrdiff_t)size;
        memset(dx, 0, size * sizeof(T));
        for (ptrdiff_t i = 0; i < n; i++) {
            uint64_t at = (uint64_t)indices[i]; /* a negative one is huge */
            if (at >= size) return 0;
            dx[at] += dy[i];
        }
    }
    return 1;
}

/* One row of dy-sums -> one row of dx: dx[P] = sum of g[o] over the windows o that cover padded column P,
 * where P = o * stride + tap. Columns of one phase (P % stride) take neighbours of g; `g` points at window 0,
 * with zeros where there are no windows. P0 is the padded column of dx[0]. */
CK_INLINE V CK_TYPED(spread)(const T *g, ptrdiff_t taps)
{
    V acc = taps > 0 ? vload(g) : vset1(0);
    for (ptrdiff_t m = 1; m < taps; m++) acc += vload(g - m);
    return acc;
}

CK_INLINE void CK_TYPED(spread_step1)(const T *g, ptrdiff_t kernel, ptrdiff_t P0, T *dx, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += L) CK_TYPED(deliver)(dx + i, CK_TYPED(spread)(g + P0 + i, kernel), n - i);
}

CK_INLINE void CK_TYPED(spread_step2)(const T *g, ptrdiff_t kernel, ptrdiff_t P0, T *dx, ptrdiff_t n)
{
    ptrdiff_t i = 0, even = (kernel + 1) / 2, odd = kernel / 2;
    g += P0 / 2;
    if (P0 % 2) { /* begin in the middle of a pair */
        vstore_part(dx, CK_TYPED(spread)(g, odd), 1);
        g++, i++;
    }
    for (; i < n; i += 2 * L, g += L) {
        V a = CK_TYPED(spread)(g, even), b = CK_TYPED(spread)(g, odd);
        CK_TYPED(deliver)(dx + i, vziplo(a, b), n - i);
        if (i + L < n) CK_TYPED(deliver)(dx + i + L, vziphi(a, b), n - i - L);
    }
}

CK_INLINE void CK_TYPED(spread_any)(const T *g, ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t P0, T *dx, ptrdiff_t n)
{
    for (ptrdiff_t first = 0; first < stride && first < n; first++) {
        ptrdiff_t phase = (P0 + first) % stride, taps = phase < kernel ? (kernel - 1 - phase) / stride + 1 : 0;
        const T *at = g + (P0 + first) / stride;
        for (ptrdiff_t i = first; i < n; at += L) {
            T lane[L];
            vstore(lane, CK_TYPED(spread)(at, taps));
            for (int w = 0; w < L && i < n; w++, i += stride) dx[i] = lane[w];
        }
    }
}

/* g (+)= dy * share * shares */
CK_INLINE void CK_TYPED(add_row)(int first, T *g, const T *dy, T share, const T *shares, ptrdiff_t n)
{
    V s = vset1(share);
    for (ptrdiff_t o = 0; o < n; o += L) {
        V v = n - o >= L ? vload(dy + o) : vload_part(dy + o, n - o), each = s * vload(shares + o);
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
CK_INLINE void CK_TYPED(covering_rows)(const ck_pool *p, const T *dy, const pool_cursor *c, pool_cover d, pool_cover h,
                                       pool_cover w, const T *shares, ptrdiff_t same, T *g)
{
    ptrdiff_t n = w.last - w.first + 1;
    if (d.first > d.last || h.first > h.last) CK_TYPED(fill)(g, n, 0);
    for (ptrdiff_t i = d.first; i <= d.last; i++)
        for (ptrdiff_t j = h.first; j <= h.last; j++) {
            const T *row = dy + ((c->plane * p->out[0] + i) * p->out[1] + j) * p->out[2] + w.first;
            ptrdiff_t count = p->divisor ? p->divisor : pool_count(p, 0, i) * pool_count(p, 1, j);
            T share = 1 / (T)(same ? count * same : count);
            CK_TYPED(add_row)(i == d.first && j == h.first, g, row, share, shares, n);
        }
}

static int CK_KERNEL(ck_pool_avg_backward)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)
{
    const ptrdiff_t n = b->col1 - b->col0, kernel = p->kernel[2], stride = p->stride[2];
    const ptrdiff_t P0 = b->col0 + p->pad[2], zeros = (kernel - 1) / stride, width = ck_pool_shares(p, n);
    const pool_cover w = {pool_covering(p, 2, b->col0).first, pool_covering(p, 2, b->col1 - 1).last};
    char *scratch = s;
    T *shares = ck_pool_take(&scratch, width, sizeof(T)), *g[CK_POOL_ROWS];
    const ptrdiff_t same = CK_TYPED(column_shares)(p, w, shares);
    for (int i = 0; i < CK_POOL_ROWS; i++) {
        T *row = ck_pool_take(&scratch, width, sizeof(T));
        CK_TYPED(fill)(row, width, 0);
        g[i] = row - (P0 / stride - zeros); /* the place of window 0 */
    }

    pool_cursor c = pool_seek(p->size, b->row0);
    pool_cover old_d = {0, 0}, old_h = {0, 0};
    ptrdiff_t old_plane = -1;
    for (ptrdiff_t r = b->row0; r < b->row1; r += CK_POOL_ROWS) { /* some rows at a time, as in `forward` */
        ptrdiff_t rows = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        int repeats[CK_POOL_ROWS]; /* lies under the same windows as the row before */
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->size, &c)) {
            pool_cover d = pool_covering(p, 0, c.at[0]), h = pool_covering(p, 1, c.at[1]);
            repeats[i] = c.plane == old_plane && d.first == old_d.first && d.last == old_d.last &&
                         h.first == old_h.first && h.last == old_h.last;
            old_plane = c.plane, old_d = d, old_h = h;
            if (!repeats[i]) CK_TYPED(covering_rows)(p, a->in, &c, d, h, w, shares, same, g[i] + w.first);
        }
        for (ptrdiff_t i = 0; i < rows; i++) {
            T *dx = (T *)a->out + (r + i) * p->size[2] + b->col0;
            if (repeats[i])
                memcpy(dx, dx - p->size[2], (size_t)n * sizeof(T));
            else if (stride == 1)
                CK_TYPED(spread_step1)(g[i], kernel, P0, dx, n);
            else if (stride == 2)
                CK_TYPED(spread_step2)(g[i], kernel, P0, dx, n);
            else
                CK_TYPED(spread_any)(g[i], kernel, stride, P0, dx, n);
        }
    }
    return 1;
}
