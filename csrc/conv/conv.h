/* The tile with channels in the lanes: m pixels by v vectors of filters, the whole reduction in registers.
 *
 *     y[m][f] = bias[f] + sum over k of x[off[k] + m * x_step] * w[k][f]
 *
 * off[k] is the offset of tap k = (channel, kernel position) into a zero-padded copy of the input, so kernel size,
 * dilation and rank are in the table and not in the code; x_step is the stride. The same sum is a convolution, a
 * 1x1 convolution, a linear layer, an input gradient (rotated, channel-swapped weights) and a weight gradient
 * (k over pixels, m over input channels). csrc/conv/README.md has the formula, the variants and their figures.
 */
#ifndef CK_CONV_H
#define CK_CONV_H

#include "base/isa.h"
#include "elementwise/finish.h"

/* One call of a tile. Sizes and steps are in elements of the dtype that the kernel was compiled for. */
typedef struct {
    const void *x;        /* pixel 0; x[off[k] + m * x_step] must be readable for every k and every m of the tile */
    const ptrdiff_t *off; /* offsets of the taps */
    ptrdiff_t taps;
    ptrdiff_t x_step;
    ptrdiff_t x_half,
        y_half; /* x_half > 0: the second half of the pixels lies this far after the first; they are even, vectors more than 1 */
    const void *w; /* packed panel, [taps][vectors * L], lanes past the last filter are zero */
    const void *bias; /* vectors * L values, or NULL */
    void *y; /* pixel 0 of filter 0; exactly m x filters elements are written */
    ptrdiff_t y_pixel, y_filter;
    ptrdiff_t filters; /* 1 .. vectors * L that exist */
    const void *ahead; /* what will be needed soon is fetched into L2, ahead_step bytes further every tap */
    const void *ahead_end; /* from here it goes on a cache line after `ahead`, and so on; or NULL */
    ptrdiff_t ahead_step;
    int accumulate; /* add to what y holds; then without row_bias */
    const void *row_bias; /* one value for each of the m pixels instead of `bias`, or NULL */
    const ck_finish
        *finish; /* with y_pixel 1, or y_filter 1 and no `bias`; no `accumulate`: what follows the sums, or NULL */
} ck_conv_tile;

/* Compute one tile of pixels by vectors; the shape must be one of the table's. */
typedef void (*ck_conv_run)(const ck_conv_tile *tile, int pixels, int vectors);

/* Up to CK_CONV_TOGETHER tiles with one panel, none with row_bias: the same sums, a segment of the panel at a time. */
typedef void (*ck_conv_run_together)(const ck_conv_tile *tile, const int *pixels, ptrdiff_t n, int vectors);

/* Tiles of one shape in one call: run `i` of row `j` with panel `p` takes its pixels from x + j * x_row + i * pixels *
 * x_step, its weights from w + p * w_panel and writes its sums to y + p * y_panel + j * y_row + i * pixels * y_pixel. What
 * is fetched ahead begins anew with every panel, ahead_panel farther; and, where x_step is not 1, with every run. */
typedef struct {
    ptrdiff_t panels, rows, runs;
    ptrdiff_t w_panel, y_panel, x_row, y_row, ahead_panel; /* elements */
    ptrdiff_t ahead_run;
    int by_chunk; /* all tiles take a chunk of the taps before the next one: its weights stay in L1; without `finish` */
} ck_conv_grid;

/* The sums go into y as they are: y_filter is 1, filters are vectors * L; without `bias`. With any other x_step than 1 there
 * is one row, without `finish`. */
typedef void (*ck_conv_run_grid)(const ck_conv_tile *tile, int pixels, int vectors, const ck_conv_grid *grid);

/* to[i] = from[i] for i below n, whole vectors, where `start`; else to[i] += from[i]. */
typedef void (*ck_conv_add)(void *to, const void *from, ptrdiff_t n, int start);

/* The sums of a tile of any length, [pixel][vectors * L], into y as the tile says; up to L - 1 pixels more are read. */
typedef void (*ck_conv_store)(const ck_conv_tile *tile, const void *sum, ptrdiff_t pixels, int vectors);

/* Partial sums are closed every CK_CONV_CHUNK taps and added up, and those again every CK_CONV_CHUNKS, which keeps the
 * error of a long reduction at that of a short one. Fixed, so that a sum does not depend on the tile that computes it. */
enum { CK_CONV_CHUNK = 64, CK_CONV_CHUNKS = 16, CK_CONV_VECTORS = 4, CK_CONV_PIXELS = 16 };

/* Tiles that go through a panel together, and how many chunks of one vector they all take before the next ones: the
 * weights stay in L1. */
enum { CK_CONV_TOGETHER = 16, CK_CONV_SEGMENT = 4 };

/* Vectors of the panels whose grids finish what they have summed: gemm's; and whose grids take steps of any length. */
enum { CK_CONV_FINISHED = 3, CK_CONV_STEPPED = 2 };

/* How many panels before it is needed what their sums meet is fetched. */
enum { CK_CONV_PANELS_AHEAD = 3 };

/* Some neighbouring chunks of a reduction: `length` taps each, and one more from chunk `longer` on. */
typedef struct {
    ptrdiff_t first; /* tap */
    ptrdiff_t count, length, longer;
    ptrdiff_t row; /* elements from the sums of one pixel to the next one's */
    const void *row_bias; /* one value for each pixel, added to the first chunk, or NULL */
    int add; /* to what `sum` holds; then without row_bias */
    ptrdiff_t line; /* of y, from which on they are fetched for the store */
} ck_conv_chunks;

/* A run of output pixels at one kernel position: n of them go to to[0 .. n), x[source + i * step]; without a source, zeros. */
typedef struct {
    ptrdiff_t to, source, n; /* source < 0: none */
} ck_conv_piece;

/* Panels with pixels in the lanes: every piece for every channel. */
typedef struct {
    const void *x;
    ptrdiff_t plane, step; /* elements of x from channel to channel, from pixel to pixel */
    void *panels;
    ptrdiff_t channel_step; /* elements of a panel from channel to channel */
    ptrdiff_t channels;
    const ck_conv_piece *piece;
    ptrdiff_t pieces;
} ck_conv_fill;

/* dst[j * dst_row + i] = src[i * src_row + j] for i below rows and j below columns. */
typedef void (*ck_conv_transpose)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t dst_row, ptrdiff_t rows,
                                  ptrdiff_t columns);

/* Rows of n elements, src_row apart, each between zeros: before + n + after elements in dst, row behind row. Where rows
 * like these are next, from `next` on, they may be fetched meanwhile; or NULL. */
typedef void (*ck_conv_pad)(const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t rows, ptrdiff_t before,
                            ptrdiff_t n, ptrdiff_t after, const void *next);

/* y[f * y_filter + i] for i below n, the even from sums[f * row + i / 2], the odd `phase` after those. */
typedef void (*ck_conv_weave)(const void *sums, ptrdiff_t phase, ptrdiff_t row, void *y, ptrdiff_t y_filter,
                              ptrdiff_t filters, ptrdiff_t n);

/* y[f * y_filter + i * step] = sums[f * row + i] for i below n. */
typedef void (*ck_conv_spread)(const void *sums, ptrdiff_t row, void *y, ptrdiff_t y_filter, ptrdiff_t step,
                               ptrdiff_t filters, ptrdiff_t n);

/* Whether none of n numbers is infinite or NaN. */
typedef int (*ck_conv_all_finite)(const void *a, ptrdiff_t n);

/* What one level has for one dtype: at v vectors, tiles of 1 to most_pixels[v - 1] pixels. */
typedef struct {
    ptrdiff_t lanes;
    int most_pixels[CK_CONV_VECTORS];
    int grids; /* whether grids of 2 and of 3 vectors have kernels: else they are calls of `run` */
    ck_conv_run run;
    ck_conv_run_together run_together;
    ck_conv_run_grid run_grid;
    ck_conv_add add;
    ck_conv_store store;
    ck_conv_transpose transpose;
    void (*fill)(const ck_conv_fill *job);
    ck_conv_pad pad;
    ck_conv_pad pad_apart; /* each row's even columns before its odd ones; where there are grids */
    ck_conv_weave weave;
    ck_conv_spread spread;
    ck_conv_all_finite all_finite;
} ck_conv_table;

const ck_conv_table *ck_conv_table_for(int level, int itemsize);

#endif
