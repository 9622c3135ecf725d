/* For kernels that finish their sums, for the dtype of the base/float*.h included before; no include guard, like those. */
#include "elementwise/exp_log.h"

CK_INLINE V CK_TYPED(within_limits)(const ck_finish *f, V v)
{
    return CK_TYPED(ck_smaller)(vset1((T)f->high), CK_TYPED(ck_larger)(vset1((T)f->low), v + vset1((T)f->zero)));
}

/* Rows of n sums, up to L of them, `step` vectors apart, into y. One copy for all stores: beside the others it would double
 * their code. */
CK_NOINLINE __attribute__((unused)) void CK_TYPED(store_finished)(const ck_finish *f, const T *sum, ptrdiff_t step,
                                                                  T *y, ptrdiff_t y_row, ptrdiff_t rows, ptrdiff_t n)
{
    const ck_finish own = *f; /* stores through y cannot change a copy: nothing is reloaded */
    for (ptrdiff_t i = 0; i < rows; i++, sum += step * L, y += y_row) {
        ptrdiff_t lanes = n, past = own.past;
        /* As if they were others every time: the loop is not written out for each number of them. */
        __asm__("" : "+r"(lanes), "+r"(past), "+r"(rows));
        V v = vload(sum);
        if (past) v += vload_part((const T *)((const char *)y + past), lanes);
        vstore_part(y, CK_TYPED(within_limits)(&own, v), lanes);
    }
}
