"""What Sequential does by itself when it trains, so that fewer passes go over memory: every number stays the same.

ReLU and max pooling change places, because both keep the order of numbers: behind the pooling there is less to compute,
and the large array need not be kept. ReLU after a batch norm is computed in the norm's own passes. Any other activation
whose gradient comes from its output is computed where its input lies, and gradients where those of the outputs lie, if
nobody else holds those. As in ``fusion``, only layers of exactly these types take part, and none whose ``forward`` was
replaced.
"""

from collections.abc import Iterable
from typing import Any

from convkit import functional as F
from convkit.functional.activation import in_place, in_place_backward
from convkit.nn import activation, conv, linear, norm, pool
from convkit.nn.module import Module
from convkit.typing import Backward, Floats

_POOLS = {pool.MaxPool1d, pool.MaxPool2d, pool.MaxPool3d, pool.MinPool1d, pool.MinPool2d, pool.MinPool3d}
_NORMS = {norm.BatchNorm1d, norm.BatchNorm2d, norm.BatchNorm3d}
# Layers whose output and dx, like those of the pools above, are new arrays, of which they keep none for themselves.
_FRESH = {conv.Conv1d, conv.Conv2d, conv.Conv3d, conv.ConvTranspose1d, conv.ConvTranspose2d, conv.ConvTranspose3d,
          linear.Linear, pool.AvgPool1d, pool.AvgPool2d, pool.AvgPool3d, *_NORMS}
_RELU = {activation.ReLU}
_FROM_OUTPUT = {activation.ReLU, activation.Sigmoid, activation.Tanh}


class InPlace:
    """An activation over its input, its gradient over that of its output, or one of the two."""

    can_skip_dx = False

    def __init__(self, layer: Any, over_x: bool, over_dy: bool) -> None:
        self.layer, self.over_x, self.over_dy = layer, over_x, over_dy

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        name = self.layer.function
        y = in_place(name, x) if self.over_x else self.layer.predict(x)
        if self.over_dy:
            return y, lambda dy: in_place_backward(name, dy, y)
        backward = getattr(F, f"{name}_backward")
        return y, lambda dy: backward(dy, y)


class Normed:
    """A batch norm, with the ReLU that follows it in the same passes, its gradient over that of its output or not."""

    can_skip_dx = False

    def __init__(self, layer: Any, relu: bool, over_dy: bool) -> None:
        self.layer, self.relu, self.over_dy = layer, relu, over_dy

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return self.layer.forward_over(x, self.relu, self.over_dy)


def passes(layers: Iterable[Module]) -> list[Any]:
    """What takes the place of the layers, in its order: each has ``forward`` and ``can_skip_dx`` as layers have."""
    ordered: list[Any] = []
    for layer in layers:
        if _pools(layer) and ordered and _is_one_of(_RELU, ordered[-1]):
            ordered.insert(-1, layer)
        else:
            ordered.append(layer)
    result: list[Any] = []
    for before, layer, after in zip([None, *ordered], ordered, [*ordered[1:], None], strict=False):
        over_dy = _is_fresh(after) or _is_one_of(_FROM_OUTPUT, after)
        if _is_one_of(_NORMS, layer):
            result.append(Normed(layer, False, over_dy))
        elif _is_one_of(_RELU, layer) and _is_one_of(_NORMS, before):
            result[-1] = Normed(before, True, over_dy)
        elif _is_one_of(_FROM_OUTPUT, layer) and (_is_fresh(before) or over_dy):
            result.append(InPlace(layer, _is_fresh(before), over_dy))
        else:
            result.append(layer)
    return result


def _is_fresh(layer):
    return _is_one_of(_FRESH, layer) or _pools(layer)


def _pools(layer):
    return _is_one_of(_POOLS, layer) and not layer.return_indices


def _is_one_of(types, layer):
    return type(layer) in types and "forward" not in vars(layer)
