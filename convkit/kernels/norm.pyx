"""Sums over channels and normalisation: a task is one channel, or some, or some rows, so no sum depends on the number
of threads.

The kernels are csrc/norm.
"""

import numpy as np

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

cdef extern from "norm/norm.h" nogil:
    ctypedef struct ck_norm:
        const void* x
        const void* dy
        void* y
        const void* weight
        const void* bias
        void* mean
        void* var
        void* dweight
        void* dbias
        double* saved
        double* line
        double* sums
        double eps
        double momentum
        ptrdiff_t images, channels, inner
        void* part
        double alpha, beta, k
        ptrdiff_t window
        ptrdiff_t groups, affine, share
    enum:
        CK_NORM_BLOCK
    ctypedef void (*ck_norm_kernel)(const ck_norm* job, ptrdiff_t channel, ptrdiff_t channels) noexcept nogil
    ptrdiff_t ck_norm_group(ptrdiff_t inner)
    const char* const* ck_norm_names
    ck_norm_kernel ck_norm_for(int level, int itemsize, const char* name)

# Elements below which all channels stay on the calling thread (about 50 us), and those of a task of rows. Partial sums
# of a weight gradient are kept for at most SHARES tasks of at least FEW_ROWS rows, lest they outgrow the rows.
cdef enum:
    SERIAL = 65536
    TASK = 16384
    SHARES = 64
    FEW_ROWS = 4


cdef struct job_t:
    ck_norm arrays
    ck_norm_kernel kernel


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t group = ck_norm_group(j.arrays.inner), first = task * group
    j.kernel(&j.arrays, first, min(group, j.arrays.channels - first))


cdef void run_rows(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * j.arrays.share
    j.kernel(&j.arrays, first, min(j.arrays.share, j.arrays.channels - first))


cdef void run_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    j.kernel(&j.arrays, task, 1)


def _names():
    found, i = [], 0
    while ck_norm_names[i] != NULL:
        found.append(ck_norm_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class Norm:
    """One kernel of the registry at one level and dtype; ``eps`` is batch normalisation's.

    ``x``, ``dy``, ``y`` and ``dx`` are ``(images, channels, inner)``, the others ``(channels,)``.
    """

    cdef ck_norm_kernel kernel
    cdef int itemsize
    cdef double eps

    def __init__(self, name, isa, int itemsize, double eps=0.0):
        self.kernel = ck_norm_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.itemsize, self.eps = itemsize, eps

    cdef ptrdiff_t shape(self, ck_norm* job, x) except -1:
        """Fill in the sizes; returns the bytes of one value per channel."""
        job.images, job.channels, job.inner = x.shape
        job.eps = self.eps
        return job.channels * self.itemsize

    cdef run(self, job_t* job, int threads):
        cdef ptrdiff_t group
        job.kernel = self.kernel
        with nogil:
            if job.arrays.images * job.arrays.channels * job.arrays.inner < SERIAL:
                threads = 1
            group = ck_norm_group(job.arrays.inner)
            parallel_for(run_task, job, (job.arrays.channels + group - 1) // group, threads)

    def sums(self, x not None, y not None, int threads):
        """``channel_sum``: the sum of each channel of ``x`` into ``y``."""
        cdef job_t job
        cdef ptrdiff_t each = self.shape(&job.arrays, x)
        job.arrays.x, job.arrays.y = reading(x, x.nbytes), writing(y, each)
        self.run(&job, threads)

    def forward(self, x not None, mean, var, weight, bias, double momentum, y not None, saved, int threads,
                line=None):
        """``train`` (``mean`` and ``var`` are the running ones, updated, or None) or ``eval``.

        ``saved (channels, 3)``, float64, or None, takes what a training pass found, for ``backward``. With ``line``, of
        the same kind, ReLU follows, and ``line`` takes what its gradient needs.
        """
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t each = self.shape(a, x), nbytes = x.nbytes
        a.x, a.y, a.momentum = reading(x, nbytes), writing(y, nbytes), momentum
        a.mean, a.var = <void*>reading(mean, each), <void*>reading(var, each)
        a.weight, a.bias = reading(weight, each), reading(bias, each)
        a.saved = <double*>writing(saved, 3 * a.channels * sizeof(double))
        a.line = <double*>writing(line, 3 * a.channels * sizeof(double))
        self.run(&job, threads)

    def backward(self, dy not None, x not None, weight, mean, var, saved, dx not None, dweight not None,
                 dbias not None, int threads, line=None):
        """``train_backward`` or ``eval_backward``; training takes ``saved``, or ``mean`` and ``var``, or finds them.

        ``dx`` may be ``dy``. With ``line`` and ``saved`` the gradient passes ReLU first, and ``dy`` is overwritten.
        """
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t each = self.shape(a, x), nbytes = x.nbytes
        a.x, a.dy, a.y = reading(x, nbytes), reading(dy, nbytes), writing(dx, nbytes)
        a.mean, a.var = <void*>reading(mean, each), <void*>reading(var, each)
        a.weight = reading(weight, each)
        a.saved = <double*>reading(saved, 3 * a.channels * sizeof(double))
        a.line = <double*>reading(line, 3 * a.channels * sizeof(double))
        a.dweight, a.dbias = writing(dweight, each), writing(dbias, each)
        self.run(&job, threads)

    def multiply(self, x not None, weight not None, y not None, int threads, dy=None, dweight=None):
        """``prelu`` or ``scale`` of ``x``; ``prelu_backward`` of ``dy`` and ``x``; into ``y`` and ``dweight``."""
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t each = self.shape(a, x), nbytes = x.nbytes
        a.x, a.dy, a.y = reading(x, nbytes), reading(dy, nbytes), writing(y, nbytes)
        a.weight, a.dweight = reading(weight, each), writing(dweight, each)
        self.run(&job, threads)

    def respond(self, x not None, y not None, ptrdiff_t window, double alpha, double beta, double k, int threads,
                dy=None, part=None):
        """``response`` of ``x`` into ``y``, or ``response_backward`` into ``y`` with room for ``part``."""
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t nbytes = x.nbytes, blocks
        self.shape(a, x)
        job.kernel = self.kernel
        a.x, a.dy, a.y, a.part = reading(x, nbytes), reading(dy, nbytes), writing(y, nbytes), writing(part, nbytes)
        a.window, a.alpha, a.beta, a.k = window, alpha, beta, k
        with nogil:
            blocks = (a.inner + CK_NORM_BLOCK - 1) // CK_NORM_BLOCK
            if a.images * a.channels * a.inner < SERIAL:
                threads = 1
            parallel_for(run_block, &job, a.images * blocks, threads)

    cdef ptrdiff_t rows(self, ck_norm* job, x, ptrdiff_t groups, ptrdiff_t affine):
        """Fill in the sizes of ``x (rows, length)``; returns the bytes of a weight."""
        job.images, job.eps, job.groups, job.affine = 1, self.eps, groups, affine
        job.channels, job.inner = x.shape
        job.share = max(<ptrdiff_t>1, TASK // job.inner)
        return groups * affine * self.itemsize

    cdef run_rows(self, job_t* job, int threads):
        job.kernel = self.kernel
        with nogil:
            if job.arrays.channels * job.arrays.inner < SERIAL:
                threads = 1
            parallel_for(run_rows, job, (job.arrays.channels + job.arrays.share - 1) // job.arrays.share, threads)

    def forward_rows(self, x not None, weight, bias, y not None, saved, ptrdiff_t groups, ptrdiff_t affine,
                     int threads):
        """``rows`` of ``x (rows, length)``, each with ``affine`` weights; ``saved (rows, 3)`` as in ``forward``."""
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t each = self.rows(a, x, groups, affine), nbytes = x.nbytes
        a.x, a.y = reading(x, nbytes), writing(y, nbytes)
        a.weight, a.bias = reading(weight, each), reading(bias, each)
        a.saved = <double*>writing(saved, 3 * a.channels * sizeof(double))
        self.run_rows(&job, threads)

    def backward_rows(self, dy not None, x not None, weight, saved, dx not None, ptrdiff_t groups, ptrdiff_t affine,
                      int threads):
        """``rows_backward``; returns dweight and dbias, ``(groups * affine,)``, in float64."""
        cdef job_t job
        cdef ck_norm* a = &job.arrays
        cdef ptrdiff_t each = self.rows(a, x, groups, affine), nbytes = x.nbytes, shares
        a.x, a.dy, a.y = reading(x, nbytes), reading(dy, nbytes), writing(dx, nbytes)
        a.weight, a.saved = reading(weight, each), <double*>reading(saved, 3 * a.channels * sizeof(double))
        a.share = max(a.share, FEW_ROWS, (a.channels + SHARES - 1) // SHARES)
        a.share = (a.share + groups - 1) // groups * groups
        shares = (a.channels + a.share - 1) // a.share
        if affine == a.inner:
            sums = np.zeros((shares, 2, groups * affine))
        else:
            sums = np.zeros((2, a.channels // groups, groups * affine))
        a.sums = <double*>writing(sums, sums.nbytes)
        self.run_rows(&job, threads)
        dbias, dweight = sums.sum(0) if affine == a.inner else sums.sum(1)
        return dweight, dbias
