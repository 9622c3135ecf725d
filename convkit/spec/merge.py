"""What is checked of arrays that become one: side by side, or their sum."""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common


def concat_spec(xs, axis):
    """Check arrays that are to lie side by side along ``axis``; returns the axis from 0, the shape and the dtype."""
    if not xs:
        raise ShapeError("concat needs at least 1 array, got none")
    if isinstance(xs[0], list | tuple):
        raise DtypeError(f"concat takes arrays one by one, as in concat(a, b), got a {type(xs[0]).__name__}; "
                         "write concat(*arrays)")
    dtype, shape = common.native_float("x0", common.array("x0", xs[0]).dtype), xs[0].shape
    axis = common.axis_of("axis", axis, len(shape))
    for i, x in enumerate(xs[1:], start=1):
        common.same_dtype(f"x{i}", common.array(f"x{i}", x).dtype, "x0", dtype)
        if x.ndim != len(shape) or _beside(x.shape, axis) != _beside(shape, axis):
            raise ShapeError(f"arrays that are joined must have one shape but for axis {axis}, "
                             f"got {[x.shape for x in xs]}")
    shape = (*shape[:axis], sum(x.shape[axis] for x in xs), *shape[axis + 1:])
    common.check_bytes("the result", shape, dtype)
    return axis, shape, dtype


def concat_backward_spec(dy, sizes, axis):
    """Check the gradient of what was joined; returns the axis from 0, where each part ends, and the dtype."""
    dtype = common.native_float("dy", common.array("dy", dy).dtype)
    axis, sizes = common.axis_of("axis", axis, dy.ndim), common.shape_of("sizes", sizes)
    if not sizes or sum(sizes) != dy.shape[axis]:
        raise ShapeError(f"sizes must be those of the arrays along axis {axis}, {dy.shape[axis]} together, "
                         f"got sizes={common.shown(sizes)}")
    return axis, tuple(accumulate(sizes)), dtype


def _beside(shape, axis):
    return shape[:axis] + shape[axis + 1:]


@dataclass(frozen=True, slots=True)
class AddSpec:
    """A sum of two arrays of one shape, element by element."""

    dtype: np.dtype


def add_spec(x, other):
    """Check two arrays of one shape and dtype."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    common.same_dtype("other", common.array("other", other).dtype, "x", dtype)
    common.check_shape("other", other.shape, x.shape, "that of x")
    return AddSpec(dtype)


def add_backward_dtype(dy):
    """The dtype of the gradients."""
    return common.native_float("dy", common.array("dy", dy).dtype)
