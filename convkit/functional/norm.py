"""Normalisations without state of their own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from convkit.functional.activation import in_place
from convkit.functional.common import as_they_are, contiguous, deliver, in_float32, optional
from convkit.plan.calls import empty, planned, remembered
from convkit.plan.norm import (
    backward_plan,
    plan,
    response_backward_plan,
    response_plan,
    rows_backward_plan,
    rows_plan,
)
from convkit.spec.common import FLOAT16
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

_batch_norm_spec = remembered(batch_norm_spec)
_batch_norm_backward_spec = remembered(batch_norm_backward_spec)
_layer_norm_spec = remembered(layer_norm_spec)
_group_norm_spec = remembered(group_norm_spec)
_instance_norm_spec = remembered(instance_norm_spec)
_instance_norm_backward_spec = remembered(instance_norm_backward_spec)
_response_spec = remembered(response_spec)
_momentum_of = remembered(momentum_of)


def batch_norm(x: Floats, running_mean: Floats, running_var: Floats, weight: Floats | None = None,
               bias: Floats | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Floats:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...)
        float16, float32 or float64.
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
    return batch_norm_kept(x, running_mean, running_var, weight, bias, training, momentum, eps, keep=False)[0]


def batch_norm_kept(x, running_mean, running_var, weight, bias, training, momentum, eps, keep=True):
    """``batch_norm``, and what its gradient can do without finding again (None where there is nothing)."""
    run = _batch_norm_run(x, running_mean, running_var, weight, bias, training, eps)
    return run(x, running_mean, running_var, weight, bias, _momentum_of(momentum), keep)


@planned
def _batch_norm_run(x, running_mean, running_var, weight, bias, training, eps):
    """What runs such calls: the kernel alone, where nothing is learnt and all operands lie as it wants them."""
    spec = batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps)
    if spec.training or not as_they_are(spec.dtype, x, running_mean, running_var, weight, bias):
        return partial(_batch_norm, spec)
    shape, view, run = x.shape, (len(x), spec.channels, spec.inner), plan(spec).run

    def call(x, mean, var, weight, bias, momentum, _keep):
        y = empty(shape, spec.dtype)
        run(x.reshape(view), mean, var, weight, bias, momentum, y.reshape(view), None)
        return y, None

    return call


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
    return batch_norm_gradients(dy, x, weight, eps, mean, var, training, None)


def batch_norm_gradients(dy, x, weight, eps, mean, var, training, saved, line=None, over_dy=False):
    """``batch_norm_backward``, with what ``batch_norm_kept`` or ``batch_norm_relu`` returned; dx lies where ``dy`` lay
    if ``over_dy``, because nobody else holds that.
    """
    spec = _batch_norm_backward_spec(dy, x, weight, eps, mean, var, training)
    return _batch_norm_gradients(spec, dy, x, weight, mean, var, saved, line, over_dy)


def batch_norm_relu(x, running_mean, running_var, weight, bias, training, momentum, eps):
    """ReLU of ``batch_norm`` in one pass, with what both gradients need; the last is None if that took two passes."""
    spec = _batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps)
    fuses = x.size and spec.dtype is not FLOAT16 and getattr(plan(spec).run, "fuses_relu", False)
    line = np.empty((spec.channels, 3)) if fuses else None
    y, saved = _batch_norm(spec, x, running_mean, running_var, weight, bias, _momentum_of(momentum), True, line)
    return y if fuses else in_place("relu", y), saved, line


@in_float32
def _batch_norm(spec, x, running_mean, running_var, weight, bias, momentum, keep, line=None):
    y = empty(x.shape, spec.dtype)
    saved = np.empty((spec.channels, 3)) if keep and spec.training and y.size else None
    if y.size:
        mean, var = optional(running_mean, spec.dtype), optional(running_var, spec.dtype)
        plan(spec).run(_by_channel(spec, x), mean, var, optional(weight, spec.dtype), optional(bias, spec.dtype),
                       momentum, _by_channel(spec, y), saved, *_given(line))
        if spec.training:  # the plan has moved the running statistics in place
            deliver(mean, running_mean)
            deliver(var, running_var)
    return y, saved


@in_float32
def _batch_norm_gradients(spec, dy, x, weight, mean, var, saved, line, over_dy):
    dy = contiguous(dy, spec.dtype)
    dx = dy if over_dy else empty(x.shape, spec.dtype)
    dweight, dbias = np.zeros(spec.channels, spec.dtype), np.zeros(spec.channels, spec.dtype)
    if dx.size:
        if line is not None and not over_dy:
            dy = dy.copy()
        backward_plan(spec).run(_by_channel(spec, dy), _by_channel(spec, x),
                                *(optional(a, spec.dtype) for a in (weight, mean, var)), saved,
                                _by_channel(spec, dx), dweight, dbias, *_given(line))
    return dx, dweight, dbias


def _given(line):
    return () if line is None else (line,)


def _by_channel(spec, a):
    return contiguous(a, spec.dtype).reshape((len(a), spec.channels, spec.inner))


def layer_norm(x: Floats, normalized_shape: int | Sequence[int], weight: Floats | None = None,
               bias: Floats | None = None, eps: float = 1e-5) -> Floats:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and biased variance over the last axes.

    Parameters
    ----------
    x : ndarray, shape (..., *normalized_shape)
        float16, float32 or float64.
    normalized_shape : int or sequence of int
        The shape of the axes to normalise over.
    weight, bias : ndarray of that shape, optional
        Scale and shift of each element.
    eps : float
        Keeps the division finite.

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    spec, _ = _layer_norm_spec(x, normalized_shape, weight, bias, eps)
    return _rows_forward(spec, x, weight, bias, False)[0]


def layer_norm_kept(x, normalized_shape, weight, bias, eps):
    """``layer_norm``, and the statistics for its gradient."""
    spec, _ = _layer_norm_spec(x, normalized_shape, weight, bias, eps)
    return _rows_forward(spec, x, weight, bias)


def layer_norm_backward(dy: Floats, x: Floats, normalized_shape: int | Sequence[int], weight: Floats | None = None,
                        eps: float = 1e-5) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)`` of ``layer_norm``: arguments as in ``layer_norm``, after ``dy``."""
    return layer_norm_gradients(dy, x, normalized_shape, weight, eps, None)


def layer_norm_gradients(dy, x, normalized_shape, weight, eps, saved):
    """``layer_norm_backward``, with what ``layer_norm_kept`` returned."""
    spec, shape = _layer_norm_spec(x, normalized_shape, weight, None, eps)
    check_gradient_of(spec, dy, x)
    return _rows_gradients(spec, dy, x, weight, shape, saved)


def group_norm(x: Floats, num_groups: int, weight: Floats | None = None, bias: Floats | None = None,
               eps: float = 1e-5) -> Floats:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics over each group of channels of each image.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...)
        float16, float32 or float64.
    num_groups : int
        A divisor of C.
    weight, bias : ndarray, shape (C,), optional
        Scale and shift of each channel.
    eps : float
        Keeps the division finite.

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    return _rows_forward(_group_norm_spec(x, num_groups, weight, bias, eps), x, weight, bias, False)[0]


def group_norm_kept(x, num_groups, weight, bias, eps):
    """``group_norm``, and the statistics for its gradient."""
    return _rows_forward(_group_norm_spec(x, num_groups, weight, bias, eps), x, weight, bias)


def group_norm_backward(dy: Floats, x: Floats, num_groups: int, weight: Floats | None = None, eps: float = 1e-5
                        ) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)`` of ``group_norm``: arguments as in ``group_norm``, after ``dy``."""
    return group_norm_gradients(dy, x, num_groups, weight, eps, None)


def group_norm_gradients(dy, x, num_groups, weight, eps, saved):
    """``group_norm_backward``, with what ``group_norm_kept`` returned."""
    spec = _group_norm_spec(x, num_groups, weight, None, eps)
    check_gradient_of(spec, dy, x)
    return _rows_gradients(spec, dy, x, weight, (spec.weights,), saved)


def instance_norm(x: Floats, running_mean: Floats | None = None, running_var: Floats | None = None,
                  weight: Floats | None = None, bias: Floats | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Floats:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, statistics over each channel of each image.

    Parameters
    ----------
    x : ndarray, shape (N, C, L, ...)
        float16, float32 or float64.
    running_mean, running_var : ndarray, shape (C,), optional
        With ``use_input_stats`` they are moved towards the means over the images, else they are used.
    weight, bias : ndarray, shape (C,), optional
        Scale and shift of each channel.
    use_input_stats : bool
        Whether to use the statistics of ``x``.
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
        If the operands do not fit, or a channel of an image has only one value of which to find the statistics.
    """
    return instance_norm_kept(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps,
                              keep=False)[0]


def instance_norm_kept(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, keep=True):
    """``instance_norm``, and the statistics for its gradient (None where they are the running ones)."""
    spec = _instance_norm_spec(x, running_mean, running_var, weight, bias, use_input_stats, eps)
    momentum = _momentum_of(momentum)
    if not use_input_stats:
        return batch_norm_kept(x, running_mean, running_var, weight, bias, False, momentum, eps)
    y, saved = _rows_forward(spec, x, weight, bias, keep or running_mean is not None)
    if running_mean is not None and saved is not None:
        center, shift, var = saved.reshape(len(x), spec.groups, 3).mean(0).T
        with np.errstate(all="ignore"):
            running_mean += momentum * (center + shift - running_mean)
            running_var += momentum * (var * (spec.length / (spec.length - 1)) - running_var)
    return y, saved


def instance_norm_backward(dy: Floats, x: Floats, weight: Floats | None = None, eps: float = 1e-5, *,
                           mean: Floats | None = None, var: Floats | None = None, use_input_stats: bool = True
                           ) -> tuple[Floats, Floats, Floats]:
    """Gradients ``(dx, dweight, dbias)`` of ``instance_norm``.

    Parameters
    ----------
    dy, x : ndarray, shape (N, C, L, ...)
        Gradient of the output, and the input.
    weight, eps, use_input_stats
        As in the forward pass.
    mean, var : ndarray, shape (C,), optional
        The running statistics, where the forward pass used those.

    Returns
    -------
    (dx, dweight, dbias)
        Gradients of ``x``, ``weight`` and ``bias``.
    """
    return instance_norm_gradients(dy, x, weight, eps, mean, var, use_input_stats, None)


def instance_norm_gradients(dy, x, weight, eps, mean, var, use_input_stats, saved):
    """``instance_norm_backward``, with what ``instance_norm_kept`` returned."""
    spec = _instance_norm_backward_spec(dy, x, weight, eps, mean, var, use_input_stats)
    if not use_input_stats:
        return batch_norm_gradients(dy, x, weight, eps, mean, var, False, None)
    return _rows_gradients(spec, dy, x, weight, (spec.weights,), saved)


def local_response_norm(x: Floats, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Floats:
    """``x / (k + alpha * mean(x**2))**beta``, the mean over ``size`` neighbouring channels, missing ones counted as 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, L, ...)
        float16, float32 or float64.
    size : int
        Channels of a window: channel c sees those from ``c - size // 2`` on.
    alpha, beta, k : float
        Finite.

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    return _respond(_response_spec(x, size, alpha, beta, k), x)


@in_float32
def _respond(spec, x):
    y = empty(x.shape, spec.dtype)
    if y.size:
        response_plan(spec).run(_by_channel(spec, x), _by_channel(spec, y))
    return y


def local_response_norm_backward(dy: Floats, x: Floats, size: int, alpha: float = 1e-4, beta: float = 0.75,
                                 k: float = 1.0) -> Floats:
    """Gradient of ``local_response_norm``: arguments as in ``local_response_norm``, after ``dy``."""
    spec = _response_spec(x, size, alpha, beta, k)
    check_gradient_of(spec, dy, x)
    return _respond_backward(spec, dy, x)


@in_float32
def _respond_backward(spec, dy, x):
    dx = empty(x.shape, spec.dtype)
    if dx.size:
        response_backward_plan(spec).run(_by_channel(spec, dy), _by_channel(spec, x), _by_channel(spec, dx))
    return dx


@in_float32
def _rows_forward(spec, x, weight, bias, keep=True):
    y = empty(x.shape, spec.dtype)
    saved = np.empty((y.size // spec.length, 3)) if keep and y.size else None
    if y.size:
        rows_plan(spec).run(_by_row(spec, x), optional(weight, spec.dtype), optional(bias, spec.dtype),
                            _by_row(spec, y), saved)
    return y, saved


@in_float32
def _rows_gradients(spec, dy, x, weight, shape, saved):
    dx = empty(x.shape, spec.dtype)
    dweight, dbias = np.zeros(shape, spec.dtype), np.zeros(shape, spec.dtype)
    if dx.size:
        gradients = rows_backward_plan(spec).run(_by_row(spec, dy), _by_row(spec, x), optional(weight, spec.dtype),
                                                 saved, _by_row(spec, dx))
        with np.errstate(over="ignore"):
            dweight.reshape(-1)[:], dbias.reshape(-1)[:] = gradients
    return dx, dweight, dbias


def _by_row(spec, a):
    return contiguous(a, spec.dtype).reshape(-1, spec.length)
