"""Layers of poolings whose windows come from the sizes alone: adaptive ones, and global ones over whole planes."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.spec.adaptive import adaptive_spec
from convkit.typing import AdaptiveSize, Backward, Floats


class _Adaptive(Module):
    """The output size, checked against the smallest input."""

    def _check(self):
        adaptive_spec((1,) * (self.rank + 1), common.FLOAT32, self.output_size, kind="adaptive_avg", rank=self.rank)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size!r}"


class _AdaptiveMaxPool(_Adaptive):
    """Adaptive max pooling of any rank."""

    def __init__(self, output_size: AdaptiveSize, return_indices: bool = False) -> None:
        self.output_size = output_size
        self.return_indices = common.flag("return_indices", return_indices)
        self._check()

    def predict(self, x: Floats) -> Floats:
        return self._pool(x, self.output_size, self.return_indices)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, indices = self._pool(x, self.output_size, True)
        shape = x.shape
        return (y, indices) if self.return_indices else y, lambda dy: self._pool_backward(dy, indices, shape)


class _AdaptiveAvgPool(_Adaptive):
    """Adaptive average pooling of any rank."""

    def __init__(self, output_size: AdaptiveSize) -> None:
        self.output_size = output_size
        self._check()

    def predict(self, x: Floats) -> Floats:
        return self._pool(x, self.output_size)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        shape = x.shape
        return self.predict(x), lambda dy: self._pool_backward(dy, shape)


class _GlobalExtremePool(Module):
    """Max or min pooling of whole planes, of any rank."""

    def __init__(self, return_indices: bool = False) -> None:
        self.return_indices = common.flag("return_indices", return_indices)

    def _run(self, x, return_indices):
        size = common.split_image("x", common.array("x", x).shape, self.rank)[2]
        return self._pool(x, size, return_indices=return_indices)

    def predict(self, x: Floats) -> Floats:
        return self._run(x, self.return_indices)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, indices = self._run(x, True)
        shape = x.shape
        return (y, indices) if self.return_indices else y, lambda dy: self._pool_backward(dy, indices, shape)


class _GlobalAvgPool(Module):
    """The mean of whole planes, of any rank."""

    def predict(self, x: Floats) -> Floats:
        return self._pool(x, 1)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        shape = x.shape
        return self.predict(x), lambda dy: self._pool_backward(dy, shape)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest value of each of as many windows as the output has elements.

    Parameters
    ----------
    output_size : int, None or tuple
        Of the output; None keeps the input's.
    return_indices : bool
        With it the output is ``(y, indices)``.
    """

    rank = 2
    _pool = staticmethod(F.adaptive_max_pool2d)
    _pool_backward = staticmethod(F.adaptive_max_pool2d_backward)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """As AdaptiveMaxPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.adaptive_max_pool1d)
    _pool_backward = staticmethod(F.adaptive_max_pool1d_backward)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """As AdaptiveMaxPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.adaptive_max_pool3d)
    _pool_backward = staticmethod(F.adaptive_max_pool3d_backward)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean of each of as many windows as the output has elements.

    Parameters
    ----------
    output_size : int, None or tuple
        Of the output; None keeps the input's.
    """

    rank = 2
    _pool = staticmethod(F.adaptive_avg_pool2d)
    _pool_backward = staticmethod(F.adaptive_avg_pool2d_backward)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """As AdaptiveAvgPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.adaptive_avg_pool1d)
    _pool_backward = staticmethod(F.adaptive_avg_pool1d_backward)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """As AdaptiveAvgPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.adaptive_avg_pool3d)
    _pool_backward = staticmethod(F.adaptive_avg_pool3d_backward)


class GlobalMaxPool2d(_GlobalExtremePool):
    """Largest value of each plane, which keeps its axes with one element each.

    Parameters
    ----------
    return_indices : bool
        With it the output is ``(y, indices)``.
    """

    rank = 2
    _pool = staticmethod(F.max_pool2d)
    _pool_backward = staticmethod(F.max_pool2d_backward)


class GlobalMaxPool1d(_GlobalExtremePool):
    """As GlobalMaxPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.max_pool1d)
    _pool_backward = staticmethod(F.max_pool1d_backward)


class GlobalMaxPool3d(_GlobalExtremePool):
    """As GlobalMaxPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.max_pool3d)
    _pool_backward = staticmethod(F.max_pool3d_backward)


class GlobalMinPool2d(_GlobalExtremePool):
    """Smallest value of each plane, which keeps its axes with one element each.

    Parameters
    ----------
    return_indices : bool
        With it the output is ``(y, indices)``.
    """

    rank = 2
    _pool = staticmethod(F.min_pool2d)
    _pool_backward = staticmethod(F.min_pool2d_backward)


class GlobalMinPool1d(_GlobalExtremePool):
    """As GlobalMinPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.min_pool1d)
    _pool_backward = staticmethod(F.min_pool1d_backward)


class GlobalMinPool3d(_GlobalExtremePool):
    """As GlobalMinPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.min_pool3d)
    _pool_backward = staticmethod(F.min_pool3d_backward)


class GlobalAvgPool2d(_GlobalAvgPool):
    """Mean of each plane, which keeps its axes with one element each."""

    rank = 2
    _pool = staticmethod(F.adaptive_avg_pool2d)
    _pool_backward = staticmethod(F.adaptive_avg_pool2d_backward)


class GlobalAvgPool1d(_GlobalAvgPool):
    """As GlobalAvgPool2d, for ``x (N, C, L)``."""

    rank = 1
    _pool = staticmethod(F.adaptive_avg_pool1d)
    _pool_backward = staticmethod(F.adaptive_avg_pool1d_backward)


class GlobalAvgPool3d(_GlobalAvgPool):
    """As GlobalAvgPool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _pool = staticmethod(F.adaptive_avg_pool3d)
    _pool_backward = staticmethod(F.adaptive_avg_pool3d_backward)
