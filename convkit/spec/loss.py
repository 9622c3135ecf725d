"""What a cross-entropy loss is."""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True, slots=True)
class CrossEntropySpec:
    """One target for each group of ``classes`` scores, which lie ``inner`` elements apart."""

    classes: int
    inner: int
    reduction: str
    dtype: np.dtype


def cross_entropy_spec(logits, target, reduction):
    """Check ``logits (N, C, ...)``, integer ``target (N, ...)`` and the reduction."""
    dtype = common.native_float("logits", common.array("logits", logits).dtype)
    common.index_array("target", target)
    if logits.ndim < 2:
        raise ShapeError(f"logits must have at least 2 axes (N, C, ...), got logits.shape={logits.shape}")
    classes = logits.shape[1]
    if classes < 1:
        raise ShapeError(f"logits must have at least 1 class, got logits.shape={logits.shape}")
    common.check_shape(
        "target", target.shape, logits.shape[:1] + logits.shape[2:], "that of logits without classes"
    )
    if target.size and not (target.min() >= 0 and target.max() < classes):
        raise ShapeError(f"target must be at least 0 and less than the {classes} classes of logits, "
                         f"got values from {target.min()} to {target.max()}")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ShapeError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, got reduction={common.shown(reduction)}"
        )
    return CrossEntropySpec(classes, prod(logits.shape[2:]), reduction, dtype)


def check_dloss(spec, target, dloss):
    """Refuse an upstream gradient that is neither a number nor (with "none") an array like the loss."""
    if isinstance(dloss, np.ndarray) and dloss.ndim:
        common.same_dtype("dloss", dloss.dtype, "logits", spec.dtype)
        want = target.shape if spec.reduction == "none" else ()
        common.check_shape("dloss", dloss.shape, want, "that of the loss")
    elif not isinstance(dloss, (int, float, np.integer, np.floating, np.ndarray)) or isinstance(dloss, bool):
        raise DtypeError(
            f"dloss must be a number or an array shaped like the loss, got dloss={common.shown(dloss)}"
        )
