"""Max unpooling layers."""

from collections.abc import Sequence

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats, Indices, Size


class _MaxUnpool(Module):
    """Max unpooling of any rank."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        for name, minimum in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            common.tuple_of(name, getattr(self, name), self.rank, minimum)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size!r}, stride={self.stride!r}, padding={self.padding!r}"

    def __call__(self, x: Floats, indices: Indices, output_size: Sequence[int] | None = None) -> Floats:
        return self.predict(x, indices, output_size)

    def predict(self, x: Floats, indices: Indices, output_size: Sequence[int] | None = None) -> Floats:
        return self._unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def forward(self, x: Floats, indices: Indices,
                output_size: Sequence[int] | None = None) -> tuple[Floats, Backward]:
        y = self.predict(x, indices, output_size)
        return y, lambda dy: self._unpool_backward(dy, indices)


class MaxUnpool2d(_MaxUnpool):
    """Pooled values back where they were, zeros elsewhere: ``y = layer(x, indices, output_size=None)``.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple
        Those of the pooling; ``stride=None`` means ``kernel_size``.
    """

    rank = 2
    _unpool = staticmethod(F.max_unpool2d)
    _unpool_backward = staticmethod(F.max_unpool2d_backward)


class MaxUnpool1d(_MaxUnpool):
    """As MaxUnpool2d, for ``x (N, C, L)``."""

    rank = 1
    _unpool = staticmethod(F.max_unpool1d)
    _unpool_backward = staticmethod(F.max_unpool1d_backward)


class MaxUnpool3d(_MaxUnpool):
    """As MaxUnpool2d, for ``x (N, C, D, H, W)``."""

    rank = 3
    _unpool = staticmethod(F.max_unpool3d)
    _unpool_backward = staticmethod(F.max_unpool3d_backward)
