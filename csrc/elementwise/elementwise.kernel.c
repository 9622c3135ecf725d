#include <math.h>

#include "elementwise/elementwise.h"

/* Vectors whose instructions are mixed, because a chain of thirty that wait for each other leaves the units idle. GCC has
 * to be told: for x86 it orders instructions only once registers are chosen, which is too late. */
#if defined(__GNUC__) && !defined(__clang__) && (defined(CK_AVX512) || defined(CK_AVX2))
#pragma GCC optimize("schedule-insns", "sched-pressure", "no-split-loops")
#define CK_MIXED 4
#else
#define CK_MIXED 1
#endif

#include "base/float32.h"
#include "elementwise/elementwise.body.h"

#include "base/float64.h"
#include "elementwise/elementwise.body.h"
