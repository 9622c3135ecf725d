"""Pooling: rows of the output, over all planes, shared among threads.

A ``Pool`` is made once per plan and holds no data. Its work is cut into tasks of some rows of one block of
columns; what a task writes depends on no other task, so no result depends on how many threads there are. The
kernels are those of csrc/pool.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

from convkit.kernels.runtime cimport level_of, parallel_for, scratch, scratch_done

cdef extern from "pool/pool.h" nogil:
    ctypedef struct ck_pool:
        ptrdiff_t size[3]
        ptrdiff_t out[3]
        ptrdiff_t kernel[3]
        ptrdiff_t stride[3]
        ptrdiff_t dilation[3]
        ptrdiff_t pad[3]
        ptrdiff_t pad_end[3]
        ptrdiff_t divisor
        int include_pad
    ctypedef struct ck_pool_arrays:
        const void* input "in"
        void* out
        int64_t* indices
    ctypedef struct ck_pool_block:
        ptrdiff_t row0, row1, col0, col1
    ctypedef int (*ck_pool_kernel)(const ck_pool* p, const ck_pool_arrays* arrays, const ck_pool_block* block,
                                   void* scratch) noexcept nogil
    int CK_POOL_KERNELS, CK_POOL_scatter, CK_POOL_avg_backward, CK_POOL_max_indices, CK_POOL_min_indices
    ptrdiff_t CK_POOL_MAX_INDEXED
    const char* ck_pool_name(int kernel)
    ck_pool_kernel ck_pool_for(int kernel, int level, int itemsize)
    size_t ck_pool_scratch_bytes(int kernel, const ck_pool* p, ptrdiff_t cols, int itemsize)

MAX_INDEXED = CK_POOL_MAX_INDEXED
KERNELS = tuple(ck_pool_name(i).decode() for i in range(CK_POOL_KERNELS))

# In elements touched. A call of less than SERIAL (about 50 us) stays on its thread; a task is worth about
# TASK, tens of microseconds, so that the threads end together. Blocks of columns keep scratch within L1.
cdef double SERIAL = 250e3, TASK = 100e3
cdef ptrdiff_t ROW_BYTES = 4096
cdef enum:
    MAX_THREADS = 256


cdef struct job_t:
    const ck_pool* pool
    ck_pool_kernel kernel
    ck_pool_arrays arrays
    ptrdiff_t rows, share, cols, blocks, block_cols
    char* memory
    size_t memory_bytes
    bint* bad                  # per thread: whether it met an index outside its plane


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ck_pool_block b
    b.row0 = task // j.blocks * j.share
    b.row1 = min(j.rows, b.row0 + j.share)
    b.col0 = task % j.blocks * j.block_cols
    b.col1 = min(j.cols, b.col0 + j.block_cols)
    if not j.kernel(j.pool, &j.arrays, &b, j.memory + worker * j.memory_bytes):
        j.bad[worker] = True


cdef int open_buffer(Py_buffer* view, a, int flags, ptrdiff_t nbytes) except -1:
    """The memory of a C-contiguous array, whose size the plan knows."""
    PyObject_GetBuffer(a, view, PyBUF_SIMPLE | flags)
    if view.len != nbytes:
        got = view.len
        PyBuffer_Release(view)
        raise ValueError(f"the kernel was planned for an operand of {nbytes} bytes and got {got}")
    return 0


cdef class Pool:
    """One kernel of the registry (``name``), planned for planes of one shape.

    All tuples have three entries, ones in front; ``padding`` is ``(lo, hi)`` per axis. ``divisor`` is 0 for
    the number of elements in the window.
    """

    cdef ck_pool pool
    cdef ck_pool_kernel kernel
    cdef int kind, itemsize
    cdef ptrdiff_t in_size, out_size, rows, cols, block_cols, blocks
    cdef double row_work
    cdef size_t memory_bytes

    def __init__(self, str name, isa, int itemsize, size, out, kernel=(1, 1, 1), stride=(1, 1, 1),
                 padding=((0, 0),) * 3, dilation=(1, 1, 1), bint include_pad=True, ptrdiff_t divisor=0):
        cdef ck_pool* p = &self.pool
        cdef int i
        self.kind = KERNELS.index(name)
        self.itemsize = itemsize
        self.kernel = ck_pool_for(self.kind, level_of(isa), itemsize)
        for i in range(3):
            p.size[i], p.out[i], p.kernel[i], p.stride[i] = size[i], out[i], kernel[i], stride[i]
            p.pad[i], p.pad_end[i], p.dilation[i] = padding[i][0], padding[i][1], dilation[i]
        p.include_pad, p.divisor = include_pad, divisor
        self.in_size = p.size[0] * p.size[1] * p.size[2]
        self.out_size = p.out[0] * p.out[1] * p.out[2]
        self._share_out()

    cdef void _share_out(self):
        """Rows and columns of what is written, what a row costs, and how wide a block of columns is."""
        cdef ck_pool* p = &self.pool
        cdef double window = <double>p.kernel[0] * p.kernel[1]
        cdef ptrdiff_t width = ROW_BYTES // self.itemsize
        if self.kind == CK_POOL_scatter:
            self.rows, self.cols = 1, 1
            self.row_work = self.in_size + 8.0 * self.out_size
        elif self.kind == CK_POOL_avg_backward:
            self.rows, self.cols = p.size[0] * p.size[1], p.size[2]
            self.row_work = p.size[2] * (2.0 + <double>p.kernel[2] / p.stride[2])
        else:
            self.rows, self.cols = p.out[0] * p.out[1], p.out[2]
            width = max(width // p.stride[2], 16)
            if self.kind == CK_POOL_max_indices or self.kind == CK_POOL_min_indices:
                self.row_work = p.size[2] + 2 * window * p.kernel[2] * p.out[2]
            else:
                self.row_work = window * p.size[2] + <double>p.out[2] * p.kernel[2]
        self.blocks = (self.cols + width - 1) // width
        self.block_cols = (self.cols + self.blocks - 1) // self.blocks
        self.memory_bytes = ck_pool_scratch_bytes(self.kind, p, self.block_cols, self.itemsize) + 64

    @property
    def workspace_bytes(self):
        """Scratch memory per thread."""
        return self.memory_bytes

    def forward(self, x not None, y not None, indices, int threads):
        """Fill ``y``, and ``indices`` unless it is None, from ``x``: C-contiguous, as many planes each."""
        self._run(x, self.in_size, y, self.out_size, indices, PyBUF_WRITABLE, threads)

    def backward(self, dy not None, indices, dx not None, int threads):
        """Fill ``dx`` from ``dy`` (and ``indices``, None for averages); False if an index is out of range."""
        return self._run(dy, self.out_size, dx, self.in_size, indices, 0, threads)

    cdef bint _run(self, source, ptrdiff_t source_size, target, ptrdiff_t target_size, indices,
                   int indices_flag, int threads) except -1:
        cdef Py_buffer views[3]
        cdef job_t job
        cdef int opened = 0
        cdef ptrdiff_t planes = len(source)
        try:
            open_buffer(&views[0], source, 0, planes * source_size * self.itemsize)
            opened = 1
            open_buffer(&views[1], target, PyBUF_WRITABLE, planes * target_size * self.itemsize)
            opened = 2
            job.arrays.input, job.arrays.out, job.arrays.indices = views[0].buf, views[1].buf, NULL
            if indices is not None:
                open_buffer(&views[2], indices, indices_flag, planes * self.out_size * sizeof(int64_t))
                opened = 3
                job.arrays.indices = <int64_t*>views[2].buf
            return self._run_job(&job, planes, threads)
        finally:
            while opened:
                opened -= 1
                PyBuffer_Release(&views[opened])

    cdef bint _run_job(self, job_t* job, ptrdiff_t planes, int threads) except -1:
        cdef double work = self.row_work * self.rows * planes
        cdef bint bad[MAX_THREADS]
        cdef ptrdiff_t tasks
        cdef int k
        job.pool, job.kernel, job.bad = &self.pool, self.kernel, bad
        job.rows, job.cols = planes * self.rows, self.cols
        job.blocks, job.block_cols = self.blocks, self.block_cols
        job.share = max(1, <ptrdiff_t>min(TASK / (self.row_work / self.blocks), <double>job.rows))
        job.memory_bytes = self.memory_bytes
        tasks = (job.rows + job.share - 1) // job.share * self.blocks
        threads = 1 if work < SERIAL else <int>min(tasks, <ptrdiff_t>min(threads, <int>MAX_THREADS))
        for k in range(threads):
            bad[k] = False
        with nogil:
            job.memory = <char*>scratch(threads * self.memory_bytes)
            parallel_for(run_task, job, tasks, threads)
            scratch_done()
        for k in range(threads):
            if bad[k]:
                return False
        return True
