"""Poolings whose windows come from the sizes alone: adaptive ones, and global ones over the whole plane.

Window ``o`` of an adaptive pooling is ``[o * size // out, ceil((o + 1) * size / out))`` along each axis.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from convkit.reference import pool
from convkit.reference.common import narrow, widen
from convkit.spec.adaptive import adaptive_avg_backward_spec, check_adaptive
from convkit.spec.pool import check_global, global_avg_backward_spec, global_rank, scatter_spec
from convkit.typing import AdaptiveSize, Floats, Indices


def windows(spec):
    """For each output position: its index, and the slices of its window."""
    bounds = [[slice(o * n // out, -(-(o + 1) * n // out)) for o in range(out)]
              for n, out in zip(spec.size, spec.out_size, strict=True)]
    for p in product(*map(range, spec.out_size)):
        yield (..., *p), (..., *(axis[o] for axis, o in zip(bounds, p, strict=True)))


def extreme(spec, x):
    """Largest element of each window and its index: the first of equal ones, the last NaN."""
    y = np.zeros(x.shape[:-spec.rank] + spec.out_size, x.dtype)
    y_index = np.zeros(y.shape, np.int64)
    index = np.arange(np.prod(spec.size)).reshape(spec.size)
    for p, seen in windows(spec):
        window, where = x[seen].reshape(*y.shape[:-spec.rank], -1), index[seen].ravel()
        nan = np.isnan(window)
        best = np.where(nan, np.arange(where.size), -1).max(-1)  # the last NaN
        best = np.where(best < 0, np.argmax(window, -1), best)
        y[p], y_index[p] = np.take_along_axis(window, best[..., None], -1)[..., 0], where[best]
    return y, y_index


@np.errstate(all="ignore")
def average(spec, x):
    """Mean of each window, in float64."""
    x = widen(x)
    y = np.zeros(x.shape[:-spec.rank] + spec.out_size)
    for p, seen in windows(spec):
        y[p] = x[seen].mean(axis=tuple(range(-spec.rank, 0)))
    return y


@np.errstate(all="ignore")
def average_gradient(spec, dy):
    """Each ``dy`` shared out over its window, in float64."""
    dy = widen(dy)
    dx = np.zeros(dy.shape[:-spec.rank] + spec.size)
    for p, seen in windows(spec):
        share = dx[seen]
        share += (dy[p] / np.prod(share.shape[-spec.rank:], dtype=np.int64)).reshape(dy[p].shape + (1,) * spec.rank)
    return dx


def _adaptive_max(x, output_size, return_indices, rank):
    spec, _, return_indices = check_adaptive(x, output_size, return_indices, kind="adaptive_max", rank=rank)
    y, indices = extreme(spec, x.astype(spec.dtype))
    return (y, indices) if return_indices else y


def _adaptive_max_backward(dy, indices, input_shape, rank):
    spec, _ = scatter_spec(dy, indices, input_shape, rank=rank)
    return narrow(pool.scatter(spec, dy, indices), spec.dtype)


def _adaptive_avg(x, output_size, rank):
    spec, _, _ = check_adaptive(x, output_size, kind="adaptive_avg", rank=rank)
    return narrow(average(spec, x), spec.dtype)


def _adaptive_avg_backward(dy, input_shape, rank):
    spec, _ = adaptive_avg_backward_spec(dy, input_shape, rank=rank)
    return narrow(average_gradient(spec, dy), spec.dtype)


def _global_extreme(kind, x, return_indices):
    spec, _, return_indices = check_global(x, kind, return_indices)
    y, indices = pool.extreme(spec, x.astype(spec.dtype))
    return (y, indices) if return_indices else y


def adaptive_max_pool1d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Largest element of each of the windows that ``x`` is split into, and where it was."""
    return _adaptive_max(x, output_size, return_indices, rank=1)


def adaptive_max_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _adaptive_max_backward(dy, indices, input_shape, rank=1)


def adaptive_avg_pool1d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Mean of each of the windows that ``x`` is split into."""
    return _adaptive_avg(x, output_size, rank=1)


def adaptive_avg_pool1d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, window[p]] += dy[n, c, p] / size of window[p]``."""
    return _adaptive_avg_backward(dy, input_shape, rank=1)


def adaptive_max_pool2d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Largest element of each of the windows that ``x`` is split into, and where it was."""
    return _adaptive_max(x, output_size, return_indices, rank=2)


def adaptive_max_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _adaptive_max_backward(dy, indices, input_shape, rank=2)


def adaptive_avg_pool2d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Mean of each of the windows that ``x`` is split into."""
    return _adaptive_avg(x, output_size, rank=2)


def adaptive_avg_pool2d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, window[p]] += dy[n, c, p] / size of window[p]``."""
    return _adaptive_avg_backward(dy, input_shape, rank=2)


def adaptive_max_pool3d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Largest element of each of the windows that ``x`` is split into, and where it was."""
    return _adaptive_max(x, output_size, return_indices, rank=3)


def adaptive_max_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c, p]] += dy[n, c, p]``."""
    return _adaptive_max_backward(dy, indices, input_shape, rank=3)


def adaptive_avg_pool3d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Mean of each of the windows that ``x`` is split into."""
    return _adaptive_avg(x, output_size, rank=3)


def adaptive_avg_pool3d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, window[p]] += dy[n, c, p] / size of window[p]``."""
    return _adaptive_avg_backward(dy, input_shape, rank=3)


def global_max_pool(x: Floats, return_indices: bool = False) -> Floats | Any:
    """Largest element of each plane of ``x (N, C, ...)``, as a plane of one element, and where it was."""
    return _global_extreme("max", x, return_indices)


def global_max_pool_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c]] = dy[n, c]``."""
    return _adaptive_max_backward(dy, indices, input_shape, rank=global_rank(input_shape))


def global_min_pool(x: Floats, return_indices: bool = False) -> Floats | Any:
    """Smallest element of each plane of ``x (N, C, ...)``, as a plane of one element, and where it was."""
    return _global_extreme("min", x, return_indices)


def global_min_pool_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, indices[n, c]] = dy[n, c]``."""
    return _adaptive_max_backward(dy, indices, input_shape, rank=global_rank(input_shape))


def global_avg_pool(x: Floats) -> Floats:
    """Mean of each plane of ``x (N, C, ...)``, as a plane of one element."""
    spec, _, _ = check_global(x, "avg")
    return narrow(pool.average(spec, x), spec.dtype)


def global_avg_pool_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """``dx[n, c, ...] = dy[n, c] / elements of a plane``."""
    spec, _ = global_avg_backward_spec(dy, input_shape)
    return narrow(pool.average_gradient(spec, dy), spec.dtype)
