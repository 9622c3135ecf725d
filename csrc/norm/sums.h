/* Sums that do not lose digits, for any kernel body (norm, softmax). */
#ifndef CK_SUMS_H
#define CK_SUMS_H

#include <math.h>

#include "base/simd.h"

/* An unevaluated sum of two doubles: hi is the rounded sum, lo what rounding took away. */
typedef struct {
    double hi, lo;
} ck_total;

/* total + v without error, but for the rounding of lo itself (two-sum). */
CK_INLINE void ck_total_add(ck_total *total, double v)
{
    double s = total->hi + v, b = s - total->hi;
    total->lo += (total->hi - (s - b)) + (v - b);
    total->hi = s;
}

/* An infinite sum has no meaningful remainder: inf - inf made it NaN. */
CK_INLINE double ck_total_value(ck_total total) { return isfinite(total.hi) ? total.hi + total.lo : total.hi; }

/* Sums run in CK_CHAINS independent vectors, which hides the latency of an addition. */
enum { CK_CHAINS = 4 };

CK_INLINE double ck_chains_close(ck_f64v chain[CK_CHAINS])
{
    double sum = ck_sum_f64((chain[0] + chain[1]) + (chain[2] + chain[3]));
    CK_UNROLL
    for (int i = 0; i < CK_CHAINS; i++) chain[i] = (ck_f64v){0};
    return sum;
}

/* All ones in the first n lanes. */
CK_INLINE ck_i64v ck_lanes_below(ptrdiff_t n)
{
    static const double ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    ck_f64v some = n >= CK_F64_LANES ? ck_load_f64(ones) : n > 0 ? ck_load_part_f64(ones, n) : (ck_f64v){0};
    return (ck_i64v)(some != 0);
}

#endif
