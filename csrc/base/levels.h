/* CK_EACH_LEVEL(X) expands X(level, name) for every level that this build compiled: how a family's table of
 * kernels is found without a hand-kept list. */
#ifndef CK_LEVELS_H
#define CK_LEVELS_H

#include "base/isa.h"

#define CK_LEVEL_ROW_PORTABLE(X) X(CK_LEVEL_PORTABLE, portable)
#ifdef CK_HAVE_NEON
#define CK_LEVEL_ROW_NEON(X) X(CK_LEVEL_NEON, neon)
#else
#define CK_LEVEL_ROW_NEON(X)
#endif
#ifdef CK_HAVE_AVX2
#define CK_LEVEL_ROW_AVX2(X) X(CK_LEVEL_AVX2, avx2)
#else
#define CK_LEVEL_ROW_AVX2(X)
#endif
#ifdef CK_HAVE_AVX512
#define CK_LEVEL_ROW_AVX512(X) X(CK_LEVEL_AVX512, avx512)
#else
#define CK_LEVEL_ROW_AVX512(X)
#endif

#define CK_EACH_LEVEL_TO_AVX2(X) CK_LEVEL_ROW_PORTABLE(X) CK_LEVEL_ROW_NEON(X) CK_LEVEL_ROW_AVX2(X)
#define CK_EACH_LEVEL(X) CK_EACH_LEVEL_TO_AVX2(X) CK_LEVEL_ROW_AVX512(X)

/* Of families that setup.py does not compile for AVX-512 (NO_AVX512): the level whose kernels are taken. */
CK_INLINE int ck_level_to_avx2(int level) { return level == CK_LEVEL_AVX512 ? CK_LEVEL_AVX2 : level; }

#endif
