#include "embedding/embedding.h"

#include "base/float32.h"
#include "embedding/embedding.body.h"

#include "base/float64.h"
#include "embedding/embedding.body.h"
