"""Softmax and its logarithm, shifted by the maximum so that no exponential overflows."""

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.softmax import softmax_backward_spec, softmax_spec
from convkit.typing import Floats


@np.errstate(all="ignore")
def softmax(x: Floats, axis: int = -1) -> Floats:
    """``y_i = exp(x_i) / sum over j of exp(x_j)`` along ``axis``."""
    spec, axis = softmax_spec(x, axis, log=False)
    return narrow(softmax64(x, axis), spec.dtype)


@np.errstate(all="ignore")
def softmax_backward(dy: Floats, y: Floats, axis: int = -1) -> Floats:
    """``dx = y * (dy - sum of dy * y)`` along ``axis``, from the output ``y``."""
    spec, axis = softmax_backward_spec(dy, y, axis, log=False)
    dy, y = widen(dy), widen(y)
    return narrow(y * (dy - (dy * y).sum(axis, keepdims=True)), spec.dtype)


@np.errstate(all="ignore")
def log_softmax(x: Floats, axis: int = -1) -> Floats:
    """``y_i = x_i - log(sum over j of exp(x_j))`` along ``axis``."""
    spec, axis = softmax_spec(x, axis, log=True)
    return narrow(log_softmax64(x, axis), spec.dtype)


@np.errstate(all="ignore")
def log_softmax_backward(dy: Floats, y: Floats, axis: int = -1) -> Floats:
    """``dx = dy - exp(y) * sum of dy`` along ``axis``, from the output ``y``."""
    spec, axis = softmax_backward_spec(dy, y, axis, log=True)
    dy = widen(dy)
    return narrow(dy - np.exp(widen(y)) * dy.sum(axis, keepdims=True), spec.dtype)


def softmax64(x, axis):
    """Softmax in float64, unrounded; the gradient of the cross-entropy starts from it."""
    e = np.exp(_shifted(x, axis))
    return e / e.sum(axis, keepdims=True)


def log_softmax64(x, axis):
    """Log-softmax in float64, unrounded; the cross-entropy starts from it."""
    z = _shifted(x, axis)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


def _shifted(x, axis):
    x = widen(x)
    return x - x.max(axis, keepdims=True, initial=-np.inf)
