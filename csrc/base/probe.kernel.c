#include "base/float32.h"
#include "base/probe.body.h"
#include "base/float64.h"
#include "base/probe.body.h"
