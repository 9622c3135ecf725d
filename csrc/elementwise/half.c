#include "elementwise/half.h"

#include "base/levels.h"

#define DECLARE(level, name)                                                                                           \
    extern const ck_widen_kernel ck_widen__##name;                                                                     \
    extern const ck_narrow_kernel ck_narrow__##name;
CK_EACH_LEVEL(DECLARE)

#define PICK(table, l, name)                                                                                           \
    if (level == l) return table##__##name;
#define PICK_WIDEN(l, name) PICK(ck_widen, l, name)
#define PICK_NARROW(l, name) PICK(ck_narrow, l, name)

ck_widen_kernel ck_widen_for(int level)
{
    CK_EACH_LEVEL(PICK_WIDEN)
    return NULL;
}

ck_narrow_kernel ck_narrow_for(int level)
{
    CK_EACH_LEVEL(PICK_NARROW)
    return NULL;
}
