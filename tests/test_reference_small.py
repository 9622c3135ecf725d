"""The twins of the small operations where no oracle is needed: known values, edges, and the two floors'
agreement.
"""

import inspect

import numpy as np
import pytest

from convkit import functional, reference
from convkit.reference.dropout import kept, philox
from convkit.spec.dropout import DropoutSpec


def test_the_two_floors_have_the_same_names_and_signatures():
    assert functional.__all__ == reference.__all__
    for name in functional.__all__:
        ours, twin = getattr(functional, name), getattr(reference, name)
        assert inspect.signature(ours) == inspect.signature(twin), name
        assert ours.__doc__, name
        assert twin.__doc__, name


both = pytest.mark.parametrize("floor", [functional, reference], ids=["functional", "reference"])


@both
def test_softmax_at_the_ends_of_the_range(floor):  # rows 84-86
    np.testing.assert_array_equal(floor.softmax(np.array([3e38, -3e38], np.float32)), [1, 0])
    np.testing.assert_array_equal(floor.log_softmax(np.array([-1000.0, 0.0])), [-1000, 0])
    rows = np.array([[-np.inf, -np.inf], [np.inf, 1], [np.nan, 1], [0, 0], [-np.inf, 0]])
    np.testing.assert_array_equal(floor.softmax(rows),
                                  [[np.nan] * 2, [np.nan] * 2, [np.nan] * 2, [0.5, 0.5], [0, 1]])
    for shape, axis in (((2, 0), 1), ((0, 2), 1), ((0, 2), 0)):
        y = floor.softmax(np.ones(shape), axis)
        assert y.shape == shape
        assert floor.log_softmax_backward(y, y, axis).shape == shape


@both
def test_linear_without_features_is_its_bias(floor):  # row 82
    bias = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(floor.linear(np.ones((2, 0)), np.ones((3, 0)), bias), [bias, bias])
    np.testing.assert_array_equal(floor.linear(np.ones((2, 0)), np.ones((3, 0))), np.zeros((2, 3)))
    for n, i, o in ((0, 4, 3), (2, 0, 3), (2, 4, 0)):
        dx, dw, db = floor.linear_backward(np.ones((n, o)), np.ones((n, i)), np.ones((o, i)))
        np.testing.assert_array_equal(dx, np.full((n, i), o))
        np.testing.assert_array_equal(dw, np.full((o, i), n))
        np.testing.assert_array_equal(db, np.full(o, n))


@both
def test_an_empty_batch_gives_an_empty_result(floor):
    x = np.ones((0, 4, 6, 6), np.float32)
    y, index = floor.max_pool2d(x, 2, return_indices=True)
    assert y.shape == index.shape == (0, 4, 3, 3)
    assert floor.max_pool2d_backward(y, index, x.shape).shape == x.shape
    assert floor.avg_pool2d(x, 2).shape == y.shape
    assert floor.avg_pool2d_backward(y, x.shape, 2).shape == x.shape
    assert floor.relu(x).shape == x.shape
    assert floor.dropout(x, rng=np.random.default_rng(0))[0].shape == x.shape
    mean, var = np.full(4, 3, np.float32), np.full(4, 2, np.float32)
    assert floor.batch_norm(x, mean, var, training=True).shape == x.shape
    assert (mean == 3).all()
    assert (var == 2).all()
    assert not floor.batch_norm_backward(x, x)[1].any()
    logits, target = np.ones((0, 3)), np.zeros(0, np.int64)
    assert floor.cross_entropy(logits, target, reduction="none").shape == (0,)
    assert floor.cross_entropy(logits, target, reduction="sum") == 0
    assert np.isnan(floor.cross_entropy(logits, target))
    assert floor.cross_entropy_backward(logits, target).shape == (0, 3)


@both
def test_an_array_without_axes_stays_one(floor):
    x = np.array(-1.5)
    y = floor.relu(x)
    assert type(y) is np.ndarray
    assert y.shape == ()
    assert floor.relu_backward(x, y) == 0


@both
def test_dropout_keeps_the_mean_and_depends_only_on_the_generator(floor):
    x = np.random.default_rng(0).normal(size=(50, 40))
    y, mask = floor.dropout(x, 0.25, rng=np.random.default_rng(7))
    again, _ = floor.dropout(np.asfortranarray(x), 0.25, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(y, np.where(mask, x * (1 / 0.75), 0))
    assert 0.7 < mask.mean() < 0.8
    np.testing.assert_array_equal(floor.dropout_backward(x, mask, 0.25), y)
    same, no_mask = floor.dropout(x, 0.25, False, rng=np.random.default_rng(7))
    assert no_mask is None
    assert not np.shares_memory(same, x)
    np.testing.assert_array_equal(floor.dropout_backward(x, None, 0.25), same)
    for p, left in ((0.0, x), (1.0, np.zeros_like(x))):
        np.testing.assert_array_equal(floor.dropout(x, p, rng=np.random.default_rng(7))[0], left)
    np.testing.assert_array_equal(functional.dropout(x, rng=np.random.default_rng(1))[1],
                                  reference.dropout(x, rng=np.random.default_rng(1))[1])


@pytest.mark.parametrize("counter, key, want", [
    ((0, 0, 0, 0), 0, (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    ((2**32 - 1,) * 4, 2**64 - 1, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822, (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A)),
])
def test_philox_gives_the_numbers_of_its_authors(counter, key, want):
    assert philox([np.array([word], np.uint64) for word in counter], key) == want


def test_masks_have_the_moments_of_independent_draws():
    n = 1 << 18
    spec = DropoutSpec(0.3, np.dtype(np.float32))
    for key in (0, 1, 2, 3 << 32):
        mask = kept(spec, key, n).astype(float) - 0.7
        assert abs(mask.mean()) < 4.5 * (0.21 / n) ** 0.5
        for lag in (1, 2, 4, 8, 32, 64, 1000):  # neighbours in a counter, in a vector and in between
            assert abs((mask[lag:] * mask[:-lag]).mean()) < 4.5 * 0.21 / n**0.5
        other = kept(spec, key + 1, n) - 0.7
        assert abs((mask * other).mean()) < 4.5 * 0.21 / n**0.5


@both
def test_dropout_of_channels_follows_the_generator(floor):
    x = np.ones((40, 50, 3, 2), np.float32)
    y, mask = floor.dropout2d(x, 0.25, rng=np.random.default_rng(7))
    assert mask.shape == (40, 50)
    assert 0.7 < mask.mean() < 0.8
    np.testing.assert_array_equal(y, np.broadcast_to(mask[..., None, None] * np.float32(1 / 0.75), x.shape))
    np.testing.assert_array_equal(mask, floor.dropout(x[..., 0, 0], 0.25, rng=np.random.default_rng(7))[1])
    rng = np.random.default_rng(7)
    first, second = (floor.dropout2d(x, 0.25, rng=rng)[1] for _ in range(2))
    assert (first == mask).all()
    assert 0.5 < (first == second).mean() < 0.75


@both
def test_dropout_of_an_infinite_element_is_zero(floor):
    x = np.full(100, np.inf)
    y, mask = floor.dropout(x, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(y, np.where(mask, np.inf, 0.0))


@both
@pytest.mark.filterwarnings("error")
def test_no_warning_escapes(floor):
    x = np.array([[np.inf, -np.inf, np.nan, 3e38, 1.0, 1e-45]], np.float32)
    image = x.reshape(1, 1, 2, 3)
    w = np.full((1, 1, 2, 2), np.inf, np.float32)
    floor.conv2d(image, w, padding=1)
    floor.conv2d_backward(image, np.ones((1, 1, 3, 4), np.float32), w)
    for pool in (floor.max_pool2d, floor.min_pool2d, floor.avg_pool2d):
        pool(image, 2, 1)
    floor.avg_pool2d_backward(image, (1, 1, 3, 4), 2, 1)
    for function in (floor.softmax, floor.log_softmax, floor.relu):
        function(x)
    floor.softmax_backward(x, x)
    floor.log_softmax_backward(x, x)
    floor.linear(x, x)
    floor.linear_backward(x[:, :1], x, x)
    floor.cross_entropy(x, np.array([3]))
    floor.cross_entropy_backward(x, np.array([3]), dloss=1e39)
    stats = np.zeros(6, np.float32)
    floor.batch_norm(x.repeat(2, 0), stats, stats.copy(), training=True)
    floor.batch_norm(x, stats, stats, eps=0.0)
    floor.batch_norm_backward(x, x)
    floor.dropout(x, rng=np.random.default_rng(0))
    assert not floor.dropout(x, 1.0, rng=np.random.default_rng(0))[0].any()


def test_functional_takes_any_layout_and_byte_order():
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(2, 4, 6, 7)).astype(np.float32), rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    y = functional.conv2d(x, w, padding=1)
    unaligned = np.ndarray(x.shape, x.dtype, bytearray(x.nbytes + 1), offset=1)
    unaligned[...] = x
    spread = np.full((2, 4, 6, 14), np.nan, np.float32)
    spread[..., ::2] = x
    for other in (
        np.asfortranarray(x),
        x[:, ::-1].copy()[:, ::-1],
        unaligned,
        x.astype(">f4"),
        spread[..., ::2],
        x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    ):
        np.testing.assert_array_equal(other, x)
        np.testing.assert_array_equal(functional.conv2d(other, w, padding=1), y)
        np.testing.assert_array_equal(functional.max_pool2d(other, 2), functional.max_pool2d(x, 2))
        np.testing.assert_array_equal(functional.softmax(other, 1), functional.softmax(x, 1))
        assert functional.relu(other).dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(functional.conv2d(np.broadcast_to(x[:1], x.shape), w, padding=1)[1], y[0])


@both
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_subclasses_of_arrays_are_taken_as_plain_arrays(floor):
    rows = np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    for function in (floor.relu, floor.softmax, lambda x: floor.linear(x, rows)):
        got = function(np.asmatrix(rows))
        np.testing.assert_array_equal(got, function(rows))
        assert type(got) is np.ndarray


@both
def test_out_is_filled_wherever_it_lies(floor):
    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(2, 4, 6, 7)).astype(np.float32), rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    y = floor.conv2d(x, w, padding=1)
    overlapping = x.copy()
    wide = np.zeros((2, 4, 6, 14), np.float32)
    for given, out in (
        (x, np.full_like(y, np.nan)),
        (x, np.full_like(y, np.nan, order="F")),
        (x, wide[..., ::2]),
        (overlapping, overlapping),
    ):
        assert floor.conv2d(given, w, padding=1, out=out) is out
        np.testing.assert_array_equal(out, y)
    assert not wide[..., 1::2].any()
    one = np.empty(y.shape[1:], y.dtype)
    floor.conv2d(x[1], w, padding=1, out=one)
    np.testing.assert_array_equal(one, y[1])


@both
def test_cross_entropy_has_its_known_values(floor):
    target = np.array([0, 2, 1])
    uniform = np.zeros((3, 8))
    assert floor.cross_entropy(uniform, target) == pytest.approx(np.log(8))
    assert floor.cross_entropy(uniform, target, reduction="sum") == pytest.approx(3 * np.log(8))
    sure = np.full((3, 8), -1e4)
    sure[np.arange(3), target] = 1e4
    np.testing.assert_array_equal(floor.cross_entropy(sure, target, reduction="none"), 0)
    np.testing.assert_allclose(floor.cross_entropy(sure, target + 1, reduction="none"), 2e4)
    assert not floor.cross_entropy_backward(sure, target).any()
    picked = floor.cross_entropy(sure.astype(np.float32), target)
    assert isinstance(picked, np.float32)


@both
def test_batch_norm_has_its_known_values(floor):
    x = np.random.default_rng(9).normal(3.0, 2.0, (8, 2, 5))
    mean, var = np.array([10.0, 20.0]), np.array([1.0, 4.0])
    y = floor.batch_norm(x, mean, var, training=True, momentum=0.25, eps=0.0)
    np.testing.assert_allclose(y.mean(axis=(0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2)), 1, rtol=1e-12)
    np.testing.assert_allclose(mean, 0.75 * np.array([10, 20]) + 0.25 * x.mean(axis=(0, 2)))
    np.testing.assert_allclose(var, 0.75 * np.array([1, 4]) + 0.25 * x.var(axis=(0, 2), ddof=1))
    weight, bias = np.array([2.0, 3.0]), np.array([-1.0, 5.0])
    y = floor.batch_norm(x, np.zeros(2), np.full(2, 3.0), weight, bias, eps=1.0)
    np.testing.assert_allclose(y, x * (weight / 2)[:, None] + bias[:, None])
    strided = np.zeros((2, 2))
    floor.batch_norm(x, strided[:, 0], strided[:, 1], training=True, momentum=1.0)
    np.testing.assert_allclose(strided[:, 0], x.mean(axis=(0, 2)))
