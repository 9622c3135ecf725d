/* Compiled once per dtype by depthwise.kernel.c, for AVX2: one plane per group, kernels square in their last two axes,
 * rows of stride 1 or 2, in place.
 *
 * A strip of N vectors of columns is walked from its first row to its last. Every input row is loaded once and feeds
 * the output rows that see it, whose sums move up one place per row and leave at the top. Where a kernel has more
 * rows than the registers have sums for, or several of them in depth, a band of rows is walked once for each part of
 * its taps: sums wait in a buffer and go on from there, tap by tap in the same order. Rows are found in a table, in
 * which those outside the source are zeros. Masked loads cost what others do, masked stores a dozen times that: the
 * last strip of a row overlaps the one before it. Only the first taps of the first vector, and the last ones of the
 * last, see lanes outside; where padding is deeper than half a kernel, a vector at each end of the row has every tap
 * masked. The plan asks for rows that are long enough, or so short that one vector holds them. */

enum { CK_TYPED(most_kernel) = 7, CK_TYPED(most_vectors) = 4 };

typedef struct {
    const T *const *rows; /* column 0 of what tap 0 of the first output row sees, and of all rows below it */
    ptrdiff_t column, far,
        dilation; /* that the first vector begins at, from there to the last one, and from tap to tap */
    const T *skipped; /* rows of zeros if they need not be added, or NULL */
    VL lanes[CK_TYPED(most_kernel) +
             1]; /* that taps before K / 2 see of the first vector, and others of the last one */
    ptrdiff_t of_column, of_far; /* the strip that they belong to */
    const T *from; /* the sums of the part before, rows `across` elements apart, or NULL */
    T *y, *nowhere; /* where the sums go, and where those that belong to no output row */
    ptrdiff_t across, y_row, y_far, count;
    const T *w; /* of this part */
    const ck_finish *finish; /* of the last part, or NULL */
    T bias[L];
} CK_TYPED(strip);

/* acc += a * b, here and now: in an order of its own GCC needs more than 16 registers. */
CK_INLINE void CK_TYPED(add_product)(V *acc, V a, V b)
{
    if (sizeof(T) == 4)
        __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(*acc) : "x"(a), "x"(b));
    else
        __asm__ volatile("vfmadd231pd %2, %1, %0" : "+x"(*acc) : "x"(a), "x"(b));
}

/* What tap s of a row, if S is 2 the next one too, sees of vector v. At an edge any tap may see lanes outside. */
CK_INLINE void CK_TYPED(load_taps)(const T *x, const VL *lanes, const int s, const int K, const int S, const int first,
                                   const int last, const int edge, V pixels[2])
{
    const int masked = edge || (first && s < K / 2) || (S == 1 && last && s > K / 2);
    V near = masked ? vload_lanes(x, *lanes) : vload(x);
    pixels[0] = near;
    if (S == 1) CK_HOLD(pixels[0]);
    if (S == 2) {
        V far = last && s >= K / 2 ? vload_lanes(x + L, *lanes) : vload(x + L);
        if (s + 1 < K) CK_HOLD(far); /* or it is read once, by the shuffle */
        pixels[0] = vquick_even(near, far);
        pixels[1] = vquick_odd(near, far);
    }
}

/* H rows of K taps. */
CK_INLINE void CK_TYPED(walk)(const CK_TYPED(strip) * t, const int H, const int K, const int S, const int N,
                              const int edge)
{
    enum { MOST = CK_TYPED(most_kernel), VECTORS = CK_TYPED(most_vectors) };
    const int A = (H + S - 1) / S; /* output rows that one input row feeds */
    /* weights that a vector of pixels meets stay in registers, and vectors come one by one; or the other way round */
    const int held = A < N, parts = held ? N : 1;
    const ptrdiff_t column = t->column, far = t->far, y_far = t->y_far, y_row = t->y_row, across = t->across;
    const ptrdiff_t dilation = S == 1 ? t->dilation : 1;
    const T *const skipped = t->skipped, *const w = t->w;
    const ck_finish *const finish = t->finish;
    /* pointers and no counter, which GCC would make two loops of, and spill in both */
    const T *const *rows = t->rows, *const *const full = rows + (A - 1) * S, *const *const end = full + t->count * S;
    const T *from = t->from;
    T *y = t->y - (A - 1) * y_row;
    V acc[MOST * VECTORS];
    CK_UNROLL for (int i = 0; i < A * N; i++) acc[i] = (V){0};
    do {
        CK_UNROLL for (int v = 0; v < N; v++) acc[v] = (V){0};
        __asm__("" : "+r"(from)); /* or there would be two loops again */
        if (from) {
            CK_UNROLL for (int v = 0; v < N; v++)
            {
                V sum = vload(from + (v < N - 1 ? v * L : y_far));
                acc[v] = S == 2 ? vordered(sum) : sum;
            }
            from += across;
        }
        CK_UNROLL for (int r = 0; r < S; r++)
        {
            const T *x = rows[r];
            if (K > 3 && x == skipped) continue;
            x += column;
            CK_UNROLL for (int s = 0; s < K; s += S, x += S * dilation)
            {
                V pixels[VECTORS][2], weights[MOST][2];
                const int taps = s + S < K ? S : K - s;
                if (held) CK_UNROLL for (int k = r; k < H; k += S) CK_UNROLL for (int j = 0; j < taps; j++)
                    {
                        weights[k][j] = vset1(w[k * K + s + j]);
                        CK_HOLD(weights[k][j]);
                    }
                CK_UNROLL for (int u = 0; u < parts; u++)
                {
                    const int first = held ? u : 0, last = held ? u + 1 : N;
                    CK_UNROLL for (int v = first; v < last; v++) CK_TYPED(load_taps)(
                        x + (v < N - 1 ? v * S * L : far), t->lanes + s, s, K, S, v == 0, v == N - 1, edge, pixels[v]);
                    CK_UNROLL for (int j = 0; j < taps; j++) CK_UNROLL for (int k = r; k < H; k += S)
                    {
                        V weight = held ? weights[k][j] : vset1(w[k * K + s + j]);
                        CK_UNROLL for (int v = first; v < last; v++)
                            CK_TYPED(add_product)(acc + k / S * N + v, weight, pixels[v][j]);
                    }
                }
            }
        }
        T *out = rows < full ? t->nowhere : y;
        const ptrdiff_t away = rows < full ? 0 : y_far;
        V *const sums = acc + (A - 1) * N;
        CK_UNROLL for (int v = 0; v < N; v++) sums[v] += vload(t->bias); /* no register is left to hold it */
        CK_TYPED(limit_sums)(finish, sums, N);
        CK_UNROLL for (int v = 0; v < N; v++)
            vstore(out + (v < N - 1 ? v * L : away), S == 2 ? vordered(sums[v]) : sums[v]);
        CK_UNROLL for (int j = A * N - 1; j >= N; j--) acc[j] = acc[j - N];
        rows += S, y += y_row;
    } while (rows != end);
}

/* What a pair of input rows adds at one vector of columns: to the sum that waits, which it completes, and to the next. */
CK_INLINE void CK_TYPED(add_pair)(const CK_TYPED(strip) * t, const ck_finish *finish, const V weights[9],
                                  const T *const x[2], const T *from, T *waits, T *y, const int first, const int last)
{
    V sum = vload(waits), next = (V){0};
    if (__builtin_expect(from != NULL, 0)) next = vordered(vload(from));
    CK_UNROLL for (int r = 0; r < 2; r++)
    {
        V pixels[4];
        CK_TYPED(load_taps)(x[r], t->lanes, 0, 3, 2, first, last, 0, pixels);
        CK_TYPED(load_taps)(x[r] + 2, t->lanes + 2, 2, 3, 2, first, last, 0, pixels + 2);
        CK_UNROLL for (int s = 0; s < 3; s++)
        {
            if (r == 0) CK_TYPED(add_product)(&sum, weights[6 + s], pixels[s]);
            CK_TYPED(add_product)(&next, weights[3 * r + s], pixels[s]);
        }
        if (r > 0) continue;
        sum += vload(t->bias);
        CK_TYPED(limit_sums)(finish, &sum, 1);
        vstore(y, vordered(sum));
    }
    vstore(waits, next);
}

/* Three rows of three taps, stride 2, and rows of more than one strip: pairs of input rows in memory order, whole. The
 * sums that a pair begins wait for the next in `nowhere`; those that the first pair completes belong to no row, and go
 * where the first row will. */
CK_NOINLINE void CK_TYPED(walk_pairs)(const CK_TYPED(strip) * t)
{
    const ck_finish *const finish = t->finish;
    const ptrdiff_t end = t->y_far, column = t->column, y_row = t->y_row, across = t->across;
    const T *const *rows = t->rows, *const *const last = rows + 2 * t->count, *from = t->from;
    T *const waits = t->nowhere, *y = t->y - y_row;
    V weights[9];
    CK_UNROLL for (int k = 0; k < 9; k++)
    {
        weights[k] = vset1(t->w[k]);
        CK_HOLD(weights[k]);
    }
    do {
        const T *x[2] = {rows[0] + column, rows[1] + column};
        T *const to = rows == t->rows ? t->y : y;
        CK_TYPED(add_pair)(t, finish, weights, x, from, waits, to, 1, 0);
        ptrdiff_t q = L;
        for (x[0] += 2 * L, x[1] += 2 * L; q < end; q += L, x[0] += 2 * L, x[1] += 2 * L)
            CK_TYPED(add_pair)(t, finish, weights, x, from ? from + q : NULL, waits + q, to + q, 0, 0);
        x[0] -= 2 * (q - end), x[1] -= 2 * (q - end);
        CK_TYPED(add_pair)(t, finish, weights, x, from ? from + end : NULL, waits + q, to + end, 0, 1);
        from += from ? across : 0;
        y += y_row;
        rows += 2;
    } while (rows <= last);
}

/* Rows of taps in a part of a kernel: the first, and the second if there is one. */
#define CK_FIRST(K, S) ((K) == 7 && (S) == 1 ? 4 : (K))
/* Vectors of a strip that fill the registers, and of the narrowest one there is. */
#define CK_WIDE(H) ((H) == 3 ? 4 : (H) == 4 ? 3 : 2)
#define CK_NARROW(H, K) ((H) == 3 && (K) > 3 ? 3 : 2)

#define CK_WALK(H, K, S, N)                                                                                            \
    CK_NOINLINE void CK_TYPED(walk_##H##_##K##_##S##_##N)(const CK_TYPED(strip) * t)                                   \
    {                                                                                                                  \
        if (N >= CK_NARROW(H, K) && N <= CK_WIDE(H)) CK_TYPED(walk)(t, H, K, S, N, 0);                                 \
    }
#define CK_WALKS(H, K, S)                                                                                              \
    CK_WALK(H, K, S, 2)                                                                                                \
    CK_WALK(H, K, S, 3)                                                                                                \
    CK_WALK(H, K, S, 4)                                                                                                \
    CK_NOINLINE void CK_TYPED(edge_##H##_##K##_##S)(const CK_TYPED(strip) * t)                                         \
    {                                                                                                                  \
        if (S == 1) CK_TYPED(walk)(t, H, K, S, 1, 1);                                                                  \
    }
#define CK_NAMES(H, K, S)                                                                                              \
    {CK_TYPED(edge_##H##_##K##_##S), NULL, CK_TYPED(walk_##H##_##K##_##S##_2), CK_TYPED(walk_##H##_##K##_##S##_3),     \
     CK_TYPED(walk_##H##_##K##_##S##_4)}
CK_WALKS(3, 3, 1)
CK_WALKS(3, 3, 2)
CK_WALKS(5, 5, 1)
CK_WALKS(4, 7, 1)
CK_WALKS(3, 7, 1)
CK_WALKS(5, 5, 2)
CK_WALKS(7, 7, 2)
/* [kernel / 2 - 1][stride - 1][first or second part of the rows of taps][vectors, or 0 for an edge] */
typedef void (*CK_TYPED(walk_of))(const CK_TYPED(strip) *);
static const CK_TYPED(walk_of)
    CK_TYPED(walks_of)[][2][2][5] = {{{CK_NAMES(3, 3, 1)}, {CK_NAMES(3, 3, 2)}},
                                     {{CK_NAMES(5, 5, 1)}, {CK_NAMES(5, 5, 2)}},
                                     {{CK_NAMES(4, 7, 1), CK_NAMES(3, 7, 1)}, {CK_NAMES(7, 7, 2)}}};
/* One vector of columns from q on, where padding is deeper than strips allow. */
CK_INLINE void CK_TYPED(sum_edge)(const ck_depthwise *g, CK_TYPED(strip) t, ptrdiff_t q, const int K,
                                  CK_TYPED(walk_of) walk)
{
    t.y += q;
    t.from += t.from ? q : 0;
    t.y_far = t.far = 0;
    t.column = q - g->lo[2];
    for (int s = 0; s < K; s++) {
        const ptrdiff_t at = t.column + s * t.dilation;
        t.lanes[s] = vlanes(CK_TYPED(lane)(-at), CK_TYPED(lane)(g->source[2] - at));
    }
    walk(&t);
}

/* Columns at an end of a row that strips leave to an edge: of their first vector only taps before K / 2 see padding. */
CK_INLINE ptrdiff_t CK_TYPED(edge_columns)(ptrdiff_t padding, const int K, const int S, ptrdiff_t dilation)
{
    const ptrdiff_t most = CK_TYPED(least)(K / 2 * dilation, L);
    return S == 1 && padding > most ? padding - most : 0;
}

/* Strips over the columns of the output rows that t holds, for H rows of taps. */
CK_INLINE void CK_TYPED(sum_columns)(const ck_depthwise *g, CK_TYPED(strip) * t, const int H, const int K, const int S,
                                     const CK_TYPED(walk_of) walks[5])
{
    const ptrdiff_t width = g->source[2], behind = g->target[2] - 1 + (K - 1) * t->dilation - g->lo[2] - (width - 1);
    const ptrdiff_t before = CK_TYPED(edge_columns)(g->lo[2], K, S, t->dilation);
    const ptrdiff_t end = g->target[2] - CK_TYPED(edge_columns)(behind, K, S, t->dilation), across = end - before;
    T *const y = t->y;
    const T *const from = t->from;
    if (before) CK_TYPED(sum_edge)(g, *t, 0, K, walks[0]);
    if (end < g->target[2]) CK_TYPED(sum_edge)(g, *t, g->target[2] - L, K, walks[0]);
    /* strips of nearly the same width; no vector between the first and the last may see lanes outside */
    const ptrdiff_t vectors = (across + L - 1) / L, crowded = (vectors - 1) * L + K / 2 * t->dilation > across;
    const ptrdiff_t fit = (vectors + CK_WIDE(H) - 1) / CK_WIDE(H);
    const int pairs = K == 3 && S == 2 && fit > 1;
    const ptrdiff_t strips = pairs ? 1 : fit == 1 && crowded ? 2 : fit;
    for (ptrdiff_t i = 0, q = before, N, pixels; i < strips; i++, q += pixels) {
        N = (vectors + strips - 1 - i) / strips;
        if (N < CK_NARROW(H, K)) N = CK_NARROW(H, K);
        pixels = CK_TYPED(least)(across, N * L);
        q = CK_TYPED(least)(q, end - pixels);
        t->y = y + q;
        t->from = from ? from + q : NULL;
        t->y_far = pixels - L;
        t->far = t->y_far * S;
        t->column = q * S - g->lo[2];
        for (int s = 0; s < K && (t->of_column != t->column || t->of_far != t->far); s += S) {
            const ptrdiff_t at = t->column + s * t->dilation, right = at + t->far + (S - 1) * L;
            t->lanes[s] = s < K / 2 ? vlanes(CK_TYPED(lane)(-at), L) : vlanes(0, CK_TYPED(lane)(width - right));
        }
        t->of_column = t->column, t->of_far = t->far;
        (pairs ? CK_TYPED(walk_pairs) : walks[N])(t);
    }
}

CK_INLINE int CK_TYPED(all_finite)(const T *w, ptrdiff_t n)
{
    V z = {0};
    for (ptrdiff_t i = 0; i < n; i += L) z = vfma(vload_part(w + i, CK_TYPED(least)(n - i, L)), (V){0}, z);
    return vsum(z) == 0;
}

/* One band of output rows, t's, for one part of the taps after the other: x is row 0 of the plane in depth that the
 * first tap sees, `z` of the source's, and `row` the row of it. */
CK_INLINE void CK_TYPED(sum_band)(const ck_depthwise *g, CK_TYPED(strip) * t, const T *x, const T *zeros, const T *w,
                                  ptrdiff_t z, ptrdiff_t row, const int K, const int S)
{
    enum { MOST = CK_TYPED(most_kernel), TAIL = CK_TYPED(most_vectors) * L };
    const ptrdiff_t width = g->source[2], height = g->source[1], step = g->dilation[1], across = g->target[2];
    const ptrdiff_t halves = CK_FIRST(K, S) < K ? 2 : 1, parts = g->w_filter / (K * K) * halves, y_row = t->y_row;
    const T **const table = (const T **)(t->nowhere + (across + TAIL) / L * L);
    T *const y = t->y, *sums = (T *)(table + (t->count + MOST) * S), *others = sums + (t->count + MOST) * across;
    const V bias = vload(t->bias);
    t->rows = table;
    t->from = NULL;
    for (ptrdiff_t part = 0; part < parts; part++) {
        const int H = part % halves ? K - CK_FIRST(K, S) : CK_FIRST(K, S);
        const int inside = (size_t)z < (size_t)g->source[0], last = part == parts - 1;
        for (ptrdiff_t k = 0, at = row; k < (t->count + (H + S - 1) / S - 1) * S; k++, at += step)
            table[k] = inside && (size_t)at < (size_t)height ? x + at * width : zeros;
        t->w = w;
        t->y = last ? y : sums;
        t->y_row = last ? y_row : across;
        t->finish = last ? g->finish : NULL;
        vstore(t->bias, last ? bias : vset1((T)-0.0)); /* which changes nothing */
        CK_TYPED(sum_columns)(g, t, H, K, S, CK_TYPED(walks_of)[K / 2 - 1][S - 1][part % halves]);
        t->from = sums;
        sums = others, others = (T *)t->from;
        w += H * K;
        row += H * step;
        if (part % halves < halves - 1) continue;
        row -= K * step;
        z += g->dilation[0];
        x += g->dilation[0] * height * width;
    }
}

/* What an input row adds to the sums that rows [from, to) of 3 x 3 taps see it for: acc[k] is the one of row k. */
CK_INLINE void CK_TYPED(add_row)(V *acc, const V weights[9], const T *row, const VL lanes[3], ptrdiff_t far,
                                 const int from, const int to, const int N)
{
    CK_UNROLL for (int s = 0; s < 3; s++) CK_UNROLL for (int v = 0; v < N; v++)
    {
        const T *x = row + s + v * far;
        V pixels = N == 1 || s == 2 * v ? vload_lanes(x, lanes[s]) : vload(x);
        CK_HOLD(pixels);
        CK_UNROLL for (int k = to - 1; k >= from; k--)
            CK_TYPED(add_product)(acc + k * N + v, weights[3 * k + s], pixels);
    }
}

/* Sums move up one row of taps, and new ones begin. */
CK_INLINE void CK_TYPED(move_up)(V *acc, const int N)
{
    CK_UNROLL for (int k = 3 * N - 1; k >= N; k--) acc[k] = acc[k - N];
    CK_UNROLL for (int v = 0; v < N; v++) acc[v] = (V){0};
}

/* Stores the row of sums that is complete, the last ones of a call by parts. */
CK_INLINE void CK_TYPED(store_row)(T *y, const T *safe, V *sums, const T *bias, const ck_finish *finish, ptrdiff_t far,
                                   ptrdiff_t across, T *part, const int N)
{
    CK_UNROLL for (int v = 0; v < N; v++)
    {
        V sum = sums[v] + vload(bias);
        CK_TYPED(limit_sums)(finish, &sum, 1);
        if (N == 2 || __builtin_expect(y <= safe, 1)) {
            vstore(y + v * far, sum);
            continue;
        }
        vstore(part, sum); /* vstore_part is more code, for every row */
        memcpy(y, part, (size_t)across * sizeof(T));
    }
}

/* Planes of 3 x 3 taps, stride 1, whose rows N vectors hold; a unit is a plane. The second vector overlaps the first, and
 * only its last tap and the first tap of the first see lanes outside. A row in one vector is stored with lanes that belong
 * to the next one, of the next plane too, which is stored after it; the last rows of all by parts. Of the first two
 * rows and the last only taps that belong to an output row are added. `finish` is g's or NULL: where nothing follows,
 * asking would take a tenth of the time. */
CK_INLINE void CK_TYPED(walk_planes)(const ck_depthwise *g, const T *source, const T *w, const T *bias, T *target,
                                     ptrdiff_t first, ptrdiff_t last, T *scratch, const ck_finish *finish, const int N)
{
    enum { AHEAD = 256 / sizeof(T) };
    const ptrdiff_t width = g->source[2], height = g->source[1], across = g->target[2], rows = g->target[1];
    const ptrdiff_t top = -g->lo[1], groups = g->groups, reversed = g->reversed, far = N == 1 ? 0 : across - L;
    T *const bias_of = scratch + 4 * L, *const part = bias_of + L, *const rotated = part + L;
    const T *const zeros = scratch + L - g->lo[2], *const safe = target + last * rows * across - L;
    ptrdiff_t group = first % groups;
    const T *x = source + (first * height + top) * width - g->lo[2];
    T *y = target + first * rows * across;
    VL lanes[3];
    memset(scratch, 0, (size_t)(5 * L) * sizeof(T));
    CK_UNROLL for (int s = 0; s < 3; s++)
    {
        const ptrdiff_t at = s - g->lo[2] + (s == 2 ? far : 0);
        lanes[s] = vlanes(CK_TYPED(lane)(-at), CK_TYPED(lane)(width - at));
    }
    for (ptrdiff_t i = first; i < last; i++, x += (height - rows - 2) * width) {
        const T *own = w + group * 9;
        V weights[9], acc[6];
        if (reversed) {
            CK_UNROLL for (int k = 0; k < 9; k++) rotated[k] = own[8 - k];
            own = rotated;
        }
        __asm__("" : "+r"(own)); /* or elements that are loaded for either would be spread one by one */
        CK_UNROLL for (int k = 0; k < 9; k++)
        {
            weights[k] = vset1(own[k]);
            CK_HOLD(weights[k]);
        }
        if (bias) vstore(bias_of, vset1(bias[group]));
        group = group + 1 < groups ? group + 1 : 0;
        CK_UNROLL for (int k = 0; k < 3 * N; k++) acc[k] = (V){0};
        ptrdiff_t r = top;
#define CK_ROW (x += width, (size_t)r++ < (size_t)height ? x - width : zeros)
        CK_TYPED(add_row)(acc, weights, CK_ROW, lanes, far, 0, 1, N);
        CK_TYPED(move_up)(acc, N);
        CK_TYPED(add_row)(acc, weights, CK_ROW, lanes, far, 0, 2, N);
        while (CK_TYPED(move_up)(acc, N), r <= top + rows) {
            CK_TYPED(add_row)(acc, weights, CK_ROW, lanes, far, 0, 3, N);
            CK_TYPED(store_row)(y, safe, acc + 2 * N, bias_of, finish, far, across, part, N);
            y += across;
            if (N > 1) continue; /* two vectors need no help */
            __builtin_prefetch(x + AHEAD, 0, 3);
            __builtin_prefetch(y + AHEAD, 1, 3);
        }
        CK_TYPED(add_row)(acc, weights, CK_ROW, lanes, far, 2, 3, N);
        CK_TYPED(store_row)(y, safe, acc + 2 * N, bias_of, finish, far, across, part, N);
        y += across;
#undef CK_ROW
    }
}
#define CK_PLANES(N)                                                                                                   \
    CK_NOINLINE void CK_TYPED(planes_##N)(const ck_depthwise *g, const T *source, const T *w, const T *bias,           \
                                          T *target, ptrdiff_t first, ptrdiff_t last, T *scratch)                      \
    {                                                                                                                  \
        CK_TYPED(walk_planes)(g, source, w, bias, target, first, last, scratch, NULL, N);                              \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(finished_##N)(const ck_depthwise *g, const T *source, const T *w, const T *bias,         \
                                            T *target, ptrdiff_t first, ptrdiff_t last, T *scratch)                    \
    {                                                                                                                  \
        if (CK_TYPED(finishes) && g->finish)                                                                           \
            CK_TYPED(walk_planes)(g, source, w, bias, target, first, last, scratch, g->finish, N);                     \
    }
CK_PLANES(1)
CK_PLANES(2)
#undef CK_PLANES

/* Whether two vectors hold a row of planes of 3 x 3 taps. */
CK_INLINE int CK_TYPED(two_hold)(const ck_depthwise *g, const int K, const int S)
{
    return K == 3 && S == 1 && g->w_filter == 9 && g->dilation[1] == 1 && g->dilation[2] == 1 && g->target[0] == 1 &&
           g->blocks[1] == 1 && g->target[2] <= 2 * L && g->lo[2] <= 1 && g->lo[2] >= 0 &&
           g->target[2] + 1 - g->lo[2] <= g->source[2];
}

/* The unit that follows, without divisions. */
CK_INLINE void CK_TYPED(step_unit)(const ck_depthwise *g, CK_TYPED(unit) * u)
{
    for (int axis = 2; axis >= 0; axis--) {
        u->origin[axis] += g->block[axis];
        if (u->origin[axis] < g->blocks[axis] * g->block[axis]) return;
        u->origin[axis] = 0;
    }
    if (++u->group == g->groups) u->group = 0, u->image++;
}

/* All planes of units [first, last); a unit is a block of slabs and rows. One for all kernels: a dozen took 50 KB. */
CK_NOINLINE void CK_TYPED(sum_rows)(const ck_depthwise *g, const T *source, const T *w, const T *bias, T *target,
                                    ptrdiff_t first, ptrdiff_t last, T *scratch)
{
    const int K = (int)g->phase->across, S = (int)g->source_step[2];
    if (g->target[2] <= L) {
        (g->finish ? CK_TYPED(finished_1) : CK_TYPED(planes_1))(g, source, w, bias, target, first, last, scratch);
        return;
    }
    if (CK_TYPED(two_hold)(g, K, S)) {
        (g->finish ? CK_TYPED(finished_2) : CK_TYPED(planes_2))(g, source, w, bias, target, first, last, scratch);
        return;
    }
    const ptrdiff_t width = g->source[2], plane = g->source[1] * width, across = g->target[2], step = g->dilation[1];
    const ptrdiff_t padded = (2 * g->lo[2] + width + 2 * S * L + (K - 1) * g->dilation[2] + L - 1) / L * L;
    const ptrdiff_t fit = CK_DEPTHWISE_BAND / (S * width * (ptrdiff_t)sizeof(T)), band = fit > 8 ? fit : 8;
    T rotated[CK_DEPTHWISE_CUBE], *const zeros = scratch + g->lo[2];
    memset(scratch, 0, (size_t)padded * sizeof(T));
    CK_TYPED(strip)
    t = {.dilation = g->dilation[2],
         .of_column = PTRDIFF_MIN,
         .nowhere = scratch + padded,
         .across = across,
         .y_row = step * across};
    CK_TYPED(unit) u = CK_TYPED(unit_at)(g, first);
    for (ptrdiff_t i = first; i < last; i++, CK_TYPED(step_unit)(g, &u)) {
        const ptrdiff_t channel = u.image * g->groups + u.group, top = u.origin[1], taps = g->w_filter;
        const ptrdiff_t rows = CK_TYPED(least)(g->block[1], g->target[1] - top);
        const ptrdiff_t slabs = CK_TYPED(least)(g->block[0], g->target[0] - u.origin[0]);
        const T *own = w + u.group * taps;
        if (g->reversed) {
            for (int k = 0; k < taps; k++) rotated[k] = own[taps - 1 - k];
            own = rotated;
        }
        t.skipped = K > 3 && CK_TYPED(all_finite)(own, taps) ? zeros : NULL;
        vstore(t.bias, vset1(bias ? bias[u.group] : 0));
        for (ptrdiff_t slab = u.origin[0]; slab < u.origin[0] + slabs; slab++) {
            const ptrdiff_t z = slab * g->source_step[0] - g->lo[0];
            const T *x = source + (channel * g->source[0] + z) * plane;
            /* with dilation, every step-th output row sees its own rows only: as many separate convolutions */
            for (ptrdiff_t r = 0; r < CK_TYPED(least)(step, rows); r++)
                for (ptrdiff_t from = r; from < rows; from += band * step) {
                    t.y = target + ((channel * g->target[0] + slab) * g->target[1] + top + from) * across;
                    t.count = CK_TYPED(least)(band, (rows - from + step - 1) / step);
                    CK_TYPED(sum_band)(g, &t, x, zeros, own, z, (top + from) * S - g->lo[1], K, S);
                }
        }
    }
}

/* Targets 2 j and 2 j + 1 of two rows, for L j: pixels a of the row d[0] that ends at the first one and at both, b beside
 * them, and those of the row below. Products are added in the order of their pixels. */
CK_INLINE void CK_TYPED(spread_pixels)(const T *const d[2], const VL *lanes, const V weights[9], V bias, T *const y[2],
                                       const int last)
{
    V a[2], b[2];
    CK_UNROLL for (int r = 0; r < 2; r++)
    {
        a[r] = vload(d[r]);
        b[r] = last ? vload_lanes(d[r] + 1, *lanes) : vload(d[r] + 1);
        CK_HOLD(a[r]);
        CK_HOLD(b[r]);
    }
    CK_UNROLL for (int r = 0; r < 2; r++)
    {
        const int k = r ? 6 : 3; /* the taps of row d[0] */
        V even = vfma(weights[k + 1], a[0], (V){0});
        V odd = vfma(weights[k], b[0], vfma(weights[k + 2], a[0], (V){0}));
        if (r) {
            even = vfma(weights[1], a[1], even);
            odd = vfma(weights[0], b[1], vfma(weights[2], a[1], odd));
        }
        even += bias, odd += bias;
        vstore(y[r], vziplo(even, odd));
        vstore(y[r] + L, vziphi(even, odd));
    }
}

/* The input gradient of 3 x 3 taps, stride 2, padding 1, with an even number of columns: every row of the source gives
 * two rows of targets, of whole vectors, the last of which overlap those before them. */
CK_NOINLINE void CK_TYPED(spread_rows)(const ck_depthwise *g, const T *source, const T *w, const T *bias, T *target,
                                       ptrdiff_t first, ptrdiff_t last, T *scratch)
{
    const ptrdiff_t width = g->source[2], height = g->source[1], across = g->target[2], down = g->target[1];
    const ptrdiff_t end = across / 2 - L;
    T *const zeros = scratch, *const nowhere = scratch + width + L;
    const VL lanes = vlanes(0, CK_TYPED(lane)(width - end - 1));
    memset(zeros, 0, (size_t)(width + L) * sizeof(T));
    CK_TYPED(unit) u = CK_TYPED(unit_at)(g, first);
    for (ptrdiff_t i = first; i < last; i++, CK_TYPED(step_unit)(g, &u)) {
        const ptrdiff_t channel = u.image * g->groups + u.group;
        const ptrdiff_t stop = CK_TYPED(least)(u.origin[1] + g->block[1], (down + 1) / 2);
        const T *const x = source + channel * height * width, *const own = w + u.group * 9;
        const V shift = vset1(bias ? bias[u.group] : 0);
        V weights[9];
        CK_UNROLL for (int k = 0; k < 9; k++)
        {
            weights[k] = vset1(own[k]);
            CK_HOLD(weights[k]);
        }
        for (ptrdiff_t row = u.origin[1]; row < stop; row++) {
            T *const to = target + (channel * down + 2 * row) * across;
            T *y[2] = {to, 2 * row + 1 < down ? to + across : nowhere};
            const T *d[2] = {row < height ? x + row * width : zeros, row + 1 < height ? x + (row + 1) * width : zeros};
            for (ptrdiff_t j = 0; j < end; j += L, d[0] += L, d[1] += L, y[0] += 2 * L, y[1] += 2 * L)
                CK_TYPED(spread_pixels)(d, NULL, weights, shift, y, 0);
            const ptrdiff_t back = (L - end % L) % L;
            d[0] -= back, d[1] -= back, y[0] -= 2 * back, y[1] -= 2 * back;
            CK_TYPED(spread_pixels)(d, &lanes, weights, shift, y, 1);
        }
    }
}

/* acc[3 r + s] += L pixels of dy times what tap s of row r sees of x, whose rows begin at the first tap. `lanes` are those
 * of the loads of x and of dy that lie inside: for the first vector of a row the first tap may see others, for the last
 * one any. */
CK_INLINE void CK_TYPED(dot_pixels_3)(V acc[9], const T *const x[3], const T *dy, const VL lanes[5], const int S,
                                      const int first, const int last)
{
    V d = last ? vload_lanes(dy, lanes[4]) : vload(dy);
    if (S == 2) d = vordered(d); /* as shuffles within halves order pixels */
    CK_UNROLL for (int r = 0; r < 3; r++)
    {
        V pixels[4];
        CK_UNROLL for (int i = 0; i < 2 + S; i++) /* with stride 2 two of tap 0, two of taps 1 and 2 */
        {
            const T *p = x[r] + (S == 1 ? i : i % 2 * L + i / 2);
            pixels[i] = last || (first && i == 0) ? vload_lanes(p, lanes[i]) : vload(p);
            if (S == 2 && i != 1) CK_HOLD(pixels[i]); /* one of them would be read twice, by two shuffles */
        }
        if (S == 2) {
            pixels[0] = vquick_even(pixels[0], pixels[1]);
            pixels[1] = vquick_even(pixels[2], pixels[3]);
            pixels[2] = vquick_odd(pixels[2], pixels[3]);
        }
        CK_UNROLL for (int s = 0; s < 3; s++) CK_TYPED(add_product)(acc + 3 * r + s, d, pixels[s]);
    }
}

/* The lanes of L pixels of dy from q on that lie inside its row, and those of what they see. */
CK_NOINLINE void CK_TYPED(lanes_of_dots)(const ck_depthwise *g, VL lanes[5], ptrdiff_t q)
{
    const ptrdiff_t n = CK_TYPED(least)(L, g->target[2] - q), S = g->source_step[2];
    for (int i = 0; i < 2 + S; i++) {
        const ptrdiff_t far = S == 1 ? 0 : i % 2 * L, at = S * q - g->lo[2] + (S == 1 ? i : far + i / 2);
        lanes[i] = vlanes(CK_TYPED(lane)(-at), CK_TYPED(lane)(CK_TYPED(least)(g->source[2] - at, S * n - far)));
    }
    lanes[4] = vlanes(0, (int)n);
}

/* Weight gradients of 3 x 3 taps, stride 1 or 2: rows of dy against rows of x in place. */
CK_INLINE void CK_TYPED(dot_rows)(const ck_depthwise *g, const T *dy, const T *x, T *dw, ptrdiff_t from, ptrdiff_t to,
                                  ptrdiff_t first, ptrdiff_t last, T *scratch, const int S)
{
    const ptrdiff_t width = g->source[2], height = g->source[1], across = g->target[2], down = g->target[1];
    const ptrdiff_t blocks = g->blocks[1] * g->blocks[2], vectors = (across + L - 1) / L, zero_row = width + 3 * L;
    const ptrdiff_t together = CK_DEPTHWISE_RUN / vectors;
    /* whether the last vector of a row lies inside, and where the whole ones end */
    const int inside = across % L == 0 && S * across - g->lo[2] + 2 - S < width;
    const ptrdiff_t end = (vectors - !inside) * L;
    T *const zeros = scratch, *const sum = scratch + zero_row / L * L;
    VL lanes[2][5];
    memset(zeros, 0, (size_t)zero_row * sizeof(T));
    CK_TYPED(lanes_of_dots)(g, lanes[0], 0);
    CK_TYPED(lanes_of_dots)(g, lanes[1], end);
    for (ptrdiff_t i = first; i < last; i++) {
        CK_UNROLL for (int k = 0; k < 9; k++) vstore(sum + k * L, (V){0});
        for (ptrdiff_t b = from; b < to; b++) {
            const CK_TYPED(unit) u = CK_TYPED(unit_at)(g, b % blocks);
            const ptrdiff_t channel = b / blocks * g->groups + i;
            const ptrdiff_t stop =
                u.origin[2] ? 0 : CK_TYPED(least)(down, u.origin[1] + g->block[1]); /* rows are whole */
            for (ptrdiff_t y = u.origin[1]; y < stop; y += together) {
                V acc[9];
                CK_UNROLL for (int k = 0; k < 9; k++) acc[k] = (V){0};
                for (ptrdiff_t row = y; row < CK_TYPED(least)(stop, y + together); row++) {
                    const T *d = dy + (channel * down + row) * across, *rows[3];
                    CK_UNROLL for (int r = 0; r < 3; r++)
                    {
                        const ptrdiff_t at = S * row + r - g->lo[1];
                        rows[r] = (size_t)at < (size_t)height ? x + (channel * height + at) * width - g->lo[2] : zeros;
                    }
                    CK_TYPED(dot_pixels_3)(acc, rows, d, lanes[0], S, 1, 0);
                    for (ptrdiff_t q = L; q < end; q += L) {
                        CK_UNROLL for (int r = 0; r < 3; r++) rows[r] += S * L;
                        CK_TYPED(dot_pixels_3)(acc, rows, d + q, NULL, S, 0, 0);
                    }
                    if (inside) continue;
                    CK_UNROLL for (int r = 0; r < 3; r++) rows[r] += S * L;
                    CK_TYPED(dot_pixels_3)(acc, rows, d + end, lanes[1], S, 0, 1);
                }
                CK_UNROLL for (int k = 0; k < 9; k++) vstore(sum + k * L, vload(sum + k * L) + acc[k]);
            }
        }
        CK_TYPED(sum_lanes)(dw + i * 9, sum, 9);
    }
}
#define CK_DOT_ROWS(S)                                                                                                 \
    CK_INLINE void CK_TYPED(dot_rows_3_##S)(const ck_depthwise *g, const void *dy, const void *x, void *dw,            \
                                            ptrdiff_t from, ptrdiff_t to, ptrdiff_t first, ptrdiff_t last,             \
                                            void *scratch)                                                             \
    {                                                                                                                  \
        CK_TYPED(dot_rows)(g, dy, x, dw, from, to, first, last, scratch, S);                                           \
    }
CK_DOT_ROWS(1)
CK_DOT_ROWS(2)
#undef CK_DOT_ROWS

#define CK_SUM_ROWS(K, S)                                                                                              \
    static void CK_TYPED(sum_rows_##K##_##S)(const ck_depthwise *g, const void *source, const void *w,                 \
                                             const void *bias, void *target, ptrdiff_t first, ptrdiff_t last,          \
                                             void *scratch)                                                            \
    {                                                                                                                  \
        (K == 3 && S == 2 && g->reversed ? CK_TYPED(spread_rows) : CK_TYPED(sum_rows))(g, source, w, bias, target,     \
                                                                                       first, last, scratch);          \
    }
CK_SUM_ROWS(3, 1)
CK_SUM_ROWS(5, 1)
CK_SUM_ROWS(7, 1)
CK_SUM_ROWS(3, 2)
CK_SUM_ROWS(5, 2)
CK_SUM_ROWS(7, 2)
#undef CK_SUM_ROWS
#undef CK_NAMES
#undef CK_WALKS
#undef CK_WALK
#undef CK_FIRST
#undef CK_WIDE
#undef CK_NARROW
