/* Compiled once per dtype by norm.kernel.c. */

/* What is summed over a channel: x; x - mean and (x - mean)^2; dy and dy (x - mean). */
#ifndef CK_NORM_SUMS
#define CK_NORM_SUMS
enum { CK_SUM_X, CK_SUM_MOMENTS, CK_SUM_GRADIENTS };

/* The terms of y = dy a + (x - mean) b + c that there are. */
enum { CK_WITH_X = 1, CK_WITH_DY = 2 };

/* Of one channel. The mean is mean + rest: `mean` as first summed, `rest` what that sum and its rounding
 * lost. `first` and `second` are the sums of a pass; the result is y = dy a + (x - mean) b + c. */
typedef struct {
    double mean, rest, var;
    ck_total first, second;
    double a, b, c;
} ck_channel;
#endif

/* Add n elements (a full vector, or the last part of one) to the chains from `at` on. */
CK_INLINE void CK_TYPED(add)(const T *x, const T *dy, ptrdiff_t n, ck_f64v mean, const int what, const int at,
                             ck_f64v a[CK_CHAINS], ck_f64v b[CK_CHAINS])
{
    ck_f64v wide_x[WIDE], wide_dy[WIDE];
    vwiden(n == L ? vload(x) : vload_part(x, n), wide_x);
    if (what == CK_SUM_GRADIENTS) vwiden(n == L ? vload(dy) : vload_part(dy, n), wide_dy);
    CK_UNROLL
    for (int i = 0; i < WIDE; i++) {
        if (what == CK_SUM_X) {
            a[at + i] += wide_x[i];
            continue;
        }
        ck_f64v d = wide_x[i] - mean;
        if (n != L) d = (ck_f64v)((ck_i64v)d & ck_lanes_below(n - i * CK_F64_LANES));
        ck_f64v factor = what == CK_SUM_MOMENTS ? d : wide_dy[i];
        a[at + i] += factor;
        b[at + i] = ck_fma_f64(factor, d, b[at + i]);
    }
}

/* One run of elements. */
CK_INLINE void CK_TYPED(add_run)(const T *x, const T *dy, ptrdiff_t count, ck_f64v mean, const int what,
                                 ck_f64v a[CK_CHAINS], ck_f64v b[CK_CHAINS])
{
    const int step = CK_CHAINS / WIDE * L;
    ptrdiff_t i = 0;
    for (; i + step <= count; i += step) CK_UNROLL
    for (int c = 0; c < CK_CHAINS; c += WIDE)
        CK_TYPED(add)(x + i + c / WIDE * L, dy + i + c / WIDE * L, L, mean, what, c, a, b);
    CK_UNROLL
    for (int c = 0; c < CK_CHAINS; c += WIDE) {
        if (i + L > count) break;
        CK_TYPED(add)(x + i, dy + i, L, mean, what, c, a, b);
        i += L;
    }
    if (i < count) CK_TYPED(add)(x + i, dy + i, count - i, mean, what, 0, a, b);
}

/* sum += v lane by lane; in float64 what rounding takes away is kept (two-sum), since a long sum would lose
 * digits. */
CK_INLINE void CK_TYPED(add_lanes)(ck_f64v *sum, ck_f64v *lost, ck_f64v v)
{
    ck_f64v old = *sum, s = old + v;
    if (WIDE == 1) {
        ck_f64v part = s - old;
        *lost += (old - (s - part)) + (v - part);
    }
    *sum = s;
}

/* first and second of one channel: `images` runs of pixels, in blocks that are closed into the totals. */
CK_INLINE void CK_TYPED(sum_pixels)(const ck_norm *job, ptrdiff_t channel, ck_channel *sums, const int what)
{
    const ptrdiff_t block = sizeof(T) == 4 ? 4096 : 1024, stride = job->channels * job->inner;
    const T *x = (const T *)job->x + channel * job->inner;
    const T *dy = what == CK_SUM_GRADIENTS ? (const T *)job->dy + channel * job->inner : x;
    const ck_f64v center = ck_set1_f64(sums->mean);
    ck_f64v a[CK_CHAINS] = {{0}}, b[CK_CHAINS] = {{0}};
    ptrdiff_t open = 0; /* elements in the chains */
    sums->first = sums->second = (ck_total){0, 0};
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride)
        for (ptrdiff_t i = 0; i < job->inner; i += block) {
            ptrdiff_t count = job->inner - i < block ? job->inner - i : block;
            CK_TYPED(add_run)(x + i, dy + i, count, center, what, a, b);
            open += count;
            if (open < block) continue;
            ck_total_add(&sums->first, ck_chains_close(a));
            if (what != CK_SUM_X) ck_total_add(&sums->second, ck_chains_close(b));
            open = 0;
        }
    ck_total_add(&sums->first, ck_chains_close(a));
    if (what != CK_SUM_X) ck_total_add(&sums->second, ck_chains_close(b));
}

/* The same for a few channels at once, a column of images per lane; then the columns of a channel are added
 * up. */
CK_INLINE void CK_TYPED(sum_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                     ck_channel *sums, const int what)
{
    enum { LANES = CK_NORM_GROUP / CK_F64_LANES };
    const ptrdiff_t inner = job->inner, columns = channels * inner, stride = job->channels * inner;
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = what == CK_SUM_GRADIENTS ? (const T *)job->dy + channel * inner : x;
    ck_f64v a[LANES] = {{0}}, a_lost[LANES] = {{0}}, b[LANES] = {{0}}, b_lost[LANES] = {{0}}, mean[LANES];
    ck_f64v wide_x[WIDE], wide_dy[WIDE];
    for (ptrdiff_t i = 0; i < columns; i++) ((double *)mean)[i] = sums[i / inner].mean;
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride)
        for (ptrdiff_t i = 0, v = 0; i < columns; i += L, v += WIDE) {
            ptrdiff_t count = columns - i;
            vwiden(count >= L ? vload(x + i) : vload_part(x + i, count), wide_x);
            if (what == CK_SUM_GRADIENTS)
                vwiden(count >= L ? vload(dy + i) : vload_part(dy + i, count), wide_dy);
            CK_UNROLL
            for (int w = 0; w < WIDE; w++) {
                ck_f64v d = wide_x[w] - mean[v + w];
                ck_f64v factor = what == CK_SUM_X ? wide_x[w] : what == CK_SUM_MOMENTS ? d : wide_dy[w];
                CK_TYPED(add_lanes)(&a[v + w], &a_lost[v + w], factor);
                if (what != CK_SUM_X) CK_TYPED(add_lanes)(&b[v + w], &b_lost[v + w], factor * d);
            }
        }
    for (ptrdiff_t c = 0; c < channels; c++) {
        sums[c].first = sums[c].second = (ck_total){0, 0};
        for (ptrdiff_t i = c * inner; i < (c + 1) * inner; i++) {
            ck_total_add(&sums[c].first, ((double *)a)[i]);
            sums[c].first.lo += ((double *)a_lost)[i];
            ck_total_add(&sums[c].second, ((double *)b)[i]);
            sums[c].second.lo += ((double *)b_lost)[i];
        }
    }
}

CK_INLINE void CK_TYPED(sum_channels)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                      ck_channel *sums, const int what)
{
    if (job->inner < CK_NORM_FEW)
        CK_TYPED(sum_columns)(job, channel, channels, sums, what);
    else
        for (ptrdiff_t c = 0; c < channels; c++) CK_TYPED(sum_pixels)(job, channel + c, sums + c, what);
}

/* y = dy a + (x - mean) b + c, in the dtype of the arrays, a term only where it is asked for. */
CK_INLINE V CK_TYPED(combine)(const T *x, const T *dy, ptrdiff_t count, V mean, V a, V b, V c,
                              const int terms)
{
    if (terms & CK_WITH_X) c = vfma((count >= L ? vload(x) : vload_part(x, count)) - mean, b, c);
    if (terms & CK_WITH_DY) c = vfma(count >= L ? vload(dy) : vload_part(dy, count), a, c);
    return c;
}

CK_INLINE void CK_TYPED(store)(T *y, V v, ptrdiff_t count)
{
    if (count >= L)
        vstore(y, v);
    else
        vstore_part(y, v, count);
}

CK_INLINE void CK_TYPED(transform_pixels)(const ck_norm *job, ptrdiff_t channel, const ck_channel *by,
                                          const int terms)
{
    const ptrdiff_t inner = job->inner, stride = job->channels * inner;
    const V mean = vset1((T)by->mean), a = vset1((T)by->a), b = vset1((T)by->b), c = vset1((T)by->c);
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride)
        for (ptrdiff_t i = 0; i < inner; i += L)
            CK_TYPED(store)
            (y + i, CK_TYPED(combine)(x + i, dy + i, inner - i, mean, a, b, c, terms), inner - i);
}

CK_INLINE void CK_TYPED(transform_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                           const ck_channel *by, const int terms)
{
    const ptrdiff_t inner = job->inner, columns = channels * inner, stride = job->channels * inner;
    T mean[CK_NORM_GROUP], a[CK_NORM_GROUP], b[CK_NORM_GROUP], c[CK_NORM_GROUP];
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    for (ptrdiff_t i = 0; i < CK_NORM_GROUP; i++) {
        const ck_channel *own = by + (i < columns ? i / inner : 0);
        mean[i] = (T)own->mean, a[i] = (T)own->a, b[i] = (T)own->b, c[i] = (T)own->c;
    }
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride)
        for (ptrdiff_t i = 0; i < columns; i += L)
            CK_TYPED(store)
            (y + i,
             CK_TYPED(combine)(x + i, dy + i, columns - i, vload(mean + i), vload(a + i), vload(b + i),
                               vload(c + i), terms),
             columns - i);
}

CK_INLINE void CK_TYPED(transform)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                   const ck_channel *by, const int terms)
{
    if (job->inner < CK_NORM_FEW)
        CK_TYPED(transform_columns)(job, channel, channels, by, terms);
    else
        for (ptrdiff_t c = 0; c < channels; c++) CK_TYPED(transform_pixels)(job, channel + c, by + c, terms);
}

static void CK_TYPED(channel_sum)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    ck_channel own[CK_NORM_GROUP] = {{0}};
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_X);
    for (ptrdiff_t c = 0; c < channels; c++) ((T *)job->y)[channel + c] = (T)ck_total_value(own[c].first);
}

CK_INLINE void CK_TYPED(find_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                         ck_channel *own)
{
    const double m = (double)job->images * (double)job->inner;
    for (ptrdiff_t c = 0; c < channels; c++) own[c].mean = 0.0;
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_X);
    for (ptrdiff_t c = 0; c < channels; c++) own[c].mean = ck_total_value(own[c].first) / m;
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_MOMENTS);
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].rest = ck_total_value(own[c].first) / m;
        own[c].var = ck_total_value(own[c].second) / m - own[c].rest * own[c].rest;
    }
}

CK_INLINE void CK_TYPED(given_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                          ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].mean = ((const T *)job->mean)[channel + c];
        own[c].rest = 0.0;
        own[c].var = ((const T *)job->var)[channel + c];
    }
}

/* What is left of the mean when it is rounded to the dtype, plus what it lacks: it goes into the constant c.
 */
CK_INLINE double CK_TYPED(left_out)(const ck_channel *own) { return (own->mean - (T)own->mean) + own->rest; }

CK_INLINE double CK_TYPED(value_or)(const void *per_channel, ptrdiff_t channel, double otherwise)
{
    return per_channel ? (double)((const T *)per_channel)[channel] : otherwise;
}

CK_INLINE void CK_TYPED(normalise)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].a = 0.0;
        own[c].b = CK_TYPED(value_or)(job->weight, channel + c, 1.0) / sqrt(own[c].var + job->eps);
        own[c].c = CK_TYPED(value_or)(job->bias, channel + c, 0.0) - CK_TYPED(left_out)(own + c) * own[c].b;
    }
    CK_TYPED(transform)(job, channel, channels, own, CK_WITH_X);
}

/* running += momentum * (batch - running) */
CK_INLINE void CK_TYPED(move)(T *running, double batch, double momentum)
{
    *running = (T)(*running + momentum * (batch - *running));
}

static void CK_TYPED(train)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    const double m = (double)job->images * (double)job->inner;
    ck_channel own[CK_NORM_GROUP];
    CK_TYPED(find_statistics)(job, channel, channels, own);
    if (job->mean)
        for (ptrdiff_t c = 0; c < channels; c++) {
            CK_TYPED(move)((T *)job->mean + channel + c, own[c].mean, job->momentum);
            CK_TYPED(move)((T *)job->var + channel + c, own[c].var * (m / (m - 1.0)), job->momentum);
        }
    CK_TYPED(normalise)(job, channel, channels, own);
}

static void CK_TYPED(eval)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    ck_channel own[CK_NORM_GROUP];
    CK_TYPED(given_statistics)(job, channel, channels, own);
    CK_TYPED(normalise)(job, channel, channels, own);
}

CK_INLINE void CK_TYPED(backward)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                  const int training)
{
    const double m = (double)job->images * (double)job->inner;
    ck_channel own[CK_NORM_GROUP];
    if (job->mean)
        CK_TYPED(given_statistics)(job, channel, channels, own);
    else
        CK_TYPED(find_statistics)(job, channel, channels, own);
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_GRADIENTS);
    for (ptrdiff_t c = 0; c < channels; c++) {
        const double inverse = 1.0 / sqrt(own[c].var + job->eps), dbias = ck_total_value(own[c].first);
        const double dweight = (ck_total_value(own[c].second) - own[c].rest * dbias) * inverse;
        ((T *)job->dbias)[channel + c] = (T)dbias;
        ((T *)job->dweight)[channel + c] = (T)dweight;
        own[c].a = CK_TYPED(value_or)(job->weight, channel + c, 1.0) * inverse;
        own[c].b = training ? -own[c].a * inverse * dweight / m : 0.0;
        own[c].c = training ? -own[c].a * dbias / m - CK_TYPED(left_out)(own + c) * own[c].b : 0.0;
    }
    CK_TYPED(transform)(job, channel, channels, own, training ? CK_WITH_X | CK_WITH_DY : CK_WITH_DY);
}

static void CK_TYPED(train_backward)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    CK_TYPED(backward)(job, channel, channels, 1);
}

static void CK_TYPED(eval_backward)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    CK_TYPED(backward)(job, channel, channels, 0);
}

#define CK_NORM_ROW(name) CK_TYPED(name),
extern const ck_norm_kernel CK_KERNEL(ck_norm)[];
const ck_norm_kernel CK_KERNEL(ck_norm)[] = {
#include "norm/kernels.def"
};
#undef CK_NORM_ROW
