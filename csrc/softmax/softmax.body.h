/* Compiled once per dtype by softmax.kernel.c. Each operation stands twice: row_* for inner == 1, where a
 * position is contiguous and reduced across the lanes, and block_* for inner > 1, where neighbouring
 * positions fill the lanes and a block of 4 KiB of them goes through `length` rows, three times: long enough
 * for the prefetchers, short enough to stay in the second-level cache. */
#ifndef CK_SOFTMAX_BLOCK
#define CK_SOFTMAX_BLOCK
enum { CK_BLOCK_VECTORS = 4096 / CK_VBYTES };
enum { CK_SOFTMAX_SHORT = 48, CK_SOFTMAX_TURNED = 4 }; /* longest row that is turned, and vectors of positions then */
enum { CK_SOFTMAX_AHEAD = 4096 }; /* bytes of a row asked for early: the hardware's reading ahead ends with the page */

/* Logarithms of sums are taken in float64 for both dtypes. */
CK_INLINE double ck_log(double x)
{
    ck_f64v y = vlog_f64(ck_set1_f64(x));
    return y[0];
}
#endif

/* n elements, a full vector or the last part of one with `other` in the lanes past it. */
CK_INLINE V CK_TYPED(load_or)(const T *p, ptrdiff_t n, T other)
{
    static const T ones[L] = {[0 ... L - 1] = 1};
    if (n >= L) return vload(p);
    return vselect((VI)(vload_part(ones, n) != 0), vload_part(p, n), vset1(other));
}

CK_INLINE void CK_TYPED(store_some)(T *p, V v, ptrdiff_t n)
{
    if (n >= L)
        vstore(p, v);
    else
        vstore_part(p, v, n);
}

/* exp(x) for x <= 0, UNIT times; what a larger x gives does not matter. Two instructions less than vexp, and half an ulp more.
 * Without an instruction for the power of two it stays at the larger of its two factors, so that nothing is denormal. */
#if defined(CK_AVX512)
#define CK_SOFTMAX_UNIT 1.0
#else
#define CK_SOFTMAX_UNIT ((double)CK_TYPED(CK_TO_UP))
#endif
CK_INLINE V CK_TYPED(vexp_below_0)(V x)
{
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(ck_larger)(vset1(CK_TYPED(CK_EXP_LOW)), x), CK_EXP_DOWN, &shifted);
#if defined(CK_AVX512)
    const int terms = sizeof(CK_TYPED(ck_exp_q)) / sizeof(T);
    V slope = vfma(CK_TYPED(polynomial)(r, CK_TYPED(ck_exp_q), terms), r, vset1(1));
    return CK_TYPED(ck_scale)(vfma(slope, r, vset1(1)), shifted - vset1(CK_TYPED(CK_ROUND)));
#else
    V power = (V)((VI)shifted << CK_TYPED(CK_MANTISSA));
    return vfma(CK_TYPED(short_expm1)(r), power, power);
#endif
}

/* ---- one position, contiguous ---- */

/* The largest value, in every lane. A NaN may or may not be found: it makes the sum of exponentials NaN in any case. */
CK_INLINE V CK_TYPED(row_max)(const T *x, ptrdiff_t length)
{
    enum { WAYS = 4 };
    V m[WAYS];
    ptrdiff_t i = 0;
    CK_UNROLL for (int w = 0; w < WAYS; w++) m[w] = vset1((T)-INFINITY);
    for (; i + WAYS * L <= length; i += WAYS * L)
        CK_UNROLL for (int w = 0; w < WAYS; w++) m[w] = CK_TYPED(ck_larger)(m[w], vload(x + i + w * L));
    for (; i < length; i += L) m[0] = CK_TYPED(ck_larger)(m[0], CK_TYPED(load_or)(x + i, length - i, (T)-INFINITY));
    V all = CK_TYPED(ck_larger)(CK_TYPED(ck_larger)(m[0], m[1]), CK_TYPED(ck_larger)(m[2], m[3]));
    CK_UNROLL for (int half = L / 2; half > 0; half /= 2) all = CK_TYPED(ck_larger)(veven(all, all), vodd(all, all));
    return all;
}

/* Sum of n elements, none negative. Unless every digit counts, four vectors are added before they are converted, which
 * is most of the work: it costs each element half an eps twice, and the sum no more. */
CK_INLINE double CK_TYPED(block_total)(const T *e, ptrdiff_t n, const int exact)
{
    enum { STEP = CK_CHAINS * CK_F64_LANES };
    ck_f64v sum[CK_CHAINS] = {{0}}, wide[WIDE];
    ptrdiff_t i = 0;
    if (exact)
        for (; i + STEP <= n; i += STEP)
            CK_UNROLL for (int c = 0; c < CK_CHAINS; c++) sum[c] += CK_TYPED(ck_load_wide)(e + i + c * CK_F64_LANES);
    else
        for (; i + 4 * L <= n; i += 4 * L) {
            vwiden((vload(e + i) + vload(e + i + L)) + (vload(e + i + 2 * L) + vload(e + i + 3 * L)), wide);
            CK_UNROLL for (int w = 0; w < WIDE; w++) sum[w] += wide[w];
        }
    for (; i < n; i += L) {
        vwiden(CK_TYPED(load_or)(e + i, n - i, 0), wide);
        CK_UNROLL for (int w = 0; w < WIDE; w++) sum[w] += wide[w];
    }
    return ck_chains_close(sum);
}

/* sum of exp(x - m), m >= x, UNIT times; the exponentials go to e where that is not NULL. A loop of its own for the sum leaves that of
 * the exponentials short. */
CK_INLINE double CK_TYPED(row_exp)(const T *x, ptrdiff_t length, V m, T *e, const int exact)
{
    enum { BLOCK = WIDE == 1 ? 256 : 1024 };
    T own[BLOCK];
    ck_total total = {0, 0};
    for (ptrdiff_t first = 0; first < length; first += BLOCK) {
        const ptrdiff_t n = length - first < BLOCK ? length - first : BLOCK;
        const T *from = x + first;
        T *to = e ? e + first : own;
        ptrdiff_t i = 0;
        for (; i + L <= n; i += L) {
            __builtin_prefetch((const char *)(from + i) + CK_SOFTMAX_AHEAD);
            vstore(to + i, CK_TYPED(vexp_below_0)(vload(from + i) - m));
        }
        if (i < n) vstore_part(to + i, CK_TYPED(vexp_below_0)(vload_part(from + i, n - i) - m), n - i);
        ck_total_add(&total, CK_TYPED(block_total)(to, n, exact));
    }
    return ck_total_value(total);
}

CK_INLINE double CK_TYPED(row_log)(const T *x, ptrdiff_t length, V m)
{
    return ck_log(CK_TYPED(row_exp)(x, length, m, NULL, 1) / CK_SOFTMAX_UNIT);
}

/* sum of a b, or of a where b is NULL */
CK_INLINE double CK_TYPED(row_dot)(const T *a, const T *b, ptrdiff_t length)
{
    const ptrdiff_t block = WIDE == 1 ? 256 : 1024, step = CK_CHAINS / WIDE * L;
    ck_total total = {0, 0};
    for (ptrdiff_t first = 0; first < length; first += block) {
        ptrdiff_t end = length - first < block ? length : first + block;
        ck_f64v sum[CK_CHAINS] = {{0}}, wide[WIDE];
        for (ptrdiff_t i = first; i < end; i += step) {
            CK_UNROLL
            for (int c = 0; c < CK_CHAINS; c += WIDE) {
                ptrdiff_t at = i + c / WIDE * L;
                if (at >= end) break;
                V term = CK_TYPED(load_or)(a + at, end - at, 0);
                if (b) term *= CK_TYPED(load_or)(b + at, end - at, 0);
                vwiden(term, wide);
                CK_UNROLL
                for (int w = 0; w < WIDE; w++) sum[c + w] += wide[w];
            }
        }
        ck_total_add(&total, ck_chains_close(sum));
    }
    return ck_total_value(total);
}

CK_INLINE void CK_TYPED(row_scale)(T *y, ptrdiff_t length, T by)
{
    ptrdiff_t i = 0;
    for (; i + L <= length; i += L) vstore(y + i, vload(y + i) * by);
    if (i < length) vstore_part(y + i, vload_part(y + i, length - i) * by, length - i);
}

CK_INLINE void CK_TYPED(row_softmax)(const ck_softmax *job, ptrdiff_t row)
{
    const T *x = (const T *)job->x + row * job->length;
    T *y = (T *)job->y + row * job->length;
    double sum = CK_TYPED(row_exp)(x, job->length, CK_TYPED(row_max)(x, job->length), y, 0);
    CK_TYPED(row_scale)(y, job->length, (T)(1.0 / sum));
}

CK_INLINE void CK_TYPED(row_log_softmax)(const ck_softmax *job, ptrdiff_t row)
{
    const ptrdiff_t length = job->length;
    const T *x = (const T *)job->x + row * length;
    T *y = (T *)job->y + row * length;
    const V m = CK_TYPED(row_max)(x, length), log_v = vset1((T)CK_TYPED(row_log)(x, length, m));
    for (ptrdiff_t i = 0; i < length; i += L)
        CK_TYPED(store_some)(y + i, (CK_TYPED(load_or)(x + i, length - i, 0) - m) - log_v, length - i);
}

CK_INLINE void CK_TYPED(row_softmax_backward)(const ck_softmax *job, ptrdiff_t row)
{
    const ptrdiff_t length = job->length;
    const T *y = (const T *)job->x + row * length, *dy = (const T *)job->dy + row * length;
    T *dx = (T *)job->y + row * length;
    const V sum = vset1((T)CK_TYPED(row_dot)(dy, y, length));
    for (ptrdiff_t i = 0; i < length; i += L) {
        V d = CK_TYPED(load_or)(dy + i, length - i, 0) - sum;
        CK_TYPED(store_some)(dx + i, CK_TYPED(load_or)(y + i, length - i, 0) * d, length - i);
    }
}

CK_INLINE void CK_TYPED(row_log_softmax_backward)(const ck_softmax *job, ptrdiff_t row)
{
    const ptrdiff_t length = job->length;
    const T *y = (const T *)job->x + row * length, *dy = (const T *)job->dy + row * length;
    T *dx = (T *)job->y + row * length;
    const V minus = vset1((T)-CK_TYPED(row_dot)(dy, NULL, length));
    for (ptrdiff_t i = 0; i < length; i += L) {
        V p = CK_TYPED(vexp)(CK_TYPED(load_or)(y + i, length - i, 0));
        CK_TYPED(store_some)(dx + i, vfma(p, minus, CK_TYPED(load_or)(dy + i, length - i, 0)), length - i);
    }
}

/* sum of q (log_sum - (x - m)) where q is not 0 */
CK_INLINE double CK_TYPED(row_entropy)(const T *x, const T *q, ptrdiff_t length, V m, T log_sum)
{
    const ptrdiff_t block = WIDE == 1 ? 256 : 1024;
    const V log_v = vset1(log_sum), zero = vset1(0);
    ck_total total = {0, 0};
    for (ptrdiff_t first = 0; first < length; first += block) {
        ptrdiff_t end = length - first < block ? length : first + block;
        ck_f64v sum[WIDE] = {{0}}, wide[WIDE];
        for (ptrdiff_t i = first; i < end; i += L) {
            V some = CK_TYPED(load_or)(q + i, end - i, 0);
            V term = some * (log_v - (CK_TYPED(load_or)(x + i, end - i, 0) - m));
            vwiden(vselect((VI)(some == zero), zero, term), wide);
            CK_UNROLL
            for (int w = 0; w < WIDE; w++) sum[w] += wide[w];
        }
        ck_total_add(&total, ck_sum_f64(sum[0] + (WIDE == 2 ? sum[WIDE - 1] : (ck_f64v){0})));
    }
    return ck_total_value(total);
}

/* One factor of a position, 1 where there is none; and the row of soft that belongs to it. */
CK_INLINE double CK_TYPED(factor_of)(const void *factors, ptrdiff_t position)
{
    return factors ? (double)((const T *)factors)[position] : 1.0;
}

CK_INLINE const T *CK_TYPED(row_soft)(const ck_softmax *job, ptrdiff_t row)
{
    return (const T *)job->soft + (job->soft_is_shared ? 0 : row * job->length);
}

CK_INLINE void CK_TYPED(row_cross_entropy)(const ck_softmax *job, ptrdiff_t row)
{
    const T *x = (const T *)job->x + row * job->length;
    const V m = CK_TYPED(row_max)(x, job->length);
    const double log_sum = CK_TYPED(row_log)(x, job->length, m);
    const double hit = CK_TYPED(factor_of)(job->hit, row), every = CK_TYPED(factor_of)(job->every, row);
    double loss = 0;
    if (job->target && hit != 0) loss = hit * (log_sum - ((double)x[job->target[row]] - (double)m[0]));
    if (job->soft && every != 0)
        loss += every * CK_TYPED(row_entropy)(x, CK_TYPED(row_soft)(job, row), job->length, m, (T)log_sum);
    ((T *)job->y)[row] = (T)loss;
}

CK_INLINE void CK_TYPED(row_cross_entropy_backward)(const ck_softmax *job, ptrdiff_t row)
{
    const ptrdiff_t length = job->length;
    const T *x = (const T *)job->x + row * length, *soft = job->soft ? CK_TYPED(row_soft)(job, row) : NULL;
    T *dx = (T *)job->y + row * length, *at = job->target ? dx + job->target[row] : NULL;
    const double sum = CK_TYPED(row_exp)(x, length, CK_TYPED(row_max)(x, length), dx, 1), e = at ? *at : 0;
    const double hit = at ? CK_TYPED(factor_of)(job->hit, row) : 0, every = CK_TYPED(factor_of)(job->every, row);
    const double all = soft ? every * CK_TYPED(row_dot)(soft, NULL, length) : 0;
    CK_TYPED(row_scale)(dx, length, (T)((hit + all) / sum));
    if (soft) {
        const V minus = vset1((T)-every);
        for (ptrdiff_t i = 0; i < length; i += L) {
            V d = vfma(CK_TYPED(load_or)(soft + i, length - i, 0), minus, CK_TYPED(load_or)(dx + i, length - i, 0));
            CK_TYPED(store_some)(dx + i, d, length - i);
        }
    }
    /* e / sum - 1 in float64, where it does not cancel */
    if (at) *at = (T)((e / sum - 1) * hit + (soft ? e / sum * all - every * (double)soft[job->target[row]] : 0));
}

/* ---- a block of neighbouring positions, one to a lane ---- */

/* What is known of each position of a block; vector v holds the lanes from v L on. */
typedef struct {
    ptrdiff_t count, length, inner, offset; /* positions; offset: first element of the block in the arrays */
    V max[CK_BLOCK_VECTORS];
    ck_f64v sum[CK_BLOCK_VECTORS * WIDE], lost[CK_BLOCK_VECTORS]; /* lost: float64 only */
    V factor[CK_BLOCK_VECTORS];
} CK_TYPED(block);

/* For each row and vector of a block: `at` is its first element, `n` how many of its lanes exist. */
#define CK_EACH_OF_BLOCK(b)                                                                                            \
    for (ptrdiff_t row = 0, at = (b)->offset, v = 0, n; row < (b)->length; row++, at += (b)->inner)                    \
        for (v = 0; n = (b)->count - v * L, n > 0; v++)

CK_INLINE void CK_TYPED(block_clear)(CK_TYPED(block) * b)
{
    for (ptrdiff_t v = 0; v * L < b->count; v++) {
        CK_UNROLL
        for (int w = 0; w < WIDE; w++) b->sum[v * WIDE + w] = (ck_f64v){0};
        if (WIDE == 1) b->lost[v] = (ck_f64v){0};
    }
}

/* Add one vector of terms. In float64 the sum is compensated (two-sum), since a long one would lose digits.
 */
CK_INLINE void CK_TYPED(block_add)(CK_TYPED(block) * b, ptrdiff_t v, const ck_f64v term[WIDE])
{
    CK_UNROLL
    for (int w = 0; w < WIDE; w++) {
        ck_f64v old = b->sum[v * WIDE + w], s = old + term[w];
        if (WIDE == 1) {
            ck_f64v part = s - old;
            b->lost[v] += (old - (s - part)) + (term[w] - part);
        }
        b->sum[v * WIDE + w] = s;
    }
}

CK_INLINE ck_f64v CK_TYPED(block_sum)(const CK_TYPED(block) * b, ptrdiff_t v, int w)
{
    return WIDE == 1 ? b->sum[v] + b->lost[v] : b->sum[v * WIDE + w];
}

/* Of float64 vectors, one in the dtype. */
CK_INLINE V CK_TYPED(narrow)(const ck_f64v wide[WIDE])
{
    T lane[L];
    for (int l = 0; l < L; l++) lane[l] = (T)((const double *)wide)[l];
    return vload(lane);
}

CK_INLINE void CK_TYPED(block_max)(CK_TYPED(block) * b, const T *x)
{
    for (ptrdiff_t v = 0; v * L < b->count; v++) b->max[v] = vset1((T)-INFINITY);
    CK_EACH_OF_BLOCK(b) b->max[v] = CK_TYPED(ck_larger)(b->max[v], CK_TYPED(load_or)(x + at + v * L, n, 0));
}

CK_INLINE void CK_TYPED(block_exp)(CK_TYPED(block) * b, const T *x, T *e)
{
    ck_f64v wide[WIDE];
    CK_TYPED(block_max)(b, x);
    CK_TYPED(block_clear)(b);
    CK_EACH_OF_BLOCK(b)
    {
        V y = CK_TYPED(vexp_below_0)(CK_TYPED(load_or)(x + at + v * L, n, 0) - b->max[v]);
        if (e) CK_TYPED(store_some)(e + at + v * L, y, n);
        vwiden(y, wide);
        CK_TYPED(block_add)(b, v, wide);
    }
}

/* Some rows of dy y, or of dy where y is NULL, for the n lanes of a vector, summed in registers. */
CK_INLINE void CK_TYPED(rows_dot)(const T *dy, const T *y, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t n,
                                  ck_f64v sum[WIDE])
{
    ck_f64v wide[WIDE];
    CK_UNROLL
    for (int w = 0; w < WIDE; w++) sum[w] = (ck_f64v){0};
    for (ptrdiff_t r = 0; r < rows; r++) {
        V term = CK_TYPED(load_or)(dy + r * inner, n, 0);
        if (y) term *= CK_TYPED(load_or)(y + r * inner, n, 0);
        vwiden(term, wide);
        CK_UNROLL
        for (int w = 0; w < WIDE; w++) sum[w] += wide[w];
    }
}

/* Sums of dy y, or of dy where y is NULL: some rows at a time, which loads and stores the sums of a block less often. */
CK_INLINE void CK_TYPED(block_dot)(CK_TYPED(block) * b, const T *dy, const T *y)
{
    const ptrdiff_t some = 8, inner = b->inner;
    ck_f64v sum[WIDE];
    CK_TYPED(block_clear)(b);
    for (ptrdiff_t row = 0, at = b->offset; row < b->length; row += some, at += some * inner) {
        const ptrdiff_t rows = b->length - row < some ? b->length - row : some;
        for (ptrdiff_t v = 0, n = b->count; n > 0; v++, n -= L) {
            const T *y_at = y ? y + at + v * L : NULL;
            if (rows == some && n >= L)
                CK_TYPED(rows_dot)(dy + at + v * L, y_at, some, inner, L, sum);
            else
                CK_TYPED(rows_dot)(dy + at + v * L, y_at, rows, inner, n, sum);
            CK_TYPED(block_add)(b, v, sum);
        }
    }
}

/* Logarithms of sums of at least 1, to an eps or two. A float32 next to 1 would have lost the digits of its logarithm, a
 * float32 less 1 has them all. */
CK_INLINE V CK_TYPED(log_of_sum)(const ck_f64v sum[WIDE])
{
    if (WIDE == 1) return (V)vlog_f64(sum[0]);
    ck_f64v beyond[WIDE];
    CK_UNROLL for (int w = 0; w < WIDE; w++) beyond[w] = sum[w] - 1.0;
    V s = CK_TYPED(narrow)(sum);
    VI k = ((VI)s - CK_TYPED(CK_SQRT_HALF_BITS)) >> CK_TYPED(CK_MANTISSA);
    V f = (V)((VI)s - (k << CK_TYPED(CK_MANTISSA))) - (T)1;
    f = vselect((VI)(k == 0), CK_TYPED(narrow)(beyond), f);
    return CK_TYPED(log_of)(__builtin_convertvector(k, V), f) + (s - s); /* NaN stays NaN */
}

/* factor = the sums, their reciprocals, or their logarithms */
enum { CK_TYPED(SUM), CK_TYPED(RECIPROCAL), CK_TYPED(LOGARITHM) };
CK_INLINE void CK_TYPED(block_factor)(CK_TYPED(block) * b, const int what)
{
    ck_f64v wide[WIDE];
    for (ptrdiff_t v = 0; v * L < b->count; v++) {
        CK_UNROLL
        for (int w = 0; w < WIDE; w++) {
            wide[w] = CK_TYPED(block_sum)(b, v, w);
            if (what == CK_TYPED(RECIPROCAL)) wide[w] = ck_set1_f64(1.0) / wide[w];
            if (what == CK_TYPED(LOGARITHM)) wide[w] = wide[w] / CK_SOFTMAX_UNIT;
        }
        b->factor[v] = what == CK_TYPED(LOGARITHM) ? CK_TYPED(log_of_sum)(wide) : CK_TYPED(narrow)(wide);
    }
}

CK_INLINE void CK_TYPED(block_scale)(CK_TYPED(block) * b, T *y)
{
    CK_EACH_OF_BLOCK(b)
    CK_TYPED(store_some)(y + at + v * L, CK_TYPED(load_or)(y + at + v * L, n, 0) * b->factor[v], n);
}

CK_INLINE void CK_TYPED(block_softmax)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    (void)position;
    CK_TYPED(block_exp)(b, job->x, job->y);
    CK_TYPED(block_factor)(b, CK_TYPED(RECIPROCAL));
    CK_TYPED(block_scale)(b, job->y);
}

CK_INLINE void CK_TYPED(block_log_softmax)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *x = job->x;
    T *y = job->y;
    (void)position;
    CK_TYPED(block_exp)(b, x, NULL);
    CK_TYPED(block_factor)(b, CK_TYPED(LOGARITHM));
    CK_EACH_OF_BLOCK(b)
    {
        V d = CK_TYPED(load_or)(x + at + v * L, n, 0) - b->max[v];
        CK_TYPED(store_some)(y + at + v * L, d - b->factor[v], n);
    }
}

CK_INLINE void CK_TYPED(block_softmax_backward)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *y = job->x, *dy = job->dy;
    T *dx = job->y;
    (void)position;
    CK_TYPED(block_dot)(b, dy, y);
    CK_TYPED(block_factor)(b, CK_TYPED(SUM));
    CK_EACH_OF_BLOCK(b)
    {
        V d = CK_TYPED(load_or)(dy + at + v * L, n, 0) - b->factor[v];
        CK_TYPED(store_some)(dx + at + v * L, CK_TYPED(load_or)(y + at + v * L, n, 0) * d, n);
    }
}

CK_INLINE void CK_TYPED(block_log_softmax_backward)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *y = job->x, *dy = job->dy;
    T *dx = job->y;
    (void)position;
    CK_TYPED(block_dot)(b, dy, NULL);
    CK_TYPED(block_factor)(b, CK_TYPED(SUM));
    CK_EACH_OF_BLOCK(b)
    {
        V p = CK_TYPED(vexp)(CK_TYPED(load_or)(y + at + v * L, n, 0));
        V d = vfma(p, -b->factor[v], CK_TYPED(load_or)(dy + at + v * L, n, 0));
        CK_TYPED(store_some)(dx + at + v * L, d, n);
    }
}

/* n elements of soft for class `row` of the block's vector v, whose first element is `at` */
CK_INLINE V CK_TYPED(block_soft)(const ck_softmax *job, ptrdiff_t row, ptrdiff_t at, ptrdiff_t n)
{
    const T *soft = job->soft;
    return job->soft_is_shared ? vset1(soft[row]) : CK_TYPED(load_or)(soft + at, n, 0);
}

/* The double of one position among the block's sums. */
CK_INLINE double CK_TYPED(sum_at)(const CK_TYPED(block) * b, ptrdiff_t p)
{
    double sum = ((const double *)b->sum)[p];
    return WIDE == 1 && isfinite(sum) ? sum + ((const double *)b->lost)[p] : sum; /* what inf lost is NaN */
}

CK_INLINE void CK_TYPED(block_cross_entropy)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *x = (const T *)job->x;
    T *loss = (T *)job->y + position;
    T picked[CK_BLOCK_VECTORS * L];
    const T *hits = job->hit ? (const T *)job->hit + position : NULL;
    const V zero = vset1(0);
    CK_TYPED(block_exp)(b, x, NULL);
    CK_TYPED(block_factor)(b, CK_TYPED(LOGARITHM));
    for (ptrdiff_t p = 0; p < b->count && job->target; p++)
        picked[p] = x[b->offset + job->target[position + p] * b->inner + p];
    for (ptrdiff_t v = 0, n; n = b->count - v * L, n > 0; v++) {
        V hit = !job->target ? zero : hits ? CK_TYPED(load_or)(hits + v * L, n, 0) : vset1(1);
        V each = hit * (b->factor[v] + (b->max[v] - (job->target ? vload(picked + v * L) : zero)));
        CK_TYPED(store_some)(loss + v * L, vselect((VI)(hit == zero), zero, each), n);
    }
    if (!job->soft) return;
    ck_f64v wide[WIDE];
    CK_TYPED(block_clear)(b);
    CK_EACH_OF_BLOCK(b)
    {
        V q = CK_TYPED(block_soft)(job, row, at + v * L, n);
        V term = q * (b->factor[v] - (CK_TYPED(load_or)(x + at + v * L, n, 0) - b->max[v]));
        vwiden(vselect((VI)(q == zero), zero, term), wide);
        CK_TYPED(block_add)(b, v, wide);
    }
    for (ptrdiff_t p = 0; p < b->count; p++) {
        double every = CK_TYPED(factor_of)(job->every, position + p);
        if (every != 0) loss[p] += (T)(every * CK_TYPED(sum_at)(b, p));
    }
}

/* The gradient of the target alone: dx = (e / s - [target]) hit. */
CK_INLINE void CK_TYPED(block_hit_backward)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    T *dx = (T *)job->y, at_target[CK_BLOCK_VECTORS * L];
    const int64_t *target = job->target + position;
    const T *hits = job->hit ? (const T *)job->hit + position : NULL;
    CK_TYPED(block_exp)(b, job->x, dx);
    for (ptrdiff_t p = 0; p < b->count; p++) at_target[p] = dx[b->offset + target[p] * b->inner + p];
    for (ptrdiff_t v = 0, n; n = b->count - v * L, n > 0; v++) {
        ck_f64v hit[WIDE], e[WIDE];
        vwiden(hits ? CK_TYPED(load_or)(hits + v * L, n, 0) : vset1(1), hit);
        vwiden(vload(at_target + v * L), e);
        CK_UNROLL for (int w = 0; w < WIDE; w++)
        {
            const ck_f64v share = 1.0 / CK_TYPED(block_sum)(b, v, w);
            e[w] = (e[w] * share - 1.0) * hit[w]; /* in float64, where it does not cancel */
            hit[w] *= share;
        }
        vstore(at_target + v * L, CK_TYPED(narrow)(e));
        b->factor[v] = CK_TYPED(narrow)(hit);
    }
    CK_TYPED(block_scale)(b, dx);
    for (ptrdiff_t p = 0; p < b->count; p++) dx[b->offset + target[p] * b->inner + p] = at_target[p];
}

CK_INLINE void CK_TYPED(block_cross_entropy_backward)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    if (!job->soft) {
        CK_TYPED(block_hit_backward)(job, b, position);
        return;
    }
    T *dx = (T *)job->y, hits[CK_BLOCK_VECTORS * L];
    double all[CK_BLOCK_VECTORS * L];
    ck_f64v wide[WIDE];
    V minus[CK_BLOCK_VECTORS];
    CK_TYPED(block_clear)(b);
    CK_EACH_OF_BLOCK(b)
    {
        vwiden(CK_TYPED(block_soft)(job, row, at + v * L, n), wide);
        CK_TYPED(block_add)(b, v, wide);
    }
    for (ptrdiff_t p = 0; p < b->count; p++) {
        double every = CK_TYPED(factor_of)(job->every, position + p);
        hits[p] = job->target ? (T)CK_TYPED(factor_of)(job->hit, position + p) : 0;
        all[p] = every * CK_TYPED(sum_at)(b, p) + (double)hits[p];
        ((T *)minus)[p] = (T)-every;
    }
    CK_TYPED(block_exp)(b, job->x, dx);
    for (ptrdiff_t p = 0; p < b->count; p++) ((T *)b->factor)[p] = (T)(all[p] / CK_TYPED(sum_at)(b, p));
    CK_EACH_OF_BLOCK(b)
    {
        V q = CK_TYPED(block_soft)(job, row, at + v * L, n) * minus[v];
        CK_TYPED(store_some)
        (dx + at + v * L, vfma(CK_TYPED(load_or)(dx + at + v * L, n, 0), b->factor[v], q), n);
    }
    if (job->target)
        for (ptrdiff_t p = 0; p < b->count; p++) dx[b->offset + job->target[position + p] * b->inner + p] -= hits[p];
}

/* Short rows with their positions side by side, as a block has them. */
typedef struct {
    T x[CK_SOFTMAX_SHORT * CK_SOFTMAX_TURNED * L], other[CK_SOFTMAX_SHORT * CK_SOFTMAX_TURNED * L],
        y[CK_SOFTMAX_SHORT * CK_SOFTMAX_TURNED * L];
    ck_softmax job;
} CK_TYPED(turned);

/* Turn n rows; the job is that of the block, at offset 0. */
CK_INLINE void CK_TYPED(turn)(const ck_softmax *job, CK_TYPED(turned) * to, ptrdiff_t row, ptrdiff_t n,
                              const int losses)
{
    const ptrdiff_t length = job->length, pitch = CK_SOFTMAX_TURNED * L;
    const T *other = job->dy ? job->dy : job->soft;
    to->job = *job;
    to->job.x = to->x;
    job->transpose((const T *)job->x + row * length, length, to->x, pitch, n, length);
    if (job->dy || (job->soft && !job->soft_is_shared)) {
        job->transpose(other + row * length, length, to->other, pitch, n, length);
        if (job->dy)
            to->job.dy = to->other;
        else
            to->job.soft = to->other;
    }
    if (!losses) to->job.y = to->y;
}

#define CK_SOFTMAX_ROW(name, losses)                                                                                   \
    static void CK_TYPED(name)(const ck_softmax *job, ptrdiff_t first, ptrdiff_t count)                                \
    {                                                                                                                  \
        const ck_softmax own = *job;                                                                                   \
        const int turns = own.inner == 1 && own.length <= CK_SOFTMAX_SHORT;                                            \
        const ptrdiff_t inner = own.inner, most = (turns ? CK_SOFTMAX_TURNED : CK_BLOCK_VECTORS) * L;                  \
        if (inner == 1 && !turns) {                                                                                    \
            for (ptrdiff_t row = first; row < first + count; row++) CK_TYPED(row_##name)(&own, row);                   \
            return;                                                                                                    \
        }                                                                                                              \
        CK_TYPED(turned) side;                                                                                         \
        for (ptrdiff_t p = first, n; p < first + count; p += n) {                                                      \
            ptrdiff_t outer = p / inner, i = p % inner;                                                                \
            CK_TYPED(block) b;                                                                                         \
            n = first + count - p;                                                                                     \
            if (n > inner - i && !turns) n = inner - i;                                                                \
            if (n > most) n = most;                                                                                    \
            b.count = n;                                                                                               \
            b.length = own.length;                                                                                     \
            b.inner = turns ? most : inner;                                                                            \
            b.offset = turns ? 0 : outer * own.length * inner + i;                                                     \
            if (turns) CK_TYPED(turn)(&own, &side, p, n, losses);                                                      \
            CK_TYPED(block_##name)(turns ? &side.job : &own, &b, p);                                                   \
            if (turns && !losses) own.transpose(side.y, most, (T *)own.y + p * own.length, own.length, own.length, n); \
        }                                                                                                              \
    }
#include "softmax/kernels.def"
#undef CK_SOFTMAX_ROW

#define CK_SOFTMAX_ROW(name, losses) CK_TYPED(name),
extern const ck_softmax_kernel CK_KERNEL(ck_softmax)[];
const ck_softmax_kernel CK_KERNEL(ck_softmax)[] = {
#include "softmax/kernels.def"
};
#undef CK_SOFTMAX_ROW
#undef CK_EACH_OF_BLOCK
