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
    switch (op) {
    case POOL_MAX: return vmax(next, acc);
    case POOL_MIN: return vmin(next, acc);
    case POOL_LARGER: return CK_TYPED(ck_larger)(next, acc);
    case POOL_SMALLER: return CK_TYPED(ck_smaller)(next, acc);
    default: return acc + next;
    }
}

CK_INLINE int CK_TYPED(any_nan)(const V v[4])
{
    const V sum = (v[0] + v[1]) + (v[2] + v[3]);
#if CK_VBYTES == 32
    return _mm256_movemask_epi8((__m256i)(sum != sum)) != 0;
#endif
    return vsum(vselect((VI)(sum != sum), vset1(1), vset1(0))) != 0;
}

CK_INLINE T CK_TYPED(join1)(int op, T next, T acc)
{
    if (POOL_ADDS(op)) return acc + next;
    return (op == POOL_MAX ? next > acc : next < acc) || next != next ? next : acc;
}

CK_INLINE T CK_TYPED(neutral)(int op)
{
    return op == POOL_MAX || op == POOL_LARGER ? -(T)INFINITY : POOL_ADDS(op) ? (T)0 : (T)INFINITY;
}

CK_INLINE void CK_TYPED(fill)(T *p, ptrdiff_t n, T value)
{
    for (ptrdiff_t i = 0; i < n; i++) p[i] = value;
}

CK_INLINE VI CK_TYPED(load_numbers)(const TI *p) { return (VI)vload((const T *)(const void *)p); }
CK_INLINE void CK_TYPED(store_numbers)(TI *p, VI v) { vstore((T *)(void *)p, (V)v); }

/* Ask for n elements some way behind p: the hardware's own reading ahead stops at the end of every page. CK_POOL_FETCHES:
 * not at AVX2 for windows of few rows, which on Zen 3 took 2 to 20 % longer with it. */
CK_INLINE void CK_TYPED(fetch)(const T *p, ptrdiff_t n)
{
    const char *at = (const char *)p + CK_POOL_AHEAD, *end = at + n * (ptrdiff_t)sizeof(T);
    for (; at < end; at += 64) __builtin_prefetch(at);
}

/* ---- powers, for Lp pooling; not inlined, they are long and used in many places */

/* v to the power p >= 0: by squaring where p is whole, else NaN for v < 0. */
CK_NOINLINE V CK_TYPED(raise)(V v, double p)
{
    if (p != (double)(int32_t)p) return CK_TYPED(vexp)(CK_TYPED(vlog)(v) * (T)p);
    V power = vset1(1);
    for (int32_t left = (int32_t)p; left; left >>= 1, v *= v)
        if (left & 1) power *= v;
    return power;
}

CK_INLINE V CK_TYPED(powered)(int op, V v, double p)
{
    return op == POOL_SQUARES ? v * v : op == POOL_POWER ? CK_TYPED(raise)(v, p) : v;
}

CK_INLINE V CK_TYPED(square_root)(V v)
{
    T lane[L];
    vstore(lane, v);
    for (int i = 0; i < L; i++)
        lane[i] = sizeof(T) == 4 ? (T)__builtin_sqrtf((float)lane[i]) : (T)__builtin_sqrt(lane[i]);
    return vload(lane);
}

/* The p-th root of v, NaN for v < 0 unless p is 1. */
CK_NOINLINE V CK_TYPED(root)(V v, double p)
{
    if (p == 1) return v;
    return p == 2 ? CK_TYPED(square_root)(v) : CK_TYPED(vexp)(CK_TYPED(vlog)(v) / (T)p);
}

/* ---- rows of a window -> one row */

typedef struct {
    const T *x;                          /* the first element that counts */
    ptrdiff_t nd, nh, step_d, step_h, n; /* taps along d and h, and columns */
    double power;                        /* of POOL_POWER */
} CK_TYPED(rows_t);

#define ROWS CK_TYPED(rows_t)

/* `some` vectors of columns from j on, side by side, so that rows are read as they lie; `part` where the whole row is
 * shorter than a vector. What is read is added to `total` where a NaN would be overlooked. */
CK_INLINE void CK_TYPED(columns)(int op, const ROWS *r, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t j, const int some,
                                 int part, T *out, V total[4])
{
    const T *x = r->x + j;
    V acc[4], sum[4];
    CK_UNROLL for (int q = 0; q < some; q++)
    {
        sum[q] = part ? vload_part(x, r->n) : vload(x + q * L);
        acc[q] = CK_TYPED(powered)(op, sum[q], r->power);
    }
    for (ptrdiff_t d = 0; d < nd; d++)
        for (ptrdiff_t h = d == 0; h < nh; h++) {
            const T *row = x + d * r->step_d + h * r->step_h;
            CK_UNROLL for (int q = 0; q < some; q++)
            {
                const V next = part ? vload_part(row, r->n) : vload(row + q * L);
                if (POOL_NO_NAN(op)) sum[q] += next;
                acc[q] = CK_TYPED(join)(op, CK_TYPED(powered)(op, next, r->power), acc[q]);
            }
        }
    CK_UNROLL for (int q = 0; q < some; q++)
    {
        if (POOL_NO_NAN(op)) total[q] += sum[q];
        if (part)
            vstore_part(out, acc[q], r->n);
        else
            vstore(out + j + q * L, acc[q]);
    }
}

/* `rows` rows of windows into rows `pitch` apart, those of x `step` apart. */
CK_INLINE void CK_TYPED(vertical_rows)(int op, ROWS r, ptrdiff_t nd, ptrdiff_t nh, const int some, ptrdiff_t step,
                                       ptrdiff_t rows, T *out, ptrdiff_t pitch, V total[4])
{
    const ptrdiff_t last = r.n - some * L; /* the last vectors overlap those before */
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (; rows > 0; rows--, r.x += step, out += pitch) {
        if (CK_POOL_FETCHES || nd * nh > 4) CK_TYPED(fetch)(r.x, step);
        if (some == 0)
            CK_TYPED(columns)(op, &r, nd, nh, 0, 1, 1, out, sum);
        else
            for (ptrdiff_t j = 0; j < r.n; j += some * L)
                CK_TYPED(columns)(op, &r, nd, nh, j < last ? j : last, some, 0, out, sum);
    }
    CK_UNROLL for (int q = 0; q < 4; q++) total[q] = sum[q];
}

/* The operations, and the dtype, that have code of their own for the windows of most networks. */
#define OFTEN(op) (!CK_POOL_GUESSES || (sizeof(T) == 4 && (POOL_NO_NAN(op) || (op) == POOL_SUM)))

CK_INLINE void CK_TYPED(vertical_some)(int op, const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch,
                                       V total[4])
{
    if (r->n < L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 0, step, rows, out, pitch, total);
    else if (r->n < CK_POOL_BESIDE * L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 1, step, rows, out, pitch, total);
    else if (OFTEN(op) && r->nd == 1 && r->nh == 3)
        CK_TYPED(vertical_rows)(op, *r, 1, 3, CK_POOL_BESIDE, step, rows, out, pitch, total);
    else if (OFTEN(op) && r->nd == 1 && r->nh == 2)
        CK_TYPED(vertical_rows)(op, *r, 1, 2, CK_POOL_BESIDE, step, rows, out, pitch, total);
    else if (CK_POOL_GUESSES && OFTEN(op) && r->n >= 2 * CK_POOL_BESIDE * L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 2 * CK_POOL_BESIDE, step, rows, out, pitch, total);
    else
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, CK_POOL_BESIDE, step, rows, out, pitch, total);
}

/* ---- one row -> its windows */

/* How a sum becomes an average: times `scale`, or, where that is 0, over `row * cols[o]`; POOL_POWER then takes
 * the root. */
typedef struct {
    T scale, row;
    const T *cols;
    double power;
} CK_TYPED(mean_t);

#define MEAN CK_TYPED(mean_t)

CK_INLINE V CK_TYPED(finish)(int op, const MEAN *mean, V acc, ptrdiff_t o)
{
    if (!POOL_ADDS(op)) return acc;
    acc = mean->scale != 0 ? acc * mean->scale : acc / (vload(mean->cols + o) * mean->row);
    return op == POOL_POWER ? CK_TYPED(root)(acc, mean->power) : op == POOL_SQUARES ? CK_TYPED(square_root)(acc) : acc;
}

CK_INLINE T CK_TYPED(finish1)(int op, const MEAN *mean, T acc)
{
    if (op != POOL_SUM) return acc;
    return mean->scale != 0 ? acc * mean->scale : acc / (mean->cols[0] * mean->row);
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
    const MEAN m = *mean; /* no store can change this one */
    for (ptrdiff_t o = 0; o < n; o += L) {
        V acc = vload(v + o);
        for (ptrdiff_t k = 1; k < kernel; k++) acc = CK_TYPED(join)(op, vload(v + o + k * dilation), acc);
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, acc, o), n - o);
    }
}

/* The even or odd lanes of two vectors, in an order that `taken` puts right: at AVX2 once for all taps. */
#if CK_VBYTES == 32
#define EVEN vquick_even
#define ODD vquick_odd
#define TAKEN(v) vordered(v)
#else
#define EVEN veven
#define ODD vodd
#define TAKEN(v) (v)
#endif

/* Stride 2: even lanes of two loads are one tap, odd lanes the next one. */
CK_INLINE void CK_TYPED(taps_step2)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, const MEAN *mean, T *y,
                                    ptrdiff_t n)
{
    const MEAN m = *mean;
    for (ptrdiff_t o = 0; o < n; o += L) {
        const T *at = v + 2 * o;
        V a = vload(at), b = vload(at + L), acc = EVEN(a, b);
        ptrdiff_t k = 1;
        if (dilation == 1 && kernel > 1) acc = CK_TYPED(join)(op, ODD(a, b), acc), k = 2;
        for (; k < kernel; k++) {
            a = vload(at + k * dilation), b = vload(at + k * dilation + L);
            acc = CK_TYPED(join)(op, EVEN(a, b), acc);
            if (dilation == 1 && k + 1 < kernel) acc = CK_TYPED(join)(op, ODD(a, b), acc), k++;
        }
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, TAKEN(acc), o), n - o);
    }
}

#if CK_POOL_GUESSES
CK_INLINE V CK_TYPED(four_taps)(int op, const T *v)
{
    const V late = CK_TYPED(join)(op, vload(v + 3), vload(v + 2));
    return CK_TYPED(join)(op, late, CK_TYPED(join)(op, vload(v + 1), vload(v)));
}

/* Stride 1, two vectors of taps or more: every eight neighbours joined once, into `eight`, then windows from those, the last
 * overlapping the one before where that changes nothing, and from single taps. For vectors of eight lanes. */
CK_INLINE void CK_TYPED(taps_long)(int op, const T *v, ptrdiff_t kernel, T *eight, const MEAN *mean, T *y, ptrdiff_t n)
{
    const MEAN m = *mean;
    const ptrdiff_t whole = POOL_ADDS(op) ? kernel / L * L : kernel, last = whole - L;
    V four = CK_TYPED(four_taps)(op, v);
    for (ptrdiff_t i = 0; i < n + last; i += L) {
        const V next = CK_TYPED(four_taps)(op, v + i + L);
        const V behind = (V)_mm256_permute2f128_pd((__m256d)four, (__m256d)next, 0x21);
        vstore(eight + i, CK_TYPED(join)(op, behind, four));
        four = next;
    }
    for (ptrdiff_t o = 0; o < n; o += L) {
        V acc = vload(eight + o);
        for (ptrdiff_t k = L; k < last; k += L) acc = CK_TYPED(join)(op, vload(eight + o + k), acc);
        acc = CK_TYPED(join)(op, vload(eight + o + last), acc);
        for (ptrdiff_t k = whole; k < kernel; k++) acc = CK_TYPED(join)(op, vload(v + o + k), acc);
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, acc, o), n - o);
    }
}
#define LONG(op, p)                                                                                                    \
    (OFTEN(op) && sizeof(T) == 4 && (p)->stride[2] == 1 && (p)->dilation[2] == 1 && (p)->kernel[2] >= 2 * L)
#else
#define LONG(op, p) 0
#endif

/* The lanes of L vectors, each folded in a fixed tree, into one vector: every round joins the halves of two vectors in
 * one, which takes half the shuffles of a transpose. At AVX2 only the first round shuffles across halves of vectors. */
CK_INLINE V CK_TYPED(fold)(int op, V acc[L])
{
#if CK_VBYTES == 32
    CK_UNROLL for (int w = 0; w < L / 2; w++)
    {
        const __m256d a = (__m256d)acc[w], b = (__m256d)acc[w + L / 2];
        acc[w] = CK_TYPED(join)(op, (V)_mm256_permute2f128_pd(a, b, 0x31), (V)_mm256_permute2f128_pd(a, b, 0x20));
    }
    CK_UNROLL for (int w = 0; L == 8 && w < 4; w += 2)
    {
        const __m256d a = (__m256d)acc[w], b = (__m256d)acc[w + 1];
        acc[w / 2] = CK_TYPED(join)(op, (V)_mm256_unpackhi_pd(a, b), (V)_mm256_unpacklo_pd(a, b));
    }
    return CK_TYPED(join)(op, ODD(acc[0], acc[1]), EVEN(acc[0], acc[1]));
#else
    CK_UNROLL for (int half = L / 2; half > 0; half /= 2)
    {
        CK_UNROLL for (int w = 0; w < half; w++) acc[w] =
            CK_TYPED(join)(op, vziphi(acc[w], acc[w + half]), vziplo(acc[w], acc[w + half]));
    }
    return acc[0];
#endif
}

/* Windows far apart: each in vectors of its own, which are then folded together. The last one overlaps the one before
 * where that changes nothing. */
CK_INLINE void CK_TYPED(taps_apart)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t stride, const MEAN *mean, T *y,
                                    ptrdiff_t n, V total[4])
{
    const V neutral = vset1(CK_TYPED(neutral)(op));
    const int overlap = !POOL_ADDS(op) && kernel >= L;
    const ptrdiff_t whole = overlap ? kernel - L : kernel / L * L;
    ptrdiff_t off[L];
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w, off[w] = (w < n ? w : n - 1) * stride;
    const VI rest = (VI)(ramp < (TI)(kernel - whole));
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (ptrdiff_t o = 0; o < n; o += L) {
        const ptrdiff_t at = o + L <= n || n < L ? o : n - L; /* and so does the last vector of windows */
        const T *from = v + at * stride;
        V acc[L];
        CK_UNROLL for (int i = 0; i < L; i++)
        {
            const T *last = from + off[i] + whole;
            acc[i] = overlap ? vload(last) : vselect(rest, vload_part(last, kernel - whole), neutral);
            if (POOL_NO_NAN(op) && whole == 0) sum[i % 4] += acc[i];
        }
        for (const T *end = from + whole; from < end; from += L) CK_UNROLL for (int i = 0; i < L; i++)
            {
                V next = vload(from + off[i]);
                if (POOL_NO_NAN(op)) CK_HOLD(next); /* or it is read twice, and reading is the limit */
                if (POOL_NO_NAN(op)) sum[i % 4] = vfma(acc[i], next, sum[i % 4]);
                acc[i] = CK_TYPED(join)(op, next, acc[i]);
            }
        CK_TYPED(deliver)(y + at, CK_TYPED(finish)(op, mean, CK_TYPED(fold)(op, acc), at), n - at);
    }
    CK_UNROLL for (int i = 0; i < 4; i++) total[i] = sum[i];
}

/* Any stride: reduce at every column, as for stride 1 and without a root, then pick. */
CK_INLINE void CK_TYPED(taps_any)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t stride, T *all,
                                  const MEAN *mean, T *y, ptrdiff_t n)
{
    MEAN none = {1, 1, mean->cols, 1};
    CK_TYPED(taps_step1)(POOL_ADDS(op) ? POOL_SUM : op, v, kernel, dilation, &none, all, (n - 1) * stride + 1);
    for (ptrdiff_t o = 0; o < n; o++) all[o] = all[o * stride];
    for (ptrdiff_t o = 0; o < n; o += L) CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, mean, vload(all + o), o), n - o);
}

/* Where the adaptive windows of a block of columns, and of `rows` rows, find their elements: lane q of tap k is element
 * index[k * pitch + q] from the first row on. */
typedef struct {
    TI *index;
    ptrdiff_t pitch, taps, rows;
} CK_TYPED(split_t);

#define SPLIT CK_TYPED(split_t)

/* `apart` is from row to row, `nothing` the place of a neutral element, for the taps that a window lacks. */
CK_INLINE SPLIT CK_TYPED(split_lanes)(const ck_pool *p, ptrdiff_t col0, ptrdiff_t n, ptrdiff_t apart, ptrdiff_t nothing,
                                      TI *index)
{
    SPLIT s = {index, ck_pool_split_rows(n) * n + CK_POOL_LINE, 0, ck_pool_split_rows(n)};
    pool_splitter at = pool_split_from(p->size[2], p->out[2], col0);
    const ptrdiff_t start = at.first;
    for (ptrdiff_t k = 0; k < p->kernel[2]; k++) memset(index + k * s.pitch, 0, (size_t)s.pitch * sizeof(TI));
    for (ptrdiff_t o = 0; o < n; o++, pool_split_next(&at)) {
        if (s.taps < at.end - at.first) s.taps = at.end - at.first;
        for (ptrdiff_t k = 0; k < p->kernel[2]; k++) {
            const ptrdiff_t place = at.first + k < at.end ? at.first + k - start : nothing;
            for (ptrdiff_t i = 0; i < s.rows; i++) index[k * s.pitch + i * n + o] = (TI)(place + i * apart);
        }
    }
    return s;
}

/* The windows of n lanes, n / rows of each row. */
CK_INLINE void CK_TYPED(split_windows)(int op, const SPLIT *s, const T *v, T *out, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < n; q += L) {
        V acc = CK_TYPED(pool_gather)(v, CK_TYPED(load_numbers)(s->index + q));
        for (ptrdiff_t k = 1; k < s->taps; k++)
            acc =
                CK_TYPED(join)(op, CK_TYPED(pool_gather)(v, CK_TYPED(load_numbers)(s->index + k * s->pitch + q)), acc);
        CK_TYPED(deliver)(out + q, acc, n - q);
    }
}

/* The windows [first, first + n) of the `parts` that `size` elements are split into, reduced one by one; v is
 * where the first of them begins. */
CK_INLINE void CK_TYPED(split_row)(int op, const T *v, ptrdiff_t size, ptrdiff_t parts, ptrdiff_t first, T *all,
                                   ptrdiff_t n)
{
    pool_splitter at = pool_split_from(size, parts, first);
    v -= at.first;
    for (ptrdiff_t o = 0; o < n; o++, pool_split_next(&at)) {
        T acc = v[at.first];
        for (ptrdiff_t i = at.first + 1; i < at.end; i++) acc = CK_TYPED(join1)(op, v[i], acc);
        all[o] = acc;
    }
}

CK_INLINE void CK_TYPED(horizontal_row)(int op, const ck_pool *p, const T *v, T *all, const MEAN *mean, T *y,
                                        ptrdiff_t n)
{
    ptrdiff_t kernel = p->kernel[2], dilation = p->dilation[2], stride = p->stride[2];
    if (OFTEN(op) && stride == 2 && dilation == 1 && kernel == 2)
        CK_TYPED(taps_step2)(op, v, 2, 1, mean, y, n);
    else if (OFTEN(op) && stride == 2 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step2)(op, v, 3, 1, mean, y, n);
    else if (OFTEN(op) && stride == 1 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step1)(op, v, 3, 1, mean, y, n);
    else if (stride == 2)
        CK_TYPED(taps_step2)(op, v, kernel, dilation, mean, y, n);
#if CK_POOL_GUESSES
    else if (LONG(op, p))
        CK_TYPED(taps_long)(op, v, kernel, all, mean, y, n);
#endif
    else if (stride == 1)
        CK_TYPED(taps_step1)(op, v, kernel, dilation, mean, y, n);
    else if (pool_apart(p, n < L ? 32 * L / n : 32))
        CK_TYPED(taps_apart)(op, v, kernel, stride, mean, y, n, (V[4]){vset1(0)});
    else
        CK_TYPED(taps_any)(op, v, kernel, dilation, stride, all, mean, y, n);
}

CK_INLINE void CK_TYPED(horizontal_some)(int op, const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,
                                         const MEAN *mean, T *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        CK_TYPED(horizontal_row)(op, p, v + i * pitch, all, &mean[i], y + i * p->out[2], n);
}

/* ---- windows of whole rows: one long run each */

/* Reduce n neighbours, or the squares of them, to one vector: eight vectors of partial results, folded in a fixed tree, then
 * the rest. */
CK_INLINE V CK_TYPED(run)(int op, const T *x, ptrdiff_t n)
{
    enum { WAYS = 8 };
    const V neutral = vset1(CK_TYPED(neutral)(op));
    V acc[WAYS] = {neutral};
    ptrdiff_t i = 0;
    if (n >= WAYS * L) {
        CK_UNROLL for (int w = 1; w < WAYS; w++) acc[w] = neutral;
        for (; i + WAYS * L <= n; i += WAYS * L) {
            CK_TYPED(fetch)(x + i, WAYS * L);
            CK_UNROLL for (int w = 0; w < WAYS; w++) acc[w] =
                CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(x + i + w * L), 2), acc[w]);
        }
        CK_UNROLL for (int half = WAYS / 2; half > 0; half /= 2)
        {
            CK_UNROLL for (int w = 0; w < half; w++) acc[w] = CK_TYPED(join)(op, acc[w + half], acc[w]);
        }
    }
    for (; i + L <= n; i += L) acc[0] = CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(x + i), 2), acc[0]);
    if (i == n) return acc[0];
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w;
    const V rest = vselect((VI)(ramp < (TI)(n - i)), vload_part(x + i, n - i), neutral);
    return CK_TYPED(join)(op, CK_TYPED(powered)(op, rest, 2), acc[0]);
}

CK_INLINE V CK_TYPED(whole_rows)(int op, ROWS r, ptrdiff_t width)
{
    if (r.step_h == width) r.n *= r.nh, r.nh = 1; /* rows that follow each other are one */
    if (r.nh == 1 && r.step_d == r.n) r.n *= r.nd, r.nd = 1;
    V acc = CK_TYPED(run)(op, r.x, r.n);
    for (ptrdiff_t d = 0; d < r.nd; d++)
        for (ptrdiff_t h = d == 0; h < r.nh; h++)
            acc = CK_TYPED(join)(op, CK_TYPED(run)(op, r.x + d * r.step_d + h * r.step_h, r.n), acc);
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
    if (!POOL_ADDS(op)) return (MEAN){1, 1, counts, 1};
    ptrdiff_t row = p->divisor ? p->divisor : pool_count(p, 0, at[0]) * pool_count(p, 1, at[1]);
    ptrdiff_t all = row * same;
    if (POOL_OF_POWERS(op)) { /* what a window of fewer elements would sum to if it had all */
        T whole = (T)p->whole;
        return (MEAN){all ? whole / (T)all : 0, (T)row / whole, counts, p->power};
    }
    MEAN mean = {0, (T)row, counts, 1};
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
                  hi - lo,
                  p->power};
}

/* A vector of windows of K = 2 or 4 columns side by side, from window o on, read as they lie: even lanes with odd ones,
 * for 4 twice. The row has `left` more elements for them, K vectors or less. */
CK_INLINE V CK_TYPED(side_by_side)(int op, const ROWS *r, const int K, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t o,
                                   ptrdiff_t left, V total[4])
{
    V acc[4] = {vset1(0)}, sum[4] = {vset1(0)};
    for (ptrdiff_t d = 0; d < nd; d++)
        for (ptrdiff_t h = 0; h < nh; h++) {
            const T *row = r->x + d * r->step_d + h * r->step_h + K * o;
            CK_UNROLL for (int q = 0; q < K; q++)
            {
                const ptrdiff_t some = left - q * L;
                const V next = some >= L ? vload(row + q * L) : some > 0 ? vload_part(row + q * L, some) : vset1(0);
                const V value = CK_TYPED(powered)(op, next, r->power);
                acc[q] = d + h ? CK_TYPED(join)(op, value, acc[q]) : value;
                if (POOL_NO_NAN(op)) sum[q] = d + h ? sum[q] + next : next;
            }
        }
    CK_UNROLL for (int q = 0; q < K; q++)
    {
        if (POOL_NO_NAN(op)) total[q] += sum[q];
    }
    CK_UNROLL for (int half = K / 2; half > 0; half /= 2) CK_UNROLL for (int q = 0; q < half; q++)
    {
        const V a = acc[2 * q], b = acc[2 * q + 1];
        acc[q] = TAKEN(CK_TYPED(join)(op, ODD(a, b), EVEN(a, b)));
    }
    return acc[0];
}

/* `rows` rows of n such windows each, the rows of x `step` apart; `part` where n is less than a vector. */
CK_INLINE void CK_TYPED(together_some)(int op, ROWS r, const int K, ptrdiff_t nd, ptrdiff_t nh, int part,
                                       const MEAN *mean, T *y, ptrdiff_t n, ptrdiff_t step, ptrdiff_t rows,
                                       ptrdiff_t pitch, V total[4])
{
    const MEAN m = *mean;
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (; rows > 0; rows--, r.x += step, y += pitch) {
        if (CK_POOL_FETCHES) CK_TYPED(fetch)(r.x, step);
        for (ptrdiff_t i = 0; i < n; i += L) {
            const ptrdiff_t o = part ? 0 : i < n - L ? i : n - L; /* the last vector overlaps the one before */
            V v = CK_TYPED(side_by_side)(op, &r, K, nd, nh, o, part ? K * n : K * L, sum);
            v = CK_TYPED(finish)(op, &m, v, o);
            if (part)
                vstore_part(y, v, n);
            else
                vstore(y + o, v);
        }
    }
    CK_UNROLL for (int q = 0; q < 4; q++) total[q] = sum[q];
}

CK_INLINE void CK_TYPED(together_rows)(int op, const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n,
                                       ptrdiff_t rows, V total[4])
{
    const ptrdiff_t step = p->stride[1] * p->size[2], pitch = p->out[2];
    const int four = p->kernel[2] == 4, flat = r->nd == 1 && r->nh == 2;
    if (four && n < L)
        CK_TYPED(together_some)(op, *r, 4, r->nd, r->nh, 1, mean, y, n, step, rows, pitch, total);
    else if (n < L)
        CK_TYPED(together_some)(op, *r, 2, r->nd, r->nh, 1, mean, y, n, step, rows, pitch, total);
    else if (four && POOL_NO_NAN(op))
        CK_TYPED(together_some)(op, *r, 4, 1, 1, 0, mean, y, n, step, rows, pitch, total);
    else if (four)
        CK_TYPED(together_some)(op, *r, 4, r->nd, r->nh, 0, mean, y, n, step, rows, pitch, total);
    else if (flat && (OFTEN(op) || op == POOL_SQUARES))
        CK_TYPED(together_some)(op, *r, 2, 1, 2, 0, mean, y, n, step, rows, pitch, total);
    else if (OFTEN(op) && r->nd == 2 && r->nh == 2)
        CK_TYPED(together_some)(op, *r, 2, 2, 2, 0, mean, y, n, step, rows, pitch, total);
    else
        CK_TYPED(together_some)(op, *r, 2, r->nd, r->nh, 0, mean, y, n, step, rows, pitch, total);
}

/* Windows of whole rows: reduce up to L of them, from c on; returns the place behind them. */
CK_INLINE pool_cursor CK_TYPED(reduce_some)(int op, const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left,
                                            T lane[L])
{
    V acc[L];
    for (int i = 0; i < L; i++) {
        acc[i] = vset1(0);
        if (i >= left) continue;
        acc[i] = CK_TYPED(whole_rows)(op, CK_TYPED(rows_of)(p, x, &c, 0, p->size[2]), p->size[2]);
        pool_next(p->out, &c);
    }
    vstore(lane, CK_TYPED(fold)(op, acc));
    return c;
}

#define REDUCE(name, op)                                                                                               \
    CK_NOINLINE pool_cursor CK_TYPED(name)(const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left, T lane[L])     \
    {                                                                                                                  \
        return CK_TYPED(reduce_some)(op, p, x, c, left, lane);                                                         \
    }
REDUCE(reduce_largest, POOL_MAX)
REDUCE(reduce_smallest, POOL_MIN)
REDUCE(reduce_sum, POOL_SUM)
#undef REDUCE

CK_INLINE pool_cursor CK_TYPED(reduce_rows)(int op, const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left,
                                            T lane[L])
{
    if (op == POOL_MAX) return CK_TYPED(reduce_largest)(p, x, c, left, lane);
    if (op == POOL_MIN) return CK_TYPED(reduce_smallest)(p, x, c, left, lane);
    return CK_TYPED(reduce_sum)(p, x, c, left, lane);
}

/* Small whole planes, L of them vector by vector, so that no sum waits for another; lanes past `planes` mean nothing. */
CK_INLINE void CK_TYPED(small_planes)(int op, const T *x, ptrdiff_t n, ptrdiff_t planes, V acc[L])
{
    const T *from[L];
    const ptrdiff_t whole = n / L * L;
    const V neutral = vset1(CK_TYPED(neutral)(op));
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w;
    const VI rest = (VI)(ramp < (TI)(n - whole));
    CK_UNROLL for (int i = 0; i < L; i++)
    {
        from[i] = x + (i < planes ? i * n : 0);
        const V v = vload_part(from[i] + whole, n - whole);
        acc[i] = POOL_ADDS(op) ? CK_TYPED(powered)(op, v, 2) : vselect(rest, v, neutral);
    }
    for (ptrdiff_t j = 0; j < whole; j += L)
        CK_UNROLL for (int i = 0; i < L; i++) acc[i] =
            CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(from[i] + j), 2), acc[i]);
}

/* Whole planes of n elements, L of them at a time. */
CK_INLINE void CK_TYPED(reduce_planes)(int op, const T *x, ptrdiff_t n, ptrdiff_t planes, const MEAN *mean, T *y)
{
    for (ptrdiff_t p = 0; p < planes; p += L) {
        V acc[L];
        if (n <= 8 * L) {
            CK_TYPED(small_planes)(op, x + p * n, n, planes - p, acc);
        } else {
            for (int i = 0; i < L; i++)
                acc[i] = p + i < planes ? CK_TYPED(run)(op, x + (p + i) * n, n) : vset1(CK_TYPED(neutral)(op));
        }
        CK_TYPED(deliver)(y + p, CK_TYPED(finish)(op, mean, CK_TYPED(fold)(op, acc), 0), planes - p);
    }
}

#include "pool/lanes.body.h"

/* Windows of whole planes or rows, or in 1-d far apart: each in vectors of its own. As `forward`; the first two are never
 * read as if there were no NaN. */
CK_INLINE ptrdiff_t CK_TYPED(forward_apart)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                            ptrdiff_t r, T *counts, ptrdiff_t same)
{
    const ptrdiff_t W = p->size[2];
    const T *x = a->in;
    T *y = (T *)a->out;
    pool_cursor c = pool_seek(p->out, r);
    if (!POOL_NO_NAN(op) && pool_whole_planes(p)) {
        const ptrdiff_t plane = p->size[0] * p->size[1] * W;
        CK_TYPED(fill)(counts, CK_POOL_LINE, POOL_ADDS(op) ? counts[0] : 1); /* every lane is a plane, not a column */
        MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        CK_TYPED(reduce_planes)(op, x + r * plane, plane, b->row1 - r, &mean, y + r);
        return b->row1;
    }
    if (!POOL_NO_NAN(op) && op != POOL_SQUARES && pool_whole_rows(p)) {
        for (; r < b->row1; r += L) {
            T lane[L];
            pool_cursor here = c;
            c = CK_TYPED(reduce_rows)(op, p, x, c, b->row1 - r, lane);
            for (int i = 0; i < L && r + i < b->row1; i++, pool_next(p->out, &here)) {
                MEAN mean = CK_TYPED(mean_of_row)(op, p, here.at, counts, same);
                y[r + i] = CK_TYPED(finish1)(op, &mean, lane[i]);
            }
        }
        return b->row1;
    }
    if (op == POOL_SQUARES) return r; /* only whole planes of those come here */
    const ptrdiff_t start = pool_start(p, 2, b->col0);
    V total[4] = {vset1(1), vset1(1), vset1(1), vset1(1)};
    for (; r < b->row1; r++, pool_next(p->out, &c)) {
        MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        const ROWS window = CK_TYPED(rows_of)(p, x, &c, start, W);
        CK_TYPED(taps_apart)(op, window.x, p->kernel[2], p->stride[2], &mean, y + b->col0 + r * p->out[2],
                             b->col1 - b->col0, total);
        if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
    }
    return r;
}

CK_INLINE void CK_TYPED(split_some)(int op, const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch,
                                    ptrdiff_t rows, T *all, const MEAN *mean, T *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < rows; i += s->rows) {
        const ptrdiff_t some = s->rows < rows - i ? s->rows : rows - i;
        const int at_once = op != POOL_SUM && n == p->out[2]; /* all that is to do */
        CK_TYPED(split_windows)(op, s, v + i * pitch, at_once ? y + i * n : all, some * n);
        for (ptrdiff_t j = 0; !at_once && j < some; j++)
            CK_TYPED(taps_step1)(op, all + j * n, 1, 1, &mean[i + j], y + (i + j) * p->out[2], n);
    }
}

/* Windows of three rows and three columns: the rows of one row of them, and where two of these share rows that of the
 * next one too: the three again, one row on. The rows of the next windows lie `step` after them. Of x there are `cols`
 * columns, before which the first window `lacks` one or none. */
typedef struct {
    const T *row[4];
    ptrdiff_t step, cols, lacks;
} CK_TYPED(three_t);

#define THREE CK_TYPED(three_t)

/* What an operation does by functions of its own: their loops have the registers to themselves. */
typedef struct {
    int op;
    void (*vertical)(const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch, V total[4]);
    void (*horizontal)(const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all, const MEAN *mean, T *y,
                       ptrdiff_t n);
    void (*together)(const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n, ptrdiff_t rows, V total[4]);
    /* of windows apart and of adaptive ones, or NULL */
    ptrdiff_t (*apart)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, ptrdiff_t r, T *counts,
                       ptrdiff_t same);
    void (*split)(const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,
                  const MEAN *mean, T *y, ptrdiff_t n);
    /* of three columns: two rows of windows at a time, and one of every second column; or NULL */
    void (*three[2])(const THREE *t, const MEAN *mean, T *y, ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t rows, V *total);
} CK_TYPED(passes_t);

#define PASSES CK_TYPED(passes_t)

#if CK_POOL_GUESSES
#include "pool/three.body.h"
#include "pool/short.body.h"
#define THREE_OF(op)                                                                                                   \
    {sizeof(T) == 4 ? CK_TYPED(three_pairs_##op) : NULL, sizeof(T) == 4 ? CK_TYPED(three_seconds_##op) : NULL}
#else
#define THREE_OF(op) {NULL}
#endif

#define MOST(op)                                                                                                       \
    static void CK_TYPED(vertical_##op)(const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch,        \
                                        V total[4])                                                                    \
    {                                                                                                                  \
        CK_TYPED(vertical_some)(op, r, step, rows, out, pitch, total);                                                 \
    }                                                                                                                  \
    static void CK_TYPED(horizontal_##op)(const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,       \
                                          const MEAN *mean, T *y, ptrdiff_t n)                                         \
    {                                                                                                                  \
        CK_TYPED(horizontal_some)(op, p, v, pitch, rows, all, mean, y, n);                                             \
    }                                                                                                                  \
    static void CK_TYPED(together_##op)(const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n,          \
                                        ptrdiff_t rows, V total[4])                                                    \
    {                                                                                                                  \
        CK_TYPED(together_rows)(op, p, r, mean, y, n, rows, total);                                                    \
    }
#define APART(op)                                                                                                      \
    static ptrdiff_t CK_TYPED(apart_##op)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,           \
                                          ptrdiff_t r, T *counts, ptrdiff_t same)                                      \
    {                                                                                                                  \
        return CK_TYPED(forward_apart)(op, p, a, b, r, counts, same);                                                  \
    }
#define SPLIT_OF(op)                                                                                                   \
    static void CK_TYPED(split_##op)(const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch, ptrdiff_t rows,    \
                                     T *all, const MEAN *mean, T *y, ptrdiff_t n)                                      \
    {                                                                                                                  \
        CK_TYPED(split_some)(op, p, s, v, pitch, rows, all, mean, y, n);                                               \
    }
#define PASSES_OF(op, ...)                                                                                             \
    MOST(op)                                                                                                           \
    static const PASSES CK_TYPED(passes_##op) = {op, CK_TYPED(vertical_##op), CK_TYPED(horizontal_##op),               \
                                                 CK_TYPED(together_##op), __VA_ARGS__};
APART(POOL_MAX)
APART(POOL_MIN)
APART(POOL_SUM)
SPLIT_OF(POOL_MAX)
SPLIT_OF(POOL_MIN)
SPLIT_OF(POOL_SUM)
PASSES_OF(POOL_MAX, CK_TYPED(apart_POOL_MAX), CK_TYPED(split_POOL_MAX), {NULL})
PASSES_OF(POOL_MIN, CK_TYPED(apart_POOL_MIN), CK_TYPED(split_POOL_MIN), {NULL})
PASSES_OF(POOL_SUM, CK_TYPED(apart_POOL_SUM), CK_TYPED(split_POOL_SUM), THREE_OF(POOL_SUM))
PASSES_OF(POOL_POWER, NULL, NULL, {NULL})
#if CK_POOL_GUESSES
APART(POOL_LARGER)
APART(POOL_SMALLER)
APART(POOL_SQUARES)
PASSES_OF(POOL_SQUARES, sizeof(T) == 4 ? CK_TYPED(apart_POOL_SQUARES) : NULL, NULL, {NULL})
PASSES_OF(POOL_LARGER, sizeof(T) == 4 ? CK_TYPED(apart_POOL_LARGER) : NULL, NULL, THREE_OF(POOL_LARGER))
PASSES_OF(POOL_SMALLER, sizeof(T) == 4 ? CK_TYPED(apart_POOL_SMALLER) : NULL, NULL, THREE_OF(POOL_SMALLER))
#endif
#undef PASSES_OF
#undef THREE_OF
#undef MOST
#undef APART
#undef SPLIT_OF

/* The windows of rows [r, b->row1); returns the row it stopped before, where POOL_NO_NAN met a NaN. */
static ptrdiff_t CK_TYPED(forward)(const PASSES *pass, const ck_pool *p, const ck_pool_arrays *a,
                                   const ck_pool_block *b, ptrdiff_t r, char *scratch)
{
    const int op = pass->op;
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_row_width(p, n), W = p->size[2];
    const ptrdiff_t start = pool_start(p, 2, b->col0), reach = pool_end(p, 2, b->col1 - 1); /* where in x */
    const ptrdiff_t lo = start < 0 ? 0 : start, hi = reach < W ? reach : W, step = p->stride[1] * W;
    T *all = ck_pool_take(&scratch, width, sizeof(T));
    T *counts = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof(T));
    T *row[CK_POOL_ROWS];
    const T *x = a->in;
    T *y = (T *)a->out + b->col0;
    V total[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
    const ptrdiff_t same = POOL_ADDS(op) ? CK_TYPED(column_counts)(p, b, counts) : 0;
    if (pass->apart && pool_apart_from_others(p) && !(LONG(op, p) && n >= L) &&
        (op != POOL_SQUARES || pool_whole_planes(p))) {
        return pass->apart(p, a, b, r, counts, same);
    }
#if CK_POOL_GUESSES
    if (sizeof(T) == 4 && POOL_NO_NAN(op) && pool_short(p))
        return op == POOL_LARGER ? CK_TYPED(short_larger)(p, a, b, r) : CK_TYPED(short_smaller)(p, a, b, r);
    if (sizeof(T) == 4 && pass->three[0] && pool_three(p, op == POOL_SUM)) {
        if (POOL_NO_NAN(op) && pool_narrow(p) && n >= L)
            return CK_TYPED(forward_strips)(pass, p, a, b, r, (T *)(void *)scratch);
        return CK_TYPED(forward_three)(pass, p, a, b, r, counts, same, scratch);
    }
#endif
    pool_cursor c = pool_seek(p->out, r);
    if (pool_side_by_side(p, 2) || pool_side_by_side(p, 4)) {
        for (ptrdiff_t rows; r < b->row1; r += rows) {
            rows = pool_alike(p, &c);
            if (rows > b->row1 - r) rows = b->row1 - r;
            const ROWS window = CK_TYPED(rows_of)(p, x, &c, lo, hi);
            const MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            pass->together(p, &window, &mean, y + r * p->out[2], n, rows, total);
            if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
            c.at[1] += rows - 1, pool_next(p->out, &c);
        }
        return r;
    }
    for (int i = 0; i < CK_POOL_ROWS; i++) { /* column lo of x is aligned */
        row[i] = (T *)ck_pool_take(&scratch, width, sizeof(T)) + (start - lo) % L + (lo > start ? L : 0);
        CK_TYPED(fill)(row[i], lo - start, CK_TYPED(neutral)(op));
        CK_TYPED(fill)(row[i] + hi - start, width - (hi - start) - L, CK_TYPED(neutral)(op));
    }
    const ptrdiff_t pitch = row[1] - row[0];
    SPLIT split = {NULL, 0, 0, 0};
    T *split_all = NULL;
    if (p->adaptive) {
        split_all = ck_pool_take(&scratch, ck_pool_split_rows(n) * n + CK_POOL_LINE, sizeof(T));
        split = CK_TYPED(split_lanes)(p, b->col0, n, pitch, hi - start, (TI *)(void *)scratch);
    }
    if (sizeof(T) == 4 && pool_as_they_lie(p, b) && (op == POOL_SUM || op == POOL_MAX || op == POOL_MIN)) {
        const ptrdiff_t safe =
            b->row1 - (start + width + W - 1) / W; /* what is read past a row is in the rows behind */
        const MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        for (; r < safe; r++) pass->horizontal(p, x + r * W + start, W, 1, all, &mean, y + r * p->out[2], n);
        c = pool_seek(p->out, r);
    }
    /* Some rows at a time: a load of what several stores have just written would have to wait for them. */
    for (ptrdiff_t rows; r < b->row1; r += rows) {
        const ptrdiff_t most = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        MEAN mean[CK_POOL_ROWS];
        for (rows = 0; rows < most;) {
            ptrdiff_t alike = pool_alike(p, &c);
            if (alike > most - rows) alike = most - rows;
            const ROWS window = CK_TYPED(rows_of)(p, x, &c, lo, hi);
            mean[rows] = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            for (ptrdiff_t i = 1; i < alike; i++) mean[rows + i] = mean[rows];
            pass->vertical(&window, step, alike, row[rows] + lo - start, pitch, total);
            rows += alike, c.at[1] += alike - 1, pool_next(p->out, &c);
        }
        if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
        T *to = y + r * p->out[2];
        if (p->adaptive)
            pass->split(p, &split, row[0], pitch, rows, split_all, mean, to, n);
        else
            pass->horizontal(p, row[0], pitch, rows, all, mean, to, n);
    }
    return r;
}

/* Where it is worth a try, `guess` comes first. */
#define FORWARD(name, op, guess, worth)                                                                                \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        ptrdiff_t row = b->row0;                                                                                       \
        if (ck_pool_in_lanes(p)) {                                                                                     \
            CK_TYPED(forward_in_lanes)(op, p, a, b, s);                                                                \
            return 1;                                                                                                  \
        }                                                                                                              \
        const ck_pool under = pool_under_each_other(p, b->row1);                                                       \
        p = &under;                                                                                                    \
        if (worth) row = CK_TYPED(forward)(&CK_TYPED(passes_##guess), p, a, b, row, s);                                \
        if (row < b->row1) CK_TYPED(forward)(&CK_TYPED(passes_##op), p, a, b, row, s);                                 \
        return 1;                                                                                                      \
    }
#if CK_POOL_GUESSES
FORWARD(ck_pool_max, POOL_MAX, POOL_LARGER, pool_numbers_first(p, sizeof(T)))
FORWARD(ck_pool_min, POOL_MIN, POOL_SMALLER, pool_numbers_first(p, sizeof(T)))
FORWARD(ck_pool_lp, POOL_POWER, POOL_SQUARES, p->power == 2)
#else
FORWARD(ck_pool_max, POOL_MAX, POOL_MAX, 0)
FORWARD(ck_pool_min, POOL_MIN, POOL_MIN, 0)
FORWARD(ck_pool_lp, POOL_POWER, POOL_POWER, 0)
#endif
FORWARD(ck_pool_avg, POOL_SUM, POOL_SUM, 0)
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

/* What was found in rows of x: tap i along d and row h of the plane are in slot i * slots_h + h % slots_h, a power of two. Per
 * window of a row: the value that won, and the number of its tap in units of `unit`. */
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
    V odd; /* not zero once a NaN or an infinity was seen */
    const T *row[CK_POOL_ROWS];
    ptrdiff_t slot[CK_POOL_ROWS], waiting;
} CK_TYPED(search_t);

#define SEARCH CK_TYPED(search_t)

CK_INLINE void CK_TYPED(search_taps)(int op, int nans, const SEARCH *s, ptrdiff_t kernel, const T *row, T *value,
                                     TI *which)
{
    for (ptrdiff_t o = 0; o < s->n; o += L) {
        /* As if the first tap inside had been seen already: a window of only -inf points into the plane. */
        V best = vload(row + s->columns[0] + o);
        VI at = CK_TYPED(load_numbers)(s->skip + o);
        for (ptrdiff_t k = 1; k < kernel; k++)
            CK_TYPED(pool_keep)(op == POOL_MAX, nans, vload(row + s->columns[k] + o), (TI)k * s->unit - (VI){0}, &best,
                                &at);
        vstore(value + o, best);
        CK_TYPED(store_numbers)(which + o, at);
    }
}

/* Adaptive windows; the numbers are columns after the block's first. */
CK_INLINE void CK_TYPED(search_split)(int op, const ck_pool *p, const SEARCH *s, ptrdiff_t col0, const T *row, T *value,
                                      TI *which)
{
    pool_splitter at = pool_split_from(p->size[2], p->out[2], col0);
    row -= s->start;
    for (ptrdiff_t o = 0; o < s->n; o++, pool_split_next(&at)) {
        ptrdiff_t best = at.first;
        for (ptrdiff_t i = at.first + 1; i < at.end; i++)
            if ((op == POOL_MAX ? row[i] > row[best] : row[i] < row[best]) || row[i] != row[i]) best = i;
        value[o] = row[best];
        which[o] = (TI)(best - s->start);
    }
}

/* Search the rows that wait. */
CK_INLINE void CK_TYPED(search_rows)(int op, const ck_pool *p, SEARCH *s, ptrdiff_t col0, FOUND *found)
{
    for (ptrdiff_t i = 0; i < s->waiting; i++) {
        CK_TYPED(fetch)(s->row[i], s->hi - s->lo);
        s->odd = CK_TYPED(copy_phases)(s->row[i], s->hi - s->lo, s->lo - s->start, s->stride,
                                       s->stage + i * s->stage_width, s->pitch, s->odd);
    }
    const int nans = vsum(s->odd) != 0;
    for (ptrdiff_t i = 0; i < s->waiting; i++) {
        const T *row = s->stage + i * s->stage_width;
        T *value = found->values + s->slot[i] * found->pitch;
        TI *which = found->which + s->slot[i] * found->pitch;
        if (p->adaptive)
            CK_TYPED(search_split)(op, p, s, col0, row, value, which);
        else if (nans)
            CK_TYPED(search_taps)(op, 1, s, p->kernel[2], row, value, which);
        else if (p->kernel[2] == 3)
            CK_TYPED(search_taps)(op, 0, s, 3, row, value, which);
        else
            CK_TYPED(search_taps)(op, 0, s, p->kernel[2], row, value, which);
    }
    s->waiting = 0;
}

/* Once per operation, however many kernels call it. */
CK_NOINLINE void CK_TYPED(search_largest)(const ck_pool *p, SEARCH *s, ptrdiff_t col0, FOUND *found)
{
    CK_TYPED(search_rows)(POOL_MAX, p, s, col0, found);
}

CK_NOINLINE void CK_TYPED(search_smallest)(const ck_pool *p, SEARCH *s, ptrdiff_t col0, FOUND *found)
{
    CK_TYPED(search_rows)(POOL_MIN, p, s, col0, found);
}

CK_INLINE void CK_TYPED(search_waiting)(int op, const ck_pool *p, SEARCH *s, ptrdiff_t col0, FOUND *found)
{
    if (op == POOL_MAX)
        CK_TYPED(search_largest)(p, s, col0, found);
    else
        CK_TYPED(search_smallest)(p, s, col0, found);
}

/* See to it that the rows of the windows of one output row are in their slots; some may still wait after it. */
CK_INLINE void CK_TYPED(hold)(int op, const ck_pool *p, const T *x, const pool_cursor *c, ptrdiff_t col0, SEARCH *s,
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
            if (s->waiting == CK_POOL_ROWS) CK_TYPED(search_waiting)(op, p, s, col0, found);
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
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t H = p->size[1], W = p->size[2], count = 0;
    ptrdiff_t step = p->dilation[1], first = h.first & (found->slots_h - 1);
    for (ptrdiff_t i = d.skip; i < d.skip + d.n; i++) {
        ptrdiff_t at = first;
        for (ptrdiff_t j = h.skip; j < h.skip + h.n; j++, count++) {
            ptrdiff_t slot = i * found->slots_h + at;
            t->values[count] = found->values + slot * found->pitch;
            t->which[count] = found->which + slot * found->pitch;
            t->base[count] =
                (TI)(bytes ? (i * p->kernel[1] + j) * p->kernel[2] : (i * p->dilation[0] * H + j * step) * W);
            at = (at + step) & (found->slots_h - 1);
        }
    }
    t->count = count;
    t->stride = bytes || p->adaptive ? 0 : (TI)p->stride[2];
    t->start = 0;
    if (!bytes) t->start = (TI)(((d.first - d.skip * p->dilation[0]) * H + h.first - h.skip * step) * W + s->start);
}

CK_INLINE void CK_TYPED(join_rows)(int op, int nans, int bytes, const TAP_ROWS *t, ptrdiff_t count, T *y, void *chosen,
                                   ptrdiff_t n)
{
    VI ramp;
    for (int i = 0; i < L; i++) ramp[i] = i;
    ramp = ramp * t->stride + t->start;
    for (ptrdiff_t o = 0; o < n; o += L, ramp += (TI)L * t->stride) {
        V best = vload(t->values[0] + o);
        VI at = CK_TYPED(load_numbers)(t->which[0] + o) + t->base[0];
        for (ptrdiff_t r = 1; r < count; r++)
            CK_TYPED(pool_keep)(op == POOL_MAX, nans, vload(t->values[r] + o),
                                CK_TYPED(load_numbers)(t->which[r] + o) + t->base[r], &best, &at);
        CK_TYPED(deliver)(y + o, best, n - o);
        if (bytes)
            CK_TYPED(pool_narrow)((uint8_t *)chosen + o, at, n - o);
        else
            CK_TYPED(pool_widen)((int64_t *)chosen + o, at + ramp, n - o);
    }
}

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
        V odd = vset1(0);
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->out, &c))
            odd += CK_TYPED(pairs_row)(op, nans, bytes, p, a, &c, b, r + i);
        if (nans || vsum(odd) == 0) continue;
        nans = 1;
        c = first; /* once more */
        for (ptrdiff_t i = 0; i < rows; i++, pool_next(p->out, &c))
            CK_TYPED(pairs_row)(op, nans, bytes, p, a, &c, b, r + i);
    }
}

CK_INLINE void CK_TYPED(indexed)(int op, int bytes, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                 char *scratch)
{
    if (pool_whole_rows(p)) {
        CK_TYPED(indexed_rows)(op, bytes, p, a, b);
        return;
    }
    if (pool_side_by_side(p, 2)) {
        CK_TYPED(indexed_pairs)(op, bytes, p, a, b);
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
                .odd = vset1(0),
                .waiting = 0};
    s.stage = ck_pool_take(&scratch, CK_POOL_ROWS * s.stage_width, sizeof(T));
    s.columns = ck_pool_take(&scratch, p->kernel[2], sizeof *s.columns);
    s.skip = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof *s.skip);
    TAP_ROWS taps = {.values = ck_pool_take(&scratch, rows_max, sizeof *taps.values),
                     .which = ck_pool_take(&scratch, rows_max, sizeof *taps.which),
                     .base = ck_pool_take(&scratch, rows_max, sizeof *taps.base)};
    CK_TYPED(fill)(s.stage, CK_POOL_ROWS * s.stage_width, CK_TYPED(neutral)(op));
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
        for (ptrdiff_t i = 0; i < rows; i++, ahead.at[1]++) CK_TYPED(hold)(op, p, a->in, &ahead, b->col0, &s, &found);
        CK_TYPED(search_waiting)(op, p, &s, b->col0, &found);
        const int nans = vsum(s.odd) != 0; /* once seen, the check for NaN stays on: it costs time, no result */
        for (ptrdiff_t i = 0; i < rows; i++, r++, pool_next(p->out, &c)) {
            ptrdiff_t first = r * p->out[2] + b->col0;
            T *y = (T *)a->out + first;
            void *chosen = (char *)a->chosen + first * (ptrdiff_t)(bytes ? 1 : sizeof(int64_t));
            CK_TYPED(list_rows)(p, bytes, &c, &s, &found, &taps);
            if (nans)
                CK_TYPED(join_rows)(op, 1, bytes, &taps, taps.count, y, chosen, n);
            else if (taps.count == 3)
                CK_TYPED(join_rows)(op, 0, bytes, &taps, 3, y, chosen, n);
            else
                CK_TYPED(join_rows)(op, 0, bytes, &taps, taps.count, y, chosen, n);
        }
    }
}

#define INDEXED(name, op, bytes)                                                                                       \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        CK_TYPED(indexed)(op, bytes, p, a, b, s);                                                                      \
        return 1;                                                                                                      \
    }
INDEXED(ck_pool_max_indices, POOL_MAX, 0)
INDEXED(ck_pool_min_indices, POOL_MIN, 0)
INDEXED(ck_pool_max_taps, POOL_MAX, 1)
INDEXED(ck_pool_min_taps, POOL_MIN, 1)
#undef INDEXED

/* ---- backward */

/* One plane of `size` elements and n positions in it: add or store the n values there, or collect them. */
CK_INLINE int CK_TYPED(by_index)(int op, const T *in, const int64_t *indices, T *out, ptrdiff_t n, ptrdiff_t size)
{
    const ptrdiff_t each = size / n;
    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t at = (uint64_t)indices[i]; /* a negative one is huge */
        if (at >= (uint64_t)size) return 0;
        if (CK_POOL_GUESSES && op == POOL_GATHER) __builtin_prefetch((const char *)(in + i * each) + CK_POOL_AHEAD);
        if (op == POOL_ADD)
            out[at] += in[i];
        else if (op == POOL_PLACE)
            out[at] = in[i];
        else
            out[i] = in[at];
    }
    return 1;
}

#define BY_INDEX(name, op)                                                                                             \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        const ptrdiff_t n = p->out[0] * p->out[1] * p->out[2], size = p->size[0] * p->size[1] * p->size[2];            \
        const ptrdiff_t some = size < CK_POOL_ZEROED ? CK_POOL_ZEROED / size : 1;                                      \
        const ptrdiff_t first = sizeof(T) == 4 && op != POOL_GATHER ? POOL_BY_CELLS(op, p, a, b) : b->row0;            \
        (void)s;                                                                                                       \
        for (ptrdiff_t plane = first; plane < b->row1; plane++) {                                                      \
            const T *in = (const T *)a->in + plane * (op == POOL_GATHER ? size : n);                                   \
            T *out = (T *)a->out + plane * (op == POOL_GATHER ? n : size);                                             \
            ptrdiff_t left = b->row1 - plane < some ? b->row1 - plane : some;                                          \
            if (op != POOL_GATHER && (plane - first) % some == 0) memset(out, 0, (size_t)(size * left) * sizeof(T));   \
            if (!CK_TYPED(by_index)(op, in, (const int64_t *)a->chosen + plane * n, out, n, size)) return 0;           \
        }                                                                                                              \
        return 1;                                                                                                      \
    }
BY_INDEX(ck_pool_scatter, POOL_ADD)
BY_INDEX(ck_pool_place, POOL_PLACE)
BY_INDEX(ck_pool_gather, POOL_GATHER)
#undef BY_INDEX

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

#undef LONG
#undef SPLIT
#undef PASSES
#undef THREE
#undef OFTEN
#undef EVEN
#undef ODD
#undef TAKEN
#undef FOUND
#undef SEARCH
#undef TAP_ROWS
#undef GIVER
