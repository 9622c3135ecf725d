#include "pool/pool.h"

#include <math.h>

#include "base/simd.h"

enum { POOL_MAX, POOL_MIN, POOL_SUM };

/* Where an output row is: its plane, and its place along the first two axes. */
typedef struct {
    ptrdiff_t plane, at[2];
} pool_cursor;

CK_INLINE pool_cursor pool_seek(const ptrdiff_t size[3], ptrdiff_t row)
{
    ptrdiff_t rows = size[0] * size[1];
    return (pool_cursor){row / rows, {row % rows / size[1], row % size[1]}};
}

CK_INLINE void pool_next(const ptrdiff_t size[3], pool_cursor *c)
{
    if (++c->at[1] < size[1]) return;
    c->at[1] = 0;
    if (++c->at[0] < size[0]) return;
    c->at[0] = 0;
    c->plane++;
}

/* The taps of window `o` that lie inside the plane: which is the first, where that is, and how many. */
typedef struct {
    ptrdiff_t skip, first, n;
} pool_taps;

CK_INLINE pool_taps pool_inside(const ck_pool *p, int axis, ptrdiff_t o)
{
    ptrdiff_t step = p->dilation[axis], size = p->size[axis];
    pool_taps t = {0, o * p->stride[axis] - p->pad[axis], p->kernel[axis]};
    ptrdiff_t last = t.first + (t.n - 1) * step;
    if (t.first < 0) {
        t.skip = (step - 1 - t.first) / step;
        t.first += t.skip * step;
        t.n -= t.skip;
    }
    if (last >= size) t.n -= (last - size) / step + 1;
    return t;
}

/* Elements of window `o` along one axis as an average counts them. Averages have no dilation. */
CK_INLINE ptrdiff_t pool_count(const ck_pool *p, int axis, ptrdiff_t o)
{
    if (p->divisor) return 1;
    ptrdiff_t start = o * p->stride[axis] - p->pad[axis], end = start + p->kernel[axis];
    ptrdiff_t limit = p->size[axis] + (p->include_pad ? p->pad_end[axis] : 0);
    if (start < 0 && !p->include_pad) start = 0;
    return (end < limit ? end : limit) - start;
}

/* The windows that cover element i of the plane along one axis: [first, last], none if first > last. */
typedef struct {
    ptrdiff_t first, last;
} pool_cover;

CK_INLINE pool_cover pool_covering(const ck_pool *p, int axis, ptrdiff_t i)
{
    ptrdiff_t at = i + p->pad[axis], step = p->stride[axis], before = at - p->kernel[axis];
    pool_cover c = {before < 0 ? 0 : before / step + 1, at / step};
    if (c.last >= p->out[axis]) c.last = p->out[axis] - 1;
    return c;
}

CK_INLINE void deliver_indices_f32(int64_t *to, ck_i32v v, ptrdiff_t left)
{
    typedef int32_t half __attribute__((vector_size(CK_VBYTES / 2)));
    half lo, hi;
    int64_t lane[CK_F32_LANES];
    memcpy(&lo, &v, sizeof lo);
    memcpy(&hi, (const char *)&v + sizeof lo, sizeof hi);
    ck_i64v a = __builtin_convertvector(lo, ck_i64v), b = __builtin_convertvector(hi, ck_i64v);
    int64_t *p = left >= CK_F32_LANES ? to : lane;
    memcpy(p, &a, sizeof a);
    memcpy(p + CK_F32_LANES / 2, &b, sizeof b);
    if (p == lane) memcpy(to, lane, (size_t)left * sizeof *to);
}

CK_INLINE void deliver_indices_f64(int64_t *to, ck_i64v v, ptrdiff_t left)
{
    memcpy(to, &v, (size_t)(left >= CK_F64_LANES ? CK_F64_LANES : left) * sizeof *to);
}

#include "base/float32.h"
#include "pool/pool.body.h"
#undef ROWS
#undef MEAN
#include "base/float64.h"
#include "pool/pool.body.h"

#define TABLE(dtype) CK_FN(ck_pool_table_##dtype)
extern const ck_pool_kernel TABLE(f32)[CK_POOL_KERNELS], TABLE(f64)[CK_POOL_KERNELS];

#define CK_POOL_KERNEL(name) CK_FN(ck_pool_##name##_f32),
const ck_pool_kernel TABLE(f32)[CK_POOL_KERNELS] = {
#include "pool/kernels.def"
};
#undef CK_POOL_KERNEL
#define CK_POOL_KERNEL(name) CK_FN(ck_pool_##name##_f64),
const ck_pool_kernel TABLE(f64)[CK_POOL_KERNELS] = {
#include "pool/kernels.def"
};
#undef CK_POOL_KERNEL
