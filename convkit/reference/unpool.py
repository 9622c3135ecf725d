"""Max unpooling: the values that a max pooling kept, put back where they were, zeros everywhere else."""

from collections.abc import Sequence
from math import prod

import numpy as np

from convkit.reference.common import widen
from convkit.spec.pool import check_indices
from convkit.spec.unpool import unpool_backward_spec, unpool_spec
from convkit.typing import Floats, Indices, Size


def place(spec, x, indices):
    """``y[plane, indices[plane, p]] = x[plane, p]``, the last of several; zeros elsewhere."""
    check_indices(spec, indices)
    lead = x.shape[:-spec.rank]
    planes, n = prod(lead), prod(spec.out_size)
    y = np.zeros((planes, prod(spec.size)), x.dtype)
    for plane, where, values in zip(y, indices.reshape(planes, n), x.reshape(planes, n), strict=True):
        for i, value in zip(where, values, strict=True):
            plane[i] = value
    return y.reshape(lead + spec.size)


def gather(spec, dy, indices):
    """``dx[plane, p] = dy[plane, indices[plane, p]]``, in float64."""
    check_indices(spec, indices)
    lead = dy.shape[:-spec.rank]
    planes = prod(lead)
    dx = np.take_along_axis(widen(dy).reshape(planes, prod(spec.size)), indices.reshape(planes, prod(spec.out_size)), 1)
    return dx.reshape(lead + spec.out_size)


def _unpool(x, indices, kernel_size, stride, padding, output_size, rank):
    spec = unpool_spec(x, indices, kernel_size, stride, padding, output_size, rank=rank)
    return place(spec, x.astype(spec.dtype), indices)


def _unpool_backward(dy, indices, rank):
    spec = unpool_backward_spec(dy, indices, rank=rank)
    return gather(spec, dy, indices).astype(spec.dtype)


def max_unpool1d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """``y[n, c, indices[n, c, p]] = x[n, c, p]``, the last of several; zeros elsewhere."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, rank=1)


def max_unpool1d_backward(dy: Floats, indices: Indices) -> Floats:
    """``dx[n, c, p] = dy[n, c, indices[n, c, p]]``."""
    return _unpool_backward(dy, indices, rank=1)


def max_unpool2d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """``y[n, c, indices[n, c, p]] = x[n, c, p]``, the last of several; zeros elsewhere."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, rank=2)


def max_unpool2d_backward(dy: Floats, indices: Indices) -> Floats:
    """``dx[n, c, p] = dy[n, c, indices[n, c, p]]``."""
    return _unpool_backward(dy, indices, rank=2)


def max_unpool3d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """``y[n, c, indices[n, c, p]] = x[n, c, p]``, the last of several; zeros elsewhere."""
    return _unpool(x, indices, kernel_size, stride, padding, output_size, rank=3)


def max_unpool3d_backward(dy: Floats, indices: Indices) -> Floats:
    """``dx[n, c, p] = dy[n, c, indices[n, c, p]]``."""
    return _unpool_backward(dy, indices, rank=3)
