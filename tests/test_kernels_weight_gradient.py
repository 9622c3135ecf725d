"""Winograd's weight gradient: every level, tails of tiles, lanes and rounds, and what the plan refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
import convkit.functional as F
from convkit import reference, verification
from convkit.kernels import native
from convkit.plan import common, weight_gradient
from convkit.plan.conv import plan
from convkit.spec.conv import conv_spec

pytestmark = pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
F32 = np.dtype(np.float32)
EPS = np.finfo(F32).eps
ONLY = {"needs": (False, True, False)}
KERNELS = (3, 3), (5, 5), (4, 4), (3, 5), (5, 4)


def gradient(dy, x, weight, **options):
    """dw by Winograd at 1 and at 3 threads, which must be the same."""
    backward = F.conv2d_backward if weight.ndim == 4 else F.conv3d_backward
    results = []
    for threads in (1, 3):
        with convkit.use(algorithm="winograd"), convkit.threads(threads), common.recording() as plans:
            results.append(backward(dy, x, weight, **options, **ONLY)[1])
        assert [p.algorithm for p in plans] == ["winograd"]
    assert results[0].tobytes() == results[1].tobytes()
    return results[0]


def worst(got, dy, x, weight, **options):
    """The largest error in 8 eps times the largest products of the tiles."""
    name = f"conv{weight.ndim - 2}d_backward"
    call = verification.Call(tuple(a.astype(np.float64) for a in (dy, x, weight)), options)
    _, want, _ = getattr(reference, name)(*call.args, **options, **ONLY)
    bound = np.broadcast_to(verification._weight_tile_bound(name, call), want.shape)
    return (np.abs(got - want)[bound > 0] / (8 * EPS * bound[bound > 0])).max(initial=0)


@every_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_error_against_float64(isa, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, dilation = draw(1, 3), (draw(1, 3), draw(1, 3)) if draw(0, 1) else (1, 1)
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in range(2))
    kernel = data.draw(st.sampled_from(KERNELS))
    height, width = (draw(max(1, (k - 1) * d + 1 - sum(pair)), 30)
                     for k, pair, d in zip(kernel, padding, dilation, strict=True))
    rng = np.random.default_rng(draw(0, 2**32))
    x = rng.standard_normal((draw(1, 3), draw(1, 20) * groups, height, width), np.float32)
    weight = np.zeros((draw(1, 40) * groups, x.shape[1] // groups, *kernel), np.float32)
    options = {"padding": padding, "groups": groups, "dilation": dilation}
    dy = rng.standard_normal(F.conv2d(x, weight, **options).shape, np.float32)
    with pytest.MonkeyPatch.context() as patch, convkit.use(isa=isa):
        patch.setattr(weight_gradient, "ROUND_BYTES", data.draw(st.sampled_from([1, 30_000, 300_000])))
        patch.setattr(weight_gradient, "MOST_ROUND_BYTES", 1)
        common.clear()
        assert worst(gradient(dy, x, weight, **options), dy, x, weight, **options) < (8 if max(kernel) == 3 else 128)
    common.clear()


@every_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_slices_of_depth(isa, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, depth, step, apart = draw(1, 2), draw(1, 4), draw(1, 2), draw(1, 2)
    kernel = data.draw(st.sampled_from(KERNELS))
    spans = (depth - 1) * apart + 1, *kernel
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in spans)
    size = [draw(max(1, span - sum(pair)), 14) for span, pair in zip(spans, padding, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    x = rng.standard_normal((draw(1, 3), draw(1, 12) * groups, *size), np.float32)
    weight = np.zeros((draw(1, 40) * groups, x.shape[1] // groups, depth, *kernel), np.float32)
    options = {"stride": (step, 1, 1), "padding": padding, "dilation": (apart, 1, 1), "groups": groups}
    dy = rng.standard_normal(F.conv3d(x, weight, **options).shape, np.float32)
    with pytest.MonkeyPatch.context() as patch, convkit.use(isa=isa):
        patch.setattr(weight_gradient, "ROUND_BYTES", data.draw(st.sampled_from([1, 30_000, 300_000])))
        patch.setattr(weight_gradient, "MOST_ROUND_BYTES", 1)
        common.clear()
        assert worst(gradient(dy, x, weight, **options), dy, x, weight, **options) < (8 if max(kernel) == 3 else 128)
    common.clear()


@every_isa
@pytest.mark.parametrize("taps", [3, 4, 5])
@pytest.mark.parametrize("at", [(0, 0), (0, 3), (3, 3), (1, 2)])
def test_error_of_a_single_number(isa, at, taps):
    """The worst that there is: nothing else evens out its rounding."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.9, 1, (1, 64, 7 + taps, 7 + taps)) * rng.choice([-1, 1], (1, 64, 7 + taps, 7 + taps))
    x = x.astype(np.float32)
    dy = np.zeros((1, 64, 8, 8), np.float32)
    dy[:, :, at[0], at[1]] = rng.uniform(0.5, 1, 64)
    weight = np.zeros((64, 64, taps, taps), np.float32)
    with convkit.use(isa=isa):
        assert worst(gradient(dy, x, weight), dy, x, weight) < (8 if taps == 3 else 128)


@every_isa
@pytest.mark.parametrize("taps", [3, 5])
def test_error_of_a_batch_is_small(isa, taps):
    rng = np.random.default_rng(2)
    x, dy = (rng.standard_normal((16, 24, 32, 32), np.float32) for _ in range(2))
    weight = np.zeros((24, 24, taps, taps), np.float32)
    padding = taps // 2
    with convkit.use(isa=isa):
        error = worst(gradient(dy, x, weight, padding=padding), dy, x, weight, padding=padding)
    assert error < (0.06 if taps == 3 else 0.4)


@every_isa
@pytest.mark.parametrize(("taps", "dilation"), [(3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e15])
@pytest.mark.parametrize("operand", [0, 1])
def test_what_a_transform_would_spread_is_computed_directly(isa, operand, value, taps, dilation):
    rng = np.random.default_rng(3)
    operands = [rng.standard_normal((3, channels, 14, 15), np.float32) for channels in (20, 17)]
    operands[operand][1, 5, 6, 7] = value
    weight = np.zeros((20, 17, taps, taps), np.float32)
    options = {"padding": dilation * (taps // 2), "dilation": dilation}
    results = []
    with np.errstate(all="ignore"):
        for algorithm in ("winograd", "direct"):
            with convkit.use(isa=isa, algorithm=algorithm):
                results.append(F.conv2d_backward(*operands, weight, **options, **ONLY)[1])
    np.testing.assert_array_equal(*results)


def test_values_of_any_ordinary_size():
    """The limit is far from what any gradient holds."""
    rng = np.random.default_rng(4)
    x, dy = (rng.standard_normal((2, 16, 12, 12), np.float32) * np.float32(scale) for scale in (1e13, 1e-20))
    weight = np.zeros((16, 16, 3, 3), np.float32)
    assert worst(gradient(dy, x, weight, padding=1), dy, x, weight, padding=1) < 8


def test_the_plan_takes_it_where_it_pays():
    def chosen(channels, filters, size, taps=3, **geometry):
        x, w = (1, channels, *size), (filters, channels // geometry.get("groups", 1), *[taps] * len(size))
        return plan(conv_spec(x, F32, w, F32, rank=len(size), direction="weight_gradient",
                              **{"padding": 1, **geometry})[0])

    for taken in (chosen(64, 64, (56, 56)), chosen(512, 512, (7, 7)), chosen(8, 64, (8, 8)), chosen(64, 64, (4, 4)),
                  chosen(128, 256, (8, 28, 28)), chosen(256, 256, (28, 28), dilation=2, padding=2),
                  chosen(16, 32, (28, 28), taps=5, padding=2), chosen(256, 512, (32, 32), taps=4)):
        assert taken.algorithm == "winograd"
        assert taken.run.workspace_bytes > 0
    for refused, why in ((chosen(64, 64, (56, 56), stride=2), "stride"), (chosen(7, 64, (56, 56)), "8 channels"),
                         (chosen(64, 64, (56, 56), groups=4), "32 channels"),
                         (chosen(64, 64, (56, 1)), "mostly empty"),
                         (chosen(64, 64, (56, 56), dilation=2, padding=2), "128 channels")):
        assert refused.algorithm == "direct"
        assert why in dict(refused.considered)["winograd"]


def test_strict_precision_refuses_it():
    rng = np.random.default_rng(5)
    x, dy = (rng.standard_normal((1, 32, 16, 16), np.float32) for _ in range(2))
    weight = np.zeros((32, 32, 3, 3), np.float32)
    with convkit.use(precision="strict"), common.recording() as plans:
        F.conv2d_backward(dy, x, weight, padding=1, **ONLY)
        with pytest.raises(ValueError, match="strict"), convkit.use(algorithm="winograd"):
            F.conv2d_backward(dy, x, weight, padding=1, **ONLY)
    assert plans[0].algorithm == "direct"


def test_other_dtypes_and_kernels_are_refused():
    for shape, kernel, dtype, why in (((1, 16, 9, 9), (16, 16, 3, 3), np.float64, "float32"),
                                      ((1, 16, 9, 9), (16, 16, 2, 3), np.float32, "3 x 3"),
                                      ((1, 16, 9, 9), (16, 16, 5, 6), np.float32, "3 x 3"),
                                      ((1, 16, 9), (16, 16, 3), np.float32, "3 x 3")):
        rank = len(shape) - 2
        x, weight = np.ones(shape, dtype), np.ones(kernel, dtype)
        dy = getattr(F, f"conv{rank}d")(x, weight)
        with convkit.use(algorithm="winograd"), pytest.raises(ValueError, match=why):
            getattr(F, f"conv{rank}d_backward")(dy, x, weight, **ONLY)


def test_a_small_batch_of_small_maps_is_computed_directly():
    x, w = np.ones((3, 16, 7, 7), np.float32), np.ones((16, 16, 3, 3), np.float32)
    x[0, 0, 0, 0] = 1 / 3  # no small integers, or the two would agree
    for n, direct in ((3, True), (4, False)):
        images = np.resize(x, (n, *x.shape[1:]))
        dy = np.resize(F.conv2d(x, w, padding=1), (n, 16, 7, 7))
        dw = F.conv2d_backward(dy, images, w, padding=1, **ONLY)[1]
        with convkit.use(algorithm="direct"):
            assert (F.conv2d_backward(dy, images, w, padding=1, **ONLY)[1].tobytes() == dw.tobytes()) is direct


@pytest.mark.parametrize(("images", "by_tiles"), [(3, False), (4, True)])
def test_batches_of_few_tiles_go_to_the_direct_kernel(images, by_tiles, monkeypatch):
    """An image of 8 x 8 has 4 tiles, and 16 are enough."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((images, 64, 8, 8), np.float32), np.empty((64, 64, 3, 3), np.float32)
    spec, _, _ = conv_spec(x.shape, F32, w.shape, F32, rank=2, padding=1, direction="weight_gradient")
    run, took = weight_gradient.Winograd(spec, native.ISA_LEVELS[-1]), []
    whole = run._by_tiles
    monkeypatch.setattr(run, "_by_tiles", lambda *arrays: took.append(1) or whole(*arrays))
    run(rng.standard_normal(x.shape, np.float32), x, w)
    assert bool(took) == by_tiles
