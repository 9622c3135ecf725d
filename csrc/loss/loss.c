#include "loss/loss.h"

#include <string.h>

#include "base/levels.h"

const char *const ck_loss_names[] = {
#define CK_LOSS_ROW(name) #name, #name "_backward",
#include "loss/kernels.def"
    "dice", NULL};

#define DECLARE(level, name) extern const ck_loss_kernel ck_loss_f32__##name[], ck_loss_f64__##name[];
CK_EACH_LEVEL(DECLARE)

ck_loss_kernel ck_loss_for(int level, int itemsize, const char *name)
{
    int row = 0;
    while (ck_loss_names[row] && strcmp(ck_loss_names[row], name)) row++;
    if (!ck_loss_names[row]) return NULL;
#define PICK(l, isa)                                                                                                   \
    if (level == l) return (itemsize == 4 ? ck_loss_f32__##isa : ck_loss_f64__##isa)[row];
    CK_EACH_LEVEL(PICK)
    return NULL;
}
