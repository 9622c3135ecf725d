#include "embedding/embedding.h"

#include "base/levels.h"

#define DECLARE(level, name)                                                                                           \
    extern const ck_embedding_kernel ck_embedding_f32__##name, ck_embedding_f64__##name;                               \
    extern const ck_lookup_kernel ck_lookup_f32__##name, ck_lookup_f64__##name;
CK_EACH_LEVEL(DECLARE)

ck_embedding_kernel ck_embedding_for(int level, int itemsize)
{
#define PICK(l, isa)                                                                                                   \
    if (level == l) return itemsize == 4 ? ck_embedding_f32__##isa : ck_embedding_f64__##isa;
    CK_EACH_LEVEL(PICK)
    return NULL;
}

ck_lookup_kernel ck_lookup_for(int level, int itemsize)
{
#define PICK_LOOKUP(l, isa)                                                                                            \
    if (level == l) return itemsize == 4 ? ck_lookup_f32__##isa : ck_lookup_f64__##isa;
    CK_EACH_LEVEL(PICK_LOOKUP)
    return NULL;
}
