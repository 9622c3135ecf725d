"""Cross-entropy between scores (logits) and integer targets."""

from typing import Any

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.reference.softmax import log_softmax64
from convkit.spec.loss import check_dloss, cross_entropy_spec
from convkit.typing import Floats, Labels


@np.errstate(all="ignore")
def cross_entropy(logits: Floats, target: Labels, reduction: str = "mean") -> Any:
    """``-log softmax(logits)[target]`` over axis 1: the mean, the sum, or one value for each target."""
    spec = cross_entropy_spec(logits, target, reduction)
    where = np.expand_dims(target.astype(np.int64), 1)
    losses = -np.take_along_axis(log_softmax64(logits, 1), where, axis=1)[:, 0]
    if reduction == "none":
        return narrow(losses, spec.dtype)
    total = losses.sum()
    return narrow(total if reduction == "sum" else total / losses.size, spec.dtype)


@np.errstate(all="ignore")
def cross_entropy_backward(logits: Floats, target: Labels, reduction: str = "mean", dloss: float | Floats = 1.0
) -> Floats:
    """``dlogits = (softmax(logits) - [c == target]) * dloss``, over the number of targets for the mean."""
    spec = cross_entropy_spec(logits, target, reduction)
    check_dloss(spec, target, dloss)
    where = np.expand_dims(target.astype(np.int64), 1)
    d = np.exp(log_softmax64(logits, 1))
    np.put_along_axis(d, where, np.take_along_axis(d, where, axis=1) - 1.0, axis=1)
    scale = np.expand_dims(widen(np.broadcast_to(dloss, target.shape)), 1)
    return narrow(d * scale / (target.size if reduction == "mean" else 1), spec.dtype)
