"""An embedding and its gradient: places, and rows of the table, shared among threads.

The kernels are csrc/embedding.
"""

import numpy as np

from libc.stdint cimport int64_t

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

cdef extern from "embedding/embedding.h" nogil:
    ctypedef struct ck_embedding:
        const void* dy
        void* dw
        const int64_t* begin
        const int64_t* place
        ptrdiff_t width
    ctypedef void (*ck_embedding_kernel)(const ck_embedding* job, ptrdiff_t row, ptrdiff_t rows) noexcept nogil
    ck_embedding_kernel ck_embedding_for(int level, int itemsize)
    ctypedef struct ck_lookup:
        const void* weight
        void* y
        const int64_t* index
        ptrdiff_t rows, width
    ctypedef int (*ck_lookup_kernel)(const ck_lookup* job, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    ck_lookup_kernel ck_lookup_for(int level, int itemsize)

# Elements read or written: a call of less than SERIAL (about 50 us) stays on its thread.
cdef double SERIAL = 200e3, TASK = 50e3


cdef struct job_t:
    ck_embedding arrays
    ck_embedding_kernel kernel
    ptrdiff_t rows, share


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * j.share
    j.kernel(&j.arrays, first, min(j.share, j.rows - first))


cdef struct lookup_t:
    ck_lookup arrays
    ck_lookup_kernel kernel
    ptrdiff_t places, share
    int failed  # tasks only ever set it


cdef void lookup_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef lookup_t* j = <lookup_t*>job
    cdef ptrdiff_t first = task * j.share
    if not j.kernel(&j.arrays, first, min(j.share, j.places - first)):
        j.failed = 1


cdef class Lookup:
    """Rows of a table of ``rows`` rows of ``width``."""

    cdef ck_lookup_kernel kernel
    cdef ptrdiff_t rows, width
    cdef int itemsize

    def __init__(self, isa, int itemsize, ptrdiff_t rows, ptrdiff_t width):
        self.kernel = ck_lookup_for(level_of(isa), itemsize)
        self.rows, self.width, self.itemsize = rows, width, itemsize

    def __call__(self, indices not None, weight not None, y not None, int threads):
        """Fill ``y``; returns whether every index is a row: else ``y`` holds anything."""
        cdef lookup_t job
        job.places = indices.size
        job.arrays.index = <const int64_t*>reading(indices, job.places * sizeof(int64_t))
        job.arrays.weight = reading(weight, self.rows * self.width * self.itemsize)
        job.arrays.y = writing(y, job.places * self.width * self.itemsize)
        job.arrays.rows, job.arrays.width = self.rows, self.width
        job.kernel, job.failed = self.kernel, 0
        job.share = max(1, <ptrdiff_t>(TASK / self.width))
        if job.places * <double>self.width < SERIAL:
            threads = 1
        with nogil:
            parallel_for(lookup_task, &job, (job.places + job.share - 1) // job.share, threads)
        return not job.failed


cdef void sort_places(const int64_t* indices, ptrdiff_t count, int64_t* begin, ptrdiff_t rows, int64_t* place,
                      int64_t skipped) noexcept nogil:
    """Counting sort: the places of row r, in order, from ``begin[r]`` on. ``begin`` has rows + 2 entries, all 0."""
    cdef ptrdiff_t i
    for i in range(count):
        if indices[i] != skipped:
            begin[indices[i] + 2] += 1
    for i in range(2, rows + 2):
        begin[i] += begin[i - 1]
    for i in range(count):
        if indices[i] != skipped:
            place[begin[indices[i] + 1]] = i
            begin[indices[i] + 1] += 1


cdef class Embedding:
    """The gradient of a table of ``rows`` rows of ``width``; ``padding`` is a row that stays 0, or None."""

    cdef ck_embedding_kernel kernel
    cdef ptrdiff_t rows, width
    cdef int itemsize
    cdef int64_t padding

    def __init__(self, isa, int itemsize, ptrdiff_t rows, ptrdiff_t width, padding):
        self.kernel = ck_embedding_for(level_of(isa), itemsize)
        self.rows, self.width, self.itemsize = rows, width, itemsize
        self.padding = -1 if padding is None else padding

    def __call__(self, dy not None, indices not None, dw not None, int threads):
        """Fill ``dw``; every index is at least 0 and less than ``rows``."""
        cdef job_t job
        cdef ptrdiff_t count = len(indices)
        cdef double row_work = (self.rows + count) * <double>self.width / self.rows
        begin, place = np.zeros(self.rows + 2, np.int64), np.empty(count, np.int64)
        cdef const int64_t* number = <const int64_t*>reading(indices, count * sizeof(int64_t))
        cdef int64_t* starts = <int64_t*>writing(begin, begin.nbytes)
        cdef int64_t* places = <int64_t*>writing(place, place.nbytes)
        job.arrays.dy = reading(dy, count * self.width * self.itemsize)
        job.arrays.dw = writing(dw, self.rows * self.width * self.itemsize)
        job.arrays.begin, job.arrays.place, job.arrays.width = starts, places, self.width
        job.kernel, job.rows = self.kernel, self.rows
        job.share = max(1, <ptrdiff_t>min(TASK / row_work, <double>self.rows))
        if row_work * self.rows < SERIAL:
            threads = 1
        with nogil:
            sort_places(number, count, starts, self.rows, places, self.padding)
            parallel_for(run_task, &job, (self.rows + job.share - 1) // job.share, threads)
