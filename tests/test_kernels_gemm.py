"""Convolution with pixels in the lanes: every level, tails of panels and of filters, panels over several images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
import convkit.functional as F
from convkit import reference
from convkit.kernels import native
from convkit.plan import common, gemm
from convkit.plan.conv import plan
from convkit.spec.conv import conv_spec

pytestmark = pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
CONV = {1: ("conv1d", "conv1d_backward"), 2: ("conv2d", "conv2d_backward"), 3: ("conv3d", "conv3d_backward")}


@st.composite
def calls(draw):
    """(x shape, weight shape, options): sizes around the widths of panels, small kernels, anything per axis."""
    rank, groups, n = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    most = {1: 160, 2: 20, 3: 8}[rank]
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilation = [draw(st.integers(1, 2)) for _ in range(rank)]
    padding = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank)]
    size = [draw(st.integers(max(1, (k - 1) * d + 1 - sum(p)), most))
            for k, d, p in zip(kernel, dilation, padding, strict=True)]
    stride = [draw(st.integers(1, 3)) for _ in range(rank)]
    channels, filters = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    options = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation), "groups": groups}
    return (n, channels * groups, *size), (filters * groups, channels, *kernel), options


@every_isa
@given(call=calls(), dtype=st.sampled_from([np.float32, np.float64]), threads=st.integers(1, 3),
       panel_bytes=st.sampled_from([1, 5000, gemm.PANEL_BYTES]), seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_forward_and_input_gradient_exact_on_integers(isa, call, dtype, threads, panel_bytes, seed):
    x_shape, w_shape, options = call
    rng = np.random.default_rng(seed)
    x, w, b = (rng.integers(-4, 5, shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    forward, backward = CONV[x.ndim - 2]
    with pytest.MonkeyPatch.context() as patch, convkit.use(isa=isa, algorithm="gemm"), convkit.threads(threads):
        patch.setattr(gemm, "PANEL_BYTES", panel_bytes)
        common.clear()
        y = getattr(F, forward)(x, w, b, **options)
        np.testing.assert_array_equal(y, getattr(reference, forward)(x, w, b, **options))
        spec, _, _ = conv_spec(x_shape, x.dtype, w_shape, x.dtype, direction="input_gradient", rank=x.ndim - 2, **options)
        if not gemm.rejects(spec, isa):
            dy = rng.integers(-4, 5, y.shape).astype(dtype)
            only_dx = {**options, "needs": (True, False, False)}
            want, _, _ = getattr(reference, backward)(dy, x, w, **only_dx)
            np.testing.assert_array_equal(getattr(F, backward)(dy, x, w, **only_dx)[0], want)
    common.clear()


# Size of x, weight shape, stride, groups: phases that have the same taps, of few filters.
STACKED = [
    ((2, 1, 160), (70, 1, 10), 5, 1), ((3, 2, 163), (12, 2, 8), 4, 1), ((1, 4, 1000), (8, 2, 4), 2, 2),
    ((2, 1, 40, 44), (5, 1, 4, 4), 2, 1), ((2, 3, 41, 43), (7, 3, 2, 2), 2, 1), ((1, 4, 64, 64), (6, 2, 4, 2), (4, 2), 2),
    ((1, 1, 8, 12, 50), (6, 1, 2, 2, 4), 2, 1), ((9, 1, 7), (3, 1, 6), 3, 1),
]


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "groups"), STACKED)
def test_stacked_phases_exact_on_integers(isa, dtype, x_shape, w_shape, stride, groups):
    rng = np.random.default_rng(len(x_shape))
    rank, options = len(x_shape) - 2, {"stride": stride, "groups": groups}
    x, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in (x_shape, w_shape))
    bias = rng.integers(-4, 5, x_shape[1]).astype(dtype)
    dy = rng.integers(-4, 5, getattr(reference, CONV[rank][0])(x, w, **options).shape).astype(dtype)
    up, only_dx = f"conv_transpose{rank}d", {**options, "needs": (True, False, False)}
    with convkit.use(isa=isa, algorithm="gemm"), convkit.threads(3):
        dx = getattr(F, CONV[rank][1])(dy, x, w, **only_dx)[0]
        y = getattr(F, up)(dy, w, bias, **options)
    np.testing.assert_array_equal(dx, getattr(reference, CONV[rank][1])(dy, x, w, **only_dx)[0])
    np.testing.assert_array_equal(y, getattr(reference, up)(dy, w, bias, **options))


@every_isa
@pytest.mark.parametrize("channels", [1, 63, 64, 65, 700])
def test_error_stays_under_the_bound(isa, channels):
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((2, channels, 23, 29), np.float32)
    w, b = rng.standard_normal((20, channels, 1, 1), np.float32), rng.standard_normal(20, np.float32)
    w[0, 0] = 1e6
    with convkit.use(isa=isa, algorithm="gemm"):
        y = F.conv2d(x, w, b)
    sums = reference.conv2d(np.abs(x).astype(float), np.abs(w).astype(float), np.abs(b).astype(float))
    error = np.abs(y - reference.conv2d(x.astype(float), w.astype(float), b.astype(float)))
    assert (error / sums).max() < 8 * np.finfo(np.float32).eps


def test_a_batch_and_its_images_have_the_same_bits():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((7, 33, 5, 7), np.float32), rng.standard_normal((21, 33, 1, 1), np.float32)
    with convkit.use(algorithm="gemm"):
        y = F.conv2d(x, w)
        for threads in (1, 2, 3, 8):
            with convkit.threads(threads):
                np.testing.assert_array_equal(y, np.concatenate([F.conv2d(x[i:i + 1], w) for i in range(7)]))
                np.testing.assert_array_equal(y, F.conv2d(x, w))


def test_where_it_pays():
    spec, _, _ = conv_spec((1, 64, 56, 56), np.dtype("f4"), (128, 64, 1, 1), np.dtype("f4"), rank=2, stride=2)
    assert plan(spec).algorithm == "gemm"


BY_PLACE = [
    # x, weight, options: maps that are little but padding
    ((19, 64, 2, 2), (40, 64, 3, 3), {"padding": 1}),
    ((5, 40, 4, 4), (70, 40, 3, 3), {"padding": 1, "stride": 2}),
    ((37, 64, 2, 2), (80, 32, 3, 3), {"padding": 1, "groups": 2}),
    ((3, 33, 4), (33, 33, 5), {"padding": 2}),
    ((9, 40, 2, 2, 1), (33, 40, 3, 3, 1), {"padding": (1, 1, 0)}),
]
BESIDE = [((2, 32, 4), (32, 32, 2), {"padding": 4, "stride": 3})]  # targets that meet nothing


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), BY_PLACE)
def test_by_place_exact_on_integers(isa, dtype, x_shape, w_shape, options):
    rng = np.random.default_rng(len(x_shape))
    x, w, b = (rng.integers(-4, 5, shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    forward, backward = CONV[x.ndim - 2]
    only_dx = {**options, "needs": (True, False, False)}
    with convkit.use(isa=isa), common.recording() as plans:
        y = getattr(F, forward)(x, w, b, **options)
        dy = rng.integers(-4, 5, y.shape).astype(dtype)
        dx, _, _ = getattr(F, backward)(dy, x, w, **only_dx)
    assert [type(plan.run) for plan in plans] == [gemm.ByPlace] * 2
    np.testing.assert_array_equal(y, getattr(reference, forward)(x, w, b, **options))
    np.testing.assert_array_equal(dx, getattr(reference, backward)(dy, x, w, **only_dx)[0])


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), BY_PLACE)
def test_by_place_a_batch_and_its_images_have_the_same_bits(x_shape, w_shape, options):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(x_shape, np.float32), rng.standard_normal(w_shape, np.float32)
    forward, backward = (getattr(F, name) for name in CONV[x.ndim - 2])
    for weight in (w, np.where(w == w.max(), np.inf, w).astype("f4")):  # and with the taps in the padding
        y = forward(x, weight, **options)
        dy = rng.standard_normal(y.shape, np.float32)
        dx, _, _ = backward(dy, x, weight, needs=(True, False, False), **options)
        for threads in (1, 3):
            with convkit.threads(threads):
                ones = [forward(x[i:i + 1], weight, **options) for i in range(len(x))]
                np.testing.assert_array_equal(y, np.concatenate(ones))
                np.testing.assert_array_equal(forward(x, weight, **options), y)
                np.testing.assert_array_equal(
                    backward(dy, x, weight, needs=(True, False, False), **options)[0], dx)
        np.testing.assert_array_equal(
            backward(dy[:2], x[:2], weight, needs=(True, False, False), **options)[0], dx[:2])


@pytest.mark.parametrize("bad", [1, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), BY_PLACE + BESIDE)
def test_by_place_infinite_weights_meet_padding(x_shape, w_shape, options, bad):
    rng = np.random.default_rng(4)
    x, w = (rng.integers(1, 5, shape).astype("f4") for shape in (x_shape, w_shape))
    w[3].flat[0] = w[5].flat[-1] = bad
    x[0, 2] = np.nan
    forward = CONV[x.ndim - 2][0]
    with np.errstate(invalid="ignore"):
        want = getattr(reference, forward)(x, w, **options)
    with common.recording() as plans:
        np.testing.assert_array_equal(getattr(F, forward)(x, w, **options), want)
    assert isinstance(plans[0].run, gemm.ByPlace)


def test_by_place_is_for_kernels_that_no_padding_hides():
    spec, _, _ = conv_spec((1, 64, 1, 1), np.dtype("f4"), (64, 64, 3, 3), np.dtype("f4"), rank=2, padding=1)
    assert not gemm.by_place(spec)  # eight of nine weights meet no x: whether one is infinite no y would say


def test_refuses_long_sums():
    x, w = np.ones((1, 5000, 3, 3), np.float32), np.ones((8, 5000, 1, 1), np.float32)
    with convkit.use(algorithm="gemm"), pytest.raises(ValueError, match="sums of at most 4096 products, not 5000"):
        F.conv2d(x, w)


PHASES = [
    # channels of y and of x, size of x, kernel, stride, options, why not
    (128, 64, (112, 112), 2, 2, {}, None),
    (64, 64, (8, 64, 64), 2, 2, {}, None),
    (128, 64, (40, 40), 2, 2, {}, "1024 KB of targets"),
    (1024, 512, (28, 28), 2, 2, {}, "256 pixels"),
    (128, 64, (112, 112), 3, 2, {"padding": 1}, "longer than the stride"),
    (4, 8, (64,), 17, 17, {}, "at most 16 phases"),
    (4, 8, (64,), 4, 4, {"dilation": 3}, "longer than the stride"),
    (4, 8, (64,), 5, 3, {"dilation": 2, "padding": 4}, "not with this dilation"),
]


@pytest.mark.parametrize(("filters", "channels", "size", "kernel", "stride", "options", "why"), PHASES)
def test_where_phases_pay(filters, channels, size, kernel, stride, options, why):
    rank = len(size)
    spec, _, _ = conv_spec((1, channels, *size), np.dtype("f4"), (filters, channels, *(kernel,) * rank), np.dtype("f4"),
                           rank=rank, stride=stride, direction="input_gradient", **options)
    if why is None:
        assert plan(spec).algorithm == "gemm"
    else:
        assert why in (gemm.rejects(spec, None) or gemm.loses(spec, None))


AT_AVX2 = [
    # channels of y and of x, size of x, kernel and stride, what is chosen where other levels take gemm for large ones
    (128, 64, (56, 56), 1, 2, "gemm"),
    (128, 64, (28, 28), 2, 2, "gemm"),
    (32, 16, (64, 64), 2, 2, "depthwise"),
    (32, 16, (32, 32), 1, 2, "gemm"),
    (128, 1, (4000,), 80, 4, "gemm"),
    (128, 1, (4000,), 20, 4, "depthwise"),
    (512, 1, (16000,), 10, 5, "gemm"),
    (64, 1, (64, 64), 4, 4, "gemm"),
]


@pytest.mark.parametrize(("filters", "channels", "size", "kernel", "stride", "algorithm"), AT_AVX2)
def test_avx2_takes_phases_of_any_size(filters, channels, size, kernel, stride, algorithm):
    rank = len(size)
    spec, _, _ = conv_spec((1, channels, *size), np.dtype("f4"), (filters, channels, *(kernel,) * rank), np.dtype("f4"),
                           rank=rank, stride=stride, direction="input_gradient")
    if "avx2" not in native.ISA_LEVELS:
        pytest.skip("needs AVX2")
    with convkit.use(isa="avx2"):
        assert plan(spec).algorithm == algorithm
