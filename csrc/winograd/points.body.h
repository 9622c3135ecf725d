/* The input transforms that forward passes and weight gradients share, at 0, +-a, +-b and infinity with a = sqrt(1/2) and
 * b = sqrt(2), and at 0, +-1, +-1/2, +-2 and infinity. */

#define WINO_A 0.70710678118654752440
#define WINO_B 1.41421356237309504880

/* B^T d for six values, along one axis. */
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

/* For eight. */
CK_INLINE void CK_TYPED(into_eight_points)(const V d[8], V t[8])
{
    const V five = vset1(5), four = vset1(4), s21 = vset1((T)5.25), s17 = vset1((T)4.25), s5 = vset1((T)1.25);
    const V quarter = vset1((T)0.25), half = vset1((T)0.5), two = vset1(2);
    const V even1 = vfma(-s17, d[4], d[2] + d[6]), odd1 = vfma(-s17, d[3], d[1] + d[5]);
    const V even2 = vfma(four, d[2], vfma(-five, d[4], d[6])), odd2 = vfma(four, d[1], vfma(-five, d[3], d[5]));
    const V even3 = vfma(quarter, d[2], vfma(-s5, d[4], d[6])), odd3 = vfma(quarter, d[1], vfma(-s5, d[3], d[5]));
    t[0] = vfma(s21, d[2] - d[4], d[6] - d[0]);
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = vfma(half, odd2, even2);
    t[4] = vfma(-half, odd2, even2);
    t[5] = vfma(two, odd3, even3);
    t[6] = vfma(-two, odd3, even3);
    t[7] = vfma(s21, d[3] - d[5], d[7] - d[1]);
}
