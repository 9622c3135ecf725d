"""Dropout without state: the random generator is always the caller's."""

from functools import partial
from math import prod

import numpy as np

from convkit.functional.common import as_they_are, contiguous, in_float32
from convkit.plan.calls import empty, planned
from convkit.plan.dropout import channel_plan, mask_plan, plan
from convkit.spec.dropout import check_rng, draw_key, dropout_backward_spec, dropout_spec
from convkit.typing import Floats, Mask

BOOL = np.dtype(bool)


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
    check_rng(rng)
    return _dropping(x, p, training, 0)(x, rng)


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
    return _gradient_of(dy, mask, p, 0)(dy, mask)


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
    check_rng(rng)
    return _dropping(x, p, training, rank)(x, rng)


@planned
def _dropping(x, p, training, rank):
    """What computes such calls: ``f(x, rng)``."""
    spec, training = dropout_spec(x, p, training, rank)
    if not training:
        return lambda x, rng: (np.array(x, spec.dtype, order="C"), None)
    shape, keep, run = x.shape[:x.ndim - rank], mask_plan(spec).run, _masking(spec, x, rank)

    def call(x, rng):
        mask, key = empty(shape, BOOL), draw_key(rng)
        if mask.size:
            keep(key, mask.size, mask.reshape(-1))
        return run(x, mask), mask

    return call


def _channels_backward(rank, dy, mask, p):
    return _gradient_of(dy, mask, p, rank)(dy, mask)


@planned
def _gradient_of(dy, mask, p, rank):
    """What computes such calls: ``f(dy, mask)``."""
    spec = dropout_backward_spec(dy, mask, p, rank)
    if mask is None:
        return lambda dy, mask: np.array(dy, spec.dtype, order="C")
    run = _masking(spec, dy, rank)
    return lambda dy, mask: run(dy, contiguous(np.asarray(mask), BOOL))


def _masking(spec, x, rank):
    """``f(x, mask)``: such an ``x``, scaled where a mask in C order keeps an element or, of a ``rank``, a channel."""
    if not as_they_are(spec.dtype, x):
        return partial(_masked, spec, rank)
    run, shape, dtype = (channel_plan if rank else plan)(spec).run, x.shape, spec.dtype
    flat = _flat(shape, rank)

    def call(x, mask):
        y = empty(shape, dtype)
        run(x.reshape(flat), mask.reshape(-1), y.reshape(flat))
        return y

    return call


@in_float32
def _masked(spec, rank, x, mask):
    y = empty(x.shape, spec.dtype)
    if y.size:
        flat = _flat(x.shape, rank)
        run = (channel_plan if rank else plan)(spec).run
        run(contiguous(x, spec.dtype).reshape(flat), mask.reshape(-1), y.reshape(flat))
    return y


def _flat(shape, rank):
    """The shape in which a plan takes it: channels and what is in each, or all elements."""
    return (1, prod(shape[:len(shape) - rank]), -1) if rank else -1
