"""The twins of convolution and pooling against the oracle's plain loops."""

import numpy as np
import oracle
import pytest

from convkit import functional, reference
from convkit.reference import common
from convkit.reference import conv as conv_twin
from convkit.reference import pool as pool_twin
from convkit.spec.conv import conv_spec
from convkit.spec.pool import ScatterSpec, pool_spec

# size, kernel, stride, pads, dilation, groups, channels in and out per group
CONVS = [
    ((7,), (3,), (2,), ((2, 1),), (2,), 1, 2, 3),
    ((1,), (1,), (1,), ((0, 0),), (1,), 1, 1, 1),
    ((5, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, 3, 2),
    ((5, 6), (3, 2), (2, 3), ((0, 2), (1, 0)), (1, 2), 2, 2, 3),
    ((5, 6), (2, 3), (1, 2), ((1, 0), (3, 3)), (3, 1), 3, 1, 2),
    ((6, 5), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, 4, 2),
    ((1, 1), (3, 3), (1, 1), ((5, 5), (5, 5)), (1, 1), 1, 1, 1),
    ((5, 5), (2, 2), (4, 9), ((0, 0), (0, 0)), (1, 1), 4, 1, 1),
    ((3, 4, 4), (2, 1, 3), (1, 2, 1), ((1, 0), (0, 0), (1, 1)), (2, 1, 1), 2, 1, 2),
    ((1, 5, 5), (3, 1, 1), (1, 2, 2), ((1, 1), (0, 0), (0, 0)), (1, 1, 1), 1, 2, 2),
]


@pytest.mark.parametrize("case", CONVS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_and_gradients_are_exact_on_small_integers(case, dtype):
    size, kernel, stride, pads, dilation, groups, c, o = case
    rng = np.random.default_rng(1)

    def whole(shape):
        return rng.integers(-9, 10, shape).astype(dtype)

    x, w, bias = whole((2, c * groups, *size)), whole((o * groups, c, *kernel)), whole(o * groups)
    geometry = (stride, pads, dilation, groups)
    spec, n, _ = conv_spec(x.shape, x.dtype, w.shape, w.dtype, None, None, *geometry, rank=len(size))
    y = oracle.conv(x, w, bias, *geometry)
    dy = whole(y.shape)
    dx, dw, db = oracle.conv_backward(dy, x, w, *geometry)
    np.testing.assert_array_equal(conv_twin.forward(spec, x, w, bias), y)
    np.testing.assert_array_equal(conv_twin.forward(spec, x, w), oracle.conv(x, w, None, *geometry))
    np.testing.assert_array_equal(conv_twin.input_gradient(spec, dy, w), dx)
    np.testing.assert_array_equal(conv_twin.weight_gradient(spec, dy, x), dw)
    np.testing.assert_array_equal(conv_twin.bias_gradient(spec, dy), db)
    if len(size) == 2:
        np.testing.assert_array_equal(reference.conv2d(x, w, bias, *geometry), y)
        for got, want in zip(reference.conv2d_backward(dy, x, w, *geometry), (dx, dw, db), strict=True):
            np.testing.assert_array_equal(got, want)
            assert got.dtype == dtype


def test_one_nan_stays_in_its_windows_and_meets_zero_weights():  # rows 35, 36
    x = np.ones((1, 2, 6, 7), np.float32)
    x[0, 1, 2, 3] = np.nan
    y = reference.conv2d(x, np.zeros((3, 2, 3, 3), np.float32))
    seen = np.isnan(y)
    assert seen[:, :, 0:3, 1:4].all()
    assert seen.sum() == 3 * 9


def test_values_at_the_ends_of_the_range():  # rows 37, 38
    identity = np.zeros((1, 1, 3, 3), np.float32)
    identity[..., 1, 1] = 1
    for value in (1e38, 1e-40, 3.4e38):
        x = np.full((1, 1, 5, 5), value, np.float32)
        np.testing.assert_array_equal(reference.conv2d(x, identity, padding=1), x)
    x = np.full((1, 1, 5, 5), 3e38, np.float32)
    assert np.isinf(reference.conv2d(x, np.ones((1, 1, 3, 3), np.float32))).all()


def test_an_empty_batch_gives_an_empty_result_and_zero_gradients():  # rows 27, 51
    x, w = np.ones((0, 4, 5, 5)), np.ones((6, 2, 3, 3))
    y = reference.conv2d(x, w, groups=2)
    assert y.shape == (0, 6, 3, 3)
    dx, dw, db = reference.conv2d_backward(y, x, w, groups=2)
    assert dx.shape == x.shape
    assert not dw.any()
    assert not db.any()


# kind of geometry: size, kernel, stride, pads, dilation, ceil
POOLS = [
    ((7,), (3,), (2,), ((1, 1),), (1,), False),
    ((7,), (2,), (4,), ((1, 0),), (3,), True),
    ((5, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((5, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), True),
    ((5, 6), (3, 3), (2, 2), ((1, 1), (0, 1)), (1, 1), True),
    ((5, 6), (3, 2), (1, 3), ((1, 0), (1, 1)), (2, 3), False),
    ((2, 1), (3, 3), (3, 3), ((0, 0), (0, 0)), (1, 1), True),
    ((3, 4, 5), (2, 3, 2), (1, 2, 2), ((1, 0), (1, 1), (0, 0)), (1, 1, 2), True),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_extreme_pooling(case, kind):
    size, kernel, stride, pads, dilation, ceil_mode = case
    rng = np.random.default_rng(2)
    x = rng.integers(-3, 4, (4, *size)).astype(np.float32)  # many ties
    x[1].flat[::3] = np.nan
    x[2] = -np.inf if kind == "max" else np.inf
    x[3].flat[1::2] *= np.float32(1e30)
    spec, _ = pool_spec(
        (1, *x.shape), x.dtype, kernel, stride, pads, dilation, ceil_mode, kind=kind, rank=len(size)
    )
    y, index = oracle.extreme_pool(x, kind == "max", kernel, stride, pads, dilation, ceil_mode)
    got, got_index = pool_twin.extreme(spec, x)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(got_index, index)
    dy = rng.integers(-9, 10, y.shape).astype(np.float32)
    scatter = ScatterSpec(spec.size, spec.out_size, spec.dtype)
    np.testing.assert_array_equal(pool_twin.scatter(scatter, dy, index), oracle.scatter(dy, index, x.shape))


@pytest.mark.parametrize("case", [case for case in POOLS if set(case[4]) == {1}], ids=str)
@pytest.mark.parametrize("include_pad", [True, False])
@pytest.mark.parametrize("divisor", [None, 5])
def test_average_pooling(case, include_pad, divisor):
    size, kernel, stride, pads, _, ceil_mode = case
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 10, (3, *size)).astype(np.float64)
    spec, _ = pool_spec(
        (1, *x.shape),
        x.dtype,
        kernel,
        stride,
        pads,
        1,
        ceil_mode,
        include_pad,
        divisor,
        kind="avg",
        rank=len(size),
    )
    y = oracle.avg_pool(x, kernel, stride, pads, ceil_mode, include_pad, divisor)
    np.testing.assert_array_equal(pool_twin.average(spec, x), y)
    dy = rng.integers(-9, 10, y.shape).astype(np.float64)
    dx = oracle.avg_pool_backward(dy, size, kernel, stride, pads, include_pad, divisor)
    np.testing.assert_allclose(pool_twin.average_gradient(spec, dy), dx, rtol=1e-14, atol=1e-14)


def test_known_averages():  # rows 72-75
    def avg(x, *args, **options):
        x = np.asarray(x, np.float64)
        return reference.avg_pool2d(x[None, None], *args, **options)[0, 0]

    grid = np.arange(49.0).reshape(7, 7)
    np.testing.assert_array_equal(avg(grid, 2, 3, ceil_mode=True),
                                  [[4, 7, 9.5], [25, 28, 30.5], [42.5, 45.5, 48]])
    np.testing.assert_allclose(avg([np.arange(1.0, 10.0)], (1, 7), (1, 3), (0, 3), ceil_mode=True),
                               [[10 / 7, 4, 39 / 7, 4]], rtol=1e-15)
    assert avg(np.ones((2, 2)), 2, padding=1, count_include_pad=False, divisor_override=2)[0, 0] == 0.5
    for value in (np.inf, 1e8):
        row = np.ones((1, 12))
        row[0, 0] = value
        assert (avg(row, (1, 3), 1)[0, 1:] == 1).all()


def test_maximum_of_nothing_but_padding_and_infinities():  # rows 63, 65
    x = np.full((1, 1, 3, 3), -np.inf, np.float32)
    y, index = reference.max_pool2d(x, 3, 1, 1, return_indices=True)
    assert (y == -np.inf).all()
    np.testing.assert_array_equal(index[0, 0], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])
    assert (reference.max_pool2d(-np.ones((1, 1, 3, 3)), 3, 1, 1) == -1).all()


def test_the_twins_only_read_their_inputs_and_round_once():
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(1, 8, 6, 6)), rng.normal(size=(4, 8, 3, 3))
    x32, w32 = x.astype(np.float32), w.astype(np.float32)
    x32.flags.writeable = w32.flags.writeable = False
    exact = reference.conv2d(x32.astype(np.float64), w32.astype(np.float64))
    np.testing.assert_array_equal(reference.conv2d(x32, w32), exact.astype(np.float32))
    assert common.widen(x32[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    ("mode", "numpy_mode"),
    [("zeros", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")],
)
@pytest.mark.parametrize("floor", [functional, reference], ids=["functional", "reference"])
def test_padding_modes(floor, mode, numpy_mode):
    rng = np.random.default_rng(7)
    x, w = rng.integers(-9, 10, (2, 4, 5, 6)).astype(np.float32), np.ones((2, 2, 3, 3), np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)), numpy_mode)
    want = floor.conv2d(padded, w, None, 2, groups=2)
    options = {"padding": ((1, 2), (0, 3)), "stride": 2, "groups": 2, "padding_mode": mode}
    np.testing.assert_array_equal(floor.conv2d(x, w, **options), want)
    np.testing.assert_array_equal(floor.conv2d(x[1], w, **options), want[1])
