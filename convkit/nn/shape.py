"""Layers that only change the shape."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common


class Flatten(Module):
    """Makes the axes ``start_dim`` to ``end_dim`` one; by default all but the batch axis."""

    def __init__(self, start_dim=1, end_dim=-1):
        self.start_dim = common.integer("start_dim", start_dim)
        self.end_dim = common.integer("end_dim", end_dim)

    def forward(self, x):
        y = F.flatten(x, self.start_dim, self.end_dim)
        shape = x.shape
        return y, lambda dy: dy.reshape(shape)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
