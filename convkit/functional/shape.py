"""Changes of shape: views, and strided copies, which NumPy's own C does at the speed of memory."""

import numpy as np

from convkit.plan.calls import empty, remembered
from convkit.spec.shape import channel_shuffle_spec, flatten_shape, pixel_shuffle_spec, pixel_unshuffle_spec
from convkit.typing import Floats

_flatten_shape = remembered(flatten_shape)


def flatten(x: Floats, start_dim: int = 1, end_dim: int = -1) -> Floats:
    """Make the axes ``start_dim`` to ``end_dim`` one.

    Parameters
    ----------
    x : ndarray
        Any dtype.
    start_dim, end_dim : int
        First and last of the axes, negative ones counted from the end.

    Returns
    -------
    ndarray
        A view where the memory layout allows, else a copy.
    """
    shape = _flatten_shape(x, start_dim, end_dim)  # which refuses what has no `reshape`
    return x.reshape(shape)


def pixel_shuffle(x: Floats, upscale_factor: int) -> Floats:
    """Make each group of ``r * r`` channels the pixels of one that is ``r`` times as high and wide.

    ``y[..., c, h * r + i, w * r + j] = x[..., (c * r + i) * r + j, h, w]`` (Shi et al., 2016, arXiv 1609.05158).

    Parameters
    ----------
    x : ndarray, shape (..., C * r * r, H, W)
        float16, float32 or float64.
    upscale_factor : int
        r, at least 1.

    Returns
    -------
    ndarray, shape (..., C, H * r, W * r)

    Raises
    ------
    ShapeError, DtypeError
        If the channels cannot be split so, or ``x`` is no array of floats.
    """
    return _shuffle(x, *pixel_shuffle_spec(x, upscale_factor))


def pixel_shuffle_backward(dy: Floats, upscale_factor: int) -> Floats:
    """Gradient of ``pixel_shuffle``: its inverse, since it only moves elements."""
    return _unshuffle(dy, *pixel_unshuffle_spec(dy, upscale_factor, "dy"))


def pixel_unshuffle(x: Floats, downscale_factor: int) -> Floats:
    """Make each block of ``r * r`` pixels as many channels: the inverse of ``pixel_shuffle``.

    Parameters
    ----------
    x : ndarray, shape (..., C, H * r, W * r)
        float16, float32 or float64.
    downscale_factor : int
        r, at least 1.

    Returns
    -------
    ndarray, shape (..., C * r * r, H, W)

    Raises
    ------
    ShapeError, DtypeError
        If height and width are no multiples of r, or ``x`` is no array of floats.
    """
    return _unshuffle(x, *pixel_unshuffle_spec(x, downscale_factor))


def pixel_unshuffle_backward(dy: Floats, downscale_factor: int) -> Floats:
    """Gradient of ``pixel_unshuffle``: its inverse, since it only moves elements."""
    return _shuffle(dy, *pixel_shuffle_spec(dy, downscale_factor, "dy"))


def _shuffle(x, r, lead, size, dtype):
    h, w = size
    y, split = empty((*lead, h * r, w * r), dtype), x.reshape(*lead, r, r, h, w)
    for i, j in np.ndindex(r, r):  # one long strided copy each, not many of r elements
        y[..., i::r, j::r] = split[..., i, j, :, :]
    return y


def _unshuffle(x, r, lead, size, dtype):
    y = empty((*lead, r, r, *size), dtype)
    for i, j in np.ndindex(r, r):
        y[..., i, j, :, :] = x[..., i::r, j::r]
    return y.reshape(*lead[:-1], lead[-1] * r * r, *size)


def channel_shuffle(x: Floats, groups: int) -> Floats:
    """Deal the channels of each group out among all groups: ``y[:, c * groups + g] = x[:, g * (C / groups) + c]``.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...)
        float16, float32 or float64, at least three axes.
    groups : int
        Divides C (ShuffleNet: Zhang et al., 2018, arXiv 1707.01083).

    Returns
    -------
    ndarray
        Same shape and dtype.

    Raises
    ------
    ShapeError, DtypeError
        If ``groups`` does not divide the channels, or ``x`` is no array of floats.
    """
    groups, dtype = channel_shuffle_spec(x, groups)
    return _deal(x, groups, dtype)


def channel_shuffle_backward(dy: Floats, groups: int) -> Floats:
    """Gradient of ``channel_shuffle``: its inverse, since it only moves channels."""
    groups, dtype = channel_shuffle_spec(dy, groups, "dy")
    return _deal(dy, dy.shape[1] // groups, dtype)


def _deal(x, groups, dtype):
    n, c, *size = x.shape
    y = empty(x.shape, dtype)
    if y.size:
        y.reshape(n, c // groups, groups, *size)[...] = x.reshape(n, groups, c // groups, *size).swapaxes(1, 2)
    return y
