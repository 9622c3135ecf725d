#include "depthwise/depthwise.h"

#include "base/float32.h"
#include "depthwise/depthwise.body.h"

#include "base/float64.h"
#include "depthwise/depthwise.body.h"
