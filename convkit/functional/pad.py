"""Padding without state."""

from collections.abc import Sequence

import numpy as np

from convkit.functional.common import as_they_are, contiguous, in_float32
from convkit.plan.calls import empty, planned, remembered
from convkit.plan.pad import backward_plan, plan
from convkit.spec.pad import check_pad, check_pad_backward, pad_spec, unpad_spec
from convkit.typing import Floats

_pad_spec, _unpad_spec = remembered(pad_spec), remembered(unpad_spec)


def pad(x: Floats, padding: Sequence[int], mode: str = "constant", value: float = 0.0) -> Floats:
    """Put a border around an array, as ``torch.nn.functional.pad`` does.

    Parameters
    ----------
    x : ndarray
        float16, float32 or float64, any memory layout. ``(N, C, *size)`` or ``(C, *size)`` unless the mode is
        "constant".
    padding : sequence of int
        ``(lo, hi)`` of the last axis, then ``(lo, hi)`` of the one before, and so on: ``(left, right, top, bottom)``.
        With "constant", any number of axes, and negative numbers crop; otherwise the 1 to 3 spatial axes, from 0 on.
    mode : {"constant", "reflect", "replicate", "circular"}
        What the border of ``0 1 2 3`` holds: ``value``; ``2 1 | 0 1 2 3 | 2 1`` without the edge itself (as
        ``numpy.pad``'s "reflect"); ``0 0 | 0 1 2 3 | 3 3``; ``2 3 | 0 1 2 3 | 0 1``.
    value : float
        For mode "constant".

    Returns
    -------
    ndarray

    Raises
    ------
    ShapeError
        For padding that the mode cannot fill ("reflect" needs more elements than padding, "circular" as many) or
        that crops more than there is.
    DtypeError
        For anything but a float array and integers.
    """
    return _padding(x, padding, mode, value)(x, value)


def pad_backward(dy: Floats, padding: Sequence[int], mode: str = "constant") -> Floats:
    """Gradient of ``pad``: each element's goes to the element that it is a copy of.

    Parameters
    ----------
    dy : ndarray
        Gradient of the padded array.
    padding, mode
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        As ``pad``.
    """
    return unpadded(dy, check_pad_backward(dy, padding, mode), mode)


@planned
def _padding(x, padding, mode, value):
    """What computes such calls; the value comes again, because the sign of a zero makes no other call."""
    pairs = check_pad(x, padding, mode, value)
    spec, planes = pad_spec(x, pairs, mode)
    if not as_they_are(spec.dtype, x) or 0 in spec.out_size:
        return lambda x, value: padded(x, pairs, mode, value)
    run, dtype = plan(spec).run, spec.dtype
    with np.errstate(over="ignore"):
        fill = float(dtype.type(value))
    shape = (*x.shape[:x.ndim - len(spec.size)], *spec.out_size)
    source, target = (planes, *spec.size), (planes, *spec.out_size)

    def call(x, value):
        y = empty(shape, dtype)
        run(x.reshape(source), fill if value else value, y.reshape(target))
        return y

    return call


@np.errstate(over="ignore")  # a value that float16 cannot hold
def padded(x, pairs, mode, value=0.0):
    """``x`` with one checked ``(lo, hi)`` for each of its last axes."""
    spec, planes = _pad_spec(x, pairs, mode)
    return _run(spec, planes, x, float(spec.dtype.type(value)))


@in_float32
def _run(spec, planes, x, value):
    y = empty((*x.shape[:x.ndim - len(spec.size)], *spec.out_size), spec.dtype)
    if y.size:
        x = contiguous(x, spec.dtype).reshape(planes, *spec.size)
        plan(spec).run(x, value, y.reshape(planes, *spec.out_size))
    return y


def unpadded(dy, pairs, mode):
    """Gradient of ``padded``."""
    if mode == "constant":
        return padded(dy, [(-lo, -hi) for lo, hi in pairs], mode)
    return _run_backward(*_unpad_spec(dy, tuple(pairs), mode), dy)


@in_float32
def _run_backward(spec, planes, dy):
    dx = empty((*dy.shape[:dy.ndim - len(spec.size)], *spec.size), spec.dtype)
    if dx.size:
        dy = contiguous(dy, spec.dtype).reshape(planes, *spec.out_size)
        backward_plan(spec).run(dy, dx.reshape(planes, *spec.size))
    return dx
