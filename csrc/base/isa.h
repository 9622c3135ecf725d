/* Names and attributes that every compilation level shares.
 *
 * One source is compiled once per instruction set level; setup.py defines CK_ISA (the level's name, used as
 * a suffix) and one of CK_AVX512, CK_AVX2, CK_NEON, or none of them for the portable level.
 */
#ifndef CK_ISA_H
#define CK_ISA_H

#include <stddef.h>
#include <stdint.h>

#ifdef CK_DEBUG
#include <assert.h>
#define CK_ASSERT(condition) assert(condition)
#else
#define CK_ASSERT(condition) ((void)0)
#endif

#define CK_JOIN_(a, b) a##__##b
#define CK_JOIN(a, b) CK_JOIN_(a, b)

/* ck_thing -> ck_thing__avx512 */
#define CK_FN(name) CK_JOIN(name, CK_ISA)

#define CK_INLINE static inline __attribute__((always_inline, unused))
#define CK_NOINLINE static __attribute__((noinline))

#if defined(__clang__)
#define CK_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CK_UNROLL _Pragma("GCC unroll 64")
#endif

/* Levels in ascending order; must agree with KNOWN_ISAS in convkit/kernels/native.py. */
enum { CK_LEVEL_PORTABLE = 0, CK_LEVEL_NEON = 1, CK_LEVEL_AVX2 = 2, CK_LEVEL_AVX512 = 3 };

#endif
