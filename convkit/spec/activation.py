"""What an elementwise activation is."""

from dataclasses import dataclass
from math import prod
from sys import float_info

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common

ACTIVATIONS = ("elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish", "relu", "relu6", "selu", "sigmoid",
               "silu", "softplus", "tanh")
# Whose gradient is computed from the output, which costs no exponential; that of all others from the input.
FROM_OUTPUT = ("relu", "sigmoid", "tanh")
GELU_FORMS = ("none", "tanh")


@dataclass(frozen=True, slots=True)
class ActivationSpec:
    """The function ``name`` with the ``arguments`` that follow its array; the elements are independent."""

    name: str
    arguments: tuple
    dtype: np.dtype


def activation_spec(name, x, *arguments):
    """Check ``x``, of any shape, and the arguments of an activation."""
    return ActivationSpec(name, arguments_of(name, *arguments), common.native_float("x", common.array("x", x).dtype))


def activation_backward_spec(name, dy, other, *arguments):
    """Check ``dy`` against the activation's input ``x``, or its output ``y`` for those in FROM_OUTPUT."""
    of = "y" if name in FROM_OUTPUT else "x"
    dtype = common.native_float(of, common.array(of, other).dtype)
    common.same_dtype("dy", common.array("dy", dy).dtype, of, dtype)
    common.check_shape("dy", dy.shape, other.shape, f"that of {of}")
    return ActivationSpec(name, arguments_of(name, *arguments), dtype)


def arguments_of(name, *arguments):
    """The arguments of an activation, checked and made numbers of one kind."""
    check = CHECKS.get(name)
    return () if check is None else check(*arguments)


@dataclass(frozen=True, slots=True)
class PreluSpec:
    """``channels`` channels (axis 1) of ``inner`` elements per image, each with a slope of its own."""

    channels: int
    inner: int
    dtype: np.dtype


def prelu_spec(x, weight):
    """Check ``x`` against a weight of one element, or of one for each channel."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    common.same_dtype("x", dtype, "weight", common.native_float("weight", common.array("weight", weight).dtype))
    if weight.shape not in ((1,), (channels,)):
        raise ShapeError(f"weight must have shape (1,) or ({channels},) (one per channel), "
                         f"got weight.shape={weight.shape}")
    return PreluSpec(channels, prod(x.shape[2:]) if x.ndim > 1 else x.size, dtype)


def prelu_backward_spec(dy, x, weight):
    """Check the gradient's operands."""
    spec = prelu_spec(x, weight)
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, x.shape, "that of x")
    return spec


def _finite(name, value):
    return common.real(name, value, -float_info.max, float_info.max, "finite")


def _leaky_relu(negative_slope):
    return (_finite("negative_slope", negative_slope),)


def _elu(alpha):
    return (_finite("alpha", alpha),)


def _softplus(beta, threshold):
    beta = common.real("beta", beta, float_info.min, float_info.max, "positive and finite")
    return beta, _finite("threshold", threshold)


def _gelu(approximate):
    if approximate not in GELU_FORMS:
        raise ShapeError(f"approximate must be one of {', '.join(GELU_FORMS)}, got {common.shown(approximate)}")
    return (approximate,)


CHECKS = {"leaky_relu": _leaky_relu, "elu": _elu, "softplus": _softplus, "gelu": _gelu}
