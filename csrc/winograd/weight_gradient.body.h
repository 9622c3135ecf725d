/* Compiled by weight_gradient.kernel.c. `n` points along an axis, 6 or 8, of tiles of 4 of dy and n of x: points.body.h
 * has them. */

/* A d: the transform of dy along one axis. */
CK_INLINE void CK_TYPED(dy_points)(const V *d, V *t)
{
    const V a = vset1((T)WINO_A), b = vset1((T)WINO_B), half = vset1((T)0.5), two = vset1(2);
    const V even1 = vfma(half, d[2], d[0]), odd1 = a * vfma(half, d[3], d[1]);
    const V even2 = vfma(two, d[2], d[0]), odd2 = b * vfma(two, d[3], d[1]);
    t[0] = d[0];
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = d[3];
}

/* The same at eight points. */
CK_INLINE void CK_TYPED(dy_eight_points)(const V *d, V *t)
{
    const V quarter = vset1((T)0.25), half = vset1((T)0.5), two = vset1(2), four = vset1(4);
    const V even1 = d[0] + d[2], odd1 = d[1] + d[3];
    const V even2 = vfma(quarter, d[2], d[0]), odd2 = half * vfma(quarter, d[3], d[1]);
    const V even3 = vfma(four, d[2], d[0]), odd3 = two * vfma(four, d[3], d[1]);
    t[0] = d[0];
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = even3 + odd3;
    t[6] = even3 - odd3;
    t[7] = d[3];
}

/* Row y of all planes with their values side by side, zeros where it lies in the padding. Lanes of the result that met a
 * NaN or more than the limit are negative: the bits of an absolute value order like the value. */
CK_INLINE VI CK_TYPED(lay_row)(const ck_gradient_tiles *j, ptrdiff_t y, ptrdiff_t columns, T *to)
{
    const V most = vset1((T)j->limit);
    const VI limit = (VI)most, size = (VI){0} + (TI)0x7fffffff;
    VI bad = {0};
    ptrdiff_t first = j->x < 0 ? -j->x : 0, last = j->width - j->x < columns ? j->width - j->x : columns;
    if (y < 0 || y >= j->height || last <= first) first = last = columns;
    memset(to, 0, first * L * sizeof(T));
    memset(to + last * L, 0, (columns - last) * L * sizeof(T));
    const T *from = (const T *)j->plane + y * j->width + j->x;
    for (ptrdiff_t i = first; i < last; i += L) {
        const ptrdiff_t n = last - i < L ? last - i : L;
        V r[L];
        if (n == L && j->planes == L) {
            CK_UNROLL for (int c = 0; c < L; c++) r[c] = vload(from + c * j->plane_step + i);
        } else {
            for (int c = 0; c < L; c++) r[c] = c < j->planes ? vload_part(from + c * j->plane_step + i, n) : (V){0};
        }
        CK_UNROLL for (int c = 0; c < L; c++) bad |= limit - ((VI)r[c] & size);
        vtranspose(r);
        if (n == L)
            CK_UNROLL for (int c = 0; c < L; c++) vstore(to + (i + c) * L, r[c]);
        else
            for (int c = 0; c < n; c++) vstore(to + (i + c) * L, r[c]);
    }
    return bad;
}

/* Tiles of `side` x `side` at n x n points; neighbours overlap where side is more than 4. Rows wait in a ring for the tiles
 * below. */
CK_INLINE int CK_TYPED(split_tiles)(const ck_gradient_tiles *j, const int side, const int n,
                                    void (*transform)(const V *, V *))
{
    const ptrdiff_t columns = 4 * (j->columns - 1) + side, ring = columns * L;
    T *s = j->scratch;
    VI bad = {0};
    for (ptrdiff_t r = 0; r < j->rows; r++) {
        for (ptrdiff_t row = 4 * r + (r ? side - 4 : 0); row < 4 * r + side; row++)
            bad |= CK_TYPED(lay_row)(j, j->y + row, columns, s + row % CK_GRADIENT_ROWS * ring);
        for (ptrdiff_t t = 0; t < j->columns; t++) {
            T *to = (T *)j->points + (r * j->columns + t) * j->tile_step;
            V half[8][8];
            for (int y = 0; y < side; y++) {
                V d[8];
                CK_UNROLL for (int x = 0; x < side; x++) d[x] =
                    vload(s + (4 * r + y) % CK_GRADIENT_ROWS * ring + (4 * t + x) * L);
                transform(d, half[y]);
            }
            for (int x = 0; x < n; x++) {
                V d[8], u[8];
                CK_UNROLL for (int y = 0; y < side; y++) d[y] = half[y][x];
                transform(d, u);
                CK_UNROLL for (int y = 0; y < n; y++) vstore(to + (y * n + x) * j->point_step, u[y]);
            }
        }
    }
    VI any[1] = {bad};
    TI lane[L];
    memcpy(lane, any, sizeof lane);
    TI found = 0;
    for (int i = 0; i < L; i++) found |= lane[i];
    return found < 0;
}

CK_NOINLINE int CK_TYPED(split_x)(const ck_gradient_tiles *j)
{
    return CK_TYPED(split_tiles)(j, 6, 6, CK_TYPED(into_points));
}

CK_NOINLINE int CK_TYPED(split_dy)(const ck_gradient_tiles *j)
{
    return CK_TYPED(split_tiles)(j, 4, 6, CK_TYPED(dy_points));
}

CK_NOINLINE int CK_TYPED(split_wide_x)(const ck_gradient_tiles *j)
{
    return CK_TYPED(split_tiles)(j, 8, 8, CK_TYPED(into_eight_points));
}

CK_NOINLINE int CK_TYPED(split_wide_dy)(const ck_gradient_tiles *j)
{
    return CK_TYPED(split_tiles)(j, 4, 8, CK_TYPED(dy_eight_points));
}

/* G^T m for six values. */
CK_INLINE void CK_TYPED(taps_of_points)(const V m[6], V g[3])
{
    const V third = vset1((T)(1.0 / 3)), sixth = vset1((T)(1.0 / 6)), b = vset1((T)(WINO_B / 6)), two = vset1(2);
    const V s1 = m[1] + m[2], q1 = m[2] - m[1], s2 = m[3] + m[4], q2 = m[3] - m[4];
    g[0] = vfma(sixth, vfma(vset1(-4), s1, s2), m[0]);
    g[1] = b * vfma(two, q1, q2);
    g[2] = vfma(third, s2 - s1, m[5]);
}

/* And for eight. */
CK_INLINE void CK_TYPED(taps_of_eight_points)(const V m[8], V g[5])
{
    const V ones = vset1((T)(-2. / 9)), halves = vset1((T)(2. / 45)), twos = vset1((T)(1. / 90));
    const V s1 = ones * (m[1] + m[2]), q1 = ones * (m[1] - m[2]), s2 = halves * (m[3] + m[4]);
    const V q2 = halves * (m[3] - m[4]), s3 = twos * (m[5] + m[6]), q3 = twos * (m[5] - m[6]);
    g[0] = vfma(vset1(16), s2, s1 + s3) - m[0];
    g[1] = vfma(vset1(8), q2, vfma(vset1(2), q3, q1));
    g[2] = vfma(vset1(4), s2 + s3, s1);
    g[3] = vfma(vset1(2), q2, vfma(vset1(8), q3, q1));
    g[4] = vfma(vset1(16), s3, s1 + s2) + m[7];
}

CK_INLINE void CK_TYPED(join_points)(const ck_gradient_sums *j, const int n, void (*transform)(const V *, V *))
{
    const T *sums = j->sums;
    for (ptrdiff_t i = 0; i < j->channels * j->lanes; i += L) {
        T *to = (T *)j->taps + i / j->lanes * j->channel_step + i % j->lanes;
        V half[5][8];
        for (int x = 0; x < n; x++) {
            V d[8], g[5];
            CK_UNROLL for (int y = 0; y < n; y++) d[y] = vload(sums + i + (y * n + x) * j->point_step);
            transform(d, g);
            CK_UNROLL for (int y = 0; y < n - 3; y++) half[y][x] = g[y];
        }
        for (int y = 0; y < j->rows; y++) {
            V g[5] = {{0}}; /* as many as there are columns are written, which the compiler cannot know */
            transform(half[y], g);
            for (int x = 0; x < j->columns; x++) vstore(to + (y * j->columns + x) * j->lanes, g[x]);
        }
    }
}

CK_NOINLINE void CK_TYPED(join_six)(const ck_gradient_sums *j)
{
    CK_TYPED(join_points)(j, 6, CK_TYPED(taps_of_points));
}

CK_NOINLINE void CK_TYPED(join_eight)(const ck_gradient_sums *j)
{
    CK_TYPED(join_points)(j, 8, CK_TYPED(taps_of_eight_points));
}

extern const ck_gradient_table CK_KERNEL(ck_gradient);
const ck_gradient_table CK_KERNEL(ck_gradient) = {
    .three = {.split_x = CK_TYPED(split_x), .split_dy = CK_TYPED(split_dy), .join = CK_TYPED(join_six)},
    .five = {.split_x = CK_TYPED(split_wide_x), .split_dy = CK_TYPED(split_wide_dy), .join = CK_TYPED(join_eight)},
};
