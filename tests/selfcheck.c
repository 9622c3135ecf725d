/* Kernels without Python, for a CPU that this machine only emulates, at every level that the CPU has: convolution tiles, dot
 * products of pixels, relu and pooling exactly, on small integers, against their definitions; the other families against the
 * portable level, which the tests compare with the definitions elsewhere. Built and run by tests/long.sh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "conv/conv.h"
#include "depthwise/depthwise.h"
#include "elementwise/elementwise.h"
#include "elementwise/half.h"
#include "elementwise/keep.h"
#include "embedding/embedding.h"
#include "fold/fold.h"
#include "loss/loss.h"
#include "optim/optim.h"
#include "pool/pool.h"
#include "resample/resample.h"
#include "winograd/weight_gradient.h"
#include "winograd/winograd.h"

enum { MOST = 4096, TAPS = 300, STEP = 2 };

static int failures, checks;

static void check(int right, const char *what, int level, int itemsize, int a, int b)
{
    checks++;
    if (right) return;
    failures++;
    printf("FAIL %s level %d itemsize %d (%d, %d)\n", what, level, itemsize, a, b);
}

static double get(const void *p, ptrdiff_t i, int itemsize)
{
    return itemsize == 4 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}

static void put(void *p, ptrdiff_t i, int itemsize, double value)
{
    if (itemsize == 4)
        ((float *)p)[i] = (float)value;
    else
        ((double *)p)[i] = value;
}

static void integers(void *p, ptrdiff_t n, int itemsize)
{
    for (ptrdiff_t i = 0; i < n; i++) put(p, i, itemsize, rand() % 17 - 8);
}

static void check_tile(const ck_conv_table *table, int level, int itemsize, int pixels, int vectors, int by_pixel,
                       int together, int finished)
{
    static double x[MOST], w[TAPS * 64 * 4], bias[64 * 4], y[MOST], past[MOST];
    const ck_finish finish = {(char *)past - (char *)y, 0, 0, 6};
    ptrdiff_t off[TAPS], lanes = vectors * table->lanes, filters = lanes - 1 > 0 ? lanes - 1 : 1;
    for (int k = 0; k < TAPS; k++) off[k] = rand() % (MOST - 64);
    integers(x, MOST, itemsize);
    integers(w, TAPS * lanes, itemsize);
    integers(bias, lanes, itemsize);
    integers(past, pixels * filters, itemsize);
    memset(y, 0xff, sizeof y);
    ck_conv_tile tile = {.x = x,
                         .off = off,
                         .taps = TAPS,
                         .x_step = STEP,
                         .w = w,
                         .bias = finished && by_pixel ? NULL : bias,
                         .y = y,
                         .ahead = w,
                         .y_pixel = by_pixel ? filters : 1,
                         .y_filter = by_pixel ? 1 : pixels,
                         .filters = filters,
                         .finish = finished ? &finish : NULL};
    if (together) {
        const ck_conv_tile both[2] = {tile, tile};
        const int each[2] = {pixels, pixels};
        table->run_together(both, each, 2, vectors);
    } else {
        table->run(&tile, pixels, vectors);
    }
    int right = isnan(get(y, pixels * filters, itemsize)); /* nothing past the end */
    for (int m = 0; m < pixels; m++)
        for (ptrdiff_t f = 0; f < filters; f++) {
            double sum = tile.bias ? get(bias, f, itemsize) : 0;
            for (int k = 0; k < TAPS; k++) sum += get(x, off[k] + m * STEP, itemsize) * get(w, k * lanes + f, itemsize);
            const ptrdiff_t at = m * tile.y_pixel + f * tile.y_filter;
            if (finished) sum = fmin(fmax(sum + get(past, at, itemsize), 0), 6);
            right &= get(y, at, itemsize) == sum;
        }
    check(right, "tile", level, itemsize, pixels, vectors);
}

/* A grid of 2 panels, 2 rows and 3 runs: the same bits as one tile after the other. What adds goes by chunk. */
static void check_grid(const ck_conv_table *table, int level, int itemsize, int pixels, int vectors, int adds)
{
    static double x[MOST], w[2 * TAPS * 64 * 4], y[12 * 16 * 64], want[12 * 16 * 64], bias[16], past[12 * 16 * 64];
    ck_finish finish = {(char *)past - (char *)y, 0, 0, 6};
    const ptrdiff_t lanes = vectors * table->lanes;
    const ck_conv_grid grid = {.panels = 2,
                               .rows = 2,
                               .runs = 3,
                               .w_panel = TAPS * lanes,
                               .y_panel = 6 * pixels * lanes,
                               .x_row = 3 * pixels + 1,
                               .y_row = 3 * pixels * lanes,
                               .ahead_panel = lanes,
                               .by_chunk = adds};
    ptrdiff_t off[TAPS];
    for (int k = 0; k < TAPS; k++) off[k] = rand() % (MOST - 200);
    integers(x, MOST, itemsize);
    integers(w, 2 * TAPS * lanes, itemsize);
    integers(bias, 16, itemsize);
    integers(y, 12 * 16 * 64, itemsize);
    integers(past, 12 * 16 * 64, itemsize);
    memcpy(want, y, sizeof y);
    ck_conv_tile tile = {.x = x,
                         .off = off,
                         .taps = TAPS,
                         .x_step = 1,
                         .w = w,
                         .y = y,
                         .y_pixel = lanes,
                         .y_filter = 1,
                         .filters = lanes,
                         .ahead = w,
                         .accumulate = adds,
                         .row_bias = adds ? NULL : bias,
                         .finish = adds ? NULL : &finish};
    table->run_grid(&tile, pixels, vectors, &grid);
    finish.past = (char *)past - (char *)want;
    for (int p = 0; p < 2; p++)
        for (int j = 0; j < 2; j++)
            for (int i = 0; i < 3; i++) {
                tile.x = (char *)x + (j * grid.x_row + i * pixels) * itemsize;
                tile.w = (char *)w + p * grid.w_panel * itemsize;
                tile.y = (char *)want + (p * grid.y_panel + j * grid.y_row + i * pixels * lanes) * itemsize;
                table->run(&tile, pixels, vectors);
            }
    check(!memcmp(y, want, sizeof y), "grid", level, itemsize, pixels, vectors);
}

static void check_elementwise(int level, int itemsize, int n)
{
    static double x[MOST], y[MOST];
    ck_elementwise job = {.x = x, .y = y};
    integers(x, n, itemsize);
    memset(y, 0xff, sizeof y);
    ck_elementwise_for(level, itemsize, "relu")(&job, 0, n);
    int right = isnan(get(y, n, itemsize));
    for (int i = 0; i < n; i++) right &= get(y, i, itemsize) == fmax(get(x, i, itemsize), 0);
    check(right, "relu", level, itemsize, n, 0);
    ck_elementwise_for(level, itemsize, "exp")(&job, 0, n);
    right = 1;
    for (int i = 0; i < n; i++) {
        double want = exp(get(x, i, itemsize));
        right &= fabs(get(y, i, itemsize) - want) <= want * (itemsize == 4 ? 2.4e-7 : 4.5e-16);
    }
    check(right, "exp", level, itemsize, n, 0);
}

static void check_pool(int level, int itemsize, int kernel, int width)
{
    static double x[MOST], y[MOST], scratch[1 << 16];
    ck_pool p = {.size = {1, 9, width},
                 .out = {1, 9, width},
                 .kernel = {1, 3, 3},
                 .stride = {1, 1, 1},
                 .dilation = {1, 1, 1},
                 .pad = {0, 1, 1},
                 .pad_end = {0, 1, 1},
                 .include_pad = 1};
    ck_pool_arrays arrays = {.in = x, .out = y};
    ck_pool_block block = {0, 9, 0, width};
    if (ck_pool_scratch_bytes(kernel, &p, width, itemsize) > sizeof scratch) abort();
    integers(x, 9 * width, itemsize);
    ck_pool_for(kernel, level, itemsize)(&p, &arrays, &block, scratch);
    int right = 1;
    for (int row = 0; row < 9; row++)
        for (int column = 0; column < width; column++) {
            double best = kernel == CK_POOL_max ? -INFINITY : INFINITY;
            for (int r = row - 1; r <= row + 1; r++)
                for (int c = column - 1; c <= column + 1; c++) {
                    if (r < 0 || r >= 9 || c < 0 || c >= width) continue;
                    double value = get(x, r * width + c, itemsize);
                    best = kernel == CK_POOL_max ? fmax(best, value) : fmin(best, value);
                }
            right &= get(y, row * width + column, itemsize) == best;
        }
    check(right, ck_pool_name(kernel), level, itemsize, width, 0);
}

/* Whether n results are those of the portable level, to `ulps` of the larger of 1 and the value, and nothing follows them. */
static int same(const void *got, const void *want, ptrdiff_t n, int itemsize, double ulps)
{
    double eps = itemsize == 4 ? 1.2e-7 : 2.3e-16;
    int right = isnan(get(got, n, itemsize));
    for (ptrdiff_t i = 0; i < n; i++) {
        double a = get(got, i, itemsize), b = get(want, i, itemsize);
        right &= (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= ulps * eps * fmax(1, fabs(b));
    }
    return right;
}

static double in[3][MOST], out[2][4 * MOST];

/* Numbers in quarters from -4 to 4, the same in both precisions. */
static void quarters(void *p, ptrdiff_t n, int itemsize)
{
    for (ptrdiff_t i = 0; i < n; i++) put(p, i, itemsize, (rand() % 33 - 16) / 4.0);
}

static void fresh(int itemsize)
{
    for (int i = 0; i < 3; i++) quarters(in[i], MOST, itemsize);
    memset(out, 0xff, sizeof out);
}

static void check_activations(int level, int itemsize, int n)
{
    static uint8_t mask[MOST];
    for (int i = 0; i < n; i++) mask[i] = rand() % 2;
    for (const char *const *name = ck_elementwise_names; *name; name++) {
        fresh(itemsize);
        for (int i = 0; i < 2; i++) {
            ck_elementwise job = {.x = in[0], .other = in[1], .mask = mask, .a = 0.5, .b = 3, .y = out[i]};
            ck_elementwise_for(i ? CK_LEVEL_PORTABLE : level, itemsize, *name)(&job, 0, n);
        }
        check(same(out[0], out[1], n, itemsize, 16), *name, level, itemsize, n, 0);
    }
}

static void check_losses(int level, int itemsize, int n)
{
    for (const char *const *name = ck_loss_names; *name; name++) {
        const int places = strcmp(*name, "dice") ? n : 1; /* which counts in rows, here of one chunk */
        double sums[2][2] = {{0}};
        fresh(itemsize);
        for (int i = 0; i < 2; i++) {
            ck_loss job = {.x = in[0],
                           .target = in[1],
                           .weight = in[2],
                           .y = out[i],
                           .sums = sums[i],
                           .factor = 1,
                           .beta = 1,
                           .length = n};
            ck_loss_for(i ? CK_LEVEL_PORTABLE : level, itemsize, *name)(&job, 0, places);
        }
        int right = same(out[0], out[1], n, itemsize, 64);
        for (int j = 0; j < 2; j++) right &= fabs(sums[0][j] - sums[1][j]) <= n * 1e-4;
        check(right, *name, level, itemsize, n, 0);
    }
}

static void check_optimisers(int level, int itemsize, int n)
{
    static double state[2][4][MOST];
    ck_optim_rule rule = {.lr = 0.1, .decay = 0.01, .shrink = 0.99, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    for (const char *const *name = ck_optim_names; *name; name++) {
        fresh(itemsize);
        for (int i = 0; i < 2; i++) {
            for (int j = 0; j < 4; j++) {
                memset(state[i][j], 0xff, sizeof state[i][j]);
                for (int k = 0; k < n; k++) put(state[i][j], k, itemsize, fabs(get(in[j % 3], k, itemsize)));
            }
            ck_optim_parameter p = {state[i][0], in[0], state[i][1], state[i][2], state[i][3], 0.5, 0.5};
            ck_optim_for(i ? CK_LEVEL_PORTABLE : level, itemsize, *name)(&p, &rule, 0, n);
        }
        for (int j = 0; j < 4; j++)
            check(same(state[0][j], state[1][j], n, itemsize, 16), *name, level, itemsize, n, j);
    }
}

static void check_windows(int level, int itemsize, int width)
{
    ck_fold f = {.size = {1, 4, width},
                 .out = {1, 4, width},
                 .kernel = {1, 3, 3},
                 .stride = {1, 1, 1},
                 .pad = {0, 1, 1},
                 .dilation = {1, 1, 1}};
    for (const char *const *name = ck_fold_names; *name; name++) {
        fresh(itemsize);
        for (int i = 0; i < 2; i++)
            ck_fold_for(i ? CK_LEVEL_PORTABLE : level, itemsize, *name)(&f, in[0], out[i], 0, 2);
        check(same(out[0], out[1], (strcmp(*name, "fold") ? 9 : 1) * 8 * width, itemsize, 0), *name, level, itemsize,
              width, 0);
    }
}

/* Two neighbours of each place, at halves of a pixel, along every axis. */
static void check_resample(int level, int itemsize, int width, int target)
{
    static int64_t begin[MOST];
    static int32_t source[MOST];
    static double half[MOST], memory[MOST];
    for (int i = 0; i < MOST / 2; i++) {
        begin[i] = 2 * i;
        source[2 * i] = i % width, source[2 * i + 1] = (i + 1) % width;
    }
    for (int i = 0; i < MOST; i++) put(half, i, itemsize, 0.5);
    ck_resample_axis one = {
        .size = 1, .target_size = 1, .begin = begin, .source = (int32_t[]){0, 0}, .weight = half, .terms = 2};
    ck_resample r = {
        {one,
         one,
         {.size = width, .target_size = target, .begin = begin, .source = source, .weight = half, .terms = 2}},
        0};
    fresh(itemsize);
    for (int i = 0; i < 2; i++)
        ck_resample_for(i ? CK_LEVEL_PORTABLE : level, itemsize)(&r, in[0], out[i], 0, 7, memory);
    check(same(out[0], out[1], 7 * target, itemsize, 0), "resample", level, itemsize, width, target);
}

static void check_embedding(int level, int itemsize, int width)
{
    int64_t begin[] = {0, 3, 3, 70, 80}, place[80];
    for (int i = 0; i < 80; i++) place[i] = rand() % 20;
    fresh(itemsize);
    for (int i = 0; i < 2; i++) {
        ck_embedding job = {.dy = in[0], .dw = out[i], .begin = begin, .place = place, .width = width};
        ck_embedding_for(i ? CK_LEVEL_PORTABLE : level, itemsize)(&job, 0, 4);
    }
    check(same(out[0], out[1], 4 * width, itemsize, 0), "embedding", level, itemsize, width, 0);
}

static void check_winograd(int level, int side, int width)
{
    enum { LANES = 16, TILES = 40, STEP = 96, POINTS = 36 };
    static _Alignas(64) float v[2][POINTS * STEP], u[2][POINTS * LANES + LANES];
    static _Alignas(64) float m[POINTS * TILES * LANES], scratch[1 << 14];
    int points = (side + 2) * (side + 2), tiles = (width + side - 1) / side, pitch = tiles + 1;
    int v_pitch = width % 2 ? tiles : pitch;
    for (int i = 0; i < 2; i++) {
        const ck_winograd_table *table = ck_winograd_table_for(i ? CK_LEVEL_PORTABLE : level);
        const ck_winograd_plane *plane = side == 4 ? &table->four : &table->two;
        if (!i) fresh(4), memset(u, 0xff, sizeof u), quarters(m, sizeof m / sizeof *m, 4);
        ck_winograd_input job = {.plane = in[0],
                                 .height = 9,
                                 .width = width,
                                 .y = -1,
                                 .x = -1,
                                 .rows = 2,
                                 .pitch = pitch,
                                 .v_pitch = v_pitch,
                                 .scratch = scratch,
                                 .v = v[i],
                                 .v_step = STEP,
                                 .limit = 1e30};
        if (ck_winograd_scratch(2, pitch) > 1 << 14 || 2 * pitch > STEP - LANES || plane->side != side) abort();
        check(!plane->split(&job), "winograd limit", level, 4, width, i);
        plane->weights(in[1], width % 2, LANES, u[i], LANES);
        ck_winograd_output join = {.m = m,
                                   .m_step = TILES * LANES,
                                   .m_tile = LANES,
                                   .bias = in[1],
                                   .y = out[i],
                                   .y_filter = side * width,
                                   .y_row = width,
                                   .filters = LANES - 3,
                                   .rows = side,
                                   .width = width};
        plane->join(&join);
    }
    int right = 1;
    for (int p = 0; p < points; p++)
        for (int t = 0; t < 2 * v_pitch; t++)
            if (t % v_pitch < tiles) right &= fabs(v[0][STEP * p + t] - v[1][STEP * p + t]) <= 1e-5;
    check(right, "winograd split", level, 4, width, side);
    check(same(u[0], u[1], points * LANES, 4, 16), "winograd weights", level, 4, width, side);
    check(same(out[0], out[1], (LANES - 3) * side * width, 4, 100), "winograd join", level, 4, width, side);
}

static void check_weight_gradient(int level, int width, int side)
{
    enum { TILES = 20, LANES = CK_GRADIENT_LANES, HEIGHT = 4, POINTS = 64, TAPS = 25 };
    static _Alignas(64) float points[2][2][POINTS * TILES * LANES], taps[2][TAPS * LANES], scratch[1 << 16];
    int columns = (width + 3) / 4;
    if (ck_gradient_scratch(columns) > 1 << 16 || columns > TILES || LANES * HEIGHT * width > 2 * MOST) abort();
    memset(points, 0, sizeof points);
    fresh(4);
    for (int i = 0; i < 2; i++) {
        const ck_gradient_table *levels = ck_gradient_table_for(i ? CK_LEVEL_PORTABLE : level);
        const ck_gradient_taps *table = side == 3 ? &levels->three : &levels->five;
        ptrdiff_t lanes = ck_conv_table_for(i ? CK_LEVEL_PORTABLE : level, 4)->lanes;
        for (ptrdiff_t c = 0; c < LANES; c += lanes) {
            ck_gradient_tiles job = {.plane = (float *)in[0] + c * HEIGHT * width,
                                     .plane_step = HEIGHT * width,
                                     .planes = LANES - 3 - c < lanes ? LANES - 3 - c : lanes,
                                     .height = HEIGHT,
                                     .width = width,
                                     .y = -1,
                                     .x = -1,
                                     .rows = 1,
                                     .columns = columns,
                                     .scratch = scratch,
                                     .points = points[0][i] + c,
                                     .point_step = TILES * LANES,
                                     .tile_step = LANES,
                                     .limit = 1e30};
            check(!table->split_x(&job), "weight gradient limit of x", level, 4, width, i);
            job.x = job.y = 0;
            job.points = points[1][i] + c;
            check(!table->split_dy(&job), "weight gradient limit of dy", level, 4, width, i);
        }
        ck_gradient_sums join = {.sums = points[0][0],
                                 .point_step = TILES * LANES,
                                 .channels = 1,
                                 .lanes = LANES,
                                 .rows = side,
                                 .columns = side,
                                 .taps = taps[i],
                                 .channel_step = TAPS * LANES};
        table->join(&join);
    }
    int right = 1;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < POINTS * TILES * LANES; k++) right &= fabs(points[i][0][k] - points[i][1][k]) <= 1e-4;
    check(right, "weight gradient split", level, 4, width, side);
    right = 1;
    for (int k = 0; k < side * side * LANES; k++) right &= fabs(taps[0][k] - taps[1][k]) <= 1e-4;
    check(right, "weight gradient join", level, 4, width, side);
}

/* Every float16 there is, and back. */
/* The weight gradient of so many filters of a row of `width` pixels, two planes, three taps, padding 1. */
static void check_dots(int level, int itemsize, int width, int filters)
{
    enum { PLANES = 2, KERNEL = 3, PITCH = 64 };
    static double x[PLANES * PITCH], dy[16 * PITCH], dw[16 * PLANES * KERNEL];
    ptrdiff_t offset[PLANES * KERNEL];
    for (int k = 0; k < PLANES * KERNEL; k++) offset[k] = k / KERNEL * PITCH + k % KERNEL;
    const ck_depthwise_phase phase = {
        .step = {1, 1, 1}, .count = {1, 1, width}, .taps = PLANES * KERNEL, .offset = offset, .across = KERNEL};
    const ck_depthwise plan = {.groups = 1,
                               .planes = PLANES,
                               .filters = filters,
                               .lanes = 1,
                               .source = {1, 1, width},
                               .target = {1, 1, width},
                               .lo = {0, 0, 1},
                               .source_step = {1, 1, 1},
                               .dilation = {1, 1, 1},
                               .block = {1, 1, width},
                               .blocks = {1, 1, 1},
                               .box = {1, 1, width + 2},
                               .plane_pitch = PITCH,
                               .sums = filters * PLANES * KERNEL,
                               .phases = 1,
                               .phase = &phase};
    const ck_depthwise_row *row = ck_depthwise_rows_for(level, itemsize);
    while (row->filters == 1) row++;
    integers(x, PLANES * PITCH, itemsize), integers(dy, 16 * PITCH, itemsize);
    void *memory = malloc(ck_depthwise_scratch(&plan, itemsize));
    row->dot(&plan, dy, x, dw, 0, 1, 0, (filters + row->filters - 1) / row->filters, memory);
    free(memory);
    for (int i = 0; i < filters * PLANES * KERNEL; i++) {
        const int f = i / (PLANES * KERNEL), c = i / KERNEL % PLANES, k = i % KERNEL;
        double want = 0;
        for (int j = 0; j < width; j++)
            if (j + k >= 1 && j + k <= width)
                want += get(dy, f * width + j, itemsize) * get(x, c * width + j + k - 1, itemsize);
        check(get(dw, i, itemsize) == want, "dots", level, itemsize, width, filters);
    }
}

static void check_halves(int level)
{
    enum { ALL = 1 << 16 };
    static uint16_t half[ALL], back[2][ALL];
    static float wide[2][ALL];
    for (int i = 0; i < ALL; i++) half[i] = (uint16_t)i;
    for (int i = 0; i < 2; i++) {
        ck_widen_for(i ? CK_LEVEL_PORTABLE : level)(half, wide[i], ALL);
        ck_narrow_for(i ? CK_LEVEL_PORTABLE : level)(wide[i], back[i], ALL);
    }
    int right = wide[0][1] == 0x1p-24f && wide[0][0x3c00] == 1 && isinf(wide[0][0xfc00]);
    for (int i = 0; i < ALL; i++)
        if (isnan(wide[1][i])) /* its payload is the CPU's own */
            right &= isnan(wide[0][i]) && (back[0][i] & 0x7fff) > 0x7c00;
        else
            right &= wide[0][i] == wide[1][i] && back[0][i] == half[i] && back[1][i] == half[i];
    check(right, "float16", level, 2, 0, 0);
}

/* Philox's published numbers for key and counter 0, and the portable level's at every length of a tail. */
static void check_keep(int level)
{
    enum { ALL = 300 };
    uint8_t kept[2][ALL + 1];
    const uint32_t word[4] = {0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48};
    int right = 1;
    for (int i = 0; i < 4; i++)
        for (int more = 0; more < 2; more++) {
            ck_keep_for(level)(&(ck_keep){.limit = (word[i] >> 1) + more, .keep = kept[0]}, 0, 4);
            right &= kept[0][i] == !more;
        }
    for (int n = 1; n <= ALL; n++) {
        for (int i = 0; i < 2; i++) {
            kept[i][n] = 7;
            ck_keep_for(i ? CK_LEVEL_PORTABLE
                          : level)(&(ck_keep){.key = 0x123456789abcdef, .limit = 1u << 30, .keep = kept[i]}, 0, n);
        }
        right &= !memcmp(kept[0], kept[1], (size_t)n + 1);
    }
    check(right, "keep", level, 4, 0, 0);
}

int main(void)
{
    for (int level = CK_LEVEL_PORTABLE; level <= CK_LEVEL_AVX512; level++) {
        if (!ck_cpu_has(level)) continue;
        int before = checks;
        for (int itemsize = 4; itemsize <= 8; itemsize += 4) {
            const ck_conv_table *table = ck_conv_table_for(level, itemsize);
            for (int v = 1; v <= CK_CONV_VECTORS; v++)
                for (int m = 1; m <= table->most_pixels[v - 1]; m++) {
                    for (int way = 0; way < 8; way++)
                        check_tile(table, level, itemsize, m, v, way % 2, way / 2 % 2, way / 4);
                    for (int adds = 0; adds < 2; adds++) check_grid(table, level, itemsize, m, v, adds);
                }
            for (int n = 1; n < 40; n++) {
                check_elementwise(level, itemsize, n);
                check_pool(level, itemsize, CK_POOL_max, n);
                check_pool(level, itemsize, CK_POOL_min, n);
                check_activations(level, itemsize, n);
                check_losses(level, itemsize, n);
                check_optimisers(level, itemsize, n);
                check_windows(level, itemsize, n);
                check_resample(level, itemsize, n, 2 * n);
                check_resample(level, itemsize, 2 * n, n);
                check_embedding(level, itemsize, n);
                for (int filters = 2; filters < 10; filters++) check_dots(level, itemsize, n, filters);
            }
        }
        for (int width = 1; width < 70; width++) {
            check_winograd(level, 4, width), check_winograd(level, 2, width);
            for (int side = 3; side <= 5; side += 2) check_weight_gradient(level, width, side);
        }
        check_halves(level);
        check_keep(level);
        printf("level %d: %d checks\n", level, checks - before);
    }
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
