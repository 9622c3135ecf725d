#include "linear/linear.h"

#include "base/levels.h"

#define DECLARE(level, name)                                                                                           \
    extern const ck_linear_kernel ck_linear_f32__##name, ck_linear_f64__##name;                                        \
    extern const ck_linear_rows_kernel ck_linear_rows_f32__##name, ck_linear_rows_f64__##name;                         \
    extern const ck_linear_tiles_kernel ck_linear_tiles_f32__##name, ck_linear_tiles_f64__##name;                      \
    extern const ck_linear_panel_kernel ck_linear_panel_f32__##name, ck_linear_panel_f64__##name;
CK_EACH_LEVEL(DECLARE)

ck_linear_kernel ck_linear_for(int level, int itemsize)
{
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_linear_f32__##isa : ck_linear_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}

ck_linear_rows_kernel ck_linear_rows_for(int level, int itemsize)
{
#undef PICK
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_linear_rows_f32__##isa : ck_linear_rows_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}

ck_linear_tiles_kernel ck_linear_tiles_for(int level, int itemsize)
{
#undef PICK
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_linear_tiles_f32__##isa : ck_linear_tiles_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}

ck_linear_panel_kernel ck_linear_panel_for(int level, int itemsize)
{
#undef PICK
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_linear_panel_f32__##isa : ck_linear_panel_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}
