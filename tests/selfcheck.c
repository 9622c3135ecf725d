/* Kernels without Python, for a CPU that this machine only emulates: every convolution tile, the elementwise kernels and
 * pooling at every level that the CPU has, exactly, on small integers. Built and run by tests/long.sh. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "conv/conv.h"
#include "elementwise/elementwise.h"
#include "pool/pool.h"

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

static void check_tile(const ck_conv_table *table, int level, int itemsize, int pixels, int vectors, int by_pixel)
{
    static double x[MOST], w[TAPS * 64 * 4], bias[64 * 4], y[MOST];
    ptrdiff_t off[TAPS], lanes = vectors * table->lanes, filters = lanes - 1 > 0 ? lanes - 1 : 1;
    for (int k = 0; k < TAPS; k++) off[k] = rand() % (MOST - 64);
    integers(x, MOST, itemsize);
    integers(w, TAPS * lanes, itemsize);
    integers(bias, lanes, itemsize);
    memset(y, 0xff, sizeof y);
    ck_conv_tile tile = {.x = x, .off = off, .taps = TAPS, .x_step = STEP, .w = w, .bias = bias, .y = y, .ahead = w,
                         .y_pixel = by_pixel ? filters : 1, .y_filter = by_pixel ? 1 : pixels, .filters = filters};
    table->run(&tile, pixels, vectors);
    int right = isnan(get(y, pixels * filters, itemsize)); /* nothing past the end */
    for (int m = 0; m < pixels; m++)
        for (ptrdiff_t f = 0; f < filters; f++) {
            double sum = get(bias, f, itemsize);
            for (int k = 0; k < TAPS; k++)
                sum += get(x, off[k] + m * STEP, itemsize) * get(w, k * lanes + f, itemsize);
            right &= get(y, m * tile.y_pixel + f * tile.y_filter, itemsize) == sum;
        }
    check(right, "tile", level, itemsize, pixels, vectors);
}

static void check_elementwise(int level, int itemsize, int n)
{
    static double x[MOST], y[MOST];
    ck_elementwise job = {.x = x, .y = y, .scale = 1};
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
    ck_pool p = {.size = {1, 9, width}, .out = {1, 9, width}, .kernel = {1, 3, 3}, .stride = {1, 1, 1},
                 .dilation = {1, 1, 1}, .pad = {0, 1, 1}, .pad_end = {0, 1, 1}, .include_pad = 1};
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

int main(void)
{
    for (int level = CK_LEVEL_PORTABLE; level <= CK_LEVEL_AVX512; level++) {
        if (!ck_cpu_has(level)) continue;
        int before = checks;
        for (int itemsize = 4; itemsize <= 8; itemsize += 4) {
            const ck_conv_table *table = ck_conv_table_for(level, itemsize);
            for (int v = 1; v <= CK_CONV_VECTORS; v++)
                for (int m = 1; m <= table->most_pixels[v - 1]; m++)
                    for (int by_pixel = 0; by_pixel < 2; by_pixel++)
                        check_tile(table, level, itemsize, m, v, by_pixel);
            for (int n = 1; n < 40; n++) {
                check_elementwise(level, itemsize, n);
                check_pool(level, itemsize, CK_POOL_max, n);
                check_pool(level, itemsize, CK_POOL_min, n);
            }
        }
        printf("level %d: %d checks\n", level, checks - before);
    }
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
