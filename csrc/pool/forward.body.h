/* Forward without indices: which way the windows of a task take, and the ways that need no two passes (whole rows and planes,
 * windows of two or four columns side by side). Included by pool.body.h, for one dtype. */

/* ---- windows of whole rows: one long run each */

/* Reduce n neighbours, or the squares of them, to one vector: eight vectors of partial results, folded in a fixed tree, then
 * the rest. */
CK_INLINE V CK_TYPED(run)(int op, const T *x, ptrdiff_t n)
{
    enum { WAYS = 8 };
    const V neutral = vset1(CK_TYPED(neutral)(op));
    V acc[WAYS] = {neutral};
    ptrdiff_t i = 0;
    if (n >= WAYS * L) {
        CK_UNROLL for (int w = 1; w < WAYS; w++) acc[w] = neutral;
        for (; i + WAYS * L <= n; i += WAYS * L) {
            CK_TYPED(fetch)(x + i, WAYS * L);
            CK_UNROLL for (int w = 0; w < WAYS; w++) acc[w] =
                CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(x + i + w * L), 2), acc[w]);
        }
        CK_UNROLL for (int half = WAYS / 2; half > 0; half /= 2)
        {
            CK_UNROLL for (int w = 0; w < half; w++) acc[w] = CK_TYPED(join)(op, acc[w + half], acc[w]);
        }
    }
    for (; i + L <= n; i += L) acc[0] = CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(x + i), 2), acc[0]);
    if (i == n) return acc[0];
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w;
    const V rest = vselect((VI)(ramp < (TI)(n - i)), vload_part(x + i, n - i), neutral);
    return CK_TYPED(join)(op, CK_TYPED(powered)(op, rest, 2), acc[0]);
}

CK_INLINE V CK_TYPED(whole_rows)(int op, ROWS r, ptrdiff_t width)
{
    if (r.step_h == width) r.n *= r.nh, r.nh = 1; /* rows that follow each other are one */
    if (r.nh == 1 && r.step_d == r.n) r.n *= r.nd, r.nd = 1;
    V acc = CK_TYPED(run)(op, r.x, r.n);
    for (ptrdiff_t d = 0; d < r.nd; d++)
        for (ptrdiff_t h = d == 0; h < r.nh; h++)
            acc = CK_TYPED(join)(op, CK_TYPED(run)(op, r.x + d * r.step_d + h * r.step_h, r.n), acc);
    return acc;
}

/* ---- forward */

/* Elements of each window along the columns, for averages; returns the count that all share, or 0. */
CK_INLINE ptrdiff_t CK_TYPED(column_counts)(const ck_pool *p, const ck_pool_block *b, T *counts)
{
    ptrdiff_t n = b->col1 - b->col0, first = pool_count(p, 2, b->col0), same = first;
    for (ptrdiff_t o = 0; o < n; o++) {
        ptrdiff_t count = pool_count(p, 2, b->col0 + o);
        counts[o] = (T)count;
        if (count != first) same = 0;
    }
    CK_TYPED(fill)(counts + n, L, 1);
    return same;
}

CK_INLINE MEAN CK_TYPED(mean_of_row)(int op, const ck_pool *p, const ptrdiff_t at[2], const T *counts, ptrdiff_t same)
{
    if (!POOL_ADDS(op)) return (MEAN){1, 1, counts, 1};
    ptrdiff_t row = p->divisor ? p->divisor : pool_count(p, 0, at[0]) * pool_count(p, 1, at[1]);
    ptrdiff_t all = row * same;
    if (POOL_OF_POWERS(op)) { /* what a window of fewer elements would sum to if it had all */
        T whole = (T)p->whole;
        return (MEAN){all ? whole / (T)all : 0, (T)row / whole, counts, p->power};
    }
    MEAN mean = {0, (T)row, counts, 1};
    if (all && (all & (all - 1)) == 0) mean.scale = 1 / (T)all; /* a power of two: exact */
    return mean;
}

CK_INLINE ROWS CK_TYPED(rows_of)(const ck_pool *p, const T *x, const pool_cursor *c, ptrdiff_t lo, ptrdiff_t hi)
{
    pool_taps d = pool_inside(p, 0, c->at[0]), h = pool_inside(p, 1, c->at[1]);
    ptrdiff_t W = p->size[2];
    return (ROWS){x + ((c->plane * p->size[0] + d.first) * p->size[1] + h.first) * W + lo,
                  d.n,
                  h.n,
                  p->dilation[0] * p->size[1] * W,
                  p->dilation[1] * W,
                  hi - lo,
                  p->power};
}

/* A vector of windows of K = 2 or 4 columns side by side, from window o on, read as they lie: even lanes with odd ones,
 * for 4 twice. The row has `left` more elements for them, K vectors or less. */
CK_INLINE V CK_TYPED(side_by_side)(int op, const ROWS *r, const int K, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t o,
                                   ptrdiff_t left, V total[4])
{
    V acc[4] = {vset1(0)}, sum[4] = {vset1(0)};
    for (ptrdiff_t d = 0; d < nd; d++)
        for (ptrdiff_t h = 0; h < nh; h++) {
            const T *row = r->x + d * r->step_d + h * r->step_h + K * o;
            CK_UNROLL for (int q = 0; q < K; q++)
            {
                const ptrdiff_t some = left - q * L;
                const V next = some >= L ? vload(row + q * L) : some > 0 ? vload_part(row + q * L, some) : vset1(0);
                const V value = CK_TYPED(powered)(op, next, r->power);
                acc[q] = d + h ? CK_TYPED(join)(op, value, acc[q]) : value;
                if (POOL_NO_NAN(op)) sum[q] = d + h ? sum[q] + next : next;
            }
        }
    CK_UNROLL for (int q = 0; q < K; q++)
    {
        if (POOL_NO_NAN(op)) total[q] += sum[q];
    }
    CK_UNROLL for (int half = K / 2; half > 0; half /= 2) CK_UNROLL for (int q = 0; q < half; q++)
    {
        const V a = acc[2 * q], b = acc[2 * q + 1];
        acc[q] = TAKEN(CK_TYPED(join)(op, ODD(a, b), EVEN(a, b)));
    }
    return acc[0];
}

/* `rows` rows of n such windows each, the rows of x `step` apart; `part` where n is less than a vector. */
CK_INLINE void CK_TYPED(together_some)(int op, ROWS r, const int K, ptrdiff_t nd, ptrdiff_t nh, int part,
                                       const MEAN *mean, T *y, ptrdiff_t n, ptrdiff_t step, ptrdiff_t rows,
                                       ptrdiff_t pitch, V total[4])
{
    const MEAN m = *mean;
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (; rows > 0; rows--, r.x += step, y += pitch) {
        if (CK_POOL_FETCHES) CK_TYPED(fetch)(r.x, step);
        for (ptrdiff_t i = 0; i < n; i += L) {
            const ptrdiff_t o = part ? 0 : i < n - L ? i : n - L; /* the last vector overlaps the one before */
            V v = CK_TYPED(side_by_side)(op, &r, K, nd, nh, o, part ? K * n : K * L, sum);
            v = CK_TYPED(finish)(op, &m, v, o);
            if (part)
                vstore_part(y, v, n);
            else
                vstore(y + o, v);
        }
    }
    CK_UNROLL for (int q = 0; q < 4; q++) total[q] = sum[q];
}

CK_INLINE void CK_TYPED(together_rows)(int op, const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n,
                                       ptrdiff_t rows, V total[4])
{
    const ptrdiff_t step = p->stride[1] * p->size[2], pitch = p->out[2];
    const int four = p->kernel[2] == 4, flat = r->nd == 1 && r->nh == 2;
    if (four && n < L)
        CK_TYPED(together_some)(op, *r, 4, r->nd, r->nh, 1, mean, y, n, step, rows, pitch, total);
    else if (n < L)
        CK_TYPED(together_some)(op, *r, 2, r->nd, r->nh, 1, mean, y, n, step, rows, pitch, total);
    else if (four && POOL_NO_NAN(op))
        CK_TYPED(together_some)(op, *r, 4, 1, 1, 0, mean, y, n, step, rows, pitch, total);
    else if (four)
        CK_TYPED(together_some)(op, *r, 4, r->nd, r->nh, 0, mean, y, n, step, rows, pitch, total);
    else if (flat && (OFTEN(op) || op == POOL_SQUARES))
        CK_TYPED(together_some)(op, *r, 2, 1, 2, 0, mean, y, n, step, rows, pitch, total);
    else if (OFTEN(op) && r->nd == 2 && r->nh == 2)
        CK_TYPED(together_some)(op, *r, 2, 2, 2, 0, mean, y, n, step, rows, pitch, total);
    else
        CK_TYPED(together_some)(op, *r, 2, r->nd, r->nh, 0, mean, y, n, step, rows, pitch, total);
}

/* Windows of whole rows: reduce up to L of them, from c on; returns the place behind them. */
CK_INLINE pool_cursor CK_TYPED(reduce_some)(int op, const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left,
                                            T lane[L])
{
    V acc[L];
    for (int i = 0; i < L; i++) {
        acc[i] = vset1(0);
        if (i >= left) continue;
        acc[i] = CK_TYPED(whole_rows)(op, CK_TYPED(rows_of)(p, x, &c, 0, p->size[2]), p->size[2]);
        pool_next(p->out, &c);
    }
    vstore(lane, CK_TYPED(fold)(op, acc));
    return c;
}

#define REDUCE(name, op)                                                                                               \
    CK_NOINLINE pool_cursor CK_TYPED(name)(const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left, T lane[L])     \
    {                                                                                                                  \
        return CK_TYPED(reduce_some)(op, p, x, c, left, lane);                                                         \
    }
REDUCE(reduce_largest, POOL_MAX)
REDUCE(reduce_smallest, POOL_MIN)
REDUCE(reduce_sum, POOL_SUM)
#undef REDUCE

CK_INLINE pool_cursor CK_TYPED(reduce_rows)(int op, const ck_pool *p, const T *x, pool_cursor c, ptrdiff_t left,
                                            T lane[L])
{
    if (op == POOL_MAX) return CK_TYPED(reduce_largest)(p, x, c, left, lane);
    if (op == POOL_MIN) return CK_TYPED(reduce_smallest)(p, x, c, left, lane);
    return CK_TYPED(reduce_sum)(p, x, c, left, lane);
}

/* Small whole planes, L of them vector by vector, so that no sum waits for another; lanes past `planes` mean nothing. */
CK_INLINE void CK_TYPED(small_planes)(int op, const T *x, ptrdiff_t n, ptrdiff_t planes, V acc[L])
{
    const T *from[L];
    const ptrdiff_t whole = n / L * L;
    const V neutral = vset1(CK_TYPED(neutral)(op));
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w;
    const VI rest = (VI)(ramp < (TI)(n - whole));
    CK_UNROLL for (int i = 0; i < L; i++)
    {
        from[i] = x + (i < planes ? i * n : 0);
        const V v = vload_part(from[i] + whole, n - whole);
        acc[i] = POOL_ADDS(op) ? CK_TYPED(powered)(op, v, 2) : vselect(rest, v, neutral);
    }
    for (ptrdiff_t j = 0; j < whole; j += L)
        CK_UNROLL for (int i = 0; i < L; i++) acc[i] =
            CK_TYPED(join)(op, CK_TYPED(powered)(op, vload(from[i] + j), 2), acc[i]);
}

/* Whole planes of n elements, L of them at a time. */
CK_INLINE void CK_TYPED(reduce_planes)(int op, const T *x, ptrdiff_t n, ptrdiff_t planes, const MEAN *mean, T *y)
{
    for (ptrdiff_t p = 0; p < planes; p += L) {
        V acc[L];
        if (n <= 8 * L) {
            CK_TYPED(small_planes)(op, x + p * n, n, planes - p, acc);
        } else {
            for (int i = 0; i < L; i++)
                acc[i] = p + i < planes ? CK_TYPED(run)(op, x + (p + i) * n, n) : vset1(CK_TYPED(neutral)(op));
        }
        CK_TYPED(deliver)(y + p, CK_TYPED(finish)(op, mean, CK_TYPED(fold)(op, acc), 0), planes - p);
    }
}

#include "pool/lanes.body.h"

/* Windows of whole planes or rows, or in 1-d far apart: each in vectors of its own. As `forward`; the first two are never
 * read as if there were no NaN. */
CK_INLINE ptrdiff_t CK_TYPED(forward_apart)(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,
                                            ptrdiff_t r, T *counts, ptrdiff_t same)
{
    const ptrdiff_t W = p->size[2];
    const T *x = a->in;
    T *y = (T *)a->out;
    pool_cursor c = pool_seek(p->out, r);
    if (!POOL_NO_NAN(op) && pool_whole_planes(p)) {
        const ptrdiff_t plane = p->size[0] * p->size[1] * W;
        CK_TYPED(fill)(counts, CK_POOL_LINE, POOL_ADDS(op) ? counts[0] : 1); /* every lane is a plane, not a column */
        MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        CK_TYPED(reduce_planes)(op, x + r * plane, plane, b->row1 - r, &mean, y + r);
        return b->row1;
    }
    if (!POOL_NO_NAN(op) && op != POOL_SQUARES && pool_whole_rows(p)) {
        for (; r < b->row1; r += L) {
            T lane[L];
            pool_cursor here = c;
            c = CK_TYPED(reduce_rows)(op, p, x, c, b->row1 - r, lane);
            for (int i = 0; i < L && r + i < b->row1; i++, pool_next(p->out, &here)) {
                MEAN mean = CK_TYPED(mean_of_row)(op, p, here.at, counts, same);
                y[r + i] = CK_TYPED(finish1)(op, &mean, lane[i]);
            }
        }
        return b->row1;
    }
    if (op == POOL_SQUARES) return r; /* only whole planes of those come here */
    const ptrdiff_t start = pool_start(p, 2, b->col0);
    V total[4] = {vset1(1), vset1(1), vset1(1), vset1(1)};
    for (; r < b->row1; r++, pool_next(p->out, &c)) {
        MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        const ROWS window = CK_TYPED(rows_of)(p, x, &c, start, W);
        CK_TYPED(taps_apart)(op, window.x, p->kernel[2], p->stride[2], &mean, y + b->col0 + r * p->out[2],
                             b->col1 - b->col0, total);
        if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
    }
    return r;
}

CK_INLINE void CK_TYPED(split_some)(int op, const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch,
                                    ptrdiff_t rows, T *all, const MEAN *mean, T *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < rows; i += s->rows) {
        const ptrdiff_t some = s->rows < rows - i ? s->rows : rows - i;
        const int at_once = op != POOL_SUM && n == p->out[2]; /* all that is to do */
        CK_TYPED(split_windows)(op, s, v + i * pitch, at_once ? y + i * n : all, some * n);
        for (ptrdiff_t j = 0; !at_once && j < some; j++)
            CK_TYPED(taps_step1)(op, all + j * n, 1, 1, &mean[i + j], y + (i + j) * p->out[2], n);
    }
}

/* Windows of three rows and three columns: the rows of one row of them, and where two of these share rows that of the
 * next one too: the three again, one row on. The rows of the next windows lie `step` after them. Of x there are `cols`
 * columns, before which the first window `lacks` one or none. */
typedef struct {
    const T *row[4];
    ptrdiff_t step, cols, lacks;
} CK_TYPED(three_t);

#define THREE CK_TYPED(three_t)

/* What an operation does by functions of its own: their loops have the registers to themselves. */
typedef struct {
    int op;
    void (*vertical)(const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch, V total[4]);
    void (*horizontal)(const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all, const MEAN *mean, T *y,
                       ptrdiff_t n);
    void (*together)(const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n, ptrdiff_t rows, V total[4]);
    /* of windows apart and of adaptive ones, or NULL */
    ptrdiff_t (*apart)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, ptrdiff_t r, T *counts,
                       ptrdiff_t same);
    void (*split)(const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,
                  const MEAN *mean, T *y, ptrdiff_t n);
    /* of three columns: two rows of windows at a time, and one of every second column; or NULL */
    void (*three[2])(const THREE *t, const MEAN *mean, T *y, ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t rows, V *total);
} CK_TYPED(passes_t);

#define PASSES CK_TYPED(passes_t)

#if CK_POOL_GUESSES
#include "pool/three.body.h"
#include "pool/short.body.h"
#define THREE_OF(op)                                                                                                   \
    {sizeof(T) == 4 ? CK_TYPED(three_pairs_##op) : NULL, sizeof(T) == 4 ? CK_TYPED(three_seconds_##op) : NULL}
#else
#define THREE_OF(op) {NULL}
#endif

#define MOST(op)                                                                                                       \
    static void CK_TYPED(vertical_##op)(const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch,        \
                                        V total[4])                                                                    \
    {                                                                                                                  \
        CK_TYPED(vertical_some)(op, r, step, rows, out, pitch, total);                                                 \
    }                                                                                                                  \
    static void CK_TYPED(horizontal_##op)(const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,       \
                                          const MEAN *mean, T *y, ptrdiff_t n)                                         \
    {                                                                                                                  \
        CK_TYPED(horizontal_some)(op, p, v, pitch, rows, all, mean, y, n);                                             \
    }                                                                                                                  \
    static void CK_TYPED(together_##op)(const ck_pool *p, const ROWS *r, const MEAN *mean, T *y, ptrdiff_t n,          \
                                        ptrdiff_t rows, V total[4])                                                    \
    {                                                                                                                  \
        CK_TYPED(together_rows)(op, p, r, mean, y, n, rows, total);                                                    \
    }
#define APART(op)                                                                                                      \
    static ptrdiff_t CK_TYPED(apart_##op)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b,           \
                                          ptrdiff_t r, T *counts, ptrdiff_t same)                                      \
    {                                                                                                                  \
        return CK_TYPED(forward_apart)(op, p, a, b, r, counts, same);                                                  \
    }
#define SPLIT_OF(op)                                                                                                   \
    static void CK_TYPED(split_##op)(const ck_pool *p, const SPLIT *s, const T *v, ptrdiff_t pitch, ptrdiff_t rows,    \
                                     T *all, const MEAN *mean, T *y, ptrdiff_t n)                                      \
    {                                                                                                                  \
        CK_TYPED(split_some)(op, p, s, v, pitch, rows, all, mean, y, n);                                               \
    }
#define PASSES_OF(op, ...)                                                                                             \
    MOST(op)                                                                                                           \
    static const PASSES CK_TYPED(passes_##op) = {op, CK_TYPED(vertical_##op), CK_TYPED(horizontal_##op),               \
                                                 CK_TYPED(together_##op), __VA_ARGS__};
APART(POOL_MAX)
APART(POOL_MIN)
APART(POOL_SUM)
SPLIT_OF(POOL_MAX)
SPLIT_OF(POOL_MIN)
SPLIT_OF(POOL_SUM)
PASSES_OF(POOL_MAX, CK_TYPED(apart_POOL_MAX), CK_TYPED(split_POOL_MAX), {NULL})
PASSES_OF(POOL_MIN, CK_TYPED(apart_POOL_MIN), CK_TYPED(split_POOL_MIN), {NULL})
PASSES_OF(POOL_SUM, CK_TYPED(apart_POOL_SUM), CK_TYPED(split_POOL_SUM), THREE_OF(POOL_SUM))
PASSES_OF(POOL_POWER, NULL, NULL, {NULL})
#if CK_POOL_GUESSES
APART(POOL_LARGER)
APART(POOL_SMALLER)
APART(POOL_SQUARES)
PASSES_OF(POOL_SQUARES, sizeof(T) == 4 ? CK_TYPED(apart_POOL_SQUARES) : NULL, NULL, {NULL})
PASSES_OF(POOL_LARGER, sizeof(T) == 4 ? CK_TYPED(apart_POOL_LARGER) : NULL, NULL, THREE_OF(POOL_LARGER))
PASSES_OF(POOL_SMALLER, sizeof(T) == 4 ? CK_TYPED(apart_POOL_SMALLER) : NULL, NULL, THREE_OF(POOL_SMALLER))
#endif
#undef PASSES_OF
#undef THREE_OF
#undef MOST
#undef APART
#undef SPLIT_OF

/* The windows of rows [r, b->row1); returns the row it stopped before, where POOL_NO_NAN met a NaN. */
static ptrdiff_t CK_TYPED(forward)(const PASSES *pass, const ck_pool *p, const ck_pool_arrays *a,
                                   const ck_pool_block *b, ptrdiff_t r, char *scratch)
{
    const int op = pass->op;
    const ptrdiff_t n = b->col1 - b->col0, width = ck_pool_row_width(p, n), W = p->size[2];
    const ptrdiff_t start = pool_start(p, 2, b->col0), reach = pool_end(p, 2, b->col1 - 1); /* where in x */
    const ptrdiff_t lo = start < 0 ? 0 : start, hi = reach < W ? reach : W, step = p->stride[1] * W;
    T *all = ck_pool_take(&scratch, width, sizeof(T));
    T *counts = ck_pool_take(&scratch, n + CK_POOL_LINE, sizeof(T));
    T *row[CK_POOL_ROWS];
    const T *x = a->in;
    T *y = (T *)a->out + b->col0;
    V total[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
    const ptrdiff_t same = POOL_ADDS(op) ? CK_TYPED(column_counts)(p, b, counts) : 0;
    if (pass->apart && pool_apart_from_others(p) && !(LONG(op, p) && n >= L) &&
        (op != POOL_SQUARES || pool_whole_planes(p))) {
        return pass->apart(p, a, b, r, counts, same);
    }
#if CK_POOL_GUESSES
    if (sizeof(T) == 4 && POOL_NO_NAN(op) && pool_short(p))
        return op == POOL_LARGER ? CK_TYPED(short_larger)(p, a, b, r) : CK_TYPED(short_smaller)(p, a, b, r);
    if (sizeof(T) == 4 && pass->three[0] && pool_three(p, op == POOL_SUM)) {
        if (POOL_NO_NAN(op) && pool_narrow(p) && n >= L)
            return CK_TYPED(forward_strips)(pass, p, a, b, r, (T *)(void *)scratch);
        return CK_TYPED(forward_three)(pass, p, a, b, r, counts, same, scratch);
    }
#endif
    pool_cursor c = pool_seek(p->out, r);
    if (pool_side_by_side(p, 2) || pool_side_by_side(p, 4)) {
        for (ptrdiff_t rows; r < b->row1; r += rows) {
            rows = pool_alike(p, &c);
            if (rows > b->row1 - r) rows = b->row1 - r;
            const ROWS window = CK_TYPED(rows_of)(p, x, &c, lo, hi);
            const MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            pass->together(p, &window, &mean, y + r * p->out[2], n, rows, total);
            if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
            c.at[1] += rows - 1, pool_next(p->out, &c);
        }
        return r;
    }
    for (int i = 0; i < CK_POOL_ROWS; i++) { /* column lo of x is aligned */
        row[i] = (T *)ck_pool_take(&scratch, width, sizeof(T)) + (start - lo) % L + (lo > start ? L : 0);
        CK_TYPED(fill)(row[i], lo - start, CK_TYPED(neutral)(op));
        CK_TYPED(fill)(row[i] + hi - start, width - (hi - start) - L, CK_TYPED(neutral)(op));
    }
    const ptrdiff_t pitch = row[1] - row[0];
    SPLIT split = {NULL, 0, 0, 0};
    T *split_all = NULL;
    if (p->adaptive) {
        split_all = ck_pool_take(&scratch, ck_pool_split_rows(n) * n + CK_POOL_LINE, sizeof(T));
        split = CK_TYPED(split_lanes)(p, b->col0, n, pitch, hi - start, (TI *)(void *)scratch);
    }
    if (sizeof(T) == 4 && pool_as_they_lie(p, b) && (op == POOL_SUM || op == POOL_MAX || op == POOL_MIN)) {
        const ptrdiff_t safe =
            b->row1 - (start + width + W - 1) / W; /* what is read past a row is in the rows behind */
        const MEAN mean = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
        for (; r < safe; r++) pass->horizontal(p, x + r * W + start, W, 1, all, &mean, y + r * p->out[2], n);
        c = pool_seek(p->out, r);
    }
    /* Some rows at a time: a load of what several stores have just written would have to wait for them. */
    for (ptrdiff_t rows; r < b->row1; r += rows) {
        const ptrdiff_t most = b->row1 - r < CK_POOL_ROWS ? b->row1 - r : CK_POOL_ROWS;
        MEAN mean[CK_POOL_ROWS];
        for (rows = 0; rows < most;) {
            ptrdiff_t alike = pool_alike(p, &c);
            if (alike > most - rows) alike = most - rows;
            const ROWS window = CK_TYPED(rows_of)(p, x, &c, lo, hi);
            mean[rows] = CK_TYPED(mean_of_row)(op, p, c.at, counts, same);
            for (ptrdiff_t i = 1; i < alike; i++) mean[rows + i] = mean[rows];
            pass->vertical(&window, step, alike, row[rows] + lo - start, pitch, total);
            rows += alike, c.at[1] += alike - 1, pool_next(p->out, &c);
        }
        if (POOL_NO_NAN(op) && CK_TYPED(any_nan)(total)) break;
        T *to = y + r * p->out[2];
        if (p->adaptive)
            pass->split(p, &split, row[0], pitch, rows, split_all, mean, to, n);
        else
            pass->horizontal(p, row[0], pitch, rows, all, mean, to, n);
    }
    return r;
}

/* Where it is worth a try, `guess` comes first. */
#define FORWARD(name, op, guess, worth)                                                                                \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        ptrdiff_t row = b->row0;                                                                                       \
        if (ck_pool_in_lanes(p)) {                                                                                     \
            CK_TYPED(forward_in_lanes)(op, p, a, b, s);                                                                \
            return 1;                                                                                                  \
        }                                                                                                              \
        const ck_pool under = pool_under_each_other(p, b->row1);                                                       \
        p = &under;                                                                                                    \
        if (worth) row = CK_TYPED(forward)(&CK_TYPED(passes_##guess), p, a, b, row, s);                                \
        if (row < b->row1) CK_TYPED(forward)(&CK_TYPED(passes_##op), p, a, b, row, s);                                 \
        return 1;                                                                                                      \
    }
#if CK_POOL_GUESSES
FORWARD(ck_pool_max, POOL_MAX, POOL_LARGER, pool_numbers_first(p, sizeof(T)))
FORWARD(ck_pool_min, POOL_MIN, POOL_SMALLER, pool_numbers_first(p, sizeof(T)))
FORWARD(ck_pool_lp, POOL_POWER, POOL_SQUARES, p->power == 2)
#else
FORWARD(ck_pool_max, POOL_MAX, POOL_MAX, 0)
FORWARD(ck_pool_min, POOL_MIN, POOL_MIN, 0)
FORWARD(ck_pool_lp, POOL_POWER, POOL_POWER, 0)
#endif
FORWARD(ck_pool_avg, POOL_SUM, POOL_SUM, 0)
#undef FORWARD
