"""Gradients kept small; names, arguments and formulas as in ``torch.nn.utils``.

They are called between ``backward`` and ``optimizer.step()``, and change the gradients where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.nn.parameter import Parameter
from convkit.spec import common
from convkit.typing import Floats

BLOCK = 8192  # elements that are looked at as float64 at a time: they stay in the cache, and BLAS on one thread


def clip_grad_norm_(parameters: Parameter | Iterable[Parameter], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> float:
    """Scale all gradients by the same factor so that their norm, as one vector, is at most ``max_norm``.

    The factor is ``max_norm / (norm + 1e-6)`` where that is below 1; the norm is summed in float64.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
        Those without a gradient are passed over.
    max_norm : float
    norm_type : float
        The exponent of the norm, above 0; ``inf`` is for the largest element.
    error_if_nonfinite : bool
        Refuse a norm that is NaN or infinite. Without it, NaN makes all gradients NaN, and infinity all others 0, as in
        PyTorch.

    Returns
    -------
    float
        The norm before.
    """
    max_norm = common.real("max_norm", max_norm, 0.0, np.inf, "not negative")
    exponent = common.real("norm_type", norm_type, np.nextafter(0.0, 1.0), np.inf, "above 0")
    clipped = _with_gradients(parameters)
    with np.errstate(all="ignore"):
        total = _norm([p.grad for p in clipped], exponent)
        if common.flag("error_if_nonfinite", error_if_nonfinite) and not np.isfinite(total):
            raise ShapeError(f"the norm of the gradients must be finite with error_if_nonfinite=True, got {total}")
        factor = max_norm / (total + 1e-6)
        if not factor >= 1:
            for p in clipped:
                _put(p, np.multiply, factor)
    return total


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Limit every element of all gradients to ``-clip_value`` ... ``clip_value``; NaN stays NaN.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
        Those without a gradient are passed over.
    clip_value : float
    """
    limit = common.real("clip_value", clip_value, 0.0, np.inf, "not negative")
    for p in _with_gradients(parameters):
        _put(p, np.clip, -limit, limit)


def _with_gradients(parameters):
    if not isinstance(parameters, Iterable) and not isinstance(parameters, Parameter):
        raise DtypeError("parameters must be a Parameter or an iterable of them, as model.parameters() gives, got "
                         f"{type(parameters).__name__}")
    parameters = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for p in parameters:
        if not isinstance(p, Parameter):
            raise DtypeError(f"parameters must be Parameters, as model.parameters() gives, got {type(p).__name__}")
    return [p for p in dict.fromkeys(parameters) if p.grad is not None]  # one that is named twice is clipped once


def _put(parameter, function, *numbers):
    """``function(gradient, *numbers)`` in place of the gradient, where its memory may be written to."""
    g = parameter.grad
    if g.dtype == common.FLOAT16:  # computed in float32, and rounded once
        numbers = [np.float32(number) for number in numbers]
    if g.flags.writeable:
        function(g, *numbers, out=g, casting="same_kind")
    else:
        parameter.grad = function(g, *numbers).astype(g.dtype, copy=False)


def _norm(gradients: list[Floats], exponent: float) -> float:
    if exponent == np.inf:
        return float(np.max([np.abs(block).max() for block in _blocks(gradients)], initial=0.0))
    if exponent == 2:
        return float(np.sqrt(sum(np.dot(block, block) for block in _blocks(gradients))))
    return float(sum((np.abs(block) ** exponent).sum() for block in _blocks(gradients)) ** (1 / exponent))


def _blocks(gradients: list[Floats]) -> Iterator[Floats]:
    """All elements as float64."""
    for g in gradients:
        flat = g.reshape(-1)
        for i in range(0, flat.size, BLOCK):
            yield flat[i:i + BLOCK].astype(np.float64)
