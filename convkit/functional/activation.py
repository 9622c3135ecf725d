"""Elementwise activations without state.

Each takes float16, float32 or float64 of any shape and gives the same shape and dtype. Its gradient is computed from
the input ``x``, but for ``relu``, ``sigmoid`` and ``tanh``, whose output ``y`` says it all. At NaN they are NaN, at
infinity what PyTorch gives: the limit, but NaN for silu, mish and gelu at ``-inf``.
"""

from functools import partial

import numpy as np

from convkit.functional.common import as_they_are, contiguous, filled_by, in_float32
from convkit.plan.activation import backward_plan, plan, prelu_backward_plan, prelu_plan
from convkit.plan.calls import empty, planned, remembered
from convkit.spec.activation import activation_backward_spec, activation_spec, prelu_backward_spec, prelu_spec
from convkit.typing import Floats

_activation_spec = remembered(activation_spec)
_activation_backward_spec = remembered(activation_backward_spec)
_prelu_backward_spec = remembered(prelu_backward_spec)


def relu(x: Floats) -> Floats:
    """``max(x, 0)`` for each element; NaN stays NaN.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    return activate("relu", x)


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
    return _backward("relu", dy, y)


def relu6(x: Floats) -> Floats:
    """``min(max(x, 0), 6)``."""
    return activate("relu6", x)


def relu6_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``relu6``: ``dy`` where ``0 < x < 6``, else 0."""
    return _backward("relu6", dy, x)


def leaky_relu(x: Floats, negative_slope: float = 0.01) -> Floats:
    """``x`` where it is positive, else ``negative_slope * x``.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.
    negative_slope : float
        Finite.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    return activate("leaky_relu", x, negative_slope)


def leaky_relu_backward(dy: Floats, x: Floats, negative_slope: float = 0.01) -> Floats:
    """Gradient of ``leaky_relu``: ``dy`` or ``negative_slope * dy``."""
    return _backward("leaky_relu", dy, x, negative_slope)


def elu(x: Floats, alpha: float = 1.0) -> Floats:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.
    alpha : float
        Finite.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    return activate("elu", x, alpha)


def elu_backward(dy: Floats, x: Floats, alpha: float = 1.0) -> Floats:
    """Gradient of ``elu``: ``dy`` or ``dy * alpha * exp(x)``."""
    return _backward("elu", dy, x, alpha)


def selu(x: Floats) -> Floats:
    """``scale * elu(x, alpha)`` with scale 1.0507... and alpha 1.6732..., which keep mean 0 and variance 1 [1]_.

    References
    ----------
    .. [1] Klambauer et al., Self-Normalizing Neural Networks, 2017.
    """
    return activate("selu", x)


def selu_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``selu``."""
    return _backward("selu", dy, x)


def gelu(x: Floats, approximate: str = "none") -> Floats:
    """``x * Phi(x)`` with the normal distribution Phi; the left tail keeps its digits.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.
    approximate : {"none", "tanh"}
        ``"tanh"``: ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` instead.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    return activate("gelu", x, approximate)


def gelu_backward(dy: Floats, x: Floats, approximate: str = "none") -> Floats:
    """Gradient of ``gelu``: ``dy * (Phi(x) + x * exp(-x**2 / 2) / sqrt(2 * pi))``, or that of the tanh form."""
    return _backward("gelu", dy, x, approximate)


def silu(x: Floats) -> Floats:
    """``x * sigmoid(x)``, also called swish."""
    return activate("silu", x)


def silu_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``silu``: ``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    return _backward("silu", dy, x)


def mish(x: Floats) -> Floats:
    """``x * tanh(log(1 + exp(x)))``."""
    return activate("mish", x)


def mish_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``mish``: ``dy * (t + x * (1 - t**2) * sigmoid(x))`` with ``t = tanh(log(1 + exp(x)))``."""
    return _backward("mish", dy, x)


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))``, without overflow."""
    return activate("sigmoid", x)


def sigmoid_backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of ``sigmoid`` from its output: ``dy * y * (1 - y)``."""
    return _backward("sigmoid", dy, y)


def tanh(x: Floats) -> Floats:
    """Hyperbolic tangent."""
    return activate("tanh", x)


def tanh_backward(dy: Floats, y: Floats) -> Floats:
    """Gradient of ``tanh`` from its output: ``dy * (1 - y**2)``."""
    return _backward("tanh", dy, y)


def hardsigmoid(x: Floats) -> Floats:
    """``min(max(x + 3, 0), 6) / 6``."""
    return activate("hardsigmoid", x)


def hardsigmoid_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``hardsigmoid``: ``dy / 6`` where ``-3 < x < 3``, else 0."""
    return _backward("hardsigmoid", dy, x)


def hardswish(x: Floats) -> Floats:
    """``x * min(max(x + 3, 0), 6) / 6``."""
    return activate("hardswish", x)


def hardswish_backward(dy: Floats, x: Floats) -> Floats:
    """Gradient of ``hardswish``: 0 up to -3, ``dy`` from 3 on, ``dy * (x / 3 + 1 / 2)`` between."""
    return _backward("hardswish", dy, x)


def softplus(x: Floats, beta: float = 1.0, threshold: float = 20.0) -> Floats:
    """``log(1 + exp(beta * x)) / beta``, and ``x`` itself where ``beta * x`` is above ``threshold``.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any shape.
    beta : float
        Positive.
    threshold : float
        Finite.

    Returns
    -------
    ndarray
        Same shape and dtype.
    """
    return activate("softplus", x, beta, threshold)


def softplus_backward(dy: Floats, x: Floats, beta: float = 1.0, threshold: float = 20.0) -> Floats:
    """Gradient of ``softplus``: ``dy * sigmoid(beta * x)``, or ``dy`` above the threshold."""
    return _backward("softplus", dy, x, beta, threshold)


def prelu(x: Floats, weight: Floats) -> Floats:
    """``x`` where it is positive, else ``weight * x``, with one weight for all or one for each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...), or (n,)
        float16, float32 or float64.
    weight : ndarray, shape (1,) or (C,)
        Of the same dtype.

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    return _prelu_of(x, weight)(x, weight)


def prelu_backward(dy: Floats, x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Gradients ``(dx, dweight)`` of ``prelu``.

    Parameters
    ----------
    dy, x : ndarray
        Gradient of the output, and the input.
    weight : ndarray, shape (1,) or (C,)
        As in the forward pass.

    Returns
    -------
    (dx, dweight)
        Gradients of ``x`` and ``weight``.
    """
    return _prelu_gradients(_prelu_backward_spec(dy, x, weight), dy, x, weight)


@planned
def _prelu_of(x, weight):
    """What computes such calls."""
    spec = prelu_spec(x, weight)
    if weight.size != spec.channels or not as_they_are(spec.dtype, x, weight):
        return partial(_prelu, spec)
    run, shape, dtype, view = prelu_plan(spec).run, x.shape, spec.dtype, (-1, spec.channels, spec.inner)

    def call(x, weight):
        y = empty(shape, dtype)
        run(x.reshape(view), weight, y.reshape(view))
        return y

    return call


@in_float32
def _prelu(spec, x, weight):
    y = empty(x.shape, spec.dtype)
    if y.size:
        prelu_plan(spec).run(_by_channel(spec, x), _per_channel(spec, weight), _by_channel(spec, y))
    return y


@in_float32
def _prelu_gradients(spec, dy, x, weight):
    dx, dweight = empty(x.shape, spec.dtype), np.zeros(spec.channels, spec.dtype)
    if dx.size:
        prelu_backward_plan(spec).run(_by_channel(spec, dy), _by_channel(spec, x), _per_channel(spec, weight),
                                      _by_channel(spec, dx), dweight)
    if weight.size != spec.channels:
        with np.errstate(all="ignore"):
            dweight = dweight.sum(dtype=np.float64, keepdims=True).astype(spec.dtype)
    return dx, dweight


def _by_channel(spec, a):
    return contiguous(a, spec.dtype).reshape(-1, spec.channels, spec.inner)


def _per_channel(spec, weight):
    return contiguous(np.broadcast_to(weight, (spec.channels,)), spec.dtype)


def in_place(name, x, *arguments):
    """An activation into the memory of ``x``, an array that nobody else holds, where it can be; returns the result."""
    return _activation_in_place(name, x, *arguments)(x)


@planned
def _activation_in_place(name, x, *arguments):
    """What computes such calls."""
    if not _is_plain(x):
        return lambda x: activate(name, x, *arguments)
    return acting(x, name, *arguments)


def acting(x, name, *arguments):
    """``f(x)``: an activation into the memory of plain arrays like ``x``; returns that array."""
    run = plan(_activation_spec(name, x, *arguments)).run

    def call(x):
        run(x, x)
        return x

    return call


def part_kernel(x, name, *arguments):
    """What computes an activation on parts of an array like ``x``; None where the plan has no kernel for that."""
    return getattr(plan(_activation_spec(name, x, *arguments)).run, "kernel", None)


def in_place_backward(name, dy, other, *arguments):
    """The gradient of an activation into the memory of ``dy``, which nobody else holds, where it can be."""
    if not _is_plain(dy) or not _is_plain(other):
        return _backward(name, dy, other, *arguments)
    backward_plan(_activation_backward_spec(name, dy, other, *arguments)).run(dy, other, dy)
    return dy


def _is_plain(a):
    return a.flags.c_contiguous and a.flags.aligned and a.dtype.char != "e"


def activate(name, x, *arguments):
    """The activation of that name."""
    return _activation(name, x, *arguments)(x)


@planned
def _activation(name, x, *arguments):
    spec = activation_spec(name, x, *arguments)
    return filled_by(plan, spec, x.shape, x) or partial(_run, spec)


def _backward(name, dy, other, *arguments):
    return _gradient(name, dy, other, *arguments)(dy, other)


@planned
def _gradient(name, dy, other, *arguments):
    spec = activation_backward_spec(name, dy, other, *arguments)
    return filled_by(backward_plan, spec, dy.shape, dy, other) or partial(_run_backward, spec)


@in_float32
def _run(spec, x):
    y = empty(x.shape, spec.dtype)
    plan(spec).run(contiguous(x, spec.dtype), y)
    return y


@in_float32
def _run_backward(spec, dy, other):
    dx = empty(dy.shape, spec.dtype)
    backward_plan(spec).run(contiguous(dy, spec.dtype), contiguous(other, spec.dtype), dx)
    return dx
