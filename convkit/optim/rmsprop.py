"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from convkit.nn.parameter import Parameter
from convkit.optim.optimizer import Optimizer, finite, fraction, non_negative
from convkit.spec import common
from convkit.spec.optim import Rule


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012), as in ``torch.optim.RMSprop``: gradients over the root of their mean square.

    ``g += weight_decay * p``; ``v = alpha * v + (1 - alpha) * g * g``; ``s = g / (sqrt(v) + eps)``;
    ``p -= lr * s``, or with momentum ``b = momentum * b + s; p -= lr * b``. ``centered`` takes the square of the mean
    gradient off ``v`` under the root (Graves, 2013, arXiv 1308.0850); where rounding leaves less than 0 that is 0, of
    which PyTorch makes NaN.

    Parameters
    ----------
    parameters : iterable of Parameter, or of dict
        A dict is a group with settings of its own: ``{"params": head.parameters(), "lr": 0.1}``.
    lr, alpha, eps, weight_decay, momentum : float
    centered : bool
    """

    kind = "rmsprop"
    settings = {"lr": finite, "alpha": fraction, "eps": non_negative, "weight_decay": non_negative,
                "momentum": non_negative, "centered": common.flag}
    state_names = ("square_avg", "momentum_buffer", "grad_avg")
    optional_state = ("momentum_buffer", "grad_avg")
    alpha: float
    eps: float
    weight_decay: float
    momentum: float
    centered: bool

    def __init__(self, parameters: Iterable[Parameter] | Iterable[Mapping[str, Any]], lr: float = 1e-2,
                 alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0,
                 centered: bool = False) -> None:
        super().__init__(parameters, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
                                      "momentum": momentum, "centered": centered})

    def _rule(self, group):
        return Rule(group["lr"], group["weight_decay"], group["momentum"], group["alpha"], group["eps"])

    def _remembered(self, group, data, state):
        def kept(name, wanted=True):
            if wanted and name not in state:
                state[name] = np.zeros_like(data)
            return state[name] if wanted else None

        return (kept("momentum_buffer", group["momentum"]), kept("square_avg"), kept("grad_avg", group["centered"]),
                0.0, 0.0)
