"""Pooling over windows: the largest, the smallest or the mean element, and the way back.

Padding is no element: it never is a maximum or minimum, and the mean counts it only where asked to.
Indices are flat within each plane of the unpadded input.
"""

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from convkit.reference.common import inside, narrow, pad, taps, widen
from convkit.spec.pool import avg_backward_spec, check_indices, check_lp, check_pool, lp_backward_spec, scatter_spec
from convkit.typing import Floats, Indices, Padding, Size


@np.errstate(invalid="ignore")
def extreme(spec, x):
    """Largest or smallest (``kind="min"``) elements of ``x (..., *size)`` and their int64 indices.

    The first of equal elements wins. NaN beats every number, and the last NaN wins, as in PyTorch.
    """
    better = np.less if spec.kind == "min" else np.greater
    x_padded = pad(x, spec, spec.out_size)
    index = pad(np.arange(prod(spec.size)).reshape(spec.size), spec, spec.out_size, value=-1)
    y = np.zeros(x.shape[:-spec.rank] + spec.out_size, x.dtype)
    y_index = np.full(y.shape, -1)
    for _, seen in taps(spec, spec.out_size):
        value, i = x_padded[seen], index[seen]
        wins = (i >= 0) & ((y_index < 0) | better(value, y) | np.isnan(value))
        y, y_index = np.where(wins, value, y), np.where(wins, i, y_index)
    return y, y_index


@np.errstate(all="ignore")
def average(spec, x):
    """Sum of each window of ``x (..., *size)`` over its divisor, in float64."""
    x = pad(widen(x), spec, spec.out_size)
    total = np.zeros(x.shape[:-spec.rank] + spec.out_size)
    for _, seen in taps(spec, spec.out_size):
        total += x[seen]
    return total / divisor(spec)


@np.errstate(all="ignore")
def average_gradient(spec, dy):
    """Each ``dy / divisor`` added to every element of its window, in float64."""
    share = widen(dy) / divisor(spec)
    dx = pad(np.zeros(dy.shape[:-spec.rank] + spec.size), spec, spec.out_size)
    for _, seen in taps(spec, spec.out_size):
        dx[seen] += share
    return dx[inside(spec)]


@np.errstate(all="ignore")
def power_mean(spec, x):
    """Lp norm of each window; where windows lack elements (``ceil_mode``), scaled to those of a whole one."""
    if spec.norm_type == inf:
        return extreme(spec, np.abs(x))[0]
    powers = pad(widen(x) ** spec.norm_type, spec, spec.out_size)
    total = sum(powers[seen] for _, seen in taps(spec, spec.out_size))
    return (total / divisor(spec) * spec.elements) ** (1 / spec.norm_type)


@np.errstate(all="ignore")
def power_mean_gradient(spec, dy, x, y):
    """``dy * (x / y) ** (p - 1)`` added to every element of its window, nothing where ``y`` is 0; in float64."""
    if spec.norm_type == inf:
        return scatter(spec, dy, extreme(spec, np.abs(x))[1]) * np.sign(x)
    dy, x, y, p = widen(dy), widen(x), widen(y), spec.norm_type
    share = np.where(y == 0, 0, dy * y ** (1 - p) * (spec.elements / divisor(spec)))
    dx = pad(np.zeros(x.shape), spec, spec.out_size)
    for _, seen in taps(spec, spec.out_size):
        dx[seen] += share
    return dx[inside(spec)] * x ** (p - 1)


def extreme_taps(spec, x):
    """As ``extreme``, with the number of the tap within its window, a byte, instead of the index."""
    y, where = extreme(spec, x)
    index = pad(np.arange(prod(spec.size)).reshape(spec.size), spec, spec.out_size, value=-1)
    chosen = np.zeros(y.shape, np.uint8)
    for number, (_, seen) in enumerate(taps(spec, spec.out_size)):
        chosen[where == index[seen]] = number
    return y, chosen


def taps_gradient(spec, dy, chosen):
    """Each ``dy`` added to the tap of its window that was chosen, in float64."""
    dy = widen(dy)
    dx = pad(np.zeros(dy.shape[:-spec.rank] + spec.size), spec, spec.out_size)
    for number, (_, seen) in enumerate(taps(spec, spec.out_size)):
        dx[seen] += np.where(chosen == number, dy, 0)
    return dx[inside(spec)]


def divisor(spec):
    """What each window's sum is divided by: ``divisor_override``, or how much it covers."""
    if spec.divisor_override is not None:
        return np.full(spec.out_size, float(spec.divisor_override))
    counted = pad(np.ones(spec.size), spec, spec.out_size)
    if spec.count_include_pad:
        counted[tuple(slice(0, n + lo + hi) for n, (lo, hi) in zip(spec.size, spec.padding, strict=True))] = 1
    return sum(counted[seen] for _, seen in taps(spec, spec.out_size))


def scatter(spec, dy, indices):
    """``dx[plane, indices[plane, p]] += dy[plane, p]`` in float64, in the order of the positions."""
    check_indices(spec, indices)
    lead = dy.shape[:-len(spec.size)]
    planes, elements = prod(lead), prod(spec.size)
    starts = elements * np.arange(planes).reshape(planes, 1)
    where = starts + indices.reshape(planes, prod(spec.out_size))
    dx = np.bincount(where.ravel(), weights=widen(dy).ravel(), minlength=planes * elements)
    return dx.reshape(lead + spec.size)


def _extreme_pool(kind, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    spec, _, return_indices = check_pool(x, kernel_size, stride, padding, dilation, ceil_mode, kind=kind,
                                         rank=rank, return_indices=return_indices)
    y, indices = extreme(spec, x.astype(spec.dtype))
    return (y, indices) if return_indices else y


def _extreme_backward(dy, indices, input_shape, rank):
    spec, _ = scatter_spec(dy, indices, input_shape, rank=rank)
    return narrow(scatter(spec, dy, indices), spec.dtype)


def max_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = max over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


def max_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=1)


def min_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = min over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=1)


def min_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=1)


def avg_pool1d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """``y[n, c, p] = sum over k of x[n, c, p * stride + k - lo] / divisor[p]``."""
    spec, _, _ = check_pool(
        x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, kind="avg", rank=1
    )
    return narrow(average(spec, x), spec.dtype)


def avg_pool1d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """``dx[n, c, p * stride + k - lo] += dy[n, c, p] / divisor[p]``."""
    spec, _ = avg_backward_spec(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                divisor_override, rank=1)
    return narrow(average_gradient(spec, dy), spec.dtype)


def lp_pool1d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """``y[n, c, p] = (sum over k of x[n, c, p * stride + k] ** norm_type) ** (1 / norm_type)``."""
    spec, _ = check_lp(x, norm_type, kernel_size, stride, ceil_mode, rank=1)
    return narrow(power_mean(spec, x), spec.dtype)


def lp_pool1d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """``dx[n, c, p * stride + k] += dy[n, c, p] * (x[n, c, p * stride + k] / y[n, c, p]) ** (norm_type - 1)``."""
    spec = lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=1)
    return narrow(power_mean_gradient(spec, dy, x, y), spec.dtype)


def max_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = max over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


def max_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=2)


def min_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = min over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


def min_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=2)


def avg_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """``y[n, c, p] = sum over k of x[n, c, p * stride + k - lo] / divisor[p]``."""
    spec, _, _ = check_pool(
        x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, kind="avg", rank=2
    )
    return narrow(average(spec, x), spec.dtype)


def avg_pool2d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """``dx[n, c, p * stride + k - lo] += dy[n, c, p] / divisor[p]``."""
    spec, _ = avg_backward_spec(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                divisor_override, rank=2)
    return narrow(average_gradient(spec, dy), spec.dtype)


def lp_pool2d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """``y[n, c, p] = (sum over k of x[n, c, p * stride + k] ** norm_type) ** (1 / norm_type)``."""
    spec, _ = check_lp(x, norm_type, kernel_size, stride, ceil_mode, rank=2)
    return narrow(power_mean(spec, x), spec.dtype)


def lp_pool2d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """``dx[n, c, p * stride + k] += dy[n, c, p] * (x[n, c, p * stride + k] / y[n, c, p]) ** (norm_type - 1)``."""
    spec = lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=2)
    return narrow(power_mean_gradient(spec, dy, x, y), spec.dtype)


def max_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = max over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("max", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


def max_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=3)


def min_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """``y[n, c, p] = min over k of x[n, c, p * stride + k * dilation - lo]``, and where it was."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=3)


def min_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _extreme_backward(dy, indices, input_shape, rank=3)


def avg_pool3d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Floats:
    """``y[n, c, p] = sum over k of x[n, c, p * stride + k - lo] / divisor[p]``."""
    spec, _, _ = check_pool(
        x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, kind="avg", rank=3
    )
    return narrow(average(spec, x), spec.dtype)


def avg_pool3d_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, stride: Size | None = None,
                        padding: Padding = 0, ceil_mode: bool = False, count_include_pad: bool = True,
                        divisor_override: int | None = None) -> Floats:
    """``dx[n, c, p * stride + k - lo] += dy[n, c, p] / divisor[p]``."""
    spec, _ = avg_backward_spec(dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                divisor_override, rank=3)
    return narrow(average_gradient(spec, dy), spec.dtype)


def lp_pool3d(x: Floats, norm_type: float, kernel_size: Size, stride: Size | None = None,
              ceil_mode: bool = False) -> Floats:
    """``y[n, c, p] = (sum over k of x[n, c, p * stride + k] ** norm_type) ** (1 / norm_type)``."""
    spec, _ = check_lp(x, norm_type, kernel_size, stride, ceil_mode, rank=3)
    return narrow(power_mean(spec, x), spec.dtype)


def lp_pool3d_backward(dy: Floats, x: Floats, y: Floats, norm_type: float, kernel_size: Size,
                       stride: Size | None = None, ceil_mode: bool = False) -> Floats:
    """``dx[n, c, p * stride + k] += dy[n, c, p] * (x[n, c, p * stride + k] / y[n, c, p]) ** (norm_type - 1)``."""
    spec = lp_backward_spec(dy, x, y, norm_type, kernel_size, stride, ceil_mode, rank=3)
    return narrow(power_mean_gradient(spec, dy, x, y), spec.dtype)
