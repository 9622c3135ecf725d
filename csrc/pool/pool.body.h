/* Pooling for one dtype; included by pool.kernel.c once per dtype. The contract is in pool.h, the plan in
 * README.md. */
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

#include "pool/passes.body.h"
#include "pool/forward.body.h"
#include "pool/indexed.body.h"
#include "pool/by_index.body.h"
#include "pool/backward.body.h"

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
