"""Layers with a weight that keep what computes their calls."""

from collections.abc import Callable
from typing import Any

from convkit.nn.module import Module
from convkit.nn.parameter import Parameter
from convkit.typing import Floats


class Computing(Module):
    """A layer of a weight and a bias, or None, whose subclass says what computes it with any such operands."""

    weight: Parameter
    bias: Parameter | None

    def operands(self) -> Callable[[], tuple[Any, ...]]:
        """``f()``: the weight, the bias and the weight's keeper, good until an attribute changes."""
        weight, bias, packed = self.weight, self.bias, self.weight.packed
        if bias is None:
            return lambda: (weight._data, None, packed)
        return lambda: (weight._data, bias._data, packed)

    def computing(self, operands: Callable[[], tuple[Any, ...]], then: tuple[Any, ...]) -> Callable[..., Floats]:
        """``f(x)``: this layer with what ``operands()`` gives, and then an activation: its name and its arguments, or
        ``()``."""
        raise NotImplementedError(f"{type(self).__name__} does not define computing")

    def predict(self, x: Floats) -> Floats:
        state = vars(self)
        compute = state.get("_compute")
        if compute is None:
            compute = state["_compute"] = self.computing(self.operands(), ())
        return compute(x)
