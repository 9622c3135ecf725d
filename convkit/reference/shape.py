"""Changes of shape."""

from collections.abc import Sequence

import numpy as np

from convkit.spec.shape import (
    channel_shuffle_spec,
    flatten_backward_shape,
    flatten_shape,
    pixel_shuffle_spec,
    pixel_unshuffle_spec,
)
from convkit.typing import Floats


def flatten(x: Floats, start_dim: int = 1, end_dim: int = -1) -> Floats:
    """``x`` with the axes ``start_dim`` to ``end_dim`` made one."""
    shape = flatten_shape(x, start_dim, end_dim)
    return x.astype(x.dtype.newbyteorder("=")).reshape(shape)


def flatten_backward(dy: Floats, input_shape: Sequence[int], start_dim: int = 1, end_dim: int = -1) -> Floats:
    """``dy`` in the shape of ``x`` again."""
    shape = flatten_backward_shape(dy, input_shape, start_dim, end_dim)
    return dy.astype(dy.dtype.newbyteorder("=")).reshape(shape)


def pixel_shuffle(x: Floats, upscale_factor: int) -> Floats:
    """``y[..., c, h * r + i, w * r + j] = x[..., (c * r + i) * r + j, h, w]``."""
    return _shuffled(x, *pixel_shuffle_spec(x, upscale_factor))


def pixel_shuffle_backward(dy: Floats, upscale_factor: int) -> Floats:
    """Every element goes back to where it came from."""
    return _unshuffled(dy, *pixel_unshuffle_spec(dy, upscale_factor, "dy"))


def pixel_unshuffle(x: Floats, downscale_factor: int) -> Floats:
    """``y[..., (c * r + i) * r + j, h, w] = x[..., c, h * r + i, w * r + j]``."""
    return _unshuffled(x, *pixel_unshuffle_spec(x, downscale_factor))


def pixel_unshuffle_backward(dy: Floats, downscale_factor: int) -> Floats:
    """Every element goes back to where it came from."""
    return _shuffled(dy, *pixel_shuffle_spec(dy, downscale_factor, "dy"))


def _shuffled(x, r, lead, size, dtype):
    h, w = size
    split = x.astype(dtype).reshape(*lead, r, r, h, w)  # ..., i, j, h, w
    return np.moveaxis(split, (-4, -3), (-3, -1)).reshape(*lead, h * r, w * r)


def _unshuffled(x, r, lead, size, dtype):
    h, w = size
    split = x.astype(dtype).reshape(*lead, h, r, w, r)  # ..., h, i, w, j
    return np.moveaxis(split, (-3, -1), (-4, -3)).reshape(*lead[:-1], lead[-1] * r * r, h, w)


def channel_shuffle(x: Floats, groups: int) -> Floats:
    """``y[:, c * groups + g] = x[:, g * (C / groups) + c]``."""
    spec = channel_shuffle_spec(x, groups)
    return x[:, dealt(spec.channels, spec.groups)].astype(spec.dtype)


def channel_shuffle_backward(dy: Floats, groups: int) -> Floats:
    """Every channel goes back to where it came from."""
    spec = channel_shuffle_spec(dy, groups, "dy")
    dx = np.empty(dy.shape, spec.dtype)
    dx[:, dealt(spec.channels, spec.groups)] = dy
    return dx


def dealt(channels, groups):
    """Which input channel each output channel is."""
    return np.arange(channels).reshape(groups, -1).T.reshape(-1)
