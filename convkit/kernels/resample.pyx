"""Resampling: rows of the output, over all planes, shared among threads.

The kernel is csrc/resample.
"""

from libc.stdint cimport int32_t, int64_t

from convkit.kernels.operands cimport nbytes_of, reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for, scratch, scratch_done

cdef extern from "resample/resample.h" nogil:
    ctypedef struct ck_resample_axis:
        ptrdiff_t size
        ptrdiff_t target_size
        const int64_t* begin
        const int32_t* source
        const void* weight
        int terms
        int copies
        ptrdiff_t run[2]
        int repeats
        int pairs
    ctypedef struct ck_resample:
        ck_resample_axis axis[3]
        double value
    ctypedef void (*ck_resample_kernel)(const ck_resample* r, const void* x, void* y, ptrdiff_t row, ptrdiff_t rows,
                                        void* memory) noexcept nogil
    ptrdiff_t ck_resample_scratch(const ck_resample* r)
    ck_resample_kernel ck_resample_for(int level, int itemsize)

# In terms added up. A call of less than SERIAL (about 50 us) stays on its thread.
cdef double SERIAL = 100e3, TASK = 50e3


cdef struct job_t:
    const ck_resample* resample
    ck_resample_kernel kernel
    const void* x
    void* y
    ptrdiff_t rows, share
    char* memory
    size_t memory_bytes


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t first = task * j.share
    j.kernel(j.resample, j.x, j.y, first, min(j.share, j.rows - first), j.memory + worker * j.memory_bytes)


cdef class Resample:
    """One resampling of planes of ``source`` to planes of ``target`` sizes, three each.

    ``lists`` holds ``(begin, source, weight)`` per axis: int64, int32 and the dtype, and what ``resample.h`` says of
    them: terms, copies, run, repeats, pairs. Where every target has one source of weight 1, that may be -1, none: these
    targets hold the ``value`` of the call.
    """

    cdef ck_resample resample
    cdef ck_resample_kernel kernel
    cdef object lists
    cdef ptrdiff_t source_size, target_size, rows
    cdef double row_work
    cdef int itemsize
    cdef readonly size_t workspace_bytes

    def __init__(self, isa, int itemsize, source, target, lists):
        cdef ck_resample_axis* a
        cdef int i
        self.kernel, self.itemsize, self.lists = ck_resample_for(level_of(isa), itemsize), itemsize, lists
        self.source_size = self.target_size = 1
        self.row_work = 1
        for i, (begin, index, weight, terms, copies, run, repeats, pairs) in enumerate(lists):
            a = &self.resample.axis[i]
            a.size, a.target_size = source[i], target[i]
            a.begin = <const int64_t*>reading(begin, (a.target_size + 1) * sizeof(int64_t))
            a.source = <const int32_t*>reading(index, len(weight) * sizeof(int32_t))
            a.weight = reading(weight, len(weight) * itemsize)
            a.terms, a.copies, a.repeats, a.pairs = terms, copies, repeats, pairs
            a.run[0], a.run[1] = run
            self.source_size *= a.size
            self.target_size *= a.target_size
            self.row_work *= max(1.0, len(weight) / <double>a.target_size)
        self.rows = self.resample.axis[0].target_size * self.resample.axis[1].target_size
        self.row_work *= max(self.resample.axis[2].size, self.resample.axis[2].target_size)
        self.workspace_bytes = ck_resample_scratch(&self.resample) * itemsize + 64

    def __call__(self, x not None, y not None, int threads, double value=0):
        """Fill ``y`` from ``x``: C-contiguous, as many planes each."""
        cdef job_t job
        cdef ck_resample resample = self.resample
        cdef ptrdiff_t planes = nbytes_of(x) // (self.source_size * self.itemsize), tasks
        resample.value = value
        job.resample, job.kernel, job.memory_bytes = &resample, self.kernel, self.workspace_bytes
        job.x = reading(x, planes * self.source_size * self.itemsize)
        job.y = writing(y, planes * self.target_size * self.itemsize)
        job.rows = planes * self.rows
        job.share = max(1, <ptrdiff_t>min(TASK / self.row_work, <double>job.rows))
        tasks = (job.rows + job.share - 1) // job.share
        threads = 1 if self.row_work * job.rows < SERIAL else <int>min(<ptrdiff_t>threads, tasks)
        with nogil:
            job.memory = <char*>scratch(threads * self.workspace_bytes)
            parallel_for(run_task, &job, tasks, threads)
            scratch_done()
