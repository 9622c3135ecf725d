"""Memory that catches mistakes: arrays between pages that may not be touched, and outputs full of NaN.

``guarded(a)`` copies an array so that its last (or first) byte touches a forbidden page; one element too far ends the
process, and pytest's faulthandler names the test. ``hostile_memory`` gives the same to every array that the library
makes for itself: results, packed weights, contiguous copies.
"""

import ctypes
import mmap
import sys
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from unittest import mock

import numpy as np

from convkit.kernels import native

PAGE = mmap.PAGESIZE
NONE, READ, READ_WRITE = 0, 1, 3
_libc = ctypes.CDLL(None, use_errno=True)


class _Mapping:
    """Readable and writable pages between two forbidden ones; unmapped when the last array over it is gone."""

    def __init__(self, nbytes):
        self.room = max(1, -(-nbytes // PAGE)) * PAGE
        self.map = mmap.mmap(-1, self.room + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.protect(self.start, PAGE, NONE)
        self.protect(self.start + PAGE + self.room, PAGE, NONE)

    def protect(self, address, nbytes, how):
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), how) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")

    def read_only(self):
        self.protect(self.start + PAGE, self.room, READ)


def guarded_empty(shape, dtype=np.float64, order="C", *, at_end=True, fill=0xff):
    """An array against a forbidden page, every byte 0xff: NaN for floats, -1 for integers."""
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    mapping = _Mapping(nbytes)
    ctypes.memset(mapping.start + PAGE, fill, mapping.room)
    offset = PAGE + (mapping.room - nbytes if at_end else 0)
    return np.ndarray(shape, dtype, buffer=mapping.map, offset=offset, order=order)


def guarded(a, *, at_end=True):
    """A copy of ``a`` (same layout order) against a forbidden page, in memory that cannot be written."""
    order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
    out = guarded_empty(a.shape, a.dtype, order, at_end=at_end)
    out[...] = a
    base = ctypes.addressof(ctypes.c_char.from_buffer(out.base))
    room = len(out.base) - 2 * PAGE
    if _libc.mprotect(ctypes.c_void_p(base + PAGE), ctypes.c_size_t(room), READ) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed")
    out.flags.writeable = False
    return out


class _Numpy:
    """NumPy, except that the arrays it makes are hostile."""

    def __init__(self, at_end):
        self._at_end = at_end

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=np.float64):
        return guarded_empty(shape, dtype, at_end=self._at_end)

    def zeros(self, shape, dtype=np.float64):
        return guarded_empty(shape, dtype, at_end=self._at_end, fill=0)

    def array(self, a, dtype=None, order="K"):
        made = np.array(a, dtype, order=order)
        out = guarded_empty(made.shape, made.dtype, at_end=self._at_end)
        out[...] = made
        return out


@contextmanager
def hostile_memory(at_end=True):
    """Inside, what ``convkit.functional`` allocates is full of NaN and ends (or begins) at a forbidden page,
    packed weights too, and scratch memory is full of NaN before each use.
    """
    import convkit.functional  # noqa: F401 - its modules are patched below

    shim = _Numpy(at_end)
    with ExitStack() as stack:
        for module in _with_numpy(len(sys.modules)):
            stack.enter_context(mock.patch.object(module, "np", shim))
        if native.available:
            def panels(elements, dtype):
                return guarded_empty(elements, dtype, at_end=at_end)

            for module in _with_panels(len(sys.modules)):
                stack.enter_context(mock.patch.object(module, "aligned_empty", panels))
            native.runtime.poison_scratch(True)
            stack.callback(native.runtime.poison_scratch, False)
        yield


# Looked for again only when something was imported: the fuzzer asks thousands of times.
@lru_cache(maxsize=1)
def _with_numpy(_):
    return [m for name, m in list(sys.modules.items())
            if name.startswith("convkit.functional.") and getattr(m, "np", None) is np]


@lru_cache(maxsize=1)
def _with_panels(_):
    return [m for name, m in list(sys.modules.items())
            if name.startswith("convkit.kernels.") and hasattr(m, "aligned_empty")]
