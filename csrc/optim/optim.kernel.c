#include <math.h>

#include "optim/optim.h"

#include "base/float32.h"
#include "optim/optim.body.h"

#include "base/float64.h"
#include "optim/optim.body.h"
