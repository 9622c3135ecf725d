"""Normalisation layers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.functional.activation import relu_backward
from convkit.functional.norm import (
    batch_norm_gradients,
    batch_norm_kept,
    batch_norm_relu,
    group_norm_gradients,
    group_norm_kept,
    instance_norm_gradients,
    instance_norm_kept,
    layer_norm_gradients,
    layer_norm_kept,
)
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, array_or_none, wants_grad
from convkit.spec import common
from convkit.spec.norm import momentum_of, normalized_shape_of, response_numbers
from convkit.typing import Backward, Floats


class _ChannelNorm(Module):
    """What batch and instance norms share: parameters and running statistics; a subclass gives its ``ranks``."""

    ranks = (0,)

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, *, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        self.num_features = common.integer("num_features", num_features, 1)
        self.eps = _eps(eps)
        self.momentum = None if momentum is None else momentum_of(momentum)
        self.affine = common.flag("affine", affine)
        self.track_running_stats = common.flag("track_running_stats", track_running_stats)
        dtype = common.float_dtype("dtype", dtype)
        common.check_bytes("weight", (self.num_features,), dtype)
        self.weight = Parameter(np.ones(self.num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_features, dtype)) if common.flag("bias", bias) and affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(self.num_features, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(self.num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def _check_input(self, x):
        if common.array("x", x).ndim - 2 not in self.ranks:
            shapes = [f"{rank + 2} axes (N, C{', ' if rank else ''}{common.AXES.get(rank, '')})" for rank in self.ranks]
            raise ShapeError(f"x must have {' or '.join(shapes)}, got x.shape={x.shape}")
        if x.shape[1] != self.num_features:
            raise ShapeError(f"x must have num_features={self.num_features} channels, got x.shape={x.shape}")

    def _own_statistics(self):
        """Whether those of the input are used, and otherwise copies of the running ones for the backward pass, because
        they may move on before it is called.
        """
        if self.training or not self.track_running_stats:
            return True, None, None
        return False, self.running_mean.copy(), self.running_var.copy()

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}{_without_bias(self)}")


def _eps(value):
    return common.real("eps", value, 0.0, np.finfo(np.float64).max, "finite and not negative")


def _without_bias(module):
    """What ``extra_repr`` says of a norm whose weight has no bias beside it."""
    return ", bias=False" if module.affine and module.bias is None else ""


def _give(module, dweight, dbias):
    """Add gradients to the weight and bias of a norm, where it has them."""
    if wants_grad(module.weight):
        module.weight.add_grad(dweight)
    if wants_grad(module.bias):
        module.bias.add_grad(dbias)


class _BatchNorm(_ChannelNorm):
    """What batch norms of all ranks share."""

    def predict(self, x: Floats) -> Floats:
        return batch_norm_kept(x, *self._arguments(x), self.eps, keep=False)[0]

    def _arguments(self, x):
        self._check_input(x)
        learn = self.training and self.track_running_stats
        if learn:
            vars(self)["num_batches_tracked"] += 1  # a number like those of the other buffers, no change of the layer
        momentum = self.momentum
        if momentum is None:  # the plain mean over all batches so far
            momentum = 1 / int(self.num_batches_tracked) if learn else 0.0
        use_batch = self.training or not self.track_running_stats
        return (self.running_mean, self.running_var, array_or_none(self.weight), array_or_none(self.bias), use_batch,
                momentum)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, saved = batch_norm_kept(x, *self._arguments(x), self.eps)
        return y, self._backward_of(x, saved)

    def forward_over(self, x: Floats, relu: bool, over_dy: bool) -> tuple[Floats, Backward]:
        """``forward``, ReLU after it or not, with dx over ``dy`` where nobody else holds that (``nn.passes``)."""
        if not relu:
            y, saved = batch_norm_kept(x, *self._arguments(x), self.eps)
            return y, self._backward_of(x, saved, None, over_dy)
        y, saved, line = batch_norm_relu(x, *self._arguments(x), self.eps)
        if line is not None:
            return y, self._backward_of(x, saved, line, over_dy)
        backward = self._backward_of(x, saved, None, True)
        return y, lambda dy: backward(relu_backward(dy, y))

    def _backward_of(self, x, saved, line=None, over_dy=False):
        use_batch, mean, var = self._own_statistics()

        def backward(dy):
            dx, dweight, dbias = batch_norm_gradients(dy, x, array_or_none(self.weight), self.eps, mean, var, use_batch,
                                                      saved, line, over_dy)
            _give(self, dweight, dbias)
            return dx

        return backward


class BatchNorm1d(_BatchNorm):
    """Each channel of ``x (N, C)`` or ``(N, C, L)`` to mean 0 and variance 1; see ``BatchNorm2d``."""

    ranks = (0, 1)


class BatchNorm2d(_BatchNorm):
    """Each channel of ``x (N, C, H, W)`` to mean 0 and variance 1, then times ``weight`` plus ``bias``.

    Training uses the batch's own statistics and moves the running ones by ``momentum`` (None: their plain mean);
    in ``eval()`` the running ones are used.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
    affine : bool
        Whether there is a ``weight``.
    track_running_stats : bool
        Without them the batch's own statistics are used always.
    bias : bool
        Whether there is a ``bias`` beside the weight.
    dtype : float16, float32 or float64
    """

    ranks = (2,)


class BatchNorm3d(_BatchNorm):
    """Each channel of ``x (N, C, D, H, W)`` to mean 0 and variance 1; see ``BatchNorm2d``."""

    ranks = (3,)


class _InstanceNorm(_ChannelNorm):
    """What instance norms of all ranks share; ``x`` may lack its batch axis."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, *, bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype)

    def predict(self, x: Floats) -> Floats:
        return self._normalise(x, keep=False)[0]

    def _normalise(self, x, keep):
        rank, = self.ranks
        if common.array("x", x).ndim == rank + 1:
            y, saved = self._normalise(x[None], keep)
            return y[0], saved
        self._check_input(x)
        use_input = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        return instance_norm_kept(x, self.running_mean, self.running_var, array_or_none(self.weight),
                                  array_or_none(self.bias), use_input, momentum, self.eps, keep)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, saved = self._normalise(x, keep=True)
        use_input, mean, var = self._own_statistics()
        whole = (-1, *x.shape[-1 - self.ranks[0]:])  # with a batch axis

        def backward(dy):
            common.check_shape("dy", common.array("dy", dy).shape, x.shape, "that of x")
            weight = array_or_none(self.weight)
            gradients = instance_norm_gradients(dy.reshape(whole), x.reshape(whole), weight, self.eps, mean, var,
                                                use_input, saved)
            dx, dweight, dbias = gradients
            _give(self, dweight, dbias)
            return dx.reshape(x.shape)

        return y, backward


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each image of ``x (N, C, L)`` to mean 0 and variance 1; see ``InstanceNorm2d``."""

    ranks = (1,)


class InstanceNorm2d(_InstanceNorm):
    """Each channel of each image of ``x (N, C, H, W)`` to mean 0 and variance 1, then times ``weight`` plus ``bias``.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of a new batch in the running statistics.
    affine : bool
        Whether there is a ``weight``.
    track_running_stats : bool
        With them, ``eval()`` uses the running statistics instead of the image's own.
    bias : bool
        Whether there is a ``bias`` beside the weight.
    dtype : float16, float32 or float64
    """

    ranks = (2,)


class InstanceNorm3d(_InstanceNorm):
    """Each channel of each image of ``x (N, C, D, H, W)`` to mean 0 and variance 1; see ``InstanceNorm2d``."""

    ranks = (3,)


class LayerNorm(Module):
    """The last axes of ``x`` to mean 0 and variance 1, then times ``weight`` plus ``bias``.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of those axes.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether there is a ``weight``.
    bias : bool
        Whether there is a ``bias`` beside it.
    dtype : float16, float32 or float64
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, *, dtype: DTypeLike = np.float32) -> None:
        self.normalized_shape = normalized_shape_of(normalized_shape)
        self.eps = _eps(eps)
        self.elementwise_affine = common.flag("elementwise_affine", elementwise_affine)
        dtype = common.float_dtype("dtype", dtype)
        common.check_bytes("weight", self.normalized_shape, dtype)
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        has_bias = common.flag("bias", bias) and self.elementwise_affine
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if has_bias else None

    def predict(self, x: Floats) -> Floats:
        return F.layer_norm(x, self.normalized_shape, array_or_none(self.weight), array_or_none(self.bias), self.eps)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, saved = layer_norm_kept(x, self.normalized_shape, array_or_none(self.weight), array_or_none(self.bias),
                                   self.eps)

        def backward(dy):
            dx, dweight, dbias = layer_norm_gradients(dy, x, self.normalized_shape, array_or_none(self.weight),
                                                      self.eps, saved)
            _give(self, dweight, dbias)
            return dx

        return y, backward

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class GroupNorm(Module):
    """Each group of channels of each image to mean 0 and variance 1, then times ``weight`` plus ``bias`` by channel.

    Parameters
    ----------
    num_groups, num_channels : int
        The groups divide the channels.
    eps : float
        Added to the variance.
    affine : bool
        Whether there is a ``weight``.
    bias : bool
        Whether there is a ``bias`` beside it.
    dtype : float16, float32 or float64
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *,
                 bias: bool = True, dtype: DTypeLike = np.float32) -> None:
        self.num_groups = common.integer("num_groups", num_groups, 1)
        self.num_channels = common.integer("num_channels", num_channels, 1)
        if self.num_channels % self.num_groups:
            raise ShapeError(f"num_groups must divide num_channels, got num_groups={num_groups} and "
                             f"num_channels={num_channels}")
        self.eps = _eps(eps)
        self.affine = common.flag("affine", affine)
        dtype = common.float_dtype("dtype", dtype)
        common.check_bytes("weight", (self.num_channels,), dtype)
        self.weight = Parameter(np.ones(self.num_channels, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_channels, dtype)) if common.flag("bias", bias) and affine else None

    def predict(self, x: Floats) -> Floats:
        self._check_input(x)
        return F.group_norm(x, self.num_groups, array_or_none(self.weight), array_or_none(self.bias), self.eps)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        self._check_input(x)
        y, saved = group_norm_kept(x, self.num_groups, array_or_none(self.weight), array_or_none(self.bias), self.eps)

        def backward(dy):
            dx, dweight, dbias = group_norm_gradients(dy, x, self.num_groups, array_or_none(self.weight), self.eps,
                                                      saved)
            _give(self, dweight, dbias)
            return dx

        return y, backward

    def _check_input(self, x):
        if common.array("x", x).ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"x must have num_channels={self.num_channels} channels, got x.shape={x.shape}")

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}{_without_bias(self)}"


class LocalResponseNorm(Module):
    """``x / (k + alpha * mean(x**2))**beta``, the mean over ``size`` neighbouring channels.

    Parameters
    ----------
    size : int
        Channels of a window.
    alpha, beta, k : float
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = common.integer("size", size, 1)
        self.alpha, self.beta, self.k = response_numbers(alpha, beta, k)

    def predict(self, x: Floats) -> Floats:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        numbers = self.size, self.alpha, self.beta, self.k
        return F.local_response_norm(x, *numbers), lambda dy: F.local_response_norm_backward(dy, x, *numbers)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
