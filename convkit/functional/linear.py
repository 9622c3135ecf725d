"""The linear map without state."""

from functools import partial
from math import prod
from typing import Any

import numpy as np

from convkit.functional.common import as_they_are, contiguous, in_float32, optional, run_packed
from convkit.plan.calls import empty, planned, remembered, remembered_of_same
from convkit.plan.linear import plan
from convkit.spec.linear import LinearSpec, check_linear_backward, linear_spec
from convkit.typing import Floats

_check_linear_backward = remembered(check_linear_backward)
_towards = remembered_of_same(LinearSpec.towards)


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """``y = x w' + b`` on the last axis.

    Parameters
    ----------
    x : ndarray, shape (..., in)
        float16, float32 or float64.
    weight : ndarray, shape (out, in)
        Same dtype.
    bias : ndarray, shape (out,), optional
        Same dtype.

    Returns
    -------
    ndarray, shape (..., out)
        The images of the rows of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit.
    """
    return multiply(x, weight, bias)


def multiply(x, weight, bias, packed=None):
    """``linear``, with what ``packed(key, make)`` keeps of the weight (a layer's ``Parameter.packed``)."""
    return _product(x, weight, bias)(x, weight, bias, packed)


@planned
def _product(x, weight, bias):
    """What computes such calls."""
    spec, y_shape = linear_spec(x, weight, bias)
    if not as_they_are(spec.dtype, x, weight, bias) or x.ndim != 2 or 0 in y_shape:
        return partial(_multiply, spec, y_shape)
    run, dtype = plan(spec).run, spec.dtype

    def call(x, weight, bias, packed):
        y = empty(y_shape, dtype)
        run_packed(spec, run, x, weight, bias, y, packed)
        return y

    return call


def linear_backward(dy: Floats, x: Floats, weight: Floats, *, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """Gradients of ``linear``.

    Parameters
    ----------
    dy : ndarray, shape (..., out)
        Gradient of the output.
    x, weight
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
        If the operands do not fit.
    """
    spec, needs = _check_linear_backward(dy, x, weight, needs)
    return _gradients(spec, dy, x, weight, *needs)


@in_float32
def _multiply(spec, y_shape, x, weight, bias, packed):
    y = np.empty(y_shape, spec.dtype)
    if y.size:
        run_packed(spec, plan(spec).run, _rows(x, spec.dtype), weight, optional(bias, spec.dtype),
                   _rows(y, spec.dtype), packed)
    return y


@in_float32
def _gradients(spec, dy, x, weight, need_x, need_w, need_b):
    dy = _rows(dy, spec.dtype)
    dx = dw = db = None
    if need_x:
        dx = _filled(x.shape, spec.dtype, dy.size)
        if dx.size and dy.size:
            plan(_towards(spec, "input_gradient")).run(dy, contiguous(weight, spec.dtype), _rows(dx, spec.dtype))
    if need_w:
        dw = _filled(weight.shape, spec.dtype, dy.size)
        if dw.size and dy.size:
            plan(_towards(spec, "weight_gradient")).run(dy, _rows(x, spec.dtype), dw)
    if need_b:
        db = _filled(dy.shape[1:], spec.dtype, dy.size)
        if dy.size:
            plan(_towards(spec, "bias_gradient")).run(dy, db)
    return dx, dw, db


def _rows(a, dtype):
    """``a (..., features)`` as a contiguous matrix."""
    a = contiguous(a, dtype)
    return a if a.ndim == 2 else a.reshape(prod(a.shape[:-1]), a.shape[-1])


def _filled(shape, dtype, terms):
    """Where a sum goes: that of no terms is zero."""
    return np.empty(shape, dtype) if terms else np.zeros(shape, dtype)
