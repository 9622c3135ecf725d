/* Softmax, its logarithm, and the cross-entropy on scores; forward and backward.
 *
 * Arrays are [outer][length][inner], normalised over `length`; a position is one (outer, inner) pair. With
 * m = max x, e = exp(x - m) and s = sum e over one position:
 *
 *     softmax                  y = e / s
 *     log_softmax              y = (x - m) - log s
 *     softmax_backward         dx = y (dy - sum dy y)
 *     log_softmax_backward     dx = dy - exp(y) sum dy
 *     cross_entropy            loss = sum q (log s - (x - m))
 *     cross_entropy_backward   dx = e / s sum q - q        with q = hit [target] + every soft
 *
 * A class of q = 0 adds nothing, whatever its x. All sums are in float64. exp and log are those of elementwise/exp_log.h.
 */
#ifndef CK_SOFTMAX_H
#define CK_SOFTMAX_H

#include "base/isa.h"

/* Arrays are of the dtype that the kernel was compiled for. y: outputs, or losses, or the gradient of x. */
typedef struct {
    const void *x, *dy; /* x: input of a forward pass and of the cross-entropy's gradient, else the output y */
    void *y;
    const int64_t *target;   /* per position, 0 <= target < length; NULL for none */
    const void *hit, *every; /* per position; NULL for 1 */
    const void *soft;        /* per class, or like x; NULL for none */
    int soft_is_shared;      /* per class */
    void (*transpose)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t dst_row, ptrdiff_t rows,
                      ptrdiff_t columns); /* dst[j dst_row + i] = src[i src_row + j], of the tiles of csrc/conv */
    ptrdiff_t length, inner;
} ck_softmax;

/* Positions first .. first + count - 1, counted along inner first. How they are split changes no bit. */
typedef void (*ck_softmax_kernel)(const ck_softmax *job, ptrdiff_t first, ptrdiff_t count);

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_softmax_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. */
ck_softmax_kernel ck_softmax_for(int level, int itemsize, const char *name);

#endif
