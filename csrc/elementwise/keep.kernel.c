#include "elementwise/keep.h"

#include "base/simd.h"

/* A word of a counter in the low half of each lane; what stands in the high half is ignored. */
typedef uint32_t halves __attribute__((vector_size(CK_VBYTES)));
typedef uint64_t words __attribute__((vector_size(CK_VBYTES)));

enum { ROUNDS = 7, COUNTERS = CK_F64_LANES };

CK_INLINE words product(words a, words b)
{
#if defined(CK_AVX512)
    return (words)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(CK_AVX2)
    return (words)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(CK_NEON)
    return (words)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return (a & UINT32_MAX) * (b & UINT32_MAX);
#endif
}

CK_INLINE void philox(words counter, const words key[2 * ROUNDS], words x[4])
{
    const words zero = {0}, by[2] = {zero + 0xD2511F53, zero + 0xCD9E8D57};
    x[0] = counter, x[1] = counter >> 32, x[2] = x[3] = zero;
    CK_UNROLL for (int i = 0; i < ROUNDS; i++)
    {
        const words even = product(x[0], by[0]), odd = product(x[2], by[1]);
        x[0] = odd >> 32 ^ x[1] ^ key[2 * i];
        x[2] = even >> 32 ^ x[3] ^ key[2 * i + 1];
        x[1] = odd, x[3] = even;
    }
}

/* The elements of 2 COUNTERS counters, a byte each: counters of even and odd lanes of 32 bits are apart. */
CK_INLINE ck_i32v kept(words even, words odd, const words key[2 * ROUNDS], ck_i32v dropped)
{
    words x[4], y[4];
    ck_i32v bytes = {0};
    philox(even, key, x);
    philox(odd, key, y);
    CK_UNROLL for (int i = 0; i < 4; i++)
    {
        const words both = (x[i] & UINT32_MAX) | y[i] << 32;
        bytes |= ((ck_i32v)((halves)both >> 1) > dropped) & 1 << 8 * i;
    }
    return bytes;
}

static void keep(const ck_keep *job, ptrdiff_t first, ptrdiff_t count)
{
    const words zero = {0};
    const ck_i32v dropped = (int32_t)(job->limit - 1) - (ck_i32v){0};
    words key[2 * ROUNDS], even = zero + (uint64_t)first / 4;
    uint8_t *to = job->keep + first;
    for (int i = 0; i < ROUNDS; i++) {
        key[2 * i] = zero + (uint32_t)job->key + (uint32_t)i * 0x9E3779B9;
        key[2 * i + 1] = zero + (uint32_t)(job->key >> 32) + (uint32_t)i * 0xBB67AE85;
    }
    for (int i = 0; i < COUNTERS; i++) even[i] += 2 * (uint64_t)i;
    for (; count > 0; count -= CK_VBYTES, to += CK_VBYTES, even += 2 * COUNTERS) {
        const ck_i32v bytes = kept(even, even + 1, key, dropped);
        memcpy(to, &bytes, count < CK_VBYTES ? (size_t)count : CK_VBYTES);
    }
}

extern const ck_keep_kernel CK_FN(ck_keep);
const ck_keep_kernel CK_FN(ck_keep) = keep;
