/* What this machine can do: the two limits that every timing is compared with. */
#ifndef CK_PROBE_H
#define CK_PROBE_H

#include "base/isa.h"

/* Run `rounds` of 24 independent fused multiply-adds; returns the floating-point operations done. */
typedef double (*ck_probe_fma)(ptrdiff_t rounds, double *sink);

/* The probe of one level, or NULL when it was not compiled. `itemsize` is 4 or 8. */
ck_probe_fma ck_probe_for(int level, int itemsize);

#endif
