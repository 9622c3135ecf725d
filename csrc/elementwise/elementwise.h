/* One value out for each value in. y may be x: an element is read before it is written.
 *
 *     <activation>           y = f(x)
 *     <activation>_backward  y = x f'(other)         (x: gradient of the output; other: f's input, of relu, sigmoid and
 *                                                     tanh the output)
 *     add                    y = x + other
 *     dropout                y = mask ? x * a : 0    (forward and backward; a dropped NaN is 0)
 *     exp, log               y = exp(x), log(x)      (within 1.1 ulp; what softmax is made of)
 *
 * a, b are the parameters of leaky_relu (negative_slope), elu (alpha) and softplus (beta, threshold). Errors of
 * values, in ulp: README.md.
 */
#ifndef CK_ELEMENTWISE_H
#define CK_ELEMENTWISE_H

#include "base/isa.h"

typedef struct {
    const void *x, *other;
    const uint8_t *mask; /* 0 or 1 */
    double a, b;
    void *y;
} ck_elementwise;

/* Elements first .. first + count - 1; exactly those are read and written. */
typedef void (*ck_elementwise_kernel)(const ck_elementwise *job, ptrdiff_t first, ptrdiff_t count);

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_elementwise_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. */
ck_elementwise_kernel ck_elementwise_for(int level, int itemsize, const char *name);

#endif
