#define _GNU_SOURCE
#include "base/spare.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/threads.h"

enum { BLOCKS = 32, PAGE = 4096 };

typedef struct {
    char *map; /* what the system gave, in which data lies */
    size_t mapped;
    size_t room;
} block_t;

/* The block of some data, in the page before it. */
#define BLOCK_OF(data) ((block_t *)((char *)(data) - PAGE))

static atomic_flag busy = ATOMIC_FLAG_INIT;
static void *spare[BLOCKS]; /* the oldest first */
static int blocks;
static atomic_size_t kept, limit;

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static int enter(void) { return !atomic_flag_test_and_set_explicit(&busy, memory_order_acquire); }

static void leave(void) { atomic_flag_clear_explicit(&busy, memory_order_release); }

static void *from_system(size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    const size_t room = up(bytes ? bytes : 1, PAGE), whole = up(room, CK_LARGE_PAGE);
    const size_t mapped = PAGE + CK_LARGE_PAGE + whole; /* what no page lies behind costs nothing */
    char *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return NULL;
    char *data = (char *)up((uintptr_t)map + PAGE, CK_LARGE_PAGE);
    ck_large_pages(data, whole - room > CK_LARGE_PAGE / 2 ? room : whole); /* the last one only if most of it is used */
    *BLOCK_OF(data) = (block_t){map, mapped, room};
    return data;
}

static void to_system(void *data) { munmap(BLOCK_OF(data)->map, BLOCK_OF(data)->mapped); }

/* A system that runs short takes pages of it back, as if nobody kept them; 20 us for 50 MB. */
static void may_be_reclaimed(void *data)
{
#ifdef MADV_FREE
    madvise(data, BLOCK_OF(data)->room, MADV_FREE); /* a refusal changes nothing */
#else
    (void)data;
#endif
}

static void *remove_spare(int i)
{
    void *data = spare[i];
    kept -= BLOCK_OF(data)->room;
    blocks--;
    memmove(spare + i, spare + i + 1, (size_t)(blocks - i) * sizeof *spare);
    return data;
}

/* The smallest block that fits well. */
static void *find_spare(size_t bytes)
{
    int best = -1;
    for (int i = 0; i < blocks; i++) {
        const size_t room = BLOCK_OF(spare[i])->room;
        if (room >= bytes && room - bytes <= bytes / 4 && (best < 0 || room < BLOCK_OF(spare[best])->room)) best = i;
    }
    return best < 0 ? NULL : remove_spare(best);
}

static void shrink(size_t bytes)
{
    while (blocks && kept > bytes) to_system(remove_spare(0));
}

void *ck_spare_take(size_t bytes)
{
    if (!enter()) return from_system(bytes);
    void *data = find_spare(bytes);
    if (!data) data = from_system(bytes);
    if (!data) { /* what is kept may be all that was missing */
        shrink(0);
        data = from_system(bytes);
    }
    leave();
    return data;
}

void ck_spare_give(void *data)
{
    const size_t room = BLOCK_OF(data)->room;
    if (enter()) {
        if (room <= limit) {
            shrink(limit - room);
            if (blocks == BLOCKS) to_system(remove_spare(0));
            may_be_reclaimed(data);
            kept += room;
            spare[blocks++] = data;
            data = NULL;
        }
        leave();
    }
    if (data) to_system(data);
}

size_t ck_spare_room(const void *data) { return BLOCK_OF(data)->room; }

void ck_spare_limit(size_t bytes)
{
    int inside = 0;
    limit = bytes;
    /* Not for ever: in the child of a fork the thread inside may not exist. */
    for (int tries = 0; tries < 1 << 20 && !inside; tries++) inside = enter();
    if (!inside) return;
    shrink(bytes);
    leave();
}

size_t ck_spare_kept(void) { return kept; }
