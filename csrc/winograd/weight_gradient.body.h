/* Compiled by weight_gradient.kernel.c. The points are 0, +-a, +-b and infinity with a = sqrt(1/2), b = sqrt(2). */

#define WINO_A 0.70710678118654752440
#define WINO_B 1.41421356237309504880

/* B^T d: the transform of x along one axis. */
CK_INLINE void CK_TYPED(x_points)(const V *d, V *t)
{
    const V a = vset1((T)WINO_A), b = vset1((T)WINO_B), half = vset1((T)0.5), two = vset1(2), fives = vset1((T)2.5);
    const V even1 = vfma(-two, d[2], d[4]), odd1 = vfma(a, d[3], -b * d[1]);
    const V even2 = vfma(-half, d[2], d[4]), odd2 = vfma(b, d[3], -a * d[1]);
    t[0] = vfma(-fives, d[2], d[0] + d[4]);
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = vfma(-fives, d[3], d[1] + d[5]);
}

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

/* Tiles of `side` x `side`; neighbours overlap where that is more than 4. Rows wait in a ring for the tiles below. */
CK_INLINE int CK_TYPED(split_tiles)(const ck_gradient_tiles *j, const int side, void (*transform)(const V *, V *))
{
    const ptrdiff_t columns = 4 * (j->columns - 1) + side, ring = columns * L;
    T *s = j->scratch;
    VI bad = {0};
    for (ptrdiff_t r = 0; r < j->rows; r++) {
        for (ptrdiff_t row = 4 * r + (r ? side - 4 : 0); row < 4 * r + side; row++)
            bad |= CK_TYPED(lay_row)(j, j->y + row, columns, s + row % CK_GRADIENT_ROWS * ring);
        for (ptrdiff_t t = 0; t < j->columns; t++) {
            T *to = (T *)j->points + (r * j->columns + t) * j->tile_step;
            V half[6][6];
            CK_UNROLL for (int y = 0; y < side; y++)
            {
                V d[6];
                CK_UNROLL for (int x = 0; x < side; x++) d[x] =
                    vload(s + (4 * r + y) % CK_GRADIENT_ROWS * ring + (4 * t + x) * L);
                transform(d, half[y]);
            }
            CK_UNROLL for (int x = 0; x < 6; x++)
            {
                V d[6], u[6];
                CK_UNROLL for (int y = 0; y < side; y++) d[y] = half[y][x];
                transform(d, u);
                CK_UNROLL for (int y = 0; y < 6; y++) vstore(to + (y * 6 + x) * j->point_step, u[y]);
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
    return CK_TYPED(split_tiles)(j, 6, CK_TYPED(x_points));
}

CK_NOINLINE int CK_TYPED(split_dy)(const ck_gradient_tiles *j)
{
    return CK_TYPED(split_tiles)(j, 4, CK_TYPED(dy_points));
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

CK_NOINLINE void CK_TYPED(gradient_join)(const void *sums, ptrdiff_t point_step, ptrdiff_t channels, ptrdiff_t lanes,
                                         void *taps, ptrdiff_t channel_step)
{
    for (ptrdiff_t i = 0; i < channels * lanes; i += L) {
        const T *m = (const T *)sums + i;
        T *to = (T *)taps + i / lanes * channel_step + i % lanes;
        V half[3][6];
        CK_UNROLL for (int x = 0; x < 6; x++)
        {
            V d[6], g[3];
            CK_UNROLL for (int y = 0; y < 6; y++) d[y] = vload(m + (y * 6 + x) * point_step);
            CK_TYPED(taps_of_points)(d, g);
            CK_UNROLL for (int y = 0; y < 3; y++) half[y][x] = g[y];
        }
        CK_UNROLL for (int y = 0; y < 3; y++)
        {
            V g[3];
            CK_TYPED(taps_of_points)(half[y], g);
            CK_UNROLL for (int x = 0; x < 3; x++) vstore(to + (y * 3 + x) * lanes, g[x]);
        }
    }
}

extern const ck_gradient_table CK_KERNEL(ck_gradient);
const ck_gradient_table CK_KERNEL(ck_gradient) = {
    .split_x = CK_TYPED(split_x),
    .split_dy = CK_TYPED(split_dy),
    .join = CK_TYPED(gradient_join),
};
