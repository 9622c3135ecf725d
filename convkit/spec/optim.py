"""What a step of an optimiser is."""

from typing import NamedTuple

import numpy as np


class OptimSpec(NamedTuple):
    """A step of ``kind`` "sgd", "adam" or "rmsprop" over parameters of one dtype."""

    kind: str
    dtype: np.dtype


class Rule(NamedTuple):
    """The numbers that all parameters of a step share; ``shrink`` is AdamW's ``1 - lr * weight_decay``.

    The betas are Adam's; the first is momentum in the other two, the second is RMSprop's alpha.
    """

    lr: float
    decay: float
    beta1: float
    beta2: float = 0.0
    eps: float = 0.0
    shrink: float = 1.0
    nesterov: bool = False
