"""Dropout: zero each element with probability p, and scale the rest so that the mean stays."""

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.dropout import dropout_backward_spec, dropout_spec
from convkit.typing import Floats, Mask


def dropout(x: Floats, p: float = 0.5, training: bool = True, *,
            rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """``y = x * mask / (1 - p)`` and the mask: elements stay where ``rng``'s float32 is at least ``p``.

    Without training, a copy of ``x``, and None for the mask.
    """
    spec, training = dropout_spec(x, p, training, rng)
    if not training:
        return x.astype(spec.dtype), None
    mask = rng.random(x.shape, np.float32) >= spec.p
    return _masked(spec, x, mask), mask


def dropout_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """``dx = dy * mask / (1 - p)``, or a copy of ``dy`` where the mask is None."""
    spec = dropout_backward_spec(dy, mask, p)
    return dy.astype(spec.dtype) if mask is None else _masked(spec, dy, mask)


@np.errstate(invalid="ignore")  # an infinite element that p = 1 drops
def _masked(spec, x, mask):
    return narrow(np.where(mask, widen(x) * spec.scale, 0.0), spec.dtype)
