/* Compiled by winograd.kernel.c. The points are 0, +-a, +-b and infinity with a = sqrt(1/2), b = sqrt(2). */

#define WINO_A 0.70710678118654752440
#define WINO_B 1.41421356237309504880

/* B^T d for six values: the input transform along one axis. */
CK_INLINE void CK_TYPED(into_points)(const V d[6], V t[6])
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

/* A^T m for six values: the output transform along one axis. */
CK_INLINE void CK_TYPED(from_points)(const V m[6], V y[4])
{
    const V a = vset1((T)WINO_A), b = vset1((T)WINO_B), half = vset1((T)0.5), two = vset1(2);
    const V s1 = m[1] + m[2], q1 = m[1] - m[2], s2 = m[3] + m[4], q2 = m[3] - m[4];
    y[0] = m[0] + (s1 + s2);
    y[1] = vfma(b, q2, a * q1);
    y[2] = vfma(two, s2, half * s1);
    y[3] = vfma(b + b, q2, vfma(half * a, q1, m[5]));
}

/* A padded row in quarters, quarter[k][i] = row[4 i + k], so that neighbouring tiles become neighbouring lanes.
 * Returns the lanes that hold a value beyond the limit. */
CK_INLINE VI CK_TYPED(quarter_row)(const T *line, ptrdiff_t n, T *quarter, ptrdiff_t step, V limit)
{
    VI bad = {0};
    for (ptrdiff_t i = 0; i < n; i += L) {
        V p[4];
        CK_UNROLL for (int k = 0; k < 4; k++)
        {
            p[k] = vload(line + 4 * i + k * L);
            bad |= ~((p[k] <= limit) & (p[k] >= -limit));
        }
        const V even0 = veven(p[0], p[1]), even1 = veven(p[2], p[3]), odd0 = vodd(p[0], p[1]), odd1 = vodd(p[2], p[3]);
        vstore(quarter + i, veven(even0, even1));
        vstore(quarter + step + i, veven(odd0, odd1));
        vstore(quarter + 2 * step + i, vodd(even0, even1));
        vstore(quarter + 3 * step + i, vodd(odd0, odd1));
    }
    return bad;
}

/* Every row of the plane that the tiles see, in quarters: s[row % 4][column % 4][row / 4 * pitch + column / 4]. */
CK_INLINE int CK_TYPED(quarter_plane)(const ck_winograd_input *j, T *s, ptrdiff_t step)
{
    T *line = (T *)j->scratch;
    const ptrdiff_t length = (j->pitch + L - 1) / L * L * 4, first = j->x < 0 ? -j->x : 0;
    ptrdiff_t last = j->width - j->x;
    if (last > 4 * j->pitch) last = 4 * j->pitch;
    VI bad = {0};
    memset(line, 0, length * sizeof(T));
    for (ptrdiff_t row = 0; row < 4 * j->rows + 2; row++) {
        const ptrdiff_t y = j->y + row;
        T *quarter = s + row % 4 * 4 * step + row / 4 * j->pitch;
        if (y < 0 || y >= j->height || last <= first) {
            for (int k = 0; k < 4; k++) memset(quarter + k * step, 0, j->pitch * sizeof(T));
            continue;
        }
        memcpy(line + first, (const T *)j->plane + y * j->width + j->x + first, (last - first) * sizeof(T));
        bad |= CK_TYPED(quarter_row)(line, j->pitch, quarter, step, vset1((T)j->limit));
    }
    VI any[1] = {bad};
    TI lane[L];
    memcpy(lane, any, sizeof lane);
    TI found = 0;
    for (int i = 0; i < L; i++) found |= lane[i];
    return found != 0;
}

CK_NOINLINE int CK_TYPED(winograd_split)(const ck_winograd_input *j)
{
    const ptrdiff_t step = (j->rows + 1) * j->pitch + 2 * L, tiles = j->rows * j->pitch;
    T *s = (T *)j->scratch + 4 * (j->pitch + CK_WINOGRAD_LANES);
    const int bad = CK_TYPED(quarter_plane)(j, s, step);
    for (ptrdiff_t t = 0; t < tiles; t += L) {
        V half[6][6];
        CK_UNROLL for (int y = 0; y < 6; y++)
        {
            V d[6];
            CK_UNROLL for (int x = 0; x < 6; x++) d[x] =
                vload(s + (y % 4 * 4 + x % 4) * step + t + y / 4 * j->pitch + x / 4);
            CK_TYPED(into_points)(d, half[y]);
        }
        CK_UNROLL for (int x = 0; x < 6; x++)
        {
            V d[6], u[6];
            CK_UNROLL for (int y = 0; y < 6; y++) d[y] = half[y][x];
            CK_TYPED(into_points)(d, u);
            CK_UNROLL for (int y = 0; y < 6; y++) vstore((T *)j->v + (y * 6 + x) * j->v_step + t, u[y]);
        }
    }
    return bad;
}

/* The weights are transformed in double and rounded once: in T, the transform alone cost a quarter of the error bound. */
typedef double CK_TYPED(wide) __attribute__((vector_size(L * sizeof(double))));

/* G g for three values. */
CK_INLINE void CK_TYPED(weight_points)(const CK_TYPED(wide) g[3], CK_TYPED(wide) u[6])
{
    const CK_TYPED(wide) odd = WINO_B * g[1], even1 = (2 * g[0] + g[2]) / -3, even2 = (2 * g[2] + g[0]) / 6;
    u[0] = g[0];
    u[1] = even1 - odd / 3;
    u[2] = even1 + odd / 3;
    u[3] = even2 + odd / 6;
    u[4] = even2 - odd / 6;
    u[5] = g[2];
}

CK_NOINLINE void CK_TYPED(winograd_weights)(const void *taps, int turned, ptrdiff_t lanes, void *u, ptrdiff_t u_step)
{
    for (ptrdiff_t f = 0; f < lanes; f += L) {
        CK_TYPED(wide) half[6][3];
        for (int x = 0; x < 3; x++) {
            CK_TYPED(wide) g[3], t[6];
            for (int y = 0; y < 3; y++) {
                const int tap = y * 3 + x;
                const V w = vload((const T *)taps + (turned ? 8 - tap : tap) * lanes + f);
                g[y] = __builtin_convertvector(w, CK_TYPED(wide));
            }
            CK_TYPED(weight_points)(g, t);
            for (int y = 0; y < 6; y++) half[y][x] = t[y];
        }
        for (int y = 0; y < 6; y++) {
            CK_TYPED(wide) t[6];
            CK_TYPED(weight_points)(half[y], t);
            for (int x = 0; x < 6; x++) vstore((T *)u + (y * 6 + x) * u_step + f, __builtin_convertvector(t[x], V));
        }
    }
}

/* The 4 x 4 outputs of one tile for one vector of filters: out[row][column]. */
CK_INLINE void CK_TYPED(join_tile)(const T *m, ptrdiff_t m_step, V bias, V out[4][L], int column)
{
    V half[4][6];
    CK_UNROLL for (int x = 0; x < 6; x++)
    {
        V d[6], t[4];
        CK_UNROLL for (int y = 0; y < 6; y++) d[y] = vload(m + (y * 6 + x) * m_step);
        CK_TYPED(from_points)(d, t);
        CK_UNROLL for (int y = 0; y < 4; y++) half[y][x] = t[y];
    }
    CK_UNROLL for (int y = 0; y < 4; y++)
    {
        V t[4];
        CK_TYPED(from_points)(half[y], t);
        CK_UNROLL for (int x = 0; x < 4; x++) out[y][column + x] = t[x] + bias;
    }
}

CK_NOINLINE void CK_TYPED(winograd_join)(const ck_winograd_output *j)
{
    for (ptrdiff_t v = 0; v * L < j->filters; v++) {
        const ptrdiff_t filters = j->filters - v * L < L ? j->filters - v * L : L;
        const V bias = j->bias ? vload((const T *)j->bias + v * L) : (V){0};
        for (ptrdiff_t x = 0; x < j->width; x += L) {
            const ptrdiff_t n = j->width - x < L ? j->width - x : L;
            V out[4][L];
            for (int column = 0; column < n; column += 4) CK_TYPED(join_tile)
            ((const T *)j->m + (x + column) / 4 * j->lanes + v * L, j->m_step, bias, out, column);
            for (ptrdiff_t y = 0; y < j->rows; y++) {
                V r[L];
                /* Columns past the last tile are whatever the stack holds; their lanes are not stored. */
                CK_UNROLL for (int i = 0; i < L; i++) r[i] = out[y][i];
                vtranspose(r);
                T *to = (T *)j->y + v * L * j->y_filter + y * j->y_row + x;
                CK_UNROLL for (int f = 0; f < L; f++)
                {
                    if (f >= filters) break;
                    vstore_part(to + f * j->y_filter, r[f], n);
                }
            }
        }
    }
}

extern const ck_winograd_table CK_KERNEL(ck_winograd);
const ck_winograd_table CK_KERNEL(ck_winograd) = {
    .split = CK_TYPED(winograd_split),
    .weights = CK_TYPED(winograd_weights),
    .join = CK_TYPED(winograd_join),
};
