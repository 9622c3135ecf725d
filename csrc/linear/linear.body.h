/* Compiled once per dtype by linear.kernel.c. */

/* The sums of S panels of N vectors, side by side; w is the first one's. */
CK_INLINE void CK_TYPED(sum_panels)(const ck_linear_row *r, const T *w, V *total, const int S, const int N)
{
    const T *x = r->x, *panel[CK_LINEAR_STREAMS];
    const ptrdiff_t chunks = (r->depth + CK_CONV_CHUNK - 1) / CK_CONV_CHUNK, length = r->depth / chunks;
    const ptrdiff_t longer = chunks - r->depth % chunks;
    V sum[CK_LINEAR_STREAMS * CK_CONV_VECTORS] = {{0}};
    CK_UNROLL for (int s = 0; s < S; s++) panel[s] = w + s * r->depth * N * L;
    for (ptrdiff_t i = 0, at = 0; i < chunks; i++) {
        const ptrdiff_t end = at + (length + (i >= longer)) * N * L;
        V acc[CK_LINEAR_STREAMS * CK_CONV_VECTORS];
        CK_UNROLL for (int j = 0; j < S * N; j++) acc[j] = (V){0};
        for (; at < end; at += N * L) {
            const V value = vset1(*x++);
            /* half a page before it is needed, or the walk to each panel's next page is waited for */
            if (S > 1) CK_UNROLL for (int s = 0; s < S; s++) __builtin_prefetch(panel[s] + at + 2048 / sizeof(T), 0, 2);
            CK_UNROLL for (int s = 0; s < S; s++) CK_UNROLL for (int v = 0; v < N; v++) acc[s * N + v] =
                vfma(value, vload(panel[s] + at + v * L), acc[s * N + v]);
        }
        if (i % CK_CONV_CHUNKS) CK_UNROLL for (int j = 0; j < S * N; j++) acc[j] += sum[j];
        CK_UNROLL for (int j = 0; j < S * N; j++) sum[j] = acc[j];
        if (i + 1 == chunks || (i + 1) % CK_CONV_CHUNKS == 0)
            CK_UNROLL for (int j = 0; j < S * N; j++) total[j] = i < CK_CONV_CHUNKS ? sum[j] : total[j] + sum[j];
    }
}

/* Panels that the registers hold the sums of, beside a value of x. */
#define CK_LINEAR_HOLDS(N) ((CK_REGISTERS - 4) / (N) < CK_LINEAR_STREAMS ? (CK_REGISTERS - 4) / (N) : CK_LINEAR_STREAMS)
#define CK_LINEAR_WIDTH(N)                                                                                             \
    CK_NOINLINE void CK_TYPED(several_##N)(const ck_linear_row *r, const T *w, V *total)                               \
    {                                                                                                                  \
        CK_TYPED(sum_panels)(r, w, total, CK_LINEAR_HOLDS(N), N);                                                      \
    }                                                                                                                  \
    CK_NOINLINE void CK_TYPED(single_##N)(const ck_linear_row *r, const T *w, V *total)                                \
    {                                                                                                                  \
        CK_TYPED(sum_panels)(r, w, total, 1, N);                                                                       \
    }
CK_LINEAR_WIDTH(1)
CK_LINEAR_WIDTH(2)
CK_LINEAR_WIDTH(3)
CK_LINEAR_WIDTH(4)
#undef CK_LINEAR_WIDTH

typedef struct {
    ptrdiff_t holds;
    void (*several)(const ck_linear_row *r, const T *w, V *total),
        (*single)(const ck_linear_row *r, const T *w, V *total);
} CK_TYPED(linear_width);
#define CK_LINEAR_WIDTH(N) {CK_LINEAR_HOLDS(N), CK_TYPED(several_##N), CK_TYPED(single_##N)}
static const CK_TYPED(linear_width) CK_TYPED(linear_widths)[CK_CONV_VECTORS] = {CK_LINEAR_WIDTH(1), CK_LINEAR_WIDTH(2),
                                                                                CK_LINEAR_WIDTH(3), CK_LINEAR_WIDTH(4)};
#undef CK_LINEAR_WIDTH
#undef CK_LINEAR_HOLDS

static void CK_TYPED(linear_row)(const ck_linear_row *r, ptrdiff_t first, ptrdiff_t count)
{
    const ptrdiff_t lanes = r->vectors * L,
                    end = (first + count) * lanes < r->columns ? (first + count) * lanes : r->columns;
    for (ptrdiff_t column = first * lanes, width; column < end; column += width) {
        const ptrdiff_t left = end - column, vectors = left < lanes ? (left + L - 1) / L : r->vectors;
        const CK_TYPED(linear_width) *kernel = &CK_TYPED(linear_widths)[vectors - 1];
        const T *w = (const T *)r->panels + column * r->depth;
        V total[CK_LINEAR_STREAMS * CK_CONV_VECTORS];
        if (left >= kernel->holds * lanes) {
            width = kernel->holds * lanes;
            kernel->several(r, w, total);
        } else {
            width = left < lanes ? left : lanes;
            kernel->single(r, w, total);
        }
        for (ptrdiff_t j = 0; j < width; j += L) {
            const V y = r->bias ? total[j / L] + vload((const T *)r->bias + column + j) : total[j / L];
            vstore_part((T *)r->y + column + j, y, width - j < L ? width - j : L);
        }
    }
}

extern const ck_linear_kernel CK_KERNEL(ck_linear);
const ck_linear_kernel CK_KERNEL(ck_linear) = CK_TYPED(linear_row);

/* Rows of weights that a vector of sums is taken through at a time: each is a stream of its own. */
#define CK_LINEAR_DEPTH 8

/* K terms of the sums of `count` columns of every row, a full vector or the last part of one at a time; the first ones of
 * a chunk begin at 0. `sums` has `pitch` elements to a row. */
CK_INLINE void CK_TYPED(add_terms)(const ck_linear_rows *r, ptrdiff_t k, ptrdiff_t first, ptrdiff_t count, T *sums,
                                   ptrdiff_t pitch, bool begins, const int K)
{
    const T *x = (const T *)r->x + k, *w = (const T *)r->w + k * r->columns + first;
    for (ptrdiff_t j = 0; j < count; j += L) {
        V term[CK_LINEAR_DEPTH];
        if (count - j >= L)
            CK_UNROLL for (int i = 0; i < K; i++) term[i] = vload(w + i * r->columns + j);
        else
            CK_UNROLL for (int i = 0; i < K; i++) term[i] = vload_part(w + i * r->columns + j, count - j);
        for (ptrdiff_t row = 0; row < r->rows; row++) {
            V sum = begins ? (V){0} : vload(sums + row * pitch + j);
            CK_UNROLL for (int i = 0; i < K; i++) sum = vfma(vset1(x[row * r->depth + i]), term[i], sum);
            vstore(sums + row * pitch + j, sum);
        }
    }
}

static void CK_TYPED(linear_rows)(const ck_linear_rows *r, ptrdiff_t first, ptrdiff_t count)
{
    /* those of a chunk and of the chunks since the last close; a part of a vector takes a whole one */
    T chunk[CK_LINEAR_SUMS / sizeof(T) + CK_LINEAR_ROWS * L], sum[sizeof chunk / sizeof(T)];
    const ptrdiff_t chunks = (r->depth + CK_CONV_CHUNK - 1) / CK_CONV_CHUNK, length = r->depth / chunks;
    const ptrdiff_t longer = chunks - r->depth % chunks, pitch = (count + L - 1) / L * L;
    for (ptrdiff_t i = 0, k = 0; i < chunks; i++) {
        const ptrdiff_t begin = k, end = k + length + (i >= longer);
        for (; k + CK_LINEAR_DEPTH <= end; k += CK_LINEAR_DEPTH)
            CK_TYPED(add_terms)(r, k, first, count, chunk, pitch, k == begin, CK_LINEAR_DEPTH);
        for (; k < end; k++) CK_TYPED(add_terms)(r, k, first, count, chunk, pitch, k == begin, 1);
        const bool closes = i + 1 == chunks || (i + 1) % CK_CONV_CHUNKS == 0;
        for (ptrdiff_t row = 0; row < r->rows; row++) {
            T *y = (T *)r->y + row * r->columns + first;
            for (ptrdiff_t j = 0, at = row * pitch; j < count; j += L, at += L) {
                const ptrdiff_t n = count - j < L ? count - j : L;
                V now = vload(chunk + at);
                if (i % CK_CONV_CHUNKS) now += vload(sum + at);
                vstore(sum + at, now);
                if (closes) vstore_part(y + j, i < CK_CONV_CHUNKS ? now : vload_part(y + j, n) + now, n);
            }
        }
    }
}
#undef CK_LINEAR_DEPTH

extern const ck_linear_rows_kernel CK_KERNEL(ck_linear_rows);
const ck_linear_rows_kernel CK_KERNEL(ck_linear_rows) = CK_TYPED(linear_rows);

extern const ck_linear_tiles_kernel CK_KERNEL(ck_linear_tiles);
#if CK_VBYTES == 32
enum { CK_TYPED(TILE) = CK_LINEAR_HIGH * CK_LINEAR_WIDE }; /* vectors */

CK_INLINE void CK_TYPED(fill_panel)(const ck_linear_tiles *t)
{
    const T *from = t->source;
    T *to = t->w;
    for (ptrdiff_t k = 0; k < t->taps; k++, from += t->source_step, to += CK_LINEAR_WIDE * L)
        if (t->columns == CK_LINEAR_WIDE * L)
            CK_UNROLL for (int v = 0; v < CK_LINEAR_WIDE; v++) vstore(to + v * L, vload(from + v * L));
        else
            for (ptrdiff_t j = 0, left = t->columns; j < CK_LINEAR_WIDE * L; j += L, left -= L)
                vstore(to + j, vload_part(from + j, left < 0 ? 0 : left < L ? left : L));
}

CK_INLINE void CK_TYPED(add_tap)(V *acc, const T *x, const T *w)
{
    V row[CK_LINEAR_WIDE];
    CK_UNROLL for (int v = 0; v < CK_LINEAR_WIDE; v++) row[v] = vload(w + v * L);
    CK_UNROLL for (int m = 0; m < CK_LINEAR_HIGH; m++)
    {
        const V value = vset1(x[m]);
        CK_UNROLL for (int v = 0; v < CK_LINEAR_WIDE; v++) acc[m * CK_LINEAR_WIDE + v] =
            vfma(value, row[v], acc[m * CK_LINEAR_WIDE + v]);
    }
}

static void CK_TYPED(linear_tiles)(const ck_linear_tiles *job)
{
    enum { turn = 4 };
    const ck_linear_tiles t = *job;
    const ptrdiff_t lines = (t.ahead_lines + t.tiles - 1) / t.tiles; /* a share of each row with every tile */
    const T *x = t.x, *sum = t.sum, *total = t.total;
    T *to = t.to;
    if (t.source) CK_TYPED(fill_panel)(job);
    for (ptrdiff_t i = 0, line = 0; i < t.tiles; i++, x += CK_LINEAR_HIGH) {
        const ptrdiff_t end = line + lines < t.ahead_lines ? line + lines : t.ahead_lines;
        for (; line < end; line++)
            for (ptrdiff_t row = 0; row < t.ahead_rows; row++)
                __builtin_prefetch(t.ahead + row * t.ahead_step + 64 * line, 0, 2);
        V acc[CK_TYPED(TILE)] = {{0}};
        const T *p = x, *w = t.w;
        ptrdiff_t k = t.taps;
        for (; k >= turn; k -= turn, w += turn * CK_LINEAR_WIDE * L)
            CK_UNROLL for (int u = 0; u < turn; u++, p += t.tap_step)
                CK_TYPED(add_tap)(acc, p, w + u * CK_LINEAR_WIDE * L);
        for (; k > 0; k--, w += CK_LINEAR_WIDE * L, p += t.tap_step) CK_TYPED(add_tap)(acc, p, w);
        const ptrdiff_t at = i * CK_TYPED(TILE) * L;
        if (sum) CK_UNROLL for (int j = 0; j < CK_TYPED(TILE); j++) acc[j] += vload(sum + at + j * L);
        if (total) CK_UNROLL for (int j = 0; j < CK_TYPED(TILE); j++) acc[j] += vload(total + at + j * L);
        CK_UNROLL for (int j = 0; j < CK_TYPED(TILE); j++) vstore(to + at + j * L, acc[j]);
    }
}

const ck_linear_tiles_kernel CK_KERNEL(ck_linear_tiles) = sizeof(T) == 4 ? CK_TYPED(linear_tiles) : NULL;
#else
const ck_linear_tiles_kernel CK_KERNEL(ck_linear_tiles) = NULL;
#endif

extern const ck_linear_panel_kernel CK_KERNEL(ck_linear_panel);
#if CK_VBYTES == 32
/* Rows to a tile: twelve sums leave registers for what they meet. */
enum { CK_TYPED(PANEL_ROWS) = 6, CK_TYPED(PANEL_SUMS) = CK_LINEAR_PAIR * CK_TYPED(PANEL_ROWS) };

/* Where fewer columns than lanes are left, a tile's sums go through here. */
CK_NOINLINE void CK_TYPED(store_part)(const ck_linear_panel *p, const T *sum, T *c, int rows)
{
    for (int i = 0; i < rows; i++, c += p->c_row, sum += p->vectors * L)
        for (ptrdiff_t j = 0; j < p->columns; j += L) {
            const ptrdiff_t n = p->columns - j < L ? p->columns - j : L;
            V now = vload(sum + j);
            if (p->add) now += vload_part(c + j, n);
            if (p->bias) now += vload((const T *)p->bias + j);
            vstore_part(c + j, now, n);
        }
}

/* Where there is nothing to add: -0 changes no sum, and one way through a tile's store is a third of the code of four. */
static const T CK_TYPED(nothing)[] = {-(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0,
                                      -(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0, -(T)0};

/* `tiles` tiles of M rows, from row `i` on. */
CK_INLINE void CK_TYPED(panel_tiles)(const ck_linear_panel *p, ptrdiff_t i, ptrdiff_t tiles, const int M, const int N)
{
    const ptrdiff_t a_row = p->a_row, a_tap = p->a_tap, w_tap = p->w_tap, taps = p->taps;
    const bool part = p->columns < N * L, add = p->add && !part;
    const char *a = (const char *)p->a + i * a_row;
    const T *bias = part || !p->bias ? CK_TYPED(nothing) : p->bias;
    T *c = (T *)p->c + i * p->c_row, sums[CK_TYPED(PANEL_SUMS) * L];
    for (; tiles > 0; tiles--, a += M * a_row, c += M * p->c_row) {
        V acc[CK_TYPED(PANEL_SUMS)];
        CK_UNROLL for (int j = 0; j < M * N; j++) acc[j] = (V){0};
        const char *x = a, *w = p->w;
        ptrdiff_t k = taps;
        do {
            V row[CK_LINEAR_PAIR];
            CK_UNROLL for (int v = 0; v < N; v++) row[v] = vload((const T *)w + v * L);
            CK_UNROLL for (int m = 0; m < M; m++)
            {
                const V value = vset1(*(const T *)(x + m * a_row));
                CK_UNROLL for (int v = 0; v < N; v++) acc[m * N + v] = vfma(value, row[v], acc[m * N + v]);
            }
            x += a_tap;
            w += w_tap;
        } while (--k > 0);
        T *to = part ? sums : c;
        const T *from = add ? c : CK_TYPED(nothing);
        const ptrdiff_t step = part ? N * L : p->c_row, from_step = add ? p->c_row : 0;
        CK_UNROLL for (int m = 0; m < M; m++, to += step, from += from_step) CK_UNROLL for (int v = 0; v < N; v++)
            vstore(to + v * L, acc[m * N + v] + vload(from + v * L) + vload(bias + v * L));
        if (part) CK_TYPED(store_part)(p, sums, c, M);
    }
}

/* One function per shape, as in csrc/conv. */
typedef void (*CK_TYPED(panel_kernel))(const ck_linear_panel *p, ptrdiff_t i, ptrdiff_t tiles);
#define CK_PANEL(M, N)                                                                                                 \
    CK_NOINLINE void CK_TYPED(panel_##N##x##M)(const ck_linear_panel *p, ptrdiff_t i, ptrdiff_t tiles)                 \
    {                                                                                                                  \
        CK_TYPED(panel_tiles)(p, i, tiles, M, N);                                                                      \
    }
#define CK_PANELS(N) CK_PANEL(1, N) CK_PANEL(2, N) CK_PANEL(3, N) CK_PANEL(4, N) CK_PANEL(5, N) CK_PANEL(6, N)
CK_PANELS(1)
CK_PANELS(2)
#undef CK_PANEL
#define CK_PANEL(M, N) CK_TYPED(panel_##N##x##M),
static const CK_TYPED(panel_kernel)
    CK_TYPED(panel_kernels)[CK_LINEAR_PAIR][CK_TYPED(PANEL_ROWS)] = {{CK_PANELS(1)}, {CK_PANELS(2)}};
#undef CK_PANEL
#undef CK_PANELS

static void CK_TYPED(linear_panel)(const ck_linear_panel *p)
{
    const ptrdiff_t tiles = (p->rows + CK_TYPED(PANEL_ROWS) - 1) / CK_TYPED(PANEL_ROWS);
    const ptrdiff_t least = p->rows / tiles, longer = p->rows % tiles; /* tiles of one row more, the first ones */
    const CK_TYPED(panel_kernel) *kernels = CK_TYPED(panel_kernels)[p->vectors - 1];
    if (longer) kernels[least](p, 0, longer);
    kernels[least - 1](p, longer * (least + 1), tiles - longer);
}

const ck_linear_panel_kernel CK_KERNEL(ck_linear_panel) = sizeof(T) == 4 ? CK_TYPED(linear_panel) : NULL;
#else
const ck_linear_panel_kernel CK_KERNEL(ck_linear_panel) = NULL;
#endif
