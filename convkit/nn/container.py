"""Layers of layers: one after the other, side by side, or beside a short cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial, reduce
from typing import Any, Self

import numpy as np

from convkit import functional as F
from convkit.errors import DtypeError, ShapeError
from convkit.nn.changes import kept
from convkit.nn.fusion import function_of, stages, sum_of
from convkit.nn.linear import Identity
from convkit.nn.module import Module, backward_of, learns
from convkit.nn.passes import passes
from convkit.spec import common
from convkit.spec.common import check_sum
from convkit.typing import Backward, Floats


class _Layers(Module):
    """What a list of layers can do; their order is that of the names."""

    def append(self, layer: Module) -> Self:
        """Add a layer at the end, named by its position; returns the list."""
        _add(self, str(len(self)), layer)
        return self

    def extend(self, layers: Iterable[Module]) -> Self:
        """Add layers at the end; returns the list."""
        for layer in layers:
            self.append(layer)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.named_children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self.named_children())[index])
        return getattr(self, self._name(index))

    def __setitem__(self, index: int, layer: Module) -> None:
        name = self._name(index)
        _check_layer(name, layer)
        setattr(self, name, layer)

    def _name(self, index):
        names = [name for name, _ in self.named_children()]
        i = common.integer("index", index)
        if not -len(names) <= i < len(names):
            raise IndexError(f"index must be between {-len(names)} and {len(names) - 1}, got {i}")
        return names[i]


class Sequential(_Layers):
    """Layers one after the other, each fed with the output of the one before.

    ``Sequential(a, b)`` names them "0" and "1"; ``Sequential({"conv": a, "act": b})`` (any dict, OrderedDict too)
    gives the names, which are attributes and prefixes of the ``state_dict`` keys. ``net[i]`` is a layer,
    ``net[i] = layer`` puts another in its place, ``net[i:j]`` is a Sequential of the same layers under the same names,
    sharing their parameters.

    In eval mode ``net(x)`` folds a batch norm into the convolution before it and computes activations where their input
    lies; ``net.stages()`` shows what is computed together. ``net.forward(x)`` computes ReLU behind the max pooling that
    follows it or together with the batch norm before it, and activations where their input lies; the numbers are those
    of the layers one after the other.
    """

    can_skip_dx = True

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        _add_all(self, layers)

    def _of(self, named):
        return type(self)(dict(named))

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
            # before the first layer that learns nobody wants a gradient but the caller
            first = 0 if need_dx else next((i for i, (layer, _) in enumerate(steps) if learns(layer)), len(steps))
            for _, step in reversed(steps[first + 1:]):
                dy = step(dy)
            return backward_of(*steps[first], dy, need_dx) if steps[first:] else dy if need_dx else None

        return x, backward

    def _passes(self):
        return kept(self, "passes", lambda: passes(self))

    def stages(self) -> list[list[Module]]:
        """The layers in the groups that ``net(x)`` computes together: each by itself in training mode."""
        return [[layer] for layer in self] if self.training else stages(self)


class ModuleList(_Layers):
    """Layers in a list, for a layer of your own whose ``forward`` says what happens between them.

    They are found there by ``parameters``, ``state_dict`` ("0.weight", ...), ``train`` and ``eval``; in a plain list
    they would not be. It has ``layers[i]``, ``layers[i:j]``, ``layers[i] = layer``, ``len``, iteration, ``append``,
    ``extend``.

    Parameters
    ----------
    layers : iterable of Module
    """

    def __init__(self, layers: Iterable[Module] = ()) -> None:
        if not isinstance(layers, Iterable):
            raise DtypeError(f"layers must be a list of Modules, got {type(layers).__name__}")
        self.extend(layers)

    def _of(self, named):
        return type(self)([layer for _, layer in named])


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
        return F.concat(*[branch(x) for _, branch in self.named_children()], axis=self.axis)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        branches = [branch for _, branch in self.named_children()]
        ys, steps = zip(*(branch.forward(x) for branch in branches), strict=True)
        y, axis = F.concat(*ys, axis=self.axis), self.axis
        sizes = tuple(part.shape[axis] for part in ys)

        def backward(dy, need_dx=True):
            parts = F.concat_backward(dy, sizes, axis)
            return total(backward_of(branch, step, part, need_dx)
                         for branch, step, part in zip(branches, steps, parts, strict=True))

        return y, backward


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
        return F.add(y, past) if y.dtype == past.dtype else y + past, backward


def total(gradients):
    """The sum of the gradients that several branches give, or None where one that nobody wants was skipped."""
    gradients = list(gradients)
    if any(dx is None for dx in gradients):
        return None
    return gradients[0] if len(gradients) == 1 else reduce(np.add, gradients)


def _add_all(module, layers):
    """The layers as children, named by a dict or by their positions."""
    by_name = len(layers) == 1 and isinstance(layers[0], dict)
    for name, layer in layers[0].items() if by_name else zip(map(str, range(len(layers))), layers, strict=True):
        _add(module, name, layer)


def _check_layer(name, layer):
    if not isinstance(layer, Module):
        raise DtypeError(f"layer {name} must be a Module, got {type(layer).__name__}")


def _add(module, name, layer):
    _check_layer(name, layer)
    if not isinstance(name, str):
        raise DtypeError(f"the name of a layer must be a string, got {common.shown(name)}")
    if not name or "." in name or hasattr(module, name):
        raise ShapeError(f"{name!r} cannot name a layer: it is empty, has a dot or is taken")
    setattr(module, name, layer)
