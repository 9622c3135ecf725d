"""Elementwise operations: arrays cut into runs of elements, shared among threads.

The kernels are csrc/elementwise.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from convkit.kernels.elementwise cimport ck_elementwise, ck_elementwise_kernel
from convkit.kernels.operands cimport nbytes_of, reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

cdef extern from "elementwise/elementwise.h" nogil:
    const char* const* ck_elementwise_names
    ck_elementwise_kernel ck_elementwise_for(int level, int itemsize, const char* name)

cdef extern from "elementwise/half.h" nogil:
    ctypedef void (*ck_widen_kernel)(const uint16_t* x, float* y, ptrdiff_t n) noexcept nogil
    ctypedef void (*ck_narrow_kernel)(const float* x, uint16_t* y, ptrdiff_t n) noexcept nogil
    ck_widen_kernel ck_widen_for(int level)
    ck_narrow_kernel ck_narrow_for(int level)

cdef extern from "elementwise/keep.h" nogil:
    ctypedef struct ck_keep:
        uint64_t key
        uint32_t limit
        uint8_t* keep
    ctypedef void (*ck_keep_kernel)(const ck_keep* job, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    ck_keep_kernel ck_keep_for(int level)

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
        # What a kernel that finishes its sums needs to know.
        self.limited = name == "relu" or name == "relu6"
        self.zero = 0.0 if name == "relu" else -0.0
        self.low = 0.0 if self.limited else -INFINITY
        self.high = 6.0 if name == "relu6" else INFINITY

    def __call__(self, x not None, y not None, int threads, other=None, mask=None):
        """Fill ``y``; all operands are C-contiguous and of as many elements, ``mask`` of bools."""
        cdef job_t job
        cdef ptrdiff_t nbytes = nbytes_of(y)
        job.kernel, job.count = self.kernel, nbytes // self.itemsize
        job.arrays.x, job.arrays.y = reading(x, nbytes), writing(y, nbytes)
        job.arrays.other, job.arrays.mask = reading(other, nbytes), <const uint8_t*>reading(mask, job.count)
        job.arrays.a, job.arrays.b = self.a, self.b
        with nogil:
            if job.count < SERIAL:
                threads = 1
            parallel_for(run_task, &job, (job.count + TASK - 1) // TASK, threads)


cdef class Finish:
    """What a convolution's tasks do to the part of ``y`` that they have just written: ``adds`` an array of its shape,
    ``past``, then ``acts``; either may be None.
    """

    def __init__(self, Elementwise acts=None, Elementwise adds=None, past=None):
        self.acts, self.adds, self.past = acts, adds, past

    def of_image(self, i):
        """The same for image ``i`` alone."""
        return self if self.past is None else Finish(self.acts, self.adds, self.past[i:i + 1])


cdef int set_finish(finish_t* f, Finish then, void* y, ptrdiff_t nbytes) except -1:
    """``then`` on parts of ``y``; None is nothing."""
    f.steps = f.late = 0
    if then is None:
        return 0
    f.early.past, f.early.zero, f.early.low, f.early.high = 0, -0.0, -INFINITY, INFINITY
    for each, other in ((then.adds, then.past), (then.acts, None)):
        if each is not None:
            f.kernel[f.steps] = (<Elementwise>each).kernel
            f.job[f.steps].x = f.job[f.steps].y = y
            f.job[f.steps].other, f.job[f.steps].mask = reading(other, nbytes), NULL
            f.job[f.steps].a, f.job[f.steps].b = (<Elementwise>each).a, (<Elementwise>each).b
            f.steps += 1
    if then.adds is not None:
        f.early.past = <const char*>f.job[0].other - <const char*>y
        f.late = 1
    if then.acts is not None and then.acts.limited:
        f.early.zero, f.early.low, f.early.high = then.acts.zero, then.acts.low, then.acts.high
        f.late = f.steps
    return 0


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


cdef struct keep_t:
    ck_keep job
    ck_keep_kernel kernel
    ptrdiff_t count


cdef void keep_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const keep_t* j = <const keep_t*>job
    cdef ptrdiff_t first = task * TASK
    j.kernel(&j.job, first, min(<ptrdiff_t>TASK, j.count - first))


def keep(isa, uint64_t key, uint32_t limit, mask not None, int threads):
    """Fill ``mask`` (bool, C-contiguous) with what a dropout keeps: where a number of 31 bits is at least ``limit``."""
    cdef keep_t job
    job.kernel, job.count = ck_keep_for(level_of(isa)), mask.size
    job.job.key, job.job.limit, job.job.keep = key, limit, <uint8_t*>writing(mask, job.count)
    with nogil:
        parallel_for(keep_task, &job, (job.count + TASK - 1) // TASK, 1 if job.count < SERIAL else threads)
