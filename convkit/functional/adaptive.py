"""Poolings whose windows come from the sizes alone: adaptive ones, and global ones over whole planes."""

from collections.abc import Sequence
from typing import Any

from convkit.functional.pool import extreme_run, run_scatter, sum_gradient_run, sum_run
from convkit.plan.calls import running
from convkit.spec.adaptive import adaptive_avg_backward_spec, check_adaptive
from convkit.spec.pool import check_global, global_avg_backward_spec, global_rank
from convkit.typing import AdaptiveSize, Floats, Indices

_extreme = running(lambda x, rank, size, indices: check_adaptive(x, size, indices, kind="adaptive_max", rank=rank),
                   extreme_run)
_average = running(lambda x, rank, size: check_adaptive(x, size, kind="adaptive_avg", rank=rank)[:2], sum_run)
_average_gradient = running(adaptive_avg_backward_spec, sum_gradient_run)
_extreme_of_all = running(check_global, extreme_run)
_average_of_all = running(lambda x: check_global(x, "avg")[:2], sum_run)
_average_gradient_of_all = running(global_avg_backward_spec, sum_gradient_run)


def adaptive_max_pool2d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Largest element of each of the windows that the planes of ``x`` are split into.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        float16, float32 or float64, any memory layout.
    output_size : int, None or tuple of 2 of them
        Size of the output; None keeps that of the input. Window ``o`` of ``out`` is
        ``[o * size // out, ceil((o + 1) * size / out))``, in integers.
    return_indices : bool
        Also return where each maximum was.

    Returns
    -------
    ndarray or (ndarray, ndarray)
        The maxima, and their int64 indices as ``max_pool2d`` gives them.

    Raises
    ------
    ShapeError, DtypeError
        For a size without meaning, or an ``x`` that is no float array.
    """
    return _extreme(x, 2, output_size, return_indices)(x)


def adaptive_max_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_max_pool2d``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=2)


def adaptive_avg_pool2d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Mean of each of the windows that the planes of ``x`` are split into; all as in ``adaptive_max_pool2d``."""
    return _average(x, 2, output_size)(x)


def adaptive_avg_pool2d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_avg_pool2d``: each ``dy`` is shared out over its window.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    input_shape : tuple of int
        Shape of the forward pass's ``x``.

    Returns
    -------
    ndarray
        Gradient of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If ``dy`` does not fit.
    """
    return _average_gradient(dy, input_shape, rank=2)(dy)


def adaptive_max_pool1d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``adaptive_max_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _extreme(x, 1, output_size, return_indices)(x)


def adaptive_max_pool1d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_max_pool1d``; everything as in ``adaptive_max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=1)


def adaptive_avg_pool1d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Everything as in ``adaptive_avg_pool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    return _average(x, 1, output_size)(x)


def adaptive_avg_pool1d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_avg_pool1d``; everything as in ``adaptive_avg_pool2d_backward``."""
    return _average_gradient(dy, input_shape, rank=1)(dy)


def adaptive_max_pool3d(x: Floats, output_size: AdaptiveSize, return_indices: bool = False) -> Floats | Any:
    """Everything as in ``adaptive_max_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _extreme(x, 3, output_size, return_indices)(x)


def adaptive_max_pool3d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_max_pool3d``; everything as in ``adaptive_max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=3)


def adaptive_avg_pool3d(x: Floats, output_size: AdaptiveSize) -> Floats:
    """Everything as in ``adaptive_avg_pool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    return _average(x, 3, output_size)(x)


def adaptive_avg_pool3d_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``adaptive_avg_pool3d``; everything as in ``adaptive_avg_pool2d_backward``."""
    return _average_gradient(dy, input_shape, rank=3)(dy)


def global_max_pool(x: Floats, return_indices: bool = False) -> Floats | Any:
    """Largest element of each plane.

    Parameters
    ----------
    x : ndarray, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        float16, float32 or float64, any memory layout. The batch axis must be there: without it a plane could not be
        told from a batch of lines (``adaptive_max_pool2d(x, 1)`` takes both).
    return_indices : bool
        Also return where each maximum was.

    Returns
    -------
    ndarray or (ndarray, ndarray)
        The maxima as planes of one element, and their int64 indices as ``max_pool2d`` gives them.

    Raises
    ------
    ShapeError, DtypeError
        If ``x`` is no float array of 3 to 5 axes.
    """
    return _extreme_of_all(x, "max", return_indices)(x)


def global_max_pool_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``global_max_pool``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=global_rank(input_shape))


def global_min_pool(x: Floats, return_indices: bool = False) -> Floats | Any:
    """Smallest element of each plane; everything as in ``global_max_pool``."""
    return _extreme_of_all(x, "min", return_indices)(x)


def global_min_pool_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``global_min_pool``; everything as in ``max_pool2d_backward``."""
    return run_scatter(dy, indices, input_shape, rank=global_rank(input_shape))


def global_avg_pool(x: Floats) -> Floats:
    """Mean of each plane, as a plane of one element; ``x`` as in ``global_max_pool``."""
    return _average_of_all(x)(x)


def global_avg_pool_backward(dy: Floats, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``global_avg_pool``; everything as in ``adaptive_avg_pool2d_backward``."""
    return _average_gradient_of_all(dy, input_shape)(dy)
