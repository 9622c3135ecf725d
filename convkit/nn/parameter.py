"""Parameter: an array that a layer learns, its gradient, and what has been packed from it.

Kernels want weights in their own order. Packing them once per layer instead of once per call is only right
as long as no edit of the weights is missed, also one made in place through a view that the user kept. So the buffer is
private, and everybody outside sees it through a view, which refers to the buffer: CPython counts such references.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, Self

import numpy as np

from convkit.errors import ShapeError
from convkit.nn.changes import changed
from convkit.spec import common
from convkit.typing import Floats

# Under frozen weights a batch norm that learns folds into other numbers at every evaluation: what is kept has an end.
MOST_PACKINGS = 16

# Two threads may run backward through one layer; NumPy adds without the GIL, so the sum needs a lock.
_grad_lock = threading.Lock()


def _own_copy(name, array):
    """A fresh C-contiguous copy that owns its memory, so that every view of it counts as one; its dtype is the one
    object that ``native_float`` gives: an array out of a pickle has another, equal one, which ``np.array`` would keep.
    """
    return common.array(name, array).astype(common.native_float(name, array.dtype), order="C", subok=False)


class Parameter:
    """An array to be learned.

    Parameters
    ----------
    data : ndarray, float16, float32 or float64
        First values; copied.
    requires_grad : bool
        Whether ``backward`` should compute ``grad``.

    Attributes
    ----------
    data : ndarray
        Reading gives a writable view; assigning an array of the same shape copies it into a new buffer.
    grad : ndarray or None
        Sum of the gradients since the last ``zero_grad``, of the shape and dtype of ``data``.
    version : int
        Changes whenever the values may have changed.
    """

    def __init__(self, data: Floats, requires_grad: bool = True) -> None:
        self._take(_own_copy("data", data))
        self._grad = None
        self._packed = (0, {})
        self._last = (-1, None, None)  # of `packed`: the version, the key and what was kept
        self.version = 0
        self.requires_grad = requires_grad

    def _take(self, buffer):
        self._buffer = buffer
        self._data = buffer.view()  # what library code works with; being handed about, it must not be counted

    @property
    def data(self) -> Floats:
        view = self._buffer.view()
        self.version += 1  # after the view exists: `packed` reads the version before it counts the views
        return view

    @data.setter
    def data(self, array: Floats) -> None:
        new = _own_copy("data", array)
        common.check_shape("data", new.shape, self.shape, "that of the parameter")
        if new.dtype != self.dtype:
            changed()
        self._take(new)
        self.version += 1

    @property
    def grad(self) -> Floats | None:
        return self._grad

    @grad.setter
    def grad(self, array: Floats | None) -> None:
        if array is not None:
            common.same_dtype("grad", common.array("grad", array).dtype, "data", self.dtype)
            common.check_shape("grad", array.shape, self.shape, "that of the parameter")
        self._grad = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def size(self) -> int:
        return self._data.size

    def add_grad(self, gradient: Floats | None) -> None:
        """Add a gradient that belongs to this parameter from now on; None adds nothing."""
        if gradient is None:
            return
        with _grad_lock:
            if self._grad is None:
                self.grad = gradient
            else:
                self._grad += gradient

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether ``backward`` should compute ``grad``; returns the parameter."""
        self.requires_grad = common.flag("requires_grad", requires_grad)
        return self

    def convert(self, dtype: np.dtype[Any]) -> None:
        """Hold the values and the gradient in another floating-point dtype."""
        if dtype == self.dtype:
            return
        grad, self._grad = self._grad, None
        self.data = self._data.astype(dtype)
        self.grad = None if grad is None else grad.astype(dtype)

    def packed(self, key: Any, make: Callable[[Floats], Any]) -> Any:
        """What ``make(array)`` returned for ``key``, made anew whenever the values may have changed.

        ``make`` must return a copy, and the oldest of ``MOST_PACKINGS`` makes room. While a view of the buffer is alive
        outside, nothing is kept, because its holder may write at any time. Library code that writes into ``_data`` (the
        optimisers) must add one to ``version`` afterwards; it may hold ``_data`` itself meanwhile, but a view of it
        counts as one held outside.
        """
        version = self.version
        if sys.getrefcount(self._buffer) > _ALONE:
            return make(self._data)
        last_version, last_key, kept = self._last
        if last_key is key and last_version == version:  # no long key is hashed for every call
            return kept
        packed_version, packings = self._packed
        if packed_version != version:
            packings = {}
            self._packed = (version, packings)
        kept = packings.get(key)
        if kept is None:
            kept = make(self._data)
            while len(packings) >= MOST_PACKINGS:
                packings.pop(next(iter(packings)), None)
            packings[key] = kept
        self._last = version, key, kept
        return kept

    def stamp(self) -> int | None:
        """What tells that the values are the same: equal stamps. None while a view of the buffer is alive outside."""
        version = self.version
        return None if sys.getrefcount(self._buffer) > _ALONE else version

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        """What np.asarray gives: ``data``. Without it NumPy would make an array of one object."""
        return np.asarray(self.data, dtype) if copy is None else np.array(self.data, dtype, copy=copy)

    def _references(self):
        return sys.getrefcount(self._buffer)  # as in `packed`

    def __getstate__(self):
        return {"_data": self._data, "_grad": self._grad, "requires_grad": self.requires_grad}

    def __setstate__(self, state):
        self.__init__(state["_data"], state["requires_grad"])
        self._grad = state["_grad"]

    def __repr__(self):
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


# How many references a buffer has that nobody outside holds: measured, because it differs between Pythons.
_ALONE = Parameter(np.zeros(1, np.float32))._references()


def forget(parameters: Iterable[Parameter], set_to_none: bool) -> None:
    """Let all parameters have no gradient, or one of zeros where they have one."""
    common.flag("set_to_none", set_to_none)
    for p in parameters:
        p.grad = None if set_to_none or p.grad is None else np.zeros_like(p.grad)


@contextmanager
def memory_for(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[None]:
    """Refuse in a sentence what no machine could hold, before it is asked for, and what this one cannot."""
    common.check_bytes(name, shape, dtype)
    try:
        yield
    except MemoryError:
        raise ShapeError(f"{name} would have shape {shape} and take {prod(shape) * dtype.itemsize} bytes, "
                         "more than this machine can give") from None


def remembering_last(packed: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``packed(key, make)``, whose answers for a key are all alike, not asked twice in a row for the same object."""
    last = None, None

    def keeper(key, make):
        nonlocal last
        known, kept = last
        if known is not key:
            kept = packed(key, make)
            last = key, kept
        return kept

    return keeper


def array_or_none(parameter):
    """The buffer of a parameter that may be None, for a call that ends before anybody can change it."""
    return None if parameter is None else parameter._data


def wants_grad(parameter):
    """Whether there is a parameter and it takes gradients."""
    return parameter is not None and parameter.requires_grad
