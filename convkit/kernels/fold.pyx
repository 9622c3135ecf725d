"""Unfolding and folding: planes, shared among threads.

The kernels are csrc/fold.
"""

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

cdef extern from "fold/fold.h" nogil:
    ctypedef struct ck_fold:
        ptrdiff_t size[3]
        ptrdiff_t out[3]
        ptrdiff_t kernel[3]
        ptrdiff_t stride[3]
        ptrdiff_t pad[3]
        ptrdiff_t dilation[3]
    ctypedef void (*ck_fold_kernel)(const ck_fold* f, const void* source, void* target, ptrdiff_t plane,
                                    ptrdiff_t planes) noexcept nogil
    const char* const* ck_fold_names
    ck_fold_kernel ck_fold_for(int level, int itemsize, const char* name)

# Elements of columns: a call of less than SERIAL (about 50 us) stays on its thread.
cdef double SERIAL = 200e3, TASK = 100e3


cdef struct job_t:
    const ck_fold* fold
    ck_fold_kernel kernel
    const void* source
    void* target
    ptrdiff_t planes, share


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * j.share
    j.kernel(j.fold, j.source, j.target, first, min(j.share, j.planes - first))


def _names():
    found, i = [], 0
    while ck_fold_names[i] != NULL:
        found.append(ck_fold_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class Fold:
    """One kernel of the registry for one geometry: tuples of three, ones in front, ``padding`` as ``(lo, hi)``."""

    cdef ck_fold fold
    cdef ck_fold_kernel kernel
    cdef ptrdiff_t image_bytes, column_bytes
    cdef int itemsize
    cdef bint folding

    def __init__(self, name, isa, int itemsize, size, out, kernel, stride, padding, dilation):
        cdef ck_fold* f = &self.fold
        cdef int i
        self.kernel = ck_fold_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.image_bytes = self.column_bytes = self.itemsize = itemsize
        self.folding = name == "fold"
        for i in range(3):
            f.size[i], f.out[i], f.kernel[i], f.stride[i] = size[i], out[i], kernel[i], stride[i]
            f.pad[i], f.dilation[i] = padding[i][0], dilation[i]
            self.image_bytes *= f.size[i]
            self.column_bytes *= f.out[i] * f.kernel[i]

    def __call__(self, source not None, target not None, int threads):
        """Fill ``target`` from ``source``: C-contiguous, as many planes each."""
        cdef job_t job
        cdef double work
        job.fold, job.kernel, job.planes = &self.fold, self.kernel, len(source)
        job.source = reading(source, job.planes * (self.column_bytes if self.folding else self.image_bytes))
        job.target = writing(target, job.planes * (self.image_bytes if self.folding else self.column_bytes))
        work = <double>self.column_bytes / self.itemsize
        job.share = max(1, <ptrdiff_t>min(TASK / work, <double>job.planes))
        if work * job.planes < SERIAL:
            threads = 1
        with nogil:
            parallel_for(run_task, &job, (job.planes + job.share - 1) // job.share, threads)
