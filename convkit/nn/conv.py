"""Convolution layers."""

import numpy as np

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.nn import init
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, array_or_none, wants_grad
from convkit.spec import common
from convkit.spec.conv import conv_spec

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What convolution layers of all ranks share; a subclass gives ``rank`` and the two functions."""

    can_skip_dx = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", *, rng=None, dtype=np.float32):
        self.in_channels = common.integer("in_channels", in_channels, 1)
        self.out_channels = common.integer("out_channels", out_channels, 1)
        self.kernel_size = common.tuple_of("kernel_size", kernel_size, self.rank, 1)
        self.stride = common.tuple_of("stride", stride, self.rank, 1)
        self.dilation = common.tuple_of("dilation", dilation, self.rank, 1)
        self.groups = common.integer("groups", groups, 1)
        if padding_mode not in PADDING_MODES:
            raise ShapeError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.padding_mode = padding_mode
        dtype = common.native_float("dtype", np.dtype(dtype))
        spec = self._smallest_spec(padding, dtype)
        self.padding = padding if isinstance(padding, str) else _as_torch(spec.padding)

        self.weight = Parameter(np.empty(spec.weight_shape, dtype))
        self.bias = Parameter(np.empty(self.out_channels, dtype)) if bias else None
        init.default_(self.weight, self.bias, rng=np.random.default_rng() if rng is None else rng)

    def _smallest_spec(self, padding, dtype):
        """The spec of this convolution on the smallest input: refuses what is wrong with any input."""
        size = common.spans(self.kernel_size, self.dilation)
        weight_shape = (self.out_channels, max(self.in_channels // self.groups, 1), *self.kernel_size)
        return conv_spec((self.in_channels, *size), dtype, weight_shape, dtype, None, None, self.stride, padding,
                         self.dilation, self.groups, rank=self.rank)[0]

    def predict(self, x):
        # The seam for packed weights: this is the one place that predicts with a layer's weight. A plan that packs
        # takes `self.weight.packed(key, make)` here, which is right in training mode too.
        return self._conv(x, self.weight._data, array_or_none(self.bias), self.stride, self.padding, self.dilation,
                          self.groups, padding_mode=self.padding_mode)

    def forward(self, x):
        y = self.predict(x)
        geometry = self.stride, self.padding, self.dilation, self.groups

        def backward(dy, need_dx=True):
            needs = need_dx, wants_grad(self.weight), wants_grad(self.bias)
            dx, dw, db = self._conv_backward(dy, x, self.weight._data, *geometry, needs=needs)
            if dw is not None:
                self.weight.add_grad(dw)
            if db is not None:
                self.bias.add_grad(db)
            return dx

        return y, backward

    def macs(self, x_shape):
        spec, n, _ = conv_spec(x_shape, self.weight.dtype, self.weight.shape, self.weight.dtype, None, None, self.stride,
                               self.padding, self.dilation, self.groups, rank=self.rank)
        return n * spec.macs

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", (0,) * self.rank), ("dilation", (1,) * self.rank), ("groups", 1),
                            ("padding_mode", "zeros")):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)!r}"
        return text if self.bias is not None else f"{text}, bias=False"


def _as_torch(pads):
    """One int per axis as PyTorch stores it, or the (lo, hi) pairs where the two sides differ."""
    return tuple(lo for lo, _ in pads) if all(lo == hi for lo, hi in pads) else pads


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
    _conv = staticmethod(F.conv2d)
    _conv_backward = staticmethod(F.conv2d_backward)
