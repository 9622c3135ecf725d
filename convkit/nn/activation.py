"""Activation layers."""

from sys import float_info

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.functional.activation import activate
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, wants_grad
from convkit.spec import common
from convkit.spec.activation import FROM_OUTPUT, arguments_of
from convkit.typing import Backward, Floats


class _Activation(Module):
    """What elementwise activations share: a subclass names its ``function`` in ``convkit.functional``.

    ``inplace``, where PyTorch has it, is taken for PyTorch's sake: ``x`` is never overwritten.
    """

    function = ""

    def arguments(self) -> tuple[float | str, ...]:
        """What the function takes after ``x``."""
        return ()

    def predict(self, x: Floats) -> Floats:
        return activate(self.function, x, *self.arguments())

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, arguments = self.predict(x), self.arguments()
        backward = getattr(F, f"{self.function}_backward")
        kept = y if self.function in FROM_OUTPUT else x
        return y, lambda dy: backward(dy, kept, *arguments)

    def extra_repr(self) -> str:
        return ""


class _MaybeInplace(_Activation):
    """An activation whose only argument is PyTorch's ``inplace``."""

    shows_inplace = True

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace and self.shows_inplace else ""


class ReLU(_MaybeInplace):
    """``max(x, 0)``; NaN stays NaN. ``inplace`` is taken for PyTorch's sake: ``x`` is never overwritten."""

    function = "relu"


class ReLU6(_MaybeInplace):
    """``min(max(x, 0), 6)``."""

    function = "relu6"


class SELU(_MaybeInplace):
    """``x`` or ``alpha * (exp(x) - 1)``, times ``scale``: the constants keep mean 0 and variance 1."""

    function = "selu"


class SiLU(_MaybeInplace):
    """``x * sigmoid(x)``."""

    function = "silu"


class Mish(_MaybeInplace):
    """``x * tanh(log(1 + exp(x)))``."""

    function = "mish"


class Hardsigmoid(_MaybeInplace):
    """``min(max(x + 3, 0), 6) / 6``."""

    function = "hardsigmoid"
    shows_inplace = False


class Hardswish(_MaybeInplace):
    """``x * min(max(x + 3, 0), 6) / 6``."""

    function = "hardswish"
    shows_inplace = False


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``."""

    function = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent."""

    function = "tanh"


class LeakyReLU(_Activation):
    """``x`` where it is positive, else ``negative_slope * x``."""

    function = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, = arguments_of("leaky_relu", negative_slope)
        self.inplace = inplace

    def arguments(self) -> tuple[float | str, ...]:
        return (self.negative_slope,)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """``x`` where it is positive, else ``weight * x`` with a learned weight.

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels (axis 1).
    init : float
        First value of the weight.
    dtype : float16, float32 or float64
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: DTypeLike = np.float32) -> None:
        self.num_parameters = common.integer("num_parameters", num_parameters, 1)
        self.init = common.real("init", init, -float_info.max, float_info.max, "finite")
        dtype = common.float_dtype("dtype", dtype)
        common.check_bytes("weight", (self.num_parameters,), dtype)
        self.weight = Parameter(np.full(self.num_parameters, self.init, dtype))

    def predict(self, x: Floats) -> Floats:
        return F.prelu(x, self.weight._data)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = self.predict(x)

        def backward(dy):
            dx, dweight = F.prelu_backward(dy, x, self.weight._data)
            if wants_grad(self.weight):
                self.weight.add_grad(dweight)
            return dx

        return y, backward

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""

    function = "elu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, = arguments_of("elu", alpha)
        self.inplace = inplace

    def arguments(self) -> tuple[float | str, ...]:
        return (self.alpha,)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(_Activation):
    """``x * Phi(x)`` with the normal distribution, or its approximation by tanh (``approximate="tanh"``)."""

    function = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        self.approximate, = arguments_of("gelu", approximate)

    def arguments(self) -> tuple[float | str, ...]:
        return (self.approximate,)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(_Activation):
    """``log(1 + exp(beta * x)) / beta``, and ``x`` itself where ``beta * x`` is above ``threshold``."""

    function = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = arguments_of("softplus", beta, threshold)

    def arguments(self) -> tuple[float | str, ...]:
        return self.beta, self.threshold

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along the axis ``dim``."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = common.integer("dim", dim)

    def predict(self, x: Floats) -> Floats:
        return F.softmax(x, self.dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.softmax(x, self.dim)
        return y, lambda dy: F.softmax_backward(dy, y, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """``log(softmax(x))`` along the axis ``dim``, computed without overflow."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = common.integer("dim", dim)

    def predict(self, x: Floats) -> Floats:
        return F.log_softmax(x, self.dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.log_softmax(x, self.dim)
        return y, lambda dy: F.log_softmax_backward(dy, y, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
