/* Sums over channels, normalisation of channels and of rows, and what multiplies whole channels.
 *
 * Arrays are [images][channels][inner]; a channel is `images` runs of `inner` elements. All sums of float32
 * are kept in float64; those of float64 are closed every 1024 elements and the partial sums added without
 * error (two-sum), so both are good to a few eps of the result's dtype whatever the length. The order is
 * fixed by images and inner alone. Statistics take one pass around the first element of the channel, where
 * sum (x - center) corrects both mean and variance, and another around the mean where that element lies too
 * far from it for the digits to spare.
 *
 *     channel_sum     sum = sum of x
 *     train           mean, var (biased) of x, running statistics moved, y = (x - mean) scale + bias; with `line` ReLU of that
 *     eval            y = (x - mean) scale + bias,                  scale = weight / sqrt(var + eps)
 *     train_backward  dbias = sum dy, dweight = sum dy z, dx = scale (dy - dbias / m - z dweight / m); with `line` dy is first
 *                     cleared, where it lies, wherever that ReLU gave 0
 *     eval_backward   the same sums, dx = scale dy                  z = (x - mean) / sqrt(var + eps)
 *     prelu           y = x > 0 ? x : x weight
 *     prelu_backward  dx = x > 0 ? dy : dy weight, dweight = sum of dy x where x is not positive
 *     scale           y = x weight; 0 where weight is 0, whatever x is
 *     response        y = x d^-beta with d = k + alpha / window sum of x^2 over channels c - before .. c + window - 1 - before
 *     response_backward  dx = dy d^-beta - 2 alpha beta / window x sum of t over the channels whose windows hold c, with
 *                     t = dy x d^(-beta - 1), for which `part`, as large as x, has room
 *
 * Layer, group and instance norm see x as rows, [channels][inner] with images == 1: a row has mean and variance of its own and
 * consists of `affine` runs of inner / affine elements, each run with a weight and a bias. Row r takes those of group r mod groups.
 *
 *     rows            y = z weight + bias
 *     rows_backward   dx = (g - sum g / m - z sum g z / m) / sqrt(var + eps) with g = dy weight, and into `sums` (zeroed
 *                     before) dbias and dweight: where a run is one element [first / share][2][groups affine], sums over
 *                     `share` rows, else [2][channels][affine]
 */
#ifndef CK_NORM_H
#define CK_NORM_H

#include "base/isa.h"

/* Pointers are to the dtype that the kernel was compiled for. Per channel: weight and bias may be NULL. */
typedef struct {
    const void *x, *dy;
    void *y; /* or dx, or the sums of channel_sum */
    const void *weight, *bias;
    void *mean, *var; /* eval: given; train: running statistics or NULL; backward: given or NULL (found again) */
    void *dweight, *dbias;
    double *
        saved; /* [channels][3]: mean in two parts and variance, found by a forward pass for its backward pass; or NULL */
    double
        *line; /* [channels][3]: a training pass with ReLU leaves what y is made with for its backward pass; or NULL */
    double *sums; /* of rows_backward */
    double eps, momentum;
    ptrdiff_t images, channels, inner;
    void *part; /* of response */
    double alpha, beta, k;
    ptrdiff_t window;
    ptrdiff_t groups, affine, share; /* rows alone; share: rows of one task, a multiple of groups */
} ck_norm;

/* Channels channel .. channel + channels - 1. The work is that of ck_norm_group(inner) channels at a time,
 * and one call takes at most so many; of rows it takes any number (rows_backward: `share`). response counts blocks of
 * CK_NORM_BLOCK neighbouring positions, those of an image together, instead of channels. */
typedef void (*ck_norm_kernel)(const ck_norm *job, ptrdiff_t channel, ptrdiff_t channels);

enum { CK_NORM_GROUP = 256, CK_NORM_FEW = 64, CK_NORM_BLOCK = 256 };

/* Channels of a group: one, or as many as fill CK_NORM_GROUP columns where inner is below CK_NORM_FEW. */
CK_INLINE ptrdiff_t ck_norm_group(ptrdiff_t inner) { return inner < CK_NORM_FEW ? CK_NORM_GROUP / inner : 1; }

/* Names of the kernels, in the order of kernels.def, then NULL. */
extern const char *const ck_norm_names[];

/* The kernel of one level and dtype (itemsize 4 or 8), or NULL for an unknown name. */
ck_norm_kernel ck_norm_for(int level, int itemsize, const char *name);

#endif
