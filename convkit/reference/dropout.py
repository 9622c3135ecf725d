"""Dropout: zero each element with probability p, and scale the rest so that the mean stays."""

from math import prod

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.dropout import check_rng, draw_key, dropout_backward_spec, dropout_spec
from convkit.typing import Floats, Mask

ROUNDS = 7  # the fewest with which Philox-4x32 passes every test of BigCrush
LOW = 0xFFFFFFFF


def dropout(x: Floats, p: float = 0.5, training: bool = True, *,
            rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """``y = x * mask / (1 - p)`` and the mask: elements stay where their number is at least ``p`` (``kept``).

    Without training, a copy of ``x``, and None for the mask.
    """
    check_rng(rng)
    spec, training = dropout_spec(x, p, training)
    if not training:
        return x.astype(spec.dtype), None
    mask = kept(spec, draw_key(rng), x.size).reshape(x.shape)
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
    check_rng(rng)
    spec, training = dropout_spec(x, p, training, rank)
    if not training:
        return x.astype(spec.dtype), None
    channels = x.shape[:x.ndim - rank]
    mask = kept(spec, draw_key(rng), prod(channels)).reshape(channels)
    return _masked(spec, x, _over_channels(mask, rank)), mask


def _channels_backward(rank, dy, mask, p):
    spec = dropout_backward_spec(dy, mask, p, rank)
    return dy.astype(spec.dtype) if mask is None else _masked(spec, dy, _over_channels(mask, rank))


def _over_channels(mask, rank):
    return np.expand_dims(mask, tuple(range(-rank, 0)))


def kept(spec, key, count):
    """Which of ``count`` elements stay: the number of element e is 31 bits of word e % 4 of counter e // 4."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    words = philox([blocks & LOW, blocks >> 32, np.zeros_like(blocks), np.zeros_like(blocks)], key)
    return (np.stack(words, -1).reshape(-1)[:count] >> 1) >= spec.limit


def philox(counter, key):
    """The four random words of each counter, itself four words, by Philox-4x32 with a key of 64 bits.

    Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    a, b, c, d = counter
    low, high = key & LOW, key >> 32
    for _ in range(ROUNDS):
        even, odd = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (odd >> 32) ^ b ^ low, odd & LOW, (even >> 32) ^ d ^ high, even & LOW
        low, high = (low + 0x9E3779B9) & LOW, (high + 0xBB67AE85) & LOW
    return a, b, c, d


@np.errstate(invalid="ignore")  # an infinite element that p = 1 drops
def _masked(spec, x, mask):
    return narrow(np.where(mask, widen(x) * spec.scale, 0.0), spec.dtype)
