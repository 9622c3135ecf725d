#include "elementwise/elementwise.h"

#include <string.h>

#include "base/levels.h"

#define CK_ACTIVATION_ROW(name) CK_ELEMENTWISE_ROW(name) CK_ELEMENTWISE_ROW(name##_backward)
const char *const ck_elementwise_names[] = {
#define CK_ELEMENTWISE_ROW(name) #name,
#include "elementwise/kernels.def"
    NULL};

#define DECLARE(level, name)                                                                                           \
    extern const ck_elementwise_kernel ck_elementwise_f32__##name[], ck_elementwise_f64__##name[];
CK_EACH_LEVEL(DECLARE)

ck_elementwise_kernel ck_elementwise_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_elementwise_names[row] && strcmp(ck_elementwise_names[row], name)) row++;
    if (!ck_elementwise_names[row]) return NULL;
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_elementwise_f32__##isa : ck_elementwise_f64__##isa)[row];
    CK_EACH_LEVEL(PICK)
    return NULL;
}
