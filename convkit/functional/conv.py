"""Convolution and transposed convolution without state."""

from functools import partial
from typing import Any

import numpy as np

from convkit.functional.activation import in_place, part_kernel
from convkit.functional.common import (
    as_they_are,
    computing,
    contiguous,
    deliver,
    in_float32,
    optional,
    run_packed,
    target_for,
)
from convkit.functional.pad import padded, unpadded
from convkit.plan.activation import finishing
from convkit.plan.calls import MAX_OF_A_LAYER, apart, empty, planned
from convkit.plan.conv import plan
from convkit.spec.common import check_sum
from convkit.spec.conv import (
    border_mode,
    check_conv,
    check_conv_backward,
    check_transposed,
    check_transposed_backward,
    towards,
)
from convkit.typing import Floats, Padding, Size


def conv1d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """Convolve a batch of signals: ``x (N, c_in, L)`` or ``(c_in, L)``, ``weight (c_out, c_in / groups, k)``.

    Everything else is as in ``conv2d``, with one number where that takes two.
    """
    return convolve(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=1)


def conv1d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``conv1d``; arguments and result are as in ``conv2d_backward``."""
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=1)


def conv2d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """Convolve a batch of images with a set of kernels (cross-correlation, as in PyTorch).

    Parameters
    ----------
    x : ndarray, shape (N, c_in, H, W) or (c_in, H, W)
        float16, float32 or float64, any memory layout.
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
        What the padding holds, as in ``pad``.
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
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``conv2d``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output, of the output's shape and dtype.
    x, weight, stride, padding, dilation, groups, padding_mode
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
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=2)


def conv3d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
           dilation: Size = 1, groups: int = 1, *, padding_mode: str = "zeros", out: Floats | None = None) -> Floats:
    """Convolve a batch of volumes: ``x (N, c_in, D, H, W)`` or ``(c_in, D, H, W)``,
    ``weight (c_out, c_in / groups, kd, kh, kw)``.

    Everything else is as in ``conv2d``, with three numbers where that takes two.
    """
    return convolve(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank=3)


def conv3d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0, dilation: Size = 1,
                    groups: int = 1, *, needs: tuple[bool, bool, bool] = (True, True, True),
                    padding_mode: str = "zeros") -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients ``(dx, dw, db)`` of ``conv3d``; arguments and result are as in ``conv2d_backward``."""
    return _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank=3)


def conv_transpose1d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """Transpose of ``conv1d``: ``x (N, c_in, L)`` or ``(c_in, L)``, ``weight (c_in, c_out / groups, k)``.

    Everything else is as in ``conv_transpose2d``, with one number where that takes two.
    """
    return convolve_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=1)


def conv_transpose1d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``conv_transpose1d``; arguments and result are as in ``conv_transpose2d_backward``."""
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=1)


def conv_transpose2d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """Transposed convolution: the gradient of ``conv2d`` with respect to its input, as a layer of its own.

    Computed by output phase: the outputs of one residue modulo the stride are a plain convolution of ``x`` with the
    taps that reach them; no zeros are inserted and no columns are scattered.

    Parameters
    ----------
    x : ndarray, shape (N, c_in, H, W) or (c_in, H, W)
        float16, float32 or float64, any memory layout.
    weight : ndarray, shape (c_in, c_out / groups, kh, kw)
        Same dtype as ``x``; the layout of PyTorch, which is that of the convolution that this transposes.
    bias : ndarray, shape (c_out,), optional
        Same dtype as ``x``.
    stride, dilation : int or tuple of 2 ints
        Steps between windows and between the taps of one window, at least 1.
    padding : int or tuple
        What the result is cropped by: one int for all sides, one int or ``(lo, hi)`` pair per axis.
    output_padding : int or tuple of 2 ints
        Added to the end of the result, where that convolution may have ignored elements; less than ``stride`` or
        ``dilation``.
    groups : int
        Splits the channels into groups that do not see each other; divides ``c_in``.
    out : ndarray, optional
        Where to put the result; must have its shape and dtype. It may overlap the inputs.

    Returns
    -------
    ndarray, shape (N, c_out, oh, ow) or (c_out, oh, ow)
        ``oh = (H - 1) * stride - lo - hi + dilation * (kh - 1) + output_padding + 1``, and likewise ``ow``.

    Raises
    ------
    ShapeError
        For a size, shape or geometry without meaning.
    DtypeError
        For anything but float arrays of one dtype, or arguments that are not integers.
    """
    return convolve_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=2)


def conv_transpose2d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``conv_transpose2d``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output, of the output's shape and dtype.
    x, weight, stride, padding, output_padding, groups, dilation
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
        As ``conv_transpose2d``, and if ``dy`` does not fit.
    """
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=2)


def conv_transpose3d(x: Floats, weight: Floats, bias: Floats | None = None, stride: Size = 1, padding: Padding = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *, out: Floats | None = None
) -> Floats:
    """Transpose of ``conv3d``: ``x (N, c_in, D, H, W)`` or ``(c_in, D, H, W)``,
    ``weight (c_in, c_out / groups, kd, kh, kw)``.

    Everything else is as in ``conv_transpose2d``, with three numbers where that takes two.
    """
    return convolve_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank=3)


def conv_transpose3d_backward(dy: Floats, x: Floats, weight: Floats, stride: Size = 1, padding: Padding = 0,
                              output_padding: Size = 0, groups: int = 1, dilation: Size = 1, *,
                              needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``conv_transpose3d``; arguments and result are as in ``conv_transpose2d_backward``."""
    return _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank=3)


def convolve(x, weight, bias, stride, padding, dilation, groups, padding_mode, out=None, *, rank, packed=None):
    """Convolution of any rank. ``packed(key, make)``, if given, keeps what a plan makes of the weight (a layer's
    ``Parameter.packed``)."""
    return _convolution(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank)(
        x, weight, bias, out, packed)


def convolution_of(operands, then, stride, padding, dilation, groups, padding_mode, rank):
    """``f(x, past=None)``: such convolutions with the weight, bias and keeper of the weight (as in ``convolve``) that
    ``operands()`` gives, plus ``past``, what a short cut gives, and then an activation: its name and its arguments, or
    ``()``. Each kind of arrays is checked once.
    """
    made = planned(lambda x, weight, bias, past: _computed(x, weight, bias, stride, padding, dilation, groups,
                                                           padding_mode, None, rank, then, past), MAX_OF_A_LAYER)

    def call(x, past=None):
        weight, bias, packed = operands()
        return made(x, weight, bias, past)(x, weight, bias, None, packed, past)

    return call


def convolve_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out=None, *, rank,
                        packed=None):
    """Transposed convolution of any rank; ``packed`` as in ``convolve``."""
    return _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank)(
        x, weight, bias, out, packed)


def _computed(x, weight, bias, stride, padding, dilation, groups, padding_mode, out, rank, then=(), past=None):
    """What computes such calls: ``f(x, weight, bias, out, packed, past=None)``."""
    spec, n, batched = check_conv(x, weight, bias, stride, padding, dilation, groups, out, rank)
    mode = border_mode(spec, padding_mode)
    if mode == "constant":
        return _sums(spec, spec.y_shape(n), batched, x, weight, bias, out, then, past)
    shape, inner = spec.y_shape(n), spec.of_padded  # the padding is made of copies of the input, so it becomes input
    return lambda x, *others: _run(inner, shape, batched, then, padded(x, spec.padding, mode), *others)


_convolution = planned(_computed)


@planned
def _transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank):
    spec, n, batched = check_transposed(x, weight, bias, stride, padding, output_padding, groups, dilation, out, rank)
    return _sums(spec, spec.x_shape(n), batched, x, weight, bias, out)


def _sums(spec, shape, batched, x, weight, bias, out, then=(), past=None):
    if not batched or not as_they_are(spec.dtype, x, weight, bias, out, past):
        return partial(_run, spec, shape, batched, then)
    if past is not None:
        check_sum(shape, past.shape)
    run, dtype = plan(spec).run, spec.dtype
    packs = hasattr(run, "pack")
    finishing = _finishing(run, empty(shape, dtype), then, past)
    finish = finishing(None) if finishing and past is None else None
    after = finishing is None and (then or past is not None)

    # What `run_packed` does, in one function: what lies between two kernels of a network is code that left the caches.
    def call(x, weight, bias, out, packed, past=None):
        given = out is not None and apart(out, x) and apart(out, weight) and (bias is None or apart(out, bias))
        y = out if given else empty(shape, dtype)
        end = finish if past is None or after else finishing(past)
        finishes = () if end is None else (end,)
        if packs and packed is not None:
            run.with_packed(x, packed(run.pack_key, run.pack), bias, y, *finishes)
        else:
            run(x, weight, bias, y, *finishes)
        if after:
            _finish_after(y, then, past)
        return y if given else deliver(y, out)

    return call


@in_float32
def _run(spec, shape, batched, then, x, weight, bias, out, packed, past=None):
    x, bias, past = contiguous(x, spec.dtype), optional(bias, spec.dtype), optional(past, spec.dtype)
    y = target_for(out, shape if batched else shape[1:], spec.dtype, x, weight, bias)
    if past is not None:
        check_sum(y.shape, past.shape)
    if shape[0]:
        run = plan(spec).run
        finishing = _finishing(run, y, then, past)
        run_packed(spec, run, x if batched else x[None], weight, bias, y if batched else y[None], packed,
                   finishing and finishing(past if batched or past is None else past[None]))
        if finishing is None:
            _finish_after(y, then, past)
    return deliver(y, out)


def _finishing(run, y, then, past):
    """``f(past)``: what the plan's tasks do to what they have just written, which is still in the cache; None where
    they cannot, or there is nothing to do."""
    if (not then if past is None else not getattr(run, "adds", False)) or not getattr(run, "finishes", False):
        return None
    acts = part_kernel(y, *then) if then else None
    return None if then and acts is None else finishing(acts, past)


def _finish_after(y, then, past):
    """The same in passes of their own."""
    if past is not None:
        y += past
    if then:
        name, *arguments = then
        in_place(name, y, *arguments)


def _conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank):
    return _conv_gradients(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank)(dy, x, weight)


def _transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank):
    return _transposed_gradients(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank)(
        dy, x, weight)


@planned
def _conv_gradients(dy, x, weight, stride, padding, dilation, groups, needs, padding_mode, rank):
    """What computes such calls."""
    spec, n, needs = check_conv_backward(dy, x, weight, stride, padding, dilation, groups, needs, rank)
    mode = border_mode(spec, padding_mode)
    if mode == "constant":
        return partial(_gradients, spec, n, _runs(spec, n, needs))
    inner = spec.of_padded
    return partial(_bordered_gradients, inner, n, _runs(inner, n, needs), spec.padding, mode)


@planned
def _transposed_gradients(dy, x, weight, stride, padding, output_padding, groups, dilation, needs, rank):
    spec, n, needs = check_transposed_backward(dy, x, weight, stride, padding, output_padding, groups, dilation, needs,
                                               rank)
    return partial(_gradients, spec, n, _runs(spec, n, needs))


def _runs(spec, n, needs):
    """How each of the three gradients is computed: None if it is not needed, False if there is nothing to compute."""
    to_x = "forward" if spec.direction == "input_gradient" else "input_gradient"
    return [n > 0 and plan(towards(computing(spec), direction)).run if needed else None
            for needed, direction in zip(needs, (to_x, "weight_gradient", "bias_gradient"), strict=True)]


@in_float32
def _bordered_gradients(spec, n, runs, padding, mode, dy, x, weight):
    """Gradients where the padding is made of copies of the input."""
    dx, dw, db = _gradients(spec, n, runs, dy, padded(x, padding, mode), weight)
    return dx if dx is None else unpadded(dx, padding, mode), dw, db


@in_float32
def _gradients(spec, n, runs, dy, x, weight):
    """Gradients of the map that ``spec`` is: of a convolution, or of the input gradient that is a transposed one."""
    transposed = spec.direction == "input_gradient"
    x_shape, y_shape = spec.x_shape(n), spec.y_shape(n)
    if transposed:
        x_shape, y_shape = y_shape, x_shape
    run_x, run_w, run_b = runs
    dy_n = contiguous(dy, spec.dtype).reshape(y_shape)
    dx = dw = db = None
    if run_x is not None:
        dx = empty(x.shape, spec.dtype)
        if run_x:
            run_x(dy_n, contiguous(weight, spec.dtype), None, dx.reshape(x_shape))
    if run_w is not None:
        dw = _gradient_of(weight.shape, spec.dtype, n)
        if run_w:
            x_n = contiguous(x, spec.dtype).reshape(x_shape)
            run_w(*((x_n, dy_n) if transposed else (dy_n, x_n)), dw)
    if run_b is not None:
        db = _gradient_of(y_shape[1], spec.dtype, n)
        if run_b:
            run_b(dy_n.reshape(*y_shape[:2], -1), db)
    return dx, dw, db


def _gradient_of(shape, dtype, images):
    """Where a sum over the images goes: that over none is zero."""
    return np.empty(shape, dtype) if images else np.zeros(shape, dtype)
