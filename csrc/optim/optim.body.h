/* Compiled once per dtype by optim.kernel.c. Plain loops: memory limits them, and the compiler makes vectors of them, if
 * they hold no branch (what is chosen for all elements alike is chosen among their operands) and it knows that no two
 * arrays overlap (restrict counts of a parameter alone). */

CK_INLINE T CK_TYPED(decayed)(T grad, T decay, T p) { return grad + decay * (decay != 0 ? p : 0); }

CK_INLINE T CK_TYPED(root)(T v) { return sizeof(T) == 4 ? sqrtf(v) : (T)sqrt(v); }

CK_INLINE void CK_TYPED(plain_sgd_of)(const ck_optim_rule *rule, ptrdiff_t count, T *restrict data,
                                      const T *restrict grad)
{
    const T lr = (T)rule->lr, decay = (T)rule->decay;
    for (ptrdiff_t i = 0; i < count; i++) data[i] -= lr * CK_TYPED(decayed)(grad[i], decay, data[i]);
}

CK_INLINE void CK_TYPED(sgd_of)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t count,
                                T *restrict data, const T *restrict grad, T *restrict sum)
{
    const T lr = (T)rule->lr, decay = (T)rule->decay, beta = rule->nesterov ? (T)rule->beta1 : 1;
    const T keep = (T)p->keep, take = (T)p->take;
    const int nesterov = rule->nesterov;
    for (ptrdiff_t i = 0; i < count; i++) {
        const T g = CK_TYPED(decayed)(grad[i], decay, data[i]), b = keep * sum[i] + take * g;
        sum[i] = b;
        data[i] -= lr * ((nesterov ? g : 0) + beta * b);
    }
}

CK_INLINE void CK_TYPED(adam_of)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t count,
                                 T *restrict data, const T *restrict grad, T *restrict mean, T *restrict square)
{
    const T decay = (T)rule->decay, shrink = (T)rule->shrink, eps = (T)rule->eps, rate = (T)p->keep, root = (T)p->take;
    const T beta2 = (T)rule->beta2, rest1 = (T)(1 - rule->beta1), rest2 = (T)(1 - rule->beta2);
    for (ptrdiff_t i = 0; i < count; i++) {
        const T g = CK_TYPED(decayed)(grad[i], decay, data[i]), m = mean[i] + rest1 * (g - mean[i]);
        const T v = beta2 * square[i] + rest2 * g * g;
        mean[i] = m;
        square[i] = v;
        data[i] = shrink * data[i] - rate * m / (CK_TYPED(root)(v) / root + eps);
    }
}

static void CK_TYPED(sgd)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first, ptrdiff_t count)
{
    T *data = (T *)p->data + first;
    const T *grad = (const T *)p->grad + first;
    if (p->first)
        CK_TYPED(sgd_of)(p, rule, count, data, grad, (T *)p->first + first);
    else
        CK_TYPED(plain_sgd_of)(rule, count, data, grad);
}

static void CK_TYPED(adam)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first, ptrdiff_t count)
{
    CK_TYPED(adam_of)(p, rule, count, (T *)p->data + first, (const T *)p->grad + first, (T *)p->first + first,
                      (T *)p->second + first);
}

/* No vectors: what is remembered is asked for at each element, and a loop for each case is 7 KB of the wheel. */
static void CK_TYPED(rmsprop)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first, ptrdiff_t count)
{
    const T decay = (T)rule->decay, beta = (T)rule->beta1, alpha = (T)rule->beta2, rest = (T)(1 - rule->beta2);
    const T lr = (T)rule->lr, eps = (T)rule->eps;
    const T *restrict grad = (const T *)p->grad + first;
    T *restrict data = (T *)p->data + first;
    T *restrict square = (T *)p->second + first;
    T *restrict sum = p->first ? (T *)p->first + first : NULL;
    T *restrict mean = p->third ? (T *)p->third + first : NULL;
    for (ptrdiff_t i = 0; i < count; i++) {
        const T g = CK_TYPED(decayed)(grad[i], decay, data[i]);
        T v = alpha * square[i] + rest * g * g;
        square[i] = v;
        if (mean) {
            const T m = mean[i] + rest * (g - mean[i]);
            mean[i] = m;
            v -= m * m;
            v = v < 0 ? 0 : v;
        }
        T step = g / (CK_TYPED(root)(v) + eps);
        if (sum) sum[i] = step = beta * sum[i] + step;
        data[i] -= lr * step;
    }
}

#define CK_OPTIM_ROW(name) CK_TYPED(name),
extern const ck_optim_kernel CK_KERNEL(ck_optim)[];
const ck_optim_kernel CK_KERNEL(ck_optim)[] = {
#include "optim/kernels.def"
};
#undef CK_OPTIM_ROW
