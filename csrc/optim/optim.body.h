/* Compiled once per dtype by optim.kernel.c. Plain loops: memory limits them, and the compiler makes vectors of them. */

CK_INLINE T CK_TYPED(decayed)(T grad, T decay, T p) { return decay != 0 ? grad + decay * p : grad; }

static void CK_TYPED(sgd)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first, ptrdiff_t count)
{
    const T lr = (T)rule->lr, decay = (T)rule->decay, beta = (T)rule->beta1, keep = (T)p->keep, take = (T)p->take;
    const T *restrict grad = (const T *)p->grad + first;
    T *restrict data = (T *)p->data + first;
    if (!p->first) {
        for (ptrdiff_t i = 0; i < count; i++) data[i] -= lr * CK_TYPED(decayed)(grad[i], decay, data[i]);
        return;
    }
    T *restrict sum = (T *)p->first + first;
    const int nesterov = rule->nesterov;
    for (ptrdiff_t i = 0; i < count; i++) {
        const T g = CK_TYPED(decayed)(grad[i], decay, data[i]), b = keep * sum[i] + take * g;
        sum[i] = b;
        data[i] -= lr * (nesterov ? g + beta * b : b);
    }
}

static void CK_TYPED(adam)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first, ptrdiff_t count)
{
    const T decay = (T)rule->decay, shrink = (T)rule->shrink, eps = (T)rule->eps, rate = (T)p->keep, root = (T)p->take;
    const T beta2 = (T)rule->beta2, rest1 = (T)(1 - rule->beta1), rest2 = (T)(1 - rule->beta2);
    const T *restrict grad = (const T *)p->grad + first;
    T *restrict data = (T *)p->data + first;
    T *restrict mean = (T *)p->first + first;
    T *restrict square = (T *)p->second + first;
    for (ptrdiff_t i = 0; i < count; i++) {
        const T g = CK_TYPED(decayed)(grad[i], decay, data[i]), m = mean[i] + rest1 * (g - mean[i]);
        const T v = beta2 * square[i] + rest2 * g * g;
        mean[i] = m;
        square[i] = v;
        data[i] = shrink * data[i] - rate * m / ((sizeof(T) == 4 ? sqrtf(v) : (T)sqrt(v)) / root + eps);
    }
}

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
        T step = g / ((sizeof(T) == 4 ? sqrtf(v) : (T)sqrt(v)) + eps);
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
