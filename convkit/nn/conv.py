"""Convolution layers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.functional.conv import convolve
from convkit.nn import init
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, array_or_none, wants_grad
from convkit.spec import common
from convkit.spec.conv import conv_spec, numpy_padding_mode
from convkit.typing import Backward, Floats, Padding, Size


class _Conv(Module):
    """What convolution layers of all ranks share; a subclass gives ``rank`` and the gradient."""

    can_skip_dx = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Padding = 0,
                 dilation: Size = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", *,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        self.in_channels = common.integer("in_channels", in_channels, 1)
        self.out_channels = common.integer("out_channels", out_channels, 1)
        self.kernel_size = common.tuple_of("kernel_size", kernel_size, self.rank, 1)
        self.stride = common.tuple_of("stride", stride, self.rank, 1)
        self.dilation = common.tuple_of("dilation", dilation, self.rank, 1)
        self.groups = common.integer("groups", groups, 1)
        dtype = common.native_float("dtype", np.dtype(dtype))
        spec = self._smallest_spec(padding, dtype)
        self.padding = padding if isinstance(padding, str) else _as_torch(spec.padding)
        numpy_padding_mode(replace(spec, padding=((0, 0),) * self.rank), padding_mode)  # refuses unknown names
        self.padding_mode = padding_mode

        self.weight = Parameter(np.empty(spec.weight_shape, dtype))
        self.bias = Parameter(np.empty(self.out_channels, dtype)) if bias else None
        init.default_(self.weight, self.bias, rng=np.random.default_rng() if rng is None else rng)

    def _smallest_spec(self, padding, dtype):
        """The spec of this convolution on the smallest input: refuses what is wrong with any input."""
        size = common.spans(self.kernel_size, self.dilation)
        weight_shape = (self.out_channels, max(self.in_channels // self.groups, 1), *self.kernel_size)
        return conv_spec((self.in_channels, *size), dtype, weight_shape, dtype, None, None, self.stride, padding,
                         self.dilation, self.groups, rank=self.rank)[0]

    def predict(self, x: Floats) -> Floats:
        return convolve(x, self.weight._data, array_or_none(self.bias), self.stride, self.padding, self.dilation,
                        self.groups, self.padding_mode, rank=self.rank, packed=self.weight.packed)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        if self.padding_mode == "zeros":
            return self.predict(x), self._backward(x, self.padding)
        spec = self._spec(x.shape)
        mode = numpy_padding_mode(spec, self.padding_mode)
        padded = np.pad(x, (*((0, 0),) * (x.ndim - self.rank), *spec.padding), mode)
        through_conv = self._backward(padded, 0)

        def backward(dy, need_dx=True):
            dx = through_conv(dy, need_dx)
            return dx if dx is None else _unpad(dx, spec.padding, mode)

        return self.predict(x), backward

    def _backward(self, x, padding):
        def backward(dy, need_dx=True):
            needs = need_dx, wants_grad(self.weight), wants_grad(self.bias)
            dx, dw, db = self._conv_backward(dy, x, self.weight._data, self.stride, padding, self.dilation,
                                             self.groups, needs=needs)
            if dw is not None:
                self.weight.add_grad(dw)
            if db is not None:
                self.bias.add_grad(db)
            return dx

        return backward

    def macs(self, x_shape: Sequence[int]) -> int:
        spec = self._spec(x_shape)
        return spec.macs * (x_shape[0] if len(x_shape) == self.rank + 2 else 1)

    def _spec(self, x_shape):
        dtype = self.weight.dtype
        return conv_spec(x_shape, dtype, self.weight.shape, dtype, None, None, self.stride, self.padding,
                         self.dilation, self.groups, rank=self.rank)[0]

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        shown = {"padding": self.padding, "dilation": self.dilation, "groups": self.groups,
                 "bias": self.bias is not None, "padding_mode": self.padding_mode}
        usual = (0,) * self.rank, (1,) * self.rank, 1, True, "zeros"
        return text + "".join(f", {name}={value}" for (name, value), u in zip(shown.items(), usual, strict=True)
                              if value != u)


def _as_torch(pads):
    """One int per axis as PyTorch stores it, or the (lo, hi) pairs where the two sides differ."""
    return tuple(lo for lo, _ in pads) if all(lo == hi for lo, hi in pads) else pads


def _unpad(dy, pads, mode):
    """Gradient of ``np.pad(x, pads, mode)``: each padded element's gradient goes to the element it was copied from."""
    for axis, pair in enumerate(pads, start=-len(pads)):
        copied_from = np.pad(np.arange(dy.shape[axis] - sum(pair)), pair, mode)
        dx = np.zeros((*dy.shape[:axis], dy.shape[axis] - sum(pair), *dy.shape[dy.ndim + axis + 1:]), dy.dtype)
        np.add.at(dx.swapaxes(0, axis), copied_from, dy.swapaxes(0, axis))
        dy = dx
    return dy


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
    dtype : float32 or float64
    """

    rank = 2
    _conv_backward = staticmethod(F.conv2d_backward)
