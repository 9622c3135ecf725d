/* Indices of windows that lie side by side, if every one points into its own window: the plane is then written in its
 * order, each element compared with the index of its window. Float32 at AVX2; included by pool.kernel.c. */
#ifndef CK_POOL_CELLS_H
#define CK_POOL_CELLS_H

enum { CELLS = 4 }; /* windows at a time: the indices of a vector */

/* A row of windows, the first element of theirs in the plane, and how far the rows of a cell, which is the part of the
 * plane that a window holds, lie apart. */
typedef struct {
    const float *in;
    float *out;
    const int64_t *indices;
    ptrdiff_t first, slice, pitch;
} pool_cells;

/* Four windows from o on. How many of their indices are found is added to `found`, all their bits to `bits`. */
CK_INLINE void pool_four_cells(int op, const pool_cells *c, const int across, const int rows, ptrdiff_t o,
                               __m256i *found, __m256i *bits)
{
    const __m256i ramp = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)(c->indices + o));
    const __m128i four = _mm_loadu_si128((const __m128i *)(const void *)(c->in + o));
    *bits = _mm256_or_si256(*bits, all);
    for (int k = 0; k < rows; k += 2) /* what is written next */
        __builtin_prefetch((const char *)(c->out + k / 2 * c->slice + CELLS * o) + CK_POOL_AHEAD, 1, 3);
    CK_UNROLL for (int q = 0; q < across / 2; q++)
    {
        const ptrdiff_t at = across * o + 8 * q;
        const __m256i whose = _mm256_srli_epi32(_mm256_add_epi32(ramp, _mm256_set1_epi32(8 * q)), across / 2);
        const __m256i index = _mm256_permutevar8x32_epi32(all, _mm256_add_epi32(whose, whose));
        const __m256i place = _mm256_sub_epi32(index, _mm256_add_epi32(ramp, _mm256_set1_epi32((int)(c->first + at))));
        const __m256i value = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(four), whose);
        CK_UNROLL for (int k = 0; k < rows; k++)
        {
            const ptrdiff_t row = k / 2 * c->slice + k % 2 * c->pitch;
            const __m256i here = _mm256_cmpeq_epi32(place, _mm256_set1_epi32((int)row));
            *found = _mm256_sub_epi32(*found, here);
            __m256 v = _mm256_castsi256_ps(_mm256_and_si256(here, value));
            if (op == POOL_ADD) v = _mm256_add_ps(v, _mm256_setzero_ps()); /* to a zero, which makes one of -0 */
            _mm256_storeu_ps(c->out + row + at, v);
        }
    }
}

/* Whether as many were found as were met, and no index is larger than what is compared of it. */
CK_INLINE int pool_all_found(__m256i found, __m256i bits, ptrdiff_t met)
{
    int32_t lane[8];
    _mm256_storeu_si256((__m256i *)(void *)lane, found);
    for (int i = 0; i < 8; i++) met -= lane[i];
    bits = _mm256_srli_epi64(bits, 32);
    return met == 0 && _mm256_testz_si256(bits, bits);
}

/* One plane; returns whether every index points into its own window. The last four windows of a row overlap those before.
 * The first row is looked at by itself: of windows that are no cells most do not pass it. */
CK_INLINE int pool_plane_of_cells(int op, const ck_pool *p, const int across, const int rows, const float *in,
                                  const int64_t *indices, float *out)
{
    const ptrdiff_t n = p->out[2], last = n - CELLS, pitch = p->size[2], slice = p->size[1] * pitch;
    __m256i found = _mm256_setzero_si256(), bits = _mm256_setzero_si256();
    ptrdiff_t met = 0, windows = 0;
    for (ptrdiff_t d = 0; d < p->out[0]; d++)
        for (ptrdiff_t h = 0; h < p->out[1]; h++, windows += n) {
            const ptrdiff_t at = d * (rows > 2 ? 2 : 1) * slice + h * (rows > 1 ? 2 : 1) * pitch;
            const pool_cells c = {in + windows, out + at, indices + windows, at, slice, pitch};
            for (ptrdiff_t o = 0; o < n; o += CELLS, met += CELLS)
                pool_four_cells(op, &c, across, rows, o < last ? o : last, &found, &bits);
            if (windows == 0 && !pool_all_found(found, bits, met)) return 0;
        }
    return pool_all_found(found, bits, met);
}

/* Elements of a cell along an axis. */
CK_INLINE ptrdiff_t pool_cell(const ck_pool *p, int axis) { return p->size[axis] / p->out[axis]; }

/* Planes [b->row0, ...) until an index points elsewhere, or the cells are none that are known here; returns the plane that
 * is left to do. */
CK_INLINE ptrdiff_t pool_by_cells(int op, const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b)
{
    const ptrdiff_t n = p->out[0] * p->out[1] * p->out[2], size = p->size[0] * p->size[1] * p->size[2];
    const ptrdiff_t across = pool_cell(p, 2), rows = pool_cell(p, 1) * pool_cell(p, 0);
    const int square = across == 2 && pool_cell(p, 1) == 2 && rows <= 4,
              straight = op == POOL_PLACE && across == 4 && rows == 1;
    ptrdiff_t r = b->row0;
    if (!(square || straight) || p->out[2] < CELLS || size > n * across * rows || size > CK_POOL_MAX_INDEXED) return r;
    for (int good = 1; good && r < b->row1; r += good) {
        const float *in = (const float *)a->in + r * n;
        const int64_t *indices = (const int64_t *)a->chosen + r * n;
        float *out = (float *)a->out + r * size;
        if (op == POOL_PLACE && straight)
            good = pool_plane_of_cells(op, p, 4, 1, in, indices, out);
        else if (rows == 2)
            good = pool_plane_of_cells(op, p, 2, 2, in, indices, out);
        else
            good = pool_plane_of_cells(op, p, 2, 4, in, indices, out);
    }
    return r;
}

#endif
