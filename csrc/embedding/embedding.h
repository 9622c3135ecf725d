/* Rows of a table, and its gradient: for each row, the sum of the rows of dy where it was used.
 *
 *     dw[r] = sum of dy[place[k]] for k = begin[r] .. begin[r + 1] - 1
 *
 * float32 is summed in float64; float64 in parts of 64, which are then added up. The order is that of the places. */
#ifndef CK_EMBEDDING_H
#define CK_EMBEDDING_H

#include "base/isa.h"

typedef struct {
    const void *dy; /* [places][width] */
    void *dw;       /* [rows][width] */
    const int64_t *begin, *place;
    ptrdiff_t width;
} ck_embedding;

/* Rows row .. row + rows - 1 of dw; each is written once. */
typedef void (*ck_embedding_kernel)(const ck_embedding *job, ptrdiff_t row, ptrdiff_t rows);

/* y[k] = weight[index[k]], rows of `width` elements. */
typedef struct {
    const void *weight; /* [rows][width] */
    void *y;            /* [places][width] */
    const int64_t *index;
    ptrdiff_t rows, width;
} ck_lookup;

/* Places first .. first + count - 1; returns 1, or 0 where it met a number that is no row and stopped. */
typedef int (*ck_lookup_kernel)(const ck_lookup *job, ptrdiff_t first, ptrdiff_t count);

/* The kernels of one level and dtype (itemsize 4 or 8). */
ck_embedding_kernel ck_embedding_for(int level, int itemsize);
ck_lookup_kernel ck_lookup_for(int level, int itemsize);

#endif
