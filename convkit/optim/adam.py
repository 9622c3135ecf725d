"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

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
    parameters : iterable of Parameter, or of dict
        A dict is a group with settings of its own: ``{"params": head.parameters(), "lr": 0.1}``.
    lr : float
    betas : (float, float)
    eps, weight_decay : float
    """

    kind = "adam"
    settings = {"lr": finite, "betas": _fractions, "eps": non_negative, "weight_decay": non_negative}
    state_names = ("step", "exp_avg", "exp_avg_sq")
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    def __init__(self, parameters: Iterable[Parameter] | Iterable[Mapping[str, Any]], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _rule(self, group):
        return Rule(group["lr"], group["weight_decay"], *group["betas"], group["eps"])

    def _remembered(self, group, data, state):
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(data), exp_avg_sq=np.zeros_like(data))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        rate, root = group["lr"] / (1 - beta1 ** state["step"]), math.sqrt(1 - beta2 ** state["step"])
        return state["exp_avg"], state["exp_avg_sq"], None, rate, root


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101): ``p *= 1 - lr * weight_decay``.

    Parameters are those of Adam; ``weight_decay`` is 0.01 by default, as in ``torch.optim.AdamW``.
    """

    def __init__(self, parameters: Iterable[Parameter] | Iterable[Mapping[str, Any]], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _rule(self, group):
        return super()._rule(group)._replace(decay=0.0, shrink=1 - group["lr"] * group["weight_decay"])
