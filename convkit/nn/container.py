"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from convkit.errors import DtypeError, ShapeError
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class Sequential(Module):
    """Layers one after the other, each fed with the output of the one before.

    ``Sequential(a, b)`` names them "0" and "1"; ``Sequential({"conv": a, "act": b})`` (any dict, OrderedDict too)
    gives the names, which are attributes and prefixes of the ``state_dict`` keys. ``net[i]`` is a layer,
    ``net[i:j]`` a Sequential of the same layers under the same names, sharing their parameters.
    """

    can_skip_dx = True

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], dict) else {}
        for name, layer in named.items() or zip(map(str, range(len(layers))), layers, strict=True):
            self._add(name, layer)

    def _add(self, name, layer):
        if not isinstance(layer, Module):
            raise DtypeError(f"layer {name} must be a Module, got {type(layer).__name__}")
        if not name or "." in name or hasattr(self, name):
            raise ShapeError(f"{name!r} cannot name a layer: it is empty, has a dot or is taken")
        setattr(self, name, layer)

    def append(self, layer: Module) -> Self:
        """Add a layer at the end, named by its position; returns the Sequential."""
        self._add(str(len(self)), layer)
        return self

    def predict(self, x: Floats) -> Floats:
        for layer in self:
            x = layer(x)
        return x

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        steps = []
        for layer in self:
            x, step = layer.forward(x)
            steps.append((layer, step))

        def backward(dy, need_dx=True):
            if not steps:
                return dy
            for _, step in reversed(steps[1:]):
                dy = step(dy)
            return backward_of(*steps[0], dy, need_dx)

        return x, backward

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def __getitem__(self, index: int | str | slice) -> Any:
        named = list(self.named_children())
        if isinstance(index, slice):
            return type(self)(dict(named[index]))
        i = common.integer("index", index)
        if not -len(named) <= i < len(named):
            raise IndexError(f"index must be between {-len(named)} and {len(named) - 1}, got {i}")
        return named[i][1]


def backward_of(layer, step, dy, need_dx):
    """``step(dy)``, telling the layer's backward that nobody wants dx, if it can make use of that."""
    if need_dx or not layer.can_skip_dx:
        return step(dy)
    return step(dy, need_dx=False)
