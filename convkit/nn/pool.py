"""Pooling layers."""

from math import inf

from convkit import functional as F
from convkit.functional.pool import extreme_pool_of, train_extreme_pool
from convkit.nn.module import Module
from convkit.spec import common
from convkit.spec.pool import pool_spec
from convkit.typing import Backward, Floats, Padding, Size


class _Pool(Module):
    """What pooling layers share: the configuration as it was given, checked on the smallest input."""

    def _check(self, dilation=1, **options):
        size = common.spans(common.tuple_of("kernel_size", self.kernel_size, self.rank, 1),
                            common.tuple_of("dilation", dilation, self.rank, 1))
        pool_spec((1, *size), common.FLOAT32, self.kernel_size, self.stride, self.padding, dilation, **options,
                  kind=self.kind, rank=self.rank)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)


class _ExtremePool(_Pool):
    """Max and min pooling."""

    _shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
                 return_indices: bool = False, ceil_mode: bool = False) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = common.flag("return_indices", return_indices)
        self.ceil_mode = ceil_mode
        self._check(dilation, ceil_mode=ceil_mode)

    def predict(self, x: Floats) -> Floats:
        state = vars(self)
        compute = state.get("_compute")
        if compute is None:
            compute = state["_compute"] = extreme_pool_of(
                self.kind, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                self.return_indices, self.rank)
        return compute(x)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        if not self.return_indices:
            return train_extreme_pool(self.kind, x, self.kernel_size, self.stride, self.padding, self.dilation,
                                      self.ceil_mode, rank=self.rank)
        y, indices = self.predict(x)
        shape = x.shape
        return (y, indices), lambda dy: self._pool_backward(dy, indices, shape)


class MaxPool2d(_ExtremePool):
    """Largest value of each window; NaN wins. With ``return_indices`` the output is ``(y, indices)``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or tuple
        ``stride=None`` means ``kernel_size``; padding is at most half of the window.
    return_indices, ceil_mode : bool
    """

    rank, kind = 2, "max"
    _pool_backward = staticmethod(F.max_pool2d_backward)


class MaxPool1d(_ExtremePool):
    """As MaxPool2d, for ``x (N, C, L)``."""

    rank, kind = 1, "max"
    _pool_backward = staticmethod(F.max_pool1d_backward)


class MaxPool3d(_ExtremePool):
    """As MaxPool2d, for ``x (N, C, D, H, W)``."""

    rank, kind = 3, "max"
    _pool_backward = staticmethod(F.max_pool3d_backward)


class MinPool2d(_ExtremePool):
    """Smallest value of each window; otherwise as MaxPool2d."""

    rank, kind = 2, "min"
    _pool_backward = staticmethod(F.min_pool2d_backward)


class MinPool1d(_ExtremePool):
    """As MinPool2d, for ``x (N, C, L)``."""

    rank, kind = 1, "min"
    _pool_backward = staticmethod(F.min_pool1d_backward)


class MinPool3d(_ExtremePool):
    """As MinPool2d, for ``x (N, C, D, H, W)``."""

    rank, kind = 3, "min"
    _pool_backward = staticmethod(F.min_pool3d_backward)


class _AvgPool(_Pool):
    """Average pooling of any rank."""

    kind = "avg"
    _shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        self._check(ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override)

    def _arguments(self):
        return (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                self.divisor_override)

    def predict(self, x: Floats) -> Floats:
        return self._pool(x, *self._arguments())

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        shape = x.shape
        return self.predict(x), lambda dy: self._pool_backward(dy, shape, *self._arguments())


class AvgPool2d(_AvgPool):
    """Mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple
        ``stride=None`` means ``kernel_size``; padding is at most half of the window.
    ceil_mode : bool
    count_include_pad : bool
        Whether padding counts as elements of the window.
    divisor_override : int, optional
        Divide by this instead of the number of elements.
    """

    rank = 2
    _pool = staticmethod(F.avg_pool2d)
    _pool_backward = staticmethod(F.avg_pool2d_backward)


class AvgPool1d(_AvgPool):
    """As AvgPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.avg_pool1d)
    _pool_backward = staticmethod(F.avg_pool1d_backward)


class AvgPool3d(_AvgPool):
    """As AvgPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.avg_pool3d)
    _pool_backward = staticmethod(F.avg_pool3d_backward)


class _LPPool(_Pool):
    """Lp pooling of any rank."""

    kind = "lp"
    padding = 0
    _shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size: Size, stride: Size | None = None,
                 ceil_mode: bool = False) -> None:
        self.norm_type = common.real("norm_type", norm_type, 1, inf, "at least 1")
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode = ceil_mode
        self._check(ceil_mode=ceil_mode)

    def predict(self, x: Floats) -> Floats:
        return self._pool(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = self.predict(x)
        return y, lambda dy: self._pool_backward(dy, x, y, self.norm_type, self.kernel_size, self.stride,
                                                 self.ceil_mode)


class LPPool2d(_LPPool):
    """Lp norm of each window, ``(sum of x ** norm_type) ** (1 / norm_type)``; see ``functional.lp_pool2d``.

    Parameters
    ----------
    norm_type : float
        The exponent, at least 1; infinity for the largest absolute value.
    kernel_size, stride : int or tuple
        ``stride=None`` means ``kernel_size``.
    ceil_mode : bool
    """

    rank = 2
    _pool = staticmethod(F.lp_pool2d)
    _pool_backward = staticmethod(F.lp_pool2d_backward)


class LPPool1d(_LPPool):
    """As LPPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.lp_pool1d)
    _pool_backward = staticmethod(F.lp_pool1d_backward)


class LPPool3d(_LPPool):
    """As LPPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.lp_pool3d)
    _pool_backward = staticmethod(F.lp_pool3d_backward)
