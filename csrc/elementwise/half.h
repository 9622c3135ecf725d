/* float16 to float32 and back. Arrays are stored as float16 and computed in float32, so this is all that the library
 * knows of the type.
 *
 *     ck_widen    y[i] = x[i], exact
 *     ck_narrow   y[i] = x[i] rounded to nearest, ties to even; infinite from 65520 on; denormals are kept
 *
 * NaN stays NaN. Exactly n elements are read and written; x and y do not overlap.
 */
#ifndef CK_HALF_H
#define CK_HALF_H

#include "base/isa.h"

typedef void (*ck_widen_kernel)(const uint16_t *x, float *y, ptrdiff_t n);
typedef void (*ck_narrow_kernel)(const float *x, uint16_t *y, ptrdiff_t n);

ck_widen_kernel ck_widen_for(int level);
ck_narrow_kernel ck_narrow_for(int level);

#endif
