"""Pooling: rows of the output, over all planes, shared among threads.

A ``Pool`` is made once per plan and holds no data. Its work is cut into tasks of some rows of one block of
columns; what a task writes depends on no other task, so no result depends on how many threads there are. The
kernels are those of csrc/pool.
"""

from convkit.kernels.operands cimport nbytes_of, reading, writing
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
        double power
        double whole
        int adaptive
        ptrdiff_t lanes
    ctypedef struct ck_pool_arrays:
        const void* input "in"
        void* out
        void* chosen
        const void* x
        const void* y
    ctypedef struct ck_pool_block:
        ptrdiff_t row0, row1, col0, col1
    ctypedef int (*ck_pool_kernel)(const ck_pool* p, const ck_pool_arrays* arrays, const ck_pool_block* block,
                                   void* scratch) noexcept nogil
    int CK_POOL_KERNELS, CK_POOL_scatter, CK_POOL_place, CK_POOL_gather, CK_POOL_lp, CK_POOL_lp_backward
    int CK_POOL_max_indices, CK_POOL_min_indices, CK_POOL_max_taps, CK_POOL_min_taps
    int CK_POOL_taps_backward, CK_POOL_avg_backward
    ptrdiff_t CK_POOL_MAX_INDEXED
    const char* ck_pool_name(int kernel)
    ck_pool_kernel ck_pool_for(int kernel, int level, int itemsize)
    bint ck_pool_in_lanes(const ck_pool* p)
    ptrdiff_t CK_POOL_LANES
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


cdef class Pool:
    """One kernel of the registry (``name``), planned for planes of one shape.

    All tuples have three entries, ones in front; ``padding`` is ``(lo, hi)`` per axis. ``divisor`` is 0 for
    the number of elements in the window; ``power`` is that of Lp pooling and ``whole`` the elements of a window
    that lacks none. ``adaptive`` windows come from the sizes alone. ``lanes`` are those of a vector.
    """

    cdef ck_pool pool
    cdef ck_pool_kernel kernel
    cdef int kind, itemsize, chosen_itemsize
    cdef bint backward, writes_chosen, by_plane
    cdef ptrdiff_t in_size, out_size, rows, together, cols, block_cols, blocks
    cdef double row_work
    cdef size_t memory_bytes

    def __init__(self, str name, isa, int itemsize, size, out, kernel=(1, 1, 1), stride=(1, 1, 1),
                 padding=((0, 0),) * 3, dilation=(1, 1, 1), bint include_pad=True, ptrdiff_t divisor=0,
                 double power=1, double whole=1, bint adaptive=False, int lanes=0):
        cdef ck_pool* p = &self.pool
        cdef int i
        self.kind = KERNELS.index(name)
        self.backward = self.kind >= CK_POOL_scatter
        self.writes_chosen = CK_POOL_max_indices <= self.kind <= CK_POOL_min_taps
        self.by_plane = CK_POOL_gather <= self.kind <= CK_POOL_place
        self.chosen_itemsize = 1 if "taps" in name else 8
        self.itemsize = itemsize
        self.kernel = ck_pool_for(self.kind, level_of(isa), itemsize)
        for i in range(3):
            p.size[i], p.out[i], p.kernel[i], p.stride[i] = size[i], out[i], kernel[i], stride[i]
            p.pad[i], p.pad_end[i], p.dilation[i] = padding[i][0], padding[i][1], dilation[i]
            if adaptive:
                p.kernel[i] = min(p.size[i], p.size[i] // p.out[i] + 2)
                p.stride[i] = (p.size[i] + p.out[i] - 1) // p.out[i]
        p.include_pad, p.divisor, p.adaptive = include_pad, divisor, adaptive
        p.power, p.whole, p.lanes = power, whole, lanes
        self.in_size = p.size[0] * p.size[1] * p.size[2]
        self.out_size = p.out[0] * p.out[1] * p.out[2]
        self._share_out()

    cdef void _share_out(self):
        """Rows and columns of what is written, what a row costs, and how wide a block of columns is."""
        cdef ck_pool* p = &self.pool
        cdef double window = <double>p.kernel[0] * p.kernel[1]
        cdef double overlap = <double>p.kernel[2] / p.stride[2]
        cdef ptrdiff_t width = ROW_BYTES // self.itemsize
        self.together = 1
        if self.kind <= CK_POOL_lp and ck_pool_in_lanes(p):
            self.rows, self.cols, self.together = 1, 1, CK_POOL_LANES
            self.row_work = 2.0 * (self.in_size + self.out_size)
        elif self.by_plane:
            self.rows, self.cols = 1, 1
            self.row_work = self.in_size + 8.0 * self.out_size
        elif self.backward:
            self.rows, self.cols = p.size[0] * p.size[1], p.size[2]
            self.row_work = p.size[2] * (2.0 + overlap)
            if self.kind == CK_POOL_taps_backward:
                self.row_work = p.size[2] * (2.0 + overlap * window / (p.stride[0] * p.stride[1]))
        else:
            self.rows, self.cols = p.out[0] * p.out[1], p.out[2]
            width = max(width // p.stride[2], 16)
            self.row_work = window * p.size[2] + <double>p.out[2] * p.kernel[2]
            if self.writes_chosen:
                self.row_work *= 2
        if self.kind == CK_POOL_lp or self.kind == CK_POOL_lp_backward:
            self.row_work *= 4
        self.blocks = (self.cols + width - 1) // width
        self.block_cols = (self.cols + self.blocks - 1) // self.blocks
        self.memory_bytes = ck_pool_scratch_bytes(self.kind, p, self.block_cols, self.itemsize) + 64

    @property
    def workspace_bytes(self):
        """Scratch memory per thread."""
        return self.memory_bytes

    def run(self, source not None, target not None, int threads, chosen=None, x=None, y=None):
        """Fill ``target`` from ``source``: C-contiguous, as many planes each, none empty.

        ``chosen`` holds indices (int64) or taps (uint8) for the kernels that write or read them; ``lp_backward``
        reads the forward pass's ``x`` and ``y``. Returns False if an index lies outside its plane.
        """
        cdef job_t job
        cdef ptrdiff_t each = (self.out_size if self.backward else self.in_size) * self.itemsize
        cdef ptrdiff_t planes = nbytes_of(source) // each
        cdef ptrdiff_t plane = planes * self.in_size * self.itemsize, windows = planes * self.out_size * self.itemsize
        cdef ptrdiff_t choices = planes * self.out_size * self.chosen_itemsize
        job.arrays.input = reading(source, windows if self.backward else plane)
        job.arrays.out = writing(target, plane if self.backward else windows)
        job.arrays.chosen = writing(chosen, choices) if self.writes_chosen else <void*>reading(chosen, choices)
        job.arrays.x, job.arrays.y = reading(x, plane), reading(y, windows)
        return self._run_job(&job, planes, threads)

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
        job.share = (job.share + self.together - 1) // self.together * self.together
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
