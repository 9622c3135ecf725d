"""Padding layers."""

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.nn.module import Module
from convkit.spec import common
from convkit.spec.pad import pad_pairs
from convkit.typing import Backward, Floats, Size


class _Pad(Module):
    """What padding layers share; a subclass gives ``rank`` and ``mode``."""

    mode, value = "constant", 0.0

    def __init__(self, padding: Size) -> None:
        sides = 2 * self.rank
        self.padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * sides
        if len(self.padding) != sides:
            raise ShapeError(f"padding must be an integer or a tuple of {sides} integers, "
                             f"got padding={common.shown(padding)}")
        pad_pairs((1,) * (self.rank + 2), self.padding, self.mode)  # refuses what is wrong with any input

    def predict(self, x: Floats) -> Floats:
        common.split_image("x", common.array("x", x).shape, self.rank)
        return F.pad(x, self.padding, self.mode, self.value)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return self.predict(x), lambda dy: F.pad_backward(dy, self.padding, self.mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = common.real("value", value, -float("inf"), float("inf"), "a number that is not NaN")

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ReflectionPad(_Pad):
    mode = "reflect"


class _ReplicationPad(_Pad):
    mode = "replicate"


class _CircularPad(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPad):
    """Wraps ``x (N, C, L)`` around by ``padding``: an int or ``(left, right)``."""

    rank = 1


class CircularPad2d(_CircularPad):
    """Wraps ``x (N, C, H, W)`` around by ``padding``: an int or ``(left, right, top, bottom)``."""

    rank = 2


class CircularPad3d(_CircularPad):
    """Wraps ``x (N, C, D, H, W)`` around by ``padding``: an int or ``(left, right, top, bottom, front, back)``."""

    rank = 3


class ConstantPad1d(_ConstantPad):
    """Surrounds ``x (N, C, L)`` with ``value``, as far as ``padding``: an int or ``(left, right)``."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """Surrounds ``x (N, C, H, W)`` with ``value``, as far as ``padding``: an int or ``(left, right, top,
    bottom)``.
    """

    rank = 2


class ConstantPad3d(_ConstantPad):
    """Surrounds ``x (N, C, D, H, W)`` with ``value``, as far as ``padding``: an int or ``(left, right, top, bottom,
    front, back)``.
    """

    rank = 3


class ReflectionPad1d(_ReflectionPad):
    """Mirrors ``x (N, C, L)`` beyond its edges, which are not repeated, by ``padding``: an int or ``(left,
    right)``.
    """

    rank = 1


class ReflectionPad2d(_ReflectionPad):
    """Mirrors ``x (N, C, H, W)`` beyond its edges, which are not repeated, by ``padding``: an int or ``(left, right,
    top, bottom)``.
    """

    rank = 2


class ReflectionPad3d(_ReflectionPad):
    """Mirrors ``x (N, C, D, H, W)`` beyond its edges, which are not repeated, by ``padding``: an int or ``(left,
    right, top, bottom, front, back)``.
    """

    rank = 3


class ReplicationPad1d(_ReplicationPad):
    """Repeats the edges of ``x (N, C, L)`` by ``padding``: an int or ``(left, right)``."""

    rank = 1


class ReplicationPad2d(_ReplicationPad):
    """Repeats the edges of ``x (N, C, H, W)`` by ``padding``: an int or ``(left, right, top, bottom)``."""

    rank = 2


class ReplicationPad3d(_ReplicationPad):
    """Repeats the edges of ``x (N, C, D, H, W)`` by ``padding``: an int or ``(left, right, top, bottom, front,
    back)``.
    """

    rank = 3


class ZeroPad1d(_Pad):
    """Surrounds ``x (N, C, L)`` with zeros, as far as ``padding``: an int or ``(left, right)``."""

    rank = 1


class ZeroPad2d(_Pad):
    """Surrounds ``x (N, C, H, W)`` with zeros, as far as ``padding``: an int or ``(left, right, top, bottom)``."""

    rank = 2


class ZeroPad3d(_Pad):
    """Surrounds ``x (N, C, D, H, W)`` with zeros, as far as ``padding``: an int or ``(left, right, top, bottom,
    front, back)``.
    """

    rank = 3
