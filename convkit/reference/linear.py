"""The linear (fully connected) map ``y = x w' + b`` on the last axis."""

from math import prod
from typing import Any

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.linear import check_linear_backward, linear_spec
from convkit.typing import Floats


@np.errstate(all="ignore")
def forward(_spec, x, weight, bias=None):
    """``y[..., o] = bias[o] + sum over i of x[..., i] * weight[o, i]``, in float64."""
    y = widen(x) @ widen(weight).T
    return y if bias is None else y + widen(bias)


@np.errstate(all="ignore")
def input_gradient(_spec, dy, weight):
    """``dx[..., i] = sum over o of dy[..., o] * weight[o, i]``, in float64."""
    return widen(dy) @ widen(weight)


@np.errstate(all="ignore")
def weight_gradient(spec, dy, x):
    """``dw[o, i] = sum over n of dy[n, o] * x[n, i]``, n over all leading axes, in float64."""
    n = prod(x.shape[:-1])
    return widen(dy).reshape(n, spec.out_features).T @ widen(x).reshape(n, spec.in_features)


def bias_gradient(spec, dy):
    """``db[o] = sum over n of dy[n, o]``, in float64."""
    return widen(dy).reshape(prod(dy.shape[:-1]), spec.out_features).sum(axis=0)


def linear(x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    """``y[..., o] = bias[o] + sum over i of x[..., i] * weight[o, i]``."""
    spec, _ = linear_spec(x, weight, bias)
    return narrow(forward(spec, x, weight, bias), spec.dtype)


def linear_backward(dy: Floats, x: Floats, weight: Floats, *, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Floats | Any, Floats | Any, Floats | Any]:
    """``dx = dy w``, ``dw = dy' x`` and ``db = sum of dy`` over all leading axes; None where not needed."""
    spec, (need_x, need_w, need_b) = check_linear_backward(dy, x, weight, needs)
    dx = narrow(input_gradient(spec, dy, weight), spec.dtype) if need_x else None
    dw = narrow(weight_gradient(spec, dy, x), spec.dtype) if need_w else None
    db = narrow(bias_gradient(spec, dy), spec.dtype) if need_b else None
    return dx, dw, db
