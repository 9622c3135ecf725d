/* Pooling of planes: the contract between the kernels and who calls them.
 *
 * y[p, o] = reduce over taps k of x[p, o * stride - pad + k * dilation], taps outside the plane left out.
 *
 * A plane is one (image, channel) of three axes (D, H, W), C-contiguous, the next plane right behind it; one-
 * and two-dimensional poolings put ones in front. All sizes are in elements. x and y may not overlap; neither
 * is read or written outside. Kernels allocate nothing, start no threads and keep no state; what one task
 * writes does not depend on how the work was cut into tasks.
 *
 *   max, min   NaN in a window gives NaN; a window of equal values gives the first. Exact.
 *   avg, lp    sum in the order rows, then columns (whole rows, windows far apart and long ones: a fixed tree), then one
 * division (an exact multiplication if the divisor is a power of two). Accumulates in the dtype. lp adds the powers of x,
 * scales the sum to a window of all elements where some are missing, and takes the root.
 *   indices    int64, flat within the plane: the first of equal values, the last NaN. Planes of up to
 * CK_POOL_MAX_INDEXED elements.
 *   taps       bytes, the same as the number of the tap within the window; no dilation.
 */
#ifndef CK_POOL_H
#define CK_POOL_H

#include "base/isa.h"

#define CK_POOL_MAX_INDEXED ((ptrdiff_t)1 << 29)

typedef struct {
    ptrdiff_t size[3], out[3]; /* of a plane of x, of a plane of y */
    ptrdiff_t kernel[3], stride[3], dilation[3];
    ptrdiff_t pad[3], pad_end[3];
    ptrdiff_t divisor; /* of an average; 0: the number of elements in the window */
    int include_pad;   /* whether padding counts as elements */
    double power;      /* of lp: the exponent, at least 1 and finite */
    double whole;      /* of lp: elements of a window that lacks none */
    /* Windows [o * size / out, the same for o + 1 rounded up) instead: kernel is then the most elements of one,
     * stride the most between two, and there is neither padding nor dilation. */
    int adaptive;
    ptrdiff_t lanes; /* of a vector: rows so short that they would not fill one */
} ck_pool;

typedef struct {
    const void *in;
    void *out;
    void *chosen;      /* which elements: int64 indices or bytes, by the kernel's name; else unused */
    const void *x, *y; /* what the forward pass saw and gave, for lp_backward */
} ck_pool_arrays;

/* What one call computes: rows [row0, row1) of `out`, counted over all planes, and of each its columns [col0,
 * col1). For scatter, place and gather, and
 * where planes lie in the lanes, a row is a whole plane and the columns are not looked at. */
typedef struct {
    ptrdiff_t row0, row1, col0, col1;
} ck_pool_block;

/* Returns 1, or 0 from those three when an index lies outside its plane; it stops there, having touched nothing
 * outside. */
typedef int (*ck_pool_kernel)(const ck_pool *p, const ck_pool_arrays *arrays, const ck_pool_block *block,
                              void *scratch);

enum {
#define CK_POOL_KERNEL(name) CK_POOL_##name,
#include "pool/kernels.def"
#undef CK_POOL_KERNEL
    CK_POOL_KERNELS
};

/* The name of a kernel, and its code for a level (CK_LEVEL_*) and an itemsize (4 or 8); NULL when not
 * compiled. */
const char *ck_pool_name(int kernel);
ck_pool_kernel ck_pool_for(int kernel, int level, int itemsize);

/* Scratch that a call needs for blocks of at most `cols` columns, 64-byte aligned. */
size_t ck_pool_scratch_bytes(int kernel, const ck_pool *p, ptrdiff_t cols, int itemsize);

/* ---- shared by the kernels and the sizing above */

enum { CK_POOL_LANES = 16, CK_POOL_SMALL = 1024 }; /* planes side by side at most; elements of one at most */
enum { CK_POOL_ROWS = 8 };           /* rows that a kernel has in scratch memory at a time */
enum { CK_POOL_BEHIND = 2 * CK_POOL_ROWS + 2 }; /* of those that windows hold one behind the other, joined */
#define CK_POOL_LINE ((ptrdiff_t)64) /* elements: more than any vector, what a row may be over-read by */

/* A power of two: what numbers a ring, without a division. */
CK_INLINE ptrdiff_t ck_pool_ring(ptrdiff_t n)
{
    ptrdiff_t ring = 1;
    while (ring < n) ring *= 2;
    return ring;
}

CK_INLINE ptrdiff_t ck_pool_span(const ck_pool *p, int axis) { return (p->kernel[axis] - 1) * p->dilation[axis] + 1; }

/* Rows whose adaptive windows are reduced together, so that few columns fill a vector too. */
CK_INLINE ptrdiff_t ck_pool_split_rows(ptrdiff_t cols) { return cols < CK_POOL_LINE ? CK_POOL_ROWS : 1; }

/* Elements from the first tap of the first of `cols` windows to the last tap of the last, and slack. */
CK_INLINE ptrdiff_t ck_pool_row_width(const ck_pool *p, ptrdiff_t cols)
{
    return (cols - 1) * p->stride[2] + ck_pool_span(p, 2) + 2 * CK_POOL_LINE;
}

/* One row split into as many phases as the stride has, each a run of every stride-th element. */
CK_INLINE ptrdiff_t ck_pool_phase_width(const ck_pool *p, ptrdiff_t cols)
{
    return cols + ck_pool_span(p, 2) / p->stride[2] + 2 * CK_POOL_LINE;
}

/* The rows that are copied by phases before they are searched for indices. */
CK_INLINE ptrdiff_t ck_pool_stage_width(const ck_pool *p, ptrdiff_t cols)
{
    return p->adaptive ? ck_pool_row_width(p, cols) : p->stride[2] * ck_pool_phase_width(p, cols);
}

/* One row of shares of dy, with the zeros around it, for `cols` columns of dx. */
CK_INLINE ptrdiff_t ck_pool_shares(const ck_pool *p, ptrdiff_t cols)
{
    ptrdiff_t windows = p->adaptive ? cols * (p->out[2] / p->size[2] + 1) : cols;
    return windows + p->kernel[2] + 3 * CK_POOL_LINE;
}

/* Rows of windows that cover one row of the plane along d, or CK_POOL_ROWS of them along h, or more. */
CK_INLINE ptrdiff_t ck_pool_giver_slots(const ck_pool *p, int axis)
{
    return ck_pool_ring((p->kernel[axis] - 1 + (axis ? CK_POOL_ROWS : 0)) / p->stride[axis] + 2);
}

/* Rows of x along h that the windows of CK_POOL_ROWS output rows see, or more. */
CK_INLINE ptrdiff_t ck_pool_slots(const ck_pool *p)
{
    ptrdiff_t more = p->out[1] < CK_POOL_ROWS ? p->out[1] - 1 : CK_POOL_ROWS - 1;
    return ck_pool_ring(ck_pool_span(p, 1) + more * p->stride[1]);
}

/* Whether planes are so small that the forward passes without indices lay some side by side in the lanes. */
CK_INLINE int ck_pool_in_lanes(const ck_pool *p)
{
    const ptrdiff_t size = p->size[0] * p->size[1] * p->size[2], out = p->out[0] * p->out[1] * p->out[2];
    return p->size[2] <= p->lanes && size <= CK_POOL_SMALL && out > 1 && out <= 2 * size;
}

/* Carve a piece of n elements off the scratch memory. */
CK_INLINE void *ck_pool_take(char **scratch, ptrdiff_t n, size_t itemsize)
{
    void *piece = *scratch;
    *scratch += ((size_t)n * itemsize + 63) / 64 * 64;
    return piece;
}

#endif
