"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from convkit.errors import ShapeError
from convkit.nn.parameter import Parameter
from convkit.optim.optimizer import Optimizer, finite, non_negative
from convkit.spec import common
from convkit.spec.optim import Rule


def _number(name, value):
    return common.real(name, value, -np.inf, np.inf, "a number")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay.

    ``g += weight_decay * p``; ``b = momentum * b + (1 - dampening) * g`` (first ``b = g``);
    ``p -= lr * b``, or with Nesterov ``p -= lr * (g + momentum * b)``; formulas as in ``torch.optim.SGD``.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr, momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum and no dampening.
    """

    kind = "sgd"
    settings = {"lr": finite, "momentum": non_negative, "dampening": _number, "weight_decay": non_negative,
                "nesterov": common.flag}
    state_names = ("momentum_buffer",)

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-3, momentum: float = 0.0,
                 dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(parameters)
        self.lr = non_negative("lr", lr)
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        if nesterov and (momentum == 0 or dampening != 0):
            raise ShapeError(f"nesterov needs momentum above 0 and dampening 0, got momentum={momentum} "
                             f"and dampening={dampening}")

    def _rule(self):
        return Rule(self.lr, self.weight_decay, self.momentum, nesterov=self.nesterov)

    def _remembered(self, data, state):
        if not self.momentum:
            return None, None, 0.0, 1.0
        if "momentum_buffer" in state:
            return state["momentum_buffer"], None, self.momentum, 1 - self.dampening
        state["momentum_buffer"] = np.zeros_like(data)
        return state["momentum_buffer"], None, 0.0, 1.0
