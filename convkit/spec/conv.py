"""What one convolution is, in one, two or three dimensions, forward or one of its gradients."""

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common
from convkit.spec.pad import check_border


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """A checked convolution without its batch: plans never depend on how many images come.

    ``padding`` is one ``(lo, hi)`` per axis; a negative ``hi`` says how many of the last elements no window sees (the
    output padding of a transposed convolution). ``dilation`` is 1 along axes whose kernel is 1, and ``stride``
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
    def of_padded(self):
        """The same convolution of an input that has been padded already."""
        return replace(self, size=common.padded(self.size, self.padding), padding=((0, 0),) * self.rank)

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


def towards(spec, direction):
    """The same convolution in another direction; ``"bias_gradient"`` is one too."""
    return replace(spec, direction=direction)


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
    dtype = common.native_float("x", x_dtype)
    common.same_dtype("x", dtype, "weight", common.native_float("weight", w_dtype))
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


def transposed_spec(x_shape, x_dtype, w_shape, w_dtype, bias_shape=None, bias_dtype=None, stride=1, padding=0,
                    output_padding=0, groups=1, dilation=1, *, rank, direction="input_gradient"):
    """The convolution whose input gradient a transposed convolution is: its ``size`` is the size of the result.

    ``x_shape`` and ``w_shape`` are those of the transposed convolution, ``(N, c_in, *size)`` and
    ``(c_in, c_out / groups, *kernel)``; its channels are the spec's filters. Otherwise as ``conv_spec``.
    """
    dtype = common.native_float("x", x_dtype)
    common.same_dtype("x", dtype, "weight", common.native_float("weight", w_dtype))
    lead, c_in, size = common.split_image("x", x_shape, rank)
    kernel = _kernel(w_shape, rank, "c_in, c_out / groups")
    groups = common.integer("groups", groups, 1)
    if c_in % groups:
        raise ShapeError(f"groups must divide the channels of x, got groups={groups} and {c_in} channels")
    if w_shape[0] != c_in:
        raise ShapeError(f"weight has {w_shape[0]} input channels but x has {c_in} channels")
    c_out = w_shape[1] * groups
    if bias_shape is not None:
        common.same_dtype("bias", bias_dtype, "x", dtype)
        common.check_shape("bias", bias_shape, (c_out,), "one per output channel")

    stride = common.tuple_of("stride", stride, rank, 1)
    dilation = common.tuple_of("dilation", dilation, rank, 1)
    padding = crop_pairs(padding, rank)
    extra = _output_padding(output_padding, stride, dilation, rank)
    reach = tuple((n - 1) * s + span for n, s, span in zip(size, stride, common.spans(kernel, dilation), strict=True))
    out = tuple(r - lo - hi + e for r, (lo, hi), e in zip(reach, padding, extra, strict=True))
    if min(out) < 1:
        raise ShapeError(f"the output must have at least 1 element along each axis, got {common.shown(out)} with "
                         f"padding={common.shown(padding)}")

    stride = tuple(min(s, r) for s, r in zip(stride, reach, strict=True))
    dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    n = lead[0] if lead else 1
    common.check_bytes("x", (n, c_in, *size), dtype)
    common.check_bytes("the weight", w_shape, dtype)
    common.check_bytes("the output", (n, c_out, *out), dtype)
    common.check_bytes("the uncropped output", (c_out, *reach), dtype)
    # no window sees the output padding, so the padding after the input is less by it
    unseen = tuple((lo, hi - e) for (lo, hi), e in zip(padding, extra, strict=True))
    return ConvSpec(c_out, c_in, out, kernel, stride, unseen, dilation, groups, dtype, direction), n, bool(lead)


def crop_pairs(value, rank):
    """The padding of a transposed convolution as one ``(lo, hi)`` per axis; names have no meaning there."""
    if isinstance(value, str):
        raise ShapeError(f"padding must be integers in a transposed convolution, got padding={common.shown(value)}")
    return common.pad_pairs("padding", value, (None,) * rank, None, None, None)


def _output_padding(value, stride, dilation, rank):
    extra = common.tuple_of("output_padding", value, rank, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeError(f"output_padding must be less than stride or dilation, got "
                         f"output_padding={common.shown(value)} with stride={common.shown(stride)} and "
                         f"dilation={common.shown(dilation)}")
    return extra


def output_padding_for(output_size, size, kernel, stride, padding, dilation):
    """The output padding that makes a transposed convolution's result ``output_size`` (all per axis)."""
    least = [(n - 1) * s - lo - hi + span for n, s, (lo, hi), span
             in zip(size, stride, padding, common.spans(kernel, dilation), strict=True)]
    wanted = common.shape_of("output_size", output_size)
    if len(wanted) == len(size) + 2:
        wanted = wanted[2:]
    if len(wanted) != len(size):
        raise ShapeError(f"output_size must have {len(size)} or {len(size) + 2} entries, got "
                         f"output_size={common.shown(output_size)}")
    if any(not low <= w < low + s for w, low, s in zip(wanted, least, stride, strict=True)):
        most = tuple(low + s - 1 for low, s in zip(least, stride, strict=True))
        raise ShapeError(f"output_size must be between {tuple(least)} and {most} for an input of size {tuple(size)}, "
                         f"got output_size={common.shown(output_size)}")
    return tuple(w - low for w, low in zip(wanted, least, strict=True))


def _kernel(w_shape, rank, channels="c_out, c_in / groups"):
    if len(w_shape) != rank + 2:
        raise ShapeError(f"weight must have {rank + 2} axes ({channels}, {common.AXES[rank]}), "
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


def _described(x, weight, bias=None):
    """Shapes and dtypes of the operands, which must be arrays."""
    common.array("x", x)
    common.array("weight", weight)
    if bias is None:
        return x.shape, x.dtype, weight.shape, weight.dtype, None, None
    common.array("bias", bias)
    return x.shape, x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype


def _unbatched(shape, batched):
    return shape if batched else shape[1:]


def check_conv(x, weight, bias, stride, padding, dilation, groups, out, rank):
    """Check a call of the forward pass, arrays included; returns what ``conv_spec`` returns."""
    spec, n, batched = conv_spec(*_described(x, weight, bias), stride, padding, dilation, groups, rank=rank)
    if out is not None:
        common.check_out(out, _unbatched(spec.y_shape(n), batched), spec.dtype)
    return spec, n, batched


def check_conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, rank):
    """Check a call of the backward pass; returns the spec, n and ``needs``."""
    spec, n, batched = conv_spec(*_described(x, weight), stride, padding, dilation, groups, rank=rank)
    _check_dy(dy, _unbatched(spec.y_shape(n), batched), spec)
    return spec, n, common.flags("needs", needs, 3)


def check_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank):
    """Check a call of a transposed convolution; returns what ``transposed_spec`` returns."""
    spec, n, batched = transposed_spec(*_described(x, weight, bias), stride, padding, output_padding, groups, dilation,
                                       rank=rank)
    if out is not None:
        common.check_out(out, _unbatched(spec.x_shape(n), batched), spec.dtype)
    return spec, n, batched


def check_transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank):
    """Check a call of its backward pass; returns the spec, n and ``needs``."""
    spec, n, batched = transposed_spec(*_described(x, weight), stride, padding, output_padding, groups, dilation,
                                       rank=rank)
    _check_dy(dy, _unbatched(spec.x_shape(n), batched), spec)
    return spec, n, common.flags("needs", needs, 3)


def _check_dy(dy, shape, spec):
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, shape, "that of the output")


PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def border_mode(spec, padding_mode):
    """``pad``'s name for a padding mode, once the spec's padding is known to suit it."""
    if not isinstance(padding_mode, str) or padding_mode not in PADDING_MODES:
        raise ShapeError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, "
                         f"got padding_mode={common.shown(padding_mode)}")
    if padding_mode == "zeros":
        return "constant"
    check_border(padding_mode, spec.padding, spec.size, f"padding_mode={padding_mode!r}")
    return padding_mode
