"""Losses: ``loss, backward = criterion.forward(logits, target)``, then ``dlogits = backward()``."""

from collections.abc import Callable
from typing import Any

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.nn.module import Module
from convkit.spec.loss import REDUCTIONS
from convkit.typing import Floats, Labels


class CrossEntropyLoss(Module):
    """Minus the log of the softmax probability that ``logits (N, C, ...)`` give to ``target (N, ...)``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ShapeError(f"reduction must be one of {', '.join(REDUCTIONS)}, got reduction={reduction!r}")
        self.reduction = reduction

    def __call__(self, logits: Floats, target: Labels) -> Any:
        return F.cross_entropy(logits, target, self.reduction)

    def forward(self, logits: Floats, target: Labels) -> tuple[Any, Callable[[], Floats]]:
        """The loss, and ``backward(dloss=1.0)``, which returns the gradient of ``logits``."""
        loss = self(logits, target)
        return loss, lambda dloss=1.0: F.cross_entropy_backward(logits, target, self.reduction, dloss)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}" if self.reduction != "mean" else ""
