"""What one adaptive pooling is: the plane split into as many windows as the output has elements."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class AdaptiveSpec:
    """Window ``o`` along an axis is ``[o * size // out, ceil((o + 1) * size / out))``; neighbours may overlap."""

    kind: str
    size: tuple[int, ...]
    out_size: tuple[int, ...]
    dtype: np.dtype

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)


def adaptive_spec(x_shape, x_dtype, output_size, *, kind, rank):
    """Check one adaptive pooling (``kind`` is adaptive_max or adaptive_avg); returns it and the leading axes."""
    dtype = common.native_float("x", x_dtype)
    lead, channels, size = common.split_image("x", x_shape, rank)
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    if len(given) != rank:
        raise ShapeError(f"output_size must be an integer, None or a tuple of {rank} of them, "
                         f"got output_size={common.shown(output_size)}")
    out_size = tuple(n if wanted is None else common.integer("output_size", wanted, 1)
                     for n, wanted in zip(size, given, strict=True))
    lead += (channels,)
    common.check_bytes("x", lead + size, dtype)
    common.check_bytes("the output", lead + out_size, common.INT64)
    for n, p in zip(size, out_size, strict=True):
        if (n + 1) * (p + 1) > common.MAX_INT:  # the kernels multiply them
            raise ShapeError(f"output_size times the input's size must be below 2**63, "
                             f"got output_size={common.shown(output_size)} for {n} elements")
    return AdaptiveSpec(kind, size, out_size, dtype), lead


def check_adaptive(x, output_size, return_indices=False, *, kind, rank):
    """Check a call; returns the AdaptiveSpec, the leading axes and ``return_indices`` as a bool."""
    common.array("x", x)
    spec, lead = adaptive_spec(x.shape, x.dtype, output_size, kind=kind, rank=rank)
    return spec, lead, common.flag("return_indices", return_indices)


def adaptive_avg_backward_spec(dy, input_shape, *, rank):
    """Check the gradient of an adaptive average; returns the forward pass's spec and the input's shape."""
    dtype = common.float_array("dy", dy).dtype
    shape = common.shape_of("input_shape", input_shape)
    common.split_image("dy", dy.shape, rank)
    spec, lead = adaptive_spec(shape, dtype, dy.shape[-rank:], kind="adaptive_avg", rank=rank)
    common.check_shape("dy", dy.shape, lead + spec.out_size, "that of the output")
    return spec, shape
