#include <math.h>

#include "norm/norm.h"

#include "norm/sums.h"

#include "base/float32.h"
#include "elementwise/exp_log.h"
#include "norm/norm.body.h"

#include "base/float64.h"
#include "elementwise/exp_log.h"
#include "norm/norm.body.h"
