# What every kernel module asks of the arrays that it is called with.

cdef void* memory(a, bint writes, ptrdiff_t nbytes) except? NULL
cdef ptrdiff_t nbytes_of(a) except -1
cdef ptrdiff_t length_of(a, int axis) except -1


cdef inline const void* reading(a, ptrdiff_t nbytes) except? NULL:
    """Address of a C-contiguous array of ``nbytes``, good while the caller holds it; NULL for None."""
    return memory(a, False, nbytes)


cdef inline void* writing(a, ptrdiff_t nbytes) except? NULL:
    """The same of one that is written to."""
    return memory(a, True, nbytes)
