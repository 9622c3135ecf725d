/* Winograd's F(3x3, 4x4) and F(5x5, 4x4), the weight gradients of convolutions of up to 3 x 3 and 5 x 5, around the tiles
 * of csrc/conv.
 *
 *     dW = G^T [ sum over tiles of (A dy A^T) * (B^T x B) ] G
 *
 * A tile, 4 x 4 of dy and the 6 x 6 of x that it meets, costs 36 multiplications per channel and filter instead of 144; with
 * 8 x 8 of x 64 instead of 400. Both operands are transformed with their channels in the lanes, so that each of the 36 or 64
 * sums over tiles is a matrix product that the tiles of csrc/conv compute. csrc/winograd/README.md has the figures.
 */
#ifndef CK_WEIGHT_GRADIENT_H
#define CK_WEIGHT_GRADIENT_H

#include "base/isa.h"

/* Some rows of tiles of up to L neighbouring planes. Tile t of row r begins at plane row y + 4 r and column x + 4 t, which
 * may lie in the padding; its L values at point xi go to points[xi * point_step + (r * columns + t) * tile_step]. */
typedef struct {
    const void *plane;
    ptrdiff_t plane_step, planes; /* lanes past the last plane become zero */
    ptrdiff_t height, width;
    ptrdiff_t y, x;
    ptrdiff_t rows, columns;
    void *scratch; /* ck_gradient_scratch(columns) elements, aligned as vectors are */
    void *points;
    ptrdiff_t point_step, tile_step;
    double limit; /* greatest absolute value for which no intermediate overflows */
} ck_gradient_tiles;

/* Elements of `scratch`. Enough for every level: its vectors are at most CK_GRADIENT_LANES long. */
enum { CK_GRADIENT_LANES = 16, CK_GRADIENT_ROWS = 8 };
static inline ptrdiff_t ck_gradient_scratch(ptrdiff_t columns)
{
    return CK_GRADIENT_ROWS * (4 * columns + 4) * CK_GRADIENT_LANES;
}

/* Whether any element read is NaN or beyond the limit; the points are then worthless. */
typedef int (*ck_gradient_split)(const ck_gradient_tiles *job);

/* The sums of some channels for `lanes` filters, sums[xi * point_step + c * lanes + f], into rows x columns taps,
 * taps[c * channel_step + tap * lanes + f]. */
typedef struct {
    const void *sums;
    ptrdiff_t point_step;
    ptrdiff_t channels, lanes;
    ptrdiff_t rows, columns;
    void *taps;
    ptrdiff_t channel_step;
} ck_gradient_sums;

typedef void (*ck_gradient_join)(const ck_gradient_sums *job);

/* For kernels of up to so many taps along an axis, at 3 points more. */
typedef struct {
    ck_gradient_split split_x, split_dy;
    ck_gradient_join join;
} ck_gradient_taps;

typedef struct {
    ck_gradient_taps three, five;
} ck_gradient_table;

/* float32 only, as the forward pass. */
const ck_gradient_table *ck_gradient_table_for(int level);

#endif
