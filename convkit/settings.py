"""Process-wide and scoped settings: instruction set, algorithm, threads, spare memory.

``use`` and ``threads`` are scoped to the current thread or asyncio task (a ``ContextVar``), so that one
caller's experiment never changes another caller's results; ``set_threads`` changes the process default.
"""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from convkit.kernels import native

ALGORITHM_ENV = "CONVKIT_ALGORITHM"
PRECISION_ENV = "CONVKIT_PRECISION"
THREADS_ENV = "CONVKIT_NUM_THREADS"
TUNING_ENV = "CONVKIT_TUNING"
SPARE_ENV = "CONVKIT_SPARE_MB"

# Names that a plan can be told to take. An operation that offers no candidate of the forced name keeps its
# own order; one that offers it but cannot use it raises, so that a forced run never measures something else.
ALGORITHMS = ("direct", "winograd", "gemm", "depthwise", "reference")

# "strict" leaves only algorithms whose error is bounded in every window by what that window holds.
PRECISIONS = ("fast", "strict")


def _checked_algorithm(name, where):
    if name is not None and name not in ALGORITHMS:
        raise ValueError(f"{where} must be one of {', '.join(ALGORITHMS)}, got {name!r}")
    return name


def _checked_precision(name, where):
    if name is not None and name not in PRECISIONS:
        raise ValueError(f"{where} must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name


def _checked_isa(name):
    if name is not None and name not in native.ISA_LEVELS:
        have = ", ".join(native.ISA_LEVELS) or f"none, because {native.reason}"
        raise ValueError(f"isa must be one that this build and CPU have ({have}), got {name!r}")
    return name


def _checked_threads(n, where):
    try:
        n = int(n) if isinstance(n, str) else operator.index(n)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be a whole number of at least 1, got {n!r}") from None
    if n < 1:
        raise ValueError(f"{where} must be a whole number of at least 1, got {n}")
    return min(n, 1024)


def cpu_name():
    """The CPU's name as the system tells it."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpus_allowed():
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cgroup_cpus():
    """CPUs that the container's quota pays for, rounded up, or None where there is no quota."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:  # cgroup v2
            quota, period = f.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as f:  # cgroup v1
                quota = f.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as f:
                period = f.read().strip()
        except OSError:
            return None
    if quota in ("max", "-1") or not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return None
    return max(1, -(-int(quota) // int(period)))


def _default_threads():
    if THREADS_ENV in os.environ:
        return _checked_threads(os.environ[THREADS_ENV], THREADS_ENV)
    cpus = cpus_allowed()
    return min(cpus, cgroup_cpus() or cpus)


def _checked_spare(amount, where):
    try:
        number = int(amount) if isinstance(amount, str) else operator.index(amount)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 1 << 43:
        raise ValueError(f"{where} must be a whole number of at least 0, got {amount!r}")
    return number


_process_threads = _default_threads()
_scoped_threads = ContextVar("convkit_threads", default=None)
_no_choice = (native.ISA_LEVELS[-1] if native.ISA_LEVELS else None,
              _checked_algorithm(os.environ.get(ALGORITHM_ENV), ALGORITHM_ENV),
              _checked_precision(os.environ.get(PRECISION_ENV), PRECISION_ENV) or "fast")
chosen = ContextVar("convkit_choice", default=_no_choice)


def choice():
    """The (isa, algorithm, precision) in force here; algorithm is None unless forced, isa is None without kernels."""
    return chosen.get()


@contextmanager
def use(isa: str | None = None, algorithm: str | None = None, precision: str | None = None) -> Iterator[None]:
    """Force an instruction set or an algorithm, or choose the precision, inside a ``with`` block.

    Parameters
    ----------
    isa : {"portable", "avx2", "avx512", "neon"}, optional
        Level to run at; must be one that this build and CPU have.
    algorithm : {"direct", "winograd", "gemm", "depthwise", "reference"}, optional
        Candidate to take in every operation that has one of that name.
    precision : {"fast", "strict"}, optional
        "strict" leaves only algorithms whose error is bounded in every window by that window's own numbers; Winograd's,
        which "fast" (the default) takes where it pays, is bounded by the largest input of a tile of 6 x 6, or of 6.

    Raises
    ------
    ValueError
        If a name is unknown; later, if the forced candidate cannot compute a call.
    """
    old_isa, old_algorithm, old_precision = chosen.get()
    new = (_checked_isa(isa) or old_isa, _checked_algorithm(algorithm, "algorithm") or old_algorithm,
           _checked_precision(precision, "precision") or old_precision)
    token = chosen.set(new)
    try:
        yield
    finally:
        chosen.reset(token)


def get_threads() -> int:
    """Number of threads that a call from here may use."""
    return _scoped_threads.get() or _process_threads


def set_threads(n: int) -> None:
    """Set the process default for the number of threads; results never depend on it."""
    global _process_threads
    _process_threads = _checked_threads(n, "threads")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use ``n`` threads inside a ``with`` block, in this thread or task only."""
    token = _scoped_threads.set(_checked_threads(n, "threads"))
    try:
        yield
    finally:
        _scoped_threads.reset(token)


def set_spare_memory(nbytes: int) -> None:
    """Keep the memory of at most so many bytes of large results that have died, for those that come next.

    The system fills memory with zeros before it hands it out, for a large result a good part of the time of computing
    it. So what a result of 32 MiB or more leaves behind waits for the next one that is hardly smaller: at most 256 MiB
    of it, or what ``CONVKIT_SPARE_MB`` says. Such arrays own their memory and can be resized like any other.

    Parameters
    ----------
    nbytes : int
        With 0 nothing is kept. What is kept beyond this goes back to the system at once.
    """
    global _spare_memory
    _spare_memory = _checked_spare(nbytes, "nbytes")
    if native.available:
        native.operands.spare_limit(_spare_memory)


def get_spare_memory() -> int:
    """The bytes that ``set_spare_memory`` allows."""
    return _spare_memory


set_spare_memory(_checked_spare(os.environ.get(SPARE_ENV, "256"), SPARE_ENV) << 20)
