/* Winograd's F(4x4, 3x3), F(2x2, 3x3) and F(4x4, 5x5), and F(4, 3), F(4, 5) and F(4, 7) along one axis, around the tiles of
 * csrc/conv: input, weight and output transforms.
 *
 * A block of `side` x `side` outputs of r x r taps costs (side + r - 1)^2 multiplications per channel: 36 instead of 144, 16
 * instead of 36, or 64 instead of 400; with stride 2 25 instead of 36. The reduction over channels is a product at each of
 * so many points, V[xi] (tiles x channels) by U[xi] (channels x filters), which the tiles of csrc/conv compute; what is here
 * brings data into that form and back. csrc/winograd/README.md has the formula and the figures.
 */
#ifndef CK_WINOGRAD_H
#define CK_WINOGRAD_H

#include "base/isa.h"
#include "elementwise/finish.h"

/* Some rows of tiles of one plane. Tile t of row r begins at plane row y + side * r and column x + side * t, or with stride 2
 * at twice as many, which may lie in the padding; its value at point xi goes to v[xi * v_step + r * v_pitch + t]. */
typedef struct {
    const void *plane;
    ptrdiff_t height, width;
    ptrdiff_t y, x;
    ptrdiff_t rows;
    ptrdiff_t pitch; /* tiles of a row and one more: every row of scratch has an entry that belongs to no tile */
    ptrdiff_t v_pitch; /* the same, or the tiles of a row alone, whose vectors are then its own */
    void *scratch; /* ck_winograd_scratch(rows, pitch) elements */
    void *v; /* rows * v_pitch elements, and up to a vector behind them, are written */
    ptrdiff_t v_step;
    double limit; /* greatest absolute value for which no intermediate overflows */
} ck_winograd_input;

/* The same for a small plane of up to a vector of images at once, which are the lanes: tile t of row r of image i goes to
 * v[xi * v_step + (r * columns + t) * tile_step + i]. */
typedef struct {
    const void *plane; /* of the first image */
    ptrdiff_t image_step, images;
    ptrdiff_t height, width;
    ptrdiff_t y, x;
    ptrdiff_t rows, columns;
    void *scratch; /* ck_winograd_scratch_of_images(rows, columns) elements */
    void *v; /* exactly the lanes of the images are written */
    ptrdiff_t v_step, tile_step;
    double limit;
} ck_winograd_images;

/* Elements of `scratch`. Enough for every level: its vectors are at most CK_WINOGRAD_LANES long. */
enum { CK_WINOGRAD_LANES = 16 };
static inline ptrdiff_t ck_winograd_scratch(ptrdiff_t rows, ptrdiff_t pitch)
{
    return 16 * ((rows + 1) * pitch + 2 * CK_WINOGRAD_LANES);
}

static inline ptrdiff_t ck_winograd_scratch_of_images(ptrdiff_t rows, ptrdiff_t columns)
{
    return CK_WINOGRAD_LANES * (4 * rows + 4) * (4 * columns + 4);
}

/* Whether any element read is NaN or beyond the limit; V is then worthless. */
typedef int (*ck_winograd_split)(const ck_winograd_input *job);
typedef unsigned (*ck_winograd_split_images)(const ck_winograd_images *job); /* bit i: of image i */

/* The weights taps[tap * lanes + f] of one channel for a panel of filters, at the points: u[xi * u_step + f]. `turned`
 * rotates the kernel by 180 degrees (input gradient). */
typedef void (*ck_winograd_weights)(const void *taps, int turned, ptrdiff_t lanes, void *u, ptrdiff_t u_step);

/* F(4, r) along one axis. A line holds the axis and all axes inside it, so neighbouring taps lie `step` elements apart:
 * the dilation times the inner sizes. Output (4 a + i) * step + r, for i < 4 and r < step, belongs to tile a * step + r,
 * which reads elements (4 a + k) * step + r - lo, for k < 6, 8 or 10; outside of 0 .. n they are zeros. Every line is cut into
 * line_rows rows of `tiles` tiles, whole steps where a step is shorter than a vector; the last tiles may lie beyond it. */
typedef struct {
    const void *plane; /* lines of n elements */
    ptrdiff_t n, step, lo;
    ptrdiff_t line_rows, tiles;
    ptrdiff_t first, rows; /* of all rows of the plane */
    void *v; /* rows * tiles elements, rounded up to whole vectors, are written at each of the points, v_step apart */
    ptrdiff_t v_step;
    double limit;
} ck_winograd_lines_input;

typedef int (*ck_winograd_split_lines)(const ck_winograd_lines_input *job);

/* The same rows of a panel of filters: m[xi * m_step + (row * tiles + tile) * lanes + f] into the planes y. */
typedef struct {
    const void *m;
    ptrdiff_t m_step;
    ptrdiff_t lanes;
    const void *bias; /* lanes values, or NULL */
    void *y;
    ptrdiff_t y_filter, filters;
    ptrdiff_t n, step; /* outputs of a line */
    ptrdiff_t line_rows, tiles;
    ptrdiff_t first, rows;
    const ck_finish *finish; /* what follows the sums, or NULL */
} ck_winograd_lines_output;

typedef void (*ck_winograd_join_lines)(const ck_winograd_lines_output *job);

/* One row of tiles of a panel: m[xi * m_step + tile * m_tile + f] into up to `side` rows of y. */
typedef struct {
    const void *m;
    ptrdiff_t m_step, m_tile; /* from point to point and tile to tile */
    const void *bias; /* lanes values, or NULL */
    void *y;
    ptrdiff_t y_filter, y_row;
    ptrdiff_t filters;
    ptrdiff_t rows, width; /* of the pixels that exist: rows 1 to `side` */
    const ck_finish *finish; /* what follows the sums, or NULL */
} ck_winograd_output;

typedef void (*ck_winograd_join)(const ck_winograd_output *job);

/* The transforms of tiles in a plane. */
typedef struct {
    ptrdiff_t side;
    ck_winograd_split split;
    ck_winograd_split_images split_images;
    ck_winograd_weights weights;
    ck_winograd_join join;
} ck_winograd_plane;

/* The transforms of tiles on a line. */
typedef struct {
    ck_winograd_split_lines split;
    ck_winograd_weights weights;
    ck_winograd_join_lines join;
} ck_winograd_line;

typedef struct {
    double (*largest)(const void *w, ptrdiff_t n); /* magnitude of n weights, or NaN */
    ck_winograd_plane four, two; /* 3 x 3 taps at 36 and 16 points */
    ck_winograd_plane wide; /* 5 x 5 taps at 64 points, tiles of four */
    ck_winograd_plane strided; /* 3 x 3 taps of stride 2, 25 products, 16 weights and 9 sums, tiles of two */
    ck_winograd_plane strided_gradient; /* of 9 points and 25 sums, tiles of four */
    ck_winograd_line three, five, seven; /* taps, at 6, 8 and 10 points */
} ck_winograd_table;

/* float32 only: in double the transforms would lose digits that its users chose it for. */
const ck_winograd_table *ck_winograd_table_for(int level);

#endif
