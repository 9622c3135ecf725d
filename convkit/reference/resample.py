"""Resampling: along each axis, an output element lies between two neighbours of the input.

``lower`` and ``upper`` are their numbers and ``t`` how far the place is from the first to the second: ``y = (1 - t)
x[lower] + t x[upper]``, and a neighbour of weight 0 is not looked at. Nearest neighbour is ``t = 0``. Sizes are whole
numbers, so places that they decide are computed in whole numbers; a factor that the user gave is a float64.
"""

from collections.abc import Sequence

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.resample import resample_backward_spec, resample_spec
from convkit.typing import Floats, Size


def interpolate(x: Floats, size: Size | None = None, scale_factor: float | Sequence[float] | None = None,
                mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None) -> Floats:
    """Each axis resampled after the other."""
    spec, _ = resample_spec(x.shape, x.dtype, size, scale_factor, mode, align_corners, recompute_scale_factor)
    return narrow(resampled(spec, x), spec.dtype)


def interpolate_backward(dy: Floats, input_shape: Sequence[int], size: Size | None = None,
                         scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                         align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> Floats:
    """Each element of ``dy`` goes back to its neighbours, with their weights."""
    spec, _ = resample_backward_spec(dy, input_shape, size, scale_factor, mode, align_corners, recompute_scale_factor)
    return narrow(gradient(spec, dy), spec.dtype)


@np.errstate(all="ignore")
def resampled(spec, x):
    """``x (..., *size)`` read at the places of the output, in float64."""
    y = widen(x)
    for axis in range(spec.rank):
        where = axis - spec.rank
        lower, upper, t = neighbours(spec, axis)
        t = t.reshape(-1, *(1,) * (spec.rank - 1 - axis))
        first = y.take(lower, where)
        y = np.where(t == 0, first, (1 - t) * first + t * y.take(upper, where))
    return y


@np.errstate(all="ignore")
def gradient(spec, dy):
    """The adjoint: ``dy (..., *out_size)`` spread over the input, in float64."""
    dx = widen(dy)
    for axis in range(spec.rank):
        where = axis - spec.rank
        lower, upper, t = neighbours(spec, axis)
        dy = np.moveaxis(dx, where, 0)
        t = t.reshape(-1, *(1,) * (dy.ndim - 1))
        dx = np.zeros((spec.size[axis], *dy.shape[1:]))
        np.add.at(dx, lower, np.where(t == 0, dy, (1 - t) * dy))
        np.add.at(dx, upper, np.where(t == 0, 0, t * dy))
        dx = np.moveaxis(dx, 0, where)
    return dx


def neighbours(spec, axis):
    """``lower``, ``upper`` and ``t`` for every output element along one axis."""
    size, out, scale = spec.size[axis], spec.out_size[axis], spec.scale[axis]
    p = np.arange(out)
    if spec.kind == "linear":
        return _linear_neighbours(p, size, out, scale, spec.align_corners)
    half = spec.kind == "nearest-exact"  # whether pixels are areas, as in the linear modes, or points
    if scale is None or (not half and out in (size, 2 * size)):  # as PyTorch does in 2-d
        lower = (2 * p + half) * size // (2 * out)
    else:
        lower = np.floor((p + 0.5 * half) * (1 / scale)).astype(np.int64)
    lower = np.minimum(lower, size - 1)
    return lower, lower, np.zeros(out)


def _linear_neighbours(p, size, out, scale, align_corners):
    if size == out:
        return p, p, np.zeros(out)
    if scale is not None and not align_corners:
        place = np.clip((p + 0.5) * (1 / scale) - 0.5, 0, size - 1)
        lower = place.astype(np.int64)
        t = place - lower
    else:
        if align_corners:  # the outermost pixels of both lie on each other: p (size - 1) / (out - 1)
            above, below = p * (size - 1), max(out - 1, 1)
        else:  # their borders do: (p + 1/2) size / out - 1/2
            above, below = np.maximum((2 * p + 1) * size - out, 0), 2 * out
        lower, t = above // below, above % below / below
    upper = np.minimum(lower + 1, size - 1)
    return lower, upper, np.where(upper == lower, 0.0, t)
