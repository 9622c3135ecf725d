"""Layers that only change the shape."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class Flatten(Module):
    """Makes the axes ``start_dim`` to ``end_dim`` one; by default all but the batch axis."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = common.integer("start_dim", start_dim)
        self.end_dim = common.integer("end_dim", end_dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.flatten(x, self.start_dim, self.end_dim)
        shape = x.shape
        return y, lambda dy: dy.reshape(shape)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
