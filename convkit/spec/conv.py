"""What one convolution is, in one, two or three dimensions, forward or one of its gradients."""

from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A checked convolution without its batch: plans never depend on how many images come.

    ``padding`` is one ``(lo, hi)`` per axis. ``dilation`` is 1 along axes whose kernel is 1, and ``stride``
    is never longer than the padded input, so that equal convolutions have equal specs and no kernel meets a
    huge step. ``direction`` is ``"forward"``, ``"input_gradient"`` or ``"weight_gradient"``; shapes are
    always those of the forward pass. ``out_size``, which follows from the rest, is
    ``(size + lo + hi - span) // stride + 1`` per axis.
    """

    c_in: int
    c_out: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    dtype: np.dtype
    direction: str = "forward"
    out_size: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        spans, whole = common.spans(self.kernel, self.dilation), common.padded(self.size, self.padding)
        out = tuple((n - span) // s + 1 for n, span, s in zip(whole, spans, self.stride, strict=True))
        object.__setattr__(self, "out_size", out)  # the class is frozen, and this is still its making

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)

    @property
    def c_in_per_group(self):
        return self.c_in // self.groups

    @property
    def c_out_per_group(self):
        return self.c_out // self.groups

    @property
    def weight_shape(self):
        return (self.c_out, self.c_in_per_group, *self.kernel)

    @property
    def macs(self):
        """Multiply-adds per image, those on padding included; the same in all three directions."""
        return prod(self.out_size) * self.c_out * self.c_in_per_group * prod(self.kernel)

    def x_shape(self, n):
        """Shape of a batch of ``n`` inputs."""
        return (n, self.c_in, *self.size)

    def y_shape(self, n):
        """Shape of a batch of ``n`` outputs."""
        return (n, self.c_out, *self.out_size)


def conv_spec(x_shape, x_dtype, w_shape, w_dtype, bias_shape=None, bias_dtype=None,
              stride=1, padding=0, dilation=1, groups=1, *, rank, direction="forward"):
    """Check one convolution and put it into its canonical form.

    Parameters
    ----------
    x_shape, w_shape, bias_shape : tuple of int
        ``(N, c_in, *size)`` or ``(c_in, *size)``; ``(c_out, c_in / groups, *kernel)``; ``(c_out,)`` or None.
    x_dtype, w_dtype, bias_dtype : np.dtype
        float32 or float64, all the same; either byte order.
    stride, dilation : int or tuple of int
        At least 1.
    padding : int, tuple or str
        An int, one int or ``(lo, hi)`` per axis, ``"valid"`` or ``"same"``.
    groups : int
        Divides ``c_in`` and ``c_out``.
    rank : int
        Number of spatial axes, 1 to 3.

    Returns
    -------
    (ConvSpec, int, bool)
        The spec, the number of images, and whether ``x`` had a batch axis.

    Raises
    ------
    ShapeError, DtypeError
        On the first rule broken.
    """
    args = (x_shape, x_dtype, w_shape, w_dtype, bias_shape, bias_dtype, stride, padding, dilation, groups,
            rank, direction)
    plain = common.plain
    if plain(stride) and plain(padding) and plain(dilation) and plain(groups):
        return _cached(*args)
    return _conv_spec(*args)


def _conv_spec(x_shape, x_dtype, w_shape, w_dtype, bias_shape, bias_dtype,
               stride, padding, dilation, groups, rank, direction):
    dtype = common.native_float("x", x_dtype)
    common.same_dtype("weight", w_dtype, "x", dtype)
    lead, c_in, size = common.split_image("x", x_shape, rank)
    kernel = _kernel(w_shape, rank)
    c_out = w_shape[0]
    groups = common.integer("groups", groups, 1)
    _check_channels(c_in, c_out, w_shape[1], groups)
    if bias_shape is not None:
        common.same_dtype("bias", bias_dtype, "x", dtype)
        common.check_shape("bias", bias_shape, (c_out,), "one per output channel")

    stride = common.tuple_of("stride", stride, rank, 1)
    dilation = common.tuple_of("dilation", dilation, rank, 1)
    padding = common.pad_pairs("padding", padding, size, kernel, stride, dilation)
    whole = _check_window(size, kernel, padding, dilation)

    stride = tuple(min(s, n) for s, n in zip(stride, whole, strict=True))
    dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    spec = ConvSpec(c_in, c_out, size, kernel, stride, padding, dilation, groups, dtype, direction)
    n = lead[0] if lead else 1
    common.check_bytes("x", spec.x_shape(n), dtype)
    common.check_bytes("the padded input", (c_in, *whole), dtype)
    common.check_bytes("the weight", spec.weight_shape, dtype)
    common.check_bytes("the output", spec.y_shape(n), dtype)
    return spec, n, bool(lead)


_cached = lru_cache(maxsize=1024)(_conv_spec)


def _kernel(w_shape, rank):
    if len(w_shape) != rank + 2:
        raise ShapeError(f"weight must have {rank + 2} axes (c_out, c_in / groups, {common.AXES[rank]}), "
                         f"got weight.shape={w_shape}")
    if min(w_shape) < 1:
        raise ShapeError(f"weight must have at least 1 element along each axis, got weight.shape={w_shape}")
    return w_shape[2:]


def _check_channels(c_in, c_out, per_group, groups):
    if c_in % groups:
        raise ShapeError(f"groups must divide the channels of x, got groups={groups} and {c_in} channels")
    if c_out % groups:
        raise ShapeError(f"groups must divide the output channels of weight, got groups={groups} "
                         f"and {c_out} output channels")
    if per_group * groups != c_in:
        raise ShapeError(f"weight has {per_group} input channels per group but x has {c_in} channels "
                         f"and groups={groups}")


def _check_window(size, kernel, padding, dilation):
    whole = common.padded(size, padding)
    if any(span > n for span, n in zip(common.spans(kernel, dilation), whole, strict=True)):
        raise ShapeError(
            f"the kernel {kernel} with dilation={common.shown(dilation)} is larger than the padded input "
            f"{common.shown(whole)}"
        )
    return whole


def check_conv(x, weight, bias, stride, padding, dilation, groups, out, *, rank):
    """Check a call of the forward pass, arrays included; returns what ``conv_spec`` returns."""
    common.array("x", x)
    common.array("weight", weight)
    if bias is None:
        spec, n, batched = conv_spec(x.shape, x.dtype, weight.shape, weight.dtype, None, None, stride,
                                     padding, dilation, groups, rank=rank)
    else:
        common.array("bias", bias)
        spec, n, batched = conv_spec(x.shape, x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype,
                                     stride, padding, dilation, groups, rank=rank)
    if out is not None:
        common.check_out(out, _shape(spec, n, batched), spec.dtype)
    return spec, n, batched


def check_conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, *, rank):
    """Check a call of the backward pass; returns the specs of the three directions, n and ``needs``."""
    common.array("x", x)
    common.array("weight", weight)
    args = (x.shape, x.dtype, weight.shape, weight.dtype, None, None, stride, padding, dilation, groups)
    spec, n, batched = conv_spec(*args, rank=rank)
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, _shape(spec, n, batched), "that of the output")
    for_dx = conv_spec(*args, rank=rank, direction="input_gradient")[0]
    for_dw = conv_spec(*args, rank=rank, direction="weight_gradient")[0]
    return (spec, for_dx, for_dw), n, common.flags("needs", needs, 3)


def _shape(spec, n, batched):
    return spec.y_shape(n) if batched else spec.y_shape(n)[1:]


# What np.pad calls PyTorch's padding modes.
_NUMPY_MODE = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def numpy_padding_mode(spec, padding_mode):
    """``np.pad``'s name for a padding mode, once the spec's padding is known to suit it."""
    if padding_mode == "zeros":
        return "constant"
    mode = _NUMPY_MODE.get(padding_mode) if isinstance(padding_mode, str) else None
    if mode is None:
        raise ShapeError(f"padding_mode must be one of {', '.join(_NUMPY_MODE)}, "
                         f"got padding_mode={common.shown(padding_mode)}")
    longest = {"reflect": -1, "wrap": 0}.get(mode)
    if longest is not None and any(
        max(pair) > n + longest for pair, n in zip(spec.padding, spec.size, strict=True)
    ):
        raise ShapeError(f"padding must be {'less than' if longest else 'at most'} the input with "
                         f"padding_mode={padding_mode!r}, got padding={spec.padding} for size {spec.size}")
    return mode
