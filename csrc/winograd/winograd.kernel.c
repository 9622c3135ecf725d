#include "winograd/winograd.h"

#include "base/float32.h"
#include "winograd/winograd.body.h"
