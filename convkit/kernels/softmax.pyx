"""Softmax, log-softmax and cross-entropy: positions cut into runs, shared among threads.

The kernels are csrc/softmax.
"""

from libc.stdint cimport int64_t

from convkit.kernels.conv cimport tiles_of
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for
from convkit.kernels.tiles cimport ck_conv_table

cdef extern from "softmax/softmax.h" nogil:
    ctypedef struct ck_softmax:
        const void* x
        const void* dy
        void* y
        const int64_t* target
        const void* hit
        const void* every
        const void* soft
        int soft_is_shared
        void (*transpose)(const void* src, ptrdiff_t src_row, void* dst, ptrdiff_t dst_row, ptrdiff_t rows,
                          ptrdiff_t columns) noexcept nogil
        ptrdiff_t length, inner
    ctypedef void (*ck_softmax_kernel)(const ck_softmax* job, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    const char* const* ck_softmax_names
    ck_softmax_kernel ck_softmax_for(int level, int itemsize, const char* name)

# Elements of a task, and the number below which all stay on the calling thread (about 50 us).
cdef enum:
    TASK = 16384
    SERIAL = 32768


cdef struct job_t:
    ck_softmax arrays
    ck_softmax_kernel kernel
    ptrdiff_t positions
    ptrdiff_t share


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * j.share
    j.kernel(&j.arrays, first, min(j.share, j.positions - first))


def _names():
    found, i = [], 0
    while ck_softmax_names[i] != NULL:
        found.append(ck_softmax_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class Softmax:
    """One kernel of the registry at one level and dtype.

    ``x``, ``dy``, ``y`` and ``dx`` are C-contiguous ``(outer, length, inner)``; ``target`` (int64), ``hit``, ``every``
    and losses are ``(outer, inner)``; ``soft`` is ``(length,)`` or like ``x``.
    """

    cdef ck_softmax_kernel kernel
    cdef int itemsize
    cdef const ck_conv_table* tiles

    def __init__(self, name, isa, int itemsize):
        self.kernel = ck_softmax_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.itemsize, self.tiles = itemsize, tiles_of(isa, itemsize)

    cdef run(self, job_t* job, x, int threads):
        cdef ptrdiff_t outer
        outer, job.arrays.length, job.arrays.inner = x.shape
        job.arrays.transpose = self.tiles.transpose
        job.kernel, job.positions = self.kernel, outer * job.arrays.inner
        # whole blocks of the kernel, 4 KiB: shorter runs of a row leave the prefetchers behind
        job.share = max(1, TASK // max(1, job.arrays.length))
        if job.arrays.inner > 1:
            job.share = (job.share + 1023) // 1024 * 1024
        with nogil:
            if job.positions * job.arrays.length < SERIAL:
                threads = 1
            parallel_for(run_task, job, (job.positions + job.share - 1) // job.share, threads)

    def forward(self, x not None, y not None, int threads):
        """``softmax`` or ``log_softmax``."""
        cdef job_t job
        cdef ptrdiff_t nbytes = x.nbytes
        job.arrays.x, job.arrays.y = reading(x, nbytes), writing(y, nbytes)
        job.arrays.dy = job.arrays.soft = NULL
        self.run(&job, x, threads)

    def backward(self, dy not None, y not None, dx not None, int threads):
        """``softmax_backward`` or ``log_softmax_backward``."""
        cdef job_t job
        cdef ptrdiff_t nbytes = y.nbytes
        job.arrays.x, job.arrays.dy = reading(y, nbytes), reading(dy, nbytes)
        job.arrays.y, job.arrays.soft = writing(dx, nbytes), NULL
        self.run(&job, y, threads)

    def entropy(self, logits not None, target, hit, every, soft, y not None, int threads):
        """``cross_entropy`` or ``cross_entropy_backward``; every target is at least 0 and less than ``length``."""
        cdef job_t job
        cdef ptrdiff_t nbytes = logits.nbytes, targets = nbytes // (logits.shape[1] * self.itemsize)
        job.arrays.x, job.arrays.y, job.arrays.dy = reading(logits, nbytes), writing(y, y.nbytes), NULL
        job.arrays.target = <const int64_t*>reading(target, targets * sizeof(int64_t))
        job.arrays.hit = reading(hit, targets * self.itemsize)
        job.arrays.every = reading(every, targets * self.itemsize)
        job.arrays.soft_is_shared = soft is not None and soft.ndim == 1
        job.arrays.soft = reading(soft, logits.shape[1] * self.itemsize if job.arrays.soft_is_shared else nbytes)
        self.run(&job, logits, threads)
