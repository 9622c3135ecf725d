"""csrc/norm: sums and batch normalisation at every level and dtype, in eps, against extended precision."""

from functools import partial

import numpy as np
import pytest
from dense import check_gradient, every_dtype, every_isa, pytestmark, same_bits, wide, worst  # noqa: F401

import convkit
import convkit.functional as F
from convkit.functional import norm
from convkit.kernels import native

if native.available:
    from convkit.kernels.norm import KERNELS, Norm

EPS = 1e-5
INNER = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 49, 63, 64, 65, 100, 196, 1024, 5000)


def test_the_registry_is_covered():
    assert set(KERNELS) == {"channel_sum", "train", "eval", "train_backward", "eval_backward", "rows", "rows_backward",
                            "prelu", "prelu_backward", "scale", "response", "response_backward"}


class Oracle:
    """The definitions in extended precision, and the scale that an error is measured by."""

    def __init__(self, x, dy, weight, bias, mean=None, var=None):
        self.x, self.dy = wide(x), wide(dy)
        self.axes = (0, *range(2, x.ndim))
        self.m = x.size // x.shape[1]
        self.mean = self.x.sum(self.axes) / self.m if mean is None else wide(mean)
        self.var = (
            ((self.x - self.per_channel(self.mean)) ** 2).sum(self.axes) / self.m
            if var is None
            else wide(var)
        )
        self.scale = 1 / np.sqrt(self.var + wide(EPS))
        self.z = (self.x - self.per_channel(self.mean)) * self.per_channel(self.scale)
        self.weight, self.bias = wide(weight), wide(bias)

    def per_channel(self, a):
        return a.reshape(1, -1, *[1] * (self.x.ndim - 2))

    def y(self):
        w, b = self.per_channel(self.weight), self.per_channel(self.bias)
        return self.z * w + b, np.abs(self.z * w) + np.abs(w) + np.abs(b)

    def dweight(self):
        return (self.dy * self.z).sum(self.axes), np.abs(self.dy * self.z).sum(self.axes)

    def dbias(self):
        return self.dy.sum(self.axes), np.abs(self.dy).sum(self.axes)

    def dx(self, training):
        a = self.per_channel(self.scale * self.weight)
        if not training:
            return a * self.dy, np.abs(a * self.dy)
        mean_dy, mean_product = (self.per_channel(s / self.m) for s in (self.dbias()[0], self.dweight()[0]))
        scale = np.abs(a) * (np.abs(self.dy) + np.abs(mean_dy) + np.abs(self.z * mean_product))
        return a * (self.dy - mean_dy - self.z * mean_product), scale


def _operands(rng, shape, dtype, offset=0.0):
    c = shape[1]
    return (
        (rng.standard_normal(shape) * 2 + offset).astype(dtype),
        (rng.standard_normal(shape) + 1).astype(dtype),
        rng.standard_normal(c).astype(dtype),
        rng.standard_normal(c).astype(dtype),
    )


@every_isa
@every_dtype
@pytest.mark.parametrize("inner", INNER)
def test_training(isa, dtype, inner):
    rng = np.random.default_rng(inner)
    for offset in (0.0, 1000.0):
        x, dy, weight, bias = _operands(rng, (3, 4, inner), dtype, offset)
        want = Oracle(x, dy, weight, bias)
        mean, var = np.full(4, 0.5, dtype), np.full(4, 2.0, dtype)
        with convkit.use(isa=isa):
            y = F.batch_norm(x, mean, var, weight, bias, True, 0.25, EPS)
            dx, dweight, dbias = F.batch_norm_backward(dy, x, weight, EPS)
        assert worst(y, *want.y()) <= 4
        assert worst(dbias, *want.dbias()) <= 3
        assert worst(dweight, *want.dweight()) <= 3
        assert worst(dx, *want.dx(True)) <= 4
        assert worst(mean, 0.375 + want.mean / 4, 0.375 + np.abs(want.x).sum((0, 2)) / want.m / 4) <= 3
        assert worst(var, 1.5 + want.var * want.m / (want.m - 1) / 4, 1.5 + want.var) <= 3


@every_isa
@every_dtype
@pytest.mark.parametrize("inner", (1, 5, 16, 49, 100))
def test_evaluation(isa, dtype, inner):
    rng = np.random.default_rng(inner)
    x, dy, weight, bias = _operands(rng, (3, 4, inner), dtype)
    mean, var = rng.standard_normal(4).astype(dtype), rng.uniform(0.1, 3, 4).astype(dtype)
    want = Oracle(x, dy, weight, bias, mean, var)
    with convkit.use(isa=isa):
        y = F.batch_norm(x, mean, var, weight, bias, eps=EPS)
        dx, dweight, dbias = F.batch_norm_backward(dy, x, weight, EPS, mean=mean, var=var, training=False)
    assert worst(y, *want.y()) <= 3
    assert worst(dx, *want.dx(False)) <= 3
    assert worst(dweight, *want.dweight()) <= 3
    assert worst(dbias, *want.dbias()) <= 3


@every_isa
@every_dtype
@pytest.mark.parametrize("shape", [(1, 3, 7), (2, 5, 1), (100, 3, 9), (64, 40, 1), (2, 2, 20000)])
def test_channel_sum(isa, dtype, shape):
    x = (np.random.default_rng(0).standard_normal(shape) + 3).astype(dtype)
    y = np.full(shape[1], np.nan, dtype)
    Norm("channel_sum", isa, x.itemsize).sums(x, y, 1)
    assert worst(y, wide(x).sum((0, 2)), np.abs(wide(x)).sum((0, 2))) <= 2
    whole = np.random.default_rng(1).integers(-9, 9, shape).astype(dtype)
    Norm("channel_sum", isa, x.itemsize).sums(whole, y, 1)
    np.testing.assert_array_equal(y, whole.sum((0, 2)))


@every_isa
def test_sums_keep_infinities(isa):
    x, y = np.ones((2, 2, 300), np.float32), np.empty(2, np.float32)
    x[0, 1, 17] = np.inf
    Norm("channel_sum", isa, 4).sums(x, y, 1)
    assert y.tolist() == [600.0, np.inf]


def test_batch_norm_without_weight_bias_or_statistics():
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 6))
    want = convkit.reference.batch_norm(x, None, None, training=True)
    np.testing.assert_allclose(F.batch_norm(x, None, None, training=True), want, rtol=0, atol=1e-14)


def test_running_statistics_of_any_layout_are_moved_in_place():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    want_mean, want_var = np.zeros(6, np.float32), np.ones(6, np.float32)
    F.batch_norm(x, want_mean, want_var, training=True)
    mean, var = np.zeros(12, np.float32)[::2], np.ones(6, ">f4")
    F.batch_norm(x, mean, var, training=True)
    np.testing.assert_array_equal(mean, want_mean)
    np.testing.assert_array_equal(var, want_var)


def test_constant_channels_become_the_bias():
    x = np.full((3, 2, 50), 1e6 / 3, np.float32)
    y = F.batch_norm(x, None, None, np.full(2, 3, np.float32), np.array([0.5, -1], np.float32), training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(np.array([[0.5], [-1]]), y.shape))


def test_one_nan_stays_in_its_channel():
    x = np.random.default_rng(0).standard_normal((3, 4, 50)).astype(np.float32)
    x[1, 2, 3] = np.nan
    y = F.batch_norm(x, None, None, training=True)
    assert np.isnan(y[:, 2]).all()
    assert np.isfinite(y[:, [0, 1, 3]]).all()


@every_dtype
def test_same_bits_at_any_thread_count_and_layout(dtype):
    rng = np.random.default_rng(1)
    x, dy, weight, bias = _operands(rng, (5, 11, 31, 43), dtype)
    mean, var = np.zeros(11, dtype), np.ones(11, dtype)
    same_bits(lambda x: (F.batch_norm(x, None, None, weight, bias, True),), x)
    same_bits(lambda x: (F.batch_norm(x, mean, var, weight, bias),), x)
    same_bits(lambda dy, x: F.batch_norm_backward(dy, x, weight), dy, x)


def test_gradients_by_finite_differences():
    rng = np.random.default_rng(2)
    x, _, weight, bias = _operands(rng, (4, 3, 7), np.float64)
    mean, var = rng.standard_normal(3), rng.uniform(0.5, 2, 3)

    def forward(x, weight, bias, training=True):
        return F.batch_norm(x, None if training else mean, None if training else var, weight, bias, training)

    check_gradient(
        lambda x: forward(x, weight, bias), lambda dy: F.batch_norm_backward(dy, x, weight)[0], x, rng
    )
    check_gradient(
        lambda w: forward(x, w, bias), lambda dy: F.batch_norm_backward(dy, x, weight)[1], weight, rng
    )
    check_gradient(
        lambda b: forward(x, weight, b), lambda dy: F.batch_norm_backward(dy, x, weight)[2], bias, rng
    )
    check_gradient(
        lambda x: forward(x, weight, bias, False),
        lambda dy: F.batch_norm_backward(dy, x, weight, mean=mean, var=var, training=False)[0],
        x,
        rng,
    )


# ---- rows: (images, groups, runs of a group, elements of a run)

ROWS = [(3, 1, n, 1) for n in (1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 65, 100, 257, 1100, 5000)]
ROWS += [(2, 3, 5, 1), (100, 2, 17, 1), (2, 2, 3, 2), (2, 1, 4, 49), (3, 4, 1, 7), (3, 4, 1, 64), (1, 2, 3, 5000)]


def _by_groups(rng, shape, dtype, offset=0.0):
    images, groups, affine, inner = shape
    full = (images, groups * affine, inner) if inner > 1 else (images, groups * affine)
    return _operands(rng, full, dtype, offset)


def _row_oracle(x, dy, weight, bias, shape):
    x, dy = wide(x).reshape(shape), wide(dy).reshape(shape)
    weight, bias = (wide(a).reshape(shape[1], shape[2], 1) for a in (weight, bias))
    m = shape[2] * shape[3]

    def mean(a):
        return a.sum((2, 3), keepdims=True) / m

    d = x - mean(x)
    scale = 1 / np.sqrt(mean(d * d) + wide(EPS))
    z, g = d * scale, dy * weight
    y, y_scale = z * weight + bias, np.abs(z * weight) + np.abs(weight) + np.abs(bias)
    dx = (g - mean(g) - z * mean(g * z)) * scale
    dx_scale = (np.abs(g) + mean(np.abs(g)) + (np.abs(z) + 1) * mean(np.abs(g) * (np.abs(z) + 1))) * scale
    dw, dw_scale = (dy * z).sum((0, 3)), (np.abs(dy) * (np.abs(z) + 1)).sum((0, 3))
    return (y, y_scale), (dx, dx_scale), (dw, dw_scale), (dy.sum((0, 3)), np.abs(dy).sum((0, 3)))


@every_isa
@every_dtype
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_rows(isa, dtype, shape):
    rng = np.random.default_rng(sum(shape))
    for offset in (0.0, 1000.0):
        x, dy, weight, bias = _by_groups(rng, shape, dtype, offset)
        want = _row_oracle(x, dy, weight, bias, shape)
        with convkit.use(isa=isa):
            y = F.group_norm(x, shape[1], weight, bias)
            got = (y, *F.group_norm_backward(dy, x, shape[1], weight))
        for a, (right, scale) in zip(got, want, strict=True):
            assert worst(a.reshape(right.shape), right, scale) <= 4


@every_isa
@every_dtype
def test_statistics_of_a_forward_pass_give_the_gradients_that_are_found_again(isa, dtype):
    rng = np.random.default_rng(0)
    for offset in (0.0, 1e4):
        x, dy, weight, bias = _operands(rng, (4, 6, 50), dtype, offset)
        with convkit.use(isa=isa):
            for kept, gradients in (
                    (norm.batch_norm_kept(x, None, None, weight, bias, True, 0.1, EPS),
                     partial(norm.batch_norm_gradients, dy, x, weight, EPS, None, None, True)),
                    (norm.group_norm_kept(x, 3, weight, bias, EPS),
                     partial(norm.group_norm_gradients, dy, x, 3, weight, EPS))):
                _, saved = kept
                assert saved.dtype == np.float64
                for a, b in zip(gradients(saved), gradients(None), strict=True):
                    np.testing.assert_allclose(a, b, rtol=0, atol=50 * np.finfo(dtype).eps * np.abs(b).max())


@every_dtype
def test_rows_have_the_same_bits_at_any_thread_count_and_layout(dtype):
    rng = np.random.default_rng(1)
    for shape, groups in (((700, 130), 1), ((5, 12, 31, 43), 3)):
        x, dy, weight, bias = _operands(rng, shape, dtype)
        same_bits(lambda x, g=groups, w=weight, b=bias: (F.group_norm(x, g, w, b),), x)
        same_bits(lambda dy, x, g=groups, w=weight: F.group_norm_backward(dy, x, g, w), dy, x)
        same_bits(lambda x, w=weight: (F.prelu(x, w),), x)
        same_bits(lambda dy, x, w=weight: F.prelu_backward(dy, x, w), dy, x)


@every_isa
@every_dtype
@pytest.mark.parametrize("inner", (1, 2, 7, 16, 31, 64, 65, 300))
def test_what_multiplies_channels(isa, dtype, inner):
    rng = np.random.default_rng(inner)
    x, dy = (rng.integers(-4, 5, (3, 5, inner)).astype(dtype) for _ in range(2))
    weight = rng.integers(-2, 3, 5).astype(dtype)
    by_channel = weight[:, None]
    with convkit.use(isa=isa):
        np.testing.assert_array_equal(F.prelu(x, weight), np.where(x > 0, x, by_channel * x))
        dx, dweight = F.prelu_backward(dy, x, weight)
        np.testing.assert_array_equal(dx, np.where(x > 0, dy, by_channel * dy))
        np.testing.assert_array_equal(dweight, np.where(x > 0, 0, x * dy).sum((0, 2)))
        dx, dweight = F.prelu_backward(dy, x, weight[:1])
        np.testing.assert_array_equal(dweight, [np.where(x > 0, 0, x * dy).sum()])
        mask = rng.random((3, 5)) < 0.5
        x[0, 0], mask[0, 0] = np.nan, False
        np.testing.assert_array_equal(F.dropout1d_backward(x, mask, 0.5), np.where(mask[..., None], 2 * x, 0))


@every_isa
@every_dtype
@pytest.mark.parametrize("shape", [(2, 7, 1), (1, 9, 17), (2, 5, 300), (1, 1, 64)])
@pytest.mark.parametrize("size", (1, 2, 5, 40))
def test_local_response(isa, dtype, shape, size):
    rng = np.random.default_rng(size)
    x, dy, _, _ = _operands(rng, shape, dtype)
    with convkit.use(isa=isa):
        y = F.local_response_norm(x, size, 0.5, 0.75, 2.0)
        dx = F.local_response_norm_backward(dy, x, size, 0.5, 0.75, 2.0)
    want = convkit.reference.local_response_norm(x.astype(np.float64), size, 0.5, 0.75, 2.0)
    assert worst(y, wide(want), np.abs(want)) <= 12
    want = convkit.reference.local_response_norm_backward(dy.astype(np.float64), x.astype(np.float64), size, 0.5, 0.75, 2.0)
    assert worst(dx, wide(want), np.abs(want) + np.abs(dy) + 1) <= 12


@every_isa
@every_dtype
@pytest.mark.parametrize("beta", (0.75, 0.6))
def test_local_response_of_any_sum(isa, dtype, beta):
    """Sums from 0 to infinity side by side: what has a shorter way for the usual beta, and what has not."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    x = np.exp(rng.uniform(np.log(info.smallest_subnormal) / 2, np.log(info.max) / 2, (1, 1, 1000))).astype(dtype)
    x[..., 100], x[..., 300], x[..., 501], x[..., 702] = 0, np.inf, np.nan, info.max
    for k in (0.0, 1.0, -1.0):
        with convkit.use(isa=isa):
            y = F.local_response_norm(x, 1, 1.0, beta, k)
        with np.errstate(all="ignore"):
            d = k + (x * x).astype(np.float64)  # as rounded as the kernel's
            want = (x * d**-beta).astype(dtype)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
        # exp(-beta log d) magnifies the rounding of its exponent
        np.testing.assert_allclose(y, want, rtol=(4 + np.log(info.max)) * info.eps, atol=info.smallest_subnormal)
