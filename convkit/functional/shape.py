"""Changes of shape: views, windows of pixels that become channels, and copies of whole channels."""

from collections.abc import Sequence

import numpy as np

from convkit.functional.common import contiguous, in_float32
from convkit.plan.calls import empty, remembered
from convkit.plan.fold import fold_plan, unfold_plan
from convkit.plan.shape import plan
from convkit.spec.shape import (
    channel_shuffle_spec,
    channel_unshuffle_spec,
    flatten_backward_shape,
    flatten_shape,
    shuffle_window,
    unshuffle_window,
)
from convkit.typing import Floats

_flatten_shape, _flatten_backward_shape = remembered(flatten_shape), remembered(flatten_backward_shape)
_channel_shuffle_spec, _channel_unshuffle_spec = remembered(channel_shuffle_spec), remembered(channel_unshuffle_spec)
_shuffle_window, _unshuffle_window = remembered(shuffle_window), remembered(unshuffle_window)


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
        A view where the memory layout allows and the byte order is native, else a copy.
    """
    shape = _flatten_shape(x, start_dim, end_dim)  # which refuses what has no `reshape`
    return _reshaped(x, shape)


def flatten_backward(dy: Floats, input_shape: Sequence[int], start_dim: int = 1, end_dim: int = -1) -> Floats:
    """Gradient of ``flatten``: ``dy`` in the shape of ``x`` again.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    input_shape : sequence of int
        ``x.shape``.
    start_dim, end_dim : int
        As in the forward pass.

    Returns
    -------
    ndarray
        A view of ``dy`` where possible.

    Raises
    ------
    ShapeError
        If ``dy`` does not have the shape of the output.
    """
    shape = _flatten_backward_shape(dy, input_shape, start_dim, end_dim)
    return _reshaped(dy, shape)


def _reshaped(x, shape):
    if type(x) is not np.ndarray or not x.dtype.isnative:
        x = np.asarray(x, x.dtype.newbyteorder("="))
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
    return _shuffle(*_shuffle_window(x, upscale_factor), x)


def pixel_shuffle_backward(dy: Floats, upscale_factor: int) -> Floats:
    """Gradient of ``pixel_shuffle``: its inverse, since it only moves elements."""
    return _unshuffle(*_unshuffle_window(dy, upscale_factor, "dy"), dy)


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
    return _unshuffle(*_unshuffle_window(x, downscale_factor), x)


def pixel_unshuffle_backward(dy: Floats, downscale_factor: int) -> Floats:
    """Gradient of ``pixel_unshuffle``: its inverse, since it only moves elements."""
    return _shuffle(*_shuffle_window(dy, downscale_factor, "dy"), dy)


@in_float32
def _shuffle(spec, lead, x):
    y = empty((*lead, *spec.size), spec.dtype)
    if y.size:
        columns = contiguous(x, spec.dtype).reshape(-1, spec.taps, *spec.out_size)
        fold_plan(spec).run(columns, y.reshape(-1, *spec.size))
    return y


@in_float32
def _unshuffle(spec, lead, x):
    y = empty((*lead[:-1], lead[-1] * spec.taps, *spec.out_size), spec.dtype)
    if y.size:
        image = contiguous(x, spec.dtype).reshape(-1, *spec.size)
        unfold_plan(spec).run(image, y.reshape(-1, spec.taps, *spec.out_size))
    return y


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
    return _deal(_channel_shuffle_spec(x, groups), x)


def channel_shuffle_backward(dy: Floats, groups: int) -> Floats:
    """Gradient of ``channel_shuffle``: its inverse, since it only moves channels."""
    return _deal(_channel_unshuffle_spec(dy, groups), dy)


@in_float32
def _deal(spec, x):
    y = empty(x.shape, spec.dtype)
    if y.size:
        channels = (-1, spec.channels, spec.inner)
        plan(spec).run(contiguous(x, spec.dtype).reshape(channels), y.reshape(channels))
    return y
