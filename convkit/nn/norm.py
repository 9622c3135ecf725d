"""Normalisation layers."""

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.errors import ShapeError
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, array_or_none, wants_grad
from convkit.spec import common
from convkit.spec.norm import momentum_of
from convkit.typing import Backward, Floats


class _BatchNorm(Module):
    """What batch norms of all ranks share; a subclass gives ``rank``."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True,
                 track_running_stats: bool = True, *, dtype: DTypeLike = np.float32) -> None:
        self.num_features = common.integer("num_features", num_features, 1)
        self.eps = common.real("eps", eps, 0.0, np.finfo(np.float64).max, "finite and not negative")
        self.momentum = None if momentum is None else momentum_of(momentum)
        self.affine = common.flag("affine", affine)
        self.track_running_stats = common.flag("track_running_stats", track_running_stats)
        dtype = common.native_float("dtype", np.dtype(dtype))
        self.weight = Parameter(np.ones(self.num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(self.num_features, dtype)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(self.num_features, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(self.num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def predict(self, x: Floats) -> Floats:
        self._check_input(x)
        learn = self.training and self.track_running_stats
        if learn:
            self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:  # the plain mean over all batches so far
            momentum = 1 / int(self.num_batches_tracked) if learn else 0.0
        use_batch = self.training or not self.track_running_stats
        weight, bias = array_or_none(self.weight), array_or_none(self.bias)
        return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, use_batch, momentum, self.eps)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = self.predict(x)
        use_batch = self.training or not self.track_running_stats
        # Copies, because the statistics may move on before backward is called.
        stats = {} if use_batch else {"mean": self.running_mean.copy(), "var": self.running_var.copy()}

        def backward(dy):
            weight = array_or_none(self.weight)
            dx, dw, db = F.batch_norm_backward(dy, x, weight, self.eps, training=use_batch, **stats)
            if wants_grad(self.weight):
                self.weight.add_grad(dw)
            if wants_grad(self.bias):
                self.bias.add_grad(db)
            return dx

        return y, backward

    def _check_input(self, x):
        axes = self.rank + 2
        if common.array("x", x).ndim != axes:
            raise ShapeError(f"x must have {axes} axes (N, C, {common.AXES[self.rank]}), got x.shape={x.shape}")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


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
        Whether there are ``weight`` and ``bias``.
    track_running_stats : bool
        Without them the batch's own statistics are used always.
    dtype : float32 or float64
    """

    rank = 2
