#include "winograd/weight_gradient.h"

#include "base/float32.h"
#include "winograd/points.body.h"
#include "winograd/weight_gradient.body.h"
