#include <math.h>

#include "conv/conv.h"

#include "base/float32.h"
#include "elementwise/finish.body.h"
#include "conv/conv.body.h"

#include "base/float64.h"
#include "elementwise/finish.body.h"
#include "conv/conv.body.h"
