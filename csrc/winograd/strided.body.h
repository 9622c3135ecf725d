/* Part of winograd.body.h.
 *
 * 3 x 3 taps of stride 2, tiles of two outputs a side. Along an axis the even inputs d0, d2, d4 meet the outer taps, F(2, 2)
 * at the points 0, 1 and infinity, and the odd ones the middle tap. The product of d1 goes to the output that the point 0
 * goes to alone, and that of d3 to the one of infinity: with them they are summed, as more channels. */

enum { CK_TYPED(strided_weights_of) = 4 };

CK_NOINLINE int CK_TYPED(strided_split)(const ck_winograd_input *j) { return CK_TYPED(split)(j, 5); }

/* Three taps along an axis: at the points of the outer two, and the middle one, which all products of odd inputs take. */
CK_INLINE void CK_TYPED(strided_weight_points)(const ck_f64v g[3], ck_f64v u[4])
{
    u[0] = g[0];
    u[1] = g[0] + g[2];
    u[2] = g[2];
    u[3] = g[1];
}

CK_NOINLINE void CK_TYPED(strided_weights)(const void *taps, int turned, ptrdiff_t lanes, void *u, ptrdiff_t u_step)
{
    const int n = CK_TYPED(strided_weights_of);
    (void)turned; /* the gradient takes the same ones */
    for (ptrdiff_t f = 0; f < lanes; f += CK_F64_LANES) {
        ck_f64v half[CK_TYPED(strided_weights_of)][3];
        for (int x = 0; x < 3; x++) {
            ck_f64v g[3], t[CK_TYPED(strided_weights_of)];
            for (int y = 0; y < 3; y++) g[y] = CK_TYPED(ck_load_wide)((const T *)taps + (y * 3 + x) * lanes + f);
            CK_TYPED(strided_weight_points)(g, t);
            for (int y = 0; y < n; y++) half[y][x] = t[y];
        }
        for (int y = 0; y < n; y++) {
            ck_f64v t[CK_TYPED(strided_weights_of)];
            CK_TYPED(strided_weight_points)(half[y], t);
            for (int x = 0; x < n; x++) CK_TYPED(store_weights)((T *)u + (y * n + x) * u_step + f, t[x]);
        }
    }
}

CK_NOINLINE void CK_TYPED(strided_join)(const ck_winograd_output *j) { CK_TYPED(join)(j, 3); }
CK_NOINLINE int CK_TYPED(gradient_split)(const ck_winograd_input *j) { return CK_TYPED(split)(j, 3); }
CK_NOINLINE void CK_TYPED(gradient_join)(const ck_winograd_output *j) { CK_TYPED(join)(j, 5); }
