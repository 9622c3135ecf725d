"""Pooling over windows: the largest, the smallest or the mean element, and the way back.

Padding is no element: it never is a maximum or minimum, and the mean counts it only where asked to.
Indices are flat within each plane of the unpadded input.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from convkit.reference.common import inside, narrow, pad, taps, widen
from convkit.spec.pool import avg_backward_spec, check_indices, check_pool, scatter_spec
from convkit.typing import Floats, Indices, Padding, Size


@np.errstate(invalid="ignore")
def extreme(spec, x):
    """Largest (``kind="max"``) or smallest elements of ``x (..., *size)`` and their int64 indices.

    The first of equal elements wins. NaN beats every number, and the last NaN wins, as in PyTorch.
    """
    better = np.greater if spec.kind == "max" else np.less
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
