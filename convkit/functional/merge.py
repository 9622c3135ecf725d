"""Several arrays made one, without state: side by side, which is one long copy each, or their sum."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from convkit.functional.common import contiguous, filled_by, in_float32
from convkit.plan.calls import empty, planned, remembered
from convkit.plan.merge import plan
from convkit.spec.merge import add_backward_dtype, add_spec, concat_backward_spec, concat_spec
from convkit.typing import Floats

_concat_spec = remembered(concat_spec)


def concat(*xs: Floats, axis: int = 1) -> Floats:
    """Put arrays side by side along an axis, as ``torch.cat`` does: the channels of the branches of DenseNet.

    Parameters
    ----------
    *xs : ndarray
        At least one; all of one dtype, float16, float32 or float64, and of one shape but for this axis.
    axis : int
        The axis to join along; 1 is that of the channels of a batch.

    Returns
    -------
    ndarray

    Raises
    ------
    ShapeError, DtypeError
        If the arrays do not fit together.
    """
    axis, shape, dtype = _concat_spec(xs, axis)
    return np.concatenate(xs, axis, out=empty(shape, dtype))


def concat_backward(dy: Floats, sizes: Sequence[int], axis: int = 1) -> tuple[Floats, ...]:
    """Gradients of ``concat``: the part of ``dy`` that each array has become.

    Parameters
    ----------
    dy : ndarray
        Gradient of the result.
    sizes : sequence of int
        The sizes of the arrays along the axis.
    axis : int
        As in the forward pass.

    Returns
    -------
    tuple of ndarray
        One for each array; views of ``dy`` where its byte order is native.

    Raises
    ------
    ShapeError, DtypeError
        If the sizes are not those of ``dy``.
    """
    axis, ends, dtype = concat_backward_spec(dy, sizes, axis)
    return tuple(np.split(np.asarray(dy, dtype), ends[:-1], axis))


def add(x: Floats, other: Floats) -> Floats:
    """``x + other``, element by element: what joins a residual block and its short cut.

    Parameters
    ----------
    x, other : ndarray
        float16, float32 or float64, of one shape and dtype; nothing is broadcast.

    Returns
    -------
    ndarray
        Same shape and dtype.

    Raises
    ------
    ShapeError, DtypeError
        If the arrays differ in shape or dtype.
    """
    return _adding(x, other)(x, other)


def add_backward(dy: Floats) -> tuple[Floats, Floats]:
    """Gradients of ``add``: ``dy`` for either summand, the same array twice, not copied where its byte order is native.

    Parameters
    ----------
    dy : ndarray
        Gradient of the sum.

    Returns
    -------
    (dx, dother)
    """
    dtype = add_backward_dtype(dy)
    dx = np.asarray(dy, dtype)
    return dx, dx


@planned
def _adding(x, other):
    spec = add_spec(x, other)
    return filled_by(plan, spec, x.shape, x, other) or partial(_sum, spec)


@in_float32
def _sum(spec, x, other):
    y = empty(x.shape, spec.dtype)
    if y.size:
        plan(spec).run(contiguous(x, spec.dtype), contiguous(other, spec.dtype), y)
    return y
