"""The checks of the operations around convolution: shapes that pass, and the sentence of every refusal."""

import numpy as np
import pytest

from convkit import DtypeError, ShapeError
from convkit import functional as F

RNG = np.random.default_rng(0)
X = np.ones((2, 3, 4), np.float32)
W = np.ones((5, 4), np.float32)
C3 = np.ones(3, np.float32)
FROZEN = C3.copy()
FROZEN.flags.writeable = False
TARGET = np.zeros((2, 4), np.int64)

REFUSED = [
    # relu
    (F.relu, ([1.0],), DtypeError, "x must be a NumPy array, got list; convert it with np.asarray"),
    (
        F.relu,
        (np.ones(3, int),),
        DtypeError,
        "x must be float16, float32 or float64, got x.dtype=int64; convert it with x.astype(np.float32)",
    ),
    (F.relu_backward, (X, X[0]), ShapeError, "dy must have shape (3, 4) (that of y), got dy.shape=(2, 3, 4)"),
    (
        F.relu_backward,
        (X.astype(float), X),
        DtypeError,
        "dy is float64 but y is float32; both must be the same, convert one with dy.astype(np.float32)",
    ),
    # other activations
    (F.sigmoid_backward, (X, X[0]), ShapeError,
     "dy must have shape (3, 4) (that of y), got dy.shape=(2, 3, 4)"),
    (F.silu_backward, (X, X[0]), ShapeError,
     "dy must have shape (3, 4) (that of x), got dy.shape=(2, 3, 4)"),
    (F.leaky_relu, (X, np.inf), ShapeError, "negative_slope must be finite, got negative_slope=inf"),
    (F.softplus, (X, -1), ShapeError, "beta must be positive and finite, got beta=-1"),
    (F.softplus, (X, 1, None), DtypeError, "threshold must be a number, got threshold=None"),
    (F.gelu, (X, None), ShapeError, "approximate must be one of none, tanh, got None"),
    # 81: linear
    (F.linear, (X, W[:, :3]), ShapeError, "weight takes 3 features but x has shape (2, 3, 4)"),
    (F.linear, (np.ones((), np.float32), W), ShapeError, "weight takes 4 features but x has shape ()"),
    (F.linear, (X, W[0]), ShapeError, "weight must have 2 axes (out, in), got weight.shape=(4,)"),
    (
        F.linear,
        (X, W, W[0]),
        ShapeError,
        "bias must have shape (5,) (one per output feature), got bias.shape=(4,)",
    ),
    (
        F.linear,
        (X, W, C3[:1]),
        ShapeError,
        "bias must have shape (5,) (one per output feature), got bias.shape=(1,)",
    ),
    (
        F.linear,
        (X.astype(float), W),
        DtypeError,
        "x is float64 but weight is float32; both must be the same, convert one with "
        "x.astype(np.float32)",
    ),
    (
        F.linear_backward,
        (X, X, W),
        ShapeError,
        "dy must have shape (2, 3, 5) (that of the output), got dy.shape=(2, 3, 4)",
    ),
    # 83: softmax
    (F.softmax, (X, 3), ShapeError, "axis must be between -3 and 2 for an array of 3 axes, got axis=3"),
    (F.log_softmax, (X, -4), ShapeError, "axis must be between -3 and 2 for an array of 3 axes, got axis=-4"),
    (F.softmax, (X, 1.0), DtypeError, "axis must be an integer, got axis=1.0"),
    (F.softmax, (X, None), DtypeError, "axis must be an integer, got axis=None"),
    (F.softmax, (np.ones(()),), ShapeError, "x must have at least 1 axis, got x.shape=()"),
    (
        F.softmax_backward,
        (X, X[0]),
        ShapeError,
        "dy must have shape (3, 4) (that of y), got dy.shape=(2, 3, 4)",
    ),
    # cross-entropy
    (
        F.cross_entropy,
        (X[0, 0, 0, ...], TARGET),
        ShapeError,
        "logits must have at least 1 axis (C,), or (N, C, ...), got logits.shape=()",
    ),
    (
        F.cross_entropy,
        (X[:, :0], TARGET),
        ShapeError,
        "logits must have at least 1 class, got logits.shape=(2, 0, 4)",
    ),
    (
        F.cross_entropy,
        (X, TARGET[:1]),
        ShapeError,
        "target must have shape (2, 4) (that of logits without classes), got target.shape=(1, 4)",
    ),
    (
        F.cross_entropy,
        (X, TARGET - 99),
        ShapeError,
        "target must be at least 0 and less than the 3 classes of logits, or ignore_index=-100, got values from -99 to -99",
    ),
    (
        F.cross_entropy,
        (X, TARGET + 3),
        ShapeError,
        "target must be at least 0 and less than the 3 classes of logits, or ignore_index=-100, got values from 3 to 3",
    ),
    (
        F.cross_entropy,
        (X, TARGET.astype(np.uint64) + np.uint64(2**63)),
        ShapeError,
        "target must be at least 0 and less than the 3 classes of logits, or ignore_index=-100, got values from "
        "9223372036854775808 to "
        "9223372036854775808",
    ),
    (
        F.cross_entropy,
        (X, X[:, 0]),
        ShapeError,
        "target must have shape (2, 3, 4) (that of logits, for probabilities; the numbers of classes are integers), got target.shape=(2, 4)",
    ),
    (
        lambda *args: F.cross_entropy(*args[:2], reduction=args[2]),
        (X, TARGET, "median"),
        ShapeError,
        "reduction must be one of mean, sum, none, got reduction='median'",
    ),
    (
        lambda *args: F.cross_entropy(*args[:2], reduction=args[2]),
        (X, TARGET, None),
        ShapeError,
        "reduction must be one of mean, sum, none, got reduction=None",
    ),
    (
        lambda *args: F.cross_entropy_backward(*args[:2], reduction=args[2], dloss=args[3]),
        (X, TARGET, "mean", "1"),
        DtypeError,
        "dloss must be a number or an array shaped like the loss, got dloss='1'",
    ),
    (
        lambda *args: F.cross_entropy_backward(*args[:2], reduction=args[2], dloss=args[3]),
        (X, TARGET, "mean", X[:, 0]),
        ShapeError,
        "dloss must have shape () (that of the loss), got dloss.shape=(2, 4)",
    ),
    (
        lambda *args: F.cross_entropy_backward(*args[:2], reduction=args[2], dloss=args[3]),
        (X, TARGET, "none", X[0]),
        ShapeError,
        "dloss must have shape (2, 4) (that of the loss), got dloss.shape=(3, 4)",
    ),
    # batch norm
    (
        F.batch_norm,
        (X[0, 0], C3, C3),
        ShapeError,
        "x must have at least 2 axes (N, C, ...), got x.shape=(4,)",
    ),
    (
        F.batch_norm,
        (X[:, :, :0], C3, C3),
        ShapeError,
        "x must have at least 1 element along every axis but the first, got x.shape=(2, 3, 0)",
    ),
    (
        F.batch_norm,
        (X, C3[:2], C3),
        ShapeError,
        "running_mean must have shape (3,) (one per channel), got running_mean.shape=(2,)",
    ),
    (
        F.batch_norm,
        (X, C3, None),
        ShapeError,
        "running_mean and running_var must both be given or both be None",
    ),
    (
        F.batch_norm,
        (X, None, None),
        ShapeError,
        "running_mean and running_var must be given unless training is True",
    ),
    (
        F.batch_norm,
        (X, C3, FROZEN, None, None, True),
        ShapeError,
        "running_var must be writeable when training is True, because it is updated in place",
    ),
    (
        F.batch_norm,
        (X[:1, :, :1], C3, C3, None, None, True),
        ShapeError,
        "x must have more than 1 value per channel when training is True, got x.shape=(1, 3, 1)",
    ),
    (F.batch_norm, (X, C3, C3, None, None, 1), DtypeError, "training must be True or False, got training=1"),
    (
        F.batch_norm,
        (X, C3, C3, None, None, True, 1.5),
        ShapeError,
        "momentum must be between 0 and 1, got momentum=1.5",
    ),
    (
        F.batch_norm,
        (X, C3, C3, None, None, True, None),
        DtypeError,
        "momentum must be a number, got momentum=None",
    ),
    (
        F.batch_norm,
        (X, C3, C3, None, None, True, 0.1, -1.0),
        ShapeError,
        "eps must be finite and not negative, got eps=-1.0",
    ),
    (
        F.batch_norm,
        (X, C3, C3, None, None, True, 0.1, float("nan")),
        ShapeError,
        "eps must be finite and not negative, got eps=nan",
    ),
    (
        F.batch_norm_backward,
        (X[:1], X),
        ShapeError,
        "dy must have shape (2, 3, 4) (that of x), got dy.shape=(1, 3, 4)",
    ),
    # dropout
    (lambda x: F.dropout(x, 1.5, rng=RNG), (X,), ShapeError, "p must be between 0 and 1, got p=1.5"),
    (lambda x: F.dropout(x, float("nan"), rng=RNG), (X,), ShapeError, "p must be between 0 and 1, got p=nan"),
    (lambda x: F.dropout(x, True, rng=RNG), (X,), DtypeError, "p must be a number, got p=True"),
    (lambda x: F.dropout(x, rng=0), (X,), DtypeError, "rng must be a numpy.random.Generator, got int"),
    (
        lambda x: F.dropout(x, 0.5, 1, rng=RNG),
        (X,),
        DtypeError,
        "training must be True or False, got training=1",
    ),
    (F.dropout_backward, (X, X), DtypeError, "mask must be an array of bools, got mask.dtype=float32"),
    (
        F.dropout_backward,
        (X, X[0] > 0),
        ShapeError,
        "mask must have shape (2, 3, 4) (that of dy), got mask.shape=(3, 4)",
    ),
    # what no kernel computes
    (
        F.relu,
        (np.zeros(3, complex),),
        DtypeError,
        "x must be float16, float32 or float64, got x.dtype=complex128; compute x.real and x.imag apart",
    ),
    (
        F.relu,
        (np.zeros(3, bool),),
        DtypeError,
        "x must be float16, float32 or float64, got x.dtype=bool; convert it with x.astype(np.float32)",
    ),
    # flatten
    (
        F.flatten,
        (X, 3),
        ShapeError,
        "start_dim must be between -3 and 2 for an array of 3 axes, got start_dim=3",
    ),
    (
        F.flatten,
        (X, 2, 1),
        ShapeError,
        "start_dim must not come after end_dim, got start_dim=2 and end_dim=1 for x.shape=(2, 3, 4)",
    ),
    (F.flatten, ([1],), DtypeError, "x must be a NumPy array, got list; convert it with np.asarray"),
]


@pytest.mark.parametrize(("function", "args", "kind", "message"), REFUSED)
def test_refused(function, args, kind, message):
    with pytest.raises(kind) as error:
        function(*args)
    assert str(error.value) == message


def test_batch_norm_gradient_needs_running_statistics_unless_training():
    with pytest.raises(
        ShapeError, match="mean and var must be the running statistics when training is False"
    ):
        F.batch_norm_backward(X, X, training=False)
    with pytest.raises(ShapeError, match="mean and var must both be given or both be None"):
        F.batch_norm_backward(X, X, mean=C3)


@pytest.mark.parametrize(
    ("args", "shape"),
    [((), (2, 12)), ((0,), (24,)), ((0, 1), (6, 4)), ((-2, -1), (2, 12)), ((1, 1), (2, 3, 4))],
)
def test_flatten_joins_axes(args, shape):
    y = F.flatten(X, *args)
    assert y.shape == shape
    assert np.shares_memory(y, X)
    assert F.flatten(np.ones(()), 0, 0).shape == (1,)
    assert F.flatten(np.ones((0, 3, 4))).shape == (0, 12)
