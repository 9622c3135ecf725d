#include "pool/pool.h"

#include "base/levels.h"

#define CK_POOL_KERNEL(kernel) #kernel,
static const char *const names[] = {
#include "pool/kernels.def"
};
#undef CK_POOL_KERNEL

const char *ck_pool_name(int kernel) { return names[kernel]; }

/* Every level exports its two tables (pool.kernel.c), in the order of kernels.def. */
#define DECLARE(level, name)                                                                                           \
    extern const ck_pool_kernel ck_pool_table_f32__##name[CK_POOL_KERNELS];                                            \
    extern const ck_pool_kernel ck_pool_table_f64__##name[CK_POOL_KERNELS];
CK_EACH_LEVEL_TO_AVX2(DECLARE)

ck_pool_kernel ck_pool_for(int kernel, int level, int itemsize)
{
    level = ck_level_to_avx2(level);
#define PICK(l, name)                                                                                                  \
    if (level == l) return (itemsize == 4 ? ck_pool_table_f32__##name : ck_pool_table_f64__##name)[kernel];
    CK_EACH_LEVEL_TO_AVX2(PICK)
    return NULL;
}

/* The pieces that each kernel takes, in elements or 8-byte words; see the `take` calls of the kernels. */
size_t ck_pool_scratch_bytes(int kernel, const ck_pool *p, ptrdiff_t cols, int itemsize)
{
    size_t item = (size_t)itemsize, total = 0;
    ptrdiff_t width = ck_pool_row_width(p, cols), rows, taps;
#define PIECE(n, size) total += ((size_t)(n) * (size) + 63) / 64 * 64
    switch (kernel) {
    case CK_POOL_max_indices:
    case CK_POOL_min_indices:
    case CK_POOL_max_taps:
    case CK_POOL_min_taps:
        rows = p->kernel[0] * ck_pool_slots(p);
        taps = p->kernel[0] * p->kernel[1];
        PIECE(rows * (cols + CK_POOL_LINE), item);
        PIECE(rows * (cols + CK_POOL_LINE), item);
        PIECE(rows, sizeof(ptrdiff_t));
        PIECE(CK_POOL_ROWS * ck_pool_stage_width(p, cols), item);
        PIECE(p->kernel[2], sizeof(ptrdiff_t));
        PIECE(cols + CK_POOL_LINE, item);
        PIECE(taps, sizeof(void *));
        PIECE(taps, sizeof(void *));
        PIECE(taps, item);
        break;
    case CK_POOL_gather:
    case CK_POOL_scatter:
    case CK_POOL_place: break;
    case CK_POOL_taps_backward:
        rows = ck_pool_giver_slots(p, 0) * ck_pool_giver_slots(p, 1);
        PIECE(rows * ck_pool_shares(p, cols), item);
        PIECE(rows * ck_pool_shares(p, cols), item);
        PIECE(rows, sizeof(ptrdiff_t));
        PIECE(CK_POOL_ROWS * rows, 3 * sizeof(void *));
        break;
    case CK_POOL_lp_backward:
    case CK_POOL_avg_backward:
        width = ck_pool_shares(p, cols);
        for (int i = 0; i < 2 + CK_POOL_ROWS; i++) PIECE(width, item);
        break;
    default:
        if (ck_pool_in_lanes(p)) {
            PIECE(CK_POOL_LANES * (p->size[0] * p->size[1] * p->size[2] + CK_POOL_LANES), item);
            PIECE(CK_POOL_LANES * (p->out[0] * p->out[1] * p->out[2] + CK_POOL_LANES), item);
            PIECE(CK_POOL_LANES * p->size[2], item);
            PIECE(p->out[2] + CK_POOL_LINE, item);
            PIECE(p->out[2], 3 * sizeof(ptrdiff_t));
            break;
        }
        PIECE(width, item);
        PIECE(cols + CK_POOL_LINE, item);
        rows = p->kernel[0] > 1 ? CK_POOL_BEHIND : CK_POOL_ROWS;
        total += (size_t)rows * (((size_t)width * item + 63) / 64 * 64);
        rows = ck_pool_split_rows(cols) * cols + CK_POOL_LINE;
        if (p->adaptive) PIECE((1 + p->kernel[2]) * rows, item);
    }
    return total;
}
