/* The activations and their gradients, for the dtype of the base/float*.h included before; no include guard, like
 * those. <name>_of(job, x) is the value; <name>_gradient(job, dy, x) the gradient of x, where x stands for the output
 * in relu, sigmoid and tanh.
 *
 * Exponentials are of -|x|, so that nothing overflows and no sum cancels: with e = exp(-|x|), sigmoid is 1 / (1 + e)
 * on the right and e / (1 + e) on the left. The left tails of silu, mish and gelu so keep their digits down to
 * denormal numbers. A piece that a comparison selects is never multiplied: a gradient of 0 is 0 for any dy. */
#ifndef CK_ACTIVATION_CONSTANTS
#define CK_ACTIVATION_CONSTANTS

#define CK_SIGN_f32 ((int32_t)0x80000000)
#define CK_SIGN_f64 ((int64_t)0x8000000000000000)

/* Phi, the normal distribution: exp(t^2 / 2) Phi(-t) as a quotient of two polynomials with positive coefficients, for
 * 0 <= t <= MOST with a relative error below 7e-9 and 1e-18. Past MOST Phi(-t) rounds to 0. TOP keeps the bits of t whose
 * square is exact. */
#define CK_PHI_MOST_f32 15.0f
#define CK_PHI_MOST_f64 39.0
#define CK_PHI_TOP_f32 ((int32_t)0xfffff000)
#define CK_PHI_TOP_f64 ((int64_t)0xfffffffff8000000)
static const float ck_phi_top_f32[] = {0x1.0000001965017p-1f, 0x1.c1d5492cae997p-2f, 0x1.78c594c9461efp-3f,
                                       0x1.4ee4c99c772bdp-5f, 0x1.1029113bc1280p-8f};
static const float ck_phi_under_f32[] = {0x1.0000000000000p+0f, 0x1.ad2cd57335809p+0f, 0x1.349fb73421918p+0f,
                                         0x1.e2b9ba79c3a80p-2f, 0x1.a3c08339be183p-4f, 0x1.55194e880e5ffp-7f};
static const double ck_phi_top_f64[] = {0x1.0000000000000p-1,  0x1.a7f5a26492838p-1,  0x1.5c0ebf0a290a1p-1,
                                        0x1.6e12cd66b7818p-2,  0x1.0e94cbb621b78p-3,  0x1.2465b66ea0f02p-5,
                                        0x1.d335f550753c1p-8,  0x1.10d7356730767p-10, 0x1.bf8e1982016d2p-14,
                                        0x1.d4d6b3ba788e8p-18, 0x1.e24511bb280d0p-23};
static const double ck_phi_under_f64[] = {0x1.0000000000000p+0,  0x1.3a1be6019a1b1p+1,  0x1.68a6c910c3300p+1,
                                          0x1.0043e524094d6p+1,  0x1.f6080cd6f4cdap-1,  0x1.64e14c4633faep-2,
                                          0x1.790221c2633d7p-4,  0x1.29250d1c7b10fp-6,  0x1.5840189d4c0a9p-9,
                                          0x1.190dc73f92acdp-12, 0x1.25cd131c21496p-16, 0x1.2e37c07326e13p-21};

#define CK_SELU_SCALE 1.0507009873554804934193349852946
#define CK_SELU_ALPHA 1.6732632423543772848170429916717
#if defined(CK_AVX512)
CK_INLINE ck_f32v ck_reciprocal_f32(ck_f32v v) { return (ck_f32v)_mm512_rcp14_ps((__m512)v); }
CK_INLINE ck_f64v ck_reciprocal_f64(ck_f64v v) { return (ck_f64v)_mm512_rcp14_pd((__m512d)v); }
#endif
#endif

CK_INLINE V CK_TYPED(minus_abs)(V x) { return (V)((VI)x | CK_TYPED(CK_SIGN)); }
CK_INLINE V CK_TYPED(unless)(VI drop, V v) { return CK_TYPED(masked)(~drop, v); }

/* exp(x) for x <= 0 */
CK_INLINE V CK_TYPED(vexp_down)(V x)
{
    V shifted, r = CK_TYPED(reduced)(CK_TYPED(ck_larger)(vset1(CK_TYPED(CK_EXP_LOW)), x), &shifted);
    return CK_TYPED(times_power)(CK_TYPED(short_expm1)(r) + (T)1, shifted);
}

/* a where x is negative, else b */
CK_INLINE V CK_TYPED(by_sign)(V x, V a, V b) { return vselect((VI)(x < vset1(0)), a, b); }

/* ---- pieces of straight lines ---- */

CK_INLINE V CK_TYPED(relu_of)(const ck_elementwise *job, V x)
{
    (void)job;
    return CK_TYPED(unless)((VI)(x <= vset1(0)), x);
}

CK_INLINE V CK_TYPED(relu_gradient)(const ck_elementwise *job, V dy, V y)
{
    (void)job;
    return CK_TYPED(unless)((VI)(y <= vset1(0)), dy);
}

CK_INLINE V CK_TYPED(relu6_of)(const ck_elementwise *job, V x)
{
    (void)job;
    return CK_TYPED(ck_smaller)(vset1(6), CK_TYPED(ck_larger)(vset1(0), x));
}

CK_INLINE V CK_TYPED(relu6_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    return CK_TYPED(unless)((VI)(x <= vset1(0)) | (VI)(x >= vset1(6)), dy);
}

CK_INLINE V CK_TYPED(leaky_relu_of)(const ck_elementwise *job, V x)
{
    return vselect((VI)(x > vset1(0)), x, x * vset1((T)job->a));
}

CK_INLINE V CK_TYPED(leaky_relu_gradient)(const ck_elementwise *job, V dy, V x)
{
    return vselect((VI)(x > vset1(0)), dy, dy * vset1((T)job->a));
}

CK_INLINE V CK_TYPED(hardsigmoid_of)(const ck_elementwise *job, V x)
{
    return CK_TYPED(relu6_of)(job, x + (T)3) / (T)6;
}

CK_INLINE V CK_TYPED(hardsigmoid_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    return CK_TYPED(masked)((VI)(x > vset1(-3)) & (VI)(x < vset1(3)), dy / (T)6);
}

CK_INLINE V CK_TYPED(hardswish_of)(const ck_elementwise *job, V x)
{
    return x * CK_TYPED(relu6_of)(job, x + (T)3) / (T)6;
}

CK_INLINE V CK_TYPED(hardswish_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V inner = vselect((VI)(x >= vset1(3)), dy, dy * (x / (T)3 + (T)0.5));
    return CK_TYPED(unless)((VI)(x <= vset1(-3)), inner);
}

/* ---- exponentials of x where it is negative ---- */

/* alpha (exp(x) - 1) where x is negative, times scale */
CK_INLINE V CK_TYPED(bent)(V x, T scale, T alpha)
{
    V low = CK_TYPED(vexpm1)(CK_TYPED(ck_smaller)(vset1(0), x)) * (scale * alpha);
    return vselect((VI)(x > vset1(0)), x * scale, low);
}

CK_INLINE V CK_TYPED(bent_gradient)(V dy, V x, T scale, T alpha)
{
    V low = dy * (CK_TYPED(vexp)(CK_TYPED(ck_smaller)(vset1(0), x)) * (scale * alpha));
    return vselect((VI)(x > vset1(0)), dy * scale, low);
}

CK_INLINE V CK_TYPED(elu_of)(const ck_elementwise *job, V x) { return CK_TYPED(bent)(x, 1, (T)job->a); }

CK_INLINE V CK_TYPED(elu_gradient)(const ck_elementwise *job, V dy, V x)
{
    return CK_TYPED(bent_gradient)(dy, x, 1, (T)job->a);
}

CK_INLINE V CK_TYPED(selu_of)(const ck_elementwise *job, V x)
{
    (void)job;
    return CK_TYPED(bent)(x, (T)CK_SELU_SCALE, (T)CK_SELU_ALPHA);
}

CK_INLINE V CK_TYPED(selu_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    return CK_TYPED(bent_gradient)(dy, x, (T)CK_SELU_SCALE, (T)CK_SELU_ALPHA);
}

/* ---- sigmoid and what is made of it ---- */

/* With e = exp(-|x|): the numerator of sigmoid(x) = numerator / (1 + e); the other one of {1, e} is that of 1 - sigmoid. */
CK_INLINE V CK_TYPED(sigmoid_parts)(V x, V *e)
{
    *e = CK_TYPED(vexp_down)(CK_TYPED(minus_abs)(x));
    return CK_TYPED(by_sign)(x, *e, vset1(1));
}

CK_INLINE V CK_TYPED(sigmoid_of)(const ck_elementwise *job, V x)
{
    (void)job;
    V e, top = CK_TYPED(sigmoid_parts)(x, &e);
    return top / (e + (T)1);
}

CK_INLINE V CK_TYPED(sigmoid_gradient)(const ck_elementwise *job, V dy, V y)
{
    (void)job;
    return dy * (y * ((T)1 - y));
}

CK_INLINE V CK_TYPED(silu_of)(const ck_elementwise *job, V x)
{
    (void)job;
    V e, top = CK_TYPED(sigmoid_parts)(x, &e);
    return x * top / (e + (T)1);
}

CK_INLINE V CK_TYPED(silu_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V e, top = CK_TYPED(sigmoid_parts)(x, &e), share = (T)1 / (e + (T)1);
    V other = CK_TYPED(by_sign)(x, vset1(1), e) * share; /* 1 - sigmoid(x) */
    return dy * (top * share * vfma(x, other, vset1(1)));
}

/* tanh(softplus(x)) = top / under, and 1 minus that = rest / under */
CK_INLINE V CK_TYPED(mish_parts)(V x, V e, V *under, V *rest)
{
    V top = CK_TYPED(by_sign)(x, e * (e + (T)2), e + e + (T)1);
    *rest = CK_TYPED(by_sign)(x, vset1(2), e * e * (T)2);
    *under = top + *rest;
    return top;
}

CK_INLINE V CK_TYPED(mish_of)(const ck_elementwise *job, V x)
{
    (void)job;
    V under, rest, top = CK_TYPED(mish_parts)(x, CK_TYPED(vexp_down)(CK_TYPED(minus_abs)(x)), &under, &rest);
    return x * top / under;
}

CK_INLINE V CK_TYPED(mish_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V e, of_sigmoid = CK_TYPED(sigmoid_parts)(x, &e), under, rest, top = CK_TYPED(mish_parts)(x, e, &under, &rest);
    V t = top / under;
    return dy * vfma(x * (rest / under), (t + (T)1) * (of_sigmoid / (e + (T)1)), t);
}

/* log(1 + exp(a x)) / a; the line x where a x is above b */
CK_INLINE V CK_TYPED(softplus_of)(const ck_elementwise *job, V x)
{
    V scaled = x * (T)job->a, e = CK_TYPED(vexp_down)(CK_TYPED(minus_abs)(scaled));
    V y = (CK_TYPED(ck_larger)(vset1(0), scaled) + CK_TYPED(vlog1p)(e)) * (T)(1.0 / job->a);
    return vselect((VI)(scaled > vset1((T)job->b)), x, y);
}

CK_INLINE V CK_TYPED(softplus_gradient)(const ck_elementwise *job, V dy, V x)
{
    V scaled = x * (T)job->a;
    return vselect((VI)(scaled > vset1((T)job->b)), dy, dy * CK_TYPED(sigmoid_of)(job, scaled));
}

/* ---- tanh and gelu ---- */

CK_INLINE V CK_TYPED(tanh_of)(const ck_elementwise *job, V x)
{
    (void)job;
    V m = CK_TYPED(vexpm1)(CK_TYPED(minus_abs)(x) * (T)2), y = m / (m + (T)2);
    return (V)(((VI)y & ~CK_TYPED(CK_SIGN)) | ((VI)x & CK_TYPED(CK_SIGN)));
}

CK_INLINE V CK_TYPED(tanh_gradient)(const ck_elementwise *job, V dy, V y)
{
    (void)job;
    return dy * (((T)1 - y) * ((T)1 + y));
}

/* exp(-t^2 / 2) for 0 <= t <= MOST. The square is taken in two parts, because the exponential magnifies its rounding: 100
 * ulp at t = 14 otherwise. */
CK_INLINE V CK_TYPED(vexp_of_square)(V t)
{
#if defined(CK_AVX512) || defined(CK_AVX2) || defined(CK_NEON)
    V half = t * (T)-0.5, square = half * t, low = vfma(half, t, -square); /* what one rounding took */
#else
    V top = (V)((VI)t & CK_TYPED(CK_PHI_TOP)), square = top * top * (T)-0.5, low = (top - t) * (top + t) * (T)0.5;
#endif
    V shifted, r = CK_TYPED(reduced)(square, &shifted);
    return CK_TYPED(times_power)(CK_TYPED(short_expm1)(r + low) + (T)1, shifted);
}

/* a / b for a finite and b from 1 to 1e10, without the unit that divides where it is slow. */
CK_INLINE V CK_TYPED(over)(V a, V b)
{
#if defined(CK_AVX512)
    V r = CK_TYPED(ck_reciprocal)(b); /* of 14 bits; every step doubles them */
    CK_UNROLL for (int bits = 14; bits < (sizeof(T) == 4 ? 24 : 53); bits *= 2) r = vfma(r, vfma(-b, r, vset1(1)), r);
    V q = a * r;
    return vfma(vfma(-b, q, a), r, q);
#else
    return a / b;
#endif
}

/* Phi(-|x|), and exp(-x^2 / 2) */
CK_INLINE V CK_TYPED(normal_tail)(V x, V *density)
{
    const int terms = sizeof(CK_TYPED(ck_phi_top)) / sizeof(T);
    V t = CK_TYPED(ck_smaller)(vset1(CK_TYPED(CK_PHI_MOST)), -CK_TYPED(minus_abs)(x));
    *density = CK_TYPED(vexp_of_square)(t);
    V top = CK_TYPED(polynomial)(t, CK_TYPED(ck_phi_top), terms);
    return CK_TYPED(over)(*density * top, CK_TYPED(polynomial)(t, CK_TYPED(ck_phi_under), terms + 1));
}

CK_INLINE V CK_TYPED(gelu_of)(const ck_elementwise *job, V x)
{
    (void)job;
    V density, tail = CK_TYPED(normal_tail)(x, &density);
    return x * CK_TYPED(by_sign)(x, tail, (T)1 - tail);
}

CK_INLINE V CK_TYPED(gelu_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V density, tail = CK_TYPED(normal_tail)(x, &density);
    V slope = vfma(x * (T)0.39894228040143267794, density, CK_TYPED(by_sign)(x, tail, (T)1 - tail));
    return dy * slope;
}

/* x sigmoid(v) with v = 2 sqrt(2 / pi) (x + 0.044715 x^3), clamped where the sigmoid is 0 or 1 for good */
#define CK_GELU_LINEAR 1.5957691216057307117597842397375
#define CK_GELU_CUBIC (CK_GELU_LINEAR * 0.044715)

CK_INLINE V CK_TYPED(gelu_clamped)(V x) { return CK_TYPED(ck_smaller)(vset1(30), CK_TYPED(ck_larger)(vset1(-30), x)); }

CK_INLINE V CK_TYPED(gelu_tanh_of)(const ck_elementwise *job, V x)
{
    V c = CK_TYPED(gelu_clamped)(x), v = c * vfma(c * c, vset1((T)CK_GELU_CUBIC), vset1((T)CK_GELU_LINEAR));
    return x * CK_TYPED(sigmoid_of)(job, v);
}

CK_INLINE V CK_TYPED(gelu_tanh_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V c = CK_TYPED(gelu_clamped)(x), square = c * c;
    V v = c * vfma(square, vset1((T)CK_GELU_CUBIC), vset1((T)CK_GELU_LINEAR));
    V slope = vfma(square, vset1((T)(3 * CK_GELU_CUBIC)), vset1((T)CK_GELU_LINEAR));
    V e, top = CK_TYPED(sigmoid_parts)(v, &e), share = (T)1 / (e + (T)1);
    V other = CK_TYPED(by_sign)(v, vset1(1), e) * share;
    return dy * (top * share * vfma(c * slope, other, vset1(1)));
}
