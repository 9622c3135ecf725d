"""Pooling without state."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from convkit.functional.common import filled_by, in_float32, planes
from convkit.plan.calls import MAX_OF_A_LAYER, empty, planned, remembered, remembered_of_same, running
from convkit.plan.pool import gradient_plan, plan, scatter_plan, taps_gradient_plan, taps_pay, taps_plan
from convkit.spec.common import INT64
from convkit.spec.pool import (
    avg_backward_spec,
    check_lp,
    check_pool,
    lp_backward_spec,
    scatter_spec,
    taps_backward_spec,
)
from convkit.typing import Floats, Indices, Padding, Size


def extreme_run(spec, lead, return_indices, x):
    """What finds maxima or minima of such an ``x``, of any kind of window."""
    short = None if return_indices else filled_by(plan, spec, lead + spec.out_size, x, after=(None,))
    return short or partial(_run_extreme, spec, lead, return_indices)


def sum_run(spec, lead, x):
    """What takes averages or norms of such an ``x``, of any kind of window."""
    return filled_by(plan, spec, lead + spec.out_size, x) or partial(_run_sum, spec, lead)


def sum_gradient_run(spec, shape, dy):
    """What computes the gradient of averages from such a ``dy``, of any kind of window."""
    return filled_by(gradient_plan, spec, shape, dy) or partial(_run_sum_backward, spec, shape)


_check_pool = remembered(check_pool)
_extreme = running(lambda x, kind, rank, return_indices, *geometry: check_pool(
    x, *geometry, kind=kind, rank=rank, return_indices=return_indices), extreme_run)
_average = running(lambda x, rank, *geometry: check_pool(x, *geometry, kind="avg", rank=rank)[:2], sum_run)
_average_gradient = running(avg_backward_spec, sum_gradient_run)
_norm = running(check_lp, sum_run)
_lp_backward_spec = remembered(lp_backward_spec)
_taps_pay = remembered_of_same(taps_pay)


def max_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Largest element of each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        float16, float32 or float64, any memory layout.
    kernel_size : int or tuple of 2 ints
        Size of the window.
    stride : int or tuple of 2 ints, optional
        Step between windows; ``kernel_size`` by default.
    padding : int, tuple or str
        As in ``conv2d``, at most half of the (dilated) kernel. Padding never is a maximum.
    dilation : int or tuple of 2 ints
        Step between the elements of one window.
    ceil_mode : bool
        Keep a last window that is not full, unless it would start in the padding after the input.
    return_indices : bool
        Also return where each maximum was.

    Returns
    -------
    ndarray or (ndarray, ndarray)
        The maxima, and their int64 indices, flat within each plane of ``x``. The first of equal elements
        wins; NaN beats every number, the last NaN of several, as in PyTorch.

    Raises
    ------
    ShapeError, DtypeError
        For a geometry without meaning, or operands that are not float arrays and integers.
    """
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


def max_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``max_pool2d``: each ``dy`` is added where its maximum was.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    indices : ndarray of int64
        What ``max_pool2d`` returned.
    input_shape : tuple of int
        Shape of the forward pass's ``x``.

    Returns
    -------
    ndarray
        Gradient of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or an index lies outside its plane.
    """
    return run_scatter(dy, indices, input_shape, rank=2)


def min_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Smallest element of each window; everything else as in ``max_pool2d``."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


def min_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``min_pool2d``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=2)


def avg_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """Mean of each window.

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode
        As in ``max_pool2d``.
    count_include_pad : bool
        Whether the mean counts padding, which is zero; what lies beyond it (``ceil_mode``) is never counted.
    divisor_override : int, optional
        Divide every sum by this instead.

    Returns
    -------
    ndarray
        The means.

    Raises
    ------
    ShapeError, DtypeError
        As ``max_pool2d``.
    """
    return _average(x, 2, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)(x)


def avg_pool2d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """Gradient of ``avg_pool2d``: each ``dy / divisor`` is added to every element of its window.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    input_shape : tuple of int
        Shape of the forward pass's ``x``.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        As ``avg_pool2d``, and if ``dy`` does not fit.
    """
    return _average_gradient(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                             divisor_override, rank=2)(dy)


def lp_pool2d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """Lp norm of each window: ``(sum of x ** p) ** (1 / p)``.

    Parameters
    ----------
    x, kernel_size, stride, ceil_mode
        As in ``max_pool2d``; there is no padding.
    norm_type : float
        The exponent p, at least 1. With 1 the result is the sum. With infinity it is the largest absolute value.

    Returns
    -------
    ndarray
        The norms. As in PyTorch, no absolute values are taken: a negative sum, or a negative element where p is
        no integer, gives NaN (unless p is 1); a window that lacks elements (``ceil_mode``) is scaled as if it had
        them all; powers that are too large for the dtype become infinite.

    Raises
    ------
    ShapeError, DtypeError
        As ``max_pool2d``, and for an exponent below 1.
    """
    return _norm(x, norm_type, kernel_size, stride, ceil_mode, rank=2)(x)


def lp_pool2d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """Gradient of ``lp_pool2d``: each ``dy * (x / y) ** (p - 1)`` is added to its element, nothing where ``y`` is 0.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    x, y : ndarray
        Input and output of the forward pass.
    norm_type, kernel_size, stride, ceil_mode
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of ``x``. With infinity, ``dy`` times the sign of the first element of that absolute value.

    Raises
    ------
    ShapeError, DtypeError
        As ``lp_pool2d``, and if the operands do not fit.
    """
    spec = _lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=2)
    return _lp_backward(spec, dy, x, y)


def max_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``max_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


def max_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``max_pool1d``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=1)


def min_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``min_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


def min_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``min_pool1d``; everything as in ``min_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=1)


def avg_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """Everything as in ``avg_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _average(x, 1, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)(x)


def avg_pool1d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """Gradient of ``avg_pool1d``; everything as in ``avg_pool2d_backward``."""
    return _average_gradient(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                             divisor_override, rank=1)(dy)


def lp_pool1d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """Everything as in ``lp_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _norm(x, norm_type, kernel_size, stride, ceil_mode, rank=1)(x)


def lp_pool1d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """Gradient of ``lp_pool1d``; everything as in ``lp_pool2d_backward``."""
    spec = _lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=1)
    return _lp_backward(spec, dy, x, y)


def max_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``max_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


def max_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``max_pool3d``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=3)


def min_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``min_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


def min_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``min_pool3d``; everything as in ``min_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=3)


def avg_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """Everything as in ``avg_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _average(x, 3, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)(x)


def avg_pool3d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """Gradient of ``avg_pool3d``; everything as in ``avg_pool2d_backward``."""
    return _average_gradient(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                             divisor_override, rank=3)(dy)


def lp_pool3d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """Everything as in ``lp_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _norm(x, norm_type, kernel_size, stride, ceil_mode, rank=3)(x)


def lp_pool3d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """Gradient of ``lp_pool3d``; everything as in ``lp_pool2d_backward``."""
    spec = _lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=3)
    return _lp_backward(spec, dy, x, y)


def train_extreme_pool(kind, x, kernel_size, stride, padding, dilation, ceil_mode, *, rank):
    """``y`` and ``backward(dy)`` for a layer, which keeps a byte per window where that is cheaper than an index."""
    spec, lead, _ = _check_pool(x, kernel_size, stride, padding, dilation, ceil_mode, kind=kind, rank=rank)
    shape = x.shape
    if not _taps_pay(spec):
        y, indices = _run_extreme(spec, lead, True, x)
        return y, lambda dy: run_scatter(dy, indices, shape, rank=rank)
    y, taps = _run_taps(spec, lead, x)
    return y, lambda dy: _run_taps_backward(taps_backward_spec(spec, dy, taps.shape), dy, taps, shape)


@in_float32
def _run_taps(spec, lead, x):
    y = empty(lead + spec.out_size, spec.dtype)
    taps = np.empty(y.shape, np.uint8)
    if y.size:
        taps_plan(spec).run(planes(x, spec.dtype, spec.size), planes(y, spec.dtype, spec.out_size),
                            planes(taps, taps.dtype, spec.out_size))
    return y, taps


@in_float32
def _run_taps_backward(spec, dy, taps, shape):
    dx = empty(shape, spec.dtype)
    if dx.size:
        taps_gradient_plan(spec).run(planes(dy, spec.dtype, spec.out_size), planes(taps, taps.dtype, spec.out_size),
                                     planes(dx, spec.dtype, spec.size))
    return dx


def extreme_pool_of(kind, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    """``f(x)``: such pooling, of which each kind of arrays is checked once, and nothing but the array is looked at."""
    made = planned(lambda x: _extreme(x, kind, rank, return_indices, kernel_size, stride, padding, dilation, ceil_mode),
                   MAX_OF_A_LAYER)
    return lambda x: made(x)(x)


def _extreme_pool(kind, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    return _extreme(x, kind, rank, return_indices, kernel_size, stride, padding, dilation, ceil_mode)(x)


@in_float32
def _run_extreme(spec, lead, return_indices, x):
    y = empty(lead + spec.out_size, spec.dtype)
    indices = empty(y.shape, INT64) if return_indices else None
    if y.size:
        plan(spec).run(planes(x, spec.dtype, spec.size), planes(y, spec.dtype, spec.out_size),
                       None if indices is None else planes(indices, INT64, spec.out_size))
    return (y, indices) if return_indices else y


def run_scatter(dy, indices, input_shape, *, rank):
    """The gradient of maxima or minima of any kind of window."""
    return _gradient_by_index(dy, indices, input_shape, rank=rank)(dy, indices)


@planned
def _gradient_by_index(dy, indices, input_shape, rank):
    spec, shape = scatter_spec(dy, indices, input_shape, rank=rank)
    return filled_by(scatter_plan, spec, shape, dy, indices) or partial(_scatter, spec, shape)


@in_float32
def _scatter(spec, shape, dy, indices):
    dx = empty(shape, spec.dtype)
    if dx.size:
        scatter_plan(spec).run(planes(dy, spec.dtype, spec.out_size), planes(indices, INT64, spec.out_size),
                               planes(dx, spec.dtype, spec.size))
    return dx


@in_float32
def _run_sum(spec, lead, x):
    y = empty(lead + spec.out_size, spec.dtype)
    if y.size:
        plan(spec).run(planes(x, spec.dtype, spec.size), planes(y, spec.dtype, spec.out_size))
    return y


@in_float32
def _run_sum_backward(spec, shape, dy):
    dx = empty(shape, spec.dtype)
    if dx.size:
        gradient_plan(spec).run(planes(dy, spec.dtype, spec.out_size), planes(dx, spec.dtype, spec.size))
    return dx


@in_float32
def _lp_backward(spec, dy, x, y):
    dx = empty(x.shape, spec.dtype)
    if dx.size:
        gradient_plan(spec).run(planes(dy, spec.dtype, spec.out_size), planes(x, spec.dtype, spec.size),
                                planes(y, spec.dtype, spec.out_size), planes(dx, spec.dtype, spec.size))
    return dx
