#include "depthwise/depthwise.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_depthwise_row ck_depthwise_f32__##name[], ck_depthwise_f64__##name[];
CK_EACH_LEVEL(DECLARE)

const ck_depthwise_row *ck_depthwise_rows_for(int level, int itemsize)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return itemsize == 4 ? ck_depthwise_f32__##name : ck_depthwise_f64__##name;
    CK_EACH_LEVEL(PICK)
    return NULL;
}

/* The padded box and its slack, and the rows of a block, of a tile's filters, whose residues wait to be interleaved; or
 * the sums of a weight gradient; or what row kernels need: a row of zeros, which reach from the first tap of a row to the last,
 * pointers to the rows of a band, and its sums twice. LANES is the longest vector of any level. */
size_t ck_depthwise_scratch(const ck_depthwise *g, int itemsize)
{
    enum { LANES = 16, ROWS = 16 * LANES, COLUMNS = 7, LEAST = 8, FILTERS = CK_DEPTHWISE_FILTERS };
    ptrdiff_t step = 1, width = (g->block[2] + LANES - 1) / LANES * LANES;
    for (ptrdiff_t i = 0; i < g->phases; i++) step = g->phase[i].step[2];
    if (g->lanes > 1) {
        ptrdiff_t pixels = g->box[1] * g->box[2] + (g->slab + 1) * g->phase[0].step[1] * g->target[2];
        return (size_t)((pixels + 2 * g->w_group) * g->lanes) * (size_t)itemsize;
    }
    ptrdiff_t elements = (g->in_place ? 0 : g->planes * g->plane_pitch) + 2 * LANES;
    if (step > 1) elements += (g->filters < FILTERS ? g->filters : FILTERS) * g->block[0] * g->block[1] * step * width;
    ptrdiff_t sums = (g->in_place ? 0 : g->planes * g->plane_pitch) + (2 + g->sums) * LANES;
    if (g->flat)
        elements += (g->filters < FILTERS ? g->filters : FILTERS) * g->block[0] * g->block[1] * g->box[2] + LANES;
    if (elements < sums) elements = sums;
    if (g->planes == 1 && g->filters == 1) {
        ptrdiff_t fit = LEAST + CK_DEPTHWISE_BAND / (g->source[2] * itemsize),
                  pointers = 2 * sizeof(void *) / sizeof(float);
        ptrdiff_t band = (fit < g->block[1] ? fit : g->block[1]) + COLUMNS;
        ptrdiff_t rows = g->source[2] + 2 * g->lo[2] + g->target[2] + band * (2 * g->target[2] + pointers);
        if (elements < rows) elements = rows;
    }
    return (size_t)(ROWS + COLUMNS * g->dilation[2] + elements) * (size_t)itemsize;
}
