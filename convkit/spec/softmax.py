"""What a softmax or log-softmax is."""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class SoftmaxSpec:
    """Normalises over ``length`` elements that lie ``inner`` apart; ``log`` asks for the logarithm."""

    length: int
    inner: int
    log: bool
    dtype: np.dtype


def softmax_spec(x, axis, *, log, name="x"):
    """Check ``x`` (at least one axis) and ``axis``; returns the spec and the axis counted from 0."""
    dtype = common.native_float(name, common.array(name, x).dtype)
    if x.ndim < 1:
        raise ShapeError(f"{name} must have at least 1 axis, got {name}.shape=()")
    axis = common.axis_of("axis", axis, x.ndim)
    return SoftmaxSpec(x.shape[axis], prod(x.shape[axis + 1:]), log, dtype), axis


def softmax_backward_spec(dy, y, axis, *, log):
    """Check ``dy`` against the output ``y``; returns the same as ``softmax_spec``."""
    spec, axis = softmax_spec(y, axis, log=log, name="y")
    common.same_dtype("dy", common.array("dy", dy).dtype, "y", spec.dtype)
    common.check_shape("dy", dy.shape, y.shape, "that of y")
    return spec, axis
