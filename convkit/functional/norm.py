"""Batch normalisation without state of its own."""

from typing import Any

import numpy as np

from convkit.functional.common import contiguous, optional
from convkit.plan.norm import backward_plan, plan
from convkit.spec.norm import batch_norm_backward_spec, batch_norm_spec, momentum_of
from convkit.typing import Floats


def batch_norm(x: Floats, running_mean: Floats, running_var: Floats, weight: Floats | None = None,
               bias: Floats | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Floats:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...)
        float32 or float64.
    running_mean, running_var : ndarray, shape (C,), or None
        The statistics to use; when training, the batch's own are used and these are updated in place:
        ``running += momentum * (batch - running)``, with the unbiased variance. None only when training.
    weight, bias : ndarray, shape (C,), optional
        Scale and shift.
    training : bool
        Whether to use the batch's statistics.
    momentum : float
        Weight of the new batch, between 0 and 1.
    eps : float
        Keeps the division finite.

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or a channel has only one value when training.
    """
    spec = batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps)
    momentum = momentum_of(momentum)
    y = np.empty(x.shape, spec.dtype)
    if y.size:
        plan(spec).run(_by_channel(spec, x), running_mean, running_var, optional(weight, spec.dtype),
                       optional(bias, spec.dtype), momentum, _by_channel(spec, y))
    return y


def batch_norm_backward(dy: Floats, x: Floats, weight: Floats | None = None, eps: float = 1e-5, *,
                        mean: Floats | None = None, var: Floats | None = None, training: bool = True
) -> tuple[Floats, Floats | Any, Floats | Any]:
    """Gradients of ``batch_norm``.

    Parameters
    ----------
    dy, x : ndarray, shape (N, C, ...)
        Gradient of the output, and the input.
    weight, eps, training
        As in the forward pass.
    mean, var : ndarray, shape (C,), optional
        The statistics that the forward pass used: those of the batch (biased variance; may be left out) when
        training, else the running ones.

    Returns
    -------
    (dx, dweight, dbias)
        Gradients of ``x``, ``weight`` and ``bias``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    spec = batch_norm_backward_spec(dy, x, weight, eps, mean, var, training)
    dx = np.empty(x.shape, spec.dtype)
    dweight, dbias = np.zeros(spec.channels, spec.dtype), np.zeros(spec.channels, spec.dtype)
    if dx.size:
        backward_plan(spec).run(_by_channel(spec, dy), _by_channel(spec, x),
                                *(optional(a, spec.dtype) for a in (weight, mean, var)),
                                _by_channel(spec, dx), dweight, dbias)
    return dx, dweight, dbias


def _by_channel(spec, a):
    return contiguous(a, spec.dtype).reshape(len(a), spec.channels, spec.inner)
