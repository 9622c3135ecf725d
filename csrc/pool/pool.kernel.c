#include "pool/pool.h"

#include <math.h>

/* GCC would make a copy of every loop for every condition in it: 44 KB of the wheel. The kernels that need one say so. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-unswitch-loops")
#endif

#include "base/simd.h"

/* POOL_POWER sums powers, then takes the root; POOL_SQUARES is that for the power 2. POOL_LARGER and POOL_SMALLER are
 * the largest and the smallest of what has no NaN. */
enum { POOL_MAX, POOL_MIN, POOL_SUM, POOL_POWER, POOL_SQUARES, POOL_LARGER, POOL_SMALLER };
#define POOL_OF_POWERS(op) ((op) == POOL_POWER || (op) == POOL_SQUARES)
#define POOL_ADDS(op) ((op) == POOL_SUM || POOL_OF_POWERS(op))
#define POOL_NO_NAN(op) ((op) == POOL_LARGER || (op) == POOL_SMALLER)
/* At AVX2 a comparison of numbers is one instruction and one with NaN three, so the first pass assumes numbers, adds up
 * what it reads to find a NaN, and the plain one goes on from there. */
#define CK_POOL_GUESSES (CK_VBYTES == 32)
enum { CK_POOL_FETCHES = CK_VBYTES != 32 };
enum { CK_POOL_BESIDE = CK_VBYTES == 32 ? 2 : 1 }; /* vectors of a row that are read at a time, or twice as many */
enum { CK_POOL_SHORT = 8 }; /* taps of windows in short rows at most */
enum { CK_POOL_ZEROED = 2048 }; /* elements that are set to zero at once where planes are small */
enum { POOL_ADD, POOL_PLACE, POOL_GATHER };
enum { CK_POOL_AHEAD = 2048 }; /* bytes; 4 KB does about the same, nothing at all costs 5 % of data beyond L2 */

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

/* Adaptive windows: part o of the `parts` that `size` elements are split into is [o * size / parts, the same for
 * o + 1 rounded up); neighbours may share an element. The other way round, these are the parts that element i
 * of `parts` lies in, if `size` is their number. */
typedef struct {
    ptrdiff_t first, end, over, step, rest, parts;
} pool_splitter;

CK_INLINE void pool_split_end(pool_splitter *s)
{
    ptrdiff_t over = s->over + s->rest;
    s->end = s->first + s->step + (over > s->parts ? 2 : over > 0);
}

CK_INLINE pool_splitter pool_split_from(ptrdiff_t size, ptrdiff_t parts, ptrdiff_t o)
{
    pool_splitter s = {o * size / parts, 0, o * size % parts, size / parts, size % parts, parts};
    pool_split_end(&s);
    return s;
}

CK_INLINE void pool_split_next(pool_splitter *s) /* one addition and one comparison instead of two divisions */
{
    s->first += s->step, s->over += s->rest;
    if (s->over >= s->parts) s->first++, s->over -= s->parts;
    pool_split_end(s);
}

/* Where window `o` begins, in the plane or in the padding before it, and where it ends. */
CK_INLINE ptrdiff_t pool_start(const ck_pool *p, int axis, ptrdiff_t o)
{
    if (p->adaptive) return pool_split_from(p->size[axis], p->out[axis], o).first;
    return o * p->stride[axis] - p->pad[axis];
}

CK_INLINE ptrdiff_t pool_end(const ck_pool *p, int axis, ptrdiff_t o)
{
    if (p->adaptive) return pool_split_from(p->size[axis], p->out[axis], o).end;
    return pool_start(p, axis, o) + ck_pool_span(p, axis);
}

/* Whether the only window along an axis holds all of it, and whether every window holds whole rows or planes. */
CK_INLINE int pool_whole(const ck_pool *p, int axis)
{
    return p->out[axis] == 1 && p->dilation[axis] == 1 && pool_start(p, axis, 0) <= 0 &&
           pool_end(p, axis, 0) >= p->size[axis];
}

CK_INLINE int pool_whole_rows(const ck_pool *p) { return pool_whole(p, 2); }
CK_INLINE int pool_whole_planes(const ck_pool *p) { return pool_whole(p, 0) && pool_whole(p, 1) && pool_whole(p, 2); }

/* Whether every window lies inside its rows. */
CK_INLINE int pool_inside_rows(const ck_pool *p)
{
    return !p->adaptive && p->pad[2] == 0 && pool_end(p, 2, p->out[2] - 1) <= p->size[2];
}

/* Whether windows hold n columns side by side, all of them inside. */
CK_INLINE int pool_side_by_side(const ck_pool *p, ptrdiff_t n)
{
    return p->kernel[2] == n && p->stride[2] == n && p->dilation[2] == 1 && pool_inside_rows(p);
}

/* Whether windows hold three rows and three columns, side by side or every second column; sums of one such only, whose
 * order a third axis would change. */
CK_INLINE int pool_three(const ck_pool *p, int sum)
{
    return !p->adaptive && p->kernel[1] == 3 && p->kernel[2] == 3 && p->dilation[1] * p->dilation[2] == 1 &&
           (p->stride[2] == 2 || (p->stride[2] == 1 && p->stride[1] == 1)) && p->pad[1] <= 1 && p->pad[2] <= 1 &&
           !(sum && p->kernel[0] > 1);
}

/* Whether such windows, of every column, lie in rows so narrow that strips down the plane beat pairs of rows, or have rows
 * joined in scratch memory; beyond L2 wide rows are read and written faster in their order. */
CK_INLINE int pool_narrow(const ck_pool *p) { return p->stride[2] == 1 && (p->size[2] <= 56 || p->kernel[0] > 1); }

/* Whether vectors for each window pay: other ways look at every column, so at taps times stride of them for each. */
CK_INLINE int pool_apart(const ck_pool *p, ptrdiff_t least)
{
    return p->dilation[2] == 1 && p->kernel[2] * p->stride[2] >= least;
}

/* Windows of whole planes or rows, or in 1-d, read as they lie, far apart. */
CK_INLINE int pool_apart_from_others(const ck_pool *p)
{
    if (pool_whole_rows(p)) return 1;
    return p->kernel[0] * p->kernel[1] == 1 && pool_apart(p, 25) && pool_inside_rows(p) && !pool_side_by_side(p, 2) &&
           !pool_side_by_side(p, 4);
}

/* Whether a row of x is one vector of eight lanes and at most another, and its windows one, of few taps. */
CK_INLINE int pool_short(const ck_pool *p)
{
    return p->size[2] >= 8 && p->size[2] <= 16 && p->out[2] <= 8 && p->kernel[2] <= CK_POOL_SHORT &&
           !pool_side_by_side(p, 2) && !pool_side_by_side(p, 4);
}

/* Whether largest and smallest are first looked for as if there were no NaN: what other kernels do has no such way, of
 * windows of four columns only one row, and of windows far apart those in float32. */
CK_INLINE int pool_numbers_first(const ck_pool *p, size_t itemsize)
{
    if (itemsize == 4 && pool_short(p) && !pool_whole_rows(p)) return 1;
    if (p->adaptive || pool_whole_rows(p) || (itemsize > 4 && pool_apart_from_others(p))) return 0;
    return !pool_side_by_side(p, 4) || p->kernel[0] * p->kernel[1] == 1;
}

/* The taps of window `o` that lie inside the plane: which is the first, where that is, and how many. */
typedef struct {
    ptrdiff_t skip, first, n;
} pool_taps;

CK_INLINE pool_taps pool_inside(const ck_pool *p, int axis, ptrdiff_t o)
{
    if (p->adaptive) {
        if (p->out[axis] == 1) return (pool_taps){0, 0, p->size[axis]}; /* a division takes its time */
        pool_splitter s = pool_split_from(p->size[axis], p->out[axis], o);
        return (pool_taps){0, s.first, s.end - s.first};
    }
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
    ptrdiff_t start = pool_start(p, axis, o), end = pool_end(p, axis, o);
    ptrdiff_t limit = p->size[axis] + (p->include_pad ? p->pad_end[axis] : 0);
    if (start < 0 && !p->include_pad) start = 0;
    return (end < limit ? end : limit) - start;
}

/* How many rows of windows from `c` on, in its plane, lie under each other with all their taps inside; 1 where it lacks
 * some. They are the same but for their place. */
CK_INLINE ptrdiff_t pool_alike(const ck_pool *p, const pool_cursor *c)
{
    const ptrdiff_t first = c->at[1] * p->stride[1] - p->pad[1], room = p->size[1] - first - ck_pool_span(p, 1);
    if (p->adaptive || first < 0 || room < 0) return 1;
    const ptrdiff_t n = room / p->stride[1] + 1, left = p->out[1] - c->at[1];
    return n < left ? n : left;
}

/* Rows of one dimension lie under each other, whatever planes they are in: as those of one plane, `rows` in all, they are
 * all alike. */
CK_INLINE ck_pool pool_under_each_other(const ck_pool *p, ptrdiff_t rows)
{
    ck_pool same = *p;
    const ptrdiff_t windows = p->kernel[0] * p->kernel[1] * p->out[0] * p->out[1];
    if (windows * p->size[0] * p->size[1] == 1 && !p->adaptive && !pool_whole_rows(p))
        same.size[1] = same.out[1] = rows, same.stride[1] = 1;
    return same;
}

/* Whether each row of windows, up to the block's last, comes from the row of x of the same number alone, all of it inside. */
CK_INLINE int pool_as_they_lie(const ck_pool *p, const ck_pool_block *b)
{
    return p->size[0] == 1 && p->size[1] == p->out[1] && b->row1 <= p->size[1] && p->kernel[0] * p->kernel[1] == 1 &&
           p->stride[1] == 1 && p->pad[1] == 0 && pool_inside_rows(p);
}

/* The windows that cover element i of the plane along one axis: [first, last], none if first > last. */
typedef struct {
    ptrdiff_t first, last;
} pool_cover;

CK_INLINE pool_cover pool_covering(const ck_pool *p, int axis, ptrdiff_t i)
{
    if (p->adaptive) {
        pool_splitter s = pool_split_from(p->out[axis], p->size[axis], i);
        return (pool_cover){s.first, s.end - 1};
    }
    ptrdiff_t at = i + p->pad[axis], step = p->stride[axis], before = at - p->kernel[axis];
    pool_cover c = {before < 0 ? 0 : before + 1, at};
    if (step == 2) /* no division unless it must be */
        c = (pool_cover){before < 0 ? 0 : (before >> 1) + 1, at >> 1};
    else if (step != 1)
        c = (pool_cover){before < 0 ? 0 : before / step + 1, at / step};
    if (c.last >= p->out[axis]) c.last = p->out[axis] - 1;
    return c;
}

/* The step of a search, the ways out of its lane numbers and the way back (pool_keep, pool_widen, pool_narrow,
 * pool_add_where, pool_bytes): where `next` is better than `best` (or NaN), keep it and the number `tap` in `at`; store the
 * numbers of the first `left` lanes as int64, or as bytes; add g where the number is `wanted`; n bytes as numbers.
 * And pool_first: the first lane in which a and b are equal, or their number; pool_gather: the elements of those numbers. */
#define KEEP(t, T, TI, VI, LANES)                                                                                      \
    CK_INLINE void pool_keep_##t(int larger, int nans, ck_##t##v next, VI tap, ck_##t##v *best, VI *at)                \
    {                                                                                                                  \
        VI wins = larger ? (VI)(next > *best) : (VI)(next < *best);                                                    \
        if (nans) wins |= (VI)(next != next);                                                                          \
        *best = ck_select_##t(wins, next, *best);                                                                      \
        *at = (tap & wins) | (*at & ~wins);                                                                            \
    }                                                                                                                  \
    CK_INLINE ptrdiff_t pool_first_##t(ck_##t##v a, ck_##t##v b)                                                       \
    {                                                                                                                  \
        VI equal = (VI)(a == b);                                                                                       \
        ptrdiff_t at = 0;                                                                                              \
        while (at < LANES && !equal[at]) at++;                                                                         \
        return at;                                                                                                     \
    }                                                                                                                  \
    CK_INLINE VI pool_few_bytes_##t(const uint8_t *p, ptrdiff_t n)                                                     \
    {                                                                                                                  \
        VI v = {0};                                                                                                    \
        for (int i = 0; i < LANES && i < n; i++) v[i] = p[i];                                                          \
        return v;                                                                                                      \
    }                                                                                                                  \
    CK_INLINE ck_##t##v pool_add_where_##t(ck_##t##v acc, ck_##t##v g, VI number, TI wanted)                           \
    {                                                                                                                  \
        return acc + (ck_##t##v)((VI)g & (VI)(number == wanted));                                                      \
    }                                                                                                                  \
    CK_INLINE ck_##t##v pool_gather_##t(const T *p, VI at)                                                             \
    {                                                                                                                  \
        T lane[LANES];                                                                                                 \
        for (int i = 0; i < LANES; i++) lane[i] = p[at[i]];                                                            \
        return ck_load_##t(lane);                                                                                      \
    }                                                                                                                  \
    CK_INLINE void pool_narrow_few_##t(uint8_t *to, VI v, ptrdiff_t left)                                              \
    {                                                                                                                  \
        for (int i = 0; i < LANES && i < left; i++) to[i] = (uint8_t)v[i];                                             \
    }                                                                                                                  \
    CK_INLINE void pool_widen_##t(int64_t *to, VI v, ptrdiff_t left)                                                   \
    {                                                                                                                  \
        TI lane[LANES];                                                                                                \
        memcpy(lane, &v, sizeof lane);                                                                                 \
        if (left >= LANES) {                                                                                           \
            CK_UNROLL for (int i = 0; i < LANES; i++) to[i] = lane[i];                                                 \
        } else                                                                                                         \
            for (ptrdiff_t i = 0; i < left; i++) to[i] = lane[i];                                                      \
    }
KEEP(f32, float, int32_t, ck_i32v, CK_F32_LANES)
KEEP(f64, double, int64_t, ck_i64v, CK_F64_LANES)

#if defined(CK_AVX2) /* lane by lane compilers take 40 instructions */
CK_INLINE ck_i32v pool_bytes_f32(const uint8_t *p, ptrdiff_t n)
{
    if (n < 8) return pool_few_bytes_f32(p, n);
    return (ck_i32v)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
CK_INLINE void pool_narrow_f32(uint8_t *to, ck_i32v v, ptrdiff_t left)
{
    if (left < 8) {
        pool_narrow_few_f32(to, v, left);
        return;
    }
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packus_epi16(words, words));
}
#else
#define pool_bytes_f32 pool_few_bytes_f32
#define pool_narrow_f32 pool_narrow_few_f32
#endif
#define pool_bytes_f64 pool_few_bytes_f64
#define pool_narrow_f64 pool_narrow_few_f64

#if CK_POOL_GUESSES
#include "pool/cells.h"
#define POOL_BY_CELLS pool_by_cells
#else
#define POOL_BY_CELLS(op, p, a, b) ((b)->row0)
#endif

#include "base/float32.h"
#include "elementwise/exp_log.h"
#include "pool/pool.body.h"
#undef ROWS
#undef MEAN
#if defined(__GNUC__) && !defined(__clang__) && CK_VBYTES > 16 /* the portable level is -Os as it is */
#pragma GCC optimize("O2") /* 10 KB of the wheel; the loops are written with vectors anyway */
#endif
#include "base/float64.h"
#include "elementwise/exp_log.h"
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
