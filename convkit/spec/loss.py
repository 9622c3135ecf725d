"""What a loss is."""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common

REDUCTIONS = ("mean", "sum", "none")


def reduction_of(reduction):
    """One of "mean", "sum" and "none"."""
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ShapeError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, got reduction={common.shown(reduction)}"
        )
    return reduction


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """Scores of ``classes`` classes that lie ``inner`` elements apart, for each of ``outer * inner`` targets."""

    outer: int
    classes: int
    inner: int
    dtype: np.dtype


def cross_entropy_spec(logits, target, weight, ignore_index, reduction, label_smoothing):
    """Check ``logits (N, C, ...)`` or ``(C,)``, a target of class numbers or probabilities, and the options."""
    spec = _scores_spec("logits", logits, weight, reduction)
    common.real("label_smoothing", label_smoothing, 0.0, 1.0, "between 0 and 1")
    if common.array("target", target).dtype.kind == "f":
        common.same_dtype("target", target.dtype, "logits", spec.dtype)
        common.check_shape("target", target.shape, logits.shape,
                           "that of logits, for probabilities; the numbers of classes are integers")
    else:
        _check_numbers("logits", logits, spec, target, ignore_index)
    return spec


def nll_spec(x, target, weight, ignore_index, reduction):
    """Check log-probabilities ``x (N, C, ...)`` or ``(C,)``, class numbers, and the options."""
    spec = _scores_spec("x", x, weight, reduction)
    _check_numbers("x", x, spec, target, ignore_index)
    return spec


def class_axis(rank):
    """The axis of the classes: the first where there is no batch."""
    return min(1, rank - 1)


def _scores_spec(name, x, weight, reduction):
    dtype = common.native_float(name, common.array(name, x).dtype)
    if x.ndim < 1:
        raise ShapeError(f"{name} must have at least 1 axis (C,), or (N, C, ...), got {name}.shape=()")
    axis = class_axis(x.ndim)
    classes = x.shape[axis]
    if classes < 1:
        raise ShapeError(f"{name} must have at least 1 class, got {name}.shape={x.shape}")
    if weight is not None:
        common.same_dtype("weight", common.array("weight", weight).dtype, name, dtype)
        common.check_shape("weight", weight.shape, (classes,), "one per class")
    reduction_of(reduction)
    return ClassSpec(prod(x.shape[:axis]), classes, prod(x.shape[axis + 1:]), dtype)


def _check_numbers(name, x, spec, target, ignore_index):
    common.integer("ignore_index", ignore_index, -common.MAX_INT)
    common.index_array("target", target)
    axis = class_axis(x.ndim)
    common.check_shape("target", target.shape, x.shape[:axis] + x.shape[axis + 1:], f"that of {name} without classes")


def check_targets(name, classes, target, ignore_index):
    """Refuse a class number that is no class of ``name`` and not to be ignored."""
    number = target.view(target.dtype.str.replace("i", "u"))  # one comparison: negative numbers are the largest ones
    if not target.size or number.max() < classes:
        return
    wrong = number >= classes  # no copy of what is used: it would cost more than the loss
    wrong &= target != ignore_index
    if wrong.any():
        used = target[target != ignore_index]
        raise ShapeError(f"target must be at least 0 and less than the {classes} classes of {name}, or "
                         f"ignore_index={ignore_index}, got values from {used.min()} to {used.max()}")


@dataclass(frozen=True, slots=True)
class PairSpec:
    """A loss between two arrays of one shape, element by element; ``beta`` is that of smooth L1, else 0."""

    kind: str
    beta: float
    dtype: np.dtype


def pair_spec(kind, x, target, reduction, beta=0.0, name="x"):
    """Check two arrays of one shape and the options of mse, l1, smooth_l1 or bce."""
    dtype = common.native_float(name, common.array(name, x).dtype)
    common.same_dtype("target", common.array("target", target).dtype, name, dtype)
    common.check_shape("target", target.shape, x.shape, f"that of {name}")
    reduction_of(reduction)
    beta = common.real("beta", beta, 0.0, np.finfo(np.float64).max, "finite and not negative")
    return PairSpec("l1" if kind == "smooth_l1" and beta == 0 else kind, beta, dtype)


def check_factor(name, factor, spec, shape):
    """Refuse a weight that does not broadcast to the shape of the logits."""
    if factor is None:
        return
    common.same_dtype(name, common.array(name, factor).dtype, "logits", spec.dtype)
    try:
        fits = np.broadcast_shapes(factor.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name} must broadcast to the shape of logits {shape}, got {name}.shape={factor.shape}")


def dice_spec(x, target, smooth, reduction):
    """Check probabilities and target ``(N, C, ...)``; returns the spec and ``smooth``."""
    spec = pair_spec("dice", x, target, reduction)
    if x.ndim < 2:
        raise ShapeError(f"x must have at least 2 axes (N, C, ...), got x.shape={x.shape}")
    return spec, common.real("smooth", smooth, 0.0, np.finfo(np.float64).max, "finite and not negative")


def check_dloss(dtype, shape, reduction, dloss):
    """Refuse an upstream gradient that is neither a number nor (with "none") an array shaped like the loss."""
    if isinstance(dloss, np.ndarray) and dloss.ndim:
        common.same_dtype("dloss", dloss.dtype, "the loss", dtype)
        common.check_shape("dloss", dloss.shape, shape if reduction == "none" else (), "that of the loss")
    elif not isinstance(dloss, (int, float, np.integer, np.floating, np.ndarray)) or isinstance(dloss, bool):
        raise DtypeError(
            f"dloss must be a number or an array shaped like the loss, got dloss={common.shown(dloss)}"
        )
