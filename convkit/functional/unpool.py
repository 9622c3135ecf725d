"""Max unpooling without state: the way from pooled values and their indices back to planes."""

from collections.abc import Sequence

from convkit.functional.common import in_float32, planes
from convkit.plan.calls import empty, remembered
from convkit.plan.pool import gradient_plan, plan
from convkit.spec.common import INT64
from convkit.spec.unpool import unpool_backward_spec, unpool_spec
from convkit.typing import Floats, Indices, Size

_unpool_spec = remembered(unpool_spec)
_unpool_backward_spec = remembered(unpool_backward_spec)


def max_unpool2d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """Put pooled values back where they were; zeros everywhere else.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        float16, float32 or float64, any memory layout.
    indices : ndarray of int64
        Of the shape of ``x``, as ``max_pool2d`` returned them. Of equal indices the last one wins.
    kernel_size, stride, padding : int or tuple of 2 ints
        Those of the pooling; ``stride=None`` means ``kernel_size``.
    output_size : tuple of int, optional
        Size of the planes, or the whole shape, where several sizes pool to the same one: less than a stride away
        from ``(size - 1) * stride - 2 * padding + kernel_size``, the default.

    Returns
    -------
    ndarray
        The planes.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or an index lies outside its plane.
    """
    spec = _unpool_spec(x, indices, kernel_size, stride, padding, output_size, rank=2)
    return _unpool(spec, x, indices)


def max_unpool2d_backward(dy: Floats, indices: Indices) -> Floats:
    """Gradient of ``max_unpool2d``: ``dy`` at the indices.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    indices : ndarray of int64
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of ``x``, of the shape of ``indices``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or an index lies outside its plane.
    """
    return _unpool_backward(_unpool_backward_spec(dy, indices, rank=2), dy, indices)


def max_unpool1d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """Everything as in ``max_unpool2d``, for ``x (N, C, L)`` or ``(C, L)``."""
    spec = _unpool_spec(x, indices, kernel_size, stride, padding, output_size, rank=1)
    return _unpool(spec, x, indices)


def max_unpool1d_backward(dy: Floats, indices: Indices) -> Floats:
    """Gradient of ``max_unpool1d``; everything as in ``max_unpool2d_backward``."""
    return _unpool_backward(_unpool_backward_spec(dy, indices, rank=1), dy, indices)


def max_unpool3d(x: Floats, indices: Indices, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
                 output_size: Sequence[int] | None = None) -> Floats:
    """Everything as in ``max_unpool2d``, for ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""
    spec = _unpool_spec(x, indices, kernel_size, stride, padding, output_size, rank=3)
    return _unpool(spec, x, indices)


def max_unpool3d_backward(dy: Floats, indices: Indices) -> Floats:
    """Gradient of ``max_unpool3d``; everything as in ``max_unpool2d_backward``."""
    return _unpool_backward(_unpool_backward_spec(dy, indices, rank=3), dy, indices)


@in_float32
def _unpool(spec, x, indices):
    y = empty(x.shape[:-spec.rank] + spec.size, spec.dtype)
    if y.size:
        plan(spec).run(planes(x, spec.dtype, spec.out_size), planes(indices, INT64, spec.out_size),
                       planes(y, spec.dtype, spec.size))
    return y


@in_float32
def _unpool_backward(spec, dy, indices):
    dx = empty(indices.shape, spec.dtype)
    if dx.size:
        gradient_plan(spec).run(planes(dy, spec.dtype, spec.size), planes(indices, INT64, spec.out_size),
                                planes(dx, spec.dtype, spec.out_size))
    return dx
