#include "base/probe.h"

#include "base/levels.h"

#define DECLARE(level, name)                                                                                           \
    double ck_probe_fma_f32__##name(ptrdiff_t, double *);                                                              \
    double ck_probe_fma_f64__##name(ptrdiff_t, double *);                                                              \
    void ck_probe_copy__##name(float *, const float *, ptrdiff_t, int);
CK_EACH_LEVEL(DECLARE)

ck_probe_fma ck_probe_for(int level, int itemsize)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return itemsize == 4 ? ck_probe_fma_f32__##name : ck_probe_fma_f64__##name;
    CK_EACH_LEVEL(PICK)
#undef PICK
    return NULL;
}

ck_probe_copy ck_probe_copy_for(int level)
{
#define PICK(l, name)                                                                                                  \
    if (level == l) return ck_probe_copy__##name;
    CK_EACH_LEVEL(PICK)
#undef PICK
    return NULL;
}
