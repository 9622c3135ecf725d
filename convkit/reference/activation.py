"""Elementwise activations."""

import numpy as np

from convkit.spec.activation import relu_backward_spec, relu_spec
from convkit.typing import Floats


def relu(x: Floats) -> Floats:
    """``y = max(x, 0)``; NaN stays NaN."""
    spec = relu_spec(x)
    return np.where(x <= 0, 0, x).astype(spec.dtype)


def relu_backward(dy: Floats, y: Floats) -> Floats:
    """``dx = dy`` where the output ``y`` is positive (or NaN), else 0."""
    spec = relu_backward_spec(dy, y)
    return np.where(y <= 0, 0, dy).astype(spec.dtype)
