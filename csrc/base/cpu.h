/* Which instruction set levels this CPU and operating system can run. */
#ifndef CK_CPU_H
#define CK_CPU_H

#include "base/isa.h"

/* Nonzero when code of `level` (CK_LEVEL_*) was compiled into this build and runs here. */
int ck_cpu_has(int level);

#endif
