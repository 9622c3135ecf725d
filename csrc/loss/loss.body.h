/* Compiled once per dtype by loss.kernel.c. */

CK_INLINE V CK_TYPED(load)(const void *p, ptrdiff_t i, ptrdiff_t n)
{
    return n == L ? vload((const T *)p + i) : vload_part((const T *)p + i, n);
}

CK_INLINE void CK_TYPED(store)(T *p, V v, ptrdiff_t n)
{
    if (n == L)
        vstore(p, v);
    else
        vstore_part(p, v, n);
}

/* All bits but the sign; the sign alone. */
CK_INLINE V CK_TYPED(magnitude)(V v) { return (V)((VI)v & ~(VI)vset1((T)-0.0)); }
CK_INLINE V CK_TYPED(signed_as)(V v, V sign) { return (V)((VI)v | ((VI)sign & (VI)vset1((T)-0.0))); }

/* The loss of n elements from i on, n a full vector or the last part of one; and its derivative. */
CK_INLINE V CK_TYPED(mse_at)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)job, (void)i, (void)n;
    return (x - t) * (x - t);
}

CK_INLINE V CK_TYPED(mse_slope)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)job, (void)i, (void)n;
    return (x - t) * vset1(2);
}

CK_INLINE V CK_TYPED(l1_at)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)job, (void)i, (void)n;
    return CK_TYPED(magnitude)(x - t);
}

CK_INLINE V CK_TYPED(l1_slope)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)job, (void)i, (void)n;
    const V zero = vset1(0);
    V d = x - t, one = CK_TYPED(signed_as)(vset1(1), d);
    return vselect((VI)(d < zero) | (VI)(d > zero), one, d); /* d itself is 0 or NaN */
}

CK_INLINE V CK_TYPED(smooth_l1_at)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)i, (void)n;
    const V beta = vset1((T)job->beta), share = vset1((T)(0.5 / job->beta));
    V d = CK_TYPED(magnitude)(x - t);
    return vselect((VI)(d < beta), d * d * share, d - beta * vset1((T)0.5));
}

CK_INLINE V CK_TYPED(smooth_l1_slope)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    (void)i, (void)n;
    V d = (x - t) / vset1((T)job->beta), one = CK_TYPED(signed_as)(vset1(1), d);
    return vselect((VI)(CK_TYPED(magnitude)(d) > vset1(1)), one, d);
}

CK_INLINE V CK_TYPED(bce_at)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    const V zero = vset1(0), one = vset1(1);
    V low = CK_TYPED(vlog1p)(CK_TYPED(vexp_down)(-CK_TYPED(magnitude)(x)));
    V is = job->pos_weight ? t * CK_TYPED(load)(job->pos_weight, i, n) : t;
    V if_one = low + vselect((VI)(x < zero), -x, zero), if_zero = low + vselect((VI)(x > zero), x, zero);
    V loss = is * if_one + (one - t) * if_zero;
    return job->weight ? loss * CK_TYPED(load)(job->weight, i, n) : loss;
}

CK_INLINE V CK_TYPED(bce_slope)(const ck_loss *job, V x, V t, ptrdiff_t i, ptrdiff_t n)
{
    const V zero = vset1(0), one = vset1(1);
    V u = CK_TYPED(vexp_down)(-CK_TYPED(magnitude)(x)), large = one / (one + u), small = u / (one + u);
    VI below = (VI)(x < zero);
    V is = job->pos_weight ? t * CK_TYPED(load)(job->pos_weight, i, n) : t;
    V slope = (one - t) * vselect(below, small, large) - is * vselect(below, large, small);
    return job->weight ? slope * CK_TYPED(load)(job->weight, i, n) : slope;
}

/* The first n lanes, 0 in the others. */
CK_INLINE V CK_TYPED(first_lanes)(V v, ptrdiff_t n)
{
    static const T ones[L] = {[0 ... L - 1] = 1};
    return n == L ? v : vselect((VI)(vload_part(ones, n) != 0), v, vset1(0));
}

/* A vector goes to the chain of sums that its place in the chunk says, by a number that the compiler knows: else the sums
 * would be kept in memory, and every addition wait for the store of one before. So it is for the last few of a chunk. */
#define CK_LOSS_ROW(name)                                                                                              \
    static void CK_TYPED(name)(const ck_loss *job, ptrdiff_t first, ptrdiff_t count)                                   \
    {                                                                                                                  \
        enum { GROUP = CK_CHAINS / WIDE * L };                                                                         \
        const ck_loss own = *job; /* stores through y cannot change a copy: nothing is reloaded */                     \
        const T *px = own.x, *pt = own.target;                                                                         \
        const ptrdiff_t last = first + count;                                                                          \
        for (ptrdiff_t start = first; start < last; start += CK_LOSS_CHUNK) {                                          \
            ptrdiff_t i = start, end = last - start < CK_LOSS_CHUNK ? last : start + CK_LOSS_CHUNK;                    \
            ck_f64v sum[CK_CHAINS] = {{0}}, chain[CK_CHAINS], wide[WIDE];                                              \
            for (; !own.y && i + GROUP <= end; i += GROUP) {                                                           \
                CK_ASK(px + i, 0);                                                                                     \
                CK_ASK(pt + i, 0);                                                                                     \
                CK_UNROLL for (int c = 0; c < CK_CHAINS; c += WIDE)                                                    \
                {                                                                                                      \
                    const ptrdiff_t at = i + c / WIDE * L;                                                             \
                    vwiden(CK_TYPED(name##_at)(&own, vload(px + at), vload(pt + at), at, L), wide);                    \
                    CK_UNROLL for (int w = 0; w < WIDE; w++) sum[c + w] += wide[w];                                    \
                }                                                                                                      \
            }                                                                                                          \
            CK_UNROLL for (int c = 0; c < CK_CHAINS; c++) chain[c] = sum[c];                                           \
            for (int c = 0; i < end; i += L, c = (c + WIDE) % CK_CHAINS) {                                             \
                const ptrdiff_t n = end - i < L ? end - i : L;                                                         \
                V loss = CK_TYPED(name##_at)(&own, CK_TYPED(load)(px, i, n), CK_TYPED(load)(pt, i, n), i, n);          \
                if (own.y) CK_TYPED(store)((T *)own.y + i, loss, n);                                                   \
                vwiden(CK_TYPED(first_lanes)(loss, n), wide);                                                          \
                for (int w = 0; w < WIDE; w++) chain[c + w] += wide[w];                                                \
            }                                                                                                          \
            own.sums[start / CK_LOSS_CHUNK] = ck_chains_close(chain);                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static void CK_TYPED(name##_backward)(const ck_loss *job, ptrdiff_t first, ptrdiff_t count)                        \
    {                                                                                                                  \
        const ck_loss own = *job;                                                                                      \
        const V factor = vset1((T)own.factor);                                                                         \
        for (ptrdiff_t i = first, n; i < first + count; i += n) {                                                      \
            n = first + count - i < L ? first + count - i : L;                                                         \
            V x = CK_TYPED(load)(own.x, i, n), t = CK_TYPED(load)(own.target, i, n);                                   \
            V dx = CK_TYPED(name##_slope)(&own, x, t, i, n);                                                           \
            dx *= own.scale ? CK_TYPED(load)(own.scale, i, n) : factor;                                                \
            if (n == L)                                                                                                \
                vstore((T *)own.y + i, dx);                                                                            \
            else                                                                                                       \
                vstore_part((T *)own.y + i, dx, n);                                                                    \
        }                                                                                                              \
    }
#include "loss/kernels.def"
#undef CK_LOSS_ROW

static void CK_TYPED(dice)(const ck_loss *job, ptrdiff_t first, ptrdiff_t count)
{
    const ptrdiff_t chunks = (job->length + CK_LOSS_CHUNK - 1) / CK_LOSS_CHUNK;
    for (ptrdiff_t at = first; at < first + count; at++) {
        const ptrdiff_t start = at % chunks * CK_LOSS_CHUNK, left = job->length - start;
        const ptrdiff_t end = left < CK_LOSS_CHUNK ? left : CK_LOSS_CHUNK, origin = at / chunks * job->length + start;
        const T *px = (const T *)job->x + origin, *pt = (const T *)job->target + origin;
        ck_f64v both[CK_CHAINS] = {{0}}, all[CK_CHAINS] = {{0}}, x[WIDE], t[WIDE];
        ptrdiff_t i = 0;
        for (; i + CK_CHAINS * CK_F64_LANES <= end; i += CK_CHAINS * CK_F64_LANES)
            CK_UNROLL for (int c = 0; c < CK_CHAINS; c++)
            {
                ck_f64v one = CK_TYPED(ck_load_wide)(px + i + c * CK_F64_LANES);
                ck_f64v other = CK_TYPED(ck_load_wide)(pt + i + c * CK_F64_LANES);
                both[c] += one * other;
                all[c] += one + other;
            }
        for (ptrdiff_t n; i < end; i += n) {
            n = end - i < L ? end - i : L;
            vwiden(CK_TYPED(first_lanes)(CK_TYPED(load)(px, i, n), n), x);
            vwiden(CK_TYPED(first_lanes)(CK_TYPED(load)(pt, i, n), n), t);
            CK_UNROLL for (int w = 0; w < WIDE; w++) both[w] += x[w] * t[w], all[w] += x[w] + t[w];
        }
        job->sums[2 * at] = ck_chains_close(both);
        job->sums[2 * at + 1] = ck_chains_close(all);
    }
}

#define CK_LOSS_ROW(name) CK_TYPED(name), CK_TYPED(name##_backward),
extern const ck_loss_kernel CK_KERNEL(ck_loss)[];
const ck_loss_kernel CK_KERNEL(ck_loss)[] = {
#include "loss/kernels.def"
    CK_TYPED(dice)};
#undef CK_LOSS_ROW
