/* Compiled once per dtype by norm.kernel.c. */
#ifndef CK_NORM_SUMS
#define CK_NORM_SUMS

/* What a pass sums over a channel, with d = x - center: x; d and d^2; dy and dy d; the last two together; dy and dy x
 * where x is not positive; or dy and dy d after dy was cleared where ReLU gave 0. */
enum {
    CK_SUM_X = 0,
    CK_SUM_MOMENTS = 1,
    CK_SUM_GRADIENTS = 2,
    CK_SUM_ALL = 3,
    CK_SUM_NEGATIVE = 6,
    CK_SUM_CLEARED = 10
};

/* The terms of y = dy a + (x - mean) b + c that there are, and whether ReLU of it is taken. */
enum { CK_WITH_X = 1, CK_WITH_DY = 2, CK_WITH_RELU = 4 };

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

/* 1 / sqrt(v) to 12 bits or more; whether all lanes are set. */
#if defined(CK_AVX512)
#define CK_RSQRT
CK_INLINE ck_f32v ck_about_rsqrt(ck_f32v v) { return (ck_f32v)_mm512_rsqrt14_ps((__m512)v); }
CK_INLINE int ck_all(ck_i32v m) { return _mm512_movepi32_mask((__m512i)m) == 0xffff; }
#elif defined(CK_AVX2)
#define CK_RSQRT
CK_INLINE ck_f32v ck_about_rsqrt(ck_f32v v) { return (ck_f32v)_mm256_rsqrt_ps((__m256)v); }
CK_INLINE int ck_all(ck_i32v m) { return _mm256_movemask_ps((__m256)m) == 0xff; }
#endif
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
        ck_f64v d = what == CK_SUM_X || what == CK_SUM_NEGATIVE ? wide_x[w] : wide_x[w] - center[w * center_step];
        if (what == CK_SUM_NEGATIVE) d = (ck_f64v)((ck_i64v)d & ~(ck_i64v)(d > 0));
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

/* dy is cleared where ReLU of the line (x - mean) b + c is 0, mean, b and c being `step` vectors apart. */
CK_INLINE void CK_TYPED(clear)(const T *x, T *dy, ptrdiff_t count, const T *mean, const T *b, const T *c,
                               const int step)
{
    for (ptrdiff_t i = 0; i < count; i += L, mean += step, b += step, c += step) {
        const int whole = i + L <= count;
        V line = (whole ? vload(x + i) : vload_part(x + i, count - i)) - vload(mean);
        line = vfma(line, vload(b), vload(c));
        V kept = vselect((VI)(line <= vset1(0)), vset1(0), whole ? vload(dy + i) : vload_part(dy + i, count - i));
        if (whole)
            vstore(dy + i, kept);
        else
            vstore_part(dy + i, kept, count - i);
    }
}

/* The sums of one channel: `images` runs of pixels, in blocks that are closed into the totals. */
CK_INLINE void CK_TYPED(sum_pixels_of)(const ck_norm *job, ptrdiff_t channel, ck_channel *own, const int what)
{
    const ptrdiff_t block = sizeof(T) == 4 ? 4096 : 1024, stride = job->channels * job->inner;
    const T *x = (const T *)job->x + channel * job->inner;
    const T *dy = what & CK_SUM_GRADIENTS ? (const T *)job->dy + channel * job->inner : x;
    const ck_f64v center = ck_set1_f64(own->center);
    ck_f64v chain[4][CK_CHAINS] = {{{0}}};
    ck_i64v tail[WIDE];
    for (int w = 0; w < WIDE; w++) tail[w] = ck_lanes_below(job->inner % L - w * CK_F64_LANES);
    T mean[L], b[L], c[L];
    for (int i = 0; what == CK_SUM_CLEARED && i < L; i++) mean[i] = (T)own->mean, b[i] = (T)own->b, c[i] = (T)own->c;
    ptrdiff_t open = 0; /* elements in the chains */
    memset(own->sum, 0, sizeof own->sum);
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride)
        for (ptrdiff_t i = 0; i < job->inner; i += block) {
            ptrdiff_t count = job->inner - i < block ? job->inner - i : block;
            if (what == CK_SUM_CLEARED) CK_TYPED(clear)(x + i, (T *)dy + i, count, mean, b, c, 0);
            CK_TYPED(add_run)(x + i, dy + i, count, center, tail, what, chain);
            open += count;
            if (open < block && (n < job->images - 1 || i + block < job->inner)) continue;
            CK_UNROLL
            for (int s = 0; s < 4; s++)
                if (ck_sums_has(what, s)) ck_total_add(&own->sum[s], ck_chains_close(chain[s]));
            open = 0;
        }
}

/* The line of each channel for each of its columns; `a` may be NULL. */
CK_INLINE void CK_TYPED(spread)(const ck_channel *by, ptrdiff_t channels, ptrdiff_t inner, T *mean, T *a, T *b, T *c)
{
    memset(mean, 0, CK_NORM_GROUP * sizeof(T));
    memset(b, 0, CK_NORM_GROUP * sizeof(T));
    memset(c, 0, CK_NORM_GROUP * sizeof(T));
    if (a) memset(a, 0, CK_NORM_GROUP * sizeof(T));
    for (ptrdiff_t k = 0; k < channels; k++)
        for (ptrdiff_t i = k * inner; i < (k + 1) * inner; i++) {
            mean[i] = (T)by[k].mean, b[i] = (T)by[k].b, c[i] = (T)by[k].c;
            if (a) a[i] = (T)by[k].a;
        }
}

/* The same for a few channels at once, a column of images per lane; then the columns of a channel are added.
 * In float64 the lanes are compensated, since a long sum would lose digits. */
CK_INLINE void CK_TYPED(sum_columns_of)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own,
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
    T mean[CK_NORM_GROUP], b[CK_NORM_GROUP], c[CK_NORM_GROUP];
    if (what == CK_SUM_CLEARED) CK_TYPED(spread)(own, channels, inner, mean, NULL, b, c);
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride) {
        if (what == CK_SUM_CLEARED) CK_TYPED(clear)(x, (T *)dy, columns, mean, b, c, L);
        for (ptrdiff_t i = 0, v = 0; i < columns; i += L, v += WIDE) {
            ck_f64v *kept = WIDE == 1 ? lost[0] + v : NULL;
            CK_TYPED(add)(x + i, dy + i, columns - i, center + v, 1, NULL, what, sum[0] + v, kept, LANES);
        }
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

/* One copy of each kind of sum, called by all kernels: inlined into each they took four times the room. */
#define CK_SUM_KIND(what)                                                                                              \
    CK_NOINLINE void CK_TYPED(sum_pixels_##what)(const ck_norm *job, ptrdiff_t channel, ck_channel *own)               \
    {                                                                                                                  \
        CK_TYPED(sum_pixels_of)(job, channel, own, what);                                                              \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(sum_columns_##what)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,           \
                                                  ck_channel *own)                                                     \
    {                                                                                                                  \
        CK_TYPED(sum_columns_of)(job, channel, channels, own, what);                                                   \
    }
CK_SUM_KIND(CK_SUM_X)
CK_SUM_KIND(CK_SUM_MOMENTS)
CK_SUM_KIND(CK_SUM_GRADIENTS)
CK_SUM_KIND(CK_SUM_ALL)
CK_SUM_KIND(CK_SUM_NEGATIVE)
CK_SUM_KIND(CK_SUM_CLEARED)
#undef CK_SUM_KIND

CK_INLINE void CK_TYPED(sum_pixels)(const ck_norm *job, ptrdiff_t channel, ck_channel *own, const int what)
{
    if (what == CK_SUM_X) CK_TYPED(sum_pixels_CK_SUM_X)(job, channel, own);
    if (what == CK_SUM_MOMENTS) CK_TYPED(sum_pixels_CK_SUM_MOMENTS)(job, channel, own);
    if (what == CK_SUM_GRADIENTS) CK_TYPED(sum_pixels_CK_SUM_GRADIENTS)(job, channel, own);
    if (what == CK_SUM_ALL) CK_TYPED(sum_pixels_CK_SUM_ALL)(job, channel, own);
    if (what == CK_SUM_NEGATIVE) CK_TYPED(sum_pixels_CK_SUM_NEGATIVE)(job, channel, own);
    if (what == CK_SUM_CLEARED) CK_TYPED(sum_pixels_CK_SUM_CLEARED)(job, channel, own);
}

CK_INLINE void CK_TYPED(sum_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own,
                                     const int what)
{
    if (what == CK_SUM_X) CK_TYPED(sum_columns_CK_SUM_X)(job, channel, channels, own);
    if (what == CK_SUM_MOMENTS) CK_TYPED(sum_columns_CK_SUM_MOMENTS)(job, channel, channels, own);
    if (what == CK_SUM_GRADIENTS) CK_TYPED(sum_columns_CK_SUM_GRADIENTS)(job, channel, channels, own);
    if (what == CK_SUM_ALL) CK_TYPED(sum_columns_CK_SUM_ALL)(job, channel, channels, own);
    if (what == CK_SUM_NEGATIVE) CK_TYPED(sum_columns_CK_SUM_NEGATIVE)(job, channel, channels, own);
    if (what == CK_SUM_CLEARED) CK_TYPED(sum_columns_CK_SUM_CLEARED)(job, channel, channels, own);
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
    return terms & CK_WITH_RELU ? vselect((VI)(c <= vset1(0)), vset1(0), c) : c;
}

CK_INLINE void CK_TYPED(store)(T *y, V v, ptrdiff_t count)
{
    if (count >= L)
        vstore(y, v);
    else
        vstore_part(y, v, count);
}

CK_INLINE void CK_TYPED(transform_pixels_of)(const ck_norm *job, ptrdiff_t channel, const ck_channel *by,
                                             const int terms)
{
    const ptrdiff_t inner = job->inner, stride = job->channels * inner;
    const V mean = vset1((T)by->mean), a = vset1((T)by->a), b = vset1((T)by->b), c = vset1((T)by->c);
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    enum { TURN = CK_STREAMED * L };
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride) {
        ptrdiff_t i = 0;
        for (V v[CK_STREAMED]; CK_STREAMED > 1 && i + TURN <= inner; i += TURN) {
            if (terms & CK_WITH_X) CK_ASK(x + i, 0);
            if (terms & CK_WITH_DY) CK_ASK(dy + i, 0);
            CK_ASK(y + i, 1);
            CK_UNROLL for (ptrdiff_t k = 0; k < CK_STREAMED; k++) v[k] =
                CK_TYPED(combine)(x + i + k * L, dy + i + k * L, L, mean, a, b, c, terms);
            CK_UNROLL for (ptrdiff_t k = 0; k < CK_STREAMED; k++) vstore(y + i + k * L, v[k]);
        }
        for (; i < inner; i += L) CK_TYPED(store)
        (y + i, CK_TYPED(combine)(x + i, dy + i, inner - i, mean, a, b, c, terms), inner - i);
    }
}

CK_INLINE void CK_TYPED(transform_columns_of)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                              const ck_channel *by, const int terms)
{
    const ptrdiff_t inner = job->inner, columns = channels * inner, stride = job->channels * inner;
    T mean[CK_NORM_GROUP], a[CK_NORM_GROUP], b[CK_NORM_GROUP], c[CK_NORM_GROUP];
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = terms & CK_WITH_DY ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    CK_TYPED(spread)(by, channels, inner, mean, a, b, c);
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride)
        for (ptrdiff_t i = 0; i < columns; i += L) CK_TYPED(store)
    (y + i,
     CK_TYPED(combine)(x + i, dy + i, columns - i, vload(mean + i), vload(a + i), vload(b + i), vload(c + i), terms),
     columns - i);
}

#define CK_TERMS(name, terms)                                                                                          \
    CK_NOINLINE void CK_TYPED(transform_pixels_##name)(const ck_norm *job, ptrdiff_t channel, const ck_channel *by)    \
    {                                                                                                                  \
        CK_TYPED(transform_pixels_of)(job, channel, by, terms);                                                        \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(transform_columns_##name)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,     \
                                                        const ck_channel *by)                                          \
    {                                                                                                                  \
        CK_TYPED(transform_columns_of)(job, channel, channels, by, terms);                                             \
    }
CK_TERMS(x, CK_WITH_X)
CK_TERMS(dy, CK_WITH_DY)
CK_TERMS(both, CK_WITH_X | CK_WITH_DY)
CK_TERMS(relu, CK_WITH_X | CK_WITH_RELU)
#undef CK_TERMS

CK_INLINE void CK_TYPED(transform_pixels)(const ck_norm *job, ptrdiff_t channel, const ck_channel *by, const int terms)
{
    if (terms == CK_WITH_X) CK_TYPED(transform_pixels_x)(job, channel, by);
    if (terms == CK_WITH_DY) CK_TYPED(transform_pixels_dy)(job, channel, by);
    if (terms == (CK_WITH_X | CK_WITH_DY)) CK_TYPED(transform_pixels_both)(job, channel, by);
    if (terms == (CK_WITH_X | CK_WITH_RELU)) CK_TYPED(transform_pixels_relu)(job, channel, by);
}

CK_INLINE void CK_TYPED(transform_columns)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                           const ck_channel *by, const int terms)
{
    if (terms == CK_WITH_X) CK_TYPED(transform_columns_x)(job, channel, channels, by);
    if (terms == CK_WITH_DY) CK_TYPED(transform_columns_dy)(job, channel, channels, by);
    if (terms == (CK_WITH_X | CK_WITH_DY)) CK_TYPED(transform_columns_both)(job, channel, channels, by);
    if (terms == (CK_WITH_X | CK_WITH_RELU)) CK_TYPED(transform_columns_relu)(job, channel, channels, by);
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

CK_INLINE void CK_TYPED(saved_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        own[c].center = job->saved[3 * (channel + c)];
        own[c].shift = job->saved[3 * (channel + c) + 1];
        own[c].var = job->saved[3 * (channel + c) + 2];
    }
}

CK_INLINE void CK_TYPED(save_statistics)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels,
                                         const ck_channel *own)
{
    for (ptrdiff_t c = 0; c < channels; c++) {
        job->saved[3 * (channel + c)] = own[c].center;
        job->saved[3 * (channel + c) + 1] = own[c].shift;
        job->saved[3 * (channel + c) + 2] = own[c].var;
    }
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
    if (!job->line) {
        CK_TYPED(transform)(job, channel, channels, own, CK_WITH_X);
        return;
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        double *line = job->line + 3 * (channel + c);
        line[0] = own[c].mean, line[1] = own[c].b, line[2] = own[c].c;
    }
    CK_TYPED(transform)(job, channel, channels, own, CK_WITH_X | CK_WITH_RELU);
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
    if (job->saved) CK_TYPED(save_statistics)(job, channel, channels, own);
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
    if (training && !job->mean && !job->saved) {
        CK_TYPED(find_statistics)(job, channel, channels, own, CK_SUM_ALL);
    } else {
        if (job->saved)
            CK_TYPED(saved_statistics)(job, channel, channels, own);
        else
            CK_TYPED(given_statistics)(job, channel, channels, own);
        for (ptrdiff_t c = 0; job->line && c < channels; c++) {
            const double *line = job->line + 3 * (channel + c);
            own[c].mean = line[0], own[c].b = line[1], own[c].c = line[2];
        }
        CK_TYPED(sum_channels)(job, channel, channels, own, job->line ? CK_SUM_CLEARED : CK_SUM_GRADIENTS);
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

/* ---- rows: layer, group and instance norm ---- */

/* Mean and variance of one row: those of the forward pass if they are there, else found around its first element, and again
 * around the mean where that lies too far out. */
CK_INLINE void CK_TYPED(row_statistics)(const ck_norm *job, ptrdiff_t row, ck_channel *own, const int saved)
{
    if (saved) {
        CK_TYPED(saved_statistics)(job, row, 1, own);
        return;
    }
    own->center = ((const T *)job->x)[row * job->inner];
    CK_TYPED(sum_pixels)(job, row, own, CK_SUM_MOMENTS);
    if (CK_TYPED(settle)(job, 1, own)) return;
    own->center += own->shift;
    CK_TYPED(sum_pixels)(job, row, own, CK_SUM_MOMENTS);
    CK_TYPED(settle)(job, 1, own);
}

/* The runs of all rows as channels, for the functions above. */
CK_INLINE ck_norm CK_TYPED(as_runs)(const ck_norm *job)
{
    ck_norm runs = *job;
    runs.channels = job->channels * job->affine;
    runs.inner = job->inner / job->affine;
    return runs;
}

/* A weight or bias for n elements of a row, `otherwise` where there is none. */
CK_INLINE V CK_TYPED(some_or)(const T *p, ptrdiff_t i, ptrdiff_t n, T otherwise)
{
    return !p ? vset1(otherwise) : n >= L ? vload(p + i) : vload_part(p + i, n);
}

CK_INLINE V CK_TYPED(some)(const T *p, ptrdiff_t n) { return n >= L ? vload(p) : vload_part(p, n); }

static void CK_TYPED(rows)(const ck_norm *job, ptrdiff_t first, ptrdiff_t count)
{
    const ptrdiff_t affine = job->affine, length = job->inner;
    const ck_norm runs = CK_TYPED(as_runs)(job);
    ck_channel own;
    for (ptrdiff_t row = first; row < first + count; row++) {
        const ptrdiff_t at = row % job->groups * affine;
        CK_TYPED(row_statistics)(job, row, &own, 0);
        if (job->saved) CK_TYPED(save_statistics)(job, row, 1, &own);
        const double inverse = 1.0 / sqrt(own.var + job->eps);
        if (runs.inner > 1) {
            for (ptrdiff_t k = 0; k < affine; k++) {
                CK_TYPED(set_line)(&own, 0.0, inverse * CK_TYPED(value_or)(job->weight, at + k, 1.0),
                                   CK_TYPED(value_or)(job->bias, at + k, 0.0));
                CK_TYPED(transform_pixels)(&runs, row * affine + k, &own, CK_WITH_X);
            }
            continue;
        }
        CK_TYPED(set_line)(&own, 0.0, inverse, 0.0);
        const V mean = vset1((T)own.mean), b = vset1((T)own.b), c = vset1((T)own.c);
        const T *x = (const T *)job->x + row * length;
        const T *weight = job->weight ? (const T *)job->weight + at : NULL;
        const T *bias = job->bias ? (const T *)job->bias + at : NULL;
        T *y = (T *)job->y + row * length;
        for (ptrdiff_t i = 0; i < length; i += L) {
            V z = vfma(CK_TYPED(some)(x + i, length - i) - mean, b, c);
            z = vfma(z, CK_TYPED(some_or)(weight, i, length - i, 1), CK_TYPED(some_or)(bias, i, length - i, 0));
            CK_TYPED(store)(y + i, z, length - i);
        }
    }
}

/* The line dx = g a + (x - mean) b + c of a row from the sums of g and g (x - mean). */
CK_INLINE void CK_TYPED(row_line)(ck_channel *own, double inverse, double sum_g, double sum_gd, double m)
{
    CK_TYPED(set_line)(own, inverse, -inverse * inverse * inverse * sum_gd / m, -inverse * sum_g / m);
}

/* Rows whose runs are longer than one element: sums of every run, then its line. */
CK_INLINE void CK_TYPED(backward_of_runs)(const ck_norm *job, ptrdiff_t row, ck_channel *own, double inverse)
{
    const ptrdiff_t affine = job->affine, at = row % job->groups * affine;
    const ck_norm runs = CK_TYPED(as_runs)(job);
    double *dbias = job->sums + row * affine, *dweight = dbias + job->channels * affine;
    double sum_g = 0.0, sum_gd = 0.0;
    for (ptrdiff_t k = 0; k < affine; k++) {
        const double weight = CK_TYPED(value_or)(job->weight, at + k, 1.0);
        CK_TYPED(sum_pixels)(&runs, row * affine + k, own, CK_SUM_GRADIENTS);
        dbias[k] = ck_total_value(own->sum[2]);
        const double sum_dyd = ck_total_value(own->sum[3]) - own->shift * dbias[k];
        dweight[k] = sum_dyd * inverse;
        sum_g += weight * dbias[k];
        sum_gd += weight * sum_dyd;
    }
    CK_TYPED(row_line)(own, inverse, sum_g, sum_gd, (double)job->inner);
    for (ptrdiff_t k = 0; k < affine; k++) {
        own->a = inverse * CK_TYPED(value_or)(job->weight, at + k, 1.0);
        CK_TYPED(transform_pixels)(&runs, row * affine + k, own, CK_WITH_X | CK_WITH_DY);
    }
}

/* dbias and dweight of up to L elements, and their part in the sums of g and g d. */
CK_INLINE void CK_TYPED(add_features)(const T *dy, const T *x, const T *weight, ptrdiff_t n, const ck_channel *own,
                                      double inverse, double *dbias, double *dweight, ck_f64v *sum_g, ck_f64v *sum_gd)
{
    ck_f64v wide_dy[WIDE], wide_x[WIDE], wide_w[WIDE];
    CK_UNROLL for (int w = 0; w < WIDE; w++) wide_w[w] = (ck_f64v){0} + 1;
    CK_TYPED(widen_some)(dy, n, wide_dy);
    CK_TYPED(widen_some)(x, n, wide_x);
    if (weight) CK_TYPED(widen_some)(weight, n, wide_w);
    CK_UNROLL
    for (int w = 0; w < WIDE; w++) {
        const ptrdiff_t left = n - w * CK_F64_LANES, all = left >= CK_F64_LANES;
        if (left <= 0) break;
        const ck_f64v d = (wide_x[w] - own->center) - own->shift, product = wide_dy[w] * d;
        double *db = dbias + w * CK_F64_LANES, *dw = dweight + w * CK_F64_LANES;
        ck_f64v old_b = all ? ck_load_f64(db) : ck_load_part_f64(db, left);
        ck_f64v old_w = all ? ck_load_f64(dw) : ck_load_part_f64(dw, left);
        old_b += wide_dy[w];
        old_w = ck_fma_f64(product, (ck_f64v){0} + inverse, old_w);
        if (all) {
            ck_store_f64(db, old_b);
            ck_store_f64(dw, old_w);
        } else {
            ck_store_part_f64(db, old_b, left);
            ck_store_part_f64(dw, old_w, left);
        }
        sum_g[w] = ck_fma_f64(wide_dy[w], wide_w[w], sum_g[w]); /* past the end dy is 0 */
        sum_gd[w] = ck_fma_f64(product, wide_w[w], sum_gd[w]);
    }
}

/* Rows of single elements, each with a weight of its own. */
CK_INLINE void CK_TYPED(backward_of_features)(const ck_norm *job, ptrdiff_t row, ck_channel *own, double inverse,
                                              double *dbias, double *dweight)
{
    const ptrdiff_t block = 1024, length = job->inner, at = row % job->groups * length;
    const T *x = (const T *)job->x + row * length, *dy = (const T *)job->dy + row * length;
    const T *weight = job->weight ? (const T *)job->weight + at : NULL;
    T *dx = (T *)job->y + row * length;
    const ck_channel line = *own; /* stores cannot change a copy */
    ck_total sum_g = {0, 0}, sum_gd = {0, 0};
    for (ptrdiff_t begin = 0; begin < length; begin += block) {
        const ptrdiff_t end = length - begin < block ? length : begin + block;
        ck_f64v g[WIDE] = {{0}}, gd[WIDE] = {{0}};
        ptrdiff_t i = begin;
        for (; i + L <= end; i += L) /* a number of elements that is known: nothing is asked about each vector */
            CK_TYPED(add_features)(dy + i, x + i, weight ? weight + i : NULL, L, &line, inverse, dbias + at + i,
                                   dweight + at + i, g, gd);
        if (i < end)
            CK_TYPED(add_features)(dy + i, x + i, weight ? weight + i : NULL, end - i, &line, inverse, dbias + at + i,
                                   dweight + at + i, g, gd);
        ck_total_add(&sum_g, ck_sum_f64(WIDE == 2 ? g[0] + g[WIDE - 1] : g[0]));
        ck_total_add(&sum_gd, ck_sum_f64(WIDE == 2 ? gd[0] + gd[WIDE - 1] : gd[0]));
    }
    CK_TYPED(row_line)(own, inverse, ck_total_value(sum_g), ck_total_value(sum_gd), (double)length);
    const V mean = vset1((T)own->mean), a = vset1((T)own->a), b = vset1((T)own->b), c = vset1((T)own->c);
    for (ptrdiff_t i = 0; i < length; i += L) {
        V g = CK_TYPED(some)(dy + i, length - i) * CK_TYPED(some_or)(weight, i, length - i, 1);
        V d = vfma(CK_TYPED(some)(x + i, length - i) - mean, b, c);
        CK_TYPED(store)(dx + i, vfma(g, a, d), length - i);
    }
}

static void CK_TYPED(rows_backward)(const ck_norm *job, ptrdiff_t first, ptrdiff_t count)
{
    const ptrdiff_t features = job->groups * job->affine;
    double *dbias = job->sums + first / job->share * 2 * features;
    ck_channel own;
    for (ptrdiff_t row = first; row < first + count; row++) {
        CK_TYPED(row_statistics)(job, row, &own, job->saved != NULL);
        const double inverse = 1.0 / sqrt(own.var + job->eps);
        if (job->affine == job->inner)
            CK_TYPED(backward_of_features)(job, row, &own, inverse, dbias, dbias + features);
        else
            CK_TYPED(backward_of_runs)(job, row, &own, inverse);
    }
}

/* ---- what multiplies whole channels ---- */

enum { CK_TYPED(PRELU), CK_TYPED(PRELU_BACKWARD), CK_TYPED(SCALE) };

/* One element of an operation for n lanes. */
CK_INLINE V CK_TYPED(multiplied)(const T *x, const T *dy, V weight, ptrdiff_t n, const int what)
{
    V v = CK_TYPED(some)(x, n);
    if (what == CK_TYPED(SCALE)) return (V)((VI)(v * weight) & (VI)(weight != vset1(0)));
    V g = what == CK_TYPED(PRELU) ? v : CK_TYPED(some)(dy, n);
    return vselect((VI)(v > vset1(0)), g, g * weight);
}

CK_INLINE void CK_TYPED(multiply)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels, const int what)
{
    const ptrdiff_t inner = job->inner, stride = job->channels * inner, few = inner < CK_NORM_FEW;
    const ptrdiff_t columns = few ? channels * inner : inner;
    T weight[CK_NORM_GROUP] = {0};
    CK_ASSERT(few || channels == 1);
    for (ptrdiff_t i = 0; few && i < columns; i++) weight[i] = ((const T *)job->weight)[channel + i / inner];
    const V one = vset1(((const T *)job->weight)[channel]);
    const T *x = (const T *)job->x + channel * inner;
    const T *dy = what == CK_TYPED(PRELU_BACKWARD) ? (const T *)job->dy + channel * inner : x;
    T *y = (T *)job->y + channel * inner;
    enum { TURN = CK_STREAMED * L };
    for (ptrdiff_t n = 0; n < job->images; n++, x += stride, dy += stride, y += stride) {
        ptrdiff_t i = 0;
        for (V v[CK_STREAMED]; CK_STREAMED > 1 && !few && i + TURN <= columns; i += TURN) {
            CK_ASK(x + i, 0);
            if (what == CK_TYPED(PRELU_BACKWARD)) CK_ASK(dy + i, 0);
            CK_ASK(y + i, 1);
            CK_UNROLL for (ptrdiff_t k = 0; k < CK_STREAMED; k++) v[k] =
                CK_TYPED(multiplied)(x + i + k * L, dy + i + k * L, one, L, what);
            CK_UNROLL for (ptrdiff_t k = 0; k < CK_STREAMED; k++) vstore(y + i + k * L, v[k]);
        }
        for (; i < columns; i += L) {
            V w = few ? vload(weight + i) : one;
            CK_TYPED(store)(y + i, CK_TYPED(multiplied)(x + i, dy + i, w, columns - i, what), columns - i);
        }
    }
}

static void CK_TYPED(prelu)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    CK_TYPED(multiply)(job, channel, channels, CK_TYPED(PRELU));
}

static void CK_TYPED(scale)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    CK_TYPED(multiply)(job, channel, channels, CK_TYPED(SCALE));
}

static void CK_TYPED(prelu_backward)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels)
{
    ck_channel own[CK_NORM_GROUP];
    for (ptrdiff_t c = 0; c < channels; c++) own[c].center = 0.0;
    CK_TYPED(sum_channels)(job, channel, channels, own, CK_SUM_NEGATIVE);
    for (ptrdiff_t c = 0; c < channels; c++) ((T *)job->dweight)[channel + c] = (T)ck_total_value(own[c].sum[3]);
    CK_TYPED(multiply)(job, channel, channels, CK_TYPED(PRELU_BACKWARD));
}

/* ---- local response ---- */

/* Neighbouring positions of a channel that are computed together: a loop over a window's few channels costs as much as its
 * sums for one vector alone. */
enum { CK_TYPED(CK_RESPONSE) = 4 };

/* The sums over some channels [from, to), cut to those that there are, of p or of p^2 at n neighbouring positions: one
 * vector, the last part of one, or several. */
CK_INLINE void CK_TYPED(sum_over)(const ck_norm *job, const T *p, ptrdiff_t from, ptrdiff_t to, ptrdiff_t n,
                                  const int vectors, const int square, V *sum)
{
    if (from < 0) from = 0;
    if (to > job->channels) to = job->channels;
    CK_UNROLL for (int k = 0; k < vectors; k++) sum[k] = vset1(0);
    for (ptrdiff_t c = from; c < to; c++) CK_UNROLL for (int k = 0; k < vectors; k++)
        {
            V v = CK_TYPED(some)(p + c * job->inner + k * L, n);
            sum[k] = square ? vfma(v, v, sum[k]) : sum[k] + v;
        }
}

/* d^-beta */
CK_NOINLINE V CK_TYPED(to_any_minus)(V d, double beta) { return CK_TYPED(vexp)(CK_TYPED(vlog)(d) * vset1((T)-beta)); }

/* The usual beta of 3/4: with z about d^(-1/4) and e = 1 - d z^4, at most 2.3e-3, the result is z^3 (1 - e)^(-3/4), of which
 * three terms do. Lanes with a d that is no normal positive number have a larger e, or NaN. */
CK_INLINE V CK_TYPED(to_minus)(V d, double beta)
{
#if defined(CK_RSQRT) && WIDE == 2 /* float32 */
    if (beta == 0.75) {
        const V z = ck_about_rsqrt(d * ck_about_rsqrt(d)), z2 = z * z, e = vfma(-(d * z2), z2, vset1(1)), z3 = z2 * z;
        const V y = vfma(z3 * e, vfma(e, vset1(0.65625f), vset1(0.75f)), z3);
        const VI near = (VI)(e * e < vset1(1e-4f));
        return __builtin_expect(ck_all(near), 1) ? y : vselect(near, y, CK_TYPED(to_any_minus)(d, beta));
    }
#endif
    return CK_TYPED(to_any_minus)(d, beta);
}

/* The output y of channel c, or the gradient's first part: dy d^-beta into y and that times x / d into `part`. */
CK_INLINE void CK_TYPED(respond)(const ck_norm *job, ptrdiff_t at, ptrdiff_t c, ptrdiff_t n, const int vectors,
                                 const int backward)
{
    const ptrdiff_t from = c - job->window / 2, own = at + c * job->inner;
    const V share = vset1((T)(job->alpha / (double)job->window)), shift = vset1((T)job->k);
    V sum[CK_TYPED(CK_RESPONSE)];
    CK_TYPED(sum_over)(job, (const T *)job->x + at, from, from + job->window, n, vectors, 1, sum);
    CK_UNROLL for (int k = 0; k < vectors; k++)
    {
        const ptrdiff_t i = own + k * L;
        V d = vfma(sum[k], share, shift), power = CK_TYPED(to_minus)(d, job->beta);
        V v = CK_TYPED(some)((const T *)job->x + i, n);
        if (backward) {
            V g = CK_TYPED(some)((const T *)job->dy + i, n) * power;
            CK_TYPED(store)((T *)job->part + i, g * v / d, n);
            CK_TYPED(store)((T *)job->y + i, g, n);
        } else {
            CK_TYPED(store)((T *)job->y + i, v * power, n);
        }
    }
}

/* The gradient from those parts. */
CK_INLINE void CK_TYPED(respond_back)(const ck_norm *job, ptrdiff_t at, ptrdiff_t c, ptrdiff_t n, const int vectors)
{
    const ptrdiff_t to = c + job->window / 2 + 1, own = at + c * job->inner;
    const V factor = vset1((T)(-2.0 * job->alpha * job->beta / (double)job->window));
    V sum[CK_TYPED(CK_RESPONSE)];
    CK_TYPED(sum_over)(job, (const T *)job->part + at, to - job->window, to, n, vectors, 0, sum);
    CK_UNROLL for (int k = 0; k < vectors; k++)
    {
        const ptrdiff_t i = own + k * L;
        V g = vfma(CK_TYPED(some)((const T *)job->x + i, n) * factor, sum[k], CK_TYPED(some)((const T *)job->y + i, n));
        CK_TYPED(store)((T *)job->y + i, g, n);
    }
}

/* One channel after the other, so that memory is read in runs and the window's channels stay in the first-level cache. */
CK_INLINE void CK_TYPED(response_block)(const ck_norm *job, ptrdiff_t block, const int backward)
{
    enum { STEP = CK_TYPED(CK_RESPONSE) * L };
    const ptrdiff_t blocks = (job->inner + CK_NORM_BLOCK - 1) / CK_NORM_BLOCK, inner = job->inner;
    const ptrdiff_t image = block / blocks, first = block % blocks * CK_NORM_BLOCK;
    const ptrdiff_t end = inner - first < CK_NORM_BLOCK ? inner : first + CK_NORM_BLOCK;
    const ck_norm own = *job; /* stores cannot change a copy */
    for (int pass = 0; pass <= backward; pass++)
        for (ptrdiff_t c = 0; c < own.channels; c++) {
            ptrdiff_t at = image * own.channels * inner + first, left = end - first;
            for (; left >= STEP; left -= STEP, at += STEP)
                if (pass)
                    CK_TYPED(respond_back)(&own, at, c, L, STEP / L);
                else
                    CK_TYPED(respond)(&own, at, c, L, STEP / L, backward);
            for (; left > 0; left -= L, at += L)
                if (pass)
                    CK_TYPED(respond_back)(&own, at, c, left, 1);
                else
                    CK_TYPED(respond)(&own, at, c, left, 1, backward);
        }
}

static void CK_TYPED(response)(const ck_norm *job, ptrdiff_t block, ptrdiff_t blocks)
{
    for (ptrdiff_t b = 0; b < blocks; b++) CK_TYPED(response_block)(job, block + b, 0);
}

static void CK_TYPED(response_backward)(const ck_norm *job, ptrdiff_t block, ptrdiff_t blocks)
{
    for (ptrdiff_t b = 0; b < blocks; b++) CK_TYPED(response_block)(job, block + b, 1);
}

#define CK_NORM_ROW(name) CK_TYPED(name),
extern const ck_norm_kernel CK_KERNEL(ck_norm)[];
const ck_norm_kernel CK_KERNEL(ck_norm)[] = {
#include "norm/kernels.def"
};
#undef CK_NORM_ROW
