"""Layers of layers: one after the other, side by side, or beside a short cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial, reduce
from itertools import accumulate
from typing import Any, Self

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.nn.changes import kept
from convkit.nn.fusion import function_of, stages, sum_of
from convkit.nn.linear import Identity
from convkit.nn.module import Module
from convkit.nn.passes import passes
from convkit.spec import common
from convkit.spec.common import check_sum
from convkit.spec.shape import check_joined
from convkit.typing import Backward, Floats


class Sequential(Module):
    """Layers one after the other, each fed with the output of the one before.

    ``Sequential(a, b)`` names them "0" and "1"; ``Sequential({"conv": a, "act": b})`` (any dict, OrderedDict too)
    gives the names, which are attributes and prefixes of the ``state_dict`` keys. ``net[i]`` is a layer,
    ``net[i:j]`` a Sequential of the same layers under the same names, sharing their parameters.

    In eval mode ``net(x)`` folds a batch norm into the convolution before it and computes activations where their input
    lies; ``net.stages()`` shows what is computed together. ``net.forward(x)`` computes ReLU behind the max pooling that
    follows it or together with the batch norm before it, and activations where their input lies; the numbers are those
    of the layers one after the other.
    """

    can_skip_dx = True

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        _add_all(self, layers)

    def append(self, layer: Module) -> Self:
        """Add a layer at the end, named by its position; returns the Sequential."""
        _add(self, str(len(self)), layer)
        return self

    def predict(self, x: Floats) -> Floats:
        for function in kept(self, "functions", self._make_functions):
            x = function(x)
        return x

    def _make_functions(self):
        return [function_of(group) for group in self.stages()]

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        steps = []
        for each in self._passes():
            x, step = each.forward(x)
            steps.append((each, step))

        def backward(dy, need_dx=True):
            if not steps:
                return dy
            for _, step in reversed(steps[1:]):
                dy = step(dy)
            return backward_of(*steps[0], dy, need_dx)

        return x, backward

    def _passes(self):
        return kept(self, "passes", lambda: passes(self))

    def stages(self) -> list[list[Module]]:
        """The layers in the groups that ``net(x)`` computes together: each by itself in training mode."""
        return [[layer] for layer in self] if self.training else stages(self)

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def __getitem__(self, index: int | slice) -> Any:
        named = list(self.named_children())
        if isinstance(index, slice):
            return type(self)(dict(named[index]))
        i = common.integer("index", index)
        if not -len(named) <= i < len(named):
            raise IndexError(f"index must be between {-len(named)} and {len(named) - 1}, got {i}")
        return named[i][1]


class Concat(Module):
    """Branches side by side: all get ``x``, and their outputs are joined along ``axis``.

    ``Concat(a, b)`` names the branches "0" and "1", ``Concat({"left": a, "right": b})`` as the dict says. Identity()
    passes ``x`` itself on.

    Parameters
    ----------
    *branches : Module, or one dict of them
        At least one.
    axis : int
        The axis to join along; 1 is that of the channels of a batch.
    """

    can_skip_dx = True

    def __init__(self, *branches: Module | Mapping[str, Module], axis: int = 1) -> None:
        self.axis = common.integer("axis", axis)
        _add_all(self, branches)
        if not any(self.named_children()):
            raise ShapeError("Concat needs at least 1 branch, got none")

    def predict(self, x: Floats) -> Floats:
        return self._join([branch(x) for _, branch in self.named_children()])[0]

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        branches = [branch for _, branch in self.named_children()]
        ys, steps = zip(*(branch.forward(x) for branch in branches), strict=True)
        y, axis = self._join(ys)
        ends = list(accumulate(part.shape[axis] for part in ys))

        def backward(dy, need_dx=True):
            parts = np.split(dy, ends[:-1], axis)
            return total(backward_of(branch, step, part, need_dx)
                         for branch, step, part in zip(branches, steps, parts, strict=True))

        return y, backward

    def _join(self, ys):
        axis = check_joined("branch", ys, self.axis)
        return np.concatenate(ys, axis), axis


class Residual(Module):
    """``y = block(x) + shortcut(x)``, or ``block(x) + x`` (He et al., 2016, arXiv 1512.03385).

    Parameters
    ----------
    block : Module
    shortcut : Module, optional
        Gives its output the shape that the block's has, such as a 1x1 convolution.

    When it predicts, a convolution at the end of the block (with its batch norm, in eval mode) adds the short cut to
    what its tasks have just written; an activation after the block in a ``Sequential`` follows there, too.
    """

    can_skip_dx = True
    block: Module
    shortcut: Module

    def __init__(self, block: Module, shortcut: Module | None = None) -> None:
        _add(self, "block", block)
        _add(self, "shortcut", Identity() if shortcut is None else shortcut)

    def predict(self, x: Floats) -> Floats:
        return self.predict_then((), x)

    def predict_then(self, then: tuple[Any, ...], x: Floats) -> Floats:
        """The output after an activation, given by its name and arguments; ``()`` is none."""
        *functions, last = kept(self, "functions", self._make_functions)
        shortcut = partial(self.shortcut, x)
        for function in functions:
            x = function(x)
        return last(then, x, shortcut)

    def _make_functions(self):
        parts = type(self.block) is Sequential and "predict" not in vars(self.block)
        *groups, last = (self.block.stages() if parts else []) or [[self.block]]
        return [*map(function_of, groups), sum_of(last)]

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, through = self.block.forward(x)
        past, beside = self.shortcut.forward(x)

        def backward(dy, need_dx=True):
            return total((backward_of(self.block, through, dy, need_dx),
                          backward_of(self.shortcut, beside, dy, need_dx)))

        check_sum(y.shape, past.shape)
        return y + past, backward


def total(gradients):
    """The sum of the gradients that several branches give, or None where one that nobody wants was skipped."""
    gradients = list(gradients)
    if any(dx is None for dx in gradients):
        return None
    return gradients[0] if len(gradients) == 1 else reduce(np.add, gradients)


def _add_all(module, layers):
    """The layers as children, named by a dict or by their positions."""
    named = layers[0] if len(layers) == 1 and isinstance(layers[0], dict) else {}
    for name, layer in named.items() or zip(map(str, range(len(layers))), layers, strict=True):
        _add(module, name, layer)


def _add(module, name, layer):
    if not isinstance(layer, Module):
        raise DtypeError(f"layer {name} must be a Module, got {type(layer).__name__}")
    if not name or "." in name or hasattr(module, name):
        raise ShapeError(f"{name!r} cannot name a layer: it is empty, has a dot or is taken")
    setattr(module, name, layer)


def backward_of(layer, step, dy, need_dx):
    """``step(dy)``, telling the layer's backward that nobody wants dx, if it can make use of that."""
    if need_dx or not layer.can_skip_dx:
        return step(dy)
    return step(dy, need_dx=False)
