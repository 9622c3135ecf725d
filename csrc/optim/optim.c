#include "optim/optim.h"

#include <string.h>

#include "base/levels.h"

const char *const ck_optim_names[] = {
#define CK_OPTIM_ROW(name) #name,
#include "optim/kernels.def"
    NULL};

#define DECLARE(level, name) extern const ck_optim_kernel ck_optim_f32__##name[], ck_optim_f64__##name[];
CK_EACH_LEVEL(DECLARE)

ck_optim_kernel ck_optim_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_optim_names[row] && strcmp(ck_optim_names[row], name)) row++;
    if (!ck_optim_names[row]) return NULL;
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_optim_f32__##isa : ck_optim_f64__##isa)[row];
    CK_EACH_LEVEL(PICK)
    return NULL;
}
