#include <math.h>

#include "loss/loss.h"

#include "norm/sums.h"

#include "base/float32.h"
#include "elementwise/exp_log.h"
#include "loss/loss.body.h"

#include "base/float64.h"
#include "elementwise/exp_log.h"
#include "loss/loss.body.h"
