"""Elementwise operations: arrays cut into runs of elements, shared among threads.

The kernels are csrc/elementwise.
"""

from libc.stdint cimport uint8_t

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

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
    const char* const* ck_elementwise_names
    ck_elementwise_kernel ck_elementwise_for(int level, int itemsize, const char* name)

# Elements of a task, and the number below which all stay on the calling thread (about 50 us).
cdef enum:
    TASK = 32768
    SERIAL = 131072


cdef struct job_t:
    ck_elementwise arrays
    ck_elementwise_kernel kernel
    ptrdiff_t count


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * TASK
    j.kernel(&j.arrays, first, min(<ptrdiff_t>TASK, j.count - first))


def _names():
    found, i = [], 0
    while ck_elementwise_names[i] != NULL:
        found.append(ck_elementwise_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class Elementwise:
    """One kernel of the registry at one level and dtype; ``a`` and ``b`` are its parameters."""

    cdef ck_elementwise_kernel kernel
    cdef int itemsize
    cdef double a, b

    def __init__(self, name, isa, int itemsize, double a=0.0, double b=0.0):
        self.kernel = ck_elementwise_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.itemsize, self.a, self.b = itemsize, a, b

    def __call__(self, x not None, y not None, int threads, other=None, mask=None):
        """Fill ``y``; all operands are C-contiguous and of as many elements, ``mask`` of bools."""
        cdef job_t job
        cdef ptrdiff_t nbytes = y.nbytes
        job.kernel, job.count = self.kernel, nbytes // self.itemsize
        job.arrays.x, job.arrays.y = reading(x, nbytes), writing(y, nbytes)
        job.arrays.other, job.arrays.mask = reading(other, nbytes), <const uint8_t*>reading(mask, job.count)
        job.arrays.a, job.arrays.b = self.a, self.b
        with nogil:
            if job.count < SERIAL:
                threads = 1
            parallel_for(run_task, &job, (job.count + TASK - 1) // TASK, threads)
