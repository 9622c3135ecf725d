#include "elementwise/keep.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_keep_kernel ck_keep__##name;
CK_EACH_LEVEL(DECLARE)

ck_keep_kernel ck_keep_for(int level)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return ck_keep__##name;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
