#include <math.h>

#include "winograd/winograd.h"

#include "base/float32.h"
#include "elementwise/finish.body.h"
#include "winograd/points.body.h"
#include "winograd/winograd.body.h"
