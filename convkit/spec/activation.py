"""What an elementwise activation is."""

from dataclasses import dataclass

import numpy as np

from convkit.spec import common


@dataclass(frozen=True, slots=True)
class ReluSpec:
    """Only the dtype matters: the elements are independent."""

    dtype: np.dtype


def relu_spec(x):
    """Check ``x``, of any shape."""
    return ReluSpec(common.native_float("x", common.array("x", x).dtype))


def relu_backward_spec(dy, y):
    """Check ``dy`` against ReLU's output ``y``."""
    dtype = common.native_float("y", common.array("y", y).dtype)
    common.same_dtype("dy", common.array("dy", dy).dtype, "y", dtype)
    common.check_shape("dy", dy.shape, y.shape, "that of y")
    return ReluSpec(dtype)
