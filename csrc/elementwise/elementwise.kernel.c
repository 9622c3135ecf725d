#include <math.h>

#include "elementwise/elementwise.h"

#include "base/float32.h"
#include "elementwise/elementwise.body.h"

#include "base/float64.h"
#include "elementwise/elementwise.body.h"
