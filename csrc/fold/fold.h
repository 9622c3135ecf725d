/* Windows of images as columns, and the sum of such columns.
 *
 *     unfold   columns[plane][tap][p] = x[plane][p stride - pad + tap dilation], 0 outside
 *     fold     x[plane][q] = sum of columns[plane][tap][p] over all p and tap with q = p stride - pad + tap dilation
 *
 * The sum runs over the taps in their order. */
#ifndef CK_FOLD_H
#define CK_FOLD_H

#include "base/isa.h"

typedef struct {
    ptrdiff_t size[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
} ck_fold;

/* Planes plane .. plane + planes - 1 of `to`. */
typedef void (*ck_fold_kernel)(const ck_fold *f, const void *from, void *to, ptrdiff_t plane, ptrdiff_t planes);

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_fold_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. */
ck_fold_kernel ck_fold_for(int level, int itemsize, const char *name);

#endif
