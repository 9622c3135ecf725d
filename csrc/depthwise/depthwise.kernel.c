#include <math.h>

#include "depthwise/depthwise.h"

#include "base/float32.h"
#include "elementwise/finish.body.h"
#include "depthwise/depthwise.body.h"

#if defined(__GNUC__) && !defined(__clang__) && CK_VBYTES > 16 /* the portable level is -Os as it is */
#pragma GCC optimize("O2") /* 25 KB of the wheel; the loops are written with vectors anyway */
#endif
#include "base/float64.h"
#include "elementwise/finish.body.h"
#include "depthwise/depthwise.body.h"
