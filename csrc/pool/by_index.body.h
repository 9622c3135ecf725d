/* What follows indices: the gradient of the largest and the smallest, unpooling and its gradient. Included by pool.body.h, for one
 * dtype. */

/* One plane of `size` elements and n positions in it: add or store the n values there, or collect them. */
CK_INLINE int CK_TYPED(by_index)(int op, const T *in, const int64_t *indices, T *out, ptrdiff_t n, ptrdiff_t size)
{
    const ptrdiff_t each = size / n;
    for (ptrdiff_t i = 0; i < n; i++) {
        uint64_t at = (uint64_t)indices[i]; /* a negative one is huge */
        if (at >= (uint64_t)size) return 0;
        if (CK_POOL_GUESSES && op == POOL_GATHER) __builtin_prefetch((const char *)(in + i * each) + CK_POOL_AHEAD);
        if (op == POOL_ADD)
            out[at] += in[i];
        else if (op == POOL_PLACE)
            out[at] = in[i];
        else
            out[i] = in[at];
    }
    return 1;
}

#define BY_INDEX(name, op)                                                                                             \
    static int CK_KERNEL(name)(const ck_pool *p, const ck_pool_arrays *a, const ck_pool_block *b, void *s)             \
    {                                                                                                                  \
        const ptrdiff_t n = p->out[0] * p->out[1] * p->out[2], size = p->size[0] * p->size[1] * p->size[2];            \
        const ptrdiff_t some = size < CK_POOL_ZEROED ? CK_POOL_ZEROED / size : 1;                                      \
        const ptrdiff_t first = sizeof(T) == 4 && op != POOL_GATHER ? POOL_BY_CELLS(op, p, a, b) : b->row0;            \
        (void)s;                                                                                                       \
        for (ptrdiff_t plane = first; plane < b->row1; plane++) {                                                      \
            const T *in = (const T *)a->in + plane * (op == POOL_GATHER ? size : n);                                   \
            T *out = (T *)a->out + plane * (op == POOL_GATHER ? n : size);                                             \
            ptrdiff_t left = b->row1 - plane < some ? b->row1 - plane : some;                                          \
            if (op != POOL_GATHER && (plane - first) % some == 0) memset(out, 0, (size_t)(size * left) * sizeof(T));   \
            if (!CK_TYPED(by_index)(op, in, (const int64_t *)a->chosen + plane * n, out, n, size)) return 0;           \
        }                                                                                                              \
        return 1;                                                                                                      \
    }
BY_INDEX(ck_pool_scatter, POOL_ADD)
BY_INDEX(ck_pool_place, POOL_PLACE)
BY_INDEX(ck_pool_gather, POOL_GATHER)
#undef BY_INDEX
