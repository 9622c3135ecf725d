"""Activation layers."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class ReLU(Module):
    """``max(x, 0)``; NaN stays NaN. ``inplace`` is taken for PyTorch's sake: ``x`` is never overwritten."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def predict(self, x: Floats) -> Floats:
        return F.relu(x)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.relu(x)
        return y, lambda dy: F.relu_backward(dy, y)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along the axis ``dim``."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = common.integer("dim", dim)

    def predict(self, x: Floats) -> Floats:
        return F.softmax(x, self.dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.softmax(x, self.dim)
        return y, lambda dy: F.softmax_backward(dy, y, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """``log(softmax(x))`` along the axis ``dim``, computed without overflow."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = common.integer("dim", dim)

    def predict(self, x: Floats) -> Floats:
        return F.log_softmax(x, self.dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.log_softmax(x, self.dim)
        return y, lambda dy: F.log_softmax_backward(dy, y, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
