"""Steps of optimisers: all parameters of a network in one call, runs of their elements shared among threads.

The kernels are csrc/optim.
"""

from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for

import numpy as np

cdef extern from "optim/optim.h" nogil:
    ctypedef struct ck_optim_parameter:
        void* data
        const void* grad
        void* first
        void* second
        void* third
        double keep
        double take
    ctypedef struct ck_optim_rule:
        double lr
        double decay
        double shrink
        double beta1
        double beta2
        double eps
        bint nesterov
    ctypedef void (*ck_optim_kernel)(const ck_optim_parameter* p, const ck_optim_rule* rule, ptrdiff_t first,
                                     ptrdiff_t count) noexcept nogil
    const char* const* ck_optim_names
    ck_optim_kernel ck_optim_for(int level, int itemsize, const char* name)

# Elements of a task, and the number below which all stay on the calling thread (about 50 us).
cdef enum:
    TASK = 32768
    SERIAL = 131072


cdef struct part_t:
    ck_optim_parameter arrays
    ptrdiff_t count
    ptrdiff_t tasks          # of this parameter and those before it


cdef struct job_t:
    ck_optim_rule rule
    ck_optim_kernel kernel
    const part_t* parts
    ptrdiff_t n_parts


cdef void run_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t low = 0, high = j.n_parts - 1, middle, first
    while low < high:  # the parameter whose task it is
        middle = (low + high) // 2
        if j.parts[middle].tasks > task:
            high = middle
        else:
            low = middle + 1
    first = (task - (j.parts[low - 1].tasks if low else 0)) * TASK
    j.kernel(&j.parts[low].arrays, &j.rule, first, min(<ptrdiff_t>TASK, j.parts[low].count - first))


def _names():
    found, i = [], 0
    while ck_optim_names[i] != NULL:
        found.append(ck_optim_names[i].decode())
        i += 1
    return tuple(found)


KERNELS = _names()


cdef class Step:
    """One kernel of the registry at one level and dtype."""

    cdef ck_optim_kernel kernel
    cdef int itemsize

    def __init__(self, name, isa, int itemsize):
        self.kernel = ck_optim_for(level_of(isa), itemsize, name.encode())
        if self.kernel == NULL:
            raise KeyError(name)
        self.itemsize = itemsize

    def __call__(self, parameters, rule, int threads):
        """Step ``parameters``, each ``(data, grad, first, second, third, keep, take)``, by a ``spec.optim.Rule``."""
        cdef job_t job
        cdef ptrdiff_t i, nbytes, tasks = 0, count = 0
        job.kernel, job.n_parts = self.kernel, len(parameters)
        job.rule.lr, job.rule.decay, job.rule.shrink = rule.lr, rule.decay, rule.shrink
        job.rule.beta1, job.rule.beta2, job.rule.eps = rule.beta1, rule.beta2, rule.eps
        job.rule.nesterov = rule.nesterov
        table = np.empty(max(1, job.n_parts) * sizeof(part_t), np.uint8)
        cdef part_t* parts = <part_t*>writing(table, table.nbytes)
        for i, (data, grad, first, second, third, keep, take) in enumerate(parameters):
            nbytes = data.nbytes
            parts[i].arrays.data, parts[i].arrays.grad = writing(data, nbytes), reading(grad, nbytes)
            parts[i].arrays.first, parts[i].arrays.second = writing(first, nbytes), writing(second, nbytes)
            parts[i].arrays.third = writing(third, nbytes)
            parts[i].arrays.keep, parts[i].arrays.take = keep, take
            parts[i].count = nbytes // self.itemsize
            tasks += (parts[i].count + TASK - 1) // TASK
            parts[i].tasks = tasks
            count += parts[i].count
        job.parts = parts
        with nogil:
            if count < SERIAL:
                threads = 1
            parallel_for(run_task, &job, tasks, threads)
