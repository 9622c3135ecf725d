/* Compiled once per dtype by softmax.kernel.c. Each operation stands twice: row_* for inner == 1, where a
 * position is contiguous and reduced across the lanes, and block_* for inner > 1, where neighbouring
 * positions fill the lanes and a block of 4 KiB of them goes through `length` rows, three times: long enough
 * for the prefetchers, short enough to stay in the second-level cache. */
#ifndef CK_SOFTMAX_BLOCK
#define CK_SOFTMAX_BLOCK
enum { CK_BLOCK_VECTORS = 4096 / CK_VBYTES };

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

/* ---- one position, contiguous ---- */

/* The largest value. A NaN may or may not be found: it makes the sum of exponentials NaN in any case. */
CK_INLINE T CK_TYPED(row_max)(const T *x, ptrdiff_t length)
{
    V m[2] = {vset1((T)-INFINITY), vset1((T)-INFINITY)};
    ptrdiff_t i = 0;
    for (; i + 2 * L <= length; i += 2 * L) {
        m[0] = CK_TYPED(ck_larger)(m[0], vload(x + i));
        m[1] = CK_TYPED(ck_larger)(m[1], vload(x + i + L));
    }
    for (; i < length; i += L) m[0] = CK_TYPED(ck_larger)(m[0], CK_TYPED(load_or)(x + i, length - i, (T)-INFINITY));
    m[0] = CK_TYPED(ck_larger)(m[0], m[1]);
    T lane[L];
    vstore(lane, m[0]);
    for (int half = L / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++) lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
    return lane[0];
}

/* sum of exp(x - m); the exponentials go to e where that is not NULL. */
CK_INLINE double CK_TYPED(row_exp)(const T *x, ptrdiff_t length, T m, T *e)
{
    const ptrdiff_t block = WIDE == 1 ? 256 : 1024;
    const V m_v = vset1(m);
    ck_total total = {0, 0};
    for (ptrdiff_t first = 0; first < length; first += block) {
        ptrdiff_t end = length - first < block ? length : first + block;
        ck_f64v sum[WIDE] = {{0}}, wide[WIDE];
        for (ptrdiff_t i = first; i < end; i += L) {
            V y = CK_TYPED(vexp)(CK_TYPED(load_or)(x + i, end - i, (T)-INFINITY) - m_v);
            if (e) CK_TYPED(store_some)(e + i, y, end - i);
            vwiden(y, wide);
            CK_UNROLL
            for (int w = 0; w < WIDE; w++) sum[w] += wide[w];
        }
        ck_total_add(&total, ck_sum_f64(sum[0] + (WIDE == 2 ? sum[WIDE - 1] : (ck_f64v){0})));
    }
    return ck_total_value(total);
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
    for (ptrdiff_t i = 0; i < length; i += L)
        CK_TYPED(store_some)(y + i, CK_TYPED(load_or)(y + i, length - i, 0) * by, length - i);
}

CK_INLINE void CK_TYPED(row_softmax)(const ck_softmax *job, ptrdiff_t row)
{
    const T *x = (const T *)job->x + row * job->length;
    T *y = (T *)job->y + row * job->length;
    double sum = CK_TYPED(row_exp)(x, job->length, CK_TYPED(row_max)(x, job->length), y);
    CK_TYPED(row_scale)(y, job->length, (T)(1.0 / sum));
}

CK_INLINE void CK_TYPED(row_log_softmax)(const ck_softmax *job, ptrdiff_t row)
{
    const ptrdiff_t length = job->length;
    const T *x = (const T *)job->x + row * length;
    T *y = (T *)job->y + row * length, m = CK_TYPED(row_max)(x, length);
    const V m_v = vset1(m), log_v = vset1((T)ck_log(CK_TYPED(row_exp)(x, length, m, NULL)));
    for (ptrdiff_t i = 0; i < length; i += L)
        CK_TYPED(store_some)(y + i, (CK_TYPED(load_or)(x + i, length - i, 0) - m_v) - log_v, length - i);
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

CK_INLINE void CK_TYPED(row_cross_entropy)(const ck_softmax *job, ptrdiff_t row)
{
    const T *x = (const T *)job->x + row * job->length, m = CK_TYPED(row_max)(x, job->length);
    double sum = CK_TYPED(row_exp)(x, job->length, m, NULL);
    ((T *)job->y)[row] = (T)(ck_log(sum) - ((double)x[job->target[row]] - m));
}

CK_INLINE void CK_TYPED(row_cross_entropy_backward)(const ck_softmax *job, ptrdiff_t row)
{
    const T *x = (const T *)job->x + row * job->length;
    T *dx = (T *)job->y + row * job->length, *hit = dx + job->target[row];
    const double sum = CK_TYPED(row_exp)(x, job->length, CK_TYPED(row_max)(x, job->length), dx), e = *hit;
    const double scale = ((const T *)job->scale)[row];
    CK_TYPED(row_scale)(dx, job->length, (T)(scale / sum));
    *hit = (T)((e / sum - 1.0) * scale);
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
        V y = CK_TYPED(vexp)(CK_TYPED(load_or)(x + at + v * L, n, 0) - b->max[v]);
        if (e) CK_TYPED(store_some)(e + at + v * L, y, n);
        vwiden(y, wide);
        CK_TYPED(block_add)(b, v, wide);
    }
}

/* Sums of dy y, or of dy where y is NULL. */
CK_INLINE void CK_TYPED(block_dot)(CK_TYPED(block) * b, const T *dy, const T *y)
{
    ck_f64v wide[WIDE];
    CK_TYPED(block_clear)(b);
    CK_EACH_OF_BLOCK(b)
    {
        V term = CK_TYPED(load_or)(dy + at + v * L, n, 0);
        if (y) term *= CK_TYPED(load_or)(y + at + v * L, n, 0);
        vwiden(term, wide);
        CK_TYPED(block_add)(b, v, wide);
    }
}

/* factor = the sums, their reciprocals times `scale` (per position, NULL for 1), or their logarithms */
enum { CK_TYPED(SUM), CK_TYPED(RECIPROCAL), CK_TYPED(LOGARITHM) };
CK_INLINE void CK_TYPED(block_factor)(CK_TYPED(block) * b, const int what, const T *scale)
{
    ck_f64v wide[WIDE];
    for (ptrdiff_t v = 0; v * L < b->count; v++) {
        ptrdiff_t n = b->count - v * L;
        if (scale) vwiden(CK_TYPED(load_or)(scale + v * L, n, 0), wide);
        CK_UNROLL
        for (int w = 0; w < WIDE; w++) {
            ck_f64v s = CK_TYPED(block_sum)(b, v, w);
            if (what == CK_TYPED(RECIPROCAL))
                wide[w] = (scale ? wide[w] : ck_set1_f64(1.0)) / s;
            else
                wide[w] = what == CK_TYPED(LOGARITHM) ? vlog_f64(s) : s;
        }
        b->factor[v] = CK_TYPED(narrow)(wide);
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
    CK_TYPED(block_factor)(b, CK_TYPED(RECIPROCAL), NULL);
    CK_TYPED(block_scale)(b, job->y);
}

CK_INLINE void CK_TYPED(block_log_softmax)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *x = job->x;
    T *y = job->y;
    (void)position;
    CK_TYPED(block_exp)(b, x, NULL);
    CK_TYPED(block_factor)(b, CK_TYPED(LOGARITHM), NULL);
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
    CK_TYPED(block_factor)(b, CK_TYPED(SUM), NULL);
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
    CK_TYPED(block_factor)(b, CK_TYPED(SUM), NULL);
    CK_EACH_OF_BLOCK(b)
    {
        V p = CK_TYPED(vexp)(CK_TYPED(load_or)(y + at + v * L, n, 0));
        V d = vfma(p, -b->factor[v], CK_TYPED(load_or)(dy + at + v * L, n, 0));
        CK_TYPED(store_some)(dx + at + v * L, d, n);
    }
}

CK_INLINE void CK_TYPED(block_cross_entropy)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    const T *x = (const T *)job->x;
    T *loss = (T *)job->y + position;
    CK_TYPED(block_exp)(b, x, NULL);
    for (ptrdiff_t v = 0; v * L < b->count; v++)
        for (int w = 0; w < WIDE; w++) {
            ck_f64v logs = vlog_f64(CK_TYPED(block_sum)(b, v, w));
            for (ptrdiff_t l = 0, p = v * L + w * CK_F64_LANES; l < CK_F64_LANES && p < b->count; l++, p++)
                loss[p] = (T)(logs[l] - ((double)x[b->offset + job->target[position + p] * b->inner + p] -
                                         (double)((const T *)b->max)[p]));
        }
}

CK_INLINE void CK_TYPED(block_cross_entropy_backward)(const ck_softmax *job, CK_TYPED(block) * b, ptrdiff_t position)
{
    T *dx = (T *)job->y, hit[CK_BLOCK_VECTORS * L];
    const T *scale = (const T *)job->scale + position;
    const int64_t *target = job->target + position;
    CK_TYPED(block_exp)(b, job->x, dx);
    CK_TYPED(block_factor)(b, CK_TYPED(RECIPROCAL), scale);
    for (ptrdiff_t p = 0; p < b->count; p++) {
        double sum = ((const double *)b->sum)[p] + (WIDE == 1 ? ((const double *)b->lost)[p] : 0.0);
        hit[p] = (T)(((double)dx[b->offset + target[p] * b->inner + p] / sum - 1.0) * (double)scale[p]);
    }
    CK_TYPED(block_scale)(b, dx);
    for (ptrdiff_t p = 0; p < b->count; p++) dx[b->offset + target[p] * b->inner + p] = hit[p];
}

#define CK_SOFTMAX_ROW(name)                                                                                           \
    static void CK_TYPED(name)(const ck_softmax *job, ptrdiff_t first, ptrdiff_t count)                                \
    {                                                                                                                  \
        const ck_softmax own = *job;                                                                                   \
        const ptrdiff_t inner = own.inner, most = CK_BLOCK_VECTORS * L;                                                \
        if (inner == 1) {                                                                                              \
            for (ptrdiff_t row = first; row < first + count; row++) CK_TYPED(row_##name)(&own, row);                   \
            return;                                                                                                    \
        }                                                                                                              \
        for (ptrdiff_t p = first, n; p < first + count; p += n) {                                                      \
            ptrdiff_t outer = p / inner, i = p % inner;                                                                \
            CK_TYPED(block) b;                                                                                         \
            n = first + count - p;                                                                                     \
            if (n > inner - i) n = inner - i;                                                                          \
            if (n > most) n = most;                                                                                    \
            b.count = n;                                                                                               \
            b.length = own.length;                                                                                     \
            b.inner = inner;                                                                                           \
            b.offset = outer * own.length * inner + i;                                                                 \
            CK_TYPED(block_##name)(&own, &b, p);                                                                       \
        }                                                                                                              \
    }
#include "softmax/kernels.def"
#undef CK_SOFTMAX_ROW

#define CK_SOFTMAX_ROW(name) CK_TYPED(name),
extern const ck_softmax_kernel CK_KERNEL(ck_softmax)[];
const ck_softmax_kernel CK_KERNEL(ck_softmax)[] = {
#include "softmax/kernels.def"
};
#undef CK_SOFTMAX_ROW
#undef CK_EACH_OF_BLOCK
