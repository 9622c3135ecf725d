/* Compiled once per dtype by embedding.kernel.c. */

/* n elements from column i on of the sum of the rows first .. last - 1 of the list. */
CK_INLINE V CK_TYPED(sum_of_places)(const ck_embedding *job, int64_t first, int64_t last, ptrdiff_t i, ptrdiff_t n)
{
    enum { AT_ONCE = 64 };
    ck_f64v total[WIDE] = {{0}}, wide[WIDE];
    for (; first < last; first += AT_ONCE) {
        ck_f64v part[WIDE] = {{0}};
        const int64_t end = last - first < AT_ONCE ? last : first + AT_ONCE;
        for (int64_t k = first; k < end; k++) {
            const T *row = (const T *)job->dy + job->place[k] * job->width + i;
            vwiden(n == L ? vload(row) : vload_part(row, n), wide);
            CK_UNROLL
            for (int w = 0; w < WIDE; w++) part[w] += wide[w];
        }
        CK_UNROLL
        for (int w = 0; w < WIDE; w++) total[w] += part[w];
    }
    T lane[L];
    for (int l = 0; l < L; l++) lane[l] = (T)((const double *)total)[l];
    return vload(lane);
}

static void CK_TYPED(embedding)(const ck_embedding *job, ptrdiff_t row, ptrdiff_t rows)
{
    const ck_embedding own = *job;
    const ptrdiff_t width = own.width;
    for (; rows > 0; rows--, row++) {
        T *dw = (T *)own.dw + row * width;
        const int64_t first = own.begin[row], last = own.begin[row + 1];
        if (first == last) {
            memset(dw, 0, (size_t)width * sizeof(T));
            continue;
        }
        for (ptrdiff_t i = 0; i < width; i += L) {
            const ptrdiff_t n = width - i < L ? width - i : L;
            V sum = CK_TYPED(sum_of_places)(&own, first, last, i, n);
            if (n == L)
                vstore(dw + i, sum);
            else
                vstore_part(dw + i, sum, n);
        }
    }
}

extern const ck_embedding_kernel CK_KERNEL(ck_embedding);
const ck_embedding_kernel CK_KERNEL(ck_embedding) = CK_TYPED(embedding);

/* One row; `next` is where the row after it lies, whose lines nobody else can foresee. */
CK_INLINE void CK_TYPED(copy_row)(const T *x, const char *next, T *y, ptrdiff_t width)
{
    enum { TURN = CK_STREAMED * L };
    ptrdiff_t i = 0;
    for (V v[CK_STREAMED]; CK_STREAMED > 1 && i + TURN <= width; i += TURN) {
        CK_UNROLL for (int line = 0; line < CK_STREAMED * CK_VBYTES; line += 64)
            __builtin_prefetch(next + (size_t)i * sizeof(T) + line, 0, 3);
        CK_ASK(y + i, 1);
        CK_UNROLL for (int k = 0; k < CK_STREAMED; k++) v[k] = vload(x + i + k * L);
        CK_UNROLL for (int k = 0; k < CK_STREAMED; k++) vstore(y + i + k * L, v[k]);
    }
    for (; i + L <= width; i += L) vstore(y + i, vload(x + i));
    if (i < width) vstore_part(y + i, vload_part(x + i, width - i), width - i);
}

static int CK_TYPED(lookup)(const ck_lookup *job, ptrdiff_t first, ptrdiff_t count)
{
    const ck_lookup own = *job;
    for (ptrdiff_t k = first; k < first + count; k++) {
        const uint64_t row = (uint64_t)own.index[k], next = (uint64_t)own.index[k + 1 < first + count ? k + 1 : k];
        if (row >= (uint64_t)own.rows) return 0; /* a negative one is huge */
        const char *table = own.weight,
                   *ahead = table + (next < (uint64_t)own.rows ? next : row) * own.width * sizeof(T);
        CK_TYPED(copy_row)((const T *)own.weight + row * own.width, ahead, (T *)own.y + k * own.width, own.width);
    }
    return 1;
}

extern const ck_lookup_kernel CK_KERNEL(ck_lookup);
const ck_lookup_kernel CK_KERNEL(ck_lookup) = CK_TYPED(lookup);
