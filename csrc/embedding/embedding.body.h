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
