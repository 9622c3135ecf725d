"""Elementwise activations without state."""

import numpy as np

from convkit.functional.common import contiguous
from convkit.plan.activation import relu_backward_plan, relu_plan
from convkit.spec.activation import relu_backward_spec, relu_spec
from convkit.typing import Floats


def relu(x: Floats) -> Floats:
    """``max(x, 0)`` for each element; NaN stays NaN.

    Parameters
    ----------
    x : ndarray
        float32 or float64, any shape.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    spec = relu_spec(x)
    y = np.empty(x.shape, spec.dtype)
    relu_plan(spec).run(contiguous(x, spec.dtype).reshape(-1), y.reshape(-1))
    return y


def relu_backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of ``relu`` from its output: ``dy`` where ``y`` is positive (or NaN), else 0.

    Parameters
    ----------
    dy, y : ndarray
        Gradient of the output and the output itself, of one shape and dtype.

    Returns
    -------
    ndarray
        Gradient of the input.
    """
    spec = relu_backward_spec(dy, y)
    dx = np.empty(y.shape, spec.dtype)
    relu_backward_plan(spec).run(
        contiguous(dy, spec.dtype).reshape(-1), contiguous(y, spec.dtype).reshape(-1), dx.reshape(-1)
    )
    return dx
