/* Memory of large arrays, kept when they die for those that come next.
 *
 * From 32 MiB on malloc gives memory back to the system, which fills it with zeros for its next owner: 4 to 8 ms for
 * 50 MB, of a convolution that computes for 25. Here a block is pages of its own, large ones where the system has them,
 * and while it is kept the system may take them back. The state exists once: one module links this file. A caller that
 * finds another thread inside goes without. */
#ifndef CK_SPARE_H
#define CK_SPARE_H

#include <stddef.h>

/* Memory for `bytes`, from what is kept if something there is at most a quarter larger; NULL when out of memory. */
void *ck_spare_take(size_t bytes);

/* Keep memory from ck_spare_take, or give it to the system: the oldest first, where more is kept than the limit. */
void ck_spare_give(void *data);

/* Bytes that fit into memory from ck_spare_take. */
size_t ck_spare_room(const void *data);

/* Keep at most so many bytes from now on. */
void ck_spare_limit(size_t bytes);

/* Bytes kept now. */
size_t ck_spare_kept(void);

#endif
