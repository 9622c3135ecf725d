"""Batch normalisation: each channel to mean 0 and variance 1, then scaled and shifted."""

from typing import Any

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.norm import batch_norm_backward_spec, batch_norm_spec, momentum_of
from convkit.typing import Floats


@np.errstate(all="ignore")
def batch_norm(x: Floats, running_mean: Floats, running_var: Floats, weight: Floats | None = None,
               bias: Floats | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Floats:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel (axis 1).

    In training, mean and (biased) variance are those of the batch, and the running ones are updated in place:
    ``running += momentum * (batch - running)``, with the unbiased variance. Otherwise the running ones are
    used.
    """
    spec = batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps)
    momentum = momentum_of(momentum)
    if not spec.training:
        mean, var = widen(running_mean), widen(running_var)
    else:
        mean, var, count = _statistics(x)
        if running_mean is not None and count:
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / (count - 1)), momentum)
    y = (widen(x) - _wide(mean, x)) / np.sqrt(_wide(var, x) + spec.eps)
    if weight is not None:
        y = y * _wide(weight, x)
    if bias is not None:
        y = y + _wide(bias, x)
    return narrow(y, spec.dtype)


@np.errstate(all="ignore")
def batch_norm_backward(dy: Floats, x: Floats, weight: Floats | None = None, eps: float = 1e-5, *,
                        mean: Floats | None = None, var: Floats | None = None, training: bool = True
) -> tuple[Floats, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dweight, dbias)``, with ``z = (x - mean) / sqrt(var + eps)`` m elements per channel.

    ``dbias = sum(dy)``, ``dweight = sum(dy * z)``, and in training, where mean and variance depend on x,
    ``dx = weight / sqrt(var + eps) * (dy - dbias / m - z * dweight / m)``; otherwise the first factor times
    ``dy``. ``mean`` and ``var`` are the statistics that the forward pass used; in training they may be left
    out.
    """
    spec = batch_norm_backward_spec(dy, x, weight, eps, mean, var, training)
    mean, var = (widen(mean), widen(var)) if mean is not None else _statistics(x)[:2]
    axes = (0, *range(2, x.ndim))
    dy = widen(dy)
    scale = 1 / np.sqrt(_wide(var, x) + spec.eps)
    z = (widen(x) - _wide(mean, x)) * scale
    dbias, dweight = dy.sum(axes), (dy * z).sum(axes)
    if weight is not None:
        scale = scale * _wide(weight, x)
    m = x.size // spec.channels
    dx = scale * (dy - _wide(dbias, x) / m - z * _wide(dweight, x) / m) if spec.training else scale * dy
    return narrow(dx, spec.dtype), narrow(dweight, spec.dtype), narrow(dbias, spec.dtype)


def _statistics(x):
    """Mean and biased variance of each channel, and the number of elements behind each."""
    count = x.size // x.shape[1]
    axes = (0, *range(2, x.ndim))
    x = widen(x)
    mean = x.sum(axes) / count
    return mean, ((x - _wide(mean, x)) ** 2).sum(axes) / count, count


def _wide(per_channel, x):
    """One value per channel, shaped to broadcast over ``x``."""
    return widen(per_channel).reshape(1, -1, *[1] * (x.ndim - 2))


def _move(running, batch, momentum):
    running[...] = widen(running) + momentum * (batch - widen(running))
