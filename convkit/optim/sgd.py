"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
    parameters : iterable of Parameter, or of dict
        A dict is a group with settings of its own: ``{"params": head.parameters(), "lr": 0.1}``.
    lr, momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum and no dampening.
    """

    kind = "sgd"
    settings = {"lr": finite, "momentum": non_negative, "dampening": _number, "weight_decay": non_negative,
                "nesterov": common.flag}
    state_names = ("momentum_buffer",)
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool

    def __init__(self, parameters: Iterable[Parameter] | Iterable[Mapping[str, Any]], lr: float = 1e-3,
                 momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                      "weight_decay": weight_decay, "nesterov": nesterov})

    def _check_together(self, group):
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ShapeError(f"nesterov needs momentum above 0 and dampening 0, got momentum={group['momentum']} "
                             f"and dampening={group['dampening']}")

    def _rule(self, group):
        return Rule(group["lr"], group["weight_decay"], group["momentum"], nesterov=group["nesterov"])

    def _remembered(self, group, data, state):
        momentum = group["momentum"]
        if not momentum:
            return None, None, None, 0.0, 1.0
        if "momentum_buffer" in state:
            return state["momentum_buffer"], None, None, momentum, 1 - group["dampening"]
        state["momentum_buffer"] = np.zeros_like(data)
        return state["momentum_buffer"], None, None, 0.0, 1.0
