"""Softmax and log-softmax without state."""

from math import prod

import numpy as np

from convkit.functional.common import contiguous, in_float32
from convkit.plan.calls import remembered
from convkit.plan.softmax import backward_plan, plan
from convkit.spec.softmax import softmax_backward_spec, softmax_spec
from convkit.typing import Floats

_softmax_spec = remembered(softmax_spec)
_softmax_backward_spec = remembered(softmax_backward_spec)


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
    return _run(*_softmax_spec(x, axis, log=log), x)


def _backward(dy, y, axis, log):
    return _run_backward(*_softmax_backward_spec(dy, y, axis, log=log), dy, y)


@in_float32
def _run(spec, axis, x):
    y = np.empty(x.shape, spec.dtype)
    if y.size:
        plan(spec).run(_around(x, axis, spec.dtype), _around(y, axis, spec.dtype))
    return y


@in_float32
def _run_backward(spec, axis, dy, y):
    dx = np.empty(y.shape, spec.dtype)
    if dx.size:
        backward_plan(spec).run(_around(dy, axis, spec.dtype), _around(y, axis, spec.dtype),
                                _around(dx, axis, spec.dtype))
    return dx


def _around(a, axis, dtype):
    """``a`` as contiguous ``(outer, length, inner)`` around the axis."""
    shape = a.shape
    return contiguous(a, dtype).reshape((prod(shape[:axis]), shape[axis], prod(shape[axis + 1:])))
