"""Layers that only move elements."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class Flatten(Module):
    """Makes the axes ``start_dim`` to ``end_dim`` one; by default all but the batch axis."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = common.integer("start_dim", start_dim)
        self.end_dim = common.integer("end_dim", end_dim)

    def predict(self, x: Floats) -> Floats:
        return F.flatten(x, self.start_dim, self.end_dim)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, axes = self.predict(x), (self.start_dim, self.end_dim)
        shape = x.shape
        return y, lambda dy: F.flatten_backward(dy, shape, *axes)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class PixelShuffle(Module):
    """Makes ``upscale_factor ** 2`` channels one that is ``upscale_factor`` times as high and wide."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = common.integer("upscale_factor", upscale_factor, 1)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return F.pixel_shuffle(x, self.upscale_factor), lambda dy: F.pixel_shuffle_backward(dy, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """The inverse of PixelShuffle: blocks of ``downscale_factor ** 2`` pixels become channels."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = common.integer("downscale_factor", downscale_factor, 1)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = F.pixel_unshuffle(x, self.downscale_factor)
        return y, lambda dy: F.pixel_unshuffle_backward(dy, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Deals the channels of each of ``groups`` groups out among all groups."""

    def __init__(self, groups: int) -> None:
        self.groups = common.integer("groups", groups, 1)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        return F.channel_shuffle(x, self.groups), lambda dy: F.channel_shuffle_backward(dy, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
