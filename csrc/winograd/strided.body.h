/* Part of winograd.body.h.
 *
 * 3 x 3 taps of stride 2, tiles of two outputs a side. Along an axis the even inputs d0, d2, d4 meet the outer taps, F(2, 2)
 * at the points 0, 1 and infinity, and the odd ones the middle tap. The product of d1 goes to the output that the point 0
 * goes to alone, and that of d3 to the one of infinity: with them they are summed, as more channels. */

enum {
    CK_TYPED(strided_reads) = 5,
    CK_TYPED(strided_parts) = 4,
    CK_TYPED(strided_weights_of) = 4,
};

/* Five inputs along an axis in the order of the sums: two at 0, one at 1, two at infinity. */
CK_INLINE void CK_TYPED(into_strided_points)(const V d[5], V t[5])
{
    t[0] = d[0] - d[2];
    t[1] = d[1];
    t[2] = d[2];
    t[3] = d[4] - d[2];
    t[4] = d[3];
}

/* Product `y`, `x` of the points along the axes, where those of each of the 3 x 3 sums are neighbours. */
CK_INLINE int CK_TYPED(strided_product)(int y, int x)
{
    static const int first[5] = {0, 0, 2, 3, 3}, within[5] = {0, 1, 0, 0, 1}, of_sum[5] = {2, 2, 1, 2, 2};
    return first[y] * CK_TYPED(strided_reads) + first[x] * of_sum[y] + within[y] * of_sum[x] + within[x];
}

CK_NOINLINE int CK_TYPED(strided_split)(const ck_winograd_input *j)
{
    const int parts = CK_TYPED(strided_parts);
    const ptrdiff_t step = (j->rows + 1) * j->pitch + 2 * L, tiles = j->rows * j->pitch;
    const T *s = j->scratch;
    const int bad = CK_TYPED(part_plane)(j, step, parts, CK_TYPED(strided_reads));
    for (ptrdiff_t t = 0; t < tiles; t += L) {
        V half[CK_TYPED(strided_reads)][CK_TYPED(strided_reads)];
        CK_UNROLL for (int y = 0; y < CK_TYPED(strided_reads); y++)
        {
            V d[CK_TYPED(strided_reads)];
            CK_UNROLL for (int x = 0; x < CK_TYPED(strided_reads); x++) d[x] =
                vload(s + (y % parts * parts + x % parts) * step + t + y / parts * j->pitch + x / parts);
            CK_TYPED(into_strided_points)(d, half[y]);
        }
        CK_UNROLL for (int x = 0; x < CK_TYPED(strided_reads); x++)
        {
            V d[CK_TYPED(strided_reads)], u[CK_TYPED(strided_reads)];
            CK_UNROLL for (int y = 0; y < CK_TYPED(strided_reads); y++) d[y] = half[y][x];
            CK_TYPED(into_strided_points)(d, u);
            CK_UNROLL for (int y = 0; y < CK_TYPED(strided_reads); y++)
                vstore((T *)j->v + CK_TYPED(strided_product)(y, x) * j->v_step + t, u[y]);
        }
    }
    return bad;
}

/* Three taps along an axis: at the points of the outer two, and the middle one, which all products of odd inputs take. */
CK_INLINE void CK_TYPED(strided_weight_points)(const CK_TYPED(wide) g[3], CK_TYPED(wide) u[4])
{
    u[0] = g[0];
    u[1] = g[0] + g[2];
    u[2] = g[2];
    u[3] = g[1];
}

CK_NOINLINE void CK_TYPED(strided_weights)(const void *taps, int turned, ptrdiff_t lanes, void *u, ptrdiff_t u_step)
{
    const int n = CK_TYPED(strided_weights_of);
    (void)turned; /* forward only */
    for (ptrdiff_t f = 0; f < lanes; f += L) {
        CK_TYPED(wide) half[CK_TYPED(strided_weights_of)][3];
        for (int x = 0; x < 3; x++) {
            CK_TYPED(wide) g[3], t[CK_TYPED(strided_weights_of)];
            for (int y = 0; y < 3; y++)
                g[y] = __builtin_convertvector(vload((const T *)taps + (y * 3 + x) * lanes + f), CK_TYPED(wide));
            CK_TYPED(strided_weight_points)(g, t);
            for (int y = 0; y < n; y++) half[y][x] = t[y];
        }
        for (int y = 0; y < n; y++) {
            CK_TYPED(wide) t[CK_TYPED(strided_weights_of)];
            CK_TYPED(strided_weight_points)(half[y], t);
            for (int x = 0; x < n; x++) vstore((T *)u + (y * n + x) * u_step + f, __builtin_convertvector(t[x], V));
        }
    }
}

CK_NOINLINE void CK_TYPED(strided_join)(const ck_winograd_output *j) { CK_TYPED(join)(j, 3); }

/* The input gradient: tiles of 4 x 4. Along an axis, three of dy meet the outer taps at the same points, and the first two the
 * middle one, the first as its difference at 0 and the second added. */

enum { CK_TYPED(gradient_reads) = 3 };

CK_INLINE void CK_TYPED(into_gradient_points)(const V d[3], V t[3])
{
    t[0] = d[0] - d[1];
    t[1] = d[1];
    t[2] = d[2] - d[1];
}

CK_NOINLINE int CK_TYPED(gradient_split)(const ck_winograd_input *j)
{
    const int parts = 2, n = CK_TYPED(gradient_reads);
    const ptrdiff_t step = (j->rows + 1) * j->pitch + 2 * L, tiles = j->rows * j->pitch;
    const T *s = j->scratch;
    const int bad = CK_TYPED(part_plane)(j, step, parts, n);
    for (ptrdiff_t t = 0; t < tiles; t += L) {
        V half[CK_TYPED(gradient_reads)][CK_TYPED(gradient_reads)];
        CK_UNROLL for (int y = 0; y < n; y++)
        {
            V d[CK_TYPED(gradient_reads)];
            CK_UNROLL for (int x = 0; x < n; x++) d[x] =
                vload(s + (y % parts * parts + x % parts) * step + t + y / parts * j->pitch + x / parts);
            CK_TYPED(into_gradient_points)(d, half[y]);
        }
        CK_UNROLL for (int x = 0; x < n; x++)
        {
            V d[CK_TYPED(gradient_reads)], u[CK_TYPED(gradient_reads)];
            CK_UNROLL for (int y = 0; y < n; y++) d[y] = half[y][x];
            CK_TYPED(into_gradient_points)(d, u);
            CK_UNROLL for (int y = 0; y < n; y++) vstore((T *)j->v + (y * n + x) * j->v_step + t, u[y]);
        }
    }
    return bad;
}

CK_NOINLINE void CK_TYPED(gradient_join)(const ck_winograd_output *j) { CK_TYPED(join)(j, 5); }
