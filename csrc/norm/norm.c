#include "norm/norm.h"

#include <string.h>

#include "base/levels.h"

const char *const ck_norm_names[] = {
#define CK_NORM_ROW(name) #name,
#include "norm/kernels.def"
    NULL};

#define DECLARE(level, name) extern const ck_norm_kernel ck_norm_f32__##name[], ck_norm_f64__##name[];
CK_EACH_LEVEL(DECLARE)

ck_norm_kernel ck_norm_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_norm_names[row] && strcmp(ck_norm_names[row], name)) row++;
    if (!ck_norm_names[row]) return NULL;
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_norm_f32__##isa : ck_norm_f64__##isa)[row];
    CK_EACH_LEVEL(PICK)
    return NULL;
}
