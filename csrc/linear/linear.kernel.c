#include "linear/linear.h"

#include "conv/conv.h"

#include <stdbool.h>
#include <string.h>

#include "base/float32.h"
#include "linear/linear.body.h"

#include "base/float64.h"
#include "linear/linear.body.h"
