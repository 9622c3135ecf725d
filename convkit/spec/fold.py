"""What the unfolding of images into windows is, and its adjoint."""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class FoldSpec:
    """Every window of an image as a column; sizes are per axis, padding is ``(lo, hi)``."""

    size: tuple
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    dtype: np.dtype

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)

    @property
    def out_size(self):
        """Windows per axis."""
        whole = common.padded(self.size, self.padding)
        reach = common.spans(self.kernel, self.dilation)
        return tuple((n - r) // s + 1 for n, r, s in zip(whole, reach, self.stride, strict=True))

    @property
    def taps(self):
        """Elements of a window."""
        return prod(self.kernel)


def unfold_spec(x_shape, x_dtype, kernel_size, dilation, padding, stride, name="x"):
    """Check an input ``(N, C, *size)`` or ``(C, *size)``; returns the FoldSpec, ``(N,)`` or ``()``, and C."""
    dtype = common.native_float(name, x_dtype)
    rank = _rank("kernel_size", kernel_size)
    lead, channels, size = common.split_image(name, x_shape, rank)
    spec = _spec(size, kernel_size, dilation, padding, stride, dtype, name)
    common.check_bytes("the result", (*lead, channels * spec.taps, prod(spec.out_size)), dtype)
    return spec, lead, channels


def fold_spec(x_shape, x_dtype, output_size, kernel_size, dilation, padding, stride, name="x"):
    """Check columns ``(N, C taps, L)`` or ``(C taps, L)``; returns the same as ``unfold_spec``."""
    dtype = common.native_float(name, x_dtype)
    rank = _rank("output_size", output_size)
    size = common.tuple_of("output_size", output_size, rank, 1)
    spec = _spec(size, kernel_size, dilation, padding, stride, dtype, "output_size")
    if len(x_shape) not in (2, 3):
        raise ShapeError(f"{name} must have 3 axes (N, C * taps, L) or 2 (C * taps, L), got {name}.shape={x_shape}")
    *lead, rows, columns = x_shape
    if rows < 1 or rows % spec.taps or columns != prod(spec.out_size):
        raise ShapeError(f"{name} must have shape (..., C * {spec.taps}, {prod(spec.out_size)}) for the windows of "
                         f"output_size={size}, got {name}.shape={x_shape}")
    common.check_bytes("the result", (*lead, rows // spec.taps, *size), dtype)
    return spec, tuple(lead), rows // spec.taps


def unfold_backward_spec(dy, input_shape, kernel_size, dilation, padding, stride):
    """Check ``dy`` against the columns of an input of that shape; returns the same as ``unfold_spec``."""
    shape = common.shape_of("input_shape", input_shape)
    spec, lead, channels = unfold_spec(shape, common.array("dy", dy).dtype, kernel_size, dilation, padding, stride,
                                       "input")
    common.check_bytes("the input", shape, spec.dtype)
    common.check_shape("dy", dy.shape, (*lead, channels * spec.taps, prod(spec.out_size)), "that of the output")
    return spec, lead, channels


def check_window(output_size, kernel_size, dilation, padding, stride):
    """Refuse what is wrong with any input; ``output_size`` is None if that is what the input decides."""
    if output_size is None:
        rank = _rank("kernel_size", kernel_size)
        size = common.spans(common.tuple_of("kernel_size", kernel_size, rank, 1),
                            common.tuple_of("dilation", dilation, rank, 1))
    else:
        size = common.tuple_of("output_size", output_size, _rank("output_size", output_size), 1)
    _spec(size, kernel_size, dilation, padding, stride, common.FLOAT32, "output_size")


def _rank(name, value):
    """2 as in PyTorch, or the length of a tuple of 1 to 3."""
    rank = len(value) if isinstance(value, (tuple, list)) else 2
    if not 1 <= rank <= 3:
        raise ShapeError(f"{name} must be an integer or a tuple of 1 to 3 integers, got {name}={common.shown(value)}")
    return rank


def _spec(size, kernel_size, dilation, padding, stride, dtype, name):
    rank = len(size)
    kernel = common.tuple_of("kernel_size", kernel_size, rank, 1)
    dilation = common.tuple_of("dilation", dilation, rank, 1)
    stride = common.tuple_of("stride", stride, rank, 1)
    padding = common.pad_pairs("padding", padding, size, kernel, stride, dilation)
    whole, reach = common.padded(size, padding), common.spans(kernel, dilation)
    if max(whole) > common.MAX_BYTES or any(r > n for r, n in zip(reach, whole, strict=True)):
        raise ShapeError(f"the window must fit into the padded {name}, got a window of {common.shown(reach)} in "
                         f"{common.shown(whole)}")
    return FoldSpec(tuple(size), kernel, stride, padding, dilation, dtype)
