#include "fold/fold.h"

#include <string.h>

#include "base/levels.h"

const char *const ck_fold_names[] = {
#define CK_FOLD_ROW(name) #name,
#include "fold/kernels.def"
    NULL};

#define DECLARE(level, name) extern const ck_fold_kernel ck_fold_f32__##name[], ck_fold_f64__##name[];
CK_EACH_LEVEL_TO_AVX2(DECLARE)

ck_fold_kernel ck_fold_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_fold_names[row] && strcmp(ck_fold_names[row], name)) row++;
    if (!ck_fold_names[row]) return NULL;
    level = ck_level_to_avx2(level);
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_fold_f32__##isa : ck_fold_f64__##isa)[row];
    CK_EACH_LEVEL_TO_AVX2(PICK)
    return NULL;
}
