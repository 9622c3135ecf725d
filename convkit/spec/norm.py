"""What a batch normalisation is."""

from dataclasses import dataclass
from math import prod
from sys import float_info

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class BatchNormSpec:
    """``channels`` channels of ``inner`` elements per image; ``training`` uses the batch's statistics."""

    channels: int
    inner: int
    training: bool
    eps: float
    dtype: np.dtype


def batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps):
    """Check ``x (N, C, ...)`` and the per-channel arrays, which may be None where they are not needed."""
    spec = _spec(x, training, eps)
    _check_channel_arrays(spec, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if (running_mean is None) != (running_var is None):
        raise ShapeError("running_mean and running_var must both be given or both be None")
    if running_mean is None and not spec.training:
        raise ShapeError("running_mean and running_var must be given unless training is True")
    if spec.training:
        for name, stat in (("running_mean", running_mean), ("running_var", running_var)):
            if stat is not None and not stat.flags.writeable:
                raise ShapeError(
                    f"{name} must be writeable when training is True, because it is updated in place"
                )
        if x.shape[0] * spec.inner == 1:
            raise ShapeError(
                f"x must have more than 1 value per channel when training is True, got x.shape={x.shape}"
            )
    return spec


def batch_norm_backward_spec(dy, x, weight, eps, mean, var, training):
    """Check the gradient's operands; ``mean`` and ``var`` may be None when training."""
    spec = _spec(x, training, eps)
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, x.shape, "that of x")
    _check_channel_arrays(spec, weight=weight, mean=mean, var=var)
    if (mean is None) != (var is None):
        raise ShapeError("mean and var must both be given or both be None")
    if mean is None and not spec.training:
        raise ShapeError("mean and var must be the running statistics when training is False, got None")
    return spec


def momentum_of(value):
    """The weight of the new batch in the running statistics."""
    return common.real("momentum", value, 0.0, 1.0, "between 0 and 1")


def _spec(x, training, eps):
    dtype = common.native_float("x", common.array("x", x).dtype)
    if x.ndim < 2:
        raise ShapeError(f"x must have at least 2 axes (N, C, ...), got x.shape={x.shape}")
    if min(x.shape[1:]) < 1:
        raise ShapeError(
            f"x must have at least 1 element along every axis but the first, got x.shape={x.shape}"
        )
    eps = common.real("eps", eps, 0.0, float_info.max, "finite and not negative")
    return BatchNormSpec(x.shape[1], prod(x.shape[2:]), common.flag("training", training), eps, dtype)


def _check_channel_arrays(spec, **arrays):
    for name, a in arrays.items():
        if a is not None:
            common.same_dtype(name, common.array(name, a).dtype, "x", spec.dtype)
            common.check_shape(name, a.shape, (spec.channels,), "one per channel")
