#include <math.h>

#include "elementwise/elementwise.h"

/* Vectors whose instructions are mixed, because a chain of thirty that wait for each other leaves the units idle. GCC has
 * to be told: for x86 it orders instructions only once registers are chosen, which is too late. */
#if defined(__GNUC__) && !defined(__clang__) && (defined(CK_AVX512) || defined(CK_AVX2))
#pragma GCC optimize("schedule-insns", "sched-pressure", "no-split-loops")
#define CK_MIXED 4
#else
#define CK_MIXED 1
#endif

#include "base/simd.h"

/* As many bytes as a vector has lanes, in its lanes; GCC would take them one by one. */
#if defined(CK_AVX512)
CK_INLINE ck_i32v of_bytes_f32(const uint8_t *b)
{
    return (ck_i32v)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)b));
}
CK_INLINE ck_i64v of_bytes_f64(const uint8_t *b)
{
    return (ck_i64v)_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)b));
}
#elif defined(CK_AVX2)
CK_INLINE ck_i32v of_bytes_f32(const uint8_t *b)
{
    return (ck_i32v)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)b));
}
CK_INLINE ck_i64v of_bytes_f64(const uint8_t *b)
{
    int32_t four;
    memcpy(&four, b, sizeof four);
    return (ck_i64v)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
}
#else
#define CK_DEFINE_OF_BYTES(t, IV, N)                                                                                   \
    CK_INLINE IV of_bytes_##t(const uint8_t *b)                                                                        \
    {                                                                                                                  \
        IV v;                                                                                                          \
        for (int i = 0; i < N; i++) v[i] = b[i];                                                                       \
        return v;                                                                                                      \
    }
CK_DEFINE_OF_BYTES(f32, ck_i32v, CK_N32)
CK_DEFINE_OF_BYTES(f64, ck_i64v, CK_N64)
#endif

#include "base/float32.h"
#include "elementwise/elementwise.body.h"

#include "base/float64.h"
#include "elementwise/elementwise.body.h"
