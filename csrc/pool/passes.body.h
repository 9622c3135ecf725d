/* Forward without indices in two passes: the rows of a window are reduced into one row of scratch memory whose margins hold
 * the neutral element (`vertical`), that row by its column taps into the output (`horizontal`). Included by pool.body.h, for
 * one dtype. */

/* ---- rows of a window -> one row */

typedef struct {
    const T *x; /* the first element that counts */
    ptrdiff_t nd, nh, step_d, step_h, n; /* taps along d and h, and columns */
    double power; /* of POOL_POWER */
} CK_TYPED(rows_t);

#define ROWS CK_TYPED(rows_t)

/* `some` vectors of columns from j on, side by side, so that rows are read as they lie; `part` where the whole row is
 * shorter than a vector. What is read is added to `total` where a NaN would be overlooked. */
CK_INLINE void CK_TYPED(columns)(int op, const ROWS *r, ptrdiff_t nd, ptrdiff_t nh, ptrdiff_t j, const int some,
                                 int part, T *out, V total[4])
{
    const T *x = r->x + j;
    V acc[4], sum[4];
    CK_UNROLL for (int q = 0; q < some; q++)
    {
        sum[q] = part ? vload_part(x, r->n) : vload(x + q * L);
        acc[q] = CK_TYPED(powered)(op, sum[q], r->power);
    }
    for (ptrdiff_t d = 0; d < nd; d++)
        for (ptrdiff_t h = d == 0; h < nh; h++) {
            const T *row = x + d * r->step_d + h * r->step_h;
            CK_UNROLL for (int q = 0; q < some; q++)
            {
                const V next = part ? vload_part(row, r->n) : vload(row + q * L);
                if (POOL_NO_NAN(op)) sum[q] += next;
                acc[q] = CK_TYPED(join)(op, CK_TYPED(powered)(op, next, r->power), acc[q]);
            }
        }
    CK_UNROLL for (int q = 0; q < some; q++)
    {
        if (POOL_NO_NAN(op)) total[q] += sum[q];
        if (part)
            vstore_part(out, acc[q], r->n);
        else
            vstore(out + j + q * L, acc[q]);
    }
}

/* `rows` rows of windows into rows `pitch` apart, those of x `step` apart. */
CK_INLINE void CK_TYPED(vertical_rows)(int op, ROWS r, ptrdiff_t nd, ptrdiff_t nh, const int some, ptrdiff_t step,
                                       ptrdiff_t rows, T *out, ptrdiff_t pitch, V total[4])
{
    const ptrdiff_t last = r.n - some * L; /* the last vectors overlap those before */
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (; rows > 0; rows--, r.x += step, out += pitch) {
        if (CK_POOL_FETCHES || nd * nh > 4) CK_TYPED(fetch)(r.x, step);
        if (some == 0)
            CK_TYPED(columns)(op, &r, nd, nh, 0, 1, 1, out, sum);
        else
            for (ptrdiff_t j = 0; j < r.n; j += some * L)
                CK_TYPED(columns)(op, &r, nd, nh, j < last ? j : last, some, 0, out, sum);
    }
    CK_UNROLL for (int q = 0; q < 4; q++) total[q] = sum[q];
}

/* The operations, and the dtype, that have code of their own for the windows of most networks. */
#define OFTEN(op) (!CK_POOL_GUESSES || (sizeof(T) == 4 && (POOL_NO_NAN(op) || (op) == POOL_SUM)))

CK_INLINE void CK_TYPED(vertical_some)(int op, const ROWS *r, ptrdiff_t step, ptrdiff_t rows, T *out, ptrdiff_t pitch,
                                       V total[4])
{
    if (r->n < L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 0, step, rows, out, pitch, total);
    else if (r->n < CK_POOL_BESIDE * L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 1, step, rows, out, pitch, total);
    else if (OFTEN(op) && r->nd == 1 && r->nh == 3)
        CK_TYPED(vertical_rows)(op, *r, 1, 3, CK_POOL_BESIDE, step, rows, out, pitch, total);
    else if (OFTEN(op) && r->nd == 1 && r->nh == 2)
        CK_TYPED(vertical_rows)(op, *r, 1, 2, CK_POOL_BESIDE, step, rows, out, pitch, total);
    else if (CK_POOL_GUESSES && OFTEN(op) && r->n >= 2 * CK_POOL_BESIDE * L)
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, 2 * CK_POOL_BESIDE, step, rows, out, pitch, total);
    else
        CK_TYPED(vertical_rows)(op, *r, r->nd, r->nh, CK_POOL_BESIDE, step, rows, out, pitch, total);
}

/* ---- one row -> its windows */

/* How a sum becomes an average: times `scale`, or, where that is 0, over `row * cols[o]`; POOL_POWER then takes
 * the root. */
typedef struct {
    T scale, row;
    const T *cols;
    double power;
} CK_TYPED(mean_t);

#define MEAN CK_TYPED(mean_t)

CK_INLINE V CK_TYPED(finish)(int op, const MEAN *mean, V acc, ptrdiff_t o)
{
    if (!POOL_ADDS(op)) return acc;
    acc = mean->scale != 0 ? acc * mean->scale : acc / (vload(mean->cols + o) * mean->row);
    return op == POOL_POWER ? CK_TYPED(root)(acc, mean->power) : op == POOL_SQUARES ? CK_TYPED(square_root)(acc) : acc;
}

CK_INLINE T CK_TYPED(finish1)(int op, const MEAN *mean, T acc)
{
    if (op != POOL_SUM) return acc;
    return mean->scale != 0 ? acc * mean->scale : acc / (mean->cols[0] * mean->row);
}

CK_INLINE void CK_TYPED(deliver)(T *y, V v, ptrdiff_t left)
{
    if (left >= L)
        vstore(y, v);
    else
        vstore_part(y, v, left);
}

CK_INLINE void CK_TYPED(taps_step1)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, const MEAN *mean, T *y,
                                    ptrdiff_t n)
{
    const MEAN m = *mean; /* no store can change this one */
    for (ptrdiff_t o = 0; o < n; o += L) {
        V acc = vload(v + o);
        for (ptrdiff_t k = 1; k < kernel; k++) acc = CK_TYPED(join)(op, vload(v + o + k * dilation), acc);
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, acc, o), n - o);
    }
}

/* The even or odd lanes of two vectors, in an order that `taken` puts right: at AVX2 once for all taps. */
#if CK_VBYTES == 32
#define EVEN vquick_even
#define ODD vquick_odd
#define TAKEN(v) vordered(v)
#else
#define EVEN veven
#define ODD vodd
#define TAKEN(v) (v)
#endif

/* Stride 2: even lanes of two loads are one tap, odd lanes the next one. */
CK_INLINE void CK_TYPED(taps_step2)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, const MEAN *mean, T *y,
                                    ptrdiff_t n)
{
    const MEAN m = *mean;
    for (ptrdiff_t o = 0; o < n; o += L) {
        const T *at = v + 2 * o;
        V a = vload(at), b = vload(at + L), acc = EVEN(a, b);
        ptrdiff_t k = 1;
        if (dilation == 1 && kernel > 1) acc = CK_TYPED(join)(op, ODD(a, b), acc), k = 2;
        for (; k < kernel; k++) {
            a = vload(at + k * dilation), b = vload(at + k * dilation + L);
            acc = CK_TYPED(join)(op, EVEN(a, b), acc);
            if (dilation == 1 && k + 1 < kernel) acc = CK_TYPED(join)(op, ODD(a, b), acc), k++;
        }
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, TAKEN(acc), o), n - o);
    }
}

#if CK_POOL_GUESSES
CK_INLINE V CK_TYPED(four_taps)(int op, const T *v)
{
    const V late = CK_TYPED(join)(op, vload(v + 3), vload(v + 2));
    return CK_TYPED(join)(op, late, CK_TYPED(join)(op, vload(v + 1), vload(v)));
}

/* Stride 1, two vectors of taps or more: every eight neighbours joined once, into `eight`, then windows from those, the last
 * overlapping the one before where that changes nothing, and from single taps. For vectors of eight lanes. */
CK_INLINE void CK_TYPED(taps_long)(int op, const T *v, ptrdiff_t kernel, T *eight, const MEAN *mean, T *y, ptrdiff_t n)
{
    const MEAN m = *mean;
    const ptrdiff_t whole = POOL_ADDS(op) ? kernel / L * L : kernel, last = whole - L;
    V four = CK_TYPED(four_taps)(op, v);
    for (ptrdiff_t i = 0; i < n + last; i += L) {
        const V next = CK_TYPED(four_taps)(op, v + i + L);
        const V behind = (V)_mm256_permute2f128_pd((__m256d)four, (__m256d)next, 0x21);
        vstore(eight + i, CK_TYPED(join)(op, behind, four));
        four = next;
    }
    for (ptrdiff_t o = 0; o < n; o += L) {
        V acc = vload(eight + o);
        for (ptrdiff_t k = L; k < last; k += L) acc = CK_TYPED(join)(op, vload(eight + o + k), acc);
        acc = CK_TYPED(join)(op, vload(eight + o + last), acc);
        for (ptrdiff_t k = whole; k < kernel; k++) acc = CK_TYPED(join)(op, vload(v + o + k), acc);
        CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, &m, acc, o), n - o);
    }
}
#define LONG(op, p)                                                                                                    \
    (OFTEN(op) && sizeof(T) == 4 && (p)->stride[2] == 1 && (p)->dilation[2] == 1 && (p)->kernel[2] >= 2 * L)
#else
#define LONG(op, p) 0
#endif

/* The lanes of L vectors, each folded in a fixed tree, into one vector: every round joins the halves of two vectors in
 * one, which takes half the shuffles of a transpose. At AVX2 only the first round shuffles across halves of vectors. */
CK_INLINE V CK_TYPED(fold)(int op, V acc[L])
{
#if CK_VBYTES == 32
    CK_UNROLL for (int w = 0; w < L / 2; w++)
    {
        const __m256d a = (__m256d)acc[w], b = (__m256d)acc[w + L / 2];
        acc[w] = CK_TYPED(join)(op, (V)_mm256_permute2f128_pd(a, b, 0x31), (V)_mm256_permute2f128_pd(a, b, 0x20));
    }
    CK_UNROLL for (int w = 0; L == 8 && w < 4; w += 2)
    {
        const __m256d a = (__m256d)acc[w], b = (__m256d)acc[w + 1];
        acc[w / 2] = CK_TYPED(join)(op, (V)_mm256_unpackhi_pd(a, b), (V)_mm256_unpacklo_pd(a, b));
    }
    return CK_TYPED(join)(op, ODD(acc[0], acc[1]), EVEN(acc[0], acc[1]));
#else
    CK_UNROLL for (int half = L / 2; half > 0; half /= 2)
    {
        CK_UNROLL for (int w = 0; w < half; w++) acc[w] =
            CK_TYPED(join)(op, vziphi(acc[w], acc[w + half]), vziplo(acc[w], acc[w + half]));
    }
    return acc[0];
#endif
}

/* Windows far apart: each in vectors of its own, which are then folded together. The last one overlaps the one before
 * where that changes nothing. */
CK_INLINE void CK_TYPED(taps_apart)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t stride, const MEAN *mean, T *y,
                                    ptrdiff_t n, V total[4])
{
    const V neutral = vset1(CK_TYPED(neutral)(op));
    const int overlap = !POOL_ADDS(op) && kernel >= L;
    const ptrdiff_t whole = overlap ? kernel - L : kernel / L * L;
    ptrdiff_t off[L];
    VI ramp;
    for (int w = 0; w < L; w++) ramp[w] = w, off[w] = (w < n ? w : n - 1) * stride;
    const VI rest = (VI)(ramp < (TI)(kernel - whole));
    V sum[4] = {total[0], total[1], total[2], total[3]};
    for (ptrdiff_t o = 0; o < n; o += L) {
        const ptrdiff_t at = o + L <= n || n < L ? o : n - L; /* and so does the last vector of windows */
        const T *from = v + at * stride;
        V acc[L];
        CK_UNROLL for (int i = 0; i < L; i++)
        {
            const T *last = from + off[i] + whole;
            acc[i] = overlap ? vload(last) : vselect(rest, vload_part(last, kernel - whole), neutral);
            if (POOL_NO_NAN(op) && whole == 0) sum[i % 4] += acc[i];
        }
        for (const T *end = from + whole; from < end; from += L) CK_UNROLL for (int i = 0; i < L; i++)
            {
                V next = vload(from + off[i]);
                if (POOL_NO_NAN(op)) CK_HOLD(next); /* or it is read twice, and reading is the limit */
                if (POOL_NO_NAN(op)) sum[i % 4] = vfma(acc[i], next, sum[i % 4]);
                acc[i] = CK_TYPED(join)(op, next, acc[i]);
            }
        CK_TYPED(deliver)(y + at, CK_TYPED(finish)(op, mean, CK_TYPED(fold)(op, acc), at), n - at);
    }
    CK_UNROLL for (int i = 0; i < 4; i++) total[i] = sum[i];
}

/* Any stride: reduce at every column, as for stride 1 and without a root, then pick. */
CK_INLINE void CK_TYPED(taps_any)(int op, const T *v, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t stride, T *all,
                                  const MEAN *mean, T *y, ptrdiff_t n)
{
    MEAN none = {1, 1, mean->cols, 1};
    CK_TYPED(taps_step1)(POOL_ADDS(op) ? POOL_SUM : op, v, kernel, dilation, &none, all, (n - 1) * stride + 1);
    for (ptrdiff_t o = 0; o < n; o++) all[o] = all[o * stride];
    for (ptrdiff_t o = 0; o < n; o += L) CK_TYPED(deliver)(y + o, CK_TYPED(finish)(op, mean, vload(all + o), o), n - o);
}

/* Where the adaptive windows of a block of columns, and of `rows` rows, find their elements: lane q of tap k is element
 * index[k * pitch + q] from the first row on. */
typedef struct {
    TI *index;
    ptrdiff_t pitch, taps, rows;
} CK_TYPED(split_t);

#define SPLIT CK_TYPED(split_t)

/* `apart` is from row to row, `nothing` the place of a neutral element, for the taps that a window lacks. */
CK_INLINE SPLIT CK_TYPED(split_lanes)(const ck_pool *p, ptrdiff_t col0, ptrdiff_t n, ptrdiff_t apart, ptrdiff_t nothing,
                                      TI *index)
{
    SPLIT s = {index, ck_pool_split_rows(n) * n + CK_POOL_LINE, 0, ck_pool_split_rows(n)};
    pool_splitter at = pool_split_from(p->size[2], p->out[2], col0);
    const ptrdiff_t start = at.first;
    for (ptrdiff_t k = 0; k < p->kernel[2]; k++) memset(index + k * s.pitch, 0, (size_t)s.pitch * sizeof(TI));
    for (ptrdiff_t o = 0; o < n; o++, pool_split_next(&at)) {
        if (s.taps < at.end - at.first) s.taps = at.end - at.first;
        for (ptrdiff_t k = 0; k < p->kernel[2]; k++) {
            const ptrdiff_t place = at.first + k < at.end ? at.first + k - start : nothing;
            for (ptrdiff_t i = 0; i < s.rows; i++) index[k * s.pitch + i * n + o] = (TI)(place + i * apart);
        }
    }
    return s;
}

/* The windows of n lanes, n / rows of each row. */
CK_INLINE void CK_TYPED(split_windows)(int op, const SPLIT *s, const T *v, T *out, ptrdiff_t n)
{
    for (ptrdiff_t q = 0; q < n; q += L) {
        V acc = CK_TYPED(pool_gather)(v, CK_TYPED(load_numbers)(s->index + q));
        for (ptrdiff_t k = 1; k < s->taps; k++)
            acc =
                CK_TYPED(join)(op, CK_TYPED(pool_gather)(v, CK_TYPED(load_numbers)(s->index + k * s->pitch + q)), acc);
        CK_TYPED(deliver)(out + q, acc, n - q);
    }
}

/* The windows [first, first + n) of the `parts` that `size` elements are split into, reduced one by one; v is
 * where the first of them begins. */
CK_INLINE void CK_TYPED(split_row)(int op, const T *v, ptrdiff_t size, ptrdiff_t parts, ptrdiff_t first, T *all,
                                   ptrdiff_t n)
{
    pool_splitter at = pool_split_from(size, parts, first);
    v -= at.first;
    for (ptrdiff_t o = 0; o < n; o++, pool_split_next(&at)) {
        T acc = v[at.first];
        for (ptrdiff_t i = at.first + 1; i < at.end; i++) acc = CK_TYPED(join1)(op, v[i], acc);
        all[o] = acc;
    }
}

CK_INLINE void CK_TYPED(horizontal_row)(int op, const ck_pool *p, const T *v, T *all, const MEAN *mean, T *y,
                                        ptrdiff_t n)
{
    ptrdiff_t kernel = p->kernel[2], dilation = p->dilation[2], stride = p->stride[2];
    if (OFTEN(op) && stride == 2 && dilation == 1 && kernel == 2)
        CK_TYPED(taps_step2)(op, v, 2, 1, mean, y, n);
    else if (OFTEN(op) && stride == 2 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step2)(op, v, 3, 1, mean, y, n);
    else if (OFTEN(op) && stride == 1 && dilation == 1 && kernel == 3)
        CK_TYPED(taps_step1)(op, v, 3, 1, mean, y, n);
    else if (stride == 2)
        CK_TYPED(taps_step2)(op, v, kernel, dilation, mean, y, n);
#if CK_POOL_GUESSES
    else if (LONG(op, p))
        CK_TYPED(taps_long)(op, v, kernel, all, mean, y, n);
#endif
    else if (stride == 1)
        CK_TYPED(taps_step1)(op, v, kernel, dilation, mean, y, n);
    else if (pool_apart(p, n < L ? 32 * L / n : 32))
        CK_TYPED(taps_apart)(op, v, kernel, stride, mean, y, n, (V[4]){vset1(0)});
    else
        CK_TYPED(taps_any)(op, v, kernel, dilation, stride, all, mean, y, n);
}

CK_INLINE void CK_TYPED(horizontal_some)(int op, const ck_pool *p, const T *v, ptrdiff_t pitch, ptrdiff_t rows, T *all,
                                         const MEAN *mean, T *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        CK_TYPED(horizontal_row)(op, p, v + i * pitch, all, &mean[i], y + i * p->out[2], n);
}
