"""Convolution and its gradients as sums over the taps of the window.

    y[n, o, p] = bias[o] + sum over c, k of weight[o, c, k] * x[n, c, p * stride + k * dilation - lo]

with ``x`` read as zero outside its bounds, ``c`` over the channels of ``o``'s group. As in every
deep-learning library the kernel is not flipped (this is cross-correlation). ``y`` is linear in ``x`` and in
``weight``, and the gradients are the transposes of those two maps. A transposed convolution is the transpose with
respect to ``x``, the input gradient, taken for itself; so its own input gradient is the convolution.
"""

from math import prod
from typing import Any

import numpy as np

from convkit.reference.common import deliver, inside, narrow, pad, taps, widen
from convkit.reference.pad import padded, unpadded
from convkit.spec.conv import (
    border_mode,
    check_conv,
    check_conv_backward,
    check_transposed,
    check_transposed_backward,
)
from convkit.typing import Floats, Padding, Size


@np.errstate(all="ignore")
def forward(spec, x, weight, bias=None):
    """``y (n, c_out, *out)`` in float64 from ``x (n, c_in, *size)``."""
    n, g, p = len(x), spec.groups, prod(spec.out_size)
    x = pad(widen(x), spec, spec.out_size)
    w_goc = _by_group(spec, weight)
    y_ngop = np.zeros((n, g, spec.c_out_per_group, p))
    for k, seen in taps(spec, spec.out_size):
        x_ngcp = x[seen].reshape(n, g, spec.c_in_per_group, p)
        y_ngop += w_goc[..., *k] @ x_ngcp
    return _biased(y_ngop.reshape(spec.y_shape(n)), bias)


@np.errstate(all="ignore")
def input_gradient(spec, dy, weight, bias=None):
    """``dx[.., p * stride + k * dilation - lo] += weight[.., k] * dy[.., p]``; plus ``bias`` it is a transposed
    convolution of ``dy``.
    """
    n, g, p = len(dy), spec.groups, prod(spec.out_size)
    dy_ngop = widen(dy).reshape(n, g, spec.c_out_per_group, p)
    w_gco = _by_group(spec, weight).swapaxes(1, 2)
    dx = pad(np.zeros(spec.x_shape(n)), spec, spec.out_size)
    for k, seen in taps(spec, spec.out_size):
        dx[seen] += (w_gco[..., *k] @ dy_ngop).reshape(n, spec.c_in, *spec.out_size)
    return _biased(dx[inside(spec)], bias)


@np.errstate(all="ignore")
def weight_gradient(spec, dy, x):
    """``dw[o, c, k] = sum over n, p of dy[n, o, p] * x[n, c, p * stride + k * dilation - lo]``."""
    n, g, c, o, p = len(x), spec.groups, spec.c_in_per_group, spec.c_out_per_group, prod(spec.out_size)
    x = pad(widen(x), spec, spec.out_size)
    dy_gonp = widen(dy).reshape(n, g, o, p).transpose(1, 2, 0, 3).reshape(g, o, n * p)
    dw = np.zeros((g, o, c, *spec.kernel))
    for k, seen in taps(spec, spec.out_size):
        x_gnpc = x[seen].reshape(n, g, c, p).transpose(1, 0, 3, 2).reshape(g, n * p, c)
        dw[..., *k] = dy_gonp @ x_gnpc
    return dw.reshape(spec.weight_shape)


@np.errstate(all="ignore")
def bias_gradient(_spec, dy):
    """``db[o] = sum over n, p of dy[n, o, p]``, in float64."""
    return widen(dy).sum(axis=(0, *range(2, dy.ndim)))


def _biased(y, bias):
    return y if bias is None else y + widen(bias).reshape(-1, *[1] * (y.ndim - 2))


def _by_group(spec, weight):
    return widen(weight).reshape(spec.groups, spec.c_out_per_group, spec.c_in_per_group, *spec.kernel)


def _conv(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank):
    spec, n, batched = check_conv(x, weight, bias, stride, padding, dilation, groups, out, rank=rank)
    mode, x = border_mode(spec, padding_mode), x.reshape(spec.x_shape(n))
    if mode != "constant":
        x, spec = padded(widen(x), spec.padding, mode), spec.of_padded
    y = narrow(forward(spec, x, weight, bias), spec.dtype)
    return deliver(y if batched else y[0], out)


def _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank):
    spec, n, (need_x, need_w, need_b) = check_conv_backward(
        dy, x, weight, stride, padding, dilation, groups, needs, rank=rank)
    mode, pairs, shape = border_mode(spec, padding_mode), spec.padding, x.shape
    dy, x = dy.reshape(spec.y_shape(n)), x.reshape(spec.x_shape(n))
    if mode != "constant":
        x, spec = padded(widen(x), pairs, mode), spec.of_padded
    dx = dw = db = None
    if need_x:
        dx = input_gradient(spec, dy, weight)
        dx = dx if mode == "constant" else unpadded(dx, pairs, mode)
        dx = narrow(dx, spec.dtype).reshape(shape)
    if need_w:
        dw = narrow(weight_gradient(spec, dy, x), spec.dtype)
    if need_b:
        db = narrow(bias_gradient(spec, dy), spec.dtype)
    return dx, dw, db


def _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank):
    spec, n, batched = check_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out,
                                        rank=rank)
    y = narrow(input_gradient(spec, x.reshape(spec.y_shape(n)), weight, bias), spec.dtype)
    return deliver(y if batched else y[0], out)


def _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank):
    spec, n, (need_x, need_w, need_b) = check_transposed_backward(
        dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=rank)
    dy, x_n = dy.reshape(spec.x_shape(n)), x.reshape(spec.y_shape(n))
    dx = narrow(forward(spec, dy, weight), spec.dtype).reshape(x.shape) if need_x else None
    dw = narrow(weight_gradient(spec, x_n, dy), spec.dtype) if need_w else None
    db = narrow(bias_gradient(spec, dy), spec.dtype) if need_b else None
    return dx, dw, db


def conv1d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """``y[n, o, p] = bias[o] + sum of weight[o, c, k] * x[n, c, p * stride + k * dilation - lo]``.

    Arguments, result and errors are those of ``convkit.functional.conv1d``.
    """
    return _conv(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=1)


def conv1d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv1d(x, weight, bias, ...))``, None where not needed."""
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=1)


def conv2d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """``y[n, o, p] = bias[o] + sum of weight[o, c, k] * x[n, c, p * stride + k * dilation - lo]``.

    Arguments, result and errors are those of ``convkit.functional.conv2d``.
    """
    return _conv(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=2)


def conv2d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv2d(x, weight, bias, ...))``, None where not needed."""
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=2)


def conv3d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """``y[n, o, p] = bias[o] + sum of weight[o, c, k] * x[n, c, p * stride + k * dilation - lo]``.

    Arguments, result and errors are those of ``convkit.functional.conv3d``.
    """
    return _conv(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=3)


def conv3d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv3d(x, weight, bias, ...))``, None where not needed."""
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=3)


def conv_transpose1d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """``y[n, o, p * stride + k * dilation - lo] = bias[o] + sum of weight[c, o, k] * x[n, c, p]``.

    Arguments, result and errors are those of ``convkit.functional.conv_transpose1d``.
    """
    return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=1)


def conv_transpose1d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv_transpose1d(x, weight, bias, ...))``, None where not needed."""
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=1)


def conv_transpose2d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """``y[n, o, p * stride + k * dilation - lo] = bias[o] + sum of weight[c, o, k] * x[n, c, p]``.

    Arguments, result and errors are those of ``convkit.functional.conv_transpose2d``.
    """
    return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=2)


def conv_transpose2d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv_transpose2d(x, weight, bias, ...))``, None where not needed."""
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=2)


def conv_transpose3d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """``y[n, o, p * stride + k * dilation - lo] = bias[o] + sum of weight[c, o, k] * x[n, c, p]``.

    Arguments, result and errors are those of ``convkit.functional.conv_transpose3d``.
    """
    return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=3)


def conv_transpose3d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``sum(dy * conv_transpose3d(x, weight, bias, ...))``, None where not needed."""
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=3)
