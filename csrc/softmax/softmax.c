#include "softmax/softmax.h"

#include <string.h>

#include "base/levels.h"

const char *const ck_softmax_names[] = {
#define CK_SOFTMAX_ROW(name, losses) #name,
#include "softmax/kernels.def"
    NULL};

#define DECLARE(level, name) extern const ck_softmax_kernel ck_softmax_f32__##name[], ck_softmax_f64__##name[];
CK_EACH_LEVEL(DECLARE)

ck_softmax_kernel ck_softmax_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_softmax_names[row] && strcmp(ck_softmax_names[row], name)) row++;
    if (!ck_softmax_names[row]) return NULL;
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_softmax_f32__##isa : ck_softmax_f64__##isa)[row];
    CK_EACH_LEVEL(PICK)
    return NULL;
}
