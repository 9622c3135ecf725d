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
/* Phi(-t) in float32 near 0: piece n is a polynomial in t - n STEP, for t within half a STEP of that, with a relative error
 * below 3e-8. What is right of all pieces is 0 beside 1. */
#define CK_PHI_STEP 0.1875f
#define CK_PHI_NEAR 5.9f
enum { CK_PHI_TERMS = 7 };
static const float ck_phi_pieces[CK_PHI_TERMS][32] = {
    {0x1p-1f,         0x1.b3d97cp-2f,  0x1.6a527ap-2f,  0x1.25c5e4p-2f,  0x1.d022p-3f,    0x1.64dd8ep-3f,
     0x1.0ad7dap-3f,  0x1.83cab6p-4f,  0x1.11a46ep-4f,  0x1.76d04ep-5f,  0x1.f20394p-6f,  0x1.40cccep-6f,
     0x1.90925p-7f,   0x1.e49cecp-8f,  0x1.1bee6cp-8f,  0x1.42297ap-9f,  0x1.61de2p-10f,  0x1.7832e6p-11f,
     0x1.8301bep-12f, 0x1.812f0ep-13f, 0x1.72d956p-14f, 0x1.595676p-15f, 0x1.36feaep-16f, 0x1.0ed0e2p-17f,
     0x1.c80728p-19f, 0x1.733238p-20f, 0x1.24149ap-21f, 0x1.bc4ed8p-23f, 0x1.46a16cp-24f, 0x1.d02498p-26f,
     0x1.3eb346p-27f, 0x1.a6f212p-29f},
    {-0x1.988454p-2f,  -0x1.91661p-2f,   -0x1.7cc794p-2f,  -0x1.5cbdcp-2f,   -0x1.345d5ep-2f,  -0x1.073e62p-2f,
     -0x1.b1ec62p-3f,  -0x1.594762p-3f,  -0x1.094086p-3f,  -0x1.8977c8p-4f,  -0x1.19bfa4p-4f,  -0x1.858fbcp-5f,
     -0x1.0402ep-5f,   -0x1.4f18bcp-6f,  -0x1.a0f22cp-7f,  -0x1.f4dda6p-8f,  -0x1.227214p-8f,  -0x1.4536f2p-9f,
     -0x1.5f90f6p-10f, -0x1.6eec8cp-11f, -0x1.71b92ep-12f, -0x1.67aca4p-13f, -0x1.51cfa6p-14f, -0x1.3250fep-15f,
     -0x1.0c29a6p-16f, -0x1.c54d7ep-18f, -0x1.71e57ap-19f, -0x1.2368d6p-20f, -0x1.bb4a9p-22f,  -0x1.4584e4p-23f,
     -0x1.cd8eaap-25f, -0x1.3beb6cp-26f},
    {0x1.c9edb4p-30f, 0x1.2d0c8cp-5f,  0x1.1d95bp-4f,   0x1.885578p-4f,  0x1.ce8c0ep-4f,  0x1.ed94f8p-4f,
     0x1.e829eep-4f,  0x1.c52dbp-4f,   0x1.8de0c8p-4f,  0x1.4bfd12p-4f,  0x1.0823aap-4f,  0x1.91bc3ap-5f,
     0x1.24833cp-5f,  0x1.986624p-6f,  0x1.119eecp-6f,  0x1.602bd8p-7f,  0x1.b3ab1ep-8f,  0x1.0327cap-8f,
     0x1.28a25p-9f,   0x1.46caacp-10f, 0x1.5a9d9cp-11f, 0x1.620dfp-12f,  0x1.5c5e2p-13f,  0x1.4a3f5p-14f,
     0x1.2daed6p-15f, 0x1.099b62p-16f, 0x1.c2cf9ep-18f, 0x1.70d09ep-19f, 0x1.22e8dep-20f, 0x1.ba8084p-22f,
     0x1.44883p-23f,  0x1.cb11e2p-25f},
    {0x1.10581cp-4f,   0x1.0230e8p-4f,   0x1.b44f42p-5f,   0x1.3ddceep-5f,   0x1.67c25cp-6f,   0x1.5406b2p-8f,
     -0x1.335c4cp-7f,  -0x1.4cb09p-6f,   -0x1.ba160cp-6f,  -0x1.e4a978p-6f,  -0x1.d8840ep-6f,  -0x1.a68848p-6f,
     -0x1.60194cp-6f,  -0x1.13f99cp-6f,  -0x1.99588cp-7f,  -0x1.206c0ep-7f,  -0x1.8342dep-8f,  -0x1.f080cap-9f,
     -0x1.306a82p-9f,  -0x1.657cdap-10f, -0x1.92755p-11f,  -0x1.b2b8c4p-12f, -0x1.c2da0cp-13f, -0x1.c13338p-14f,
     -0x1.ae2c1ep-15f, -0x1.8c1df4p-16f, -0x1.5edd54p-17f, -0x1.2b09bep-18f, -0x1.ea9b3cp-20f, -0x1.83709ap-21f,
     -0x1.269eb6p-22f, -0x1.af89cp-24f},
    {0x1.b0680ep-19f, -0x1.2985acp-7f, -0x1.1032acp-6f, -0x1.5ef45p-6f,  -0x1.77d188p-6f, -0x1.5cf9fcp-6f,
     -0x1.1a37e6p-6f, -0x1.81e85ap-7f, -0x1.8de01ap-8f, -0x1.0dbcfp-10f, 0x1.6b307cp-9f,  0x1.4fd2cp-8f,
     0x1.9233b6p-8f,  0x1.906b72p-8f,  0x1.62d98cp-8f,  0x1.203384p-8f,  0x1.b3aac2p-9f,  0x1.3543ecp-9f,
     0x1.9ed33ep-10f, 0x1.07ec9ep-10f, 0x1.3f8a3cp-11f, 0x1.70edb2p-12f, 0x1.96e48ap-13f, 0x1.ad457cp-14f,
     0x1.b1b02ep-15f, 0x1.a3f65cp-16f, 0x1.86157ep-17f, 0x1.5bc62ap-18f, 0x1.29c206p-19f, 0x1.e9e118p-21f,
     0x1.835696p-22f, 0x1.267a08p-23f},
    {-0x1.4875f2p-7f,  -0x1.2a2584p-7f,  -0x1.b93f2p-8f,   -0x1.beb54p-9f,   0x1.2956b8p-13f,  0x1.a40fa6p-9f,
     0x1.595cfep-8f,   0x1.917084p-8f,   0x1.800dfcp-8f,   0x1.3946d4p-8f,   0x1.aec988p-9f,   0x1.cca558p-10f,
     0x1.e87f8p-12f,   -0x1.d58d32p-12f, -0x1.fa20ep-11f,  -0x1.2db9ccp-10f, -0x1.221b64p-10f, -0x1.ea7f82p-11f,
     -0x1.796c96p-11f, -0x1.0d0c08p-11f, -0x1.670c86p-12f, -0x1.c381d6p-13f, -0x1.0cbacap-13f, -0x1.2fcecp-14f,
     -0x1.4701f6p-15f, -0x1.4fc182p-16f, -0x1.4958c6p-17f, -0x1.3503cp-18f,  -0x1.159cap-19f,  -0x1.ddff36p-21f,
     -0x1.8aa102p-22f, -0x1.389fd6p-23f},
    {0x1.984ea6p-12f,  0x1.882bfcp-10f, 0x1.592b8ep-9f,   0x1.9f7478p-9f,   0x1.8d70ep-9f,    0x1.315c9ap-9f,
     0x1.54bb1ep-10f,  0x1.d52712p-13f, -0x1.598028p-11f, -0x1.3c7b72p-10f, -0x1.6d6038p-10f, -0x1.5040fap-10f,
     -0x1.02f36cp-10f, -0x1.4942cp-11f, -0x1.365b92p-12f, -0x1.75c1d4p-15f, 0x1.d23b1p-14f,   0x1.7ea624p-13f,
     0x1.959b8p-13f,   0x1.63cc4ep-13f, 0x1.14abb4p-13f,  0x1.88deb4p-14f,  0x1.02b682p-14f,  0x1.3f099cp-15f,
     0x1.72ac0cp-16f,  0x1.978508p-17f, 0x1.a94d86p-18f,  0x1.a65cfep-19f,  0x1.8fe142p-20f,  0x1.697a62p-21f,
     0x1.385fd8p-22f,  0x1.0250cep-23f},
};

CK_INLINE ck_f32v ck_phi_piece(int term, ck_f32v number)
{
    const float *c = ck_phi_pieces[term];
    return (ck_f32v)_mm512_permutex2var_ps(_mm512_loadu_ps(c), (__m512i)number, _mm512_loadu_ps(c + 16));
}

CK_INLINE ck_f32v ck_reciprocal_f32(ck_f32v v) { return (ck_f32v)_mm512_rcp14_ps((__m512)v); }
CK_INLINE ck_f64v ck_reciprocal_f64(ck_f64v v) { return (ck_f64v)_mm512_rcp14_pd((__m512d)v); }
#elif defined(CK_AVX2)
#define CK_TANH_STEP 0x1.4b180ap+0f
static const float ck_tanh_steps[] = {
    0, 0x1.b8519cp-1f, 0x1.fa3b2ap-1f, 0x1.ff9042p-1f, 0x1.fff796p-1f, 0x1.ffff5ep-1f, 0x1.fffff4p-1f, 1};
#endif
#endif

CK_INLINE V CK_TYPED(minus_abs)(V x) { return (V)((VI)x | CK_TYPED(CK_SIGN)); }
CK_INLINE V CK_TYPED(unless)(VI drop, V v) { return CK_TYPED(masked)(~drop, v); }

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
    V low = dy * (CK_TYPED(vexp_down)(CK_TYPED(ck_smaller)(vset1(0), x)) * (scale * alpha));
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
    return CK_TYPED(ck_by_sign)(x, *e, vset1(1));
}

/* Without an instruction for the power of two, exp(-x) is found 2^UP times smaller than it is: so it never overflows where
 * sigmoid(x) is not 0, and what comes out denormal is rounded once, by the division. */
CK_INLINE V CK_TYPED(sigmoid_of)(const ck_elementwise *job, V x)
{
    (void)job;
#if defined(CK_AVX512)
    V e, top = CK_TYPED(sigmoid_parts)(x, &e);
    return top / (e + (T)1);
#else
    enum { MORE = CK_TYPED(CK_BIAS) - CK_TYPED(CK_UP) };
    const V one = vset1(1 / CK_TYPED(CK_TO_UP)), least = vset1(CK_TYPED(CK_EXP_LOW));
    V clamped = CK_TYPED(ck_larger)(least, CK_TYPED(ck_smaller)(vset1(-CK_TYPED(CK_EXPM1_LOW)), x));
    V shifted, r = CK_TYPED(reduced)(-clamped, MORE, &shifted);
    V power = (V)((VI)shifted << CK_TYPED(CK_MANTISSA));
    return one / (vfma(CK_TYPED(short_expm1)(r), power, power) + one);
#endif
}

CK_INLINE V CK_TYPED(sigmoid_gradient)(const ck_elementwise *job, V dy, V y)
{
    (void)job;
    return dy * (y * ((T)1 - y));
}

CK_INLINE V CK_TYPED(silu_of)(const ck_elementwise *job, V x)
{
#if defined(CK_AVX512)
    (void)job;
    V e, top = CK_TYPED(sigmoid_parts)(x, &e);
    return x * top / (e + (T)1);
#else
    return x * CK_TYPED(sigmoid_of)(job, x);
#endif
}

CK_INLINE V CK_TYPED(silu_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V e, top = CK_TYPED(sigmoid_parts)(x, &e), share = (T)1 / (e + (T)1);
    V other = CK_TYPED(ck_by_sign)(x, vset1(1), e) * share; /* 1 - sigmoid(x) */
    return dy * (top * share * vfma(x, other, vset1(1)));
}

/* tanh(softplus(x)) = top / under, and 1 minus that = rest / under */
CK_INLINE V CK_TYPED(mish_parts)(V x, V e, V *under, V *rest)
{
    V top = CK_TYPED(ck_by_sign)(x, e * (e + (T)2), e + e + (T)1);
    *rest = CK_TYPED(ck_by_sign)(x, vset1(2), e * e * (T)2);
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

/* With |x| = n STEP + r the sum of two arguments: (D t + r) / (D + r t), where D = r / tanh(r), a polynomial in r^2, and
 * t = tanh(n STEP), one of eight, looked up in a register. STEP is such that these round well and that the last is 1. */
CK_INLINE V CK_TYPED(tanh_of)(const ck_elementwise *job, V x)
{
    (void)job;
#if defined(CK_AVX2) && WIDE == 2 /* float32 */
    const V size = ck_smaller_f32(vset1(7 * CK_TANH_STEP), (V)((VI)x & ~CK_SIGN_f32));
    const V shifted = vfma(size, vset1(1 / CK_TANH_STEP), vset1(CK_ROUND_f32));
    const V r = vfma(shifted - vset1(CK_ROUND_f32), vset1(-CK_TANH_STEP), size), s = r * r;
    const V t = (V)_mm256_permutevar8x32_ps((__m256)vload(ck_tanh_steps), (__m256i)shifted);
    const V low = vfma(s, vset1(0x1.5554aep-2f), vset1(1)),
            high = vfma(s, vset1(0x1.0085f2p-9f), vset1(-0x1.6b79d2p-6f));
    const V d = vfma(s * s, high, low);
    return (V)((VI)(vfma(d, t, r) / vfma(r, t, d)) | ((VI)x & CK_SIGN_f32));
#else
    V m = CK_TYPED(vexpm1)(CK_TYPED(minus_abs)(x) * (T)2), y = m / (m + (T)2);
    return (V)(((VI)y & ~CK_TYPED(CK_SIGN)) | ((VI)x & CK_TYPED(CK_SIGN)));
#endif
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
    V shifted, r = CK_TYPED(reduced)(square, CK_EXP_DOWN, &shifted);
    return CK_TYPED(times_power)(CK_TYPED(short_expm1)(r + low), shifted);
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

CK_INLINE V CK_TYPED(gelu_far)(V x)
{
    V density, tail = CK_TYPED(normal_tail)(x, &density);
    return x * CK_TYPED(ck_by_sign)(x, tail, (T)1 - tail);
}

CK_INLINE V CK_TYPED(gelu_of)(const ck_elementwise *job, V x)
{
    (void)job;
#if defined(CK_AVX512) && WIDE == 2 /* float32 */
    const V round = vset1(CK_ROUND_f32), t = ck_smaller_f32(vset1(CK_PHI_NEAR), -minus_abs_f32(x));
    const V number = vfma(t, vset1(1 / CK_PHI_STEP), round), r = vfma(number - round, vset1(-CK_PHI_STEP), t);
    V tail = ck_phi_piece(CK_PHI_TERMS - 1, number);
    CK_UNROLL for (int k = CK_PHI_TERMS - 2; k >= 0; k--) tail = vfma(tail, r, ck_phi_piece(k, number));
    const V y = x * ck_by_sign_f32(x, tail, 1 - tail);
    const __mmask16 far = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-CK_PHI_NEAR), _CMP_LT_OQ);
    if (__builtin_expect(far != 0, 0)) return (V)_mm512_mask_mov_ps((__m512)y, far, (__m512)gelu_far_f32(x));
    return y;
#else
    return CK_TYPED(gelu_far)(x);
#endif
}

CK_INLINE V CK_TYPED(gelu_gradient)(const ck_elementwise *job, V dy, V x)
{
    (void)job;
    V density, tail = CK_TYPED(normal_tail)(x, &density);
    V slope = vfma(x * (T)0.39894228040143267794, density, CK_TYPED(ck_by_sign)(x, tail, (T)1 - tail));
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
    V other = CK_TYPED(ck_by_sign)(v, vset1(1), e) * share;
    return dy * (top * share * vfma(c * slope, other, vset1(1)));
}
