/* Compiled once per dtype by resample.kernel.c. */
#ifndef CK_RESAMPLE_ROWS
#define CK_RESAMPLE_ROWS
enum { CK_ROWS_AT_ONCE = 32 };
#endif

/* Rows to be added up, each with its weight. */
typedef struct {
    const T *row[CK_ROWS_AT_ONCE];
    T weight[CK_ROWS_AT_ONCE];
    int count;
} CK_TYPED(rows);

CK_INLINE V CK_TYPED(sum_of_rows)(const CK_TYPED(rows) * r, const int count, ptrdiff_t i, ptrdiff_t n)
{
    V sum = {0};
    for (int k = 0; k < count; k++) {
        V x = n == L ? vload(r->row[k] + i) : vload_part(r->row[k] + i, n), w = vset1(r->weight[k]);
        sum = k ? vfma(x, w, sum) : x * w;
    }
    return sum;
}

/* y = the weighted sum of count rows, on top of what y holds if `add`. */
CK_INLINE void CK_TYPED(add_rows)(const CK_TYPED(rows) * r, const int count, T *y, ptrdiff_t length, int add)
{
    for (ptrdiff_t i = 0, n; i < length; i += n) {
        n = length - i < L ? length - i : L;
        V sum = CK_TYPED(sum_of_rows)(r, count, i, n);
        if (n == L)
            vstore(y + i, add ? vload(y + i) + sum : sum);
        else
            vstore_part(y + i, add ? vload_part(y + i, n) + sum : sum, n);
    }
}

CK_INLINE void CK_TYPED(flush)(CK_TYPED(rows) * r, T *y, ptrdiff_t length, int *add)
{
    if (r->count == 1 && r->weight[0] == 1 && !*add)
        memcpy(y, r->row[0], (size_t)length * sizeof(T));
    else if (r->count == 2)
        CK_TYPED(add_rows)(r, 2, y, length, *add);
    else
        CK_TYPED(add_rows)(r, r->count, y, length, *add);
    r->count = 0;
    *add = 1;
}

/* Half a vector from x on, every element of it twice. */
CK_INLINE V CK_TYPED(doubled)(const T *x)
{
#if defined(CK_AVX2) /* one shuffle; of an interleaving compilers make four */
    const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)x);
    if (sizeof(T) == 8) return (V)_mm256_permute4x64_epi64(_mm256_castsi128_si256(half), 0x50);
    return (V)_mm256_permutevar_ps((__m256)_mm256_broadcastsi128_si256(half),
                                   _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
#else
    const V v = vload_part(x, L / 2);
    return vziplo(v, v);
#endif
}

/* Every element of a row twice, into one row or into `rows` alike that follow each other. */
CK_INLINE void CK_TYPED(twice)(const T *x, T *y, ptrdiff_t n, const int rows)
{
    ptrdiff_t i = 0;
    for (; i + L <= n; i += L) {
#if defined(CK_AVX2)
        const V lo = CK_TYPED(doubled)(x + i), hi = CK_TYPED(doubled)(x + i + L / 2);
#else
        const V v = vload(x + i), lo = vziplo(v, v), hi = vziphi(v, v);
#endif
        CK_ASK(y + 2 * rows * i, 1);
        CK_UNROLL for (int r = 0; r < rows; r++)
        {
            vstore(y + 2 * (r * n + i), lo);
            vstore(y + 2 * (r * n + i) + L, hi);
        }
    }
    for (; n >= L / 2 && i < n; i += L / 2) {
        i = i + L / 2 <= n ? i : n - L / 2; /* some again: a masked store takes 5 ns on Zen 3 */
        const V v = CK_TYPED(doubled)(x + i);
        CK_UNROLL for (int r = 0; r < rows; r++) vstore(y + 2 * (r * n + i), v);
    }
    const V v = vload_part(x, i < n ? n : 0);
    for (int r = 0; r < rows && i < n; r++, y += 2 * n) vstore_part(y, vziplo(v, v), 2 * n);
}

/* The sums of the pairs of neighbours in two vectors. */
CK_INLINE V CK_TYPED(pair_sums)(V a, V b)
{
#if defined(CK_AVX2)
    return vordered(vquick_even(a, b) + vquick_odd(a, b));
#else
    return veven(a, b) + vodd(a, b);
#endif
}

/* y[i] = x[2 i] + x[2 i + 1], of x itself or of the sum of two rows that follow each other. */
CK_NOINLINE void CK_TYPED(add_pairs)(const T *x, T *y, ptrdiff_t n, const int rows)
{
    const T *next = x + (rows - 1) * 2 * n;
    ptrdiff_t i = 0;
    for (; n >= L && i < n; i += L) {
        i = i + L <= n ? i : n - L;
        V a = vload(x + 2 * i), b = vload(x + 2 * i + L);
        if (rows == 2) a += vload(next + 2 * i), b += vload(next + 2 * i + L);
        vstore(y + i, CK_TYPED(pair_sums)(a, b));
    }
    if (i == n) return;
    const ptrdiff_t low = 2 * n < L ? 2 * n : L;
    V a = vload_part(x, low), b = vload_part(x + low, 2 * n - low);
    if (rows == 2) a += vload_part(next, low), b += vload_part(next + low, 2 * n - low);
    vstore_part(y, CK_TYPED(pair_sums)(a, b), n);
}

/* Vectors between the first and the last are stored where lines of the cache begin: x may lie anyhow. */
CK_INLINE void CK_TYPED(copy)(const T *x, T *y, ptrdiff_t n)
{
    if (n < L) {
        vstore_part(y, vload_part(x, n), n);
        return;
    }
    vstore(y, vload(x));
    for (ptrdiff_t i = L - (ptrdiff_t)((uintptr_t)y / sizeof(T) % L); i + L <= n; i += L) vstore(y + i, vload(x + i));
    vstore(y + n - L, vload(x + n - L));
}

/* Targets first .. last - 1 of lists that may be long. */
CK_NOINLINE void CK_TYPED(add_lists)(const ck_resample_axis *a, const T *x, T *y, ptrdiff_t first, ptrdiff_t last)
{
    const T *w = a->weight;
    for (ptrdiff_t i = first; i < last; i++) {
        double sum = 0;
        for (int64_t k = a->begin[i]; k < a->begin[i + 1]; k++) sum += (double)w[k] * x[a->source[k]];
        y[i] = (T)sum;
    }
}

/* One row of y from one of x, along the last axis. */
CK_NOINLINE void CK_TYPED(along)(const ck_resample_axis *a, const T *x, T value, T *y)
{
    const int32_t *s = a->source;
    const T *w = a->weight;
    const ptrdiff_t length = a->target_size;
    if (a->repeats == 2) {
        CK_TYPED(twice)(x, y, a->size, 1);
    } else if (a->pairs) {
        CK_TYPED(add_pairs)(x, y, length, 1);
    } else if (a->copies) {
        const ptrdiff_t from = a->run[0], to = a->run[1];
        for (ptrdiff_t i = 0; i < from; i++) y[i] = s[i] < 0 ? value : x[s[i]];
        if (to > from) CK_TYPED(copy)(x + s[from], y + from, to - from);
        for (ptrdiff_t i = to; i < length; i++) y[i] = s[i] < 0 ? value : x[s[i]];
    } else if (a->terms == 1) {
        for (ptrdiff_t i = 0; i < length; i++) y[i] = w[i] * x[s[i]];
    } else if (a->terms == 2) {
        for (ptrdiff_t i = 0; i < length; i++) y[i] = w[2 * i] * x[s[2 * i]] + w[2 * i + 1] * x[s[2 * i + 1]];
    } else {
        CK_TYPED(add_lists)(a, x, y, 0, a->run[0]);
        if (a->run[1] > a->run[0]) CK_TYPED(copy)(x + s[a->begin[a->run[0]]], y + a->run[0], a->run[1] - a->run[0]);
        CK_TYPED(add_lists)(a, x, y, a->run[1], length);
    }
}

/* Rows of x resampled along the last axis, kept while neighbouring rows of y need them again. */
typedef struct {
    const T *of[CK_RESAMPLE_KEPT];
    T *memory;
} CK_TYPED(kept);

CK_INLINE const T *CK_TYPED(keep)(CK_TYPED(kept) * kept, const ck_resample_axis *a, const T *x, int slot)
{
    T *y = kept->memory + slot * a->target_size;
    if (kept->of[slot] != x) CK_TYPED(along)(a, x, 0, y);
    kept->of[slot] = x;
    return y;
}

/* Every row of y is one of x, resampled along its width; one that follows its like is a copy of that. */
CK_INLINE void CK_TYPED(copy_rows)(const ck_resample *r, const T *x, T *y, ptrdiff_t row, ptrdiff_t rows)
{
    const ck_resample_axis *depth = &r->axis[0], *height = &r->axis[1], *width = &r->axis[2];
    const ptrdiff_t length = width->target_size;
    ptrdiff_t h = row % height->target_size, d = row / height->target_size % depth->target_size;
    ptrdiff_t plane = row / height->target_size / depth->target_size;
    const T value = (T)r->value, *last = NULL;
    const int doubled = height->repeats == 2 && width->repeats == 2;
    for (T *to = y + row * length; rows > 0; rows--, to += length) {
        const ptrdiff_t slice = plane * depth->size + depth->source[d];
        const T *line = x + (slice * height->size + height->source[h]) * width->size;
        if (depth->source[d] < 0 || height->source[h] < 0) {
            line = NULL;
            for (ptrdiff_t i = 0; i < length; i++) to[i] = value;
        } else if (doubled && h % 2 == 0 && rows > 1) {
            CK_TYPED(twice)(line, to, width->size, 2);
            rows--, h++, to += length;
        } else if (line == last)
            memcpy(to, to - length, (size_t)length * sizeof(T));
        else
            CK_TYPED(along)(width, line, value, to);
        last = line;
        if (++h == height->target_size) {
            h = 0;
            if (++d == depth->target_size) d = 0, plane++;
        }
    }
}

static void CK_TYPED(resample)(const ck_resample *r, const void *x, void *y, ptrdiff_t row, ptrdiff_t rows,
                               void *memory)
{
    const ck_resample_axis *depth = &r->axis[0], *height = &r->axis[1], *width = &r->axis[2];
    const int along_first = ck_resample_along_first(r);
    if (depth->copies && height->copies) {
        CK_TYPED(copy_rows)(r, x, y, row, rows);
        return;
    }
    if (depth->target_size == 1 && depth->size == 1 && height->pairs && width->pairs) { /* planes follow each other */
        const ptrdiff_t length = width->target_size;
        const T *from = (const T *)x + row * 4 * length;
        T *to = (T *)y + row * length;
        for (; rows > 0; rows--, from += 4 * length, to += length) CK_TYPED(add_pairs)(from, to, length, 2);
        return;
    }
    const T *weight_d = depth->weight, *weight_h = height->weight;
    CK_TYPED(kept) kept = {{NULL}, memory};
    CK_TYPED(rows) list = {.count = 0};
    for (; rows > 0; rows--, row++) {
        const ptrdiff_t h = row % height->target_size, d = row / height->target_size % depth->target_size;
        const ptrdiff_t plane = row / height->target_size / depth->target_size;
        const T *from = (const T *)x + plane * depth->size * height->size * width->size;
        T *to = (T *)y + row * width->target_size, *sum = along_first || width->repeats == 1 ? to : memory;
        const ptrdiff_t length = along_first ? width->target_size : width->size;
        int add = 0, used = 0;
        for (int64_t a = depth->begin[d]; a < depth->begin[d + 1]; a++)
            for (int64_t b = height->begin[h]; b < height->begin[h + 1]; b++) {
                const T *line = from + ((ptrdiff_t)depth->source[a] * height->size + height->source[b]) * width->size;
                if (along_first) { /* two neighbours along an axis never share a slot, a longer list may */
                    const int slot = depth->source[a] % 2 * 2 + height->source[b] % 2;
                    if (used >> slot & 1 && kept.of[slot] != line) {
                        CK_TYPED(flush)(&list, sum, length, &add);
                        used = 0;
                    }
                    used |= 1 << slot;
                    line = CK_TYPED(keep)(&kept, width, line, slot);
                }
                list.row[list.count] = line;
                list.weight[list.count++] = weight_d[a] * weight_h[b];
                if (list.count == CK_ROWS_AT_ONCE) CK_TYPED(flush)(&list, sum, length, &add);
            }
        if (list.count == 1 && list.weight[0] == 1 && !add && sum != to) { /* no need to copy it first */
            CK_TYPED(along)(width, list.row[0], 0, to);
            list.count = 0;
            continue;
        }
        if (list.count) CK_TYPED(flush)(&list, sum, length, &add);
        if (!add) memset(sum, 0, (size_t)length * sizeof(T)); /* nothing was read from here */
        if (sum != to) CK_TYPED(along)(width, sum, 0, to);
    }
}

extern const ck_resample_kernel CK_KERNEL(ck_resample);
const ck_resample_kernel CK_KERNEL(ck_resample) = CK_TYPED(resample);
