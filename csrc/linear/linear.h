/* One row through a linear layer: a matrix-vector product, bound by how fast the weights come.
 *
 *     y[j] = bias[j] + sum over k of x[k] * w[k][j]
 *
 * The weights are the panels that the tile of csrc/conv reads, [panel][k][panel's lanes], one behind the other, the last
 * one as many vectors wide as the columns that are left need. Sums are those of that tile, bit for bit: in chunks of
 * CK_CONV_CHUNK, closed every CK_CONV_CHUNKS. Nothing overlaps. */
#ifndef CK_LINEAR_H
#define CK_LINEAR_H

#include "base/isa.h"

typedef struct {
    const void *x, *panels;
    const void *bias; /* as many values as the panels have lanes, or NULL */
    void *y;
    ptrdiff_t depth, columns;
    int vectors; /* of a panel, at most CK_CONV_VECTORS */
} ck_linear_row;

/* The columns of panels first .. first + count - 1. */
typedef void (*ck_linear_kernel)(const ck_linear_row *row, ptrdiff_t first, ptrdiff_t count);

enum { CK_LINEAR_STREAMS = 8 }; /* panels that are read side by side, at most */

/* The kernel of one level and dtype (itemsize 4 or 8). */
ck_linear_kernel ck_linear_for(int level, int itemsize);

#endif
