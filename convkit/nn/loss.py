"""Losses: ``loss, backward = criterion.forward(x, target)``, then ``dx = backward()``."""

from collections.abc import Callable
from sys import float_info
from typing import Any

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.spec.loss import reduction_of
from convkit.typing import Floats, Labels


class _Loss(Module):
    """What losses share: two functions, and their options, which are attributes of the same names."""

    _options: tuple[str, ...] = ("reduction",)
    reduction: str

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction_of(reduction)

    def __call__(self, x: Floats, target: Floats | Labels) -> Any:
        return self._function(x, target, **self._arguments())

    def forward(self, x: Floats, target: Floats | Labels) -> tuple[Any, Callable[..., Floats]]:
        """The loss, and ``backward(dloss=1.0)``, which returns the gradient of ``x``."""
        options = self._arguments()
        loss = self._function(x, target, **options)
        return loss, lambda dloss=1.0: self._gradient(x, target, **options, dloss=dloss)

    def _arguments(self):
        return {name: getattr(self, name) for name in self._options}

    def _set_weight(self, name, value):
        """A factor that belongs to the state, as in PyTorch, or None."""
        if value is not None:
            common.float_array(name, value)
        self.register_buffer(name, value)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}" if self.reduction != "mean" else ""


class CrossEntropyLoss(_Loss):
    """Minus the log of the softmax probability that ``logits (N, C, ...)`` give to ``target (N, ...)``.

    Parameters
    ----------
    weight : ndarray, shape (C,), optional
        Of each class.
    ignore_index : int
        Class number of targets that do not count.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        Share of the target that is spread evenly over all classes.

    Notes
    -----
    A floating-point target shaped like ``logits`` holds probabilities. See ``functional.cross_entropy``.
    """

    _options = ("weight", "ignore_index", "reduction", "label_smoothing")
    _function = staticmethod(F.cross_entropy)
    _gradient = staticmethod(F.cross_entropy_backward)

    def __init__(self, weight: Floats | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0) -> None:
        super().__init__(reduction)
        self._set_weight("weight", weight)
        self.ignore_index = common.integer("ignore_index", ignore_index)
        self.label_smoothing = common.real("label_smoothing", label_smoothing, 0.0, 1.0, "between 0 and 1")


class NLLLoss(_Loss):
    """``-weight[target] * x[target]`` for log-probabilities ``x (N, C, ...)``; options as in CrossEntropyLoss."""

    _options = ("weight", "ignore_index", "reduction")
    _function = staticmethod(F.nll_loss)
    _gradient = staticmethod(F.nll_loss_backward)

    def __init__(self, weight: Floats | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._set_weight("weight", weight)
        self.ignore_index = common.integer("ignore_index", ignore_index)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy between ``sigmoid(x)`` and ``target``, element by element.

    Parameters
    ----------
    weight, pos_weight : ndarray, optional
        Factors of all losses and of the part where the target is 1; they broadcast to the shape of ``x``.
    reduction : {"mean", "sum", "none"}
    """

    _options = ("weight", "reduction", "pos_weight")
    _function = staticmethod(F.binary_cross_entropy_with_logits)
    _gradient = staticmethod(F.binary_cross_entropy_with_logits_backward)

    def __init__(self, weight: Floats | None = None, *, reduction: str = "mean",
                 pos_weight: Floats | None = None) -> None:
        super().__init__(reduction)
        self._set_weight("weight", weight)
        self._set_weight("pos_weight", pos_weight)


class MSELoss(_Loss):
    """``(x - target) ** 2``."""

    _function = staticmethod(F.mse_loss)
    _gradient = staticmethod(F.mse_loss_backward)


class L1Loss(_Loss):
    """``|x - target|``."""

    _function = staticmethod(F.l1_loss)
    _gradient = staticmethod(F.l1_loss_backward)


class SmoothL1Loss(_Loss):
    """``d ** 2 / (2 beta)`` where ``d = |x - target|`` is below beta, else ``d - beta / 2``."""

    _options = ("reduction", "beta")
    _function = staticmethod(F.smooth_l1_loss)
    _gradient = staticmethod(F.smooth_l1_loss_backward)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = common.real("beta", beta, 0.0, float_info.max, "finite and not negative")


class DiceLoss(_Loss):
    """One minus the overlap of probabilities ``x (N, C, ...)`` and ``target``; see ``functional.dice_loss``."""

    _options = ("smooth", "reduction")
    _function = staticmethod(F.dice_loss)
    _gradient = staticmethod(F.dice_loss_backward)

    def __init__(self, smooth: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.smooth = common.real("smooth", smooth, 0.0, float_info.max, "finite and not negative")
