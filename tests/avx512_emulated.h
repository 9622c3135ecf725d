/* The AVX-512 instructions that csrc names, in AVX2 and plain C: CONVKIT_EMULATE=avx512 compiles that level with this file
 * before each source, so that a CPU without AVX-512 runs its kernels, slowly, bit for bit as one with it. (Of rcp14
 * and rsqrt14 only the error is specified; here they are rounded to 14 bits.) What csrc writes with the compilers' vector
 * extensions they split themselves. Lanes that a mask leaves out are neither read nor written. */
#ifndef CK_AVX512_EMULATED_H
#define CK_AVX512_EMULATED_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#error "this CPU's own AVX-512 would be called"
#endif

#define EMULATED static inline __attribute__((always_inline, unused))

typedef union {
    __m512 f32;
    __m512d f64;
    __m512i whole;
    __m256 ps[2];
    __m256d pd[2];
    __m256i si[2];
    float f[16];
    double d[8];
    int32_t i[16];
    int64_t l[8];
} emulated_512;

/* Lanes of a half that a mask names, as all ones. */
EMULATED __m256i emulated_half_ps(int mask, int half)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask >> 8 * half), bit), bit);
}
EMULATED __m256i emulated_half_pd(int mask, int half)
{
    const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(mask >> 4 * half), bit), bit);
}

/* s: ps or pd; T: their element; M, H: 64 and 32 bytes of them; w: their name in the union; N: lanes of a half;
 * VI, TI: their bits as integers */
#define EMULATED_FLOAT(s, T, M, H, w, MASK, N, VI, TI)                                                                 \
    EMULATED M emulated_loadu_##s(const void *p)                                                                       \
    {                                                                                                                  \
        emulated_512 r;                                                                                                \
        memcpy(&r, p, sizeof r);                                                                                       \
        return r.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED void emulated_storeu_##s(void *p, M v) { memcpy(p, &v, sizeof v); }                                       \
    EMULATED M emulated_fmadd_##s(M a, M b, M c)                                                                       \
    {                                                                                                                  \
        emulated_512 x = {.w = a}, y = {.w = b}, z = {.w = c};                                                         \
        for (int h = 0; h < 2; h++) x.s[h] = _mm256_fmadd_##s(x.s[h], y.s[h], z.s[h]);                                 \
        return x.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED M emulated_max_##s(M a, M b)                                                                              \
    {                                                                                                                  \
        emulated_512 x = {.w = a}, y = {.w = b};                                                                       \
        for (int h = 0; h < 2; h++) x.s[h] = _mm256_max_##s(x.s[h], y.s[h]);                                           \
        return x.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED M emulated_min_##s(M a, M b)                                                                              \
    {                                                                                                                  \
        emulated_512 x = {.w = a}, y = {.w = b};                                                                       \
        for (int h = 0; h < 2; h++) x.s[h] = _mm256_min_##s(x.s[h], y.s[h]);                                           \
        return x.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED MASK emulated_cmp_##s##_mask(M a, M b, const int how)                                                     \
    {                                                                                                                  \
        emulated_512 x = {.w = a}, y = {.w = b};                                                                       \
        return (MASK)(_mm256_movemask_##s(_mm256_cmp_##s(x.s[0], y.s[0], how)) |                                       \
                      _mm256_movemask_##s(_mm256_cmp_##s(x.s[1], y.s[1], how)) << (N));                                \
    }                                                                                                                  \
    EMULATED M emulated_mask_mov_##s(M a, MASK mask, M b)                                                              \
    {                                                                                                                  \
        emulated_512 x = {.w = a}, y = {.w = b};                                                                       \
        for (int h = 0; h < 2; h++) x.s[h] = _mm256_blendv_##s(x.s[h], y.s[h], (H)emulated_half_##s(mask, h));         \
        return x.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED M emulated_mask_add_##s(M otherwise, MASK mask, M a, M b)                                                 \
    {                                                                                                                  \
        return emulated_mask_mov_##s(otherwise, mask, (M)(a + b));                                                     \
    }                                                                                                                  \
    EMULATED M emulated_maskz_loadu_##s(MASK mask, const void *p)                                                      \
    {                                                                                                                  \
        emulated_512 r;                                                                                                \
        for (int h = 0; h < 2; h++) r.s[h] = _mm256_maskload_##s((const T *)p + (N) * h, emulated_half_##s(mask, h));  \
        return r.w;                                                                                                    \
    }                                                                                                                  \
    EMULATED void emulated_mask_storeu_##s(void *p, MASK mask, M v)                                                    \
    {                                                                                                                  \
        emulated_512 x = {.w = v};                                                                                     \
        for (int h = 0; h < 2; h++) _mm256_maskstore_##s((T *)p + (N) * h, emulated_half_##s(mask, h), x.s[h]);        \
    }                                                                                                                  \
    /* A normal number's reciprocal: half of the last bit that stays is added before the rest goes. */                 \
    EMULATED M emulated_rcp14_##s(M v)                                                                                 \
    {                                                                                                                  \
        const int gone = sizeof(T) == 4 ? 23 - 14 : 52 - 14;                                                           \
        return (M)(((VI)((T)1 / v) + ((TI)1 << (gone - 1))) & -((TI)1 << gone));                                       \
    }
EMULATED_FLOAT(ps, float, __m512, __m256, f32, __mmask16, 8, __v16si, int32_t)
EMULATED_FLOAT(pd, double, __m512d, __m256d, f64, __mmask8, 4, __v8di, int64_t)

EMULATED __m512 emulated_set1_ps(float v) { return v - (__m512){0}; }

EMULATED __m512 emulated_rsqrt14_ps(__m512 v)
{
    emulated_512 x = {.f32 = v};
    for (int h = 0; h < 2; h++) x.ps[h] = _mm256_sqrt_ps(x.ps[h]);
    return emulated_rcp14_ps(x.f32);
}

EMULATED __mmask16 emulated_movepi32_mask(__m512i v)
{
    emulated_512 x = {.whole = v};
    return (__mmask16)(_mm256_movemask_ps(x.ps[0]) | _mm256_movemask_ps(x.ps[1]) << 8);
}

/* p 2^floor(n), rounded once, for n that is finite or NaN. A float's product in double is exact. */
EMULATED __m512 emulated_scalef_ps(__m512 p, __m512 n)
{
    for (int i = 0; i < 16; i++)
        p[i] = n[i] != n[i] ? n[i] : (float)ldexp(p[i], (int)floor(fmax(fmin(n[i], 999), -999)));
    return p;
}
EMULATED __m512d emulated_scalef_pd(__m512d p, __m512d n)
{
    for (int i = 0; i < 8; i++) p[i] = n[i] != n[i] ? n[i] : ldexp(p[i], (int)floor(fmax(fmin(n[i], 9999), -9999)));
    return p;
}

EMULATED __m512 emulated_permutex2var_ps(__m512 a, __m512i number, __m512 b)
{
    emulated_512 x = {.f32 = a}, y = {.f32 = b}, at = {.whole = number};
    for (int i = 0; i < 16; i++) at.f[i] = (at.i[i] & 16 ? y.f : x.f)[at.i[i] & 15];
    return at.f32;
}
EMULATED __m512 emulated_i32gather_ps(__m512i at, const float *p, const int scale)
{
    emulated_512 r = {.whole = at};
    for (int i = 0; i < 16; i++) memcpy(&r.f[i], (const char *)p + (ptrdiff_t)r.i[i] * scale, 4);
    return r.f32;
}
EMULATED __m512d emulated_i64gather_pd(__m512i at, const double *p, const int scale)
{
    emulated_512 r = {.whole = at};
    for (int i = 0; i < 8; i++) memcpy(&r.d[i], (const char *)p + r.l[i] * scale, 8);
    return r.f64;
}

EMULATED __m256 emulated_extractf32x8_ps(__m512 v, const int half) { return ((emulated_512){.f32 = v}).ps[half]; }
EMULATED __m256i emulated_extracti64x4_epi64(__m512i v, const int half)
{
    return ((emulated_512){.whole = v}).si[half];
}
EMULATED __m512d emulated_cvtps_pd(__m256 v) { return __builtin_convertvector((__v8sf)v, __m512d); }
EMULATED __m512i emulated_cvtepi32_epi64(__m256i v) { return (__m512i) __builtin_convertvector((__v8si)v, __v8di); }
EMULATED __m512i emulated_mul_epu32(__m512i a, __m512i b)
{
    emulated_512 x = {.whole = a}, y = {.whole = b};
    for (int h = 0; h < 2; h++) x.si[h] = _mm256_mul_epu32(x.si[h], y.si[h]);
    return x.whole;
}
EMULATED __m512 emulated_cvtph_ps(__m256i v)
{
    emulated_512 r;
    r.ps[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
    r.ps[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
    return r.f32;
}
EMULATED __m256i emulated_cvtps_ph(__m512 v, const int how)
{
    emulated_512 x = {.f32 = v};
    return _mm256_setr_m128i(_mm256_cvtps_ph(x.ps[0], how), _mm256_cvtps_ph(x.ps[1], how));
}

/* Lanes of a mask for the integers of `lane`: i or l, n of them. */
#define EMULATED_INTEGER(e, MASK, lane, n)                                                                             \
    EMULATED MASK emulated_cmpeq_##e##_mask(__m512i a, __m512i b)                                                      \
    {                                                                                                                  \
        emulated_512 x = {.whole = a}, y = {.whole = b};                                                               \
        int mask = 0;                                                                                                  \
        for (int i = 0; i < (n); i++) mask |= (x.lane[i] == y.lane[i]) << i;                                           \
        return (MASK)mask;                                                                                             \
    }                                                                                                                  \
    EMULATED __m512i emulated_mask_mov_##e(__m512i a, MASK mask, __m512i b)                                            \
    {                                                                                                                  \
        emulated_512 x = {.whole = a}, y = {.whole = b};                                                               \
        for (int i = 0; i < (n); i++) x.lane[i] = mask >> i & 1 ? y.lane[i] : x.lane[i];                               \
        return x.whole;                                                                                                \
    }                                                                                                                  \
    EMULATED void emulated_mask_storeu_##e(void *p, MASK mask, __m512i v)                                              \
    {                                                                                                                  \
        emulated_512 x = {.whole = v};                                                                                 \
        for (int i = 0; i < (n); i++)                                                                                  \
            if (mask >> i & 1) memcpy((char *)p + i * sizeof x.lane[0], &x.lane[i], sizeof x.lane[0]);                 \
    }                                                                                                                  \
    EMULATED __m512i emulated_cvtepu8_##e(__m128i bytes)                                                               \
    {                                                                                                                  \
        emulated_512 r;                                                                                                \
        for (int i = 0; i < (n); i++) r.lane[i] = ((__v16qu)bytes)[i];                                                 \
        return r.whole;                                                                                                \
    }                                                                                                                  \
    EMULATED __m128i emulated_cvt##e##_epi8(__m512i v)                                                                 \
    {                                                                                                                  \
        emulated_512 x = {.whole = v};                                                                                 \
        __v16qu bytes = {0};                                                                                           \
        for (int i = 0; i < (n); i++) bytes[i] = (unsigned char)x.lane[i];                                             \
        return (__m128i)bytes;                                                                                         \
    }
EMULATED_INTEGER(epi32, __mmask16, i, 16)
EMULATED_INTEGER(epi64, __mmask8, l, 8)

EMULATED __m128i emulated_maskz_loadu_epi8(__mmask16 mask, const void *p)
{
    __v16qu bytes = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) bytes[i] = ((const unsigned char *)p)[i];
    return (__m128i)bytes;
}
EMULATED void emulated_mask_storeu_epi8(void *p, __mmask16 mask, __m128i v)
{
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) ((unsigned char *)p)[i] = ((__v16qu)v)[i];
}

#define _mm512_loadu_ps emulated_loadu_ps
#define _mm512_storeu_ps emulated_storeu_ps
#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_fmadd_pd emulated_fmadd_pd
#define _mm512_max_ps emulated_max_ps
#define _mm512_max_pd emulated_max_pd
#define _mm512_min_ps emulated_min_ps
#define _mm512_min_pd emulated_min_pd
#define _mm512_cmp_ps_mask emulated_cmp_ps_mask
#define _mm512_cmp_pd_mask emulated_cmp_pd_mask
#define _mm512_mask_mov_ps emulated_mask_mov_ps
#define _mm512_mask_mov_pd emulated_mask_mov_pd
#define _mm512_mask_add_ps emulated_mask_add_ps
#define _mm512_mask_add_pd emulated_mask_add_pd
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd emulated_maskz_loadu_pd
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd emulated_mask_storeu_pd
#define _mm512_rcp14_ps emulated_rcp14_ps
#define _mm512_rcp14_pd emulated_rcp14_pd
#define _mm512_rsqrt14_ps emulated_rsqrt14_ps
#define _mm512_movepi32_mask emulated_movepi32_mask
#define _mm512_set1_ps emulated_set1_ps
#define _mm512_scalef_ps emulated_scalef_ps
#define _mm512_scalef_pd emulated_scalef_pd
#define _mm512_permutex2var_ps emulated_permutex2var_ps
#define _mm512_i32gather_ps emulated_i32gather_ps
#define _mm512_i64gather_pd emulated_i64gather_pd
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_extracti64x4_epi64 emulated_extracti64x4_epi64
#define _mm512_cvtps_pd emulated_cvtps_pd
#define _mm512_cvtepi32_epi64 emulated_cvtepi32_epi64
#define _mm512_mul_epu32 emulated_mul_epu32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph emulated_cvtps_ph
#define _mm512_cmpeq_epi32_mask emulated_cmpeq_epi32_mask
#define _mm512_cmpeq_epi64_mask emulated_cmpeq_epi64_mask
#define _mm512_mask_mov_epi32 emulated_mask_mov_epi32
#define _mm512_mask_mov_epi64 emulated_mask_mov_epi64
#define _mm512_mask_storeu_epi64 emulated_mask_storeu_epi64
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtepu8_epi64 emulated_cvtepu8_epi64
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvtepi64_epi8 emulated_cvtepi64_epi8
#define _mm_maskz_loadu_epi8 emulated_maskz_loadu_epi8
#define _mm_mask_storeu_epi8 emulated_mask_storeu_epi8
#define _mm512_castps512_ps256(v) emulated_extractf32x8_ps(v, 0)
#define _mm512_castsi512_si256(v) emulated_extracti64x4_epi64(v, 0)

#endif
