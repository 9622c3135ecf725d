/* What follows a sum in registers, before it is stored: what another array holds at its place is added, then what lies
 * beyond a limit becomes that limit. The bits are those of passes over y by the kernels add, relu and relu6. */
#ifndef CK_FINISH_H
#define CK_FINISH_H

#include "base/isa.h"

typedef struct {
    ptrdiff_t past; /* bytes from an element of y to the one that is added to it, or 0: none is */
    float zero, low, high; /* smaller(high, larger(low, v + zero)); `zero` is 0, which makes 0 of -0, or -0 */
} ck_finish;

#endif
