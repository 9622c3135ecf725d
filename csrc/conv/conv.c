#include "conv/conv.h"

#include "base/levels.h"

#define DECLARE(level, name) extern const ck_conv_table ck_conv_f32__##name, ck_conv_f64__##name;
CK_EACH_LEVEL(DECLARE)

const ck_conv_table *ck_conv_table_for(int level, int itemsize)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return itemsize == 4 ? &ck_conv_f32__##name : &ck_conv_f64__##name;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
