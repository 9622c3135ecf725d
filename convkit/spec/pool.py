"""What one pooling is, in one, two or three dimensions: maximum, minimum, average or Lp norm over windows."""

from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A checked pooling of one plane; batch and channels are just many planes.

    ``padding`` is one ``(lo, hi)`` per axis, each at most half of a window. Every window holds at least one
    element of the input. ``dilation`` is 1 along axes whose kernel is 1; ``stride`` and ``kernel`` are never
    longer than the padded input. ``out_size`` is a field because ``ceil_mode`` decides it before the kernel
    is cut to that length. With ``ceil_mode`` a last window may reach beyond the padded input; what lies there
    does not exist: it is no element and no padding. ``norm_type`` and ``elements``, those of a whole window, are
    for ``kind="lp"``.
    """

    kind: str
    size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    dtype: np.dtype
    norm_type: float = 1.0
    elements: int = 1

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)


def pool_spec(x_shape, x_dtype, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
              count_include_pad=True, divisor_override=None, norm_type=1.0, *, kind, rank):
    """Check one pooling and put it into its canonical form.

    Parameters
    ----------
    x_shape : tuple of int
        ``(N, C, *size)`` or ``(C, *size)``.
    x_dtype : np.dtype
        float32 or float64, either byte order.
    kernel_size, stride, dilation : int or tuple of int
        At least 1; ``stride=None`` means ``kernel_size``.
    padding : int, tuple or str
        As for a convolution; at most half of the (dilated) kernel.
    ceil_mode : bool
        Keep a last window that is not full, unless it would start in the right padding.
    count_include_pad, divisor_override
        Averages only: whether padding counts as elements; a divisor that replaces the count.
    norm_type : float
        Lp pooling only: the exponent, at least 1, or infinity.
    kind : {"max", "min", "avg", "lp"}
    rank : int
        Number of spatial axes, 1 to 3.

    Returns
    -------
    (PoolSpec, tuple)
        The spec and the leading axes ``(N, C)`` or ``(C,)``: the output has shape ``lead + spec.out_size``.

    Raises
    ------
    ShapeError, DtypeError
        On the first rule broken.
    """
    dtype = common.native_float("x", x_dtype)
    lead, channels, size = common.split_image("x", x_shape, rank)
    kernel = common.tuple_of("kernel_size", kernel_size, rank, 1)
    stride = kernel if stride is None else common.tuple_of("stride", stride, rank, 1)
    dilation = common.tuple_of("dilation", dilation, rank, 1)
    ceil_mode = common.flag("ceil_mode", ceil_mode)
    count_include_pad = common.flag("count_include_pad", count_include_pad)
    if divisor_override is not None:
        divisor_override = common.integer("divisor_override", divisor_override, 1)
    pads = common.pad_pairs("padding", padding, size, kernel, stride, dilation)

    spans, whole = common.spans(kernel, dilation), common.padded(size, pads)
    if any(max(pair) > span // 2 for pair, span in zip(pads, spans, strict=True)):
        raise ShapeError(
            f"padding must be at most half of the (dilated) kernel, got padding={common.shown(padding)} "
            f"for kernel_size={common.shown(kernel_size)}"
        )
    out_size = tuple(map(_out_length, size, whole, spans, stride, pads, (ceil_mode,) * rank))
    if min(out_size) < 1:
        raise ShapeError(
            f"the window {common.shown(kernel)} with dilation={common.shown(dilation)} is larger than "
            f"the padded input {common.shown(whole)}"
        )
    lead += (channels,)
    common.check_bytes("x", lead + size, dtype)
    common.check_bytes("the windowed input", tuple(map(max, whole, spans)), dtype)
    common.check_bytes("the output", lead + out_size, common.INT64)  # the indices take 8 bytes each
    for axis in zip(size, out_size, stride, pads, dilation, strict=True):
        _check_not_empty(*axis)

    spec = PoolSpec(kind, size, out_size,
                    tuple(min(k, n) for k, n in zip(kernel, whole, strict=True)),
                    tuple(min(s, n) for s, n in zip(stride, whole, strict=True)),
                    pads,
                    tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True)),
                    ceil_mode, count_include_pad, divisor_override, dtype, norm_type, prod(kernel))
    return spec, lead


def _out_length(size, whole, span, stride, pad, ceil_mode):
    """PyTorch's rule: with ``ceil_mode`` round up, then drop a window that starts beyond the input."""
    if not ceil_mode:
        return (whole - span) // stride + 1
    length = -((span - whole) // stride) + 1
    return length - 1 if (length - 1) * stride >= size + pad[0] else length


def _check_not_empty(size, length, stride, pad, dilation):
    """Refuse windows all of whose taps miss the input; only a dilation longer than the input can make one.

    Padding is at most half a window, so a window that starts at ``start < 0`` has a first tap at or after 0,
    which is ``start % dilation``.
    """
    starts = range(-pad[0], min(0, length * stride - pad[0]), stride)
    if size < dilation and any(start % dilation >= size for start in starts):
        raise ShapeError(
            f"dilation={common.shown(dilation)} with padding={pad} puts a whole window outside the "
            f"input, which has only {size} elements along that axis"
        )


def check_pool(x, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad=True,
               divisor_override=None, *, kind, rank, return_indices=False):
    """Check a call of a pooling; returns the PoolSpec, the leading axes and ``return_indices`` as a bool."""
    common.array("x", x)
    spec, lead = pool_spec(x.shape, x.dtype, kernel_size, stride, padding, dilation, ceil_mode,
                           count_include_pad, divisor_override, kind=kind, rank=rank)
    return spec, lead, common.flag("return_indices", return_indices)


def check_lp(x, norm_type, kernel_size, stride, ceil_mode, *, rank):
    """Check a call of Lp pooling; returns the PoolSpec and the leading axes."""
    common.array("x", x)
    norm_type = common.real("norm_type", norm_type, 1, inf, "at least 1")
    return pool_spec(x.shape, x.dtype, kernel_size, stride, 0, 1, ceil_mode, norm_type=norm_type, kind="lp", rank=rank)


def lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, *, rank):
    """Check the gradient of an Lp pooling; returns the forward pass's spec."""
    spec, lead = check_lp(x, norm_type, kernel_size, stride, ceil_mode, rank=rank)
    for name, value in (("dy", dy), ("y", y)):
        common.same_dtype(name, common.array(name, value).dtype, "x", spec.dtype)
        common.check_shape(name, value.shape, lead + spec.out_size, "that of the output")
    return spec


def check_global(x, kind, return_indices=False):
    """Check a pooling over all axes after the channels; returns the PoolSpec, the leading axes and the flag."""
    rank = common.array("x", x).ndim - 2
    if rank not in common.AXES:
        raise ShapeError(f"x must have 3 to 5 axes (N, C, ...), got x.shape={x.shape}")
    return check_pool(x, x.shape[2:], None, 0, 1, False, kind=kind, rank=rank, return_indices=return_indices)


def global_rank(input_shape):
    """Number of axes after the channels of an ``input_shape``."""
    rank = len(common.shape_of("input_shape", input_shape)) - 2
    if rank not in common.AXES:
        raise ShapeError(f"input_shape must have 3 to 5 axes (N, C, ...), got input_shape={common.shown(input_shape)}")
    return rank


def global_avg_backward_spec(dy, input_shape):
    """Check the gradient of an average over whole planes; returns the forward pass's spec and the input's shape."""
    rank = global_rank(input_shape)
    return avg_backward_spec(dy, input_shape, tuple(input_shape[2:]), None, 0, False, True, None, rank=rank)


@dataclass(frozen=True, slots=True)
class ScatterSpec:
    """The way back from pooled positions: planes of ``out_size`` gradients go into planes of ``size``."""

    size: tuple[int, ...]
    out_size: tuple[int, ...]
    dtype: np.dtype


def scatter_spec(dy, indices, input_shape, *, rank):
    """Check the gradient of a maximum or minimum pooling.

    Returns the ScatterSpec and ``input_shape`` as a tuple of ints. ``indices`` must be int64 and shaped like
    ``dy``; who reads them also checks their values (``check_indices``), so that they are gone through once.
    """
    dtype = common.native_float("dy", common.array("dy", dy).dtype)
    if common.array("indices", indices).dtype.newbyteorder("=") != common.INT64:
        raise DtypeError(
            f"indices must be int64, as the pooling returned them, got indices.dtype={indices.dtype}"
        )
    shape = common.shape_of("input_shape", input_shape)
    lead, channels, size = common.split_image("input_shape", shape, rank)
    common.check_shape("indices", indices.shape, dy.shape, "that of dy")
    lead += (channels,)
    if dy.ndim != len(shape) or dy.shape[:-rank] != lead:
        raise ShapeError(f"dy must have {len(shape)} axes, the first {lead} as in input_shape={shape}, "
                         f"got dy.shape={dy.shape}")
    common.check_bytes("the input gradient", shape, dtype)
    return ScatterSpec(size, dy.shape[-rank:], dtype), shape


def check_indices(spec, indices):
    """Refuse indices that lie outside a plane of the input."""
    limit = prod(spec.size)
    if indices.size and (indices.min() < 0 or indices.max() >= limit):
        raise ShapeError(f"indices must be at least 0 and less than the {limit} elements of an input plane, "
                         f"got values from {indices.min()} to {indices.max()}")


def taps_backward_spec(spec, dy, y_shape):
    """Check the gradient that reaches a layer which kept taps; returns its spec in the dtype of ``dy``."""
    dtype = common.native_float("dy", common.array("dy", dy).dtype)
    common.check_shape("dy", dy.shape, y_shape, "that of the output")
    return spec if dtype is spec.dtype else replace(spec, dtype=dtype)


def avg_backward_spec(
    dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, *, rank
):
    """Check the gradient of an average pooling; returns the forward pass's spec and the input's shape."""
    dtype = common.float_array("dy", dy).dtype
    shape = common.shape_of("input_shape", input_shape)
    spec, lead = pool_spec(shape, dtype, kernel_size, stride, padding, 1, ceil_mode, count_include_pad,
                           divisor_override, kind="avg", rank=rank)
    common.check_shape("dy", dy.shape, lead + spec.out_size, "that of the output")
    return spec, shape
