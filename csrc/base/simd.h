/* The SIMD vocabulary: one vector type per dtype, about twenty operations, every level.
 *
 * Arithmetic, comparison and bitwise operators come from the compilers' vector extensions (GCC and Clang);
 * functions stand only where an operator does not say it: memory, fused multiply-add, partial vectors, lane
 * movement. Kernel bodies are written against the short names of base/float32.h and base/float64.h (T, V, L,
 * vload, ...) and compiled for each dtype by including the body twice.
 *
 * vload_part and vstore_part touch exactly n elements, vload_lanes those of a range of lanes: no kernel reads or
 * writes outside an operand.
 */
#ifndef CK_SIMD_H
#define CK_SIMD_H

#include <string.h>

#include "base/isa.h"

#if defined(CK_AVX512) || defined(CK_AVX2)
#include <immintrin.h>
#elif defined(CK_NEON)
#include <arm_neon.h>
#endif

#if defined(CK_AVX512)
#define CK_VBYTES 64
#define CK_REGISTERS 32
#elif defined(CK_AVX2)
#define CK_VBYTES 32
#define CK_REGISTERS 16
#elif defined(__aarch64__)
#define CK_VBYTES 16
#define CK_REGISTERS 32
#else
#define CK_VBYTES 16
#define CK_REGISTERS 16
#endif

/* Keep a loaded vector in its register: GCC would rather load it again with each multiply-add that uses it, which
 * costs twice where loads cross cache lines. */
#if defined(__AVX512F__) /* not while it is emulated */
#define CK_HOLD(v) __asm__("" : "+v"(v))
#elif CK_VBYTES == 32
#define CK_HOLD(v) __asm__("" : "+x"(v))
#else
#define CK_HOLD(v) ((void)0)
#endif

/* Loops that only move and combine what they read go CK_STREAMED vectors a turn and ask for the lines of their operands
 * 2 KB ahead: Zen 3 asks for no line across a page by itself. 1 and nothing where that was not measured. */
#if CK_VBYTES == 32
#define CK_STREAMED 4
#define CK_ASK(p, writes)                                                                                              \
    do                                                                                                                 \
        for (int line_ = 0; line_ < CK_STREAMED * CK_VBYTES; line_ += 64)                                              \
            __builtin_prefetch((const char *)(p) + 2048 + line_, writes, 3);                                           \
    while (0)
#else
#define CK_STREAMED 1
#define CK_ASK(p, writes) ((void)0)
#endif

#define CK_F32_LANES (CK_VBYTES / 4)
#define CK_F64_LANES (CK_VBYTES / 8)

typedef float ck_f32v __attribute__((vector_size(CK_VBYTES)));
typedef double ck_f64v __attribute__((vector_size(CK_VBYTES)));
typedef int32_t ck_i32v __attribute__((vector_size(CK_VBYTES)));
typedef int64_t ck_i64v __attribute__((vector_size(CK_VBYTES)));

#if defined(__clang__)
#define CK_SHUFFLE(a, b, imask, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CK_SHUFFLE(a, b, imask, ...) __builtin_shuffle(a, b, (imask){__VA_ARGS__})
#endif

/* Lane patterns of a pair of vectors: interleave the low or high halves, take the even or odd lanes. */
#define CK_LO2 0, 2
#define CK_HI2 1, 3
#define CK_LO4 0, 4, 1, 5
#define CK_HI4 2, 6, 3, 7
#define CK_LO8 0, 8, 1, 9, 2, 10, 3, 11
#define CK_HI8 4, 12, 5, 13, 6, 14, 7, 15
#define CK_LO16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define CK_HI16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define CK_EVEN2 0, 2
#define CK_ODD2 1, 3
#define CK_EVEN4 0, 2, 4, 6
#define CK_ODD4 1, 3, 5, 7
#define CK_EVEN8 0, 2, 4, 6, 8, 10, 12, 14
#define CK_ODD8 1, 3, 5, 7, 9, 11, 13, 15
#define CK_EVEN16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define CK_ODD16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31

#define CK_PATTERN_(name, lanes) CK_##name##lanes
#define CK_PATTERN(name, lanes) CK_PATTERN_(name, lanes)
#if CK_VBYTES == 64
#define CK_N32 16
#define CK_N64 8
#elif CK_VBYTES == 32
#define CK_N32 8
#define CK_N64 4
#else
#define CK_N32 4
#define CK_N64 2
#endif

/* Everything that is the same text for both dtypes. N is the number of lanes. */
#define CK_DEFINE_VECTOR(t, T, IV, N)                                                                                  \
    typedef T ck_##t##v_unaligned __attribute__((vector_size(CK_VBYTES), aligned(sizeof(T)), may_alias));              \
    CK_INLINE ck_##t##v ck_load_##t(const T *p) { return *(const ck_##t##v_unaligned *)p; }                            \
    CK_INLINE void ck_store_##t(T *p, ck_##t##v v) { *(ck_##t##v_unaligned *)p = v; }                                  \
    CK_INLINE ck_##t##v ck_set1_##t(T s) { return s - (ck_##t##v){0}; }                                                \
    CK_INLINE ck_##t##v ck_select_##t(IV mask, ck_##t##v a, ck_##t##v b)                                               \
    {                                                                                                                  \
        return (ck_##t##v)(((IV)a & mask) | ((IV)b & ~mask));                                                          \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_ziplo_##t(ck_##t##v a, ck_##t##v b) { return CK_SHUFFLE(a, b, IV, CK_PATTERN(LO, N)); }     \
    CK_INLINE ck_##t##v ck_ziphi_##t(ck_##t##v a, ck_##t##v b) { return CK_SHUFFLE(a, b, IV, CK_PATTERN(HI, N)); }     \
    /* Sum of the lanes in a fixed tree: halves are added until one lane is left. */                                   \
    CK_INLINE T ck_sum_##t(ck_##t##v v)                                                                                \
    {                                                                                                                  \
        T lane[N];                                                                                                     \
        memcpy(lane, &v, sizeof lane);                                                                                 \
        for (int half = N / 2; half > 0; half /= 2)                                                                    \
            for (int i = 0; i < half; i++) lane[i] += lane[i + half];                                                  \
        return lane[0];                                                                                                \
    }

CK_DEFINE_VECTOR(f32, float, ck_i32v, CK_N32)
CK_DEFINE_VECTOR(f64, double, ck_i64v, CK_N64)

/* The even or the odd lanes of a pair of vectors, and at AVX2 in the order that costs least, and such a vector put in
 * order: a shuffle within halves takes half the time of one across them, and compilers do not find it. */
#if defined(CK_AVX2)
#define CK_DEFINE_PAIRS(t, IV, N, s, M, EVEN, ODD)                                                                     \
    CK_INLINE ck_##t##v ck_quick_even_##t(ck_##t##v a, ck_##t##v b)                                                    \
    {                                                                                                                  \
        return (ck_##t##v)_mm256_shuffle_##s((M)a, (M)b, EVEN);                                                        \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_quick_odd_##t(ck_##t##v a, ck_##t##v b)                                                     \
    {                                                                                                                  \
        return (ck_##t##v)_mm256_shuffle_##s((M)a, (M)b, ODD);                                                         \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_ordered_##t(ck_##t##v v) { return (ck_##t##v)_mm256_permute4x64_pd((__m256d)v, 0xd8); }     \
    CK_INLINE ck_##t##v ck_even_##t(ck_##t##v a, ck_##t##v b) { return ck_ordered_##t(ck_quick_even_##t(a, b)); }      \
    CK_INLINE ck_##t##v ck_odd_##t(ck_##t##v a, ck_##t##v b) { return ck_ordered_##t(ck_quick_odd_##t(a, b)); }
#else
#define CK_DEFINE_PAIRS(t, IV, N, ...)                                                                                 \
    CK_INLINE ck_##t##v ck_even_##t(ck_##t##v a, ck_##t##v b) { return CK_SHUFFLE(a, b, IV, CK_PATTERN(EVEN, N)); }    \
    CK_INLINE ck_##t##v ck_odd_##t(ck_##t##v a, ck_##t##v b) { return CK_SHUFFLE(a, b, IV, CK_PATTERN(ODD, N)); }
#endif
CK_DEFINE_PAIRS(f32, ck_i32v, CK_N32, ps, __m256, 0x88, 0xdd)
CK_DEFINE_PAIRS(f64, ck_i64v, CK_N64, pd, __m256d, 0x0, 0xf)

/* Transpose as many rows as a vector has lanes, in registers. At AVX2 halves change places first, at AVX-512 quarters, then
 * shuffles stay within them: little more than half of what compilers make of interleaving across (Zen 4, 16 x 16: 48 cycles
 * for 82). */
#if defined(CK_AVX2)
CK_INLINE void ck_transpose_f32(ck_f32v r[8])
{
    __m256 half[8], pair[8];
    CK_UNROLL for (int i = 0; i < 4; i++)
    {
        half[i] = _mm256_permute2f128_ps((__m256)r[i], (__m256)r[i + 4], 0x20);
        half[i + 4] = _mm256_permute2f128_ps((__m256)r[i], (__m256)r[i + 4], 0x31);
    }
    CK_UNROLL for (int i = 0; i < 8; i += 2)
    {
        pair[i] = _mm256_unpacklo_ps(half[i], half[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(half[i], half[i + 1]);
    }
    CK_UNROLL for (int i = 0; i < 8; i += 4)
    {
        CK_UNROLL for (int k = 0; k < 2; k++)
        {
            r[i + 2 * k] = (ck_f32v)_mm256_shuffle_ps(pair[i + k], pair[i + 2 + k], 0x44);
            r[i + 2 * k + 1] = (ck_f32v)_mm256_shuffle_ps(pair[i + k], pair[i + 2 + k], 0xee);
        }
    }
}
CK_INLINE void ck_transpose_f64(ck_f64v r[4])
{
    __m256d half[4];
    CK_UNROLL for (int i = 0; i < 2; i++)
    {
        half[i] = _mm256_permute2f128_pd((__m256d)r[i], (__m256d)r[i + 2], 0x20);
        half[i + 2] = _mm256_permute2f128_pd((__m256d)r[i], (__m256d)r[i + 2], 0x31);
    }
    CK_UNROLL for (int i = 0; i < 4; i += 2)
    {
        r[i] = (ck_f64v)_mm256_unpacklo_pd(half[i], half[i + 1]);
        r[i + 1] = (ck_f64v)_mm256_unpackhi_pd(half[i], half[i + 1]);
    }
}
#elif defined(CK_AVX512)
#define CK_PAIRS(a, b, ...) CK_SHUFFLE(a, b, ck_i64v, __VA_ARGS__)
/* Quarter q of rows i, i + step, i + 2 step and i + 3 step of 4 x step side by side: quarter[q * step + i]. */
CK_INLINE void ck_quarters(ck_f64v *quarter, const ck_f64v *row, int step)
{
    ck_f64v half[16];
    CK_UNROLL for (int i = 0; i < 2 * step; i++)
    {
        const ck_f64v *r = row + i % step + i / step * 2 * step;
        half[i] = CK_PAIRS(r[0], r[step], 0, 1, 2, 3, 8, 9, 10, 11);
        half[2 * step + i] = CK_PAIRS(r[0], r[step], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    CK_UNROLL for (int i = 0; i < 4 * step; i += 2 * step)
    {
        CK_UNROLL for (int k = 0; k < step; k++)
        {
            const ck_f64v *h = half + i + k;
            quarter[i + k] = CK_PAIRS(h[0], h[step], 0, 1, 4, 5, 8, 9, 12, 13);
            quarter[i + step + k] = CK_PAIRS(h[0], h[step], 2, 3, 6, 7, 10, 11, 14, 15);
        }
    }
}
CK_INLINE ck_f64v ck_evens_f64(ck_f64v a, ck_f64v b) { return CK_PAIRS(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
CK_INLINE ck_f64v ck_odds_f64(ck_f64v a, ck_f64v b) { return CK_PAIRS(a, b, 1, 9, 3, 11, 5, 13, 7, 15); }
CK_INLINE void ck_transpose_f64(ck_f64v r[8])
{
    ck_f64v quarter[8];
    ck_quarters(quarter, r, 2);
    CK_UNROLL for (int i = 0; i < 8; i += 2)
    {
        r[i] = ck_evens_f64(quarter[i], quarter[i + 1]);
        r[i + 1] = ck_odds_f64(quarter[i], quarter[i + 1]);
    }
}
CK_INLINE void ck_transpose_f32(ck_f32v r[16])
{
    ck_f64v row[16], quarter[16], pair[4];
    CK_UNROLL for (int i = 0; i < 16; i++) row[i] = (ck_f64v)r[i];
    ck_quarters(quarter, row, 4);
    CK_UNROLL for (int i = 0; i < 16; i += 4)
    {
        CK_UNROLL for (int k = 0; k < 2; k++)
        {
            const ck_f32v a = (ck_f32v)quarter[i + 2 * k], b = (ck_f32v)quarter[i + 2 * k + 1];
            pair[k] = (ck_f64v)CK_SHUFFLE(a, b, ck_i32v, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
            pair[2 + k] =
                (ck_f64v)CK_SHUFFLE(a, b, ck_i32v, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
        }
        CK_UNROLL for (int k = 0; k < 2; k++)
        {
            r[i + 2 * k] = (ck_f32v)ck_evens_f64(pair[2 * k], pair[2 * k + 1]);
            r[i + 2 * k + 1] = (ck_f32v)ck_odds_f64(pair[2 * k], pair[2 * k + 1]);
        }
    }
}
#else
/* log2(N) rounds of interleaving rows half apart. */
#define CK_DEFINE_TRANSPOSE(t, N)                                                                                      \
    CK_INLINE void ck_transpose_##t(ck_##t##v r[N])                                                                    \
    {                                                                                                                  \
        ck_##t##v s[N];                                                                                                \
        CK_UNROLL for (int round = 1; round < N; round *= 2)                                                           \
        {                                                                                                              \
            CK_UNROLL for (int i = 0; i < N / 2; i++)                                                                  \
            {                                                                                                          \
                s[2 * i] = ck_ziplo_##t(r[i], r[i + N / 2]);                                                           \
                s[2 * i + 1] = ck_ziphi_##t(r[i], r[i + N / 2]);                                                       \
            }                                                                                                          \
            CK_UNROLL for (int i = 0; i < N; i++) r[i] = s[i];                                                         \
        }                                                                                                              \
    }
CK_DEFINE_TRANSPOSE(f32, CK_N32)
CK_DEFINE_TRANSPOSE(f64, CK_N64)
#endif

/* What differs by level: fused multiply-add (one rounding wherever the level has it, two at the portable
 * level), the larger or smaller lane with NaN on either side giving NaN, and the first n of N lanes (lanes past
 * n load as zero and are not stored); lanes(lo, hi) is a set of lanes for loads that give zero in all others. */
#if defined(CK_AVX512)

#define CK_DEFINE_LEVEL(t, T, s, M, MASK)                                                                              \
    CK_INLINE ck_##t##v ck_fma_##t(ck_##t##v a, ck_##t##v b, ck_##t##v c)                                              \
    {                                                                                                                  \
        return (ck_##t##v)_mm512_fmadd_##s((M)a, (M)b, (M)c);                                                          \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_max_##t(ck_##t##v a, ck_##t##v b)                                                           \
    {                                                                                                                  \
        MASK nan = _mm512_cmp_##s##_mask((M)a, (M)a, _CMP_UNORD_Q);                                                    \
        return (ck_##t##v)_mm512_mask_mov_##s(_mm512_max_##s((M)a, (M)b), nan, (M)a);                                  \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_min_##t(ck_##t##v a, ck_##t##v b)                                                           \
    {                                                                                                                  \
        MASK nan = _mm512_cmp_##s##_mask((M)a, (M)a, _CMP_UNORD_Q);                                                    \
        return (ck_##t##v)_mm512_mask_mov_##s(_mm512_min_##s((M)a, (M)b), nan, (M)a);                                  \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_load_part_##t(const T *p, ptrdiff_t n)                                                      \
    {                                                                                                                  \
        return (ck_##t##v)_mm512_maskz_loadu_##s((MASK)((1u << n) - 1), p);                                            \
    }                                                                                                                  \
    CK_INLINE void ck_store_part_##t(T *p, ck_##t##v v, ptrdiff_t n)                                                   \
    {                                                                                                                  \
        _mm512_mask_storeu_##s(p, (MASK)((1u << n) - 1), (M)v);                                                        \
    }                                                                                                                  \
    typedef MASK ck_##t##lanes;                                                                                        \
    CK_INLINE ck_##t##lanes ck_lanes_##t(ptrdiff_t lo, ptrdiff_t hi)                                                   \
    {                                                                                                                  \
        return (MASK)(((1u << hi) - 1) & ~((1u << lo) - 1));                                                           \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_load_lanes_##t(const T *p, ck_##t##lanes m)                                                 \
    {                                                                                                                  \
        return (ck_##t##v)_mm512_maskz_loadu_##s(m, p);                                                                \
    }
CK_DEFINE_LEVEL(f32, float, ps, __m512, __mmask16)
CK_DEFINE_LEVEL(f64, double, pd, __m512d, __mmask8)

#elif defined(CK_AVX2)

CK_INLINE __m256i ck_first_f32(ptrdiff_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CK_INLINE __m256i ck_first_f64(ptrdiff_t n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
/* Not by a mask: such a store takes 16 cycles on AMD's CPUs, these branches 3 to 6. */
CK_INLINE void ck_store_part_f32(float *p, ck_f32v v, ptrdiff_t n)
{
    __m128 low = _mm256_castps256_ps128((__m256)v);
    if (n & 8) {
        ck_store_f32(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, low);
        low = _mm256_extractf128_ps((__m256)v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, low);
        low = _mm_movehl_ps(low, low);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, low);
}
CK_INLINE void ck_store_part_f64(double *p, ck_f64v v, ptrdiff_t n)
{
    __m128d low = _mm256_castpd256_pd128((__m256d)v);
    if (n & 4) {
        ck_store_f64(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, low);
        low = _mm256_extractf128_pd((__m256d)v, 1);
        p += 2;
    }
    if (n & 1) _mm_store_sd(p, low);
}
#define CK_DEFINE_LEVEL(t, T, s, M)                                                                                    \
    CK_INLINE ck_##t##v ck_fma_##t(ck_##t##v a, ck_##t##v b, ck_##t##v c)                                              \
    {                                                                                                                  \
        return (ck_##t##v)_mm256_fmadd_##s((M)a, (M)b, (M)c);                                                          \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_max_##t(ck_##t##v a, ck_##t##v b)                                                           \
    {                                                                                                                  \
        M nan = _mm256_cmp_##s((M)a, (M)a, _CMP_UNORD_Q);                                                              \
        return (ck_##t##v)_mm256_blendv_##s(_mm256_max_##s((M)a, (M)b), (M)a, nan);                                    \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_min_##t(ck_##t##v a, ck_##t##v b)                                                           \
    {                                                                                                                  \
        M nan = _mm256_cmp_##s((M)a, (M)a, _CMP_UNORD_Q);                                                              \
        return (ck_##t##v)_mm256_blendv_##s(_mm256_min_##s((M)a, (M)b), (M)a, nan);                                    \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_load_part_##t(const T *p, ptrdiff_t n)                                                      \
    {                                                                                                                  \
        return (ck_##t##v)_mm256_maskload_##s(p, ck_first_##t(n));                                                     \
    }                                                                                                                  \
    typedef __m256i ck_##t##lanes;                                                                                     \
    CK_INLINE ck_##t##lanes ck_lanes_##t(ptrdiff_t lo, ptrdiff_t hi)                                                   \
    {                                                                                                                  \
        return _mm256_andnot_si256(ck_first_##t(lo), ck_first_##t(hi));                                                \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_load_lanes_##t(const T *p, ck_##t##lanes m) { return (ck_##t##v)_mm256_maskload_##s(p, m); }
CK_DEFINE_LEVEL(f32, float, ps, __m256)
CK_DEFINE_LEVEL(f64, double, pd, __m256d)

#else

#if defined(CK_NEON)
#define CK_DEFINE_ARITHMETIC(t, IV, s, M)                                                                              \
    CK_INLINE ck_##t##v ck_fma_##t(ck_##t##v a, ck_##t##v b, ck_##t##v c)                                              \
    {                                                                                                                  \
        return (ck_##t##v)vfmaq_##s((M)c, (M)a, (M)b);                                                                 \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_max_##t(ck_##t##v a, ck_##t##v b) { return (ck_##t##v)vmaxq_##s((M)a, (M)b); }              \
    CK_INLINE ck_##t##v ck_min_##t(ck_##t##v a, ck_##t##v b) { return (ck_##t##v)vminq_##s((M)a, (M)b); }
#else
#define CK_DEFINE_ARITHMETIC(t, IV, s, M)                                                                              \
    CK_INLINE ck_##t##v ck_fma_##t(ck_##t##v a, ck_##t##v b, ck_##t##v c) { return a * b + c; }                        \
    CK_INLINE ck_##t##v ck_max_##t(ck_##t##v a, ck_##t##v b)                                                           \
    {                                                                                                                  \
        return ck_select_##t((IV)(a > b) | (IV)(a != a), a, b);                                                        \
    }                                                                                                                  \
    CK_INLINE ck_##t##v ck_min_##t(ck_##t##v a, ck_##t##v b) { return ck_select_##t((IV)(a < b) | (IV)(a != a), a, b); }
#endif
CK_DEFINE_ARITHMETIC(f32, ck_i32v, f32, float32x4_t)
CK_DEFINE_ARITHMETIC(f64, ck_i64v, f64, float64x2_t)

#define CK_DEFINE_PART(t, T, N)                                                                                        \
    CK_INLINE ck_##t##v ck_load_part_##t(const T *p, ptrdiff_t n)                                                      \
    {                                                                                                                  \
        T lane[N] = {0};                                                                                               \
        for (ptrdiff_t i = 0; i < n; i++) lane[i] = p[i];                                                              \
        return ck_load_##t(lane);                                                                                      \
    }                                                                                                                  \
    CK_INLINE void ck_store_part_##t(T *p, ck_##t##v v, ptrdiff_t n)                                                   \
    {                                                                                                                  \
        T lane[N];                                                                                                     \
        ck_store_##t(lane, v);                                                                                         \
        for (ptrdiff_t i = 0; i < n; i++) p[i] = lane[i];                                                              \
    }                                                                                                                  \
    typedef struct {                                                                                                   \
        ptrdiff_t lo, hi;                                                                                              \
    } ck_##t##lanes;                                                                                                   \
    CK_INLINE ck_##t##lanes ck_lanes_##t(ptrdiff_t lo, ptrdiff_t hi) { return (ck_##t##lanes){lo, hi}; }               \
    CK_INLINE ck_##t##v ck_load_lanes_##t(const T *p, ck_##t##lanes m)                                                 \
    {                                                                                                                  \
        T lane[N] = {0};                                                                                               \
        for (ptrdiff_t i = m.lo; i < m.hi; i++) lane[i] = p[i];                                                        \
        return ck_load_##t(lane);                                                                                      \
    }
CK_DEFINE_PART(f32, float, CK_N32)
CK_DEFINE_PART(f64, double, CK_N64)

#endif

/* A vector in float64, for sums that float32 would round: WIDE vectors of doubles, in the order of the lanes. */
#define CK_F32_WIDE 2
#define CK_F64_WIDE 1
CK_INLINE void ck_widen_f64(ck_f64v v, ck_f64v *out) { out[0] = v; }
CK_INLINE void ck_widen_f32(ck_f32v v, ck_f64v *out)
{
#if defined(CK_AVX512)
    out[0] = (ck_f64v)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    out[1] = (ck_f64v)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
#elif defined(CK_AVX2)
    out[0] = (ck_f64v)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
    out[1] = (ck_f64v)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#else
    out[0] = (ck_f64v){v[0], v[1]};
    out[1] = (ck_f64v){v[2], v[3]};
#endif
}

/* CK_F64_LANES elements in float64. Converting from memory takes half the instructions of converting a register. */
CK_INLINE ck_f64v ck_load_wide_f32(const float *p)
{
#if defined(CK_AVX512)
    return (ck_f64v)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(CK_AVX2)
    return (ck_f64v)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    return (ck_f64v){p[0], p[1]};
#endif
}
CK_INLINE ck_f64v ck_load_wide_f64(const double *p) { return ck_load_f64(p); }

#endif
