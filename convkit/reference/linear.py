"""The linear (fully connected) map ``y = x w' + b`` on the last axis."""

from math import prod

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.linear import check_linear_backward, linear_spec


@np.errstate(all="ignore")
def linear(x, weight, bias=None):
    """``y[..., o] = bias[o] + sum over i of x[..., i] * weight[o, i]``."""
    spec, _ = linear_spec(x, weight, bias)
    y = widen(x) @ widen(weight).T
    return narrow(y if bias is None else y + widen(bias), spec.dtype)


@np.errstate(all="ignore")
def linear_backward(dy, x, weight, *, needs=(True, True, True)):
    """``dx = dy w``, ``dw = dy' x`` and ``db = sum of dy`` over all leading axes; None where not needed."""
    spec, (need_x, need_w, need_b) = check_linear_backward(dy, x, weight, needs)
    n = prod(x.shape[:-1])
    dy_no, x_ni = widen(dy).reshape(n, spec.out_features), widen(x).reshape(n, spec.in_features)
    dx = narrow(widen(dy) @ widen(weight), spec.dtype) if need_x else None
    dw = narrow(dy_no.T @ x_ni, spec.dtype) if need_w else None
    db = narrow(dy_no.sum(axis=0), spec.dtype) if need_b else None
    return dx, dw, db
