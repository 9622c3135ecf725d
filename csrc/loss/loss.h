/* Losses between two arrays, element by element, and their gradients. With d = x - target:
 *
 *     mse             d^2                                        mse_backward         2 d
 *     l1              |d|                                        l1_backward          sign d, 0 where d = 0
 *     smooth_l1       |d| < beta ? d^2 / 2 beta : |d| - beta / 2 smooth_l1_backward   d / beta within -1 .. 1
 *     bce             w (v t softplus(-x) + (1 - t) softplus(x)) bce_backward         w ((1 - t) p - v t (1 - p))
 *
 * with t = target, w = weight, v = pos_weight, p = 1 / (1 + exp(-x)), softplus(x) = log(1 + exp(x)); beta is above 0.
 * A NaN on either side gives NaN. Backward kernels multiply by scale, one for each element, or by `factor` where that
 * is NULL.
 *
 * dice takes rows of `length` elements, and its places are chunks: for each one it writes the sums of x target and of
 * x + target, in float64, side by side.
 *
 * Other forward kernels add the losses of each CK_LOSS_CHUNK elements in float64, in one order, and write the sums; they write
 * the losses themselves where y is not NULL. exp and log are those of elementwise/exp_log.h. */
#ifndef CK_LOSS_H
#define CK_LOSS_H

#include "base/isa.h"

enum { CK_LOSS_CHUNK = 1024 };

/* Arrays are of the dtype that the kernel was compiled for, of as many elements each. */
typedef struct {
    const void *x, *target;
    const void *weight, *pos_weight; /* bce only; NULL for 1 */
    const void *scale;               /* backward */
    void *y;                         /* losses (may be NULL), or the gradient of x */
    double *sums;                    /* forward: one for each chunk, two for dice */
    double factor, beta;
    ptrdiff_t length; /* dice */
} ck_loss;

/* Elements first .. first + count - 1, first a multiple of CK_LOSS_CHUNK; exactly those are read and written. */
typedef void (*ck_loss_kernel)(const ck_loss *job, ptrdiff_t first, ptrdiff_t count);

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_loss_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. dice counts in chunks of rows. */
ck_loss_kernel ck_loss_for(int level, int itemsize, const char *name);

#endif
