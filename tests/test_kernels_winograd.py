"""Winograd's transforms and products: every level, tails of tiles, lanes and blocks, and what the plan refuses."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
import convkit.functional as F
from convkit import nn, reference
from convkit.kernels import native
from convkit.plan import common, winograd
from convkit.plan.conv import plan
from convkit.spec.conv import conv_spec

pytestmark = pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
F32 = np.dtype(np.float32)
EPS = np.finfo(F32).eps
KERNELS = st.one_of(st.just((3, 3)), st.just((5, 5)), *(st.tuples(st.integers(*taps), st.integers(*taps))
                                                        for taps in winograd.TAPS))


@contextmanager
def sides(side):
    """Tiles of this many outputs a side, whatever the shape; yields what patches more for as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "tile_side", lambda *_: side)
        common.clear()
        yield patch
    common.clear()


def worst(got, want, x, weight):
    """The largest error over eps times the largest sum that a tile can hold."""
    most = np.abs(weight.astype(float)).sum(tuple(range(1, x.ndim))).max() * np.abs(x).max()
    return np.abs(got - want).max() / (EPS * most)


def operands(rng, n, channels, filters, height, width, groups=1, kernel=(3, 3)):
    return (rng.standard_normal((n, channels * groups, height, width), np.float32),
            rng.standard_normal((filters * groups, channels, *kernel), np.float32),
            rng.standard_normal(filters * groups, np.float32))


@every_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_forward_and_input_gradient(isa, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, dilation = draw(1, 3), (draw(1, 3), draw(1, 3)) if draw(0, 1) else (1, 1)
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in range(2))
    kernel = data.draw(KERNELS)
    height, width = (draw(max(1, (k - 1) * d + 1 - sum(pair)), 30)
                     for k, pair, d in zip(kernel, padding, dilation, strict=True))
    rng = np.random.default_rng(draw(0, 2**32))
    fewest = 16 if max(kernel) > 3 else 4
    x, w, b = operands(rng, draw(1, 3), draw(fewest, 20), draw(fewest, 40), height, width, groups, kernel)
    with (convkit.use(isa=isa, algorithm="winograd"), convkit.threads(draw(1, 3)),
          sides(draw(1, 2) * 2 if max(kernel) == 3 else 4)):
        options = {"padding": padding, "groups": groups, "dilation": dilation}
        y = F.conv2d(x, w, b, **options)
        dy = rng.standard_normal(y.shape, np.float32)
        dx, _, _ = F.conv2d_backward(dy, x, w, **options, needs=(True, False, False))
    assert worst(y, reference.conv2d(x, w, b, **options), x, w) < 8
    want, _, _ = reference.conv2d_backward(dy, x, w, **options, needs=(True, False, False))
    assert worst(dx, want, dy, w.swapaxes(0, 1)) < 8


@every_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_small_planes_side_by_side(isa, data):
    """A batch of small planes has its images in the lanes: as close, and the bits of each image alone."""
    def draw(low, high):
        return data.draw(st.integers(low, high))

    kernel = data.draw(st.sampled_from([(3, 3), (3, 3, 3), (2, 3), (5, 5), (3, 4)]))
    groups, dilation, depth = draw(1, 2), 1 + draw(0, 4) // 4, len(kernel) == 3
    padding = (1,) * depth + tuple((draw(0, 2), draw(0, 2)) for _ in range(2))
    size = [draw(max(1, (k - 1) * dilation + 1 - sum(pair)), 16)
            for k, pair in zip(kernel[-2:], padding[-2:], strict=True)]
    fewest = 16 if max(kernel) > 3 else 4
    rng = np.random.default_rng(draw(0, 2**32))
    n, filters = data.draw(st.sampled_from([7, 8, 9, 16, 17, 35])), draw(fewest, 20)
    x = rng.standard_normal((n, draw(fewest, 20) * groups, *(2,) * depth, *size), np.float32)
    w = rng.standard_normal((filters * groups, x.shape[1] // groups, *kernel), np.float32)
    run, options = F.conv3d if depth else F.conv2d, {"padding": padding, "groups": groups, "dilation": dilation}
    if depth:
        options["dilation"] = (1, dilation, dilation)
    with (convkit.use(isa=isa, algorithm="winograd"), convkit.threads(draw(1, 3)),
          sides(draw(1, 2) * 2 if max(kernel) == 3 else 4) as patch):
        patch.setattr(winograd, "BLOCK_BYTES", data.draw(st.sampled_from([1, 100_000, winograd.BLOCK_BYTES])))
        y = run(x, w, **options)
        alone = np.concatenate([run(x[i:i + 1], w, **options) for i in range(n)])
    assert y.tobytes() == alone.tobytes()
    want = (reference.conv3d if depth else reference.conv2d)(x[-2:], w, **options)
    assert worst(y[-2:], want, x, w) < 8


@every_isa
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_slices_of_depth(isa, data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups, depth, step, apart = draw(1, 2), draw(1, 4), draw(1, 2), draw(1, 2)
    kernel = data.draw(KERNELS)
    spans, fewest = ((depth - 1) * apart + 1, *kernel), 16 if max(kernel) > 3 else 4
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in spans)
    size = [draw(max(1, span - sum(pair)), 14) for span, pair in zip(spans, padding, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    x = rng.standard_normal((draw(1, 3), draw(fewest, fewest + 8) * groups, *size), np.float32)
    w = rng.standard_normal((draw(fewest, 40) * groups, x.shape[1] // groups, depth, *kernel), np.float32)
    b = rng.standard_normal(len(w), np.float32)
    options = {"stride": (step, 1, 1), "padding": padding, "dilation": (apart, 1, 1), "groups": groups}
    with (sides(draw(1, 2) * 2 if max(kernel) == 3 else 4) as patch, convkit.threads(draw(1, 3)),
          convkit.use(isa=isa, algorithm="winograd")):
        patch.setattr(winograd, "BLOCK_BYTES", data.draw(st.sampled_from([1, 30_000, 300_000])))
        y = F.conv3d(x, w, b, **options)
        assert worst(y, reference.conv3d(x, w, b, **options), x, w) < 8
        if step == 1:
            dy = rng.standard_normal(y.shape, np.float32)
            options["needs"] = (True, False, False)
            want, _, _ = reference.conv3d_backward(dy, x, w, **options)
            assert worst(F.conv3d_backward(dy, x, w, **options)[0], want, dy, w.swapaxes(0, 1)) < 8


@every_isa
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_stride_two(isa, data):
    """In height and width, with any depth; the error is bounded in every window, as no output meets another's inputs."""
    def draw(low, high):
        return data.draw(st.integers(low, high))

    rank, groups = draw(2, 3), draw(1, 3)
    kernel, stride, dilation = (draw(1, 3), 3, 3)[-rank:], (draw(1, 2), 2, 2)[-rank:], (draw(1, 2), 1, 1)[-rank:]
    padding = tuple((draw(0, 1) if draw(0, 1) else draw(0, 3), draw(0, 3)) for _ in kernel)
    size = [draw(max(1, (k - 1) * d + 1 - sum(pair)), 14 if rank == 3 else 40)
            for k, d, pair in zip(kernel, dilation, padding, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    x = rng.standard_normal((draw(1, 3), draw(4, 20) * groups, *size), np.float32)
    w = rng.standard_normal((draw(4, 40) * groups, x.shape[1] // groups, *kernel), np.float32)
    b = rng.standard_normal(len(w), np.float32)
    x *= np.exp2(rng.integers(-20, 20, x.shape)).astype(F32)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    forward, want = (getattr(module, f"conv{rank}d") for module in (F, reference))
    with pytest.MonkeyPatch.context() as patch, convkit.use(isa=isa, algorithm="winograd"):
        patch.setattr(winograd, "BLOCK_BYTES", data.draw(st.sampled_from([1, 30_000, 300_000])))
        common.clear()
        with convkit.threads(draw(1, 3)):
            y = forward(x, w, b, **options)
        alone = np.concatenate([forward(x[i:i + 1], w, b, **options) for i in range(len(x))])
        if all(lo % 2 for lo, _ in padding[-2:]) and stride[0] == (1, 2)[rank == 2]:
            dy = rng.standard_normal(y.shape, np.float32)
            options["needs"] = (True, False, False)
            backward, want_dx = (getattr(module, f"conv{rank}d_backward") for module in (F, reference))
            with convkit.threads(draw(1, 3)):
                dx = backward(dy, x, w, **options)[0]
            one_by_one = [backward(dy[i:i + 1], x[i:i + 1], w, **options)[0] for i in range(len(x))]
            assert np.concatenate(one_by_one).tobytes() == dx.tobytes()
            assert worst(dx, want_dx(dy, x, w, **options)[0], dy, w.swapaxes(0, 1)) < 8
            del options["needs"]
    common.clear()
    largest = reference_windows(np.abs(x).max(1, keepdims=True), kernel, stride, padding, dilation)
    most = np.abs(w).astype(float).sum(tuple(range(1, w.ndim))).max()
    bound = 8 * EPS * (most * largest + np.abs(b).max())
    assert (np.abs(y - want(x, w, b, **options)) <= bound).all()
    assert alone.tobytes() == y.tobytes()


def reference_windows(x, kernel, stride, padding, dilation):
    """The largest element of every window of the non-negative ``x``."""
    x = np.pad(x, [(0, 0), (0, 0), *padding])
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axes)
    windows = windows[(slice(None), slice(None), *(slice(None, None, s) for s in stride))]
    return windows[(..., *(slice(None, None, d) for d in dilation))].max(tuple(range(x.ndim, x.ndim + len(axes))))


@every_isa
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_lines(isa, data):
    """2 to 7 taps along one axis, any dilation: neighbours, pairs, steps shorter and longer than a vector."""
    def draw(low, high):
        return data.draw(st.integers(low, high))

    rank, groups, apart = draw(1, 3), draw(1, 2), data.draw(st.sampled_from([1, 1, 2, 3, 5, 17]))
    axis, taps = draw(0, rank - 1), draw(2, 7)
    pads = draw(0, 3 * apart), draw(0, 3 * apart)
    size = [draw(1, 9) for _ in range(rank)]
    reach = (taps - 1) * apart
    size[axis] = draw(max(1, reach + 1 - sum(pads)), data.draw(st.sampled_from([50, 200])) + reach)
    rng, fewest = np.random.default_rng(draw(0, 2**32)), 16 if taps > 5 else 4
    x = rng.standard_normal((draw(1, 3), draw(fewest, fewest + 8) * groups, *size), np.float32)
    w = rng.standard_normal((draw(fewest, 40) * groups, x.shape[1] // groups, *(taps if i == axis else 1 for i in range(rank))),
                            np.float32)
    b = rng.standard_normal(len(w), np.float32)
    options = {"padding": tuple(pads if i == axis else (0, 0) for i in range(rank)), "groups": groups,
               "dilation": tuple(apart if i == axis else 1 for i in range(rank))}
    forward, backward = (getattr(F, f"conv{rank}d{end}") for end in ("", "_backward"))
    want, want_backward = (getattr(reference, f"conv{rank}d{end}") for end in ("", "_backward"))
    with pytest.MonkeyPatch.context() as patch, convkit.use(isa=isa, algorithm="winograd"):
        patch.setattr(winograd, "BLOCK_BYTES", data.draw(st.sampled_from([1, 30_000, 300_000])))
        patch.setattr(winograd, "LINE_ROW", data.draw(st.sampled_from([1, 30, 112])))
        common.clear()
        with convkit.threads(draw(1, 3)):
            y = forward(x, w, b, **options)
        assert worst(y, want(x, w, b, **options), x, w) < 8
        alone = np.concatenate([forward(x[i:i + 1], w, b, **options) for i in range(len(x))])
        assert alone.tobytes() == y.tobytes()
        dy = rng.standard_normal(y.shape, np.float32)
        options["needs"] = (True, False, False)
        dx = backward(dy, x, w, **options)[0]
        assert worst(dx, want_backward(dy, x, w, **options)[0], dy, w.swapaxes(0, 1)) < 8
    common.clear()


@every_isa
@pytest.mark.parametrize(("dilation", "taps"), [(1, 3), (2, 3), (3, 3), (20, 3), (1, 5), (7, 4), (1, 7),
                                               (2, 7), (5, 6)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e37])
def test_a_value_on_a_line_stays_in_its_windows(isa, value, dilation, taps):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 17, 90), np.float32)
    w = rng.standard_normal((20, 17, taps), np.float32)
    options = {"padding": dilation, "dilation": dilation}
    with convkit.use(isa=isa), np.errstate(all="ignore"):
        with convkit.use(algorithm="winograd"):
            clean = F.conv1d(x, w, **options)
            x[1, 5, 47] = value
            y = F.conv1d(x, w, **options)
        with convkit.use(algorithm="direct"):
            want = F.conv1d(x, w, **options)
    np.testing.assert_array_equal(y[1], want[1])
    assert y[[0, 2]].tobytes() == clean[[0, 2]].tobytes()


every_tile = pytest.mark.parametrize(("side", "kernel", "stride"),
                                     [(4, (3, 3), 1), (2, (3, 3), 1), (4, (5, 5), 1), (2, (3, 3), 2)])


@every_isa
@every_tile
@pytest.mark.parametrize(("n", "size"), [(5, (21, 27)), (37, (9, 14))])
def test_blocks_and_rounds_change_no_bit(isa, side, kernel, stride, n, size, monkeypatch):
    x, w, b = operands(np.random.default_rng(1), n, 24, 40, *size, kernel=kernel)
    spec, n, _ = conv_spec(x.shape, x.dtype, w.shape, w.dtype, stride=stride, padding=1, rank=2)
    results = []
    for size in (1, 20_000, 100_000, 10**9):
        monkeypatch.setattr(winograd, "BLOCK_BYTES", size)
        for threads in (1, 2, 3, 7):
            y = np.full(spec.y_shape(n), np.nan, np.float32)
            with convkit.threads(threads):
                winograd.Sums(spec, isa, side)(x, w, b, y)
            results.append(y.tobytes())
    assert len(set(results)) == 1
    with convkit.use(isa=isa, algorithm="winograd"), sides(side):
        alone = np.concatenate([F.conv2d(x[i:i + 1], w, b, stride, padding=1) for i in range(len(x))])
    assert alone.tobytes() == results[0]


@every_isa
@every_tile
@pytest.mark.parametrize("n", [3, 19])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e37])
def test_a_value_that_a_transform_would_spread_stays_in_its_windows(isa, side, kernel, stride, value, dilation, n):
    rng = np.random.default_rng(2)
    x, w, b = operands(rng, n, 17, 20, 14, 15, kernel=kernel)
    if stride == 2:
        dilation = 1
    options = {"stride": stride, "padding": dilation, "dilation": dilation}
    with convkit.use(isa=isa), sides(side), np.errstate(all="ignore"):
        with convkit.use(algorithm="winograd"):
            clean = F.conv2d(x, w, b, **options)
            x[1, 5, 6, 7] = value
            y = F.conv2d(x, w, b, **options)
        with convkit.use(algorithm="direct"):
            want = F.conv2d(x, w, b, **options)
    np.testing.assert_array_equal(y[1], want[1])
    assert np.delete(y, 1, 0).tobytes() == np.delete(clean, 1, 0).tobytes()
    if not np.isfinite(value) and kernel == (3, 3):
        assert np.isfinite(y[1]).sum() == y[1].size - (9 if stride == 1 else 2) * len(w)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_out_of_range_are_computed_directly(value):
    x, w, b = operands(np.random.default_rng(3), 2, 17, 20, 14, 15)
    w[3, 4, 1, 1] = value
    results = []
    with np.errstate(all="ignore"):
        for algorithm in ("winograd", "direct"):
            with convkit.use(algorithm=algorithm):
                results.append(F.conv2d(x, w, b, padding=1))
    np.testing.assert_array_equal(*results)


def test_the_plan_takes_it_where_it_pays():
    def chosen(channels, filters, size, direction="forward", **geometry):
        x, w = (1, channels, *size), (filters, channels // geometry.get("groups", 1), 3, 3)
        return plan(conv_spec(x, F32, w, F32, rank=2, direction=direction, **{"padding": 1, **geometry})[0])

    assert chosen(64, 64, (56, 56)).algorithm == "winograd"
    assert chosen(64, 64, (56, 56), "input_gradient").algorithm == "winograd"
    for small in (chosen(16, 32, (8, 8)), chosen(512, 512, (4, 4))):
        assert small.algorithm == "winograd"
    assert chosen(64, 64, (2, 2)).algorithm == "gemm"  # by place
    assert chosen(64, 128, (56, 56), stride=2).algorithm == "winograd"
    assert chosen(64, 128, (56, 56), "input_gradient", stride=2).algorithm == "winograd"
    for strided in (chosen(64, 128, (56, 56), "input_gradient", stride=2, padding=0),
                    chosen(64, 64, (56, 56), stride=(2, 1)), chosen(64, 64, (56, 56), stride=2, dilation=2),
                    chosen(32, 64, (56, 56), stride=2), chosen(64, 64, (14, 14), stride=2)):
        assert strided.algorithm != "winograd" and "stride" in dict(strided.considered)["winograd"]
    mostly_padding = chosen(64, 64, (33, 33), dilation=12, padding=12)
    assert mostly_padding.algorithm != "winograd" and dict(mostly_padding.considered)["winograd"] is None


def test_the_plan_takes_wide_kernels_where_they_pay():
    def chosen(x, w, **geometry):
        return plan(conv_spec(x, F32, w, F32, rank=2, **geometry)[0]).algorithm

    assert chosen((1, 48, 28, 28), (64, 48, 5, 5), padding=2) == "winograd"
    assert chosen((1, 96, 27, 27), (256, 48, 5, 5), padding=2, groups=2) == "winograd"
    assert chosen((1, 64, 28, 28), (64, 64, 4, 4), padding=1) == "winograd"
    assert chosen((1, 64, 5, 5), (64, 64, 5, 5)) != "winograd"


def test_tiles_are_small_where_large_weights_meet_few_of_them():
    def side(channels, size, direction="forward", isa="avx512", **geometry):
        x, w = (1, channels, *size), (channels, channels, *(3,) * len(size))
        spec = conv_spec(x, F32, w, F32, rank=len(size), direction=direction, padding=1, **geometry)[0]
        return winograd.tile_side(spec, isa)

    assert side(512, (7, 7)) == side(512, (2, 7, 7)) == 2
    assert side(256, (14, 14)) == side(256, (14, 14), "input_gradient") == side(512, (14, 14)) == 4
    assert side(512, (2, 7, 7), isa="avx2") == 4
    assert side(64, (2, 2)) == side(64, (2, 9)) == 2  # fewer multiplications
    assert side(32, (14, 14)) == side(256, (28, 28)) == side(512, (16, 7, 7)) == 4
    # the dilation's 4 x 4 images have as many tiles together as one of their size
    assert side(256, (28, 28), dilation=2) == 4 and side(256, (14, 14), dilation=2) == 2


@pytest.mark.skipif("avx2" not in native.ISA_LEVELS, reason="needs AVX2")
def test_the_plan_takes_strided_gradients_of_few_channels_at_avx2():
    def chosen(channels, size, direction="input_gradient"):
        x, w = (1, channels, size, size), (2 * channels, channels, 3, 3)
        return plan(conv_spec(x, F32, w, F32, rank=2, stride=2, padding=1, direction=direction)[0]).algorithm

    with convkit.use(isa="avx2"):
        assert chosen(16, 56) == "winograd"
        assert chosen(16, 56, "forward") != "winograd"
        assert chosen(8, 56) != "winograd"  # too few channels
        assert chosen(16, 14) != "winograd"  # too few tiles


def test_the_plan_takes_lines_where_they_pay():
    def chosen(x, w, **geometry):
        return plan(conv_spec(x, F32, w, F32, rank=len(x) - 2, **geometry)[0])

    assert chosen((1, 64, 500), (64, 64, 3), padding=1).algorithm == "winograd"
    assert chosen((1, 64, 500), (64, 64, 3), padding=((8, 0),), dilation=4).algorithm == "winograd"
    assert chosen((1, 64, 8, 28, 28), (64, 64, 3, 1, 1), padding=(1, 0, 0)).algorithm == "winograd"
    assert chosen((1, 64, 28, 28), (64, 64, 1, 3), padding=(0, 1)).algorithm == "winograd"
    for taps in (4, 5, 6, 7):
        assert chosen((1, 32, 500), (32, 32, taps)).algorithm == "winograd"
    assert chosen((1, 128, 17, 17), (128, 128, 1, 7), padding=(0, 3)).algorithm == "winograd"
    for refused, why in ((chosen((1, 64, 500), (64, 64, 3), stride=2), "stride"),
                         (chosen((1, 64, 28, 28), (64, 64, 1, 3), padding=1), "padding along that axis alone"),
                         (chosen((1, 16, 500), (64, 16, 3)), "24 channels"),
                         (chosen((1, 64, 500), (64, 64, 2)), "128 channels"), (chosen((1, 64, 9), (64, 64, 3)), "8 tiles"),
                         (chosen((1, 64, 6, 28, 28), (64, 64, 3, 1, 1), dilation=(2, 1, 1)), "mostly empty")):
        assert refused.algorithm != "winograd"
        assert why in dict(refused.considered)["winograd"]


@pytest.mark.parametrize(("kernel", "fewest"), [((3, 3), 4), ((2, 3), 4), ((5, 5), 16), ((3, 4), 16), ((5, 1), 4), ((1, 7), 16), ((6, 1), 16)])
def test_few_channels_are_refused_even_when_forced(kernel, fewest):
    x, w = np.ones((1, fewest - 1, 9, 9), np.float32), np.ones((8, fewest - 1, *kernel), np.float32)
    why = f"sums over {fewest} channels and more, not {fewest - 1}"
    with convkit.use(algorithm="winograd"), pytest.raises(ValueError, match=why):
        F.conv2d(x, w)


@pytest.mark.parametrize("kernel", [(2, 4), (5, 2), (6, 6), (8, 1), (5, 6), (1, 1)])
def test_kernels_that_it_is_not_for(kernel):
    x, w = np.ones((1, 16, 9, 9), np.float32), np.ones((8, 16, *kernel), np.float32)
    with convkit.use(algorithm="winograd"), pytest.raises(ValueError, match="kernels of 2 or 3 taps, or of 3 to 5, in height and width"):
        F.conv2d(x, w)


def test_strict_precision_refuses_it():
    x, w, b = operands(np.random.default_rng(4), 1, 32, 32, 16, 16)
    with convkit.use(precision="strict"), common.recording() as plans:
        y = F.conv2d(x, w, b, padding=1)
        with pytest.raises(ValueError, match="strict"), convkit.use(algorithm="winograd"):
            F.conv2d(x, w, b, padding=1)
    assert plans[0].algorithm != "winograd"
    with convkit.use(algorithm=plans[0].algorithm):
        assert F.conv2d(x, w, b, padding=1).tobytes() == y.tobytes()
    with pytest.raises(ValueError, match="precision must be one of fast, strict, got 'exact'"), \
            convkit.use(precision="exact"):
        pass


@every_isa
@pytest.mark.parametrize(("n", "c", "f", "size", "kernel", "groups"), [
    (1, 150, 40, (9, 11), (3, 3), 1), (2, 70, 66, (4, 4), (3, 3), 2), (1, 40, 40, (60, 60), (3, 3), 1),
    (1, 66, 20, (7, 9), (5, 4), 1), (3, 70, 33, (30,), (5,), 1), (1, 36, 70, (3, 7, 8), (3, 3, 3), 1)])
def test_weights_made_in_a_call_give_the_bits_of_packed_ones(isa, n, c, f, size, kernel, groups):
    """Made by the task that multiplies with them where a call is one round, ahead of all rounds where it is several."""
    rng = np.random.default_rng(40)
    x = rng.standard_normal((n, c, *size), np.float32)
    w = rng.standard_normal((f, c // groups, *kernel), np.float32)
    for direction in ("forward", "input_gradient"):
        spec, *_ = conv_spec(x.shape, x.dtype, w.shape, w.dtype, None, None, 1, 1, 1, groups, rank=len(size),
                             direction=direction)
        source = x if direction == "forward" else rng.standard_normal(spec.y_shape(n), np.float32)
        shape = spec.y_shape(n) if direction == "forward" else x.shape
        run, results = winograd.Sums(spec, isa), []
        bias = rng.standard_normal(shape[1], np.float32)
        for threads in (1, 3):
            with convkit.threads(threads):
                for packed in (run.pack(w), None):
                    y = np.full(shape, np.nan, np.float32)
                    if packed is None:
                        run(source, w, bias, y)
                    else:
                        run.with_packed(source, packed, bias, y)
                    results.append(y.tobytes())
        assert len(set(results)) == 1


@every_isa
@pytest.mark.parametrize("value", [np.nan, -np.inf, 2e30])
@pytest.mark.parametrize("place", [0, 7, 31, 32, 650, -1])
def test_a_weight_out_of_range_is_found_anywhere(isa, value, place):
    x = np.ones((1, 5, 8, 8), np.float32)
    w = np.ones((15, 5, 3, 3), np.float32)
    w.reshape(-1)[place] = value
    spec, *_ = conv_spec(x.shape, x.dtype, w.shape, w.dtype, None, None, 1, 1, 1, 1, rank=2)
    run, y = winograd.Sums(spec, isa), np.empty((1, 15, 8, 8), np.float32)
    assert run.pack(w)[0][0] < 0
    run(x, w, None, y)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(reference.conv2d(x, w, padding=1)))


def test_a_layer_packs_once_and_sees_new_weights(monkeypatch):
    layer = nn.Conv2d(64, 64, 3, padding=1, rng=np.random.default_rng(5))
    x = np.random.default_rng(6).standard_normal((1, 64, 24, 24), np.float32)
    packs = []
    pack = winograd.Sums.pack
    monkeypatch.setattr(winograd.Sums, "pack", lambda self, weight: packs.append(1) or pack(self, weight))
    first = layer(x)
    np.testing.assert_array_equal(layer(x), first)
    assert len(packs) == 1
    layer.weight.data = layer.weight.data * 2
    layer.bias.data = layer.bias.data * 2
    np.testing.assert_array_equal(layer(x), 2 * first)
    x[0, 3, 3, 3] = np.nan
    assert np.isnan(layer(x)).sum() == 9 * 64
