"""Several arrays made one: side by side, or their sum."""

from collections.abc import Sequence

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.merge import add_backward_dtype, add_spec, concat_backward_spec, concat_spec
from convkit.typing import Floats


def concat(*xs: Floats, axis: int = 1) -> Floats:
    """The elements of the first array along ``axis``, then those of the second, and so on."""
    axis, shape, dtype = concat_spec(xs, axis)
    y, begin = np.empty(shape, dtype), 0
    for x in xs:
        np.moveaxis(y, axis, 0)[begin:begin + x.shape[axis]] = np.moveaxis(x, axis, 0)
        begin += x.shape[axis]
    return y


def concat_backward(dy: Floats, sizes: Sequence[int], axis: int = 1) -> tuple[Floats, ...]:
    """To each array the part of ``dy`` where it lies."""
    axis, ends, dtype = concat_backward_spec(dy, sizes, axis)
    parts = []
    for begin, end in zip((0, *ends), ends, strict=False):
        parts.append(dy.take(range(begin, end), axis).astype(dtype))
    return tuple(parts)


@np.errstate(all="ignore")
def add(x: Floats, other: Floats) -> Floats:
    """``y = x + other``."""
    spec = add_spec(x, other)
    return narrow(widen(x) + widen(other), spec.dtype)


def add_backward(dy: Floats) -> tuple[Floats, Floats]:
    """``dx = dother = dy``."""
    dtype = add_backward_dtype(dy)
    return dy.astype(dtype), dy.astype(dtype)
