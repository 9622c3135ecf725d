"""The machine and the process: instruction set levels, threads, scratch memory, and two probes of speed."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.string cimport memset
import time

cdef extern from "base/cpu.h" nogil:
    int CK_LEVEL_PORTABLE, CK_LEVEL_NEON, CK_LEVEL_AVX2, CK_LEVEL_AVX512
    bint ck_cpu_has(int level)

cdef extern from "base/threads.h" nogil:
    ctypedef void (*ck_task)(void* job, ptrdiff_t task, int worker) noexcept nogil
    ctypedef int (*ck_poll)() noexcept nogil
    int ck_parallel_for(ck_task task, void* job, ptrdiff_t tasks, int threads, ck_poll poll)
    void* ck_scratch(size_t nbytes)
    void ck_scratch_done()
    void ck_scratch_poison(int on)
    int ck_pool_workers()
    void ck_large_pages(void* data, size_t nbytes)

cdef extern from "base/probe.h" nogil:
    ctypedef double (*ck_probe_fma)(ptrdiff_t rounds, double* sink) noexcept nogil
    ck_probe_fma ck_probe_for(int level, int itemsize)
    ctypedef void (*ck_probe_copy)(float* to, const float* src, ptrdiff_t n, int past_caches) noexcept nogil
    ck_probe_copy ck_probe_copy_for(int level)

cdef extern from *:
    """
    #if defined(__clang__)
    #define CK_COMPILER_NAME "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define CK_COMPILER_NAME "GCC " __VERSION__
    #else
    #define CK_COMPILER_NAME "unknown"
    #endif
    #ifdef CK_EMULATED_AVX512
    #define CK_COMPILER CK_COMPILER_NAME ", AVX-512 emulated"
    #else
    #define CK_COMPILER CK_COMPILER_NAME
    #endif
    #ifdef CK_DEBUG
    #define CK_DEBUG_BUILD 1
    #else
    #define CK_DEBUG_BUILD 0
    #endif
    """
    const char* CK_COMPILER
    bint CK_DEBUG_BUILD


_LEVELS = {"portable": CK_LEVEL_PORTABLE, "neon": CK_LEVEL_NEON, "avx2": CK_LEVEL_AVX2, "avx512": CK_LEVEL_AVX512}


def isa_levels():
    """Names of the levels that were compiled and that this CPU and OS run, lowest first."""
    return tuple(name for name, level in _LEVELS.items() if ck_cpu_has(level))


def compiler():
    """The C compiler that built the kernels."""
    return CK_COMPILER.decode()


def debug_build():
    """Whether Cython's checks and the C assertions are on."""
    return bool(CK_DEBUG_BUILD)


def pool_workers():
    """Threads that the pool holds now, the caller's not counted."""
    return ck_pool_workers()


def poison_scratch(bint on):
    """Fill scratch memory with NaN before each use (for the tests)."""
    ck_scratch_poison(on)


cdef int level_of(isa) except -1:
    return _LEVELS[isa]


cdef int _poll() noexcept nogil:
    # A Python signal handler may raise here (KeyboardInterrupt); the job then stops and the caller re-raises.
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as exc:
            _pending.append(exc)
            return 1
    return 0


_pending = []


cdef int parallel_for(task_t task, void* job, ptrdiff_t tasks, int threads) except -1 nogil:
    """Run every task, on the pool where that pays; raises what a signal handler raised meanwhile."""
    if ck_parallel_for(task, job, tasks, threads, _poll) != 0:
        with gil:
            raise _pending.pop()
    return 0


cdef void* scratch(size_t nbytes) except NULL nogil:
    cdef void* memory = ck_scratch(nbytes if nbytes > 0 else 1)
    if memory == NULL:
        with gil:
            raise MemoryError(f"convkit could not allocate {nbytes} bytes of scratch memory")
    return memory


cdef void scratch_done() noexcept nogil:
    ck_scratch_done()


cdef void large_pages(void* data, size_t nbytes) noexcept nogil:
    ck_large_pages(data, nbytes)


def fma_peak(isa, seconds=0.2, itemsize=4):
    """Fused multiply-add throughput of one core in GFLOP/s: the best of slices of about 5 ms.

    Parameters
    ----------
    isa : str
        Level, one of ``isa_levels()``.
    seconds : float
        How long to measure.
    itemsize : {4, 8}
        float32 or float64.
    """
    cdef ck_probe_fma probe = ck_probe_for(_LEVELS[isa], itemsize)
    cdef ptrdiff_t rounds = 100_000
    cdef double sink = 0, flops
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        with nogil:
            flops = probe(rounds, &sink)
        best = max(best, flops / (time.perf_counter() - start) / 1e9)
    return best


def copy_bandwidth(ptrdiff_t nbytes, seconds=0.2):
    """Bytes read plus bytes written per second, in GB/s, of copies between two buffers of ``nbytes`` each: the better
    of copies through the caches and past them.
    """
    cdef ck_probe_copy copy = ck_probe_copy_for(max(map(_LEVELS.get, isa_levels())))
    cdef ptrdiff_t n = max(1, nbytes // 256) * 64, _i, repeats = max(1, 1_000_000 // n)
    cdef bint past = False
    cdef float* src = <float*>scratch(8 * n)
    memset(src, 1, 8 * n)  # fresh memory is none yet
    begin = time.perf_counter()
    best, start = 0.0, begin
    while start < begin + seconds:
        past = start > begin + seconds / 2  # not in turns: what goes past the caches is not there for the next
        with nogil:
            for _i in range(repeats):
                copy(src + n, src, n, past)
        end = time.perf_counter()
        best = max(best, 8.0 * n * repeats / (end - start) / 1e9)
        start = end
    scratch_done()
    return best


def _keep_freed_memory():
    """Let malloc keep up to 64 MiB of what is freed: the next step of a training finds its memory as it left it.

    glibc learns from what it gets back: a freed block of nearly 32 MiB, the largest that counts, sets the size from
    which blocks come from the system and, at twice that, what stays at the end of the heap. Nobody touches this one.
    """
    PyMem_RawFree(PyMem_RawMalloc((32 << 20) - (64 << 10)))


_keep_freed_memory()
