/* Convolution with pixels in the lanes: weights broadcast, plain NCHW.
 *
 *     target[f][start + j * step] = bias[f] + sum over planes c and taps k of w[f][c][k] * source[c][j * source_step + offset(k) - lo]
 *
 * with source read as zero outside its bounds. Forward, source is x; for the input gradient source is dy, target is
 * dx, and the targets of one residue modulo the stride are one phase (convkit/plan/geometry.py makes the tables).
 * Everything has three axes, the outer ones 1 where the convolution has fewer.
 *
 * Every sum runs over c, then k, in table order, with one fused multiply-add per tap into a sum that starts at zero;
 * it is closed every CK_DEPTHWISE_CHUNK taps (every CK_DEPTHWISE_CHUNK_OF_PLANES in a group of several planes, whose sums may be long), and the bias, or zero, is added last. All kernels keep that order, so they give
 * the same bits. Exactly the target is written, and nothing outside source, w and bias is read.
 * csrc/depthwise/README.md has the variants and their figures.
 */
#ifndef CK_DEPTHWISE_H
#define CK_DEPTHWISE_H

#include "base/isa.h"
#include "elementwise/finish.h"

enum { CK_DEPTHWISE_CHUNK = 256, CK_DEPTHWISE_CHUNK_OF_PLANES = 64, CK_DEPTHWISE_FILTERS = 8 };

/* Bytes of source rows that row kernels walk at a time, and the most taps of one of them. */
enum { CK_DEPTHWISE_BAND = 128 * 1024, CK_DEPTHWISE_CUBE = 7 * 7 * 7 };

/* Targets start + j * step for j below count, along each axis, which all see the same taps. */
typedef struct {
    ptrdiff_t start[3], step[3], count[3];
    ptrdiff_t taps;          /* planes of a group times kernel positions */
    const ptrdiff_t *offset; /* of each tap, from the position of j into the padded box */
    const ptrdiff_t *weight; /* of each tap, from the first weight of a filter */
    ptrdiff_t across;        /* taps side by side in a row, at equal steps */
    const ptrdiff_t *row;    /* of each tap, from the row of j in the padded source */
} ck_depthwise_phase;

/* One planned convolution. Sizes and steps are in elements. */
typedef struct {
    ptrdiff_t groups, planes, filters; /* source and target planes of one group */
    ptrdiff_t lanes;                   /* groups of one unit */
    ptrdiff_t source[3], target[3], lo[3], source_step[3];
    ptrdiff_t dilation[3]; /* source elements between neighbouring taps, of a geometry without phases */
    ptrdiff_t block[3], blocks[3]; /* j of one unit of work, and how many units cover all j */
    /* The padded copy of what one unit reads: slabs, rows, and elements of one residue of a row (the elements of a
     * row whose index has the same remainder modulo source_step[2] are neighbours, so that every tap is a run). */
    ptrdiff_t box[3], plane_pitch;
    int in_place; /* the box is the source, whose windows all lie inside it */
    int flat; /* all rows of the box are one run, with padding that neighbours share, for a sum with taps of any kind */
    ptrdiff_t w_group, w_filter, w_plane; /* steps in the weight array */
    ptrdiff_t w_packed; /* elements of the packed weights of one unit */
    /* a sum with taps of any kind: those of the filters of a group that this call computes, from and to a multiple of
     * CK_DEPTHWISE_FILTERS or the last, and whether `scratch` holds the copy of the source from a call before */
    ptrdiff_t first_filter, end_filter, copied;
    const ck_finish *finish; /* what follows the sums of a forward pass, without `past`, or NULL */
    ptrdiff_t reversed; /* the kernel is applied from its last tap to its first */
    /* channels in the lanes: where pixels go in the box, weights among those of their phase, and anything side by side */
    const ptrdiff_t *place, *place_tap, *dense;
    ptrdiff_t slab; /* and rows j that are computed between transposing what they read and what they write */
    ptrdiff_t
        sums; /* of a weight gradient, whose lanes are added at its end: those of a unit, or of all units of a group */
    ptrdiff_t phases; /* innermost axis fastest */
    const ck_depthwise_phase *phase;
} ck_depthwise;

/* Units [first, last) of images * groups * blocks, a unit being one block of one group of one image (blocks fastest,
 * then groups). `scratch` holds ck_depthwise_scratch(g, ...) bytes. */
typedef void (*ck_depthwise_sum)(const ck_depthwise *g, const void *source, const void *w, const void *bias,
                                 void *target, ptrdiff_t first, ptrdiff_t last, void *scratch);

/* The weight gradient of the same forward geometry:
 *     dw[f][c][k] = sum over images n and targets j of dy[n][f][j] * x[n][c][j * source_step + offset(k) - lo]
 * for units [first, last) of target channel times planes, or of groups times parts of their filters, as
 * few and even ones as a row's `filters` allows. The sum of a tap runs over images, blocks, rows and
 * vectors of pixels in that order, closed every CK_DEPTHWISE_RUN vectors; the lanes are added last. */
enum { CK_DEPTHWISE_RUN = 128 };
typedef void (*ck_depthwise_dot)(const ck_depthwise *g, const void *dy, const void *x, void *dw, ptrdiff_t from,
                                 ptrdiff_t to, ptrdiff_t first, ptrdiff_t last, void *scratch);

/* Weights in the order in which a sum with channels in the lanes reads them, taps + 1 vectors for each `lanes` groups;
 * such a sum takes them as `w`. */
typedef void (*ck_depthwise_pack)(const ck_depthwise *g, const void *w, void *packed);

/* One variant: what it takes (0 is anything) and its kernels, NULL where it has none. */
typedef struct {
    const char *name;
    int kernel, stride; /* of a 2-d depthwise convolution: square kernel size, stride; dilation only at stride 1 */
    int lanes; /* groups that one unit takes: 1, or one per lane */
    int filters; /* of a unit of `dot`, at most, with all planes of a group; of one filter it is one plane */
    int finishes; /* whether `sum` takes a `finish` */
    ck_depthwise_pack pack;
    ck_depthwise_sum sum;
    ck_depthwise_dot dot;
} ck_depthwise_row;

/* The rows of one level and dtype, best first; ends with a NULL name. */
const ck_depthwise_row *ck_depthwise_rows_for(int level, int itemsize);

size_t ck_depthwise_scratch(const ck_depthwise *g, int itemsize);

#endif
