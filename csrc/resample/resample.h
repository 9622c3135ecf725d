/* Resampling: a sparse linear map along each of three axes.
 *
 *     y[p, d, h, w] = sum over the terms a of d, b of h and c of w of
 *                     weight(a) weight(b) weight(c) x[p, source(a), source(b), source(c)]
 *
 * Forward, an output has one or two terms per axis (nearest neighbour, linear interpolation); the gradient is the same
 * kernel with the lists turned round. Rows are combined as wholes, then elements of the row, or the other way round,
 * whichever handles the shorter rows. Terms are added in the order of the lists, 32 rows at a time in registers, so the
 * order depends on the lists alone. x and y do not overlap. */
#ifndef CK_RESAMPLE_H
#define CK_RESAMPLE_H

#include "base/isa.h"

/* The terms of target t are begin[t] .. begin[t + 1] - 1. */
typedef struct {
    ptrdiff_t size, target_size;
    const int64_t *begin;
    const int32_t *source;
    const void *weight; /* of the dtype */
    int terms;          /* of every target, 0 where they differ */
    int copies;         /* every target is one source, of weight 1, or no source (-1) */
    ptrdiff_t run[2];   /* the longest row of copies of neighbours in the source, of targets: from, to */
    int repeats;        /* of each source in turn, of weight 1 and equally many; 0 where it is something else */
    int pairs;          /* every target is the sum of two neighbours, the next two of the source each */
} ck_resample_axis;

typedef struct {
    ck_resample_axis axis[3];
    double value; /* of targets without a source, where all axes are copies */
} ck_resample;

/* Rows row .. row + rows - 1 of y, counted over planes and the first two axes. memory: ck_resample_scratch elements. */
typedef void (*ck_resample_kernel)(const ck_resample *r, const void *x, void *y, ptrdiff_t row, ptrdiff_t rows,
                                   void *memory);

enum { CK_RESAMPLE_KEPT = 4 };

/* Whether elements are combined before rows: then each row that is read is as long as one of y. */
CK_INLINE int ck_resample_along_first(const ck_resample *r) { return r->axis[2].target_size > r->axis[2].size; }

CK_INLINE ptrdiff_t ck_resample_scratch(const ck_resample *r)
{
    return ck_resample_along_first(r) ? CK_RESAMPLE_KEPT * r->axis[2].target_size : r->axis[2].size;
}

/* The kernel of one level and dtype (itemsize 4 or 8). */
ck_resample_kernel ck_resample_for(int level, int itemsize);

#endif
