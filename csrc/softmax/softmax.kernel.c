/* Softmax over rows loses a tenth without the two passes that the others are compiled without (setup.py). */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("split-loops", "unswitch-loops")
#endif

#include <math.h>

#include "softmax/softmax.h"

#include "norm/sums.h"

#include "base/float64.h" /* before float32: logarithms of sums are taken in float64 */
#include "elementwise/exp_log.h"
#include "softmax/softmax.body.h"

#include "base/float32.h"
#include "elementwise/exp_log.h"
#include "softmax/softmax.body.h"
