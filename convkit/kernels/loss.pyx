"""Losses between two arrays: runs of whole chunks, shared among threads, on the kernels of csrc/loss. And what picks
one element for each target, which needs no vectors.
"""

from libc.stdint cimport int64_t, uint64_t

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport real

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
        ptrdiff_t length
    ctypedef void (*ck_loss_kernel)(const ck_loss* job, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    int CK_LOSS_CHUNK
    const char* const* ck_loss_names
    ck_loss_kernel ck_loss_for(int level, int itemsize, const char* name)

# Elements of a task, whole chunks, and the number below which all stay on the calling thread (about 50 us).
cdef enum:
    TASK = 32768
    SERIAL = 65536
    CHUNKS = 32      # of dice, a task
    PICKED = 8192    # targets of a task


cdef struct job_t:
    ck_loss arrays
    ck_loss_kernel kernel
    ptrdiff_t count


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * TASK
    j.kernel(&j.arrays, first, min(<ptrdiff_t>TASK, j.count - first))


cdef void run_chunks(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * CHUNKS
    j.kernel(&j.arrays, first, min(<ptrdiff_t>CHUNKS, j.count - first))


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
        cdef double only
        cdef ptrdiff_t chunks = (len(x) + CK_LOSS_CHUNK - 1) // CK_LOSS_CHUNK
        if chunks == 1:
            job.arrays.sums = &only
            self.run(&job, x, target, weight, pos_weight, y, threads)
            return only
        sums = np.empty(chunks)
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

    def overlap(self, x not None, target not None, int threads):
        """``dice``: the sums of ``x target`` and of ``x + target`` for each row of two matrices, ``(rows, 2)``."""
        cdef job_t job
        cdef ptrdiff_t rows = x.shape[0], length = x.shape[1], chunks = (length + CK_LOSS_CHUNK - 1) // CK_LOSS_CHUNK
        sums = np.empty((rows, chunks, 2))
        job.arrays.x, job.arrays.target = reading(x, x.nbytes), reading(target, x.nbytes)
        job.arrays.sums, job.arrays.length = <double*>writing(sums, sums.nbytes), length
        job.kernel, job.count = self.kernel, rows * chunks
        with nogil:
            if rows * length < SERIAL:
                threads = 1
            parallel_for(run_chunks, &job, (job.count + CHUNKS - 1) // CHUNKS, threads)
        with np.errstate(all="ignore"):
            return sums.sum(1)


cdef struct picked_t:
    int itemsize
    const void* x            # (outer, classes, inner), of which each target picks an element
    const int64_t* target    # (outer, inner)
    const void* weight       # of each class, or NULL
    const void* share        # backward: of each target
    int64_t ignored
    ptrdiff_t outer, classes, inner, rows
    void* y
    double* sums             # of each task: losses, and weights


cdef void pick(real* y, const picked_t* p, ptrdiff_t first, ptrdiff_t last, double* sums) noexcept nogil:
    """The losses of some targets, into ``y`` unless that is NULL; their sum and that of their weights."""
    cdef const real* weight = <const real*>p.weight
    cdef const real* x
    cdef real loss, w
    cdef ptrdiff_t row, i
    cdef int64_t c
    sums[0] = sums[1] = 0
    for row in range(first, last):
        x = <const real*>p.x + row * p.classes * p.inner
        for i in range(p.inner):
            c, loss = p.target[row * p.inner + i], 0
            if c != p.ignored:
                w = weight[c] if weight != NULL else 1
                sums[1] += w
                if w != 0:
                    loss = -x[c * p.inner + i] * w
            sums[0] += loss
            if y != NULL:
                y[row * p.inner + i] = loss


cdef void put_back(real* dx, const picked_t* p, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """The gradient of those losses, into zeros."""
    cdef const real* weight = <const real*>p.weight
    cdef const real* share = <const real*>p.share
    cdef ptrdiff_t row, i
    cdef int64_t c
    cdef real w
    for row in range(first, last):
        for i in range(p.inner):
            c = p.target[row * p.inner + i]
            if c != p.ignored:
                w = weight[c] if weight != NULL else 1
                if w != 0:
                    dx[(row * p.classes + c) * p.inner + i] = -share[row * p.inner + i] * w


cdef void pick_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const picked_t* p = <const picked_t*>job
    cdef ptrdiff_t first = task * p.rows, last = min(first + p.rows, p.outer)
    if p.share != NULL and p.itemsize == 4:
        put_back(<float*>p.y, p, first, last)
    elif p.share != NULL:
        put_back(<double*>p.y, p, first, last)
    elif p.itemsize == 4:
        pick(<float*>p.y, p, first, last, p.sums + 2 * task)
    else:
        pick(<double*>p.y, p, first, last, p.sums + 2 * task)


cdef class Picked:
    """The element of ``x (outer, classes, inner)`` that each target of ``(outer, inner)`` picks, and the way back."""

    cdef picked_t sizes

    def __init__(self, int itemsize, ptrdiff_t outer, ptrdiff_t classes, ptrdiff_t inner):
        self.sizes.itemsize = itemsize
        self.sizes.outer, self.sizes.classes, self.sizes.inner = outer, classes, inner
        self.sizes.rows = max(<ptrdiff_t>1, PICKED // max(<ptrdiff_t>1, inner))

    cdef picked_t _job(self, target, weight, ignored) except *:
        cdef picked_t p = self.sizes
        p.target = <const int64_t*>reading(target, p.outer * p.inner * <ptrdiff_t>sizeof(int64_t))
        p.weight, p.ignored = reading(weight, p.classes * p.itemsize), ignored
        return p

    cdef int _run(self, picked_t* p, int threads) except -1:
        cdef ptrdiff_t tasks = (p.outer + p.rows - 1) // p.rows
        with nogil:
            parallel_for(pick_task, p, tasks, 1 if tasks < 8 else threads)
        return 0

    def losses(self, x not None, target not None, weight, ignored, y, int threads):
        """``-weight x`` of every target, into ``y`` unless it is None; the sum of them and that of the weights. Every
        target is a class or ``ignored``."""
        cdef picked_t p = self._job(target, weight, ignored)
        cdef ptrdiff_t tasks = (p.outer + p.rows - 1) // p.rows, i
        cdef double total = 0, weights = 0
        p.x = reading(x, p.outer * p.classes * p.inner * p.itemsize)
        p.y, p.share = writing(y, p.outer * p.inner * p.itemsize), NULL
        p.sums = <double*>scratch(tasks * 2 * <ptrdiff_t>sizeof(double))
        self._run(&p, threads)
        for i in range(tasks):
            total += p.sums[2 * i]
            weights += p.sums[2 * i + 1]
        scratch_done()
        return total, weights

    def backward(self, target not None, weight, ignored, share not None, dx not None, int threads):
        """Put ``-weight share`` where every target picked, into ``dx``, which is zeros."""
        cdef picked_t p = self._job(target, weight, ignored)
        p.share = reading(share, p.outer * p.inner * p.itemsize)
        p.y = writing(dx, p.outer * p.classes * p.inner * p.itemsize)
        self._run(&p, threads)


def count_targets(target not None, ptrdiff_t classes, ignored):
    """How many targets (int64) are not ``ignored``; -1 if one of these is no class."""
    cdef ptrdiff_t n = target.size, i, used = 0
    cdef const int64_t* number = <const int64_t*>reading(target, n * <ptrdiff_t>sizeof(int64_t))
    cdef int64_t left_out = ignored
    cdef bint wrong = False
    with nogil:
        for i in range(n):
            used += number[i] != left_out
            wrong |= number[i] != left_out and <uint64_t>number[i] >= <uint64_t>classes
    return -1 if wrong else used
