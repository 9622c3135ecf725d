/* Which elements a dropout keeps: those whose random number of 31 bits is at least a limit.
 *
 *     keep[e] = word(e) >> 1 >= limit
 *
 * word(e) is word e % 4 of what Philox-4x32 makes of the counter e / 4 and the key (Salmon and others, "Parallel random
 * numbers: as easy as 1, 2, 3", 2011), in the 7 rounds with which it passes every test of BigCrush: an element's number
 * depends on the key and on where it stands, and on nothing before it.
 */
#ifndef CK_KEEP_H
#define CK_KEEP_H

#include "base/isa.h"

typedef struct {
    uint64_t key;
    uint32_t limit; /* at most 2^31, which keeps nothing */
    uint8_t *keep;  /* 0 or 1 */
} ck_keep;

/* Elements first .. first + count - 1; first is a multiple of 4. */
typedef void (*ck_keep_kernel)(const ck_keep *job, ptrdiff_t first, ptrdiff_t count);

ck_keep_kernel ck_keep_for(int level);

#endif
