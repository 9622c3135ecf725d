"""Padding as a choice: each element of the result is an element of ``x`` or the constant.

Along one axis, ``places`` says which element of ``x`` each element of the padded array is a copy of; the gradient
adds each element's gradient to the element that it was copied from.
"""

from collections.abc import Sequence

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.pad import check_pad, check_pad_backward
from convkit.typing import Floats


def places(n, lo, hi, mode):
    """For each position of an axis of ``n`` with its padding, the position in ``x``; -1 for the constant."""
    i = np.arange(-lo, n + hi)
    if mode == "reflect":  # 2 1 | 0 1 2 3 | 2 1
        return np.abs(n - 1 - np.abs(n - 1 - i))
    if mode == "replicate":  # 0 0 | 0 1 2 3 | 3 3
        return i.clip(0, n - 1)
    if mode == "circular":  # 2 3 | 0 1 2 3 | 0 1
        return i % max(n, 1)
    return np.where((i >= 0) & (i < n), i, -1)


def padded(x, pairs, mode, value=0.0):
    """``x`` with one ``(lo, hi)`` per trailing axis."""
    for axis, (lo, hi) in enumerate(pairs, start=x.ndim - len(pairs)):
        at = places(x.shape[axis], lo, hi, mode)
        taken = x.take(at, axis) if x.size else np.zeros((*x.shape[:axis], len(at), *x.shape[axis + 1:]), x.dtype)
        outside = (at < 0).reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = np.where(outside, x.dtype.type(value), taken)
    return x


def unpadded(dy, pairs, mode):
    """Gradient of ``padded``."""
    for axis, (lo, hi) in enumerate(pairs, start=dy.ndim - len(pairs)):
        n = dy.shape[axis] - lo - hi
        dx = np.zeros((n, *np.delete(dy.shape, axis)))
        for place, part in zip(places(n, lo, hi, mode), np.moveaxis(dy, axis, 0), strict=True):
            if place >= 0:
                dx[place] += part
        dy = np.moveaxis(dx, 0, axis)
    return dy


def pad(x: Floats, padding: Sequence[int], mode: str = "constant", value: float = 0.0) -> Floats:
    """``y[i] = x[place of i]``, or ``value``. Arguments and errors are those of ``convkit.functional.pad``."""
    pairs = check_pad(x, padding, mode, value)
    return np.ascontiguousarray(padded(x, pairs, mode, value), x.dtype.newbyteorder("="))


@np.errstate(all="ignore")
def pad_backward(dy: Floats, padding: Sequence[int], mode: str = "constant") -> Floats:
    """Gradient of ``sum(dy * pad(x, padding, mode))``."""
    pairs = check_pad_backward(dy, padding, mode)
    return narrow(np.ascontiguousarray(unpadded(widen(dy), pairs, mode)), dy.dtype.newbyteorder("="))
