"""Convolution without state."""

from typing import Any

import numpy as np

from convkit.functional.common import contiguous, deliver, optional, run_packed, target_for
from convkit.plan.conv import plan
from convkit.spec.conv import check_conv, check_conv_backward, numpy_padding_mode
from convkit.typing import Floats, Padding, Size


def conv2d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """Convolve a batch of images with a set of kernels (cross-correlation, as in PyTorch).

    Parameters
    ----------
    x : ndarray, shape (N, c_in, H, W) or (c_in, H, W)
        float32 or float64, any memory layout.
    weight : ndarray, shape (c_out, c_in / groups, kh, kw)
        Same dtype as ``x``.
    bias : ndarray, shape (c_out,), optional
        Same dtype as ``x``.
    stride, dilation : int or tuple of 2 ints
        Steps between windows and between the taps of one window, at least 1.
    padding : int, tuple or str
        One int for all sides, one int or ``(lo, hi)`` pair per axis, ``"valid"``, or ``"same"``, which makes
        the output ``ceil(size / stride)`` long with the spare element at the end.
    groups : int
        Splits the channels into groups that do not see each other; divides ``c_in`` and ``c_out``.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds.
    out : ndarray, optional
        Where to put the result; must have its shape and dtype. It may overlap the inputs.

    Returns
    -------
    ndarray, shape (N, c_out, oh, ow) or (c_out, oh, ow)
        ``oh = (H + lo + hi - dilation * (kh - 1) - 1) // stride + 1``, and likewise ``ow``.

    Raises
    ------
    ShapeError
        For a size, shape or geometry without meaning.
    DtypeError
        For anything but float arrays of one dtype, or arguments that are not integers.
    """
    return convolve(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=2)


def conv2d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``conv2d`` (zero padding).

    Parameters
    ----------
    dy : ndarray
        Gradient of the output, of the output's shape and dtype.
    x, weight, stride, padding, dilation, groups
        As in the forward pass.
    needs : tuple of 3 bools
        Which of the three gradients to compute.

    Returns
    -------
    (dx, dw, db)
        Gradients of ``x``, ``weight`` and ``bias``; None where not needed.

    Raises
    ------
    ShapeError, DtypeError
        As ``conv2d``, and if ``dy`` does not fit.
    """
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, rank=2)


def convolve(x, weight, bias, stride, padding, dilation, groups, padding_mode, out=None, *, rank, packed=None):
    """Convolution of any rank. ``packed(key, make)``, if given, keeps what a plan makes of the weight (a layer's
    ``Parameter.packed``)."""
    spec, n, batched = check_conv(x, weight, bias, stride, padding, dilation, groups, out, rank=rank)
    mode = numpy_padding_mode(spec, padding_mode)
    if mode != "constant":  # the padding is made of copies of the input, so it becomes input
        x = np.pad(x, ((0, 0),) * (x.ndim - rank) + spec.padding, mode)
        spec, n, batched = check_conv(x, weight, bias, stride, 0, dilation, groups, out, rank=rank)
    x, weight, bias = contiguous(x, spec.dtype), contiguous(weight, spec.dtype), optional(bias, spec.dtype)
    shape = spec.y_shape(n)
    y = target_for(out, shape if batched else shape[1:], spec.dtype, x, weight, bias)
    if n:
        run_packed(plan(spec).run, x if batched else x[None], weight, bias, y if batched else y[None], packed)
    return deliver(y, out)


def _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, rank):
    (spec, for_dx, for_dw), n, (need_x, need_w, need_b) = check_conv_backward(
        dy, x, weight, stride, padding, dilation, groups, needs, rank=rank)
    dy_n = contiguous(dy, spec.dtype).reshape(spec.y_shape(n))
    dx = dw = db = None
    if need_x:
        dx = np.empty(x.shape, spec.dtype)
        if n:
            plan(for_dx).run(dy_n, contiguous(weight, spec.dtype), dx.reshape(spec.x_shape(n)))
    if need_w:
        dw = np.zeros(spec.weight_shape, spec.dtype)
        if n:
            plan(for_dw).run(dy_n, contiguous(x, spec.dtype).reshape(spec.x_shape(n)), dw)
    if need_b:
        db = bias_gradient(dy_n)
    return dx, dw, db


@np.errstate(all="ignore")
def bias_gradient(dy):
    """Sum over images and positions in float64; NumPy adds in an order that only the shape decides."""
    n, channels = dy.shape[:2]
    return dy.reshape(n, channels, dy[:1, :1].size).sum(axis=(0, 2), dtype=np.float64).astype(dy.dtype)
