/* What this machine can do: the two limits that every timing is compared with. */
#ifndef CK_PROBE_H
#define CK_PROBE_H

#include "base/isa.h"

/* Run `rounds` of 24 independent fused multiply-adds; returns the floating-point operations done. */
typedef double (*ck_probe_fma)(ptrdiff_t rounds, double *sink);

/* The probe of one level, or NULL when it was not compiled. `itemsize` is 4 or 8. */
ck_probe_fma ck_probe_for(int level, int itemsize);

/* Copy n floats, a multiple of 64, between two places at multiples of 64 bytes; `past_caches` writes to memory at once
 * where the CPU can. Not memcpy, which is no limit: what it takes for large copies is slow on some CPUs. */
typedef void (*ck_probe_copy)(float *to, const float *from, ptrdiff_t n, int past_caches);
ck_probe_copy ck_probe_copy_for(int level);

#endif
