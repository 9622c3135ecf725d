"""Resampling: PyTorch's values and gradients, exact places, and what a neighbour without weight may hold."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit import reference
from convkit.kernels import native

every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
SIZES = [((7,), (19,)), ((40,), (3,)), ((5, 4), (10, 12)), ((9, 20), (4, 33)), ((20, 9), (41, 4)), ((1, 3), (5, 1)),
         ((3, 4, 5), (6, 4, 2)), ((2, 1, 17), (5, 3, 40))]


def calls():
    """(input size, mode, options): given sizes, and factors with what they leave to chance."""
    for size, out in SIZES:
        for mode in ("nearest", LINEAR[len(size)]):
            for align in (None, False, True) if mode != "nearest" else (None,):
                yield size, {"size": out, "mode": mode, "align_corners": align}
            for factor, again in product((2.0, 1.5, 0.7), (None, False, True)):
                if min(size) * factor >= 1:
                    yield size, {"scale_factor": factor, "mode": mode, "recompute_scale_factor": again}


@pytest.mark.parametrize(("size", "options"), list(calls()), ids=str)
def test_like_torch(size, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size))
    leaf = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.interpolate(leaf, **options)
    dy = rng.normal(size=want.shape)
    want.backward(torch.tensor(dy))
    for floor, isa in [(F, isa) for isa in native.ISA_LEVELS] + [(reference, None)]:
        with convkit.use(isa=isa):
            np.testing.assert_allclose(floor.interpolate(x, **options), want.detach().numpy(), rtol=1e-12, atol=1e-12)
            got = floor.interpolate_backward(dy, x.shape, **options)
            np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_places_that_whole_numbers_decide_are_exact(mode):
    half = Fraction(1, 2) if mode == "nearest-exact" else 0
    for size, out in product((1, 2, 3, 5, 7, 10, 12, 49, 100), (1, 2, 3, 7, 11, 37, 49, 120)):
        x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
        want = [int((p + half) * Fraction(size, out)) for p in range(out)]
        for floor in (F, reference):
            assert floor.interpolate(x, out, mode=mode).ravel().tolist() == want


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_doubling_and_its_gradient_at_every_width(isa, dtype):
    """Both have ways of their own: rows that are written in pairs, sums of squares of four."""
    rng = np.random.default_rng(0)
    with convkit.use(isa=isa):
        for height, width in product((1, 3, 20), (*range(1, 20), 28, 33)):
            x = rng.standard_normal((1, 3, height, width)).astype(dtype)
            y = F.interpolate(x, scale_factor=2)
            np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(2, 3))
            np.testing.assert_array_equal(F.interpolate(x, scale_factor=(1, 2)), x.repeat(2, 3))
            np.testing.assert_array_equal(F.interpolate(x, scale_factor=(2, 1)), x.repeat(2, 2))
            dy = rng.integers(-9, 9, y.shape).astype(dtype)
            four = dy.reshape(1, 3, height, 2, width, 2).sum((3, 5))
            np.testing.assert_array_equal(F.interpolate_backward(dy, x.shape, scale_factor=2), four)
            two = dy[:, :, :height].reshape(1, 3, height, width, 2).sum(4)
            got = F.interpolate_backward(dy[:, :, :height].copy(), x.shape, scale_factor=(1, 2))
            np.testing.assert_array_equal(got, two)
            thrice = F.interpolate_backward(dy.repeat(3, 0).reshape(1, 3, 3, 2 * height, 2 * width).copy(),
                                            (1, 3, 3, height, width), scale_factor=(1, 2, 2))
            np.testing.assert_array_equal(thrice.sum((1, 2)), 3 * four.sum(1))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_plane_stays_a_plane(align, factor):
    """Linear interpolation of a linear function, exact in the inside."""
    h, w = np.mgrid[:5, :7].astype(np.float64)
    x = (3 * h - 2 * w + 1)[None, None]
    y = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align)[0, 0]
    p, q = np.mgrid[:5 * factor, :7 * factor]
    if align:
        p, q = p * 4 / (5 * factor - 1), q * 6 / (7 * factor - 1)
    else:
        p, q = np.clip((p + 0.5) / factor - 0.5, 0, 4), np.clip((q + 0.5) / factor - 0.5, 0, 6)
    np.testing.assert_allclose(y, 3 * p - 2 * q + 1, rtol=1e-12, atol=1e-12)


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nearest_is_adjoint_to_the_bit_on_integers(isa, dtype):
    rng = np.random.default_rng(2)
    with convkit.use(isa=isa):
        for size, out in SIZES:
            x = rng.integers(-9, 10, (2, 2, *size)).astype(dtype)
            y = F.interpolate(x, out)
            dy = rng.integers(-9, 10, y.shape).astype(dtype)
            dx = F.interpolate_backward(dy, x.shape, out)
            assert (y.astype(float) * dy).sum() == (x.astype(float) * dx).sum()
            np.testing.assert_array_equal(dx, reference.interpolate_backward(dy, x.shape, out))
            quarters = F.interpolate(x, scale_factor=2.0, mode=LINEAR[len(size)])  # weights of 1/4 and 3/4
            dy = rng.integers(-9, 10, quarters.shape).astype(dtype)
            dx = F.interpolate_backward(dy, x.shape, scale_factor=2.0, mode=LINEAR[len(size)])
            assert (quarters.astype(float) * dy).sum() == (x.astype(float) * dx).sum()


@every_isa
def test_a_neighbour_without_weight_is_not_looked_at(isa):
    x = np.zeros((1, 1, 3, 40), np.float32)
    x[0, 0, 1, 7], x[0, 0, 2, 20] = np.nan, np.inf
    with convkit.use(isa=isa), np.errstate(invalid="ignore"):
        for options in ({"scale_factor": 3.0}, {"size": (5, 79), "align_corners": True}, {"size": (3, 20)},
                        {"size": (6, 40)}):
            y = F.interpolate(x, mode="bilinear", **options)
            want = reference.interpolate(x, mode="bilinear", **options)
            np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
            np.testing.assert_array_equal(np.isinf(y), np.isinf(want))
            assert 0 < np.isnan(y).sum() < 40


@every_isa
def test_one_pixel_over_a_large_image(isa):
    """The gradient is a sum of 160,000 terms."""
    with convkit.use(isa=isa):
        x = np.full((1, 2, 1, 1), 0.1, np.float32)
        y = F.interpolate(x, (400, 400), mode="bilinear")
        np.testing.assert_allclose(y, 0.1, rtol=2e-7)
        dy = np.random.default_rng(0).random(y.shape).astype(np.float32)
        dx = F.interpolate_backward(dy, x.shape, (400, 400), mode="bilinear")
        np.testing.assert_allclose(dx[..., 0, 0], dy.sum((2, 3), dtype=np.float64), rtol=1e-6)


def test_an_empty_batch():
    assert F.interpolate(np.ones((0, 3, 4)), 7).shape == (0, 3, 7)
    assert F.interpolate_backward(np.ones((0, 3, 7)), (0, 3, 4), 7).shape == (0, 3, 4)


def test_refusals_say_why():
    x = np.ones((1, 2, 5, 5))
    for options, message in [
        ({}, "exactly one of size and scale_factor must be given, got size=None and scale_factor=None"),
        ({"size": 4, "mode": "area"}, "mode must be one of nearest, nearest-exact, linear, bilinear, trilinear, got"),
        ({"size": 4, "mode": "linear"}, r"x must have 3 axes \(N, C, L\) for mode='linear', got x.shape=\(1, 2, 5, 5\)"),
        ({"scale_factor": 0.1}, "the result must have between 1 and 2147483647 elements along each axis"),
        ({"size": 4, "align_corners": True}, "align_corners must be None unless the mode is linear"),
    ]:
        with pytest.raises(convkit.ShapeError, match=message):
            F.interpolate(x, **options)


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [2, 3])
def test_repeated_pixels_of_all_widths(isa, dtype, factor):
    for width in range(1, 36):
        x = np.random.default_rng(width).normal(size=(1, 2, 3, width)).astype(dtype)
        with convkit.use(isa=isa):
            y = F.interpolate(x, scale_factor=factor)
        np.testing.assert_array_equal(y, x.repeat(factor, 2).repeat(factor, 3))


@every_isa
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad_like_numpy(isa, dtype, mode):
    """1 to 3 axes of all widths, and more, cropped ones and empty ones of constants."""
    rng = np.random.default_rng(0)
    for width in (4, 5, *range(13, 37)):
        for rank in (1, 2, 3):
            x = rng.normal(size=(2, 3, *(4, 5, width)[3 - rank:])).astype(dtype)
            pairs = [(int(lo), int(hi)) for lo, hi in rng.integers(0, 4, (rank, 2))]
            _pad_both_ways(isa, x[:, ::-1], [(0, 0), (0, 0), *pairs], mode)
    if mode == "constant":
        _pad_both_ways(isa, rng.normal(size=(2, 3, 4, 5, 6)).astype(dtype), [(1, 0)] * 5, mode)
        _pad_both_ways(isa, np.zeros((2, 0, 3), dtype), [(0, 0), (1, 2), (0, 1)], mode)
        x = rng.normal(size=(2, 9, 40)).astype(dtype)
        flat = F.pad(x, (-3, 2, 1, -4), value=-0.0)
        np.testing.assert_array_equal(np.signbit(flat), np.signbit(np.pad(
            x[:, :-4, 3:], [(0, 0), (1, 0), (0, 2)], constant_values=-0.0)))


def _pad_both_ways(isa, x, pairs, mode):
    flat = [n for pair in reversed(pairs[-x.ndim + (0 if mode == "constant" else 2):]) for n in pair]
    options = {"constant_values": 1.5} if mode == "constant" else {}
    with convkit.use(isa=isa):
        got = F.pad(x, flat, mode, 1.5)
    names = {"replicate": "edge", "circular": "wrap"}
    np.testing.assert_array_equal(got, np.pad(x, pairs, names.get(mode, mode), **options))


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_doubled_rows_of_any_length(isa, dtype):
    for size in range(1, 40):
        x = np.arange(1, 2 * size + 1, dtype=dtype).reshape(1, 2, size)
        with convkit.use(isa=isa):
            np.testing.assert_array_equal(F.interpolate(x, scale_factor=2), x.repeat(2, 2))


def test_the_sign_of_a_zero_around_an_array():
    x = np.ones((1, 2, 3), np.float32)
    for value in (0.0, -0.0, 0.0):
        assert np.signbit(F.pad(x, (1, 1), value=value)[..., 0]).all() == np.signbit(value)
    with np.errstate(all="raise"):
        assert np.isinf(F.pad(x, (1, 1), value=1e300)[..., 0]).all()


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_of_any_size_are_dealt_out(isa, dtype):
    """Sizes around the vectors; most rows begin between two places where vectors are aligned."""
    for inner in (1, 3, 8, 33, 255, 256, 257, 513, 1025, 2000):
        x = np.arange(2 * 12 * inner, dtype=dtype).reshape(2, 12, inner)
        want = x.reshape(2, 3, 4, inner).swapaxes(1, 2).reshape(x.shape)
        with convkit.use(isa=isa), convkit.threads(2):
            np.testing.assert_array_equal(F.channel_shuffle(x, 3), want)
            np.testing.assert_array_equal(F.channel_shuffle_backward(want, 3), x)
            np.testing.assert_array_equal(F.pad(x, (1, 0), "circular")[..., 1:], x)
