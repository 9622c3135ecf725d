#include "elementwise/half.h"

#include "base/simd.h"

/* Every level but the portable one has instructions for both ways. */
#if defined(CK_AVX512)

#define LANES 16
CK_INLINE void widen_lanes(const uint16_t *x, float *y)
{
    _mm512_storeu_ps(y, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x)));
}
CK_INLINE void narrow_lanes(const float *x, uint16_t *y)
{
    _mm256_storeu_si256((__m256i *)y, _mm512_cvtps_ph(_mm512_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(CK_AVX2)

#define LANES 8
CK_INLINE void widen_lanes(const uint16_t *x, float *y)
{
    _mm256_storeu_ps(y, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x)));
}
CK_INLINE void narrow_lanes(const float *x, uint16_t *y)
{
    _mm_storeu_si128((__m128i *)y, _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(CK_NEON)

#define LANES 4
CK_INLINE void widen_lanes(const uint16_t *x, float *y)
{
    vst1q_f32(y, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x))));
}
CK_INLINE void narrow_lanes(const float *x, uint16_t *y)
{
    vst1_u16(y, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x))));
}

#else

#define LANES 1
CK_INLINE float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
CK_INLINE uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* The exponent and mantissa in their place as a float are 2^-112 of the value, denormal or not. */
CK_INLINE void widen_lanes(const uint16_t *x, float *y)
{
    uint32_t sign = (uint32_t)(*x & 0x8000) << 16, rest = (uint32_t)(*x & 0x7fff) << 13;
    uint32_t finite = bits_of(of_bits(rest) * 0x1p112f);
    *y = of_bits(sign | (rest < 0x0f800000 ? finite : rest | 0x7f800000));
}

/* Adding a power of two whose last digit is that of the result rounds to it: 1/2 for denormal results. Normal ones are
 * rounded by adding just less than half of their last digit, or half of it where that digit is odd. */
CK_INLINE void narrow_lanes(const float *x, uint16_t *y)
{
    uint32_t bits = bits_of(*x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff, half;
    if (rest > 0x7f800000)
        half = 0x7e00; /* NaN */
    else if (rest >= 0x477ff000)
        half = 0x7c00; /* from 65520 on */
    else if (rest < 0x38800000)
        half = bits_of(of_bits(rest) + 0.5f) - bits_of(0.5f);
    else
        half = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    *y = (uint16_t)(sign | half);
}

#endif

static void widen(const uint16_t *x, float *y, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) widen_lanes(x + i, y + i);
    if (i < n) {
        uint16_t from[LANES] = {0};
        float to[LANES];
        memcpy(from, x + i, (size_t)(n - i) * sizeof *x);
        widen_lanes(from, to);
        memcpy(y + i, to, (size_t)(n - i) * sizeof *y);
    }
}

static void narrow(const float *x, uint16_t *y, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) narrow_lanes(x + i, y + i);
    if (i < n) {
        float from[LANES] = {0};
        uint16_t to[LANES];
        memcpy(from, x + i, (size_t)(n - i) * sizeof *x);
        narrow_lanes(from, to);
        memcpy(y + i, to, (size_t)(n - i) * sizeof *y);
    }
}

extern const ck_widen_kernel CK_FN(ck_widen);
extern const ck_narrow_kernel CK_FN(ck_narrow);
const ck_widen_kernel CK_FN(ck_widen) = widen;
const ck_narrow_kernel CK_FN(ck_narrow) = narrow;
