# An elementwise kernel at the end of another kernel's task, on the part of y that it has just written.
from libc.stdint cimport uint8_t

cdef extern from "elementwise/elementwise.h" nogil:
    ctypedef struct ck_elementwise:
        const void* x
        const void* other
        const uint8_t* mask
        double a
        double b
        void* y
    ctypedef void (*ck_elementwise_kernel)(const ck_elementwise* job, ptrdiff_t first,
                                           ptrdiff_t count) noexcept nogil


cdef class Elementwise:
    cdef ck_elementwise_kernel kernel
    cdef int itemsize
    cdef double a, b


cdef struct finish_t:
    ck_elementwise_kernel kernel  # NULL: nothing to do
    ck_elementwise job


cdef finish_t finish_of(Elementwise then, void* y)


cdef inline void finish(const finish_t* f, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """y[first .. first + count - 1] = kernel of it."""
    f.kernel(&f.job, first, count)
