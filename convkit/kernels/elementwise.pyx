"""Elementwise operations: arrays cut into runs of elements, shared among threads.

The kernels are csrc/elementwise.
"""

from libc.stdint cimport uint8_t, uint16_t

from convkit.kernels.elementwise cimport ck_elementwise, ck_elementwise_kernel
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

cdef extern from "elementwise/elementwise.h" nogil:
    const char* const* ck_elementwise_names
    ck_elementwise_kernel ck_elementwise_for(int level, int itemsize, const char* name)

cdef extern from "elementwise/half.h" nogil:
    ctypedef void (*ck_widen_kernel)(const uint16_t* x, float* y, ptrdiff_t n) noexcept nogil
    ctypedef void (*ck_narrow_kernel)(const float* x, uint16_t* y, ptrdiff_t n) noexcept nogil
    ck_widen_kernel ck_widen_for(int level)
    ck_narrow_kernel ck_narrow_for(int level)

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


cdef finish_t finish_of(Elementwise then, void* y):
    """``then`` on parts of ``y``; None is nothing."""
    cdef finish_t f
    f.kernel = NULL
    f.job.x, f.job.y, f.job.other, f.job.mask = y, y, NULL, NULL
    f.job.a = f.job.b = 0
    if then is not None:
        f.kernel, f.job.a, f.job.b = then.kernel, then.a, then.b
    return f


cdef struct half_t:
    ck_widen_kernel widen
    ck_narrow_kernel narrow
    uint16_t* half
    float* wide
    ptrdiff_t count


cdef void widen_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const half_t* j = <const half_t*>job
    cdef ptrdiff_t first = task * TASK
    j.widen(j.half + first, j.wide + first, min(<ptrdiff_t>TASK, j.count - first))


cdef void narrow_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const half_t* j = <const half_t*>job
    cdef ptrdiff_t first = task * TASK
    j.narrow(j.wide + first, j.half + first, min(<ptrdiff_t>TASK, j.count - first))


def widen(isa, x not None, y not None, int threads):
    """Fill ``y`` (float32) with ``x`` (float16); both are C-contiguous."""
    cdef half_t job
    job.widen, job.count = ck_widen_for(level_of(isa)), x.size
    job.half, job.wide = <uint16_t*>reading(x, 2 * job.count), <float*>writing(y, 4 * job.count)
    with nogil:
        parallel_for(widen_task, &job, (job.count + TASK - 1) // TASK, 1 if job.count < SERIAL else threads)


def narrow(isa, x not None, y not None, int threads):
    """Fill ``y`` (float16) with ``x`` (float32), rounded; both are C-contiguous."""
    cdef half_t job
    job.narrow, job.count = ck_narrow_for(level_of(isa)), x.size
    job.wide, job.half = <float*>reading(x, 4 * job.count), <uint16_t*>writing(y, 2 * job.count)
    with nogil:
        parallel_for(narrow_task, &job, (job.count + TASK - 1) // TASK, 1 if job.count < SERIAL else threads)
