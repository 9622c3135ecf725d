/* A row, or a few, through a linear layer or back: products bound by how fast the weights come.
 *
 *     y[j] = bias[j] + sum over k of x[k] * w[k][j]
 *
 * The weights are the panels that the tile of csrc/conv reads, [panel][k][panel's lanes], one behind the other, the last
 * one as many vectors wide as the columns that are left need. Sums are those of that tile, bit for bit: in chunks of
 * CK_CONV_CHUNK, closed every CK_CONV_CHUNKS. Nothing overlaps.
 *
 * Of a gradient the weights lie as the layer keeps them, and each is read once for all rows:
 *
 *     y[i][j] = sum over k of x[i][k] * w[k][j]
 */
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

typedef struct {
    const void *x, *w; /* (rows, depth), (depth, columns) */
    void *y;           /* (rows, columns) */
    ptrdiff_t rows, depth, columns; /* at most CK_LINEAR_ROWS rows */
} ck_linear_rows;

enum { CK_LINEAR_ROWS = 8, CK_LINEAR_SUMS = 36864 }; /* bytes of neighbouring sums, of all rows together */

/* Columns first .. first + count - 1, at most CK_LINEAR_SUMS bytes of all rows. */
typedef void (*ck_linear_rows_kernel)(const ck_linear_rows *rows, ptrdiff_t first, ptrdiff_t count);

enum { CK_LINEAR_STREAMS = 8 }; /* panels that are read side by side, at most */

/* Tiles of CK_LINEAR_HIGH rows by one panel of CK_LINEAR_WIDE vectors, for one chunk of the depth:
 *
 *     to[i][j] = sum over k of x[k][i] * w[k][j]
 *
 * plus what `sum` holds, and then `total`. Where the weights lie as the layer keeps them, `w` is filled first. */
enum { CK_LINEAR_HIGH = 4, CK_LINEAR_WIDE = 3 };

typedef struct {
    const void *x; /* rows of a tap are neighbours, those of whole tiles */
    ptrdiff_t tap_step;
    ptrdiff_t taps, tiles;
    void *w;            /* [taps][CK_LINEAR_WIDE vectors] */
    const void *source; /* what w is filled from, or NULL: rows of as many values as there are columns */
    ptrdiff_t source_step, columns;
    const void *sum, *total; /* like `to`, or NULL */
    void *to;                /* [tile][row][CK_LINEAR_WIDE vectors] */
    /* what will be needed next, to be fetched beside the sums: rows of so many cache lines, so many bytes apart */
    const char *ahead;
    ptrdiff_t ahead_rows, ahead_lines, ahead_step;
} ck_linear_tiles;

typedef void (*ck_linear_tiles_kernel)(const ck_linear_tiles *job);

/* NULL where the tiles of csrc/conv are taken. */
ck_linear_tiles_kernel ck_linear_tiles_for(int level, int itemsize);

/* One chunk of the depth through one panel of one or two vectors of columns:
 *
 *     c[i][j] = sum over k of a[i * a_row + k * a_tap] * w[k * w_tap + j]
 *
 * plus what c holds with `add`, and then the bias. Whole vectors of w and bias are read. */
typedef struct {
    const void *a, *w;
    const void *bias; /* or NULL */
    void *c;
    ptrdiff_t a_row, a_tap, w_tap; /* bytes: for a step that may be one element GCC makes a loop of its own */
    ptrdiff_t c_row, rows, columns, taps;
    int vectors, add;
} ck_linear_panel;

typedef void (*ck_linear_panel_kernel)(const ck_linear_panel *job);

enum { CK_LINEAR_PAIR = 2 }; /* vectors, at most */

/* NULL where the tiles of csrc/conv are taken. */
ck_linear_panel_kernel ck_linear_panel_for(int level, int itemsize);

/* The kernel of one level and dtype (itemsize 4 or 8). */
ck_linear_kernel ck_linear_for(int level, int itemsize);
ck_linear_rows_kernel ck_linear_rows_for(int level, int itemsize);

#endif
