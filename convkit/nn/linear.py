"""The fully connected layer, and the layer that does nothing."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.functional.linear import linear_of
from convkit.nn import init
from convkit.nn.computing import Computing
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, array_or_none, memory_for, wants_grad
from convkit.spec import common
from convkit.typing import Backward, Floats


class Linear(Computing):
    """``y = x w' + b`` along the last axis of ``x (..., in_features)``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    rng : numpy.random.Generator, optional
        Source of the first weights: uniform within ``1 / sqrt(in_features)``, as in PyTorch.
    dtype : float16, float32 or float64
    """

    can_skip_dx = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        self.in_features = common.integer("in_features", in_features, 1)
        self.out_features = common.integer("out_features", out_features, 1)
        dtype = common.float_dtype("dtype", dtype)
        bias = common.flag("bias", bias)
        rng = np.random.default_rng() if rng is None else common.generator("rng", rng)
        shape = (self.out_features, self.in_features)
        with memory_for("the weight", shape, dtype):
            self.weight = Parameter(np.empty(shape, dtype))
            self.bias = Parameter(np.empty(self.out_features, dtype)) if bias else None
            init.default_(self.weight, self.bias, rng=rng)

    def computing(self, operands: Callable[[], tuple[Any, ...]], then: tuple[Any, ...]) -> Callable[[Floats], Floats]:
        """``f(x)``: this layer with other operands, and an activation, as in ``functional.linear.linear_of``."""
        return linear_of(operands, then)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        # a weight that the next step will move is not worth packing; the bits are the same
        y = F.linear(x, self.weight._data, array_or_none(self.bias))

        def backward(dy, need_dx=True):
            needs = need_dx, wants_grad(self.weight), wants_grad(self.bias)
            dx, dw, db = F.linear_backward(dy, x, self.weight._data, needs=needs)
            if dw is not None:
                self.weight.add_grad(dw)
            if db is not None:
                self.bias.add_grad(db)
            return dx

        return y, backward

    def macs(self, x_shape: Sequence[int]) -> int:
        return prod(x_shape[:-1]) * self.in_features * self.out_features

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """``y = x``; takes any arguments and ignores them, so that it can stand in for another layer."""

    can_skip_dx = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return x, lambda dy, need_dx=True: dy
