"""Elementwise activations."""

from math import erfc, pi, sqrt

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.activation import activation_backward_spec, activation_spec, prelu_backward_spec, prelu_spec
from convkit.typing import Floats

# Klambauer et al., 2017: the fixed point of mean 0 and variance 1.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _rounded(values, spec):
    """``narrow``, and an array also where NumPy makes a scalar of an array without axes."""
    return np.asarray(narrow(values, spec.dtype))


def relu(x: Floats) -> Floats:
    """``y = max(x, 0)``; NaN stays NaN."""
    spec = activation_spec("relu", x)
    return np.where(x <= 0, 0, x).astype(spec.dtype)


def relu_backward(dy: Floats, y: Floats) -> Floats:
    """``dx = dy`` where the output ``y`` is positive (or NaN), else 0."""
    spec = activation_backward_spec("relu", dy, y)
    return np.where(y <= 0, 0, dy).astype(spec.dtype)


def relu6(x: Floats) -> Floats:
    """``y = min(max(x, 0), 6)``."""
    spec = activation_spec("relu6", x)
    return _rounded(np.clip(x, 0, 6), spec)


def relu6_backward(dy: Floats, x: Floats) -> Floats:
    """``dx = dy`` where ``0 < x < 6`` (or x is NaN), else 0."""
    spec = activation_backward_spec("relu6", dy, x)
    return np.where((x <= 0) | (x >= 6), 0, dy).astype(spec.dtype)


@np.errstate(all="ignore")
def leaky_relu(x: Floats, negative_slope: float = 0.01) -> Floats:
    """``y = x`` where it is positive, else ``negative_slope * x``."""
    spec = activation_spec("leaky_relu", x, negative_slope)
    x = widen(x)
    return _rounded(np.where(x > 0, x, negative_slope * x), spec)


@np.errstate(all="ignore")
def leaky_relu_backward(dy: Floats, x: Floats, negative_slope: float = 0.01) -> Floats:
    """``dx = dy`` where ``x`` is positive, else ``negative_slope * dy``."""
    spec = activation_backward_spec("leaky_relu", dy, x, negative_slope)
    dy = widen(dy)
    return _rounded(np.where(x > 0, dy, negative_slope * dy), spec)


@np.errstate(all="ignore")
def prelu(x: Floats, weight: Floats) -> Floats:
    """``y = x`` where it is positive, else ``weight * x``; one weight, or one for each channel (axis 1)."""
    spec = prelu_spec(x, weight)
    x = widen(x)
    return _rounded(np.where(x > 0, x, _slopes64(weight, x) * x), spec)


@np.errstate(all="ignore")
def prelu_backward(dy: Floats, x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """``dx = dy`` where ``x`` is positive, else ``weight * dy``; ``dweight`` sums ``x * dy`` where it is not."""
    spec = prelu_backward_spec(dy, x, weight)
    dy, x = widen(dy), widen(x)
    dx = np.where(x > 0, dy, _slopes64(weight, x) * dy)
    products = np.where(x > 0, 0, x * dy)
    dweight = products.sum() if weight.size == 1 else products.sum((0, *range(2, x.ndim)))
    return _rounded(dx, spec), narrow(np.reshape(dweight, weight.shape), spec.dtype)


def _slopes64(weight, x):
    """The weight, shaped to broadcast over ``x``."""
    return widen(weight).reshape(-1, *[1] * max(0, x.ndim - 2)) if x.ndim > 1 else widen(weight)[0]


@np.errstate(all="ignore")
def elu(x: Floats, alpha: float = 1.0) -> Floats:
    """``y = x`` where it is positive, else ``alpha * (exp(x) - 1)``."""
    spec = activation_spec("elu", x, alpha)
    return _rounded(_elu64(widen(x), alpha), spec)


@np.errstate(all="ignore")
def elu_backward(dy: Floats, x: Floats, alpha: float = 1.0) -> Floats:
    """``dx = dy`` where ``x`` is positive, else ``dy * alpha * exp(x)``."""
    spec = activation_backward_spec("elu", dy, x, alpha)
    return _rounded(_elu_slope64(widen(x), alpha) * widen(dy), spec)


@np.errstate(all="ignore")
def selu(x: Floats) -> Floats:
    """``y = scale * elu(x, alpha)``, with the constants of the paper."""
    spec = activation_spec("selu", x)
    return _rounded(SELU_SCALE * _elu64(widen(x), SELU_ALPHA), spec)


@np.errstate(all="ignore")
def selu_backward(dy: Floats, x: Floats) -> Floats:
    """``dx = dy * scale`` where ``x`` is positive, else ``dy * scale * alpha * exp(x)``."""
    spec = activation_backward_spec("selu", dy, x)
    return _rounded(SELU_SCALE * _elu_slope64(widen(x), SELU_ALPHA) * widen(dy), spec)


def _elu64(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _elu_slope64(x, alpha):
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


@np.errstate(all="ignore")
def gelu(x: Floats, approximate: str = "none") -> Floats:
    """``y = x Phi(x)``, Phi being the normal distribution, or its approximation by tanh.

    ``(1 + tanh(u)) / 2`` is ``sigmoid(2 u)``, which keeps its digits where tanh is near -1.
    """
    spec = activation_spec("gelu", x, approximate)
    x = widen(x)
    share = _phi64(x) if approximate == "none" else _sigmoid64(2 * _gelu_argument64(x))
    return _rounded(x * share, spec)


@np.errstate(all="ignore")
def gelu_backward(dy: Floats, x: Floats, approximate: str = "none") -> Floats:
    """``dx = dy (Phi(x) + x phi(x))`` with the normal density phi, or the derivative of the approximation."""
    spec = activation_backward_spec("gelu", dy, x, approximate)
    x = widen(x)
    if approximate == "none":
        slope = _phi64(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi)
    else:
        u, du = _gelu_argument64(x), sqrt(2 / pi) * (1 + 3 * 0.044715 * _gelu_range64(x)**2)
        slope = _sigmoid64(2 * u) * (1 + _gelu_range64(x) * 2 * du * _sigmoid64(-2 * u))
    return _rounded(slope * widen(dy), spec)


def _phi64(x):
    return np.vectorize(lambda v: erfc(-v / sqrt(2)) / 2, otypes=[np.float64])(x)


def _gelu_argument64(x):
    x = _gelu_range64(x)
    return sqrt(2 / pi) * (x + 0.044715 * x**3)


def _gelu_range64(x):
    """Past 30 the sigmoid is 0 or 1 for good, and a cube may overflow."""
    return np.clip(x, -30, 30)


@np.errstate(all="ignore")
def silu(x: Floats) -> Floats:
    """``y = x sigmoid(x)``."""
    spec = activation_spec("silu", x)
    return _rounded(widen(x) * _sigmoid64(widen(x)), spec)


@np.errstate(all="ignore")
def silu_backward(dy: Floats, x: Floats) -> Floats:
    """``dx = dy sigmoid(x) (1 + x sigmoid(-x))``."""
    spec = activation_backward_spec("silu", dy, x)
    x = widen(x)
    return _rounded(_sigmoid64(x) * (1 + x * _sigmoid64(-x)) * widen(dy), spec)


@np.errstate(all="ignore")
def mish(x: Floats) -> Floats:
    """``y = x tanh(softplus(x))``."""
    spec = activation_spec("mish", x)
    x = widen(x)
    return _rounded(x * np.tanh(np.logaddexp(0, x)), spec)


@np.errstate(all="ignore")
def mish_backward(dy: Floats, x: Floats) -> Floats:
    """``dx = dy (t + x (1 - t^2) sigmoid(x))`` with ``t = tanh(softplus(x))``, and ``1 - t^2 = 1 / cosh^2``."""
    spec = activation_backward_spec("mish", dy, x)
    x = widen(x)
    s = np.logaddexp(0, x)
    return _rounded((np.tanh(s) + x / np.cosh(s)**2 * _sigmoid64(x)) * widen(dy), spec)


@np.errstate(all="ignore")
def sigmoid(x: Floats) -> Floats:
    """``y = 1 / (1 + exp(-x))``."""
    spec = activation_spec("sigmoid", x)
    return _rounded(_sigmoid64(widen(x)), spec)


@np.errstate(all="ignore")
def sigmoid_backward(dy: Floats, y: Floats) -> Floats:
    """``dx = dy y (1 - y)``, from the output ``y``."""
    spec = activation_backward_spec("sigmoid", dy, y)
    y = widen(y)
    return _rounded(y * (1 - y) * widen(dy), spec)


def _sigmoid64(x):
    """Either form of it where its exponential does not overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def tanh(x: Floats) -> Floats:
    """``y = tanh(x)``."""
    spec = activation_spec("tanh", x)
    return _rounded(np.tanh(widen(x)), spec)


@np.errstate(all="ignore")
def tanh_backward(dy: Floats, y: Floats) -> Floats:
    """``dx = dy (1 - y^2)``, from the output ``y``."""
    spec = activation_backward_spec("tanh", dy, y)
    y = widen(y)
    return _rounded((1 - y) * (1 + y) * widen(dy), spec)


@np.errstate(all="ignore")
def hardsigmoid(x: Floats) -> Floats:
    """``y = min(max(x + 3, 0), 6) / 6``."""
    spec = activation_spec("hardsigmoid", x)
    return _rounded(np.clip(widen(x) + 3, 0, 6) / 6, spec)


@np.errstate(all="ignore")
def hardsigmoid_backward(dy: Floats, x: Floats) -> Floats:
    """``dx = dy / 6`` where ``-3 < x < 3``, else 0."""
    spec = activation_backward_spec("hardsigmoid", dy, x)
    return _rounded(np.where((x > -3) & (x < 3), widen(dy) / 6, 0), spec)


@np.errstate(all="ignore")
def hardswish(x: Floats) -> Floats:
    """``y = x min(max(x + 3, 0), 6) / 6``."""
    spec = activation_spec("hardswish", x)
    x = widen(x)
    return _rounded(x * np.clip(x + 3, 0, 6) / 6, spec)


@np.errstate(all="ignore")
def hardswish_backward(dy: Floats, x: Floats) -> Floats:
    """``dx`` is 0 up to -3, ``dy`` from 3 on, and ``dy (x / 3 + 1 / 2)`` between."""
    spec = activation_backward_spec("hardswish", dy, x)
    dy, x = widen(dy), widen(x)
    return _rounded(np.where(x <= -3, 0, np.where(x >= 3, dy, dy * (x / 3 + 0.5))), spec)


@np.errstate(all="ignore")
def softplus(x: Floats, beta: float = 1.0, threshold: float = 20.0) -> Floats:
    """``y = log(1 + exp(beta x)) / beta``, and ``x`` where ``beta x`` is above the threshold."""
    spec = activation_spec("softplus", x, beta, threshold)
    x = widen(x)
    return _rounded(np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta), spec)


@np.errstate(all="ignore")
def softplus_backward(dy: Floats, x: Floats, beta: float = 1.0, threshold: float = 20.0) -> Floats:
    """``dx = dy sigmoid(beta x)``, or ``dy`` above the threshold."""
    spec = activation_backward_spec("softplus", dy, x, beta, threshold)
    dy, x = widen(dy), widen(x)
    return _rounded(np.where(beta * x > threshold, dy, dy * _sigmoid64(beta * x)), spec)
