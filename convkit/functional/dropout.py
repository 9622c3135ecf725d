"""Dropout without state: the random generator is always the caller's."""

import numpy as np

from convkit.functional.common import contiguous
from convkit.plan.dropout import plan
from convkit.spec.dropout import dropout_backward_spec, dropout_spec
from convkit.typing import Floats, Mask


def dropout(x: Floats, p: float = 0.5, training: bool = True, *,
            rng: np.random.Generator) -> tuple[Floats, Mask | None]:
    """Zero each element with probability ``p`` and divide the others by ``1 - p``.

    Parameters
    ----------
    x : ndarray
        float32 or float64, any shape.
    p : float
        Probability between 0 and 1.
    training : bool
        Without it, the result is a copy of ``x``.
    rng : numpy.random.Generator
        Draws one float32 for each element, in C order; an element stays where it is at least ``p``.

    Returns
    -------
    (y, mask)
        The result, and the elements that stayed (None without training).
    """
    spec, training = dropout_spec(x, p, training, rng)
    if not training:
        return x.astype(spec.dtype), None
    mask = rng.random(x.shape, np.float32) >= spec.p
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
    return dy.astype(spec.dtype) if mask is None else _apply(spec, dy, mask)


def _apply(spec, x, mask):
    y = np.empty(x.shape, spec.dtype)
    plan(spec).run(
        contiguous(x, spec.dtype).reshape(-1),
        contiguous(np.asarray(mask), np.dtype(bool)).reshape(-1),
        y.reshape(-1),
    )
    return y
