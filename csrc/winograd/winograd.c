#include "winograd/winograd.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_winograd_table ck_winograd_f32__##name;
CK_EACH_LEVEL(DECLARE)

const ck_winograd_table *ck_winograd_table_for(int level)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return &ck_winograd_f32__##name;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
