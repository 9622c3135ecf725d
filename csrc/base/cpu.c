#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0: which register files the operating system saves. A CPU that has AVX-512 under an OS that does not
 * save its registers must not run it. */
static unsigned long long saved_registers(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return ((unsigned long long)d << 32) | a;
}

static int has_bits(unsigned value, unsigned bits) { return (value & bits) == bits; }

int ck_cpu_has(int level)
{
    enum { FMA = 1u << 12, AVX = 1u << 28, F16C = 1u << 29 };               /* leaf 1, ecx */
    enum { AVX2 = 1u << 5, BMI2 = 1u << 8, F = 1u << 16, DQ = 1u << 17, BW = 1u << 30 }; /* leaf 7, ebx */
    const unsigned VL = 1u << 31;
    unsigned a, c, d, leaf1, leaf7;
    if (level == CK_LEVEL_PORTABLE) return 1;
    if (!__get_cpuid(1, &a, &c, &leaf1, &d) || !__get_cpuid_count(7, 0, &a, &leaf7, &c, &d)) return 0;
    unsigned long long os = saved_registers();
    int v3 = has_bits(leaf1, FMA | AVX | F16C) && has_bits(leaf7, AVX2 | BMI2) && (os & 0x6) == 0x6;
    int v4 = v3 && has_bits(leaf7, F | DQ | BW | VL) && (os & 0xe6) == 0xe6;
#ifdef CK_HAVE_AVX2
    if (level == CK_LEVEL_AVX2) return v3;
#endif
#ifdef CK_EMULATED_AVX512
    v4 = v3;
#endif
#ifdef CK_HAVE_AVX512
    if (level == CK_LEVEL_AVX512) return v4;
#endif
    (void)v4;
    return 0;
}

#else

int ck_cpu_has(int level)
{
#ifdef CK_HAVE_NEON
    if (level == CK_LEVEL_NEON) return 1;
#endif
    return level == CK_LEVEL_PORTABLE;
}

#endif
