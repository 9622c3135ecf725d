#include "fold/fold.h"

#include "base/float32.h"
#include "fold/fold.body.h"

#include "base/float64.h"
#include "fold/fold.body.h"
