"""What a linear (fully connected) map is."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class LinearSpec:
    """``y = x w' + b`` on rows of ``x``; ``direction`` as in ConvSpec. Either feature count may be 0."""

    in_features: int
    out_features: int
    dtype: np.dtype
    direction: str = "forward"

    def towards(self, direction):
        """The same map in another direction."""
        return LinearSpec(self.in_features, self.out_features, self.dtype, direction)


def linear_spec(x, weight, bias=None):
    """Check ``x (..., in)``, ``weight (out, in)``, ``bias (out,)``; returns the spec and y's shape."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    common.same_dtype("x", dtype, "weight", common.native_float("weight", common.array("weight", weight).dtype))
    if weight.ndim != 2:
        raise ShapeError(f"weight must have 2 axes (out, in), got weight.shape={weight.shape}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"weight takes {weight.shape[1]} features but x has shape {x.shape}")
    if bias is not None:
        common.same_dtype("bias", common.array("bias", bias).dtype, "x", dtype)
        common.check_shape("bias", bias.shape, weight.shape[:1], "one per output feature")
    y_shape = x.shape[:-1] + weight.shape[:1]
    common.check_bytes("the output", y_shape, dtype)
    return LinearSpec(weight.shape[1], weight.shape[0], dtype), y_shape


def check_linear_backward(dy, x, weight, needs):
    """Check a call of the backward pass; returns the LinearSpec of the forward pass and ``needs``."""
    spec, y_shape = linear_spec(x, weight)
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, y_shape, "that of the output")
    return spec, common.flags("needs", needs, 3)
