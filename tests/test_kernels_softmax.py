"""csrc/softmax: all kernels at every level and dtype, errors in eps, against extended precision."""

from functools import partial

import numpy as np
import pytest
from dense import LENGTHS, check_gradient, every_dtype, every_isa, pytestmark, same_bits, wide, worst  # noqa: F401

import convkit
import convkit.functional as F
from convkit.kernels import native

if native.available:
    from convkit.kernels.softmax import KERNELS

# (outer, length, inner): contiguous rows of every length, then neighbouring positions in the lanes.
SHAPES = [(3, n, 1) for n in LENGTHS] + [(2, 5, n) for n in LENGTHS] + [(2, 3000, 1), (1, 300, 49)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))


def test_the_registry_is_covered():
    assert set(KERNELS) == {
        "softmax",
        "log_softmax",
        "softmax_backward",
        "log_softmax_backward",
        "cross_entropy",
        "cross_entropy_backward",
    }


def _arrays(shape, dtype, spread=5.0):
    rng = np.random.default_rng(sum(shape))
    if shape[2] == 1:
        shape = shape[:2]
    return (rng.standard_normal(shape) * spread).astype(dtype), rng.standard_normal(shape).astype(dtype), rng


def _exact(x):
    """x - max, exp of that, and the sum of the exponentials over axis 1."""
    shifted = wide(x) - wide(x).max(1, keepdims=True)
    e = np.exp(shifted)
    return shifted, e, e.sum(1, keepdims=True)


@every_isa
@every_dtype
@every_shape
def test_forward(isa, dtype, shape):
    x, _, _ = _arrays(shape, dtype)
    shifted, e, total = _exact(x)
    with convkit.use(isa=isa):
        y, log_y = F.softmax(x, 1), F.log_softmax(x, 1)
    # x - max is rounded once, which the exponential magnifies by |x - max|
    assert worst(y, e / total, e / total * (4 + np.abs(shifted) / 2)) <= 1
    want = shifted - np.log(total)
    assert worst(log_y, want, np.abs(want) + 1) <= 4


@every_isa
@every_dtype
@every_shape
def test_backward(isa, dtype, shape):
    x, dy, _ = _arrays(shape, dtype)
    with convkit.use(isa=isa):
        y, log_y = F.softmax(x, 1), F.log_softmax(x, 1)
        dx, dx_log = F.softmax_backward(dy, y, 1), F.log_softmax_backward(dy, log_y, 1)
    g, p = wide(dy), wide(y)
    want, around = p * (g - (g * p).sum(1, keepdims=True)), np.abs(g * p).sum(1, keepdims=True)
    assert worst(dx, want, p * (np.abs(g) + around)) <= 4
    p, total = np.exp(wide(log_y)), np.abs(g).sum(1, keepdims=True)
    assert worst(dx_log, g - p * g.sum(1, keepdims=True), np.abs(g) + p * total) <= 3


@every_isa
@every_dtype
@every_shape
def test_cross_entropy(isa, dtype, shape):
    x, _, rng = _arrays(shape, dtype)
    target = rng.integers(0, x.shape[1], x.shape[:1] + x.shape[2:])
    scale = rng.standard_normal(target.shape).astype(dtype)
    where = np.expand_dims(target, 1)
    shifted, e, total = _exact(x)
    with convkit.use(isa=isa):
        losses = F.cross_entropy(x, target, reduction="none")
        mean = F.cross_entropy(x, target)
        dx = F.cross_entropy_backward(x, target, reduction="none", dloss=scale)
    want = np.log(total[:, 0]) - np.take_along_axis(shifted, where, 1)[:, 0]
    assert worst(losses, want, want + 1) <= 4
    assert worst(np.asarray(mean), want.mean(), want.mean() + 1) <= 3
    hot, p, scale = np.zeros(x.shape), e / total, wide(np.expand_dims(scale, 1))
    np.put_along_axis(hot, where, 1, 1)
    assert worst(dx, (p - hot) * scale, np.abs(scale) * (p * (4 + np.abs(shifted) / 2) + hot)) <= 1


def test_sure_predictions_keep_their_digits():
    x = np.array([[20.0, 0.0, 1.0]], np.float32)
    want = np.log1p(np.exp(-20.0) + np.exp(-19.0))
    assert abs(F.cross_entropy(x, np.array([0])) - want) <= 4 * np.finfo(np.float32).eps * want
    assert abs(F.log_softmax(x)[0, 0] + want) <= 4 * np.finfo(np.float32).eps * want


@every_isa
@every_dtype
@pytest.mark.parametrize("inner", (1, 3))
def test_special_rows(isa, dtype, inner):
    big = np.finfo(dtype).max
    rows = np.array(
        [
            [0, -np.inf, 1],
            [big, -big, big],
            [-big, -big, -big],
            [-np.inf] * 3,
            [np.inf, 0, 1],
            [np.nan, 0, 1],
            [1e-40, 0, -1e-40],
            [-1e4, 0, 1e4],
        ],
        dtype,
    )
    x = np.repeat(rows[:, :, None], inner, 2)
    with convkit.use(isa=isa), np.errstate(all="ignore"):
        y, log_y = F.softmax(x, 1), F.log_softmax(x, 1)
    np.testing.assert_allclose(y, convkit.reference.softmax(x, 1), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(log_y, convkit.reference.log_softmax(x, 1), rtol=4 * np.finfo(dtype).eps)


@every_dtype
def test_any_axis(dtype):
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(dtype)
    for axis in range(-4, 4):
        for name in ("softmax", "log_softmax"):
            got, want = getattr(F, name)(x, axis), getattr(convkit.reference, name)(x, axis)
            np.testing.assert_allclose(got, want, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "integer", (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64, ">i4")
)
def test_targets_of_any_integer_dtype(integer):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((6, 9)), rng.integers(0, 9, 6)
    assert F.cross_entropy(x, target.astype(integer)) == F.cross_entropy(x, target)
    np.testing.assert_array_equal(
        F.cross_entropy_backward(x, target.astype(integer)), F.cross_entropy_backward(x, target)
    )


@pytest.mark.parametrize("bad", (-1, 9, 2**40))
def test_targets_out_of_range(bad):
    with pytest.raises(convkit.ShapeError, match=str(bad)):
        F.cross_entropy(np.zeros((2, 9)), np.array([0, bad]))


@every_dtype
@pytest.mark.parametrize("shape", [(700, 101), (3, 13, 41, 39)])
def test_same_bits_at_any_thread_count_and_layout(dtype, shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    target = rng.integers(0, shape[1], shape[:1] + shape[2:])
    for name in ("softmax", "log_softmax"):
        same_bits(lambda x, name=name: (getattr(F, name)(x, 1),), x)
        same_bits(lambda dy, y, name=name: (getattr(F, f"{name}_backward")(dy, y, 1),), dy, x)
    same_bits(lambda x, t: (F.cross_entropy(x, t, reduction="none"), F.cross_entropy_backward(x, t)), x, target)


@pytest.mark.parametrize("axis", (1, 2))
def test_gradients_by_finite_differences(axis):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 4, 5))
    for name in ("softmax", "log_softmax"):
        forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
        check_gradient(
            lambda x, f=forward: f(x, axis), lambda dy, f=forward, b=backward: b(dy, f(x, axis), axis), x, rng
        )
    target = rng.integers(0, 4, (3, 5))
    for reduction in ("mean", "sum", "none"):
        check_gradient(
            lambda x, r=reduction: F.cross_entropy(x, target, reduction=r),
            lambda dy, r=reduction: F.cross_entropy_backward(
                x, target, reduction=r, dloss=dy if r == "none" else float(dy)
            ),
            x,
            rng,
        )


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 31, 47, 48, 49])
def test_short_rows_side_by_side_have_the_bits_of_one(isa, dtype, length):
    rng = np.random.default_rng(length)
    x, dy = rng.normal(size=(2, 131, length)).astype(dtype)
    x[3, 0], x[5, -1] = np.nan, np.inf
    target, soft = rng.integers(0, length, 131), convkit.reference.softmax(dy, 1)
    calls = [
        (F.softmax, (x,)), (F.log_softmax, (x,)), (F.softmax_backward, (dy, F.softmax(x))),
        (F.log_softmax_backward, (dy, F.log_softmax(x))),
        (partial(F.cross_entropy, reduction="none"), (x, target)), (partial(F.cross_entropy, reduction="none"), (x, soft)),
        (partial(F.cross_entropy_backward, reduction="none", label_smoothing=0.1), (x, target)),
        (partial(F.cross_entropy_backward, reduction="none"), (x, soft)),
    ]
    with convkit.use(isa=isa):
        for function, arrays in calls:
            together = function(*arrays)
            for rows in (slice(0, 1), slice(3, 4), slice(100, 131), slice(1, 66)):
                alone = function(*(np.ascontiguousarray(a[rows]) for a in arrays))
                np.testing.assert_array_equal(alone, together[rows])
