"""Losses without state."""

from typing import Any

import numpy as np

from convkit.functional.common import contiguous
from convkit.plan.loss import backward_plan, plan
from convkit.spec.common import INT64
from convkit.spec.loss import check_dloss, cross_entropy_spec
from convkit.typing import Floats, Labels


def cross_entropy(logits: Floats, target: Labels, reduction: str = "mean") -> Any:
    """``-log softmax(logits)[target]``.

    Parameters
    ----------
    logits : ndarray, shape (N, C) or (N, C, d1, ...)
        Unnormalised scores, float32 or float64.
    target : ndarray of int, shape (N,) or (N, d1, ...)
        Class numbers in ``[0, C)``.
    reduction : {"mean", "sum", "none"}
        Mean (NaN over nothing, as in PyTorch), sum, or one loss for each target.

    Returns
    -------
    NumPy scalar, or ndarray shaped like target for "none"
        Of the dtype of ``logits``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, a target is no class, or the reduction is unknown.
    """
    spec = cross_entropy_spec(logits, target, reduction)
    losses = np.empty(target.shape, spec.dtype)
    if losses.size:
        plan(spec).run(
            _scores(spec, logits), _targets(spec, target, INT64), _targets(spec, losses, spec.dtype)
        )
    if reduction == "none":
        return losses
    with np.errstate(all="ignore"):
        total = losses.sum(dtype=np.float64)
        return spec.dtype.type(total if reduction == "sum" else total / losses.size)


def cross_entropy_backward(logits: Floats, target: Labels, reduction: str = "mean", dloss: float | Floats = 1.0
) -> Floats:
    """Gradient of ``cross_entropy``: ``(softmax(logits) - [c == target]) * dloss``, for the mean over N.

    Parameters
    ----------
    logits, target, reduction
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array shaped like ``target`` with "none".

    Returns
    -------
    ndarray
        Gradient of ``logits``.

    Raises
    ------
    ShapeError, DtypeError
        As ``cross_entropy``, and if ``dloss`` does not fit.
    """
    spec = cross_entropy_spec(logits, target, reduction)
    check_dloss(spec, target, dloss)
    dlogits = np.empty(logits.shape, spec.dtype)
    if dlogits.size:
        scale = _scale(spec, target, dloss)
        backward_plan(spec).run(_scores(spec, logits), _targets(spec, target, INT64),
                                _targets(spec, scale, spec.dtype), _scores(spec, dlogits))
    return dlogits


def _scores(spec, logits):
    return contiguous(logits, spec.dtype).reshape(len(logits), spec.classes, spec.inner)


def _targets(spec, target, dtype):
    return contiguous(target, dtype).reshape(len(target), spec.inner)


@np.errstate(all="ignore")
def _scale(spec, target, dloss):
    """What each target's gradient is multiplied by."""
    scale = np.empty(target.shape, spec.dtype)
    scale[...] = np.divide(dloss, target.size, dtype=np.float64) if spec.reduction == "mean" else dloss
    return scale
