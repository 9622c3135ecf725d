"""Softmax and log-softmax without state."""

from functools import partial
from math import prod

from convkit.functional.common import contiguous, filled_by, in_float32
from convkit.plan.calls import empty, planned
from convkit.plan.softmax import backward_plan, plan
from convkit.spec.softmax import softmax_backward_spec, softmax_spec
from convkit.typing import Floats


def softmax(x: Floats, axis: int = -1) -> Floats:
    """``exp(x) / sum(exp(x))`` along one axis, without overflow.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, at least one axis.
    axis : int
        Axis to normalise over.

    Returns
    -------
    ndarray
        Same shape and dtype. A row of only ``-inf``, or with a ``+inf`` or NaN, becomes NaN.
    """
    return _forward(x, axis, log=False)


def softmax_backward(dy: Floats, y: Floats, axis: int = -1) -> Floats:
    """Gradient of ``softmax`` from its output ``y``: ``y * (dy - sum(dy * y))``."""
    return _backward(dy, y, axis, log=False)


def log_softmax(x: Floats, axis: int = -1) -> Floats:
    """``x - log(sum(exp(x)))`` along one axis, without overflow; see ``softmax``."""
    return _forward(x, axis, log=True)


def log_softmax_backward(dy: Floats, y: Floats, axis: int = -1) -> Floats:
    """Gradient of ``log_softmax`` from its output ``y``: ``dy - exp(y) * sum(dy)``."""
    return _backward(dy, y, axis, log=True)


def _forward(x, axis, log):
    return _of(x, axis, log)(x)


def _backward(dy, y, axis, log):
    return _gradient_of(dy, y, axis, log)(dy, y)


@planned
def _of(x, axis, log):
    """What computes such calls."""
    spec, axis = softmax_spec(x, axis, log=log)
    return filled_by(plan, spec, x.shape, x, view=_view(x.shape, axis)) or partial(_run, spec, axis)


@planned
def _gradient_of(dy, y, axis, log):
    spec, axis = softmax_backward_spec(dy, y, axis, log=log)
    return filled_by(backward_plan, spec, y.shape, dy, y, view=_view(y.shape, axis)) or partial(
        _run_backward, spec, axis)


@in_float32
def _run(spec, axis, x):
    y = empty(x.shape, spec.dtype)
    if y.size:
        plan(spec).run(_around(x, axis, spec.dtype), _around(y, axis, spec.dtype))
    return y


@in_float32
def _run_backward(spec, axis, dy, y):
    dx = empty(y.shape, spec.dtype)
    if dx.size:
        backward_plan(spec).run(_around(dy, axis, spec.dtype), _around(y, axis, spec.dtype),
                                _around(dx, axis, spec.dtype))
    return dx


def _around(a, axis, dtype):
    """``a`` as contiguous ``(outer, length, inner)`` around the axis."""
    return contiguous(a, dtype).reshape(_view(a.shape, axis))


def _view(shape, axis):
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1:])
