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


cdef extern from "elementwise/finish.h" nogil:
    ctypedef struct ck_finish:
        ptrdiff_t past
        float zero
        float low
        float high


cdef class Elementwise:
    cdef ck_elementwise_kernel kernel
    cdef int itemsize
    cdef double a, b
    cdef bint limited
    cdef float zero, low, high


cdef class Finish:
    cdef readonly Elementwise adds, acts
    cdef readonly object past


cdef struct finish_t:
    int steps         # 0: nothing to do
    ck_elementwise_kernel kernel[2]
    ck_elementwise job[2]
    int late          # the first of them that cannot be done in registers
    ck_finish early   # what those before it do


cdef int set_finish(finish_t* f, Finish then, void* y, ptrdiff_t nbytes) except -1


cdef inline void finish(const finish_t* f, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """y[first .. first + count - 1] = kernels of it, one after the other."""
    finish_from(f, 0, f.steps, first, count)


cdef inline void finish_from(const finish_t* f, int step, int end, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    cdef int i
    for i in range(step, end):
        f.kernel[i](&f.job[i], first, count)


cdef inline const ck_finish* finish_early(const finish_t* f) noexcept nogil:
    """What a kernel does to its sums before it stores them, or NULL."""
    return &f.early if f.late > 0 else NULL


cdef inline void finish_late(const finish_t* f, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """What ``finish`` does beyond such a kernel."""
    finish_from(f, f.late, f.steps, first, count)


cdef inline void move_finish(finish_t* f, void* y) noexcept nogil:
    """Element 0 is now that at ``y``."""
    cdef int i
    cdef ptrdiff_t distance
    for i in range(f.steps):
        distance = <char*>y - <char*>f.job[i].y
        f.job[i].x = f.job[i].y = y
        if f.job[i].other != NULL:
            f.job[i].other = <const char*>f.job[i].other + distance
