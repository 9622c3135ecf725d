/* vexp, vexpm1, vlog and vlog1p, for the dtype of the base/float*.h included before; no include guard, like those.
 *
 * vexp: x = n ln 2 + r with |r| <= ln(2) / 2 and ln 2 split in two so that n times its first part is exact;
 *       exp(r) = 1 + r + r^2 q(r); the power of two is applied in two factors where no instruction does it,
 * 2^(n + UP) and 2^-UP (for x > 0 the other way round), so that denormal results are rounded once. Exact limits:
 * exp(-inf) = 0, exp(0) = 1, exp(inf) = inf, NaN stays NaN. vexpm1 = 2^n (exp(r) - 1) + (2^n - 1).
 * vlog: x = 2^k m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f / (2 + f), z = s^2, from log(1 + f)
 *       = 2 s + s z p(z) = f - (f^2 / 2 - s (f^2 / 2 + z p(z))), which loses no digit for small f.
 * log(0) = -inf, log(x < 0) = NaN, denormals are scaled up first.
 *
 * q and p are Chebyshev fits made for these intervals; they err by less than 0.15 of half an ulp. The error
 * of the whole is at most 1.1 ulp for both functions, both dtypes and all levels
 * (tests/test_kernels_elementwise.py). */
#ifndef CK_EXP_LOG_CONSTANTS
#define CK_EXP_LOG_CONSTANTS

#define CK_LN2_HI_f32 0x1.62e4p-1f
#define CK_LN2_LO_f32 0x1.7f7d1cf79abcap-20f
#define CK_LN2_HI_f64 0x1.62e42fee00000p-1
#define CK_LN2_LO_f64 0x1.a39ef35793c76p-33

/* Below EXP_LOW a result rounds to zero, above EXP_HIGH to infinity. */
#define CK_EXP_LOW_f32 -104.0f
#define CK_EXP_HIGH_f32 89.0f
#define CK_EXP_LOW_f64 -746.0
#define CK_EXP_HIGH_f64 710.0
/* Below it exp(x) - 1 rounds to -1. */
#define CK_EXPM1_LOW_f32 -20.0f
#define CK_EXPM1_LOW_f64 -40.0

/* Adding and subtracting ROUND rounds to the nearest integer, which then stands in the low bits of the sum; with an
 * integer added to ROUND they hold that much more, so that one shift makes a power of two of them. */
#define CK_ROUND_f32 0x1.8p23f
#define CK_ROUND_f64 0x1.8p52

#define CK_MANTISSA_f32 23
#define CK_MANTISSA_f64 52
#define CK_BIAS_f32 127
#define CK_BIAS_f64 1023
/* 2^(n + UP) is a normal number for every n of vexp and of gelu where x < 0, and 2^(n - UP) where x > 0. */
#define CK_UP_f32 40
#define CK_UP_f64 80
#define CK_TO_UP_f32 0x1p40f
#define CK_TO_UP_f64 0x1p80
#define CK_SQRT_HALF_BITS_f32 0x3f3504f3
#define CK_SQRT_HALF_BITS_f64 0x3fe6a09e667f3bcd
#define CK_LEAST_NORMAL_f32 0x1p-126f
#define CK_LEAST_NORMAL_f64 0x1p-1022

static const float ck_exp_q_f32[] = {0x1p-1f, 0x1.5554dcc72f691p-3f, 0x1.55551914b31dcp-5f, 0x1.120ba1a05966cp-7f,
                                     0x1.6d113c8ed96b6p-10f};
static const double ck_exp_q_f64[] = {
    0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d4fp-5,  0x1.11111111109adp-7,  0x1.6c16c17893833p-10,
    0x1.a01a01a7c8d47p-13, 0x1.a019b8ef67c6cp-16, 0x1.71de0d9c145d0p-19, 0x1.2891a8c1d838dp-22, 0x1.af38d53857513p-26};
static const float ck_log_p_f32[] = {0x1.5555554ba8b0ep-1f, 0x1.9999eb9d6ddfep-2f, 0x1.245c273432202p-2f,
                                     0x1.ddd4dad98e4c4p-3f};
static const double ck_log_p_f64[] = {0x1.5555555555558p-1, 0x1.9999999995273p-2, 0x1.2492492dfd86cp-2,
                                      0x1.c71c62d5e53e0p-3, 0x1.7462b91b8df65p-3, 0x1.39fdcceb4bb45p-3,
                                      0x1.2b5f68a50d903p-3};

/* One instruction where the level has it: the larger or smaller of a and b, b where one of them is NaN (a NaN
 * in b is kept, one in a may be dropped); p 2^n, rounded once however small the result. */
#if defined(CK_AVX512)
CK_INLINE ck_f32v ck_larger_f32(ck_f32v a, ck_f32v b) { return (ck_f32v)_mm512_max_ps((__m512)a, (__m512)b); }
CK_INLINE ck_f64v ck_larger_f64(ck_f64v a, ck_f64v b) { return (ck_f64v)_mm512_max_pd((__m512d)a, (__m512d)b); }
CK_INLINE ck_f32v ck_smaller_f32(ck_f32v a, ck_f32v b) { return (ck_f32v)_mm512_min_ps((__m512)a, (__m512)b); }
CK_INLINE ck_f64v ck_smaller_f64(ck_f64v a, ck_f64v b) { return (ck_f64v)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif defined(CK_AVX2)
CK_INLINE ck_f32v ck_larger_f32(ck_f32v a, ck_f32v b) { return (ck_f32v)_mm256_max_ps((__m256)a, (__m256)b); }
CK_INLINE ck_f64v ck_larger_f64(ck_f64v a, ck_f64v b) { return (ck_f64v)_mm256_max_pd((__m256d)a, (__m256d)b); }
CK_INLINE ck_f32v ck_smaller_f32(ck_f32v a, ck_f32v b) { return (ck_f32v)_mm256_min_ps((__m256)a, (__m256)b); }
CK_INLINE ck_f64v ck_smaller_f64(ck_f64v a, ck_f64v b) { return (ck_f64v)_mm256_min_pd((__m256d)a, (__m256d)b); }
#else
CK_INLINE ck_f32v ck_larger_f32(ck_f32v a, ck_f32v b) { return ck_select_f32(a > b, a, b); }
CK_INLINE ck_f64v ck_larger_f64(ck_f64v a, ck_f64v b) { return ck_select_f64(a > b, a, b); }
CK_INLINE ck_f32v ck_smaller_f32(ck_f32v a, ck_f32v b) { return ck_select_f32(a < b, a, b); }
CK_INLINE ck_f64v ck_smaller_f64(ck_f64v a, ck_f64v b) { return ck_select_f64(a < b, a, b); }
#endif
/* a where x is negative, else b; a or b where x is -0 or NaN */
#if defined(CK_AVX2)
CK_INLINE ck_f32v ck_by_sign_f32(ck_f32v x, ck_f32v a, ck_f32v b)
{
    return (ck_f32v)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)x);
}
CK_INLINE ck_f64v ck_by_sign_f64(ck_f64v x, ck_f64v a, ck_f64v b)
{
    return (ck_f64v)_mm256_blendv_pd((__m256d)b, (__m256d)a, (__m256d)x);
}
#else
CK_INLINE ck_f32v ck_by_sign_f32(ck_f32v x, ck_f32v a, ck_f32v b) { return ck_select_f32(x < 0, a, b); }
CK_INLINE ck_f64v ck_by_sign_f64(ck_f64v x, ck_f64v a, ck_f64v b) { return ck_select_f64(x < 0, a, b); }
#endif
#if defined(CK_AVX512)
CK_INLINE ck_f32v ck_scale_f32(ck_f32v p, ck_f32v n) { return (ck_f32v)_mm512_scalef_ps((__m512)p, (__m512)n); }
CK_INLINE ck_f64v ck_scale_f64(ck_f64v p, ck_f64v n) { return (ck_f64v)_mm512_scalef_pd((__m512d)p, (__m512d)n); }
#endif
#endif

/* v in the lanes of the mask, 0 in the others */
CK_INLINE V CK_TYPED(masked)(VI mask, V v) { return (V)((VI)v & mask); }

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1) */
CK_INLINE V CK_TYPED(polynomial)(V x, const T *c, const int n)
{
    V p = vset1(c[n - 1]);
    CK_UNROLL
    for (int i = n - 2; i >= 0; i--) p = vfma(p, x, vset1(c[i]));
    return p;
}

/* 2^n for vectors of integers within the range of normal numbers. */
CK_INLINE V CK_TYPED(power_of_two)(VI n) { return (V)((n + CK_TYPED(CK_BIAS)) << CK_TYPED(CK_MANTISSA)); }

/* x = n ln 2 + r for x within the range of vexp: r, and n + ROUND + more, which holds n + more in its low bits too. */
CK_INLINE V CK_TYPED(reduced)(V x, const int more, V *shifted)
{
    const V round = vset1(CK_TYPED(CK_ROUND) + (T)more);
    *shifted = vfma(x, vset1((T)0x1.71547652b82fep+0), round); /* x / ln 2 */
    V n = *shifted - round;
    V r = vfma(n, vset1(-CK_TYPED(CK_LN2_HI)), x);
    return vfma(n, vset1(-CK_TYPED(CK_LN2_LO)), r);
}

/* exp(r) - 1 for |r| a little above ln(2) / 2 at most */
CK_INLINE V CK_TYPED(short_expm1)(V r)
{
    const int terms = sizeof(CK_TYPED(ck_exp_q)) / sizeof(T);
    return vfma(r * r, CK_TYPED(polynomial)(r, CK_TYPED(ck_exp_q), terms), r);
}

/* (1 + s) 2^n for n <= 0, rounded once, from what `reduced` gave with DOWN */
#if defined(CK_AVX512)
#define CK_EXP_DOWN 0
#else
#define CK_EXP_DOWN (CK_TYPED(CK_BIAS) + CK_TYPED(CK_UP))
#endif
CK_INLINE V CK_TYPED(times_power)(V s, V shifted)
{
#if defined(CK_AVX512)
    return CK_TYPED(ck_scale)(s + (T)1, shifted - vset1(CK_TYPED(CK_ROUND)));
#else
    V power = (V)((VI)shifted << CK_TYPED(CK_MANTISSA));
    return vfma(s, power, power) * (1 / CK_TYPED(CK_TO_UP));
#endif
}

/* exp(x) for x <= 0 */
CK_INLINE V CK_TYPED(vexp_down)(V x)
{
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(ck_larger)(vset1(CK_TYPED(CK_EXP_LOW)), x), CK_EXP_DOWN, &shifted);
    return CK_TYPED(times_power)(CK_TYPED(short_expm1)(r), shifted);
}

CK_INLINE V CK_TYPED(in_exp_range)(V x)
{
    const V low = vset1(CK_TYPED(CK_EXP_LOW)), high = vset1(CK_TYPED(CK_EXP_HIGH));
    return CK_TYPED(ck_smaller)(high, CK_TYPED(ck_larger)(low, x));
}

CK_INLINE V CK_TYPED(vexp)(V x)
{
#if defined(CK_AVX512)
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(in_exp_range)(x), 0, &shifted);
    return CK_TYPED(times_power)(CK_TYPED(short_expm1)(r), shifted);
#else
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(in_exp_range)(x), 2 * CK_TYPED(CK_BIAS), &shifted),
               s = CK_TYPED(short_expm1)(r);
    const V up = vset1(CK_TYPED(CK_TO_UP)), other = CK_TYPED(ck_by_sign)(x, (T)1 / up, up);
    V power = (V)(((VI)shifted << CK_TYPED(CK_MANTISSA)) - (VI)other);
    return vfma(s, power, power) * other;
#endif
}

/* exp(x) - 1 for x <= 0 */
CK_INLINE V CK_TYPED(vexpm1)(V x)
{
    const V low = vset1(CK_TYPED(CK_EXPM1_LOW));
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(ck_larger)(low, x), CK_TYPED(CK_BIAS), &shifted);
    V power = (V)((VI)shifted << CK_TYPED(CK_MANTISSA));
    return vfma(CK_TYPED(short_expm1)(r), power, power - (T)1);
}

/* k ln 2 + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1) */
CK_INLINE V CK_TYPED(log_of)(V k, V f)
{
    const int terms = sizeof(CK_TYPED(ck_log_p)) / sizeof(T);
    V s = f / (f + (T)2), z = s * s, half = f * f * (T)0.5;
    V tail = vfma(z, CK_TYPED(polynomial)(z, CK_TYPED(ck_log_p), terms), half);
    V low = vfma(k, vset1(CK_TYPED(CK_LN2_LO)), s * tail);
    return vfma(k, vset1(CK_TYPED(CK_LN2_HI)), f - (half - low));
}

CK_INLINE V CK_TYPED(vlog)(V x)
{
    const int up = CK_TYPED(CK_MANTISSA) + 1;
    const V zero = vset1(0), infinity = vset1((T)INFINITY);
    VI denormal = (VI)(x < CK_TYPED(CK_LEAST_NORMAL));
    V scaled = vselect(denormal, x * CK_TYPED(power_of_two)((VI){0} + up), x);
    VI k = ((VI)scaled - CK_TYPED(CK_SQRT_HALF_BITS)) >> CK_TYPED(CK_MANTISSA);
    V f = (V)((VI)scaled - (k << CK_TYPED(CK_MANTISSA))) - (T)1;
    V y = CK_TYPED(log_of)(__builtin_convertvector(k - (denormal & up), V), f);
    y = vselect(x == zero, -infinity, y);
    y = vselect(x == infinity, infinity, y);
    return vselect((VI)(x < zero) | (VI)(x != x), vset1((T)NAN), y);
}

/* log(1 + x) for 0 <= x <= 1 */
CK_INLINE V CK_TYPED(vlog1p)(V x)
{
    VI large = (VI)(x > (T)0.41421356237309503);
    V f = vselect(large, (x - (T)1) * (T)0.5, x); /* 1 + x = 2 (1 + f) */
    return CK_TYPED(log_of)(CK_TYPED(masked)(large, vset1(1)), f);
}
