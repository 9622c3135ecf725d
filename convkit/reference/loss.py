"""Losses. Each is a sum over elements or classes, and its gradient times ``dloss``, what is to come of the loss."""

from typing import Any

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.reference.softmax import log_softmax64, softmax64
from convkit.spec.loss import (
    check_dloss,
    check_factor,
    check_targets,
    class_axis,
    cross_entropy_spec,
    dice_spec,
    nll_spec,
    pair_spec,
)
from convkit.typing import Floats, Labels

# ---- over classes


@np.errstate(all="ignore")
def cross_entropy(logits: Floats, target: Labels | Floats, weight: Floats | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    """``-sum over c of q_c log softmax(logits)_c`` over the class axis, q the weight of each class in the target."""
    spec = cross_entropy_spec(logits, target, weight, ignore_index, reduction, label_smoothing)
    q, count = _in_target(logits, target, weight, ignore_index, label_smoothing)
    return narrow(_reduced(_entropy(logits, q), count, reduction), spec.dtype)


@np.errstate(all="ignore")
def cross_entropy_backward(logits: Floats, target: Labels | Floats, weight: Floats | None = None, *,
                           ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0,
                           dloss: float | Floats = 1.0) -> Floats:
    """``dlogits = softmax(logits) * (sum over c of q_c) - q``, times dloss and over the count for the mean."""
    spec = cross_entropy_spec(logits, target, weight, ignore_index, reduction, label_smoothing)
    q, count = _in_target(logits, target, weight, ignore_index, label_smoothing)
    scale = _share(dloss, count, reduction, spec.dtype, _without_classes(logits))
    return narrow(_entropy_gradient(logits, _times(q, np.expand_dims(scale, class_axis(logits.ndim)))), spec.dtype)


def _entropy(logits, q):
    """One loss for each target; a class without weight adds nothing, however unlikely."""
    axis = class_axis(logits.ndim)
    return -_times(q, log_softmax64(logits, axis)).sum(axis)


def _times(q, scale):
    """``q * scale``; what has no weight stays without, even where the mean is over nothing."""
    return np.where(q == 0, 0, q * scale)


def _entropy_gradient(logits, q):
    axis = class_axis(logits.ndim)
    whole = q.sum(axis, dtype=np.longdouble, keepdims=True)  # one number added many times errs to one side
    return softmax64(logits, axis) * whole.astype(np.float64) - q


def _in_target(logits, target, weight, ignore_index, smoothing, name="logits"):
    """The weight of every class in every target, shaped like logits, and what the mean divides by."""
    axis = class_axis(logits.ndim)
    classes = logits.shape[axis]
    weight = _along(np.ones(classes) if weight is None else widen(weight), logits.ndim)
    if target.dtype.kind == "f":
        return weight * ((1 - smoothing) * widen(target) + smoothing / classes), logits.size / classes
    check_targets(name, classes, target, ignore_index)
    number = np.expand_dims(target.astype(np.int64), axis)
    used = number != ignore_index
    one_hot = used & (number == _along(np.arange(classes), logits.ndim))
    return weight * ((1 - smoothing) * one_hot + used * smoothing / classes), (weight * one_hot).sum()


def _along(per_class, rank):
    """One value per class, shaped to stand along the class axis."""
    return per_class.reshape(-1, *(1,) * (rank - 1 - class_axis(rank)))


def _without_classes(x):
    axis = class_axis(x.ndim)
    return x.shape[:axis] + x.shape[axis + 1:]


@np.errstate(all="ignore")
def nll_loss(x: Floats, target: Labels, weight: Floats | None = None, *, ignore_index: int = -100,
             reduction: str = "mean") -> Any:
    """``-weight[target] * x[target]`` over the class axis of the log-probabilities ``x``."""
    spec = nll_spec(x, target, weight, ignore_index, reduction)
    q, count = _in_target(x, target, weight, ignore_index, 0.0, "x")
    each = -_times(q, widen(x)).sum(class_axis(x.ndim))
    return narrow(_reduced(each, count, reduction), spec.dtype)


@np.errstate(all="ignore")
def nll_loss_backward(x: Floats, target: Labels, weight: Floats | None = None, *, ignore_index: int = -100,
                      reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """``dx[target] = -weight[target] * dloss``, over the sum of those weights for the mean; 0 elsewhere."""
    spec = nll_spec(x, target, weight, ignore_index, reduction)
    q, count = _in_target(x, target, weight, ignore_index, 0.0, "x")
    scale = np.expand_dims(_share(dloss, count, reduction, spec.dtype, target.shape), class_axis(x.ndim))
    return narrow(-_times(q, scale), spec.dtype)


# ---- as the plan asks: class numbers with the weight of each, and weights for every class


@np.errstate(all="ignore")
def fused_losses(logits, target, hit, every, soft):
    """One loss for each target; see ``fused_target``."""
    return _entropy(logits, fused_target(logits.shape, target, hit, every, soft))


@np.errstate(all="ignore")
def fused_gradient(logits, target, hit, every, soft):
    """The gradient of the sum of those losses."""
    return _entropy_gradient(logits, fused_target(logits.shape, target, hit, every, soft))


def fused_target(shape, target, hit, every, soft):
    """``hit * [c == target] + every * soft`` in float64: what is None is 1, and a missing target or soft adds nothing.

    target, hit and every are ``(N, inner)``; soft is ``(classes,)`` or, like logits, ``(N, classes, inner)``.
    """
    q = np.zeros(shape)
    if soft is not None:
        q += (1 if every is None else widen(every)[:, None]) * (soft[:, None] if soft.ndim == 1 else soft)
    if target is not None:
        hits = np.ones(target.shape) if hit is None else widen(hit)
        where = target[:, None]
        np.put_along_axis(q, where, np.take_along_axis(q, where, 1) + hits[:, None], 1)
    return q


@np.errstate(all="ignore")
def picked_losses(x, target, weight, ignored):
    """``-weight[target] x[target]`` for each target of ``(N, inner)`` that is not ``ignored``, and their weights."""
    used = target != ignored
    number = np.where(used, target, 0)
    each = used * (1.0 if weight is None else widen(weight)[number])
    return np.where(each == 0, 0, -each * np.take_along_axis(widen(x), number[:, None], 1)[:, 0]), each


@np.errstate(all="ignore")
def picked_gradient(shape, target, weight, ignored, share):
    """The gradient of those losses, each times its ``share``."""
    x = np.zeros(shape)
    each = picked_losses(x, target, weight, ignored)[1]
    number, slope = np.where(target != ignored, target, 0), np.where(each == 0, 0, -each * share)
    np.put_along_axis(x, number[:, None], slope[:, None], 1)
    return x


# ---- element by element


def mse_loss(x: Floats, target: Floats, reduction: str = "mean") -> Any:
    """``(x - target) ** 2``."""
    return _pair(pair_spec("mse", x, target, reduction), x, target, reduction)


def mse_loss_backward(x: Floats, target: Floats, reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """``dx = 2 (x - target)``."""
    return _pair_gradient(pair_spec("mse", x, target, reduction), x, target, reduction, dloss)


def l1_loss(x: Floats, target: Floats, reduction: str = "mean") -> Any:
    """``|x - target|``."""
    return _pair(pair_spec("l1", x, target, reduction), x, target, reduction)


def l1_loss_backward(x: Floats, target: Floats, reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """``dx = sign(x - target)``."""
    return _pair_gradient(pair_spec("l1", x, target, reduction), x, target, reduction, dloss)


def smooth_l1_loss(x: Floats, target: Floats, reduction: str = "mean", beta: float = 1.0) -> Any:
    """``d ** 2 / (2 beta)`` where ``d = |x - target|`` is below beta, else ``d - beta / 2``."""
    return _pair(pair_spec("smooth_l1", x, target, reduction, beta), x, target, reduction)


def smooth_l1_loss_backward(x: Floats, target: Floats, reduction: str = "mean", beta: float = 1.0,
                            dloss: float | Floats = 1.0) -> Floats:
    """``dx = (x - target) / beta``, kept between -1 and 1."""
    return _pair_gradient(pair_spec("smooth_l1", x, target, reduction, beta), x, target, reduction, dloss)


def binary_cross_entropy_with_logits(logits: Floats, target: Floats, weight: Floats | None = None, *,
                                     reduction: str = "mean", pos_weight: Floats | None = None) -> Any:
    """``-weight * (pos_weight * target * log p + (1 - target) * log(1 - p))`` with ``p = 1 / (1 + exp(-logits))``."""
    spec = _bce_spec(logits, target, weight, reduction, pos_weight)
    return _pair(spec, logits, target, reduction, weight, pos_weight)


def binary_cross_entropy_with_logits_backward(
        logits: Floats, target: Floats, weight: Floats | None = None, *, reduction: str = "mean",
        pos_weight: Floats | None = None, dloss: float | Floats = 1.0) -> Floats:
    """``dlogits = weight * ((1 - target) * p - pos_weight * target * (1 - p))``."""
    spec = _bce_spec(logits, target, weight, reduction, pos_weight)
    return _pair_gradient(spec, logits, target, reduction, dloss, weight, pos_weight)


def _bce_spec(logits, target, weight, reduction, pos_weight):
    spec = pair_spec("bce", logits, target, reduction, name="logits")
    check_factor("weight", weight, spec, logits.shape)
    check_factor("pos_weight", pos_weight, spec, logits.shape)
    return spec


@np.errstate(all="ignore")
def _pair(spec, x, target, reduction, weight=None, pos_weight=None):
    each = pair_losses(spec, x, target, weight, pos_weight)
    return narrow(_reduced(each, each.size, reduction), spec.dtype)


@np.errstate(all="ignore")
def _pair_gradient(spec, x, target, reduction, dloss, weight=None, pos_weight=None):
    scale = _share(dloss, x.size, reduction, spec.dtype, x.shape)
    return narrow(pair_gradient(spec, x, target, scale, weight, pos_weight), spec.dtype)


@np.errstate(all="ignore")
def pair_losses(spec, x, target, weight=None, pos_weight=None):
    """One loss for each element, in float64."""
    x, t = widen(x), widen(target)
    d = np.abs(x - t)
    if spec.kind == "mse":
        return d * d
    if spec.kind == "l1":
        return d
    if spec.kind == "smooth_l1":
        return np.where(d < spec.beta, d * d / (2 * spec.beta), d - spec.beta / 2)
    positive = t if pos_weight is None else t * widen(pos_weight)
    each = positive * _softplus(-x) + (1 - t) * _softplus(x)  # -log p and -log(1 - p)
    return each if weight is None else each * widen(weight)


@np.errstate(all="ignore")
def pair_gradient(spec, x, target, scale, weight=None, pos_weight=None):
    """The derivative of each loss times ``scale``, in float64."""
    x, t = widen(x), widen(target)
    if spec.kind == "mse":
        return 2 * (x - t) * scale
    if spec.kind == "l1":
        return np.sign(x - t) * scale
    if spec.kind == "smooth_l1":
        return np.clip((x - t) / spec.beta, -1, 1) * scale
    positive = t if pos_weight is None else t * widen(pos_weight)
    d = (1 - t) * np.exp(-_softplus(-x)) - positive * np.exp(-_softplus(x))  # p and 1 - p
    return d * scale if weight is None else d * scale * widen(weight)


def _softplus(x):
    """``log(1 + exp(x))``."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# ---- overlap


@np.errstate(all="ignore")
def dice_loss(x: Floats, target: Floats, smooth: float = 1.0, reduction: str = "mean") -> Any:
    """``1 - (2 sum(x target) + smooth) / (sum(x) + sum(target) + smooth)`` for each image and class."""
    spec, smooth = dice_spec(x, target, smooth, reduction)
    each = _dice(widen(x), widen(target), smooth)[0]
    return narrow(_reduced(each, each.size, reduction), spec.dtype)


@np.errstate(all="ignore")
def dice_loss_backward(x: Floats, target: Floats, smooth: float = 1.0, reduction: str = "mean",
                       dloss: float | Floats = 1.0) -> Floats:
    """``dx = ((2 sum(x target) + smooth) / u - 2 target) / u`` with ``u = sum(x) + sum(target) + smooth``."""
    spec, smooth = dice_spec(x, target, smooth, reduction)
    t = widen(target)
    each, u = _dice(widen(x), t, smooth)
    each, u, scale = (a.reshape(*each.shape, *(1,) * (x.ndim - 2)) for a in (
        each, u, _share(dloss, each.size, reduction, spec.dtype, each.shape)))
    return narrow(((1 - each) - 2 * t) / u * scale, spec.dtype)


def _dice(x, t, smooth):
    """Loss and denominator for each image and class."""
    space = tuple(range(2, x.ndim))
    u = x.sum(space) + t.sum(space) + smooth
    return 1 - (2 * (x * t).sum(space) + smooth) / u, u


# ---- reductions


def _reduced(each, count, reduction):
    if reduction == "none":
        return each
    total = each.sum()
    return total if reduction == "sum" else total / count


def _share(dloss, count, reduction, dtype, shape):
    """What every single loss is multiplied by on the way to ``dloss``."""
    check_dloss(dtype, shape, reduction, dloss)
    scale = np.broadcast_to(np.asarray(dloss, np.float64), shape)
    return scale / count if reduction == "mean" else scale
