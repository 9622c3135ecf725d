/* Steps of optimisers: each parameter and what is remembered of its gradients, updated in one pass.
 *
 *     sgd     g = grad + decay p;  b = keep b + take g;  p -= lr (nesterov ? g + beta1 b : b)
 *     adam    g = grad + decay p;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g g;
 *             p = shrink p - rate m / (sqrt(v) / root + eps)
 *     rmsprop v = beta2 v + (1 - beta2) g g;  s = g / (sqrt(v) + eps);  b = beta1 b + s;  p -= lr b
 *
 * rmsprop without momentum has no b, and b is s; centered it has m, the mean of g as in adam by beta2, and v - m m under
 * the root, or 0 where rounding leaves less. sgd without momentum has no b, and b is g. adam's rate is
 * lr / (1 - beta1^t), root is sqrt(1 - beta2^t), and shrink is AdamW's 1 - lr decay. */
#ifndef CK_OPTIM_H
#define CK_OPTIM_H

#include "base/isa.h"

/* One parameter; arrays are of the dtype that the kernel was compiled for. No two overlap. */
typedef struct {
    void *data;
    const void *grad;
    void *first, *second, *third; /* sgd: b; adam: m, v; rmsprop: b, v, m; NULL for none */
    double keep, take;            /* adam: rate and root */
} ck_optim_parameter;

/* What all parameters share. */
typedef struct {
    double lr, decay, shrink, beta1, beta2, eps;
    int nesterov;
} ck_optim_rule;

/* Elements first .. first + count - 1; exactly those are read and written. */
typedef void (*ck_optim_kernel)(const ck_optim_parameter *p, const ck_optim_rule *rule, ptrdiff_t first,
                                ptrdiff_t count);

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_optim_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. */
ck_optim_kernel ck_optim_for(int level, int itemsize, const char *name);

#endif
