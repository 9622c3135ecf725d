"""First values of weights, as in ``torch.nn.init``, drawn from an explicit ``numpy.random.Generator``.

Each function writes into a Parameter and returns it. Variances are those of He et al. (2015, arXiv 1502.01852) and
of Glorot and Bengio (2010).
"""

from __future__ import annotations

import math

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.nn.parameter import Parameter
from convkit.spec import common

_GAINS = {"linear": 1.0, **{f"conv{kind}{rank}d": 1.0 for kind in ("", "_transpose") for rank in (1, 2, 3)},
          "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Factor on the standard deviation that suits what follows the layer; ``param`` is the slope of a leaky ReLU."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ShapeError(f"nonlinearity must be one of {', '.join(_GAINS)}, leaky_relu, got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def fans(parameter: Parameter) -> tuple[int, int]:
    """How many inputs one output has and how many outputs one input has: ``(fan_in, fan_out)``."""
    if len(parameter.shape) < 2:
        raise ShapeError(f"fan in and fan out need a parameter of at least 2 axes, got shape {parameter.shape}")
    field = math.prod(parameter.shape[2:])
    return parameter.shape[1] * field, parameter.shape[0] * field


def uniform_(parameter: Parameter, low: float = 0.0, high: float = 1.0, *, rng: np.random.Generator) -> Parameter:
    """Uniform on ``[low, high)``."""
    return _write(parameter, common.generator("rng", rng).uniform(low, high, parameter.shape))


def normal_(parameter: Parameter, mean: float = 0.0, std: float = 1.0, *, rng: np.random.Generator) -> Parameter:
    """Normal of this mean and standard deviation."""
    return _write(parameter, common.generator("rng", rng).normal(mean, std, parameter.shape))


def constant_(parameter: Parameter, value: float) -> Parameter:
    """Every element ``value``."""
    return _write(parameter, np.full(parameter.shape, value))


def zeros_(parameter: Parameter) -> Parameter:
    """Every element 0."""
    return constant_(parameter, 0.0)


def ones_(parameter: Parameter) -> Parameter:
    """Every element 1."""
    return constant_(parameter, 1.0)


def kaiming_uniform_(parameter: Parameter, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *,
                     rng: np.random.Generator) -> Parameter:
    """Uniform with ``std = gain / sqrt(fan)``."""
    bound = math.sqrt(3) * _kaiming_std(parameter, a, mode, nonlinearity)
    return uniform_(parameter, -bound, bound, rng=rng)


def kaiming_normal_(parameter: Parameter, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *,
                    rng: np.random.Generator) -> Parameter:
    """Normal with ``std = gain / sqrt(fan)``."""
    return normal_(parameter, 0.0, _kaiming_std(parameter, a, mode, nonlinearity), rng=rng)


def xavier_uniform_(parameter: Parameter, gain: float = 1.0, *, rng: np.random.Generator) -> Parameter:
    """Uniform with ``std = gain * sqrt(2 / (fan_in + fan_out))``."""
    bound = gain * math.sqrt(6 / sum(fans(parameter)))
    return uniform_(parameter, -bound, bound, rng=rng)


def xavier_normal_(parameter: Parameter, gain: float = 1.0, *, rng: np.random.Generator) -> Parameter:
    """Normal with ``std = gain * sqrt(2 / (fan_in + fan_out))``."""
    return normal_(parameter, 0.0, gain * math.sqrt(2 / sum(fans(parameter))), rng=rng)


def default_(weight: Parameter, bias: Parameter | None, *, rng: np.random.Generator) -> None:
    """What PyTorch does for convolutions and linear layers: both uniform within ``1 / sqrt(fan_in)``."""
    kaiming_uniform_(weight, a=math.sqrt(5), rng=rng)
    if bias is not None:
        bound = 1 / math.sqrt(fans(weight)[0])
        uniform_(bias, -bound, bound, rng=rng)


def _kaiming_std(parameter, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ShapeError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(parameter)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _write(parameter, values):
    if not isinstance(parameter, Parameter):
        raise DtypeError(f"parameter must be a Parameter, got {type(parameter).__name__}")
    parameter.data = values.astype(parameter.dtype)
    return parameter
