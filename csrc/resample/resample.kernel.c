#include "resample/resample.h"

#include "base/float32.h"
#include "resample/resample.body.h"

#include "base/float64.h"
#include "resample/resample.body.h"
