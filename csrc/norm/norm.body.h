/* Compiled once per dtype by norm.kernel.c. */
#ifndef CK_NORM_SUMS
#define CK_NORM_SUMS

/* What a pass sums over a channel, with d = x - center: x; d and d^2; dy and dy d; or the last two together.
 */
enum { CK_SUM_X = 0, CK_SUM_MOMENTS = 1, CK_SUM_GRADIENTS = 2, CK_SUM_ALL = 3 };

/* The terms of y = dy a + (x - mean) b + c that there are. */
enum { CK_WITH_X = 1, CK_WITH_DY = 2 };

/* Of one channel. */
typedef struct {
    ck_total sum[4]; /* of x or d, d^2, dy, dy d */
    double center;   /* what d is measured from; the mean of x is center + shift */
    double shift, var;
    double mean, a, b, c; /* y = dy a + (x - mean) b + c, mean being of the arrays' dtype */
} ck_channel;

/* The sums that a pass makes. */
CK_INLINE int ck_sums_has(const int what, const int sum)
{
    return what == CK_SUM_X ? sum == 0 : sum < 2 ? what & CK_SUM_MOMENTS : what & CK_SUM_GRADIENTS;
}
#endif

/* n elements, a full vector or the last part of one, in float64: converted as they are loaded where that can
 * be. */
CK_INLINE void CK_TYPED(widen_some)(const T *p, ptrdiff_t n, ck_f64v *out)
{
    if (n < L) {
        vwiden(vload_part(p, n), out);
        return;
    }
    CK_UNROLL
    for (int w = 0; w < WIDE; w++) out[w] = CK_TYPED(ck_load_wide)(p + w * CK_F64_LANES);
}

/* sum += a b, or a where b is NULL; `lost`, if there is one, keeps what rounding takes away (two-sum). */
CK_INLINE void CK_TYPED(accumulate)(ck_f64v *sum, ck_f64v *lost, ck_f64v a, const ck_f64v *b)
{
    if (!lost) {
        *sum = b ? ck_fma_f64(a, *b, *sum) : *sum + a;
        return;
    }
    ck_f64v old = *sum, v = b ? a * *b : a, s = old + v, part = s - old;
    *lost += (old - (s - part)) + (v - part);
    *sum = s;
}

/* n elements (a full vector, or the last part of one) into the sums, of which one lies `stride` vectors after
 * the other. d is cleared where mask, if there is one, is not set. */
CK_INLINE void CK_TYPED(add)(const T *x, const T *dy, ptrdiff_t n, const ck_f64v *center, const int center_step,
                             const ck_i64v *mask, const int what, ck_f64v *sum, ck_f64v *lost, const int stride)
{
    ck_f64v wide_x[WIDE], wide_dy[WIDE];
    CK_TYPED(widen_some)(x, n, wide_x);
    if (what & CK_SUM_GRADIENTS) CK_TYPED(widen_some)(dy, n, wide_dy);
    CK_UNROLL
    for (int w = 0; w < WIDE; w++) {
        ck_f64v d = what == CK_SUM_X ? wide_x[w] : wide_x[w] - center[w * center_step];
        if (mask) d = (ck_f64v)((ck_i64v)d & mask[w]);
        if (ck_sums_has(what, 0)) CK_TYPED(accumulate)(sum + w, lost ? lost + w : NULL, d, NULL);
        if (ck_sums_has(what, 1)) CK_TYPED(accumulate)(sum + stride + w, lost ? lost + stride + w : NULL, d, &d);
        if (ck_sums_has(what, 2)) {
            CK_TYPED(accumulate)(sum + 2 * stride + w, lost ? lost + 2 * stride + w : NULL, wide_dy[w], NULL);
            CK_TYPED(accumulate)(sum + 3 * stride + w, lost ? lost + 3 * stride + w : NULL, wide_dy[w], &d);
        }
    }
}

/* One run of elements of one channel. */
CK_INLINE void CK_TYPED(add_run)(const T *x, const T *dy, ptrdiff_t count, ck_f64v center, const ck_i64v *tail,
                                 const int what, ck_f64v chain[4][CK_CHAINS])
{
    const int chains = what == CK_SUM_ALL ? 2 : CK_CHAINS; /* eight sums fit sixteen registers */
    const int step = chains / WIDE * L;
    ptrdiff_t i = 0;
    for (; i + step <= count; i += step) {
        CK_UNROLL
        for (int c = 0; c < chains; c += WIDE) {
            const ptrdiff_t at = i + c / WIDE * L;
            CK_TYPED(add)(x + at, dy + at, L, &center, 0, NULL, what, chain[0] + c, NULL, CK_CHAINS);
        }
    }
    for (; i + L <= count; i += L) CK_TYPED(add)(x + i, dy + i, L, &center, 0, NULL, what, chain[0], NULL, CK_CHAINS);
    if (i < count) CK_TYPED(add)(x + i, dy + i, count - i, &center, 0, tail, what, chain[0], NULL, CK_CHAINS);
}

/* The sums of one channel: `images` runs of pixels, in blocks that are closed into the totals. */
CK_INLINE void CK_TYPED(sum_pixels)(const ck_norm *job, ptrdiff_t channel, ck_channel *own, const int what)
{
    const ptrdiff_t block = sizeof(T) == 4 ? 4096 : 1024, stride = job->channels * job->inner;
    const T *x = (const T *)job->x + channel * job->inner;
    const T *dy = what & CK_SUM_GRADIENTS ? (const T *)job->dy + channel * job->inner : x;
    const ck_f64v center = ck_set1_f64(own->center);
    ck_f64v chain[4][CK_CHAINS] = {{{0}}};
    ck_i64v tail[WIDE];
    for (int w = 0; w < WIDE; w++) tail[w] = ck_lanes_below(job->inner % L - w * CK_F64_LANES);
    ptrdiff_t open = 0; /* elements in the chains */
    memset(own->sum, 0, sizeof own->sum);
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride)
        for (ptrdiff_t i = 0; i < job->inner; i += block) {
            ptrdiff_t count = job->inner - i < block ? job->inner - i : block;
            CK_TYPED(add_run)(x + i, dy + i, count, center, tail, what, chain);
            open += count;
            if (open < block && (n < job->images - 1 || i + block < job->inner)) continue;
            CK_UNROLL
            for (int s = 0; s < 4; s++)
                if (ck_sums_has(what, s)) ck_total_add(&own->sum[s], ck_chains_close(chain[s]));
            open = 0;
        }
}

/* The same for a few channels at once, a column of images per lane; then the columns of a channel are added.
 * In float64 the lanes are compensated, since a long sum would lose digits. */
CK_INLINE void CK_TYPED(sum_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own,
                                     const int what)
{
    enum { LANES = CK_NORM_GROUP / CK_F64_LANES };
    const ptrdiff_t inner = job->inner, columns = channels * inner, stride = job->channels * inner;
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = what & CK_SUM_GRADIENTS ? (const T *)job->dy + channel * inner : x;
    ck_f64v sum[4][LANES], lost[4][LANES], center[LANES];
    for (int s = 0; s < 4; s++)
        if (ck_sums_has(what, s)) {
            memset(sum[s], 0, sizeof sum[s]);
            memset(lost[s], 0, sizeof lost[s]);
        }
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t i = c * inner; i < (c + 1) * inner; i++) ((double *)center)[i] = own[c].center;
    for (ptrdiff_t i = columns; i < CK_NORM_GROUP; i++) ((double *)center)[i] = 0.0;
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride)
        for (ptrdiff_t i = 0, v = 0; i < columns; i += L, v += WIDE) {
            ck_f64v *kept = WIDE == 1 ? lost[0] + v : NULL;
            CK_TYPED(add)(x + i, dy + i, columns - i, center + v, 1, NULL, what, sum[0] + v, kept, LANES);
        }
    for (ptrdiff_t c = 0; c < channels; c++)
        for (int s = 0; s < 4; s++) {
            own[c].sum[s] = (ck_total){0, 0};
            if (!ck_sums_has(what, s)) continue;
            for (ptrdiff_t i = c * inner; i < (c + 1) * inner; i++) {
                if (WIDE == 2) {
                    own[c].sum[s].hi += ((double *)sum[s])[i];
                } else {
                    ck_total_add(&own[c].sum[s], ((double *)sum[s])[i]);
                    own[c].sum[s].lo += ((double *)lost[s])[i];
                }
            }
        }
}

CK_INLINE void CK_TYPED(sum_channels)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own,
                                      const int what)
{
    if (job->inner < CK_NORM_FEW)
        CK_TYPED(sum_columns)(job, channel, channels, own, what);
    else
        for (ptrdiff_t c = 0; c < channels; c++) CK_TYPED(sum_pixels)(job, channel + c, own + c, what);
}

/* y = dy a + (x - mean) b + c, in the dtype of the arrays, a term only where it is asked for. */
CK_INLINE V CK_TYPED(combine)(const T *x, const T *dy, ptrdiff_t count, V mean, V a, V b, V c, const int terms)
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

CK_INLINE void CK_TYPED(transform_pixels)(const ck_norm *job, ptrdiff_t channel, const ck_channel *by, const int terms)
{
    const ptrdiff_t inner = job->inner, stride = job->channels * inner;
    const V mean = vset1((T)by->mean), a = vset1((T)by->a), b = vset1((T)by->b), c = vset1((T)by->c);
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride)
        for (ptrdiff_t i = 0; i < inner; i += L) CK_TYPED(store)
    (y + i, CK_TYPED(combine)(x + i, dy + i, inner - i, mean, a, b, c, terms), inner - i);
}

CK_INLINE void CK_TYPED(transform_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                           const ck_channel *by, const int terms)
{
    const ptrdiff_t inner = job->inner, columns = channels * inner, stride = job->channels * inner;
    T mean[CK_NORM_GROUP] = {0}, a[CK_NORM_GROUP] = {0}, b[CK_NORM_GROUP] = {0}, c[CK_NORM_GROUP] = {0};
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    for (ptrdiff_t k = 0; k < channels; k++)
        for (ptrdiff_t i = k * inner; i < (k + 1) * inner; i++)
            mean[i] = (T)by[k].mean, a[i] = (T)by[k].a, b[i] = (T)by[k].b, c[i] = (T)by[k].c;
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride)
        for (ptrdiff_t i = 0; i < columns; i += L) CK_TYPED(store)
    (y + i,
     CK_TYPED(combine)(x + i, dy + i, columns - i, vload(mean + i), vload(a + i), vload(b + i), vload(c + i), terms),
     columns - i);
}

CK_INLINE void CK_TYPED(transform)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, const ck_channel *by,
                                   const int terms)
{
    if (job->inner < CK_NORM_FEW)
        CK_TYPED(transform_columns)(job, channel, channels, by, terms);
    else
        for (ptrdiff_t c = 0; c < channels; c++) CK_TYPED(transform_pixels)(job, channel + c, by + c, terms);
}

static void CK_TYPED(channel_sum)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    ck_channel own[CK_NORM_GROUP];
    for (ptrdiff_t c = 0; c < channels; c++) own[c].center = 0.0;
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_X);
    for (ptrdiff_t c = 0; c < channels; c++) ((T *)job->y)[channel + c] = (T)ck_total_value(own[c].sum[0]);
}

/* Shift and variance of each channel from its moments; 0 when a center was too far from a mean. */
CK_INLINE int CK_TYPED(settle)(const ck_norm *job, ptrdiff_t channels, ck_channel *own)
{
    /* var is a difference, sum d^2 / m - shift^2: how many bits that may cost, of the 29 to spare or of none
     */
    const double most = sizeof(T) == 4 ? 0x1p20 : 0.25, m = (double)job->images * (double)job->inner;
    int settled = 1;
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].shift = ck_total_value(own[c].sum[0]) / m;
        own[c].var = ck_total_value(own[c].sum[1]) / m - own[c].shift * own[c].shift;
        if (own[c].shift * own[c].shift > most * own[c].var) settled = 0;
    }
    return settled;
}

/* The statistics of the batch, and with CK_SUM_ALL the sums of the gradient in the same pass. The first
 * element of a channel is its center; where that lies too far out, a second pass starts from the mean that
 * was found. */
CK_INLINE void CK_TYPED(find_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own,
                                         const int what)
{
    for (ptrdiff_t c = 0; c < channels; c++) own[c].center = ((const T *)job->x)[(channel + c) * job->inner];
    CK_TYPED(sum_channels)(job, channel, channels, own, what);
    if (CK_TYPED(settle)(job, channels, own)) return;
    for (ptrdiff_t c = 0; c < channels; c++) own[c].center += own[c].shift;
    CK_TYPED(sum_channels)(job, channel, channels, own, what);
    CK_TYPED(settle)(job, channels, own);
}

CK_INLINE void CK_TYPED(given_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].center = ((const T *)job->mean)[channel + c];
        own[c].shift = 0.0;
        own[c].var = ((const T *)job->var)[channel + c];
    }
}

CK_INLINE double CK_TYPED(value_or)(const void *per_channel, ptrdiff_t channel, double otherwise)
{
    return per_channel ? (double)((const T *)per_channel)[channel] : otherwise;
}

/* y = dy a + (x - true mean) b + c: what the dtype cannot hold of the true mean goes into the constant. */
CK_INLINE void CK_TYPED(set_line)(ck_channel *own, double a, double b, double c)
{
    own->mean = (T)(own->center + own->shift);
    own->a = a;
    own->b = b;
    own->c = c - ((own->center - own->mean) + own->shift) * b;
}

CK_INLINE void CK_TYPED(normalise)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        double scale = CK_TYPED(value_or)(job->weight, channel + c, 1.0) / sqrt(own[c].var + job->eps);
        CK_TYPED(set_line)(own + c, 0.0, scale, CK_TYPED(value_or)(job->bias, channel + c, 0.0));
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
    CK_TYPED(find_statistics)(job, channel, channels, own, CK_SUM_MOMENTS);
    if (job->mean)
        for (ptrdiff_t c = 0; c < channels; c++) {
            CK_TYPED(move)((T *)job->mean + channel + c, own[c].center + own[c].shift, job->momentum);
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

CK_INLINE void CK_TYPED(backward)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, const int training)
{
    const double m = (double)job->images * (double)job->inner;
    ck_channel own[CK_NORM_GROUP];
    if (training && !job->mean) {
        CK_TYPED(find_statistics)(job, channel, channels, own, CK_SUM_ALL);
    } else {
        CK_TYPED(given_statistics)(job, channel, channels, own);
        CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_GRADIENTS);
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        const double inverse = 1.0 / sqrt(own[c].var + job->eps), dbias = ck_total_value(own[c].sum[2]);
        const double dweight = (ck_total_value(own[c].sum[3]) - own[c].shift * dbias) * inverse;
        const double scale = CK_TYPED(value_or)(job->weight, channel + c, 1.0) * inverse;
        ((T *)job->dbias)[channel + c] = (T)dbias;
        ((T *)job->dweight)[channel + c] = (T)dweight;
        if (training)
            CK_TYPED(set_line)(own + c, scale, -scale * inverse * dweight / m, -scale * dbias / m);
        else
            CK_TYPED(set_line)(own + c, scale, 0.0, 0.0);
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
