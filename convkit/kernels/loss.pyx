"""Losses between two arrays: runs of whole chunks, shared among threads.

The kernels are csrc/loss.
"""

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

import numpy as np

cdef extern from "loss/loss.h" nogil:
    ctypedef struct ck_loss:
        const void* x
        const void* target
        const void* weight
        const void* pos_weight
        const void* scale
        void* y
        double* sums
        double factor
        double beta
    ctypedef void (*ck_loss_kernel)(const ck_loss* job, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    int CK_LOSS_CHUNK
    const char* const* ck_loss_names
    ck_loss_kernel ck_loss_for(int level, int itemsize, const char* name)

# Elements of a task, whole chunks, and the number below which all stay on the calling thread (about 50 us).
cdef enum:
    TASK = 32768
    SERIAL = 65536


cdef struct job_t:
    ck_loss arrays
    ck_loss_kernel kernel
    ptrdiff_t count


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * TASK
    j.kernel(&j.arrays, first, min(<ptrdiff_t>TASK, j.count - first))


def _names():
    found, i = [], 0
    while ck_loss_names[i] != NULL:
        found.append(ck_loss_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class PairLoss:
    """One kernel of the registry at one level and dtype; ``beta`` is smooth L1's. All arrays are flat."""

    cdef ck_loss_kernel kernel
    cdef int itemsize
    cdef double beta

    def __init__(self, name, isa, int itemsize, double beta=0.0):
        self.kernel = ck_loss_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.itemsize, self.beta = itemsize, beta

    cdef int run(self, job_t* job, x, target, weight, pos_weight, y, int threads) except -1:
        cdef ptrdiff_t nbytes = x.nbytes
        job.kernel, job.count, job.arrays.beta = self.kernel, nbytes // self.itemsize, self.beta
        job.arrays.x, job.arrays.target = reading(x, nbytes), reading(target, nbytes)
        job.arrays.weight, job.arrays.pos_weight = reading(weight, nbytes), reading(pos_weight, nbytes)
        job.arrays.y = writing(y, nbytes)
        with nogil:
            if job.count < SERIAL:
                threads = 1
            parallel_for(run_task, job, (job.count + TASK - 1) // TASK, threads)
        return 0

    def forward(self, x not None, target not None, weight, pos_weight, y, int threads):
        """The sum of the losses; the losses themselves go to ``y`` unless it is None."""
        cdef job_t job
        sums = np.empty((len(x) + CK_LOSS_CHUNK - 1) // CK_LOSS_CHUNK)
        job.arrays.sums = <double*>writing(sums, sums.nbytes)
        self.run(&job, x, target, weight, pos_weight, y, threads)
        with np.errstate(all="ignore"):
            return sums.sum()

    def backward(self, x not None, target not None, weight, pos_weight, scale, dx not None, int threads):
        """Fill ``dx``; ``scale`` is a number, or one for each element."""
        cdef job_t job
        job.arrays.scale, job.arrays.factor = NULL, 0
        if isinstance(scale, float):
            job.arrays.factor = scale
        else:
            job.arrays.scale = reading(scale, x.nbytes)
        self.run(&job, x, target, weight, pos_weight, dx, threads)
