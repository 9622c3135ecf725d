/* Compiled once per dtype by elementwise.kernel.c. */
#include "elementwise/exp_log.h"
#include "elementwise/activation.h"

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

/* <name>_at(job, i, n): the result for n elements from i on, n a full vector or the last part of one. */
CK_INLINE V CK_TYPED(add_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)
{
    return CK_TYPED(load)(job->x, i, n) + CK_TYPED(load)(job->other, i, n);
}

CK_INLINE V CK_TYPED(dropout_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)
{
    uint8_t mask[L] = {0};
    memcpy(mask, job->mask + i, (size_t)n);
    return CK_TYPED(unless)(CK_TYPED(of_bytes)(mask) == 0, CK_TYPED(load)(job->x, i, n) * (T)job->a);
}

CK_INLINE V CK_TYPED(exp_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)
{
    return CK_TYPED(vexp)(CK_TYPED(load)(job->x, i, n));
}

CK_INLINE V CK_TYPED(log_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)
{
    return CK_TYPED(vlog)(CK_TYPED(load)(job->x, i, n));
}

#define CK_ACTIVATION_ROW(name)                                                                                        \
    CK_INLINE V CK_TYPED(name##_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)                               \
    {                                                                                                                  \
        return CK_TYPED(name##_of)(job, CK_TYPED(load)(job->x, i, n));                                                 \
    }                                                                                                                  \
    CK_INLINE V CK_TYPED(name##_backward_at)(const ck_elementwise *job, ptrdiff_t i, ptrdiff_t n)                      \
    {                                                                                                                  \
        return CK_TYPED(name##_gradient)(job, CK_TYPED(load)(job->x, i, n), CK_TYPED(load)(job->other, i, n));         \
    }
#define CK_ELEMENTWISE_ROW(name)
#include "elementwise/kernels.def"
#undef CK_ELEMENTWISE_ROW
#undef CK_ACTIVATION_ROW

/* Only what computes for longer than its data takes to come gains by mixing vectors, and only what does not by asking
 * for its operands, of which there are `asked`. */
#define CK_ACTIVATION_ROW(name) CK_LOOP(name, sizeof(T) == 4 ? CK_MIXED : 1, 0) CK_LOOP(name##_backward, 1, 0)
#define CK_LINES_ROW(name) CK_LOOP(name, CK_STREAMED, 1) CK_LOOP(name##_backward, CK_STREAMED, 2)
#define CK_ELEMENTWISE_ROW(name) CK_LOOP(name, 1, 0)
#define CK_LOOP(name, vectors, asked)                                                                                  \
    static void CK_TYPED(name)(const ck_elementwise *job, ptrdiff_t first, ptrdiff_t count)                            \
    {                                                                                                                  \
        const ck_elementwise own = *job; /* stores through y cannot change a copy: nothing is reloaded */              \
        enum { ways = vectors };                                                                                       \
        T *y = own.y;                                                                                                  \
        ptrdiff_t i = first, end = first + count;                                                                      \
        for (; ways > 1 && i + ways * L <= end; i += ways * L) {                                                       \
            V v[ways];                                                                                                 \
            if (asked) CK_ASK((const T *)own.x + i, 0);                                                                \
            if (asked > 1) CK_ASK((const T *)own.other + i, 0);                                                        \
            if (asked) CK_ASK(y + i, 1);                                                                               \
            CK_UNROLL for (int k = 0; k < ways; k++) v[k] = CK_TYPED(name##_at)(&own, i + k * L, L);                   \
            CK_UNROLL for (int k = 0; k < ways; k++) vstore(y + i + k * L, v[k]);                                      \
        }                                                                                                              \
        for (; ways == 1 && i + L <= end; i += L) vstore(y + i, CK_TYPED(name##_at)(&own, i, L));                      \
        if (ways == 1 && i < end) vstore_part(y + i, CK_TYPED(name##_at)(&own, i, end - i), end - i);                  \
        for (ptrdiff_t n; ways > 1 && i < end; i += L) { /* one copy of the code: the mixed one is long */             \
            n = end - i < L ? end - i : L;                                                                             \
            CK_TYPED(store)(y + i, CK_TYPED(name##_at)(&own, i, n), n);                                                \
        }                                                                                                              \
    }
#include "elementwise/kernels.def"
#undef CK_ELEMENTWISE_ROW
#undef CK_ACTIVATION_ROW
#undef CK_LOOP

#define CK_ACTIVATION_ROW(name) CK_ELEMENTWISE_ROW(name) CK_ELEMENTWISE_ROW(name##_backward)
#define CK_ELEMENTWISE_ROW(name) CK_TYPED(name),
extern const ck_elementwise_kernel CK_KERNEL(ck_elementwise)[];
const ck_elementwise_kernel CK_KERNEL(ck_elementwise)[] = {
#include "elementwise/kernels.def"
};
#undef CK_ELEMENTWISE_ROW
#undef CK_ACTIVATION_ROW
