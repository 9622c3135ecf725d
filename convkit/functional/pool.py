"""Pooling without state."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from convkit.functional.common import contiguous
from convkit.plan.pool import average_gradient_plan, plan, scatter_plan
from convkit.spec.common import INT64
from convkit.spec.pool import avg_backward_spec, check_pool, scatter_spec
from convkit.typing import Floats, Indices, Padding, Size


def max_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Largest element of each window.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        float32 or float64, any memory layout.
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
    return _extreme_backward(dy, indices, input_shape, rank=2)


def min_pool2d(x: Floats, kernel_size: Size, stride: Size | None = None, padding: Padding = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Floats | Any:
    """Smallest element of each window; everything else as in ``max_pool2d``."""
    return _extreme_pool("min", x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank=2)


def min_pool2d_backward(dy: Floats, indices: Indices, input_shape: Sequence[int]) -> Floats:
    """Gradient of ``min_pool2d``; everything as in ``max_pool2d_backward``."""
    return _extreme_backward(dy, indices, input_shape, rank=2)


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
    spec, lead, _ = check_pool(
        x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, kind="avg", rank=2
    )
    y = np.empty(lead + spec.out_size, spec.dtype)
    if y.size:
        plan(spec).run(_planes(x, spec.dtype, spec.size), _planes(y, spec.dtype, spec.out_size))
    return y


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
    spec, shape = avg_backward_spec(
        dy, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, rank=2
    )
    dx = np.empty(shape, spec.dtype)
    if dx.size:
        average_gradient_plan(spec).run(
            _planes(dy, spec.dtype, spec.out_size), _planes(dx, spec.dtype, spec.size)
        )
    return dx


def _extreme_pool(kind, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, rank):
    spec, lead, return_indices = check_pool(x, kernel_size, stride, padding, dilation, ceil_mode, kind=kind,
                                            rank=rank, return_indices=return_indices)
    y = np.empty(lead + spec.out_size, spec.dtype)
    indices = np.empty(y.shape, INT64) if return_indices else None
    if y.size:
        plan(spec).run(_planes(x, spec.dtype, spec.size), _planes(y, spec.dtype, spec.out_size),
                       None if indices is None else _planes(indices, INT64, spec.out_size))
    return (y, indices) if return_indices else y


def _extreme_backward(dy, indices, input_shape, rank):
    spec, shape = scatter_spec(dy, indices, input_shape, rank=rank)
    dx = np.empty(shape, spec.dtype)
    if dx.size:
        scatter_plan(spec).run(_planes(dy, spec.dtype, spec.out_size), _planes(indices, INT64, spec.out_size),
                               _planes(dx, spec.dtype, spec.size))
    return dx


def _planes(a, dtype, size):
    """``a (N, C, *size)`` or ``(C, *size)`` as contiguous ``(planes, *size)``."""
    return contiguous(a, dtype).reshape(prod(a.shape[:-len(size)]), *size)
