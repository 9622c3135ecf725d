"""Memory layouts that a user's array may come in: each takes an array and gives one that is equal to it."""

import numpy as np


def _fortran(a):
    return np.asfortranarray(a)


def _sliced(a):
    """Every other element of a larger array whose gaps hold NaN (or the largest integer)."""
    junk = np.nan if a.dtype.kind == "f" else 1 if a.dtype.kind == "b" else np.iinfo(a.dtype).max
    big = np.full(tuple(2 * n + 3 for n in a.shape), junk, a.dtype)
    view = big[tuple(slice(1, 1 + 2 * n, 2) for n in a.shape)]
    view[...] = a
    return view


def _backwards(a):
    turn = (slice(None, None, -1),) * a.ndim
    return a[turn].copy()[turn]


def _channels_last(a):
    if a.ndim < 3:
        return _fortran(a)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -3, -1)), -1, -3)


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a):
    memory = np.empty(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _swapped(a):
    return a.astype(a.dtype.newbyteorder())


def _odd_strides(a):
    """C-contiguous for all purposes, but with strides without meaning on axes of one element."""
    a = a.copy()
    strides = tuple(s if n != 1 else 12345 for n, s in zip(a.shape, a.strides, strict=True))
    return np.lib.stride_tricks.as_strided(a, a.shape, strides)


def _field(a):
    """A field of a record array: a stride that is no multiple of the item size."""
    records = np.zeros(a.shape, [("skip", "u1"), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


class _Child(np.ndarray):
    pass


def _subclass(a):
    return a.copy().view(_Child)


LAYOUTS = {"fortran": _fortran, "sliced": _sliced, "backwards": _backwards, "channels_last": _channels_last,
           "read_only": _read_only, "unaligned": _unaligned, "swapped": _swapped, "odd_strides": _odd_strides,
           "field": _field, "subclass": _subclass}
