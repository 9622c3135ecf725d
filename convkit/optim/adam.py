"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from convkit.errors import ShapeError
from convkit.nn.parameter import Parameter
from convkit.optim.optimizer import Optimizer, finite, fraction, non_negative
from convkit.spec.optim import Rule


def _fractions(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ShapeError(f"{name} must be a pair of numbers, got {name}={value!r}")
    return fraction(name, value[0]), fraction(name, value[1])


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980); weight decay is added to the gradient, as in ``torch.optim.Adam``.

    ``m = beta1 * m + (1 - beta1) * g``; ``v = beta2 * v + (1 - beta2) * g * g``;
    ``p -= lr / (1 - beta1**t) * m / (sqrt(v / (1 - beta2**t)) + eps)``.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
    betas : (float, float)
    eps, weight_decay : float
    """

    kind = "adam"
    settings = {"lr": finite, "betas": _fractions, "eps": non_negative, "weight_decay": non_negative}
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(parameters)
        self.lr = non_negative("lr", lr)
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay

    def _rule(self):
        return Rule(self.lr, self.weight_decay, *self.betas, self.eps)

    def _remembered(self, data, state):
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(data), exp_avg_sq=np.zeros_like(data))
        state["step"] += 1
        beta1, beta2 = self.betas
        rate, root = self.lr / (1 - beta1 ** state["step"]), math.sqrt(1 - beta2 ** state["step"])
        return state["exp_avg"], state["exp_avg_sq"], rate, root


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101): ``p *= 1 - lr * weight_decay``.

    Parameters are those of Adam; ``weight_decay`` is 0.01 by default, as in ``torch.optim.AdamW``.
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _rule(self):
        return super()._rule()._replace(decay=0.0, shrink=1 - self.lr * self.weight_decay)
