#include "winograd/weight_gradient.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_gradient_table ck_gradient_f32__##name;
CK_EACH_LEVEL(DECLARE)

const ck_gradient_table *ck_gradient_table_for(int level)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return &ck_gradient_f32__##name;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
