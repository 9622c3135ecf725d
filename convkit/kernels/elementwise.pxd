# Elementwise kernels at the end of another kernel's task, on the part of y that it has just written.
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


cdef class Finish:
    cdef readonly Elementwise adds, acts
    cdef readonly object past


cdef struct finish_t:
    int steps  # 0: nothing to do
    ck_elementwise_kernel kernel[2]
    ck_elementwise job[2]


cdef int set_finish(finish_t* f, Finish then, void* y, ptrdiff_t nbytes) except -1


cdef inline void finish(const finish_t* f, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """y[first .. first + count - 1] = kernels of it, one after the other."""
    cdef int i
    for i in range(f.steps):
        f.kernel[i](&f.job[i], first, count)


cdef inline void move_finish(finish_t* f, void* y) noexcept nogil:
    """Element 0 is now that at ``y``."""
    cdef int i
    cdef ptrdiff_t distance
    for i in range(f.steps):
        distance = <char*>y - <char*>f.job[i].y
        f.job[i].x = f.job[i].y = y
        if f.job[i].other != NULL:
            f.job[i].other = <const char*>f.job[i].other + distance
