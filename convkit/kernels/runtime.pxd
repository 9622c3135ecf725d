# What every other kernel module takes from here: the thread pool and the scratch memory exist once per process.
ctypedef void (*task_t)(void* job, ptrdiff_t task, int worker) noexcept nogil

cdef int parallel_for(task_t task, void* job, ptrdiff_t tasks, int threads) except -1 nogil
cdef void* scratch(size_t nbytes) except NULL nogil
cdef void scratch_done() noexcept nogil
cdef int level_of(isa) except -1
cdef void large_pages(void* data, size_t nbytes) noexcept nogil

cdef extern from "base/threads.h" nogil:
    const ptrdiff_t LARGE_PAGE "CK_LARGE_PAGE"
