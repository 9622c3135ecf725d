"""What Sequential does by itself when it predicts in eval mode, so that fewer passes go over memory.

A batch norm right after a convolution becomes part of its weight and bias. An activation right after either is computed
by the tasks of the convolution, on what they have just written; where those cannot, and after a linear layer, in the
same call where its input lies. A residual block whose last layers are a convolution adds its short cut there,
too, before the activation after the block. Only layers of exactly these types take part, as they are: a subclass, or an
object whose ``predict`` was replaced, may do more.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from convkit.functional.activation import in_place
from convkit.functional.common import bytes_of
from convkit.nn import activation, conv, linear, norm
from convkit.nn.module import Module
from convkit.nn.parameter import remembering_last
from convkit.spec.common import FLOAT16, check_sum
from convkit.typing import Floats

_NORM_AFTER = {conv.Conv1d: norm.BatchNorm1d, conv.Conv2d: norm.BatchNorm2d, conv.Conv3d: norm.BatchNorm3d}
_COMPUTING = *_NORM_AFTER, linear.Linear  # an activation in the same call
# Layers whose output nobody else holds.
_FRESH = (*_NORM_AFTER, *_NORM_AFTER.values(), conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d,
          linear.Linear)
_ACTIVATIONS = (activation.ReLU, activation.ReLU6, activation.LeakyReLU, activation.ELU, activation.SELU,
                activation.GELU, activation.SiLU, activation.Mish, activation.Sigmoid, activation.Tanh,
                activation.Hardsigmoid, activation.Hardswish, activation.Softplus)


def stages(layers: Iterable[Module]) -> list[list[Module]]:
    """The layers in groups that are computed together in eval mode."""
    groups: list[list[Module]] = []
    for layer in layers:
        last = groups[-1] if groups else []
        together = last and not any("predict" in vars(each) for each in (*last, layer))
        if together and (_folds(last, layer) or _acts_in_place(last, layer)):
            last.append(layer)
        else:
            groups.append([layer])
    return groups


def _folds(group, layer):
    first = group[0]
    return (len(group) == 1 and type(layer) is _NORM_AFTER.get(type(first), Module) and not layer.training
            and layer.track_running_stats and layer.num_features == first.out_channels
            and layer.running_mean.dtype == first.weight.dtype != FLOAT16)


def _acts_in_place(group, layer):
    first = type(group[0])
    return (first in _FRESH or "predict_then" in vars(first)) and type(layer) in _ACTIVATIONS


def function_of(group: list[Any]) -> Callable[[Floats], Floats]:
    """What computes the output of one group of ``stages``, good until a layer changes."""
    first, *rest = group
    if not rest:
        plain = type(first) in _COMPUTING and "predict" not in vars(first)
        return _computing(first, None, ()) if plain else first  # a call less
    if "predict_then" in vars(type(first)):
        first = partial(first.predict_then, _call_of(rest.pop(0)))
    elif type(first) in _COMPUTING:
        after = rest.pop(0) if type(rest[0]) in _NORM_AFTER.values() else None
        then: tuple[Any, ...] = ()
        if rest and first.weight.dtype != FLOAT16:  # which rounds after every layer
            then = _call_of(rest.pop(0))
        first = _computing(first, after, then)
    calls = [_call_of(layer) for layer in rest]
    return partial(_in_turn, first, calls) if calls else first


def sum_of(group: list[Any]) -> Callable[[tuple[Any, ...], Floats, Callable[[], Floats]], Floats]:
    """``f(then, x, shortcut)``: the output of one group of ``stages`` plus that of the short cut, and an activation."""
    first, *rest = group
    after = rest[0] if rest else None
    if (type(first) in _NORM_AFTER and type(after) in (type(None), _NORM_AFTER[type(first)]) and len(rest) < 2
            and first.weight.dtype != FLOAT16 and "predict" not in vars(first)):
        return _convolution_onto(first, after)
    return partial(_added, function_of(group))


def _convolution_onto(layer, after):
    ways: dict[tuple[Any, ...], Any] = {}  # by the activation

    def convolved_onto(then, x, shortcut):
        past = shortcut()
        way = then if past.dtype == layer.weight.dtype else ()
        compute = ways.get(way) or ways.setdefault(way, _computing(layer, after, way))
        return compute(x, past) if way is then else _added(compute, then, x, lambda: past)

    return convolved_onto


def _added(function, then, x, shortcut):
    y, past = function(x), shortcut()
    check_sum(y.shape, past.shape)
    return _in_turn(partial(np.add, y), [then] if then else [], past)


def _call_of(acts):
    return acts.function, *acts.arguments()


def _in_turn(first, calls, x):
    y = first(x)
    for name, *arguments in calls:
        y = in_place(name, y, *arguments)
    return y


def _computing(layer, after, then):
    """``f(x)``, of a convolution ``f(x, past=None)``: a layer, the batch norm after it or None, plus ``past``, and an
    activation."""
    return layer.computing(layer.operands() if after is None else _folding(layer, after), then)


def _folding(layer, after):
    """``f()``: the weight and the bias of ``after(layer(x))``, a convolution and a batch norm, and their keeper:
    w' = w * scale, b' = (b - mean) * scale + beta with scale = gamma / sqrt(var + eps) (Ioffe and Szegedy, 2015, arXiv
    1502.03167).
    """
    mean, var, gamma, beta, bias, weight = (after.running_mean, after.running_var, after.weight, after.bias, layer.bias,
                                            layer.weight)
    last: tuple[Any, ...] = None, (), None  # the weight's stamp, the bytes of all else, and what was made of both

    def folded():
        nonlocal last
        stamp, (before, kept, result) = weight.stamp(), last
        numbers = (mean, var, None if gamma is None else gamma._data, None if beta is None else beta._data,
                   None if bias is None else bias._data)
        now = bytes_of(numbers, kept)
        if now is kept and stamp is not None and stamp == before:
            return result
        # What is made of the weight is kept under the numbers of the others: whoever changes those gets another.
        key = after.eps, now
        product, shift = weight.packed(key, lambda w: _product(w, after.eps, *numbers))
        result = product, shift, remembering_last(
            lambda name, make: weight.packed((key, name), lambda _: make(product)))
        last = stamp, now, result
        return result

    return folded


def _product(w, eps, mean, var, gamma, beta, bias):
    scale = 1 / np.sqrt(var.astype(np.float64) + eps)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale if bias is None else (bias - mean) * scale
    if beta is not None:
        shift += beta
    return (w * scale.reshape(-1, *[1] * (w.ndim - 1))).astype(w.dtype), shift.astype(w.dtype)
