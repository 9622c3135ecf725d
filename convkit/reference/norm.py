"""Normalisations: batch (each channel to mean 0 and variance 1, then scaled and shifted), layer, group and instance."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.norm import (
    batch_norm_backward_spec,
    batch_norm_spec,
    check_gradient_of,
    group_norm_spec,
    instance_norm_backward_spec,
    instance_norm_spec,
    layer_norm_spec,
    momentum_of,
    response_spec,
)
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
        mean, var, count = statistics(x)
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
    mean, var = (widen(mean), widen(var)) if mean is not None else statistics(x)[:2]
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


def statistics(x):
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


def layer_norm(x: Floats, normalized_shape: int | Sequence[int], weight: Floats | None = None,
               bias: Floats | None = None, eps: float = 1e-5) -> Floats:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the last axes, those of ``normalized_shape``."""
    spec, _ = layer_norm_spec(x, normalized_shape, weight, bias, eps)
    return normalise_rows(spec, x, weight, bias)


def layer_norm_backward(dy: Floats, x: Floats, normalized_shape: int | Sequence[int], weight: Floats | None = None,
                        eps: float = 1e-5) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)``; see ``rows_backward``."""
    spec, shape = layer_norm_spec(x, normalized_shape, weight, None, eps)
    check_gradient_of(spec, dy, x)
    return _narrowed(spec, rows_backward(spec, dy, x, weight), shape)


def group_norm(x: Floats, num_groups: int, weight: Floats | None = None, bias: Floats | None = None,
               eps: float = 1e-5) -> Floats:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, statistics over each group of channels of each image."""
    return normalise_rows(group_norm_spec(x, num_groups, weight, bias, eps), x, weight, bias)


def group_norm_backward(dy: Floats, x: Floats, num_groups: int, weight: Floats | None = None, eps: float = 1e-5
                        ) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)``; see ``rows_backward``."""
    spec = group_norm_spec(x, num_groups, weight, None, eps)
    check_gradient_of(spec, dy, x)
    return _narrowed(spec, rows_backward(spec, dy, x, weight), (spec.weights,))


def instance_norm(x: Floats, running_mean: Floats | None = None, running_var: Floats | None = None,
                  weight: Floats | None = None, bias: Floats | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Floats:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, statistics over each channel of each image.

    The running statistics, if there are any, move towards the means of those over the images (unbiased variance);
    without ``use_input_stats`` they are used instead.
    """
    spec = instance_norm_spec(x, running_mean, running_var, weight, bias, use_input_stats, eps)
    momentum = momentum_of(momentum)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None and len(x):
        mean, var, count = statistics(x.reshape(1, -1, spec.inner))
        _move(running_mean, mean.reshape(len(x), -1).mean(0), momentum)
        _move(running_var, var.reshape(len(x), -1).mean(0) * (count / (count - 1)), momentum)
    return normalise_rows(spec, x, weight, bias)


def instance_norm_backward(dy: Floats, x: Floats, weight: Floats | None = None, eps: float = 1e-5, *,
                           mean: Floats | None = None, var: Floats | None = None, use_input_stats: bool = True
                           ) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)``; ``mean`` and ``var`` are the running ones where those were used."""
    spec = instance_norm_backward_spec(dy, x, weight, eps, mean, var, use_input_stats)
    if not use_input_stats:
        return batch_norm_backward(dy, x, weight, eps, mean=mean, var=var, training=False)
    return _narrowed(spec, rows_backward(spec, dy, x, weight), (spec.weights,))


@np.errstate(all="ignore")
def local_response_norm(x: Floats, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Floats:
    """``y_c = x_c d_c^-beta`` with ``d_c = k + alpha / size * (sum of x_j^2 over the window of channel c)``."""
    spec = response_spec(x, size, alpha, beta, k)
    x = widen(x)
    return narrow(x * (k + alpha / size * _windows(spec, x * x, size // 2))**-spec.beta, spec.dtype)


@np.errstate(all="ignore")
def local_response_norm_backward(dy: Floats, x: Floats, size: int, alpha: float = 1e-4, beta: float = 0.75,
                                 k: float = 1.0) -> Floats:
    """``dx_c = dy_c d_c^-beta - 2 alpha beta / size x_c (sum of dy_j x_j d_j^(-beta - 1) over the j that see c)``."""
    spec = response_spec(x, size, alpha, beta, k)
    check_gradient_of(spec, dy, x)
    dy, x = widen(dy), widen(x)
    d = k + alpha / size * _windows(spec, x * x, size // 2)
    seen = _windows(spec, dy * x * d**(-beta - 1), (size - 1) // 2)
    return narrow(dy * d**-beta - 2 * alpha * beta / size * x * seen, spec.dtype)


def _windows(spec, a, before):
    """For each channel c the sum of ``a`` over the ``size`` channels from ``c - before`` on, as far as they exist."""
    sums = np.empty_like(a)
    for c in range(spec.channels):
        sums[:, c] = a[:, max(0, c - before):max(0, c - before + spec.size)].sum(1)
    return sums


@np.errstate(all="ignore")
def normalise_rows(spec, x, weight, bias):
    """What the three have in common, on ``x`` as images, groups, runs of a group, elements of a run."""
    z, _ = _normal_rows(spec, x)
    weight = 1.0 if weight is None else widen(weight).reshape(spec.groups, spec.affine, 1)
    bias = 0.0 if bias is None else widen(bias).reshape(spec.groups, spec.affine, 1)
    return narrow((z * weight + bias).reshape(x.shape), spec.dtype)


@np.errstate(all="ignore")
def rows_backward(spec, dy, x, weight):
    """``dx`` of the shape of ``x``, ``dweight`` and ``dbias (groups, affine)``, in float64.

    With ``g = dy * weight`` and ``z = (x - mean) / sqrt(var + eps)``, m elements of a row:
    ``dx = (g - sum(g) / m - z * sum(g * z) / m) / sqrt(var + eps)``, ``dweight = sum(dy * z)``, ``dbias = sum(dy)``.
    """
    z, scale = _normal_rows(spec, x)
    dy = widen(dy).reshape(z.shape)
    g = dy if weight is None else dy * widen(weight).reshape(spec.groups, spec.affine, 1)

    def mean(a):
        return a.sum((2, 3), keepdims=True) / spec.length

    dx = (g - mean(g) - z * mean(g * z)) * scale
    return dx.reshape(x.shape), (dy * z).sum((0, 3)), dy.sum((0, 3))


def _normal_rows(spec, x):
    """``z`` with mean 0 and variance 1 in each row, and what it was multiplied by."""
    x = widen(x).reshape(-1, spec.groups, spec.affine, spec.inner)
    mean = x.sum((2, 3), keepdims=True) / spec.length
    var = ((x - mean)**2).sum((2, 3), keepdims=True) / spec.length
    scale = 1 / np.sqrt(var + spec.eps)
    return (x - mean) * scale, scale


def _narrowed(spec, gradients, shape):
    dx, dweight, dbias = (narrow(a, spec.dtype) for a in gradients)
    return dx, dweight.reshape(shape), dbias.reshape(shape)
