"""Losses without state: the loss, and from the same arguments its gradient with respect to the first of them."""

from functools import partial
from math import inf, prod
from typing import Any

import numpy as np

from convkit.functional.common import as_they_are, contiguous, in_float32, optional
from convkit.plan.calls import empty, planned, remembered
from convkit.plan.loss import (
    backward_plan,
    count_targets,
    dice_backward_plan,
    dice_plan,
    nll_backward_plan,
    nll_plan,
    pair_backward_plan,
    pair_plan,
    plan,
)
from convkit.spec.common import INT64
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

_cross_entropy_spec = remembered(cross_entropy_spec)
_nll_spec = remembered(nll_spec)
_pair_spec = remembered(pair_spec)
_dice_spec = remembered(dice_spec)
_check_dloss = remembered(check_dloss)

LARGEST = float(np.finfo(np.float32).max)

# ---- over classes


def cross_entropy(logits: Floats, target: Labels | Floats, weight: Floats | None = None, *, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0) -> Any:
    """``-weight[target] * log softmax(logits)[target]``, or the same for a target of probabilities.

    Parameters
    ----------
    logits : ndarray, shape (N, C), (N, C, d1, ...) or (C,)
        Unnormalised scores, float16, float32 or float64.
    target : ndarray
        Class numbers in ``[0, C)``, integers of the shape of ``logits`` without C; or probabilities, of the shape and
        dtype of ``logits``.
    weight : ndarray, shape (C,), optional
        Of each class.
    ignore_index : int
        Class number of targets that do not count.
    reduction : {"mean", "sum", "none"}
        Mean, sum, or one loss for each target. The mean divides by the sum of the targets' weights (NaN if that is
        nothing, as in PyTorch), for probabilities by the number of targets.
    label_smoothing : float
        Share of the target that is spread evenly over all classes, between 0 and 1.

    Returns
    -------
    NumPy scalar, or ndarray of the shape of ``logits`` without C for "none"
        Of the dtype of ``logits``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, a target is no class, or an option is unknown.

    Notes
    -----
    As in PyTorch, but that a class whose probability or weight is 0 adds nothing even where its logit is -inf.
    """
    spec = _cross_entropy_spec(logits, target, weight, ignore_index, reduction, label_smoothing)
    return _entropy(spec, logits, target, weight, ignore_index, reduction, label_smoothing)


@in_float32
def _entropy(spec, logits, target, weight, ignore_index, reduction, label_smoothing):
    axis = class_axis(logits.ndim)
    losses = empty(logits.shape[:axis] + logits.shape[axis + 1:], spec.dtype)
    call = _Targets("logits", spec, target, weight, ignore_index, label_smoothing)
    if losses.size:
        plan(spec).run(_scores(spec, logits), *call.forward(), losses.reshape(spec.outer, spec.inner))
    return _reduced(losses, call.count, reduction)


def cross_entropy_backward(logits: Floats, target: Labels | Floats, weight: Floats | None = None, *,
                           ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0,
                           dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``cross_entropy``: ``(softmax(logits) - [c == target]) * weight[target] * dloss``, over the count.

    Parameters
    ----------
    logits, target, weight, ignore_index, reduction, label_smoothing
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array shaped like the loss with "none".

    Returns
    -------
    ndarray
        Gradient of ``logits``.

    Raises
    ------
    ShapeError, DtypeError
        As ``cross_entropy``, and if ``dloss`` does not fit.
    """
    spec = _cross_entropy_spec(logits, target, weight, ignore_index, reduction, label_smoothing)
    axis = class_axis(logits.ndim)
    _check_dloss(spec.dtype, logits.shape[:axis] + logits.shape[axis + 1:], reduction, dloss)
    return _entropy_gradient(spec, logits, target, weight, ignore_index, reduction, label_smoothing, dloss)


@in_float32
def _entropy_gradient(spec, logits, target, weight, ignore_index, reduction, label_smoothing, dloss):
    dlogits = empty(logits.shape, spec.dtype)
    if dlogits.size:
        call = _Targets("logits", spec, target, weight, ignore_index, label_smoothing)
        backward_plan(spec).run(_scores(spec, logits), *call.backward(_share(dloss, call.count, reduction)),
                                _scores(spec, dlogits))
    return dlogits


def nll_loss(x: Floats, target: Labels, weight: Floats | None = None, *, ignore_index: int = -100,
             reduction: str = "mean") -> Any:
    """``-weight[target] * x[target]`` for log-probabilities ``x``; ``cross_entropy`` is this after ``log_softmax``.

    Parameters
    ----------
    x : ndarray, shape (N, C), (N, C, d1, ...) or (C,)
        Log-probabilities, float16, float32 or float64.
    target, weight, ignore_index, reduction
        As in ``cross_entropy``; target holds class numbers.

    Returns
    -------
    NumPy scalar, or ndarray shaped like ``target`` for "none"

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, a target is no class, or an option is unknown.
    """
    return _nll_of(x, target, weight, ignore_index, reduction)(x, target, weight, ignore_index, reduction)


@planned
def _nll_of(x, target, weight, ignore_index, reduction):
    """What computes such a loss."""
    spec = nll_spec(x, target, weight, ignore_index, reduction)
    if reduction == "none" or not as_they_are(spec.dtype, x, target, weight) or nll_plan(spec).isa is None:
        return partial(_nll, spec)
    run, dtype, classes, is_sum = nll_plan(spec).run, spec.dtype, spec.classes, reduction == "sum"

    def call(x, target, weight, ignore_index, reduction):
        if count_targets(target, classes, ignore_index) < 0:
            check_targets("x", classes, target, ignore_index)
        total, count = run(x, target, weight, ignore_index, None)
        return _quotient(dtype, total, 1 if is_sum else count)

    return call


@in_float32
def _nll(spec, x, target, weight, ignore_index, reduction):
    number = _numbers("x", spec, target, ignore_index)[0]
    losses = empty(target.shape, spec.dtype) if reduction == "none" else None
    total, count = nll_plan(spec).run(_scores(spec, x), number, optional(weight, spec.dtype), ignore_index,
                                      None if losses is None else losses.reshape(number.shape))
    return _quotient(spec.dtype, total, 1 if reduction == "sum" else count) if losses is None else losses


def nll_loss_backward(x: Floats, target: Labels, weight: Floats | None = None, *, ignore_index: int = -100,
                      reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``nll_loss``: ``-weight[target] * dloss`` at the target, 0 elsewhere.

    Parameters
    ----------
    x, target, weight, ignore_index, reduction
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array shaped like the loss with "none".

    Returns
    -------
    ndarray
        Gradient of ``x``.
    """
    spec = _nll_spec(x, target, weight, ignore_index, reduction)
    _check_dloss(spec.dtype, target.shape, reduction, dloss)
    return _nll_gradient(spec, x, target, weight, ignore_index, reduction, dloss)


@in_float32
def _nll_gradient(spec, x, target, weight, ignore_index, reduction, dloss):
    number, count = _numbers("x", spec, target, ignore_index)
    weight = optional(weight, spec.dtype)
    if weight is not None:
        count = weight[number[number != ignore_index]].sum(dtype=np.float64)
    dx, share = np.zeros(x.shape, spec.dtype), empty(target.shape, spec.dtype)
    with np.errstate(all="ignore"):
        share[...] = _share(dloss, count, reduction)
    nll_backward_plan(spec).run(number, weight, ignore_index, share.reshape(number.shape), _scores(spec, dx))
    return dx


def _numbers(name, spec, target, ignore_index):
    """The class numbers as ``(N, inner)``, and how many are used."""
    number = contiguous(target, INT64).reshape(spec.outer, spec.inner)
    count = count_targets(number, spec.classes, ignore_index)
    if count < 0 or target.dtype.kind == "u":  # which may have wrapped around
        check_targets(name, spec.classes, target, ignore_index)
    return number, count


class _Targets:
    """What the kernels take of a target: see ``plan/loss.py``."""

    def __init__(self, name, spec, target, weight, ignore_index, smoothing):
        self.number = self.used = self.each = self.soft = None
        self.keep = 1.0 - smoothing
        self.spec = spec
        if target.dtype.kind == "f":
            self.count = spec.outer * spec.inner
            self.soft = target if weight is None and not smoothing else _spread(spec, target, weight, smoothing)
            self.soft = _scores(spec, self.soft)
        else:
            self._take_numbers(*_numbers(name, spec, target, ignore_index), weight, ignore_index)
            if smoothing:
                self.soft = np.full(spec.classes, smoothing / spec.classes, spec.dtype)
                if weight is not None:
                    self.soft *= weight

    def _take_numbers(self, number, count, weight, ignore_index):
        self.number, self.count = number, count
        if count < number.size:
            self.used = number != ignore_index  # any class will do for the others: its weight is 0
            self.number = np.maximum(number, 0) if ignore_index < 0 else np.minimum(number, self.spec.classes - 1)
        if weight is not None:
            self.each = weight.astype(self.spec.dtype)[self.number]
            if self.used is not None:
                self.each *= self.used
            self.count = self.each.sum(dtype=np.float64)

    def forward(self):
        """Target, hit, every and soft of a forward pass."""
        hit, dtype = self.each, self.spec.dtype
        if self.number is not None and hit is None and (self.used is not None or self.soft is not None):
            hit = np.ones(self.number.shape, dtype) if self.used is None else self.used.astype(dtype)
        if hit is not None and self.soft is not None:
            hit = hit * dtype.type(self.keep)
        every = self.used.astype(dtype) if self.used is not None and self.soft is not None else None
        return self.number, hit, every, self.soft

    @np.errstate(all="ignore")
    def backward(self, share):
        """The same, each times what the loss of its target is multiplied by."""
        shape, dtype = (self.spec.outer, self.spec.inner), self.spec.dtype
        share = np.asarray(share, dtype)
        share = share if share.ndim == 0 else share.reshape(shape)
        every = empty(shape, dtype)
        every[...] = share if self.used is None else np.where(self.used, share, dtype.type(0))
        hit = every if self.each is None else np.where(self.each == 0, 0, every * self.each)
        if self.soft is None:
            return self.number, hit, None, None
        return self.number, None if self.number is None else hit * dtype.type(self.keep), every, self.soft


def _spread(spec, target, weight, smoothing):
    """Probabilities, smoothed and times the weights of their classes."""
    target, weight = contiguous(target, spec.dtype), np.ones(1, spec.dtype) if weight is None else weight
    weight = weight.reshape(-1, *(1,) * (target.ndim - 1 - class_axis(target.ndim)))
    return (target * (1 - smoothing) + smoothing / spec.classes) * weight


def _scores(spec, a):
    return contiguous(a, spec.dtype).reshape(spec.outer, spec.classes, spec.inner)


# ---- element by element


def mse_loss(x: Floats, target: Floats, reduction: str = "mean") -> Any:
    """``(x - target) ** 2``.

    Parameters
    ----------
    x, target : ndarray
        float16, float32 or float64, of one shape; nothing is broadcast.
    reduction : {"mean", "sum", "none"}
        Mean (NaN over nothing, as in PyTorch), sum, or one loss for each element.

    Returns
    -------
    NumPy scalar, or ndarray for "none"
        Of the dtype of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or the reduction is unknown.
    """
    return _pair(_pair_spec("mse", x, target, reduction), x, target, reduction)


def mse_loss_backward(x: Floats, target: Floats, reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``mse_loss`` with respect to ``x``; that of the target is its negative.

    Parameters
    ----------
    x, target, reduction
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array shaped like ``x`` with "none".

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.
    """
    return _pair_backward(_pair_spec("mse", x, target, reduction), x, target, reduction, dloss)


def l1_loss(x: Floats, target: Floats, reduction: str = "mean") -> Any:
    """``|x - target|``; parameters and result as in ``mse_loss``."""
    return _pair(_pair_spec("l1", x, target, reduction), x, target, reduction)


def l1_loss_backward(x: Floats, target: Floats, reduction: str = "mean", dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``l1_loss``: the sign of ``x - target``, 0 where they are equal; see ``mse_loss_backward``."""
    return _pair_backward(_pair_spec("l1", x, target, reduction), x, target, reduction, dloss)


def smooth_l1_loss(x: Floats, target: Floats, reduction: str = "mean", beta: float = 1.0) -> Any:
    """``d ** 2 / (2 beta)`` where ``d = |x - target|`` is below beta, else ``d - beta / 2``.

    Parameters
    ----------
    x, target, reduction
        As in ``mse_loss``.
    beta : float
        Where the parabola goes over into the line; 0 makes this the L1 loss.

    Returns
    -------
    NumPy scalar, or ndarray for "none"

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or an option has no meaning.
    """
    return _pair(_pair_spec("smooth_l1", x, target, reduction, beta), x, target, reduction)


def smooth_l1_loss_backward(x: Floats, target: Floats, reduction: str = "mean", beta: float = 1.0,
                            dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``smooth_l1_loss``: ``(x - target) / beta``, kept between -1 and 1; see ``mse_loss_backward``."""
    return _pair_backward(_pair_spec("smooth_l1", x, target, reduction, beta), x, target, reduction, dloss)


def binary_cross_entropy_with_logits(logits: Floats, target: Floats, weight: Floats | None = None, *,
                                     reduction: str = "mean", pos_weight: Floats | None = None) -> Any:
    """``-weight * (pos_weight * target * log p + (1 - target) * log(1 - p))`` with ``p = sigmoid(logits)``.

    Parameters
    ----------
    logits, target : ndarray
        Scores, and probabilities (0 or 1, or between); float16, float32 or float64, of one shape.
    weight, pos_weight : ndarray, optional
        Anything that broadcasts to that shape, such as one value per class along the last axis.
    reduction : {"mean", "sum", "none"}
        Mean over the elements (weights do not divide, as in PyTorch), sum, or one loss for each element.

    Returns
    -------
    NumPy scalar, or ndarray for "none"
        Of the dtype of ``logits``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or the reduction is unknown.
    """
    spec, factors = _bce(logits, target, weight, reduction, pos_weight)
    return _pair(spec, logits, target, reduction, *factors)


def binary_cross_entropy_with_logits_backward(
        logits: Floats, target: Floats, weight: Floats | None = None, *, reduction: str = "mean",
        pos_weight: Floats | None = None, dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``binary_cross_entropy_with_logits`` with respect to ``logits``.

    Parameters
    ----------
    logits, target, weight, reduction, pos_weight
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array shaped like ``logits`` with "none".

    Returns
    -------
    ndarray
        Same shape and dtype as ``logits``.
    """
    spec, factors = _bce(logits, target, weight, reduction, pos_weight)
    return _pair_backward(spec, logits, target, reduction, dloss, *factors)


def _bce(logits, target, weight, reduction, pos_weight):
    spec = _pair_spec("bce", logits, target, reduction, name="logits")
    for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
        check_factor(name, factor, spec, logits.shape)
    return spec, [None if f is None else np.broadcast_to(f, logits.shape) for f in (weight, pos_weight)]


@in_float32
def _pair(spec, x, target, reduction, weight=None, pos_weight=None):
    losses = empty(x.shape, spec.dtype) if reduction == "none" else None
    total = pair_plan(spec).run(*_flat(spec, x, target, weight, pos_weight),
                                None if losses is None else losses.reshape(-1))
    return _quotient(spec.dtype, total, 1 if reduction == "sum" else x.size) if losses is None else losses


def _pair_backward(spec, x, target, reduction, dloss, weight=None, pos_weight=None):
    _check_dloss(spec.dtype, x.shape, reduction, dloss)
    return _pair_gradient(spec, x, target, reduction, dloss, weight, pos_weight)


@in_float32
def _pair_gradient(spec, x, target, reduction, dloss, weight, pos_weight):
    dx = empty(x.shape, spec.dtype)
    if dx.size:
        scale = _share(dloss, x.size, reduction)
        scale = float(scale) if np.ndim(scale) == 0 else contiguous(scale, spec.dtype).reshape(-1)
        pair_backward_plan(spec).run(*_flat(spec, x, target, weight, pos_weight), scale, dx.reshape(-1))
    return dx


def _flat(spec, *arrays):
    return [None if a is None else contiguous(a, spec.dtype).reshape(-1) for a in arrays]


# ---- overlap


def dice_loss(x: Floats, target: Floats, smooth: float = 1.0, reduction: str = "mean") -> Any:
    """One minus the Dice coefficient: ``1 - (2 sum(x target) + smooth) / (sum(x) + sum(target) + smooth)``.

    The sums are over all axes but the first two, so there is one loss for each image and class (Milletari et al., 2016,
    arXiv 1606.04797, without their squares).

    Parameters
    ----------
    x, target : ndarray, shape (N, C, ...)
        Probabilities (after a sigmoid or softmax) and target (0 or 1, or between), float16, float32 or float64.
    smooth : float
        At least 0; keeps an empty mask from dividing by 0, and makes a right answer to it a loss of 0.
    reduction : {"mean", "sum", "none"}
        Mean (NaN over nothing), sum, or one loss for each image and class.

    Returns
    -------
    NumPy scalar, or ndarray of shape (N, C) for "none"
        Of the dtype of ``x``.

    Raises
    ------
    ShapeError, DtypeError
        If the operands do not fit, or an option has no meaning.
    """
    spec, smooth = _dice_spec(x, target, smooth, reduction)
    return _dice(spec, x, target, smooth, reduction)


def dice_loss_backward(x: Floats, target: Floats, smooth: float = 1.0, reduction: str = "mean",
                       dloss: float | Floats = 1.0) -> Floats:
    """Gradient of ``dice_loss`` with respect to ``x``.

    Parameters
    ----------
    x, target, smooth, reduction
        As in the forward pass.
    dloss : float or ndarray
        Gradient of the loss; an array of shape (N, C) with "none".

    Returns
    -------
    ndarray
        Same shape and dtype as ``x``.
    """
    spec, smooth = _dice_spec(x, target, smooth, reduction)
    _check_dloss(spec.dtype, x.shape[:2], reduction, dloss)
    return _dice_gradient(spec, x, target, smooth, reduction, dloss)


@in_float32
def _dice(spec, x, target, smooth, reduction):
    overlap, whole = _dice_sums(spec, x, target, smooth)
    with np.errstate(all="ignore"):
        return _reduced((1 - overlap / whole).astype(spec.dtype), overlap.size, reduction)


@in_float32
def _dice_gradient(spec, x, target, smooth, reduction, dloss):
    dx = empty(x.shape, spec.dtype)
    overlap, whole = _dice_sums(spec, x, target, smooth)
    if dx.size:
        with np.errstate(all="ignore"):
            factor = _share(dloss, overlap.size, reduction) / whole
            a, b = ((v.astype(spec.dtype)).reshape(-1) for v in (overlap / whole * factor, 2 * factor))
        dice_backward_plan(spec).run(_by_class(spec, target), a, b, _by_class(spec, dx))
    return dx


def _dice_sums(spec, x, target, smooth):
    """``2 sum(x target) + smooth`` and ``sum(x) + sum(target) + smooth`` in float64, shape (N, C)."""
    overlap, whole = dice_plan(spec).run(_by_class(spec, x), _by_class(spec, target)).T.reshape(2, *x.shape[:2])
    with np.errstate(all="ignore"):
        return 2 * overlap + smooth, whole + smooth


def _by_class(spec, a):
    """``a (N, C, ...)`` as a contiguous matrix with a row for each image and class."""
    return contiguous(a, spec.dtype).reshape(prod(a.shape[:2]), prod(a.shape[2:]))


# ---- reductions


def _reduced(losses, count, reduction):
    if reduction == "none":
        return losses
    with np.errstate(all="ignore"):
        total = losses.sum(dtype=np.float64)
        return losses.dtype.type(total if reduction == "sum" else total / count)


def _quotient(dtype, total, count):
    """``total / count`` as a scalar of that dtype: NaN or infinite over nothing, and without NumPy's warnings."""
    value = float(total)
    value = value / count if count else value * inf
    if abs(value) <= LARGEST:
        return dtype.type(value)
    with np.errstate(all="ignore"):
        return dtype.type(value)


@np.errstate(all="ignore")
def _share(dloss, count, reduction):
    """What every single loss is multiplied by on the way to ``dloss``."""
    return np.divide(dloss, count, dtype=np.float64) if reduction == "mean" else dloss
