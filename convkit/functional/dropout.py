"""Dropout without state: the random generator is always the caller's."""

import numpy as np

from convkit.functional.common import contiguous, in_float32
from convkit.plan.calls import empty
from convkit.plan.dropout import channel_plan, mask_plan, plan
from convkit.spec.dropout import draw_key, dropout_backward_spec, dropout_spec
from convkit.typing import Floats, Mask


def dropout(x: Floats, p: float = 0.5, training: bool = True, *,
            rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.
    p : float
        Probability between 0 and 1.
    training : bool
        Without it, the result is a copy of ``x``.
    rng : numpy.random.Generator
        Gives 64 bits, the key of a generator that makes a number from each element's place in C order, the same at any
        number of threads; an element stays where its number is at least ``p``.

    Returns
    -------
    (y, mask)
        The result, and the elements that stayed (None without training).
    """
    spec, training = dropout_spec(x, p, training, rng)
    if not training:
        return np.array(x, spec.dtype, order="C"), None
    mask = _mask(spec, draw_key(rng), x.shape)
    return _apply(spec, x, mask), mask


def dropout_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """Gradient of ``dropout``: ``dy * mask / (1 - p)``, or a copy of ``dy`` where the mask is None.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    mask : ndarray of bool, or None
        What ``dropout`` returned.
    p : float
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of the input.
    """
    spec = dropout_backward_spec(dy, mask, p)
    return np.array(dy, spec.dtype, order="C") if mask is None else _apply(spec, dy, mask)


def dropout1d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """Zero each channel of ``x (N, C, L)`` or ``(C, L)`` with probability ``p``; see ``dropout2d``."""
    return _drop_channels(1, x, p, training, rng)


def dropout1d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """Gradient of ``dropout1d``: ``dy * mask / (1 - p)`` for whole channels."""
    return _channels_backward(1, dy, mask, p)


def dropout2d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """Zero each channel with probability ``p`` and divide the others by ``1 - p``.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        float16, float32 or float64.
    p : float
        Probability between 0 and 1.
    training : bool
        Without it, the result is a copy of ``x``.
    rng : numpy.random.Generator
        Gives the key of the mask, see ``dropout``; a channel of an image stays where its number is at least ``p``.

    Returns
    -------
    (y, mask)
        The result, and the channels that stayed, ``(N, C)`` or ``(C,)`` (None without training).
    """
    return _drop_channels(2, x, p, training, rng)


def dropout2d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """Gradient of ``dropout2d``: ``dy * mask / (1 - p)`` for whole channels."""
    return _channels_backward(2, dy, mask, p)


def dropout3d(x: Floats, p: float = 0.5, training: bool = True, *,
              rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """Zero each channel of ``x (N, C, D, H, W)`` or ``(C, D, H, W)`` with probability ``p``; see ``dropout2d``."""
    return _drop_channels(3, x, p, training, rng)


def dropout3d_backward(dy: Floats, mask: Mask | None, p: float = 0.5) -> Floats:
    """Gradient of ``dropout3d``: ``dy * mask / (1 - p)`` for whole channels."""
    return _channels_backward(3, dy, mask, p)


def _drop_channels(rank, x, p, training, rng):
    spec, training = dropout_spec(x, p, training, rng, rank)
    if not training:
        return np.array(x, spec.dtype, order="C"), None
    mask = _mask(spec, draw_key(rng), x.shape[:x.ndim - rank])
    return _apply_to_channels(spec, x, mask), mask


def _channels_backward(rank, dy, mask, p):
    spec = dropout_backward_spec(dy, mask, p, rank)
    return np.array(dy, spec.dtype, order="C") if mask is None else _apply_to_channels(spec, dy, mask)


def _mask(spec, key, shape):
    mask = empty(shape, np.dtype(bool))
    if mask.size:
        mask_plan(spec).run(key, mask.size, mask.reshape(-1))
    return mask


@in_float32
def _apply_to_channels(spec, x, mask):
    y = empty(x.shape, spec.dtype)
    if y.size:
        channels = (1, mask.size, -1)
        channel_plan(spec).run(contiguous(x, spec.dtype).reshape(channels),
                               contiguous(mask, np.dtype(bool)).reshape(-1), y.reshape(channels))
    return y


@in_float32
def _apply(spec, x, mask):
    y = empty(x.shape, spec.dtype)
    plan(spec).run(
        contiguous(x, spec.dtype).reshape(-1),
        contiguous(np.asarray(mask), np.dtype(bool)).reshape(-1),
        y.reshape(-1),
    )
    return y
