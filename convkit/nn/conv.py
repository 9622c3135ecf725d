"""Convolution layers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.functional.conv import convolution_of, convolve_transposed
from convkit.nn import init
from convkit.nn.computing import Computing
from convkit.nn.module import Module, backward_of, learns
from convkit.nn.parameter import Parameter, array_or_none, memory_for, wants_grad
from convkit.spec import common
from convkit.spec.conv import border_mode, conv_spec, crop_pairs, output_padding_for, transposed_spec
from convkit.typing import Backward, Floats, Padding, Size


class _ConvBase(Module):
    """What plain and transposed convolution layers of all ranks share; a subclass gives ``rank`` and ``_spec``."""

    can_skip_dx = True

    def _set(self, in_channels, out_channels, kernel_size, stride, dilation, groups):
        self.in_channels = common.integer("in_channels", in_channels, 1)
        self.out_channels = common.integer("out_channels", out_channels, 1)
        self.kernel_size = common.tuple_of("kernel_size", kernel_size, self.rank, 1)
        self.stride = common.tuple_of("stride", stride, self.rank, 1)
        self.dilation = common.tuple_of("dilation", dilation, self.rank, 1)
        self.groups = common.integer("groups", groups, 1)

    def _make_parameters(self, weight_shape, bias, rng, dtype):
        bias = common.flag("bias", bias)
        rng = np.random.default_rng() if rng is None else common.generator("rng", rng)
        with memory_for("the weight", weight_shape, dtype):
            self.weight = Parameter(np.empty(weight_shape, dtype))
            self.bias = Parameter(np.empty(self.out_channels, dtype)) if bias else None
            init.default_(self.weight, self.bias, rng=rng)

    def _backward_of(self, x, function, *args, **options):
        def backward(dy, need_dx=True):
            needs = need_dx, wants_grad(self.weight), wants_grad(self.bias)
            dx, dw, db = function(dy, x, self.weight._data, *args, **options, needs=needs)
            if dw is not None:
                self.weight.add_grad(dw)
            if db is not None:
                self.bias.add_grad(db)
            return dx

        return backward

    def macs(self, x_shape: Sequence[int]) -> int:
        spec = self._spec(x_shape, self.weight.shape, self.weight.dtype)
        return spec.macs * (x_shape[0] if len(x_shape) == self.rank + 2 else 1)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        none = (0,) * self.rank
        shown = (("padding", self.padding, none), ("dilation", self.dilation, (1,) * self.rank),
                 ("output_padding", getattr(self, "output_padding", none), none), ("groups", self.groups, 1),
                 ("bias", self.bias is not None, True), ("padding_mode", self.padding_mode, "zeros"))
        return text + "".join(f", {name}={value}" for name, value, usual in shown if value != usual)


class _Conv(_ConvBase, Computing):
    """Plain convolution layers; a subclass gives ``rank`` and the gradient."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = 0,
                 dilation: Size = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", *,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        self._set(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding = padding
        dtype = common.float_dtype("dtype", dtype)
        spec = self._smallest_spec(dtype)
        self.padding = padding if isinstance(padding, str) else _as_torch(spec.padding)
        border_mode(replace(spec, padding=((0, 0),) * self.rank), padding_mode)  # refuses unknown names
        self.padding_mode = padding_mode
        self._make_parameters(spec.weight_shape, bias, rng, dtype)

    def _smallest_spec(self, dtype):
        """The spec of this convolution on the smallest input: refuses what is wrong with any input."""
        size = common.spans(self.kernel_size, self.dilation)
        weight_shape = (self.out_channels, max(self.in_channels // self.groups, 1), *self.kernel_size)
        return self._spec((self.in_channels, *size), weight_shape, dtype)

    def _spec(self, x_shape, weight_shape, dtype):
        return conv_spec(x_shape, dtype, weight_shape, dtype, None, None, self.stride, self.padding, self.dilation,
                         self.groups, rank=self.rank)[0]

    def computing(self, operands: Callable[[], tuple[Any, ...]], then: tuple[Any, ...]) -> Callable[..., Floats]:
        """``f(x, past=None)``: this convolution with other operands, plus ``past``, and an activation, as in
        ``functional.conv.convolution_of``."""
        return convolution_of(operands, then, self.stride, self.padding, self.dilation, self.groups, self.padding_mode,
                              self.rank)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return self.predict(x), self._backward_of(x, self._conv_backward, self.stride, self.padding, self.dilation,
                                                  self.groups, padding_mode=self.padding_mode)


class _ConvTranspose(_ConvBase):
    """Transposed convolution layers; a subclass gives ``rank`` and the gradient."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 padding_mode: str = "zeros", *, rng: np.random.Generator | None = None,
                 dtype: DTypeLike = np.float32) -> None:
        self._set(in_channels, out_channels, kernel_size, stride, dilation, groups)
        if padding_mode != "zeros":
            raise ShapeError("padding_mode must be zeros in a transposed convolution, "
                             f"got padding_mode={common.shown(padding_mode)}")
        self.padding_mode = padding_mode
        if self.out_channels % self.groups:
            raise ShapeError(f"groups must divide out_channels, got groups={groups} and out_channels={out_channels}")
        dtype = common.float_dtype("dtype", dtype)
        self.output_padding = common.tuple_of("output_padding", output_padding, self.rank, 0)
        pads = crop_pairs(padding, self.rank)
        self.padding = _as_torch(pads)
        weight_shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        # an input long enough for any cropping: refuses what is wrong with any input
        self._spec((self.in_channels, *(sum(pair) + 1 for pair in pads)), weight_shape, dtype)
        self._make_parameters(weight_shape, bias, rng, dtype)

    def _spec(self, x_shape, weight_shape, dtype):
        return transposed_spec(x_shape, dtype, weight_shape, dtype, None, None, self.stride, self.padding,
                               self.output_padding, self.groups, self.dilation, rank=self.rank)[0]

    def _output_padding(self, x, output_size):
        if output_size is None:
            return self.output_padding
        size = common.split_image("x", common.array("x", x).shape, self.rank)[2]
        return output_padding_for(output_size, size, self.kernel_size, self.stride, crop_pairs(self.padding, self.rank),
                                  self.dilation)

    def __call__(self, x: Floats, output_size: Sequence[int] | None = None) -> Floats:
        return self.predict(x, output_size)

    def predict(self, x: Floats, output_size: Sequence[int] | None = None) -> Floats:
        extra = self._output_padding(x, output_size)
        return convolve_transposed(x, self.weight._data, array_or_none(self.bias), self.stride, self.padding, extra,
                                   self.groups, self.dilation, rank=self.rank, packed=self.weight.packed)

    def forward(self, x: Floats, output_size: Sequence[int] | None = None) -> tuple[Floats, Backward]:
        extra = self._output_padding(x, output_size)
        return self.predict(x, output_size), self._backward_of(
            x, self._conv_backward, self.stride, self.padding, extra, self.groups, self.dilation)


def _as_torch(pads):
    """One int per axis as PyTorch stores it, or the (lo, hi) pairs where the two sides differ."""
    return tuple(lo for lo, _ in pads) if all(lo == hi for lo, hi in pads) else pads


class Conv1d(_Conv):
    """1-d convolution of ``x (N, C_in, L)`` or ``(C_in, L)``. Parameters are as in ``Conv2d``."""

    rank = 1
    _conv_backward = staticmethod(F.conv1d_backward)


class Conv2d(_Conv):
    """2-D convolution of ``x (N, C_in, H, W)`` or ``(C_in, H, W)``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (int, int)
    padding : int, (int, int), ((lo, hi), (lo, hi)), "valid" or "same"
    groups : int
        Divides both channel counts.
    bias : bool
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
    rng : numpy.random.Generator, optional
        Source of the first weights: uniform within ``1 / sqrt(C_in / groups * kh * kw)``, as in PyTorch.
    dtype : float16, float32 or float64
    """

    rank = 2
    _conv_backward = staticmethod(F.conv2d_backward)


class Conv3d(_Conv):
    """3-d convolution of ``x (N, C_in, D, H, W)`` or ``(C_in, D, H, W)``. Parameters are as in ``Conv2d``."""

    rank = 3
    _conv_backward = staticmethod(F.conv3d_backward)


class ConvTranspose1d(_ConvTranspose):
    """1-d transposed convolution of ``x (N, C_in, L)`` or ``(C_in, L)``. Parameters are as in
    ``ConvTranspose2d``.
    """

    rank = 1
    _conv_backward = staticmethod(F.conv_transpose1d_backward)


class ConvTranspose2d(_ConvTranspose):
    """2-D transposed convolution of ``x (N, C_in, H, W)`` or ``(C_in, H, W)``.

    A call, ``predict`` and ``forward`` take an ``output_size``, ``(H, W)`` or the whole shape, which decides the output
    padding of that call.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (int, int)
    padding : int, (int, int) or ((lo, hi), (lo, hi))
        What the result is cropped by.
    output_padding : int or (int, int)
        Added to the end of the result; less than ``stride`` or ``dilation``.
    groups : int
        Divides both channel counts.
    bias : bool
    padding_mode : "zeros"
    rng : numpy.random.Generator, optional
        Source of the first weights: uniform within ``1 / sqrt(C_out / groups * kh * kw)``, as in PyTorch.
    dtype : float16, float32 or float64
    """

    rank = 2
    _conv_backward = staticmethod(F.conv_transpose2d_backward)


class ConvTranspose3d(_ConvTranspose):
    """3-d transposed convolution of ``x (N, C_in, D, H, W)`` or ``(C_in, D, H, W)``. Parameters are as in
    ``ConvTranspose2d``.
    """

    rank = 3
    _conv_backward = staticmethod(F.conv_transpose3d_backward)


class _Separable(Module):
    """What depthwise-separable layers of all ranks share; a subclass gives ``conv``, the layer that it is made of."""

    can_skip_dx = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = 0,
                 dilation: Size = 1, depth_multiplier: int = 1, bias: bool = True, padding_mode: str = "zeros", *,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        rng = np.random.default_rng() if rng is None else common.generator("rng", rng)
        self.depth_multiplier = common.integer("depth_multiplier", depth_multiplier, 1)
        between = common.integer("in_channels", in_channels, 1) * self.depth_multiplier
        self.depthwise = self.conv(in_channels, between, kernel_size, stride, padding, dilation, in_channels, False,
                                   padding_mode, rng=rng, dtype=dtype)
        self.pointwise = self.conv(between, out_channels, 1, bias=bias, rng=rng, dtype=dtype)

    def predict(self, x: Floats) -> Floats:
        return self.pointwise(self.depthwise(x))

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        x, through_depthwise = self.depthwise.forward(x)
        x, through_pointwise = self.pointwise.forward(x)

        def backward(dy, need_dx=True):
            dy = through_pointwise(dy, need_dx or learns(self.depthwise))
            return backward_of(self.depthwise, through_depthwise, dy, need_dx)

        return x, backward


class SeparableConv1d(_Separable):
    """1-d depthwise-separable convolution. Parameters are as in ``SeparableConv2d``."""

    conv = Conv1d


class SeparableConv2d(_Separable):
    """Depthwise-separable 2-D convolution (Chollet 2017, arXiv 1610.02357): ``depth_multiplier`` filters for each
    channel alone, without bias, then a 1x1 convolution that mixes them.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, padding_mode
        Of the depthwise convolution, as in ``Conv2d``.
    depth_multiplier : int
    bias : bool
        Of the 1x1 convolution.
    rng : numpy.random.Generator, optional
    dtype : float16, float32 or float64

    Attributes
    ----------
    depthwise, pointwise : Conv2d
        The two layers; parameters are ``depthwise.weight``, ``pointwise.weight`` and ``pointwise.bias``.
    """

    conv = Conv2d


class SeparableConv3d(_Separable):
    """3-d depthwise-separable convolution. Parameters are as in ``SeparableConv2d``."""

    conv = Conv3d
