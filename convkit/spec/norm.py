"""What a batch, layer, group or instance normalisation is."""

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


@dataclass(frozen=True, slots=True)
class RowNormSpec:
    """Rows of ``affine`` runs of ``inner`` elements; each row is normalised, each run has a weight.

    Row r takes the weights of group ``r % groups``: layer norm has one group, group norm and instance norm several.
    """

    groups: int
    affine: int
    inner: int
    eps: float
    dtype: np.dtype

    @property
    def length(self):
        """Elements of a row."""
        return self.affine * self.inner

    @property
    def weights(self):
        """Elements of the weight."""
        return self.groups * self.affine


def batch_norm_spec(x, running_mean, running_var, weight, bias, training, eps):
    """Check ``x (N, C, ...)`` and the per-channel arrays, which may be None where they are not needed."""
    spec = _spec(x, training, eps)
    _check_channel_arrays(spec, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if (running_mean is None) != (running_var is None):
        raise ShapeError("running_mean and running_var must both be given or both be None")
    if running_mean is None and not spec.training:
        raise ShapeError("running_mean and running_var must be given unless training is True")
    if spec.training:
        _check_writeable("training", running_mean=running_mean, running_var=running_var)
        if x.shape[0] * spec.inner == 1:
            raise ShapeError(
                f"x must have more than 1 value per channel when training is True, got x.shape={x.shape}"
            )
    return spec


def batch_norm_backward_spec(dy, x, weight, eps, mean, var, training):
    """Check the gradient's operands; ``mean`` and ``var`` may be None when training."""
    spec = _spec(x, training, eps)
    check_gradient_of(spec, dy, x)
    _check_channel_arrays(spec, weight=weight, mean=mean, var=var)
    if (mean is None) != (var is None):
        raise ShapeError("mean and var must both be given or both be None")
    if mean is None and not spec.training:
        raise ShapeError("mean and var must be the running statistics when training is False, got None")
    return spec


def layer_norm_spec(x, normalized_shape, weight, bias, eps):
    """Check ``x`` and the shape of its last axes, which weight and bias have too; returns that shape as well."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    shape = normalized_shape_of(normalized_shape)
    if x.shape[x.ndim - len(shape):] != shape:
        raise ShapeError(f"normalized_shape must be the shape of the last axes of x, got normalized_shape={shape} and "
                         f"x.shape={x.shape}")
    _check_affine(dtype, shape, "normalized_shape", weight=weight, bias=bias)
    return RowNormSpec(1, prod(shape), 1, _eps_of(eps), dtype), shape


def normalized_shape_of(value):
    """One or more sizes, each at least 1, as a tuple."""
    if not isinstance(value, (tuple, list)):
        return (common.integer("normalized_shape", value, 1),)
    if not value:
        raise ShapeError("normalized_shape must name at least 1 axis, got normalized_shape=()")
    return common.tuple_of("normalized_shape", value, len(value), 1)


def group_norm_spec(x, num_groups, weight, bias, eps):
    """Check ``x (N, C, ...)`` and that the groups divide its channels."""
    dtype = _check_channels_of(x, 2)
    channels, groups = x.shape[1], common.integer("num_groups", num_groups, 1)
    if channels % groups:
        raise ShapeError(f"num_groups must divide the channels of x, got num_groups={groups} and {channels} channels")
    _check_affine(dtype, (channels,), "one per channel", weight=weight, bias=bias)
    return RowNormSpec(groups, channels // groups, prod(x.shape[2:]), _eps_of(eps), dtype)


def instance_norm_spec(x, running_mean, running_var, weight, bias, use_input_stats, eps):
    """Check ``x (N, C, L, ...)``; the spec is that of rows with the input's statistics, else that of a batch norm."""
    if not common.flag("use_input_stats", use_input_stats):
        _check_channels_of(x, 3)
        return batch_norm_spec(x, running_mean, running_var, weight, bias, False, eps)
    spec = _rows_of_instances(x, weight, bias, eps)
    if (running_mean is None) != (running_var is None):
        raise ShapeError("running_mean and running_var must both be given or both be None")
    statistics = {"running_mean": running_mean, "running_var": running_var}
    _check_affine(spec.dtype, (spec.groups,), "one per channel", **statistics)
    _check_writeable("use_input_stats", **statistics)
    return spec


def instance_norm_backward_spec(dy, x, weight, eps, mean, var, use_input_stats):
    """Check the gradient's operands; ``mean`` and ``var`` are the running statistics without the input's."""
    if not common.flag("use_input_stats", use_input_stats):
        _check_channels_of(x, 3)
        return batch_norm_backward_spec(dy, x, weight, eps, mean, var, False)
    spec = _rows_of_instances(x, weight, None, eps)
    check_gradient_of(spec, dy, x)
    return spec


def _rows_of_instances(x, weight, bias, eps):
    _check_channels_of(x, 3)
    spec = group_norm_spec(x, x.shape[1], weight, bias, eps)
    if spec.inner == 1:
        raise ShapeError(f"x must have more than 1 value per channel of an image when use_input_stats is True, "
                         f"got x.shape={x.shape}")
    return spec


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """``x * d**-beta`` with ``d = k + alpha * mean(x**2)`` over a window of ``size`` neighbouring channels."""

    channels: int
    inner: int
    size: int
    alpha: float
    beta: float
    k: float
    dtype: np.dtype


def response_spec(x, size, alpha, beta, k):
    """Check ``x (N, C, L, ...)`` and the numbers of a local response norm."""
    dtype = _check_channels_of(x, 3)
    size = common.integer("size", size, 1)
    numbers = response_numbers(alpha, beta, k)
    return ResponseSpec(x.shape[1], prod(x.shape[2:]), size, *numbers, dtype)


def response_numbers(alpha, beta, k):
    """The three numbers of a local response norm, each finite."""
    return tuple(common.real(name, value, -float_info.max, float_info.max, "finite")
                 for name, value in (("alpha", alpha), ("beta", beta), ("k", k)))


def check_gradient_of(spec, dy, x):
    """Refuse a ``dy`` that is not like ``x``."""
    common.same_dtype("dy", common.array("dy", dy).dtype, "x", spec.dtype)
    common.check_shape("dy", dy.shape, x.shape, "that of x")


def momentum_of(value):
    """The weight of the new batch in the running statistics."""
    return common.real("momentum", value, 0.0, 1.0, "between 0 and 1")


def _spec(x, training, eps):
    dtype = _check_channels_of(x, 2)
    return BatchNormSpec(x.shape[1], prod(x.shape[2:]), common.flag("training", training), _eps_of(eps), dtype)


def _eps_of(eps):
    return common.real("eps", eps, 0.0, float_info.max, "finite and not negative")


def _check_channels_of(x, axes):
    """Refuse anything but ``x (N, C, ...)`` with at least so many axes; returns its dtype."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    if x.ndim < axes:
        names = "(N, C, ...)" if axes == 2 else "(N, C, L, ...)"
        raise ShapeError(f"x must have at least {axes} axes {names}, got x.shape={x.shape}")
    if min(x.shape[1:]) < 1:
        raise ShapeError(
            f"x must have at least 1 element along every axis but the first, got x.shape={x.shape}"
        )
    return dtype


def _check_channel_arrays(spec, **arrays):
    _check_affine(spec.dtype, (spec.channels,), "one per channel", **arrays)


def _check_affine(dtype, shape, why, **arrays):
    for name, a in arrays.items():
        if a is not None:
            common.same_dtype(name, common.array(name, a).dtype, "x", dtype)
            common.check_shape(name, a.shape, shape, why)


def _check_writeable(flag, **arrays):
    for name, a in arrays.items():
        if a is not None and not a.flags.writeable:
            raise ShapeError(f"{name} must be writeable when {flag} is True, because it is updated in place")
