#include "resample/resample.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_resample_kernel ck_resample_f32__##name, ck_resample_f64__##name;
CK_EACH_LEVEL(DECLARE)

ck_resample_kernel ck_resample_for(int level, int itemsize)
{
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_resample_f32__##isa : ck_resample_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
