/* Compiled by winograd.kernel.c. `n` points along an axis make of n values `side` outputs of n - side + 1 taps; it is constant
 * after inlining. Six are 0, +-a, +-b and infinity with a = sqrt(1/2), b = sqrt(2): four outputs of three taps. Four
 * are 0, +-1 and infinity: two outputs of three taps; three are 0, 1 and infinity: of two. Eight are 0, +-1/2, +-1, +-2
 * and infinity: four of five. Ten are 0, +-2/5, +-4/5, +-5/4, +-5/2 and infinity: four of seven, along lines. */

enum { CK_TYPED(most_side) = 4, CK_TYPED(most_points) = 10, CK_TYPED(most_taps) = 7 };

CK_INLINE int CK_TYPED(side_of)(const int n) { return n <= 4 ? 2 : 4; }

/* The same with four values for two outputs. */
CK_INLINE void CK_TYPED(into_four_points)(const V d[4], V t[4])
{
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
}

/* Of ten points +-p, where the squares of the others are q, r and s. */
CK_INLINE void CK_TYPED(into_pair)(const V d[10], V t[2], const double p, const double q, const double r,
                                   const double s)
{
    const V first = vset1((T)(q + r + s)), second = vset1((T)(q * r + q * s + r * s)), third = vset1((T)(q * r * s));
    const V even = vfma(-third, d[2], vfma(second, d[4], vfma(-first, d[6], d[8])));
    const V odd = vfma(-third, d[1], vfma(second, d[3], vfma(-first, d[5], d[7])));
    t[0] = vfma(vset1((T)p), odd, even);
    t[1] = vfma(-vset1((T)p), odd, even);
}

CK_INLINE void CK_TYPED(into_ten_points)(const V d[10], V t[10])
{
    const V outer = vset1((T)8.6125), inner = vset1((T)16.118025);
    t[0] = vfma(inner, d[4], vfma(-outer, d[2] + d[6], d[0] + d[8]));
    CK_TYPED(into_pair)(d, t + 1, 0.4, 0.64, 1.5625, 6.25);
    CK_TYPED(into_pair)(d, t + 3, 0.8, 0.16, 1.5625, 6.25);
    CK_TYPED(into_pair)(d, t + 5, 1.25, 0.16, 0.64, 6.25);
    CK_TYPED(into_pair)(d, t + 7, 2.5, 0.16, 0.64, 1.5625);
    t[9] = vfma(inner, d[5], vfma(-outer, d[3] + d[7], d[1] + d[9]));
}

/* Five inputs of a convolution of stride 2: the even ones at 0, 1 and infinity, each odd one behind the even one whose output
 * it goes to. */
CK_INLINE void CK_TYPED(into_strided_points)(const V d[5], V t[5])
{
    t[0] = d[0] - d[2];
    t[1] = d[1];
    t[2] = d[2];
    t[3] = d[4] - d[2];
    t[4] = d[3];
}

/* Three of dy in its input gradient, whose tiles are 4 x 4: they meet the outer taps at the same points, and the first two the
 * middle one, the first as its difference at 0 and the second added. */
CK_INLINE void CK_TYPED(into_gradient_points)(const V d[3], V t[3])
{
    t[0] = d[0] - d[1];
    t[1] = d[1];
    t[2] = d[2] - d[1];
}

CK_INLINE void CK_TYPED(into_points_of)(const V *d, V *t, const int n)
{
    if (n == 10) {
        CK_TYPED(into_ten_points)(d, t);
        return;
    }
    if (n == 3)
        CK_TYPED(into_gradient_points)(d, t);
    else if (n == 4)
        CK_TYPED(into_four_points)(d, t);
    else if (n == 5)
        CK_TYPED(into_strided_points)(d, t);
    else if (n == 6)
        CK_TYPED(into_points)(d, t);
    else
        CK_TYPED(into_eight_points)(d, t);
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

CK_INLINE void CK_TYPED(from_three_points)(const V m[3], V y[2])
{
    y[0] = m[0] + m[1];
    y[1] = m[1] + m[2];
}

/* Of an input gradient of stride 2: three products of the outer taps, two of the middle one. */
CK_INLINE void CK_TYPED(from_gradient_points)(const V m[5], V y[4])
{
    y[0] = m[3] + m[4];
    y[1] = m[0] + m[1];
    y[2] = m[4];
    y[3] = m[1] + m[2];
}

CK_INLINE void CK_TYPED(from_four_points)(const V m[4], V y[2])
{
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = m[3] + (m[1] - m[2]);
}

CK_INLINE void CK_TYPED(from_eight_points)(const V m[8], V y[4])
{
    const V s1 = m[1] + m[2], q1 = m[1] - m[2], s2 = m[3] + m[4], q2 = m[3] - m[4], s3 = m[5] + m[6], q3 = m[5] - m[6];
    y[0] = m[0] + (s1 + (s2 + s3));
    y[1] = vfma(vset1(2), q3, vfma(vset1((T)0.5), q2, q1));
    y[2] = vfma(vset1(4), s3, vfma(vset1((T)0.25), s2, s1));
    y[3] = vfma(vset1(8), q3, vfma(vset1((T)0.125), q2, q1 + m[7]));
}

CK_INLINE void CK_TYPED(from_ten_points)(const V m[10], V y[4])
{
    const double p[4] = {0.4, 0.8, 1.25, 2.5};
    y[0] = m[0];
    y[1] = y[2] = (V){0};
    y[3] = m[9];
    CK_UNROLL for (int i = 0; i < 4; i++)
    {
        const V s = m[2 * i + 1] + m[2 * i + 2], q = m[2 * i + 1] - m[2 * i + 2];
        y[0] += s;
        y[1] = vfma(vset1((T)p[i]), q, y[1]);
        y[2] = vfma(vset1((T)(p[i] * p[i])), s, y[2]);
        y[3] = vfma(vset1((T)(p[i] * p[i] * p[i])), q, y[3]);
    }
}

CK_INLINE void CK_TYPED(from_points_of)(const V *m, V *y, const int n)
{
    if (n == 10) {
        CK_TYPED(from_ten_points)(m, y);
        return;
    }
    if (n == 3)
        CK_TYPED(from_three_points)(m, y);
    else if (n == 4)
        CK_TYPED(from_four_points)(m, y);
    else if (n == 5)
        CK_TYPED(from_gradient_points)(m, y);
    else if (n == 6)
        CK_TYPED(from_points)(m, y);
    else
        CK_TYPED(from_eight_points)(m, y);
}

/* Values beyond the limit leave a negative lane in `bad |= distance`. Magnitudes are compared as integers, among which an
 * infinity is larger than any number and a NaN larger than that: a third of the instructions of two comparisons. */
CK_INLINE VI CK_TYPED(limit_bits)(double limit)
{
    V as_float[1] = {vset1((T)limit)};
    VI bits[1];
    memcpy(bits, as_float, sizeof bits);
    return limit < 0 ? ~(VI){0} : bits[0];
}

CK_INLINE VI CK_TYPED(distance)(V v, VI limit) { return limit - ((VI)v & 0x7fffffff); }

CK_INLINE int CK_TYPED(any_negative)(VI mask)
{
    VI any[1] = {mask};
    TI lane[L], found = 0;
    memcpy(lane, any, sizeof lane);
    for (int i = 0; i < L; i++) found |= lane[i];
    return found < 0;
}

/* L elements of a line from any place on, zeros outside of it. */
CK_INLINE V CK_TYPED(load_around)(const T *line, ptrdiff_t at, ptrdiff_t n)
{
    if (at >= 0 && at + L <= n) return vload(line + at);
    if (at <= -L || at >= n) return (V){0};
    return vload_lanes(line + at, vlanes(at < 0 ? -at : 0, n - at < L ? n - at : L));
}

/* Every fourth lane of four vectors, from lane k on to vector k. At AVX2 halves change places first, so that no shuffle
 * has to put lanes in order. */
CK_INLINE void CK_TYPED(quarters)(V p[4])
{
#if defined(CK_AVX2)
    const V a = CK_SHUFFLE(p[0], p[2], VI, 0, 1, 2, 3, 8, 9, 10, 11);
    const V b = CK_SHUFFLE(p[0], p[2], VI, 4, 5, 6, 7, 12, 13, 14, 15);
    const V c = CK_SHUFFLE(p[1], p[3], VI, 0, 1, 2, 3, 8, 9, 10, 11);
    const V d = CK_SHUFFLE(p[1], p[3], VI, 4, 5, 6, 7, 12, 13, 14, 15);
    const V even0 = vquick_even(a, b), even1 = vquick_even(c, d), odd0 = vquick_odd(a, b), odd1 = vquick_odd(c, d);
    p[0] = vquick_even(even0, even1), p[2] = vquick_odd(even0, even1);
    p[1] = vquick_even(odd0, odd1), p[3] = vquick_odd(odd0, odd1);
#else
    const V even0 = veven(p[0], p[1]), even1 = veven(p[2], p[3]), odd0 = vodd(p[0], p[1]), odd1 = vodd(p[2], p[3]);
    p[0] = veven(even0, even1), p[2] = vodd(even0, even1);
    p[1] = veven(odd0, odd1), p[3] = vodd(odd0, odd1);
#endif
}

/* The lanes of the vectors in which a row of n elements begins and ends, of those that lie whole vectors apart from
 * column x on. Made once a plane: for every load that needs them they took a fifth of the split. */
typedef struct {
    VL first, last;
} CK_TYPED(ends_t);

CK_INLINE CK_TYPED(ends_t) CK_TYPED(ends_of)(ptrdiff_t x, ptrdiff_t n)
{
    const ptrdiff_t before = x < 0 ? -x % L : 0, behind = x < n ? (n - x) % L : 0;
    const CK_TYPED(ends_t) ends = {vlanes(before, n + before < L ? n + before : L), vlanes(0, behind)};
    return ends;
}

CK_INLINE V CK_TYPED(load_between)(const T *line, ptrdiff_t at, ptrdiff_t n, CK_TYPED(ends_t) ends)
{
    if (at >= 0 && at + L <= n) return vload(line + at);
    if (at <= -L || at >= n) return (V){0};
    if (at < 0) return vload_lanes(line + at, ends.first);
    return vload_lanes(line + at, ends.last);
}

/* A row of the plane from column x on in two or four parts, part[k][i] = row[x + parts * i + k], so that neighbouring tiles become
 * neighbouring lanes. Returns negative lanes where a value is beyond the limit. */
CK_INLINE VI CK_TYPED(part_row)(const ck_winograd_input *j, const T *row, T *part, ptrdiff_t step, VI limit,
                                CK_TYPED(ends_t) ends, const int parts)
{
    VI bad = {0};
    for (ptrdiff_t i = 0; i < j->pitch; i += L) {
        V p[4];
        CK_UNROLL for (int k = 0; k < parts; k++)
        {
            p[k] = CK_TYPED(load_between)(row, j->x + parts * i + k * L, j->width, ends);
            bad |= CK_TYPED(distance)(p[k], limit);
        }
        if (parts == 2) {
            vstore(part + i, veven(p[0], p[1]));
            vstore(part + step + i, vodd(p[0], p[1]));
            continue;
        }
        CK_TYPED(quarters)(p);
        CK_UNROLL for (int k = 0; k < parts; k++) vstore(part + k * step + i, p[k]);
    }
    return bad;
}

/* Every row of the plane that the tiles see, `reads` of it each and the next one `parts` further, in parts:
 * scratch[row % parts][column % parts][row / parts * pitch + column / parts]. */
CK_INLINE int CK_TYPED(part_plane)(const ck_winograd_input *j, ptrdiff_t step, const int parts, const int reads)
{
    const VI limit = CK_TYPED(limit_bits)(j->limit);
    const CK_TYPED(ends_t) ends = CK_TYPED(ends_of)(j->x, j->width);
    VI bad = {0};
    for (ptrdiff_t row = 0; row < parts * (j->rows - 1) + reads; row++) {
        const ptrdiff_t y = j->y + row;
        T *part = (T *)j->scratch + row % parts * parts * step + row / parts * j->pitch;
        if (y >= 0 && y < j->height)
            bad |= CK_TYPED(part_row)(j, (const T *)j->plane + y * j->width, part, step, limit, ends, parts);
        else
            for (int k = 0; k < parts; k++) memset(part + k * step, 0, j->pitch * sizeof(T));
    }
    return CK_TYPED(any_negative)(bad);
}

/* The first n lanes. Only AVX-512 has masks that cost nothing; elsewhere what is no whole vector is stored out of line, for
 * the size of the code. */
CK_NOINLINE void CK_TYPED(store_few)(T *p, V v, ptrdiff_t n) { vstore_part(p, v, n); }

CK_INLINE void CK_TYPED(store_lanes)(T *p, V v, ptrdiff_t n)
{
    if (CK_VBYTES == 64)
        vstore_part(p, v, n);
    else if (n == L)
        vstore(p, v);
    else
        CK_TYPED(store_few)(p, v, n);
}

/* The second axis of the input transform, to the points of v. */
CK_INLINE void CK_TYPED(store_points)(V half[CK_TYPED(most_points)][CK_TYPED(most_points)], T *v, ptrdiff_t v_step,
                                      ptrdiff_t lanes, const int n)
{
    CK_UNROLL for (int x = 0; x < n; x++)
    {
        V d[CK_TYPED(most_points)], u[CK_TYPED(most_points)];
        CK_UNROLL for (int y = 0; y < n; y++) d[y] = half[y][x];
        CK_TYPED(into_points_of)(d, u, n);
        T *at = v + x * v_step;
        CK_UNROLL for (int y = 0; y < n; y++)
        {
            if (lanes == L)
                vstore(at + y * n * v_step, u[y]);
            else
                CK_TYPED(store_lanes)(at + y * n * v_step, u[y], lanes);
        }
    }
}

CK_INLINE int CK_TYPED(split)(const ck_winograd_input *j, const int n)
{
    const int side = CK_TYPED(side_of)(n);
    const ptrdiff_t step = (j->rows + 1) * j->pitch + 2 * L;
    const int bad = CK_TYPED(part_plane)(j, step, side, n);
    const ptrdiff_t runs = j->v_pitch == j->pitch ? 1 : j->rows, tiles = j->rows / runs * j->v_pitch, pitch = j->pitch;
    for (ptrdiff_t run = 0; run < runs; run++)
        for (ptrdiff_t t = 0; t < tiles; t += L) {
            const T *s = (const T *)j->scratch + run * j->pitch + t;
            V half[CK_TYPED(most_points)][CK_TYPED(most_points)];
            CK_UNROLL for (int y = 0; y < n; y++)
            {
                V d[CK_TYPED(most_points)];
                const T *row = s + y % side * side * step + y / side * pitch;
                CK_UNROLL for (int x = 0; x < n; x++) d[x] = vload(row + x % side * step + x / side);
                CK_TYPED(into_points_of)(d, half[y], n);
            }
            CK_TYPED(store_points)(half, (T *)j->v + run * j->v_pitch + t, j->v_step, L, n);
        }
    return bad;
}

CK_NOINLINE int CK_TYPED(split_four)(const ck_winograd_input *j) { return CK_TYPED(split)(j, 6); }
CK_NOINLINE int CK_TYPED(split_two)(const ck_winograd_input *j) { return CK_TYPED(split)(j, 4); }
CK_NOINLINE int CK_TYPED(split_wide)(const ck_winograd_input *j) { return CK_TYPED(split)(j, 8); }

/* A plane's pixels with the images in the lanes, among zeros: to[(row * pitch + column) * L]. Rows and columns lie inside
 * the plane. Returns negative lanes where a value is beyond the limit. */
CK_INLINE VI CK_TYPED(gather_images)(const ck_winograd_images *j, ptrdiff_t first, ptrdiff_t last, T *to,
                                     ptrdiff_t pitch)
{
    const VI limit = CK_TYPED(limit_bits)(j->limit);
    VI bad = {0};
    ptrdiff_t column = 0;
    for (ptrdiff_t q = first * j->width; q < last * j->width; q += L) {
        const T *from = (const T *)j->plane + q;
        const ptrdiff_t n = last * j->width - q < L ? last * j->width - q : L;
        V r[L];
        CK_UNROLL for (int i = 0; i < L; i++) r[i] = i < j->images ? vload_part(from + i * j->image_step, n) : (V){0};
        vtranspose(r);
        CK_UNROLL for (int i = 0; i < L; i++)
        {
            if (i >= n) break;
            bad |= CK_TYPED(distance)(r[i], limit);
            vstore(to, r[i]);
            to += L;
            if (++column == j->width) column = 0, to += (pitch - j->width) * L;
        }
    }
    return bad;
}

CK_INLINE unsigned CK_TYPED(split_images)(const ck_winograd_images *j, const int n)
{
    const int side = CK_TYPED(side_of)(n);
    const ptrdiff_t height = side * (j->rows - 1) + n, pitch = side * (j->columns - 1) + n;
    const ptrdiff_t first = j->y < 0 ? 0 : j->y, last = j->y + height < j->height ? j->y + height : j->height;
    T *s = (T *)j->scratch;
    memset(s, 0, (size_t)(height * pitch * L) * sizeof(T));
    VI bad[1] = {{0}};
    if (last > first) bad[0] = CK_TYPED(gather_images)(j, first, last, s + ((first - j->y) * pitch - j->x) * L, pitch);
    for (ptrdiff_t row = 0, t = 0; row < j->rows; row++)
        for (ptrdiff_t column = 0; column < j->columns; column++, t++) {
            const T *tile = s + side * (row * pitch + column) * L;
            V half[CK_TYPED(most_points)][CK_TYPED(most_points)];
            CK_UNROLL for (int y = 0; y < n; y++)
            {
                V d[CK_TYPED(most_points)];
                CK_UNROLL for (int x = 0; x < n; x++) d[x] = vload(tile + (y * pitch + x) * L);
                CK_TYPED(into_points_of)(d, half[y], n);
            }
            CK_TYPED(store_points)(half, (T *)j->v + t * j->tile_step, j->v_step, j->images, n);
        }
    TI lane[L];
    memcpy(lane, bad, sizeof lane);
    unsigned found = 0;
    for (int i = 0; i < L; i++) found |= (unsigned)(lane[i] < 0) << i;
    return found;
}

CK_NOINLINE unsigned CK_TYPED(split_images_four)(const ck_winograd_images *j) { return CK_TYPED(split_images)(j, 6); }
CK_NOINLINE unsigned CK_TYPED(split_images_two)(const ck_winograd_images *j) { return CK_TYPED(split_images)(j, 4); }
CK_NOINLINE unsigned CK_TYPED(split_images_wide)(const ck_winograd_images *j) { return CK_TYPED(split_images)(j, 8); }

/* Every other element of two vectors, or every other pair. */
CK_INLINE V CK_TYPED(even_of)(V a, V b, int pairs)
{
    return pairs ? (V)ck_even_f64((ck_f64v)a, (ck_f64v)b) : veven(a, b);
}

CK_INLINE V CK_TYPED(odd_of)(V a, V b, int pairs) { return pairs ? (V)ck_odd_f64((ck_f64v)a, (ck_f64v)b) : vodd(a, b); }

/* d[k] of L neighbouring tiles whose taps are neighbours: every fourth element from the k-th on; with taps two apart
 * every fourth pair. */
CK_INLINE VI CK_TYPED(quarters_at)(const T *line, ptrdiff_t at, ptrdiff_t n, V *d, VI limit, const int pairs,
                                   const int points)
{
    VI bad = {0};
    CK_UNROLL for (int later = 0; 4 * later < points; later++)
    {
        V p[4];
        CK_UNROLL for (int i = 0; i < 4; i++)
        {
            p[i] = CK_TYPED(load_around)(line, at + 4 * later * (1 + pairs) + i * L, n);
            bad |= CK_TYPED(distance)(p[i], limit);
        }
        const V even0 = CK_TYPED(even_of)(p[0], p[1], pairs), even1 = CK_TYPED(even_of)(p[2], p[3], pairs);
        const V odd0 = CK_TYPED(odd_of)(p[0], p[1], pairs), odd1 = CK_TYPED(odd_of)(p[2], p[3], pairs);
        d[4 * later] = CK_TYPED(even_of)(even0, even1, pairs);
        d[4 * later + 1] = CK_TYPED(even_of)(odd0, odd1, pairs);
        if (4 * later + 2 == points) break;
        d[4 * later + 2] = CK_TYPED(odd_of)(even0, even1, pairs);
        d[4 * later + 3] = CK_TYPED(odd_of)(odd0, odd1, pairs);
    }
    return bad;
}

/* Some tiles of a line from tile `first` on, to v. */
CK_INLINE VI CK_TYPED(split_row)(const ck_winograd_lines_input *j, const T *line, ptrdiff_t first, T *v, VI limit,
                                 const int points)
{
    const ptrdiff_t step = j->step, last = first + j->tiles;
    VI bad = {0};
    for (ptrdiff_t t = first, n; t < last; t += n) {
        V d[CK_TYPED(most_points)], u[CK_TYPED(most_points)];
        n = L;
        if (step == 1) {
            bad |= CK_TYPED(quarters_at)(line, 4 * t - j->lo, j->n, d, limit, 0, points);
        } else if (step == 2) {
            bad |= CK_TYPED(quarters_at)(line, 4 * t - j->lo, j->n, d, limit, 1, points);
        } else { /* to the end of the step; what lies behind is computed again by the next vector */
            const ptrdiff_t r = t % step, at = 4 * (t - r) + r - j->lo;
            if (n > step - r) n = step - r;
            CK_UNROLL for (int k = 0; k < points; k++)
            {
                d[k] = CK_TYPED(load_around)(line, at + k * step, j->n);
                bad |= CK_TYPED(distance)(d[k], limit);
            }
        }
        CK_TYPED(into_points_of)(d, u, points);
        CK_UNROLL for (int k = 0; k < points; k++) vstore(v + k * j->v_step + t - first, u[k]);
    }
    return bad;
}

CK_INLINE int CK_TYPED(split_lines)(const ck_winograd_lines_input *j, const int points)
{
    const VI limit = CK_TYPED(limit_bits)(j->limit);
    VI bad = {0};
    for (ptrdiff_t i = 0; i < j->rows; i++) {
        const ptrdiff_t row = j->first + i;
        bad |= CK_TYPED(split_row)(j, (const T *)j->plane + row / j->line_rows * j->n, row % j->line_rows * j->tiles,
                                   (T *)j->v + i * j->tiles, limit, points);
    }
    return CK_TYPED(any_negative)(bad);
}

CK_NOINLINE int CK_TYPED(split_lines_three)(const ck_winograd_lines_input *j) { return CK_TYPED(split_lines)(j, 6); }
CK_NOINLINE int CK_TYPED(split_lines_five)(const ck_winograd_lines_input *j) { return CK_TYPED(split_lines)(j, 8); }
CK_NOINLINE int CK_TYPED(split_lines_seven)(const ck_winograd_lines_input *j) { return CK_TYPED(split_lines)(j, 10); }

/* The largest magnitude of n weights, NaN where one is NaN: as integers, magnitudes have the order of numbers, and NaNs
 * come last. */
CK_NOINLINE double CK_TYPED(largest)(const void *w, ptrdiff_t n)
{
    const T *at = w;
    VI most[4] = {{0}};
    for (ptrdiff_t i = 0; i < n; i += 4 * L) CK_UNROLL for (int k = 0; k < 4; k++)
        {
            const ptrdiff_t left = n - i - k * L;
            if (left <= 0) break;
            const VI size = (VI)(left >= L ? vload(at + i + k * L) : vload_part(at + i + k * L, left)) & 0x7fffffff;
            const VI more = size > most[k];
            most[k] = (size & more) | (most[k] & ~more);
        }
    int32_t of_all[1] = {0};
    CK_UNROLL for (int k = 0; k < 4; k++) CK_UNROLL for (int lane = 0; lane < L; lane++) if (most[k][lane] > of_all[0])
        of_all[0] = most[k][lane];
    T largest;
    memcpy(&largest, of_all, sizeof largest);
    return largest;
}

/* The weights are transformed in double and rounded once: in T, the transform alone cost a quarter of the error bound. A
 * division is a multiplication there, too: the difference is one of double's roundings. Half a vector of weights is one of
 * doubles: what is wider than a register, compilers take to pieces in memory. */
typedef T CK_TYPED(narrow) __attribute__((vector_size(CK_F64_LANES * sizeof(T))));

CK_INLINE void CK_TYPED(store_weights)(T *at, ck_f64v u)
{
    const CK_TYPED(narrow) rounded = __builtin_convertvector(u, CK_TYPED(narrow));
    memcpy(at, &rounded, sizeof rounded);
}

/* G g for three values. */
CK_INLINE void CK_TYPED(weight_points)(const ck_f64v g[3], ck_f64v u[6])
{
    const ck_f64v odd1 = WINO_B / 3 * g[1], odd2 = WINO_B / 6 * g[1];
    const ck_f64v even1 = (2 * g[0] + g[2]) * (-1. / 3), even2 = (2 * g[2] + g[0]) * (1. / 6);
    u[0] = g[0];
    u[1] = even1 - odd1;
    u[2] = even1 + odd1;
    u[3] = even2 + odd2;
    u[4] = even2 - odd2;
    u[5] = g[2];
}

CK_INLINE void CK_TYPED(weight_eight_points)(const ck_f64v g[5], ck_f64v u[8])
{
    const ck_f64v even1 = g[0] + g[2] + g[4], odd1 = g[1] + g[3];
    const ck_f64v even2 = 16 * g[0] + 4 * g[2] + g[4], odd2 = 8 * g[1] + 2 * g[3];
    const ck_f64v even3 = g[0] + 4 * g[2] + 16 * g[4], odd3 = 2 * g[1] + 8 * g[3];
    u[0] = -g[0];
    u[1] = (even1 + odd1) * (-2. / 9);
    u[2] = (even1 - odd1) * (-2. / 9);
    u[3] = (even2 + odd2) * (2. / 45);
    u[4] = (even2 - odd2) * (2. / 45);
    u[5] = (even3 + odd3) * (1. / 90);
    u[6] = (even3 - odd3) * (1. / 90);
    u[7] = g[4];
}

CK_INLINE void CK_TYPED(weight_ten_points)(const ck_f64v g[7], ck_f64v u[10])
{
    const double squares[4] = {0.16, 0.64, 1.5625, 6.25}, p[4] = {0.4, 0.8, 1.25, 2.5};
    u[0] = g[0];
    for (int i = 0; i < 4; i++) {
        const double z = squares[i];
        double n = 2 * z;
        for (int k = 0; k < 4; k++) n *= k == i ? 1 : z - squares[k];
        const ck_f64v even = g[0] + z * (g[2] + z * (g[4] + z * g[6])), odd = p[i] * (g[1] + z * (g[3] + z * g[5]));
        u[2 * i + 1] = (even + odd) * (1 / n);
        u[2 * i + 2] = (even - odd) * (1 / n);
    }
    u[9] = g[6];
}

CK_INLINE void CK_TYPED(weight_points_of)(const ck_f64v *g, ck_f64v *u, const int n)
{
    if (n == 10) {
        CK_TYPED(weight_ten_points)(g, u);
        return;
    }
    if (n == 8) {
        CK_TYPED(weight_eight_points)(g, u);
        return;
    }
    if (n == 6) {
        CK_TYPED(weight_points)(g, u);
        return;
    }
    u[0] = g[0];
    u[1] = (g[0] + g[2] + g[1]) / 2;
    u[2] = (g[0] + g[2] - g[1]) / 2;
    u[3] = g[2];
}

CK_INLINE void CK_TYPED(weights)(const T *taps, int turned, ptrdiff_t lanes, T *u, ptrdiff_t u_step, const int n)
{
    const int r = n - CK_TYPED(side_of)(n) + 1;
    for (ptrdiff_t f = 0; f < lanes; f += CK_F64_LANES) {
        ck_f64v half[CK_TYPED(most_points)][CK_TYPED(most_taps)];
        for (int x = 0; x < r; x++) {
            ck_f64v g[CK_TYPED(most_taps)], t[CK_TYPED(most_points)];
            for (int y = 0; y < r; y++) {
                const int tap = y * r + x;
                g[y] = CK_TYPED(ck_load_wide)(taps + (turned ? r * r - 1 - tap : tap) * lanes + f);
            }
            CK_TYPED(weight_points_of)(g, t, n);
            for (int y = 0; y < n; y++) half[y][x] = t[y];
        }
        for (int y = 0; y < n; y++) {
            ck_f64v t[CK_TYPED(most_points)];
            CK_TYPED(weight_points_of)(half[y], t, n);
            for (int x = 0; x < n; x++) CK_TYPED(store_weights)(u + (y * n + x) * u_step + f, t[x]);
        }
    }
}

CK_INLINE void CK_TYPED(weights_lines)(const T *taps, int turned, ptrdiff_t lanes, T *u, ptrdiff_t u_step, const int n)
{
    const int r = n - CK_TYPED(side_of)(n) + 1;
    for (ptrdiff_t f = 0; f < lanes; f += CK_F64_LANES) {
        ck_f64v g[CK_TYPED(most_taps)], t[CK_TYPED(most_points)];
        for (int x = 0; x < r; x++) g[x] = CK_TYPED(ck_load_wide)(taps + (turned ? r - 1 - x : x) * lanes + f);
        CK_TYPED(weight_points_of)(g, t, n);
        for (int x = 0; x < n; x++) CK_TYPED(store_weights)(u + x * u_step + f, t[x]);
    }
}

#define WINO_WEIGHTS(name, transform, n)                                                                               \
    CK_NOINLINE void CK_TYPED(name)(const void *taps, int turned, ptrdiff_t lanes, void *u, ptrdiff_t u_step)          \
    {                                                                                                                  \
        CK_TYPED(transform)(taps, turned, lanes, u, u_step, n);                                                        \
    }
WINO_WEIGHTS(weights_four, weights, 6)
WINO_WEIGHTS(weights_two, weights, 4)
WINO_WEIGHTS(weights_wide, weights, 8)
WINO_WEIGHTS(weights_lines_three, weights_lines, 6)
WINO_WEIGHTS(weights_lines_five, weights_lines, 8)
WINO_WEIGHTS(weights_lines_seven, weights_lines, 10)
#undef WINO_WEIGHTS

/* The side x side outputs of one tile for one vector of filters: out[row * pitch + column]. */
CK_INLINE void CK_TYPED(join_tile)(const T *m, ptrdiff_t m_step, V bias, V *out, ptrdiff_t pitch, const int n)
{
    const int side = CK_TYPED(side_of)(n);
    V half[CK_TYPED(most_side)][CK_TYPED(most_points)];
    CK_UNROLL for (int x = 0; x < n; x++)
    {
        V d[CK_TYPED(most_points)], t[CK_TYPED(most_side)];
        CK_UNROLL for (int y = 0; y < n; y++) d[y] = vload(m + (y * n + x) * m_step);
        CK_TYPED(from_points_of)(d, t, n);
        CK_UNROLL for (int y = 0; y < side; y++) half[y][x] = t[y];
    }
    CK_UNROLL for (int y = 0; y < side; y++)
    {
        V t[CK_TYPED(most_side)];
        CK_TYPED(from_points_of)(half[y], t, n);
        CK_UNROLL for (int x = 0; x < side; x++) out[y * pitch + x] = t[x] + bias;
    }
}

/* n neighbouring outputs of a vector of filters; those past the last are whatever r holds, and not stored. */
CK_INLINE void CK_TYPED(store_outputs)(V r[L], const ck_finish *finish, T *y, ptrdiff_t y_filter, ptrdiff_t filters,
                                       ptrdiff_t n)
{
    vtranspose(r);
    if (finish) {
        T of_filter[L * L];
        CK_UNROLL for (int f = 0; f < L; f++) vstore(of_filter + f * L, r[f]);
        CK_TYPED(store_finished)(finish, of_filter, 1, y, y_filter, filters, n);
        return;
    }
    CK_UNROLL for (int f = 0; f < L; f++)
    {
        if (f >= filters) break;
        CK_TYPED(store_lanes)(y + f * y_filter, r[f], n);
    }
}

/* A plane narrower than a vector is computed in one go, and its rows are stored as one run of neighbours. */
CK_INLINE void CK_TYPED(join)(const ck_winograd_output *j, const int points)
{
    const int side = CK_TYPED(side_of)(points), narrow = j->width < L;
    const ptrdiff_t pitch = narrow ? j->width : L, runs = narrow ? 1 : j->rows;
    CK_ASSERT(!narrow || j->y_row == j->width);
    /* all vectors of a tile's sums, which share cache lines, then the next tiles */
    for (ptrdiff_t x = 0; x < j->width; x += L) {
        const ptrdiff_t n = j->width - x < L ? j->width - x : L, run = narrow ? j->rows * n : n;
        for (ptrdiff_t v = 0; v * L < j->filters; v++) {
            const ptrdiff_t filters = j->filters - v * L < L ? j->filters - v * L : L;
            const V bias = j->bias ? vload((const T *)j->bias + v * L) : (V){0};
            V out[(CK_TYPED(most_side) + 1) * L];
            /* from the last tile on, which may write beyond its row */
            for (ptrdiff_t column = (n - 1) / side * side; column >= 0; column -= side) CK_TYPED(join_tile)
            ((const T *)j->m + (x + column) / side * j->m_tile + v * L, j->m_step, bias, out + column, pitch, points);
            for (ptrdiff_t k = 0; k < runs; k++)
                for (ptrdiff_t q = 0; q < run; q += L) {
                    V r[L];
                    CK_UNROLL for (int i = 0; i < L; i++) r[i] = out[k * pitch + q + i];
                    CK_TYPED(store_outputs)
                    (r, j->finish, (T *)j->y + v * L * j->y_filter + k * j->y_row + x + q, j->y_filter, filters,
                     run - q < L ? run - q : L);
                }
        }
    }
}

CK_NOINLINE void CK_TYPED(join_four)(const ck_winograd_output *j) { CK_TYPED(join)(j, 6); }
CK_NOINLINE void CK_TYPED(join_two)(const ck_winograd_output *j) { CK_TYPED(join)(j, 4); }
CK_NOINLINE void CK_TYPED(join_wide)(const ck_winograd_output *j) { CK_TYPED(join)(j, 8); }

/* A run of outputs of one vector of filters, output q in out[order[q]]; those of q past the run are never stored. */
CK_INLINE void CK_TYPED(store_run)(const V *out, const uint8_t *order, const ck_finish *finish, T *y,
                                   ptrdiff_t y_filter, ptrdiff_t filters, ptrdiff_t run)
{
    for (ptrdiff_t q = 0; q < run; q += L) {
        V r[L];
        CK_UNROLL for (int i = 0; i < L; i++) r[i] = out[order[q + i]];
        CK_TYPED(store_outputs)(r, finish, y + q, y_filter, filters, run - q < L ? run - q : L);
    }
}

/* One vector of filters of some tiles of a line. The outputs of up to L tiles are out[i * L + tile]: with a step shorter
 * than a vector those of whole steps are neighbours in y, one run of them; otherwise every i is a run. */
CK_INLINE void CK_TYPED(join_row)(const ck_winograd_lines_output *j, const T *m, ptrdiff_t first, V bias,
                                  const uint8_t *order, T *y, ptrdiff_t filters, const int points)
{
    const ptrdiff_t step = j->step, last = first + j->tiles, runs = step < L ? 1 : 4;
    const ptrdiff_t most = step < L ? L / step * step : L;
    for (ptrdiff_t t = first, n; t < last; t += n) {
        const ptrdiff_t r = t % step;
        n = last - t < most ? last - t : most;
        if (runs == 4 && n > step - r) n = step - r;
        V out[4 * L];
        for (ptrdiff_t b = 0; b < n; b++) {
            V d[CK_TYPED(most_points)], o[4];
            CK_UNROLL for (int k = 0; k < points; k++) d[k] = vload(m + k * j->m_step + (t - first + b) * j->lanes);
            CK_TYPED(from_points_of)(d, o, points);
            CK_UNROLL for (int i = 0; i < 4; i++) out[i * L + b] = o[i] + bias;
        }
        for (ptrdiff_t i = 0; i < runs; i++) {
            const ptrdiff_t at = 4 * (t - r) + r + i * step, length = runs == 1 ? 4 * n : n;
            CK_TYPED(store_run)
            (out, order + i * L, j->finish, y + at, j->y_filter, filters, j->n - at < length ? j->n - at : length);
        }
    }
}

CK_INLINE void CK_TYPED(join_lines)(const ck_winograd_lines_output *j, const int points)
{
    const ptrdiff_t step = j->step;
    uint8_t order[4 * L] = {0};
    for (ptrdiff_t t = 0, q = 0; t + step <= L || t == 0; t += step)
        for (int i = 0; i < 4; i++)
            for (ptrdiff_t r = 0; r < step && r < L; r++) order[q++] = (uint8_t)(i * L + t + r);
    for (ptrdiff_t i = 0; i < j->rows; i++) {
        const ptrdiff_t row = j->first + i, first = row % j->line_rows * j->tiles;
        for (ptrdiff_t v = 0; v * L < j->filters; v++)
            CK_TYPED(join_row)(j, (const T *)j->m + i * j->tiles * j->lanes + v * L, first,
                               j->bias ? vload((const T *)j->bias + v * L) : (V){0}, order,
                               (T *)j->y + v * L * j->y_filter + row / j->line_rows * j->n,
                               j->filters - v * L < L ? j->filters - v * L : L, points);
    }
}

CK_NOINLINE void CK_TYPED(join_lines_three)(const ck_winograd_lines_output *j) { CK_TYPED(join_lines)(j, 6); }
CK_NOINLINE void CK_TYPED(join_lines_five)(const ck_winograd_lines_output *j) { CK_TYPED(join_lines)(j, 8); }
CK_NOINLINE void CK_TYPED(join_lines_seven)(const ck_winograd_lines_output *j) { CK_TYPED(join_lines)(j, 10); }

#include "winograd/strided.body.h"

extern const ck_winograd_table CK_KERNEL(ck_winograd);
const ck_winograd_table CK_KERNEL(ck_winograd) = {
    .largest = CK_TYPED(largest),
    .four = {.side = 4,
             .split = CK_TYPED(split_four),
             .split_images = CK_TYPED(split_images_four),
             .weights = CK_TYPED(weights_four),
             .join = CK_TYPED(join_four)},
    .two = {.side = 2,
            .split = CK_TYPED(split_two),
            .split_images = CK_TYPED(split_images_two),
            .weights = CK_TYPED(weights_two),
            .join = CK_TYPED(join_two)},
    .wide = {.side = 4,
             .split = CK_TYPED(split_wide),
             .split_images = CK_TYPED(split_images_wide),
             .weights = CK_TYPED(weights_wide),
             .join = CK_TYPED(join_wide)},
    .strided = {.side = 2,
                .split = CK_TYPED(strided_split),
                .weights = CK_TYPED(strided_weights),
                .join = CK_TYPED(strided_join)},
    .strided_gradient = {.side = 4,
                         .split = CK_TYPED(gradient_split),
                         .weights = CK_TYPED(strided_weights),
                         .join = CK_TYPED(gradient_join)},
    .three = {.split = CK_TYPED(split_lines_three),
              .weights = CK_TYPED(weights_lines_three),
              .join = CK_TYPED(join_lines_three)},
    .five = {.split = CK_TYPED(split_lines_five),
             .weights = CK_TYPED(weights_lines_five),
             .join = CK_TYPED(join_lines_five)},
    .seven = {.split = CK_TYPED(split_lines_seven),
              .weights = CK_TYPED(weights_lines_seven),
              .join = CK_TYPED(join_lines_seven)},
};
