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


def dropout1d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """As ``dropout`` with one element of the mask for each channel, an array of 1 axis."""
    return _drop_channels(1, x, p, training, rng)


def dropout1d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """``dx = dy * mask / (1 - p)``, or a copy of ``dy`` where the mask is None."""
    return _channels_backward(1, dy, mask, p)


def dropout2d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """As ``dropout`` with one element of the mask for each channel, an array of 2 axes."""
    return _drop_channels(2, x, p, training, rng)


def dropout2d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """``dx = dy * mask / (1 - p)``, or a copy of ``dy`` where the mask is None."""
    return _channels_backward(2, dy, mask, p)


def dropout3d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """As ``dropout`` with one element of the mask for each channel, an array of 3 axes."""
    return _drop_channels(3, x, p, training, rng)


def dropout3d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """``dx = dy * mask / (1 - p)``, or a copy of ``dy`` where the mask is None."""
    return _channels_backward(3, dy, mask, p)


def _drop_channels(rank, x, p, training, rng):
    spec, training = dropout_spec(x, p, training, rng, rank)
    if not training:
        return x.astype(spec.dtype), None
    mask = rng.random(x.shape[:x.ndim - rank], np.float32) >= spec.p
    return _masked(spec, x, _over_channels(mask, rank)), mask


def _channels_backward(rank, dy, mask, p):
    spec = dropout_backward_spec(dy, mask, p, rank)
    return dy.astype(spec.dtype) if mask is None else _masked(spec, dy, _over_channels(mask, rank))


def _over_channels(mask, rank):
    return np.expand_dims(mask, tuple(range(-rank, 0)))


@np.errstate(invalid="ignore")  # an infinite element that p = 1 drops
def _masked(spec, x, mask):
    return narrow(np.where(mask, widen(x) * spec.scale, 0.0), spec.dtype)
