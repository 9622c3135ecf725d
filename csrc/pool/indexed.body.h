/* Forward with indices or taps. Included by pool.body.h, for one dtype. */

/* Copy n elements times `sign` to position `left` of a row that is kept by phases (element i of phase q is column
 * i * stride + q), so that every tap of every stride reads neighbours. Returns `odd` plus 0 * x: zeros,
 * unless an x was NaN or infinite. */
CK_INLINE V CK_TYPED(copy_phases)(const T *x, ptrdiff_t n, ptrdiff_t left, ptrdiff_t stride, T sign, T *row,
                                  ptrdiff_t pitch, V odd)
{
    V zero = vset1(0);
    if (stride == 1) {
        for (ptrdiff_t i = 0; i < n; i += L) {
            V v = n - i >= L ? vload(x + i) : vload_part(x + i, n - i);
            odd = vfma(v, zero, odd);
            CK_TYPED(deliver)(row + left + i, v * sign, n - i);
        }
    } else if (stride == 2) {
        T *first = row + left % 2 * pitch + left / 2, *second = row + (left + 1) % 2 * pitch + (left + 1) / 2;
        ptrdiff_t i = 0;
        for (; i + 2 * L <= n; i += 2 * L) {
            V a = vload(x + i), b = vload(x + i + L);
            odd = vfma(a, zero, vfma(b, zero, odd));
            vstore(first + i / 2, veven(a, b) * sign);
            vstore(second + i / 2, vodd(a, b) * sign);
        }
        if (i < n) {
            ptrdiff_t m = n - i;
            V a = vload_part(x + i, m < L ? m : L), b = m > L ? vload_part(x + i + L, m - L) : zero;
            odd = vfma(a, zero, vfma(b, zero, odd));
            vstore_part(first + i / 2, veven(a, b) * sign, (m + 1) / 2);
            vstore_part(second + i / 2, vodd(a, b) * sign, m / 2);
        }
    } else {
        for (ptrdiff_t q = 0; q < stride && q < n; q++) {
            T *to = row + (left + q) % stride * pitch + (left + q) / stride;
            T rest = 0;
            for (ptrdiff_t i = q; i < n; i += stride) {
                *to++ = x[i] * sign;
                rest += x[i] * 0;
            }
            odd += rest;
        }
    }
    return odd;
}

/* What was found in rows of x: tap i along d and row h of the plane are in slot i * slots_h + h % slots_h, a power of two. Per
 * window of a row: the value that won, and the number of its tap in units of `unit`. Values are times `sign`, -1 for the
 * smallest, which are then the largest. */
typedef struct {
    T *values;
    TI *which;
    ptrdiff_t *held; /* which row of x a slot holds, counted over all planes, or -1 */
    ptrdiff_t slots_h, pitch;
} CK_TYPED(found_t);

#define FOUND CK_TYPED(found_t)

/* How rows of x are searched: copied by phases into `stage`, CK_POOL_ROWS at a time, where tap k of window o is at
 * columns[k] + o; the first tap of window o inside the plane is number skip[o] / unit. */
typedef struct {
    T *stage;
    ptrdiff_t stage_width, pitch, stride, lo, hi, start, n;
    ptrdiff_t *columns;
    TI *skip, unit;
    T sign;
    V odd; /* not zero once a NaN or an infinity was seen */
    const T *row[CK_POOL_ROWS];
    ptrdiff_t slot[CK_POOL_ROWS], waiting;
} CK_TYPED(search_t);

#define SEARCH CK_TYPED(search_t)

CK_INLINE void CK_TYPED(search_taps)(int nans, const SEARCH *s, ptrdiff_t kernel, const T *row, T *value, TI *which)
{
    for (ptrdiff_t o = 0; o < s->n; o += L) {
        /* As if the first tap inside had been seen already: a window of only -inf points into the plane. */
        V best = vload(row + s->columns[0] + o);
        VI at = CK_TYPED(load_numbers)(s->skip + o);
        for (ptrdiff_t k = 1; k < kernel; k++)
            CK_TYPED(pool_keep)(1, nans, vload(row + s->columns[k] + o), (TI)k * s->unit - (VI){0}, &best, &at);
        vstore(value + o, best);
        CK_TYPED(store_numbers)(which + o, at);
    }
}

/* Adaptive windows; the numbers are columns after the block's first. */
CK_INLINE void CK_TYPED(search_split)(const ck_pool *p, const SEARCH *s, ptrdiff_t col0, const T *row, T *value,
                                      TI *which)
{
    pool_splitter at = pool_split_from(p->size[2], p->out[2], col0);
    row -= s->start;
    for (ptrdiff_t o = 0; o < s->n; o++, pool_split_next(&at)) {
        ptrdiff_t best = at.first;
        for (ptrdiff_t i = at.first + 1; i < at.end; i++)
            if (row[i] > row[best] || row[i] != row[i]) best = i;
        value[o] = row[best];
        which[o] = (TI)(best - s->start);
    }
}

/* Search the rows that wait. */
CK_NOINLINE void CK_TYPED(search_waiting)(const ck_pool *p, SEARCH *s, ptrdiff_t col0, FOUND *found)
{
    for (ptrdiff_t i = 0; i < s->waiting; i++) {
        CK_TYPED(fetch)(s->row[i], s->hi - s->lo);
        s->odd = CK_TYPED(copy_phases)(s->row[i], s->hi - s->lo, s->lo - s->start, s->stride, s->sign,
                                       s->stage + i * s->stage_width, s->pitch, s->odd);
    }
    const int nans = vsum(s->odd) != 0;
    for (ptrdiff_t i = 0; i < s->waiting; i++) {
        const T *row = s->stage + i * s->stage_width;
        T *value = found->values + s->slot[i] * found->pitch;
        TI *which = found->which + s->slot[i] * found->pitch;
        if (p->adaptive)
            CK_TYPED(search_split)(p, s, col0, row, value, which);
        else if (nans)
            CK_TYPED(search_taps)(1, s, p->kernel[2], row, value, which);
        else if (p->kernel[2] == 3)
            CK_TYPED(search_taps)(0, s, 3, row, value, which);
        else
            CK_TYPED(search_taps)(0, s, p->kernel[2], row, value, which);
    }
    s->waiting = 0;
}

/* See to it that the rows of the windows of one output row are in their slots; some may still wait after it. */
CK_INLINE void CK_TYPED(hold)(const ck_pool *p, const T *x, const pool_cursor *c, ptrdiff_t col0, SEARCH *s,
                              FOUND *found)
{
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t step = p->dilation[1], first = h.first & (found->slots_h - 1);
    for (ptrdiff_t i = 0; i < d.n; i++) {
        ptrdiff_t id = (c->plane * p->size[0] + d.first + i * p->dilation[0]) * p->size[1] + h.first;
        ptrdiff_t at = first;
        for (ptrdiff_t j = 0; j < h.n; j++, id += step, at = (at + step) & (found->slots_h - 1)) {
            ptrdiff_t slot = (d.skip + i) * found->slots_h + at;
            if (found->held[slot] == id) continue;
            found->held[slot] = id;
            s->row[s->waiting] = x + id * p->size[2] + s->lo;
            s->slot[s->waiting++] = slot;
            if (s->waiting == CK_POOL_ROWS) CK_TYPED(search_waiting)(p, s, col0, found);
        }
    }
}

/* The tap rows of one output row: what was found in each, and what the numbers there are counted from. */
typedef struct {
    const T **values;
    const TI **which;
    TI *base;
    ptrdiff_t count;
    TI start, stride; /* added to the number of window o: start + o * stride */
} CK_TYPED(tap_rows_t);

#define TAP_ROWS CK_TYPED(tap_rows_t)

CK_INLINE void CK_TYPED(list_rows)(const ck_pool *p, int bytes, const pool_cursor *c, const SEARCH *s,
                                   const FOUND *found, TAP_ROWS *t)
{
    const pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    const ptrdiff_t H = p->size[1], W = p->size[2], step = p->dilation[1], last = found->slots_h - 1;
    const ptrdiff_t base_d = bytes ? p->kernel[1] * p->kernel[2] : p->dilation[0] * H * W;
    const ptrdiff_t base_h = bytes ? p->kernel[2] : step * W, pitch = found->pitch;
    const T *values = found->values, **to_values = t->values;
    const TI *which = found->which, **to_which = t->which;
    TI *base = t->base;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = d.skip; i < d.skip + d.n; i++) {
        ptrdiff_t at = h.first & last;
        for (ptrdiff_t j = h.skip; j < h.skip + h.n; j++, count++) {
            const ptrdiff_t place = (i * (last + 1) + at) * pitch;
            to_values[count] = values + place, to_which[count] = which + place;
            base[count] = (TI)(i * base_d + j * base_h);
            at = (at + step) & last;
        }
    }
    t->count = count;
    t->stride = bytes || p->adaptive ? 0 : (TI)p->stride[2];
    t->start = 0;
    if (!bytes) t->start = (TI)(((d.first - d.skip * p->dilation[0]) * H + h.first - h.skip * step) * W + s->start);
}

CK_INLINE void CK_TYPED(join_rows)(int nans, int bytes, T sign, TAP_ROWS t, const ptrdiff_t count, T *y, void *chosen,
                                   ptrdiff_t n)
{
    VI ramp;
    for (int i = 0; i < L; i++) ramp[i] = i;
    ramp = ramp * t.stride + t.start;
    for (ptrdiff_t o = 0; o < n; o += L, ramp += (TI)L * t.stride) {
        V best = vload(t.values[0] + o);
        VI at = CK_TYPED(load_numbers)(t.which[0] + o) + t.base[0];
        for (ptrdiff_t r = 1; r < count; r++)
            CK_TYPED(pool_keep)(1, nans, vload(t.values[r] + o), CK_TYPED(load_numbers)(t.which[r] + o) + t.base[r],
                                &best, &at);
        CK_TYPED(deliver)(y + o, best * sign, n - o);
        if (bytes)
            CK_TYPED(pool_narrow)((uint8_t *)chosen + o, at, n - o);
        else
            CK_TYPED(pool_widen)((int64_t *)chosen + o, at + ramp, n - o);
    }
}

/* One row of windows, once per kind of number. */
#define JOIN(name, bytes)                                                                                              \
    CK_NOINLINE void CK_TYPED(name)(int nans, T sign, const TAP_ROWS *t, T *y, void *chosen, ptrdiff_t n)              \
    {                                                                                                                  \
        if (nans)                                                                                                      \
            CK_TYPED(join_rows)(1, bytes, sign, *t, t->count, y, chosen, n);                                           \
        else if (t->count == 3)                                                                                        \
            CK_TYPED(join_rows)(0, bytes, sign, *t, 3, y, chosen, n);                                                  \
        else                                                                                                           \
            CK_TYPED(join_rows)(0, bytes, sign, *t, t->count, y, chosen, n);                                           \
    }
JOIN(join_indices, 0)
JOIN(join_taps, 1)
#undef JOIN

/* Where in n elements the value is that won: the first that equals it, or the last NaN; -1 if it is not here. */
CK_INLINE ptrdiff_t CK_TYPED(where)(const T *x, ptrdiff_t n, T value)
{
    if (value != value) {
        ptrdiff_t last = n - 1;
        for (; last >= 0 && x[last] == x[last]; last--) {
        }
        return last;
    }
    for (ptrdiff_t i = 0; i < n; i += L) {
        ptrdiff_t at = CK_TYPED(pool_first)(n - i >= L ? vload(x + i) : vload_part(x + i, n - i), vset1(value));
        if (at < L && at < n - i) return i + at;
    }
    return -1;
}

/* Windows of whole rows: the value as without indices, then a look for it. */
CK_INLINE ptrdiff_t CK_TYPED(where_in_rows)(const ck_pool *p, int bytes, const pool_cursor *c, const T *x, T value)
{
    const ROWS r = CK_TYPED(rows_of)(p, x, c, 0, p->size[2]);
    const pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    const int last = value != value;
    if (!bytes && r.step_h == r.n && (r.nd == 1 || r.step_d == r.nh * r.n)) /* all in a row */
        return (d.first * p->size[1] + h.first) * p->size[2] + CK_TYPED(where)(r.x, r.nd * r.nh * r.n, value);
    for (ptrdiff_t k = 0; k < r.nd * r.nh; k++) {
        ptrdiff_t row = last ? r.nd * r.nh - 1 - k : k, i = row / r.nh, j = row % r.nh;
        ptrdiff_t at = CK_TYPED(where)(r.x + i * r.step_d + j * r.step_h, r.n, value);
        if (at < 0) continue;
        if (bytes) return ((d.skip + i) * p->kernel[1] + h.skip + j) * p->kernel[2] + p->pad[2] + at;
        return ((d.first + i * p->dilation[0]) * p->size[1] + h.first + j * p->dilation[1]) * p->size[2] + at;
    }
    return 0; /* not reached: the value came from here */
}

CK_INLINE void CK_TYPED(indexed_rows)(int op, int bytes, const ck_pool *p, const ck_pool_arrays *a,
                                      const ck_pool_block *b)
{
    pool_cursor c = pool_seek(p->out, b->row0);
    for (ptrdiff_t r = b->row0; r < b->row1; r += L) {
        T *y = (T *)a->out + r, lane[L];
        pool_cursor here = c;
        c = CK_TYPED(reduce_rows)(op, p, a->in, c, b->row1 - r, lane);
        for (int i = 0; i < L && r + i < b->row1; i++, pool_next(p->out, &here)) {
            ptrdiff_t at = CK_TYPED(where_in_rows)(p, bytes, &here, a->in, lane[i]);
            y[i] = lane[i];
            if (bytes)
                ((uint8_t *)a->chosen)[r + i] = (uint8_t)at;
            else
                ((int64_t *)a->chosen)[r + i] = at;
        }
    }
}

/* Windows of pairs of columns side by side, which lie as they are read: the tap rows one after the other, with
 * neither copies nor a ring. Returns zeros, unless an x was NaN or infinite. */
CK_INLINE V CK_TYPED(search_pairs)(int op, int nans, int bytes, const ck_pool *p, const ck_pool_arrays *a,
                                   const pool_cursor *c, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t col0, ptrdiff_t n,
                                   ptrdiff_t r)
{
    const pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    const ptrdiff_t H = p->size[1], W = p->size[2], first = (d.first * H + h.first) * W + 2 * col0;
    const ptrdiff_t step_d = bytes ? p->kernel[1] * 2 : p->dilation[0] * H * W, step_h = bytes ? 2 : p->dilation[1] * W;
    const T *x = (const T *)a->in + c->plane * p->size[0] * H * W + first;
    const TI start = (TI)(bytes ? (d.skip * p->kernel[1] + h.skip) * 2 : first), ahead = bytes ? 0 : 2;
    V odd = vset1(0), zero = vset1(0);
    VI ramp;
    for (int i = 0; i < L; i++) ramp[i] = i;
    r = r * p->out[2] + col0;
    for (ptrdiff_t o = 0; o < n; o += L) {
        V best = zero;
        VI at = {0};
        const ptrdiff_t left = 2 * (n - o);
        for (ptrdiff_t i = 0; i < nd; i++)
            for (ptrdiff_t j = 0; j < nh; j++) {
                const T *row = x + (i * p->dilation[0] * H + j * p->dilation[1]) * W + 2 * o;
                V lo = left >= L ? vload(row) : vload_part(row, left), hi = zero;
                if (left > L) hi = left >= 2 * L ? vload(row + L) : vload_part(row + L, left - L);
                odd = vfma(lo, zero, vfma(hi, zero, odd));
                VI number = (TI)(i * step_d + j * step_h) - (VI){0};
                if (i == 0 && j == 0)
                    best = veven(lo, hi);
                else
                    CK_TYPED(pool_keep)(op == POOL_MAX, nans, veven(lo, hi), number, &best, &at);
                CK_TYPED(pool_keep)(op == POOL_MAX, nans, vodd(lo, hi), number + 1, &best, &at);
            }
        at += start + (ramp + (TI)o) * ahead;
        CK_TYPED(deliver)((T *)a->out + r + o, best, n - o);
        if (bytes)
            CK_TYPED(pool_narrow)((uint8_t *)a->chosen + r + o, at, n - o);
        else
            CK_TYPED(pool_widen)((int64_t *)a->chosen + r + o, at, n - o);
    }
    return odd;
}

CK_INLINE V CK_TYPED(pairs_row)(int op, int nans, int bytes, const ck_pool *p, const ck_pool_arrays *a,
                                const pool_cursor *c, const ck_pool_block *b, ptrdiff_t r)
{
    const ptrdiff_t nd = pool_inside(p, 0, c->at[0]).n, nh = pool_inside(p, 1, c->at[1]).n;
    const ptrdiff_t col0 = b->col0, n = b->col1 - b->col0;
    if (nd == 1 && nh == 2 && !nans) return CK_TYPED(search_pairs)(op, 0, bytes, p, a, c, 1, 2, col0, n, r);
    if (nd == 2 && nh == 2 && !nans) return CK_TYPED(search_pairs)(op, 0, bytes, p, a, c, 2, 2, col0, n, r);
    return CK_TYPED(search_pairs)(op, nans, bytes, p, a, c, nd, nh, col0, n, r);
}

CK_INLINE void CK_TYPED(indexed_pairs)(int op, int bytes, const ck_pool *p, const ck_pool_arrays *a,
                                       const ck_pool_block *b)
{
    pool_cursor c = pool_seek(p->out, b->row0);
    int nans = 0; /* once seen, the check stays on: it costs time, no result */
    for (ptrdiff_t r = b->row0; r < b->row1; r += CK_POOL_ROWS) {
        const ptrdiff_t rows = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        const pool_cursor first = c;
        for (int again = 1; again; nans |= again) {
            V odd = vset1(0);
            c = first;
            for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->out, &c))
                odd += CK_TYPED(pairs_row)(op, nans, bytes, p, a, &c, b, r + i);
            again = !nans && vsum(odd) != 0;
        }
    }
}

#define PAIRS(name, op, bytes)                                                                                         \
    CK_NOINLINE void CK_TYPED(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b)                 \
    {                                                                                                                  \
        CK_TYPED(indexed_pairs)(op, bytes, p, a, b);                                                                   \
    }
PAIRS(pairs_max_indices, POOL_MAX, 0)
PAIRS(pairs_min_indices, POOL_MIN, 0)
PAIRS(pairs_max_taps, POOL_MAX, 1)
PAIRS(pairs_min_taps, POOL_MIN, 1)
#undef PAIRS

/* One for all four kernels, but for their `pairs`. */
CK_NOINLINE void CK_TYPED(indexed)(int op, int bytes,
                                   void (*pairs)(const ck_pool *, const ck_pool_arrays *, const ck_pool_block *),
                                   const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, char *scratch)
{
    if (pool_whole_rows(p)) {
        CK_TYPED(indexed_rows)(op, bytes, p, a, b);
        return;
    }
    if (pool_side_by_side(p, 2)) {
        pairs(p, a, b);
        return;
    }
    const ptrdiff_t n = b->col1 - b->col0, stride = p->adaptive ? 1 : p->stride[2], W = p->size[2];
    const ptrdiff_t slots_h = ck_pool_slots(p), slots = p->kernel[0] * slots_h, rows_max = p->kernel[0] * p->kernel[1];
    const ptrdiff_t start = pool_start(p, 2, b->col0), reach = pool_end(p, 2, b->col1 - 1);
    FOUND found = {.values = ck_pool_take(&scratch, slots * (n + CK_POOL_LINE), sizeof(T)),
                   .which = ck_pool_take(&scratch, slots * (n + CK_POOL_LINE), sizeof(TI)),
                   .held = ck_pool_take(&scratch, slots, sizeof(ptrdiff_t)),
                   .slots_h = slots_h,
                   .pitch = n + CK_POOL_LINE};
    SEARCH s = {.stage_width = ck_pool_stage_width(p, n),
                .pitch = ck_pool_phase_width(p, n),
                .stride = stride,
                .lo = start < 0 ? 0 : start,
                .hi = reach < W ? reach : W,
                .start = start,
                .n = n,
                .unit = (TI)(bytes ? 1 : p->dilation[2]),
                .sign = op == POOL_MAX ? 1 : -1,
                .odd = vset1(0),
                .waiting = 0};
    s.stage = ck_pool_take(&scratch, CK_POOL_ROWS * s.stage_width, sizeof(T));
    s.columns = ck_pool_take(&scratch, p->kernel[2], sizeof *s.columns);
    s.skip = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof *s.skip);
    TAP_ROWS taps = {.values = ck_pool_take(&scratch, rows_max, sizeof *taps.values),
                     .which = ck_pool_take(&scratch, rows_max, sizeof *taps.which),
                     .base = ck_pool_take(&scratch, rows_max, sizeof *taps.base)};
    CK_TYPED(fill)(s.stage, CK_POOL_ROWS * s.stage_width, CK_TYPED(neutral)(POOL_MAX));
    for (ptrdiff_t i = 0; i < slots; i++) found.held[i] = -1;
    for (ptrdiff_t k = 0; k < p->kernel[2]; k++)
        s.columns[k] = k * p->dilation[2] % stride * s.pitch + k * p->dilation[2] / stride;
    for (ptrdiff_t o = 0; o < n + L; o++) s.skip[o] = o < n ? (TI)pool_inside(p, 2, b->col0 + o).skip * s.unit : 0;

    pool_cursor c = pool_seek(p->out, b->row0);
    for (ptrdiff_t r = b->row0; r < b->row1;) {
        /* Some rows at a time, as in `forward`, but of one plane: the next one's would take their slots. */
        ptrdiff_t rows = p->out[1] - c.at[1];
        if (rows > CK_POOL_ROWS) rows = CK_POOL_ROWS;
        if (rows > b->row1 - r) rows = b->row1 - r;
        pool_cursor ahead = c;
        for (ptrdiff_t i = 0; i < rows; i++, ahead.at[1]++) CK_TYPED(hold)(p, a->in, &ahead, b->col0, &s, &found);
        CK_TYPED(search_waiting)(p, &s, b->col0, &found);
        const int nans = vsum(s.odd) != 0; /* once seen, the check for NaN stays on: it costs time, no result */
        for (ptrdiff_t i = 0; i < rows; i++, r++, pool_next(p->out, &c)) {
            ptrdiff_t first = r * p->out[2] + b->col0;
            T *y = (T *)a->out + first;
            void *chosen = (char *)a->chosen + first * (ptrdiff_t)(bytes ? 1 : sizeof(int64_t));
            CK_TYPED(list_rows)(p, bytes, &c, &s, &found, &taps);
            (bytes ? CK_TYPED(join_taps) : CK_TYPED(join_indices))(nans, s.sign, &taps, y, chosen, n);
        }
    }
}

#define INDEXED(kernel, op, bytes)                                                                                     \
    static int CK_KERNEL(ck_pool_##kernel)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s) \
    {                                                                                                                  \
        CK_TYPED(indexed)(op, bytes, CK_TYPED(pairs_##kernel), p, a, b, s);                                            \
        return 1;                                                                                                      \
    }
INDEXED(max_indices, POOL_MAX, 0)
INDEXED(min_indices, POOL_MIN, 0)
INDEXED(max_taps, POOL_MAX, 1)
INDEXED(min_taps, POOL_MIN, 1)
#undef INDEXED
