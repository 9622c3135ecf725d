"""The linear map without state."""

from functools import partial
from math import prod
from typing import Any

import numpy as np

from convkit.functional.activation import acting
from convkit.functional.common import as_they_are, computing, contiguous, in_float32, optional, run_packed
from convkit.plan.calls import MAX_OF_A_LAYER, empty, planned
from convkit.plan.linear import plan
from convkit.spec.linear import check_linear_backward, linear_spec
from convkit.typing import Floats


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
    return _product(x, weight, bias)(x, weight, bias, None)


def linear_of(operands, then):
    """``f(x)``: linear maps with the weight, bias and keeper of the weight (a layer's ``Parameter.packed``) that
    ``operands()`` gives, and then an activation: its name and its arguments, or ``()``. Each kind of arrays is checked
    once.
    """
    made = planned(lambda x, weight, bias: _computed(x, weight, bias, then), MAX_OF_A_LAYER)

    def call(x):
        weight, bias, packed = operands()
        return made(x, weight, bias)(x, weight, bias, packed)

    return call


def _computed(x, weight, bias, then=()):
    """What computes such calls: ``f(x, weight, bias, packed)``."""
    spec, y_shape = linear_spec(x, weight, bias)
    if not as_they_are(spec.dtype, x, weight, bias) or x.ndim != 2 or 0 in y_shape:
        return partial(_multiply, spec, y_shape, then)
    run, dtype = plan(spec).run, spec.dtype
    packs = hasattr(run, "pack")
    act = acting(empty(y_shape, dtype), *then) if then else None

    def call(x, weight, bias, packed):
        y = empty(y_shape, dtype)
        if packs and packed is not None:
            run.with_packed(x, packed(run.pack_key, run.pack), bias, y)
        else:
            run(x, weight, bias, y)
        if act is not None:
            act(y)
        return y

    return call


_product = planned(_computed)


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
    return _gradients_of(dy, x, weight, needs)(dy, x, weight)


@planned
def _gradients_of(dy, x, weight, needs):
    spec, needs = check_linear_backward(dy, x, weight, needs)
    ways = (("input_gradient", x.size), ("weight_gradient", weight.size), ("bias_gradient", True))
    runs = [bool(dy.size and size) and plan(computing(spec).towards(direction)).run if needed else None
            for needed, (direction, size) in zip(needs, ways, strict=True)]
    return partial(_gradients, spec, runs)


@in_float32
def _multiply(spec, y_shape, then, x, weight, bias, packed):
    y = empty(y_shape, spec.dtype)
    if y.size:
        run_packed(spec, plan(spec).run, _rows(x, spec.dtype), weight, optional(bias, spec.dtype),
                   _rows(y, spec.dtype), packed)
        if then:
            acting(y, *then)(y)
    return y


@in_float32
def _gradients(spec, runs, dy, x, weight):
    """``runs``: None for a gradient that is not needed, False for one of nothing."""
    run_x, run_w, run_b = runs
    dy = _rows(dy, spec.dtype)
    dx = dw = db = None
    if run_x is not None:
        dx = _filled(x.shape, spec.dtype, dy.size)
        if run_x:
            run_x(dy, contiguous(weight, spec.dtype), _rows(dx, spec.dtype))
    if run_w is not None:
        dw = _filled(weight.shape, spec.dtype, dy.size)
        if run_w:
            run_w(dy, _rows(x, spec.dtype), dw)
    if run_b is not None:
        db = _filled(dy.shape[1:], spec.dtype, dy.size)
        if run_b:
            run_b(dy, db)
    return dx, dw, db


def _rows(a, dtype):
    """``a (..., features)`` as a contiguous matrix."""
    a = contiguous(a, dtype)
    return a if a.ndim == 2 else a.reshape(prod(a.shape[:-1]), a.shape[-1])


def _filled(shape, dtype, terms):
    """Where a sum goes: that of no terms is zero."""
    return np.empty(shape, dtype) if terms else np.zeros(shape, dtype)
