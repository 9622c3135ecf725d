"""The pooling kernels: every row of the registry, at every level, against plain loops."""

import guards
import numpy as np
import oracle
import pytest

import convkit as ck
import convkit.functional as F
from convkit.kernels import native
from convkit.plan import pool as plans
from convkit.spec.adaptive import AdaptiveSpec
from convkit.spec.pool import ScatterSpec, check_indices, pool_spec
from convkit.spec.unpool import UnpoolSpec

pytestmark = pytest.mark.skipif(not native.available, reason=native.reason or "")

DTYPES = (np.float32, np.float64)
WIDTHS = tuple(range(1, 2 * 16 + 4))  # the widest vector holds 16


@pytest.fixture(autouse=True)
def poisoned_scratch():
    from convkit.kernels import runtime

    runtime.poison_scratch(True)
    yield
    runtime.poison_scratch(False)


def rng_for(*key):
    return np.random.default_rng(np.ravel(key).tolist())


def levels_and_dtypes():
    for isa in native.ISA_LEVELS:
        for dtype in DTYPES:
            yield isa, dtype


def spec_of(x, kernel, stride, padding=0, dilation=1, kind="max", **options):
    shape, rank = (1, *x.shape), x.ndim - 1
    return pool_spec(shape, x.dtype, kernel, stride, padding, dilation, kind=kind, rank=rank, **options)[0]


def each(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def outputs(spec, planes):
    y = np.full((planes, *spec.out_size), np.nan, spec.dtype)
    return y, np.full(y.shape, -1, np.int64)


def check_extreme(x, kernel, stride, padding, dilation, ceil_mode=False):
    """Values and indices of max and min of ``x (planes, *size)`` at every level and dtype; exact."""
    for kind in ("max", "min"):
        try:
            spec = spec_of(x, kernel, stride, padding, dilation, kind, ceil_mode=ceil_mode)
        except ck.ShapeError:
            return
        geometry = each(kernel, spec.rank), each(stride, spec.rank), spec.padding, each(dilation, spec.rank)
        want, where = oracle.extreme_pool(x, kind == "max", *geometry, ceil_mode)
        for isa, dtype in levels_and_dtypes():
            x_t = x.astype(dtype)
            spec = spec_of(x_t, kernel, stride, padding, dilation, kind, ceil_mode=ceil_mode)
            with ck.use(isa=isa, algorithm="direct"):
                y, index = outputs(spec, len(x))
                plans.plan(spec).run(x_t, y, index)
                plain, _ = outputs(spec, len(x))
                plans.plan(spec).run(x_t, plain, None)
            message = f"{kind} {isa} {spec}"
            np.testing.assert_array_equal(y, want, message)
            np.testing.assert_array_equal(plain, want, message)
            np.testing.assert_array_equal(index, where, message)
            if max(spec.dilation) == 1 and np.prod(spec.kernel) <= 256:
                check_taps(spec, x_t, want, index, isa)


def check_taps(spec, x, want, index, isa):
    """Bytes say the same as indices, and their gradient has the bits of the scatter."""
    y, _ = outputs(spec, len(x))
    taps = np.full(y.shape, 255, np.uint8)
    dy = rng_for(*x.shape).standard_normal(y.shape).astype(spec.dtype)
    dx, scattered = np.full(x.shape, np.nan, spec.dtype), np.full(x.shape, np.nan, spec.dtype)
    with ck.use(isa=isa, algorithm="direct"):
        plans.taps_plan(spec).run(x, y, taps)
        plans.taps_gradient_plan(spec).run(dy, taps, dx)
        plans.scatter_plan(ScatterSpec(spec.size, spec.out_size, spec.dtype)).run(dy, index, scattered)
    np.testing.assert_array_equal(y, want, f"{isa} {spec}")
    np.testing.assert_array_equal(dx, scattered, f"{isa} {spec}")


def check_average(x, kernel, stride, padding, ceil_mode=False, include_pad=True, divisor=None):
    """Averages of small integers are exact, gradients nearly; at every level and dtype."""
    options = {"kind": "avg", "ceil_mode": ceil_mode, "count_include_pad": include_pad,
               "divisor_override": divisor}
    try:
        spec = spec_of(x, kernel, stride, padding, 1, **options)
    except ck.ShapeError:
        return
    geometry = each(kernel, spec.rank), each(stride, spec.rank), spec.padding
    want = oracle.avg_pool(x, *geometry, ceil_mode, include_pad, divisor)
    dy = rng_for(*x.shape).integers(-9, 10, want.shape).astype(np.float64)
    args = spec.size, *geometry, include_pad, divisor
    dx_want, dx_scale = oracle.avg_pool_backward(dy, *args), oracle.avg_pool_backward(abs(dy), *args)
    for isa, dtype in levels_and_dtypes():
        spec = spec_of(x.astype(dtype), kernel, stride, padding, 1, **options)
        with ck.use(isa=isa, algorithm="direct"):
            y, _ = outputs(spec, len(x))
            plans.plan(spec).run(x.astype(dtype), y)
            dx = np.full(x.shape, np.nan, dtype)
            plans.gradient_plan(spec).run(dy.astype(dtype), dx)
        np.testing.assert_array_equal(y, want.astype(dtype), f"{isa} {spec}")
        taps = np.prod([-(-k // s) for k, s in zip(spec.kernel, spec.stride, strict=True)])
        bound = (taps + 4) * np.finfo(dtype).eps * dx_scale
        assert (abs(dx - dx_want) <= bound).all(), f"{isa} {spec}"


def integers(rng, shape):
    return rng.integers(-4, 5, shape).astype(np.float64)  # many ties


def test_the_registry_has_no_other_rows():
    from convkit.kernels import pool

    assert pool.KERNELS == ("max", "min", "avg", "lp", "max_indices", "min_indices", "max_taps", "min_taps", "gather",
                            "scatter", "place", "taps_backward", "avg_backward", "lp_backward")


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (2, 0), (3, 1), (5, 2)])
def test_every_width_around_the_vector(kernel, padding, stride):
    rng = rng_for(kernel, stride)
    for width in WIDTHS if kernel in (2, 3) else WIDTHS[::5]:
        x = integers(rng, (1, 5, width))
        check_extreme(x, (min(kernel, 3), kernel), (2, stride), padding if kernel == 3 else (0, padding), 1)
        check_average(x, (min(kernel, 3), kernel), (2, stride), padding if kernel == 3 else (0, padding))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(9, 9, 0), (5, 5, 0), (17, 3, 0), (16, 2, 0), (35, 7, 0), (9, 9, 4)])
def test_windows_far_apart(kernel, stride, padding):
    rng = rng_for(kernel, stride, padding)
    for windows in (1, 2, 7, 17, 40):
        x = integers(rng, (3, kernel + (windows - 1) * stride + windows % 3))
        check_extreme(x, kernel, stride, padding, 1)
        check_average(x, kernel, stride, padding)
        x[0, kernel - 1], x[1, -1], x[2, 0] = np.nan, np.inf, -np.inf
        check_extreme(x, kernel, stride, padding, 1)
    x = integers(rng, (2, 2 * kernel, kernel + 20 * stride))
    check_extreme(x, (2, kernel), (1, stride), (0, padding), 1)
    check_average(x, (2, kernel), (1, stride), (0, padding))


@pytest.mark.parametrize(("kernel", "padding"), [(15, 0), (16, 8), (17, 3), (23, 0), (25, 0), (32, 16), (41, 2)])
def test_long_windows_of_every_column(kernel, padding):
    """Sums of eight neighbours are shared; an infinity and a NaN stay in their windows."""
    rng = rng_for(kernel, padding)
    for windows in (1, 7, 8, 9, 16, 61):
        x = integers(rng, (3, max(1, kernel + windows - 1 - 2 * padding)))
        check_average(x, kernel, 1, padding)
        check_average(x, kernel, 1, padding, include_pad=False)
        x[0, 0], x[1, -1], x[2, x.shape[1] // 2] = np.nan, np.inf, -np.inf
        check_extreme(x, kernel, 1, padding, 1)
        for isa, dtype in levels_and_dtypes():
            spec = spec_of(x.astype(dtype), kernel, 1, padding, 1, kind="avg")
            y, _ = outputs(spec, 3)
            with ck.use(isa=isa, algorithm="direct"):
                plans.plan(spec).run(x.astype(dtype), y)
            padded = np.pad(x, ((0, 0), (padding, padding)))
            want = np.lib.stride_tricks.sliding_window_view(padded, kernel, 1).sum(-1) / kernel
            np.testing.assert_allclose(y, want, 1e-5, err_msg=f"{isa} {spec}")
    x = integers(rng, (2, 5, kernel + 20))
    check_extreme(x, (3, kernel), 1, (1, padding), 1)
    check_average(x, (3, kernel), 1, (1, padding))


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (7, 7), (5, 16), (13, 13), (3, 4, 4), (9,)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 1, 1)])
def test_small_planes_side_by_side(size, kernel, stride, padding):
    for planes in (1, 7, 35):
        x = integers(rng_for(*size, kernel, stride, planes), (planes, *size))
        check_extreme(x, kernel, stride, padding, 1, ceil_mode=planes == 7)
        check_average(x, kernel, stride, padding, include_pad=planes == 7)


def test_a_nan_stays_in_its_plane_among_others():
    x = rng_for(5).standard_normal((35, 7, 7))
    x[3, 2, 4], x[3, 6, 6], x[20, 0, 0], x[34, 3, 3] = np.nan, np.inf, -np.inf, np.nan
    for isa, dtype in levels_and_dtypes():
        for kind in ("max", "min", "avg"):
            x_t = x.astype(dtype)
            spec = spec_of(x_t, 3, 2, 1, kind=kind)
            rest = () if kind == "avg" else (None,)
            with ck.use(isa=isa, algorithm="direct"):
                run = plans.plan(spec).run
                together, alone = outputs(spec, 35)[0], outputs(spec, 35)[0]
                run(x_t, together, *rest)
                for i in range(35):
                    run(x_t[i:i + 1], alone[i:i + 1], *rest)
            np.testing.assert_array_equal(together, alone)
            want = [p for p in range(35) if np.isnan(x[p]).any()]
            assert [p for p in range(35) if np.isnan(together[p]).any()] == want


def random_call(rng, rank):
    kernel = tuple(int(k) for k in rng.integers(1, 6, rank))
    dilation = tuple(int(d) for d in rng.integers(1, 4, rank))
    size = (*rng.integers(1, 7, rank - 1), rng.integers(1, 40))
    pads = tuple(tuple(int(rng.integers(0, ((k - 1) * d + 1) // 2 + 1)) for _ in "ab")
                 for k, d in zip(kernel, dilation, strict=True))
    flat = tuple(tuple(min(p, k // 2) for p in pair) for pair, k in zip(pads, kernel, strict=True))
    stride = tuple(int(s) for s in rng.integers(1, 6, rank))
    return integers(rng, (2, *size)), kernel, stride, pads, dilation, flat


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_geometry(rank):
    rng = np.random.default_rng(rank)
    for _ in range(30):
        x, kernel, stride, pads, dilation, flat = random_call(rng, rank)
        ceil_mode, include_pad = (bool(b) for b in rng.integers(0, 2, 2))
        check_extreme(x, kernel, stride, pads, dilation, ceil_mode)
        check_average(x, kernel, stride, flat, ceil_mode, include_pad, rng.choice([None, None, 4, 7]))


def test_nan_infinities_and_ties():
    rng = np.random.default_rng(7)
    for stride in (1, 2, 3):
        for special in ([np.nan], [-np.inf], [np.inf], [np.nan, np.inf, -np.inf]):
            x = integers(rng, (2, 7, 37))
            x[rng.random(x.shape) < 0.3] = rng.choice(special)
            x[0, 2:6] = special[0]  # windows of nothing else
            check_extreme(x, (3, 3), (2, stride), 1, 1)
            check_extreme(x, (2, 4), (1, stride), (1, 2), (2, 1), True)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [
    ((40, 28), 2, 2, 0), ((40, 28), 3, 1, 1), ((40, 29), 3, 2, 1), ((12, 28, 18), 2, 2, 0), ((67,), 4, 4, 0),
    ((31, 41), 5, 1, 2), ((19, 12), 2, 2, 0), ((60, 67), 10, 10, 0)])
def test_a_nan_met_late(size, kernel, stride, padding):
    """Most rows may be done as if there were none; sums of what is read may overflow without one."""
    rng = rng_for(*size, kernel)
    quiet = rng.integers(-4, 5, (3, *size)).astype(np.float64)
    for at in ((0, 0), (1, -1), (2, quiet[0].size // 2), (2, quiet[0].size - size[-1])):
        x = quiet.copy()
        x.reshape(3, -1)[at] = np.nan
        check_extreme(x, kernel, stride, padding, 1)
    check_extreme(np.where(rng.random(quiet.shape) < 0.5, 2.0**127, -(2.0**127)), kernel, stride, padding, 1)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2), (2, 1)])
@pytest.mark.parametrize("padding", [0, 1, ((0, 1), (1, 0))])
def test_three_by_three(stride, padding):
    """Rows by twos and one left over, at the edges too; rows cut anywhere."""
    rng = rng_for(*stride)
    for height, width in ((3, 20), (4, 17), (5, 25), (9, 33), (3, 10), (4, 9), (6, 16), (3, 18), (4, 56), (4, 57)):
        x = integers(rng, (2, height, width))
        for ceil_mode in (False, True):
            check_extreme(x, 3, stride, padding, 1, ceil_mode)
            check_average(x, 3, stride, padding, ceil_mode, include_pad=ceil_mode)


@pytest.mark.parametrize(("depth", "stride", "padding"), [(3, 1, 1), (2, 2, 0), (3, (1, 2, 2), 1), (2, (2, 9, 2), 1),
                                                        (1, (2, 1, 1), (0, 1, 1))])
def test_three_by_three_behind_each_other(depth, stride, padding):
    x = integers(rng_for(depth), (1, 3, 24, 18))
    check_extreme(x, (depth, 3, 3), stride, padding, 1)
    check_extreme(x, (depth, 3, 3), stride, padding, (2, 1, 1))
    check_average(x, (depth, 3, 3), stride, padding)


@pytest.mark.parametrize("size", [(7, 19), (6, 11), (5, 33), (3, 4, 18)])
def test_no_nan_is_overlooked(size):
    """Wherever it is; beside infinities too."""
    pool = {2: F.max_pool2d, 3: F.max_pool3d}[len(size)]
    planes = np.prod(size)
    x = np.tile(integers(rng_for(*size), size), (1, planes) + (1,) * len(size))
    for at in range(planes):
        x[0, at].flat[at], x[0, at].flat[at // 2] = np.nan, np.inf
    for isa, dtype in levels_and_dtypes():
        for stride in (1, 2):
            with ck.use(isa=isa, algorithm="direct"):
                y = pool(x.astype(dtype), 3, stride, 1)
            with ck.use(algorithm="reference"):
                np.testing.assert_array_equal(y, pool(x.astype(dtype), 3, stride, 1))


@pytest.mark.parametrize("kernel", [4, 5, 8, 9, 20])
def test_no_nan_is_overlooked_in_windows_side_by_side(kernel):
    size = 9 * kernel + 2
    x = integers(rng_for(kernel), (size, size))
    np.fill_diagonal(x, np.nan)
    check_extreme(x, kernel, kernel, 0, 1)


@pytest.mark.parametrize("size", [(5, 8), (9, 11), (13, 13), (14, 14), (3, 15), (4, 5, 16), (6, 17), (12,)])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [
    (3, 2, 0, 1), (3, 2, 1, 1), (5, 3, 2, 1), (2, 3, 0, 3), (3, 2, 1, 2), (4, 2, 0, 1), (2, 2, 1, 1), (3, 1, 0, 3)])
def test_short_rows(size, kernel, stride, padding, dilation):
    """Rows of at most two vectors; a NaN anywhere is in its own windows only, infinities too."""
    planes = np.prod(size[-2:])
    x = np.tile(integers(rng_for(*size, kernel), size), (planes,) + (1,) * len(size))
    check_extreme(x[:3], kernel, stride, padding, dilation)
    for at in range(planes):
        x[at].flat[at], x[at].flat[at // 2] = np.nan, (-1) ** at * np.inf
    check_extreme(x, kernel, stride, padding, dilation)


@pytest.mark.parametrize(("width", "kernel", "stride", "padding"), [
    (40, 3, 1, 0), (40, 3, 1, 1), (33, 2, 2, 0), (37, 5, 3, 0), (64, 25, 1, 0), (64, 25, 1, 7), (31, 2, 1, 0), (90, 9, 9, 0)])
@pytest.mark.parametrize("at_end", [True, False])
def test_rows_of_one_dimension_in_many_planes(width, kernel, stride, padding, at_end):
    """They are read as the rows of one plane, and beyond their ends: not beyond the operand's."""
    x = integers(rng_for(width, kernel), (21, width))
    check_average(x, kernel, stride, padding)
    np.fill_diagonal(x, np.nan)
    check_extreme(x, kernel, stride, padding, 1)
    for isa, dtype in levels_and_dtypes():
        for planes in (1, 2, 21):
            guarded = guards.guarded(x[-planes:].astype(dtype), at_end=at_end)
            for kind, options in (("max", {}), ("avg", {}), ("lp", {"norm_type": 2}), ("lp", {"norm_type": 3})):
                if padding and kind == "lp":
                    continue
                spec = spec_of(guarded, kernel, stride, padding, kind=kind, **options)
                y = guards.guarded_empty((planes, *spec.out_size), dtype, at_end=at_end)
                want = np.empty_like(y)
                after = (None,) if kind == "max" else ()
                with ck.use(isa=isa, algorithm="direct"):
                    plans.plan(spec).run(guarded, y, *after)
                with ck.use(algorithm="reference"):
                    plans.plan(spec).run(x[-planes:].astype(dtype), want, *after)
                np.testing.assert_allclose(y, want, 1e-5 if dtype == np.float32 else 1e-12, err_msg=f"{isa} {spec}")


def test_no_nan_is_overlooked_where_tasks_end():
    x = rng_for(3).standard_normal((1, 1, 300, 200))
    for isa, dtype in levels_and_dtypes():
        for row in range(60, 200):
            x_t = x.astype(dtype)
            x_t[0, 0, row, 70] = np.nan
            with ck.use(isa=isa, algorithm="direct"):
                y = F.max_pool2d(x_t, 3, 1, 1)
            assert np.argwhere(np.isnan(y[0, 0])).tolist() == [[row + i, 70 + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]


def test_whole_planes_by_themselves_give_the_same_bits():
    x = rng_for(12).standard_normal((1, 35, 7, 7)).astype(np.float32)
    for isa in native.ISA_LEVELS:
        with ck.use(isa=isa, algorithm="direct"):
            alone = [F.avg_pool2d(x[:, i:i + 1], 7) for i in range(35)]
            np.testing.assert_array_equal(F.avg_pool2d(x, 7), np.concatenate(alone, 1))


@pytest.mark.parametrize("p", [1, 2, 2.5, 3, 7, np.inf])
def test_norms_by_numpy(p):
    """Blocks of windows side by side, by NumPy's own norm; powers of two are exact where roots are."""
    rng = np.random.default_rng(11)
    for isa, dtype in levels_and_dtypes():
        x = np.abs(rng.standard_normal((2, 3, 8, 38))).astype(dtype)
        blocks = x.reshape(2, 3, 4, 2, 19, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 4, 19, 4)
        want = np.linalg.norm(blocks.astype(np.float64), p, axis=-1)
        with ck.use(isa=isa, algorithm="direct"):
            np.testing.assert_allclose(F.lp_pool2d(x, p, 2), want, rtol=8 * np.finfo(dtype).eps)
            np.testing.assert_allclose(F.lp_pool2d(x * 0, p, 2), 0)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 3), (3, 3), (5, 3), (3, 5), (7, 4), (17, 16)])
def test_norms_of_windows_apart(kernel, stride, p):
    rng = np.random.default_rng(13)
    for isa, dtype in levels_and_dtypes():
        x = np.abs(rng.standard_normal((2, 3, 83))).astype(dtype)
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), kernel, axis=-1)[..., ::stride, :]
        with ck.use(isa=isa, algorithm="direct"):
            got = F.lp_pool1d(x, p, kernel, stride)
        np.testing.assert_allclose(got, np.linalg.norm(windows, p, axis=-1), rtol=32 * np.finfo(dtype).eps)


def test_norms_of_negative_sums_are_nan_as_in_pytorch():
    x = np.array([[[-1, -2, 1, 1, -1, 3]]], np.float32)
    for isa in native.ISA_LEVELS:
        with ck.use(isa=isa, algorithm="direct"):
            np.testing.assert_array_equal(F.lp_pool1d(x, 1, 2), [[[-3, 2, 2]]])
            np.testing.assert_allclose(F.lp_pool1d(x, 3, 2), [[[np.nan, 2 ** (1 / 3), 26 ** (1 / 3)]]], rtol=1e-6)
            np.testing.assert_array_equal(np.isnan(F.lp_pool1d(x, 2.5, 2)), [[[True, False, True]]])


def test_an_average_leaves_the_infinite_behind():
    x = np.array([[[np.inf, 1, 1, 1, np.nan, 2, 2, 2]]], np.float32)
    for isa in native.ISA_LEVELS:
        with ck.use(isa=isa, algorithm="direct"):
            y = F.avg_pool2d(x, (1, 2), 1)
        np.testing.assert_array_equal(y[0, 0], [np.inf, 1, 1, np.nan, np.nan, 2, 2])


def test_windows_of_whole_rows():
    rng = np.random.default_rng(3)
    for size in ((1, 1), (3, 5), (7, 7), (9, 16), (8, 33), (24, 23)):
        x = integers(rng, (3, *size))
        check_extreme(x, size, 1, 0, 1)
        check_average(x, size, 1, 0)
        check_extreme(x, (1, size[1]), 1, 0, 1)
        check_average(x, (min(2, size[0]), size[1]), 1, 0)
        padding = ((size[0], 0), (size[1] // 2, size[1]))
        check_average(x, (2 * size[0], 2 * size[1]), 1, padding, include_pad=False)
    x = integers(rng, (2, 3, 4, 11))
    check_extreme(x, (3, 4, 11), 1, 0, 1)
    check_average(x, (2, 4, 11), 1, 0)
    x[1, 1, 2, 5] = np.nan
    check_extreme(x, (3, 4, 11), 1, 0, 1)


def test_rows_of_several_blocks():
    """Rows so long that their columns are cut into blocks, at every stride that has code of its own."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 3, 5003)).astype(np.float32)
    for stride in (1, 2, 3):
        for kind in ("max", "avg"):
            spec = spec_of(x, (2, 7), (1, stride), (0, 3), 1, kind)
            for isa in native.ISA_LEVELS:
                results = []
                for algorithm in ("direct", "reference"):
                    y, index = outputs(spec, len(x))
                    dx = np.full(x.shape, np.nan, x.dtype)
                    with ck.use(isa=isa, algorithm=algorithm):
                        if kind == "max":
                            plans.plan(spec).run(x, y, index)
                            plain = y.copy()
                            plans.plan(spec).run(x, plain, None)
                            np.testing.assert_array_equal(plain, y)
                        else:
                            plans.plan(spec).run(x, y)
                            plans.gradient_plan(spec).run(y, dx)
                    results.append((y, index, dx))
                for got, want in zip(*results, strict=True):
                    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def bits(isa, threads, x, call):
    with ck.use(isa=isa, algorithm="direct"), ck.threads(threads):
        y = call(x)
    return [a.tobytes() for a in (y if isinstance(y, tuple) else (y,))]


def doubled(shape):
    return (*shape[:2], *(2 * n + 1 for n in shape[2:]))


CALLS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
    "min": lambda x: F.min_pool2d(x, 3, 1, 1),
    "avg": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "global": lambda x: F.avg_pool2d(x, x.shape[2:]),
    "scatter": lambda x: F.max_pool2d_backward(x, (np.abs(x) * 1e4).astype(np.int64) % x[0, 0].size, x.shape),
    "avg_backward": lambda x: F.avg_pool2d_backward(x, doubled(x.shape), 3, 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_bits_at_any_thread_count_and_batch(name):
    rng = np.random.default_rng(5)
    for shape in ((4, 9, 97, 101), (1, 1, 700, 900)):
        x = rng.standard_normal(shape).astype(np.float32)
        for isa in native.ISA_LEVELS:
            one = bits(isa, 1, x, CALLS[name])
            for threads in (2, 3):
                assert bits(isa, threads, x, CALLS[name]) == one, (isa, threads)
            items = [bits(isa, 1, x[i:i + 1], CALLS[name]) for i in range(len(x))]
            assert [b"".join(parts) for parts in zip(*items, strict=True)] == one, isa


def test_scatter_adds_in_order_and_refuses_what_lies_outside():
    rng = np.random.default_rng(6)
    for isa, dtype in levels_and_dtypes():
        spec = ScatterSpec((5, 7), (4, 6), np.dtype(dtype))
        dy = rng.standard_normal((3, 4, 6)).astype(dtype)
        index = rng.integers(0, 35, dy.shape)
        want = np.zeros((3, 35), dtype)
        for plane in range(3):
            np.add.at(want[plane], index[plane].ravel(), dy[plane].ravel())
        with ck.use(isa=isa, algorithm="direct"):
            dx = np.full((3, 5, 7), np.nan, dtype)
            plans.scatter_plan(spec).run(dy, index, dx)
            np.testing.assert_array_equal(dx.reshape(3, 35), want)
            for bad in (-1, 35, 2**31, 2**32 + 1, -2**63, 2**63 - 1):
                wrong = index.copy()
                wrong[2, 3, 5] = bad
                with pytest.raises(ck.ShapeError, match="^indices must be at least 0 and less than the 35 "):
                    plans.scatter_plan(spec).run(dy, wrong, dx)
                with pytest.raises(ck.ShapeError):
                    check_indices(spec, wrong)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [
    ((6, 4), 2, 2, 0), ((6, 16), 2, 2, 0), ((7, 37), 2, 2, 0), ((5, 6, 18), 2, 2, 0), ((9, 20), (3, 2), (2, 2), 0),
    ((9, 33), 3, 2, 0), ((9, 32), 3, 2, 1), ((8, 17), 3, 2, 1), ((5, 6, 35), 3, 2, 1), ((35,), 35, 35, 0),
    ((4, 19), (2, 19), (2, 19), 0), ((9, 18), (3, 2), (4, 2), 0)])
def test_gradients_straight_from_windows(size, kernel, stride, padding):
    """Means and norms; windows of zeros, columns and rows in no window or in several, and what is not finite."""
    rng = rng_for(*size)
    x = rng.standard_normal((3, *size))
    x[1] = 0
    for isa, dtype in levels_and_dtypes():
        x_t = x.astype(dtype)
        for options in ({"kind": "avg"}, {"kind": "avg", "divisor_override": 5}, {"kind": "lp", "norm_type": 2}):
            if options["kind"] == "lp" and padding:
                continue
            spec = spec_of(x_t, kernel, stride, padding, 1, **options)
            y, dy = (rng.standard_normal((3, *spec.out_size)).astype(dtype) for _ in "ab")
            dy[2].flat[1 % dy[2].size] = np.inf
            saved = ()
            if options["kind"] == "lp":
                plans.plan(spec).run(x_t, y)
                saved = x_t, y
            dx, want = np.full(x.shape, np.nan, dtype), np.empty(x.shape, dtype)
            with ck.use(isa=isa, algorithm="direct"):
                plans.gradient_plan(spec).run(dy, *saved, dx)
            with ck.use(algorithm="reference"):
                plans.gradient_plan(spec).run(dy, *saved, want)
            np.testing.assert_allclose(dx, want, 8 * np.finfo(dtype).eps, 8 * np.finfo(dtype).eps, err_msg=f"{isa} {spec}")


@pytest.mark.parametrize("size", [(3,), (35,), (64,), (7, 11), (9, 15), (2, 3, 31)])
def test_norms_of_whole_planes(size):
    for planes in (1, 8, 11):
        x = rng_for(*size).standard_normal((planes, *size))
        x[0, ..., -1] = np.inf
        for isa, dtype in levels_and_dtypes():
            x_t = x.astype(dtype)
            spec = spec_of(x_t, size, size, kind="lp", norm_type=2)
            y, _ = outputs(spec, planes)
            with ck.use(isa=isa, algorithm="direct"):
                plans.plan(spec).run(x_t, y)
            want = np.sqrt(np.square(x_t.astype(np.float64)).reshape(planes, -1).sum(1))
            np.testing.assert_allclose(y.ravel(), want, 8 * np.finfo(dtype).eps, err_msg=f"{isa} {spec}")


@pytest.mark.parametrize(("cell", "windows"), [((2, 2), (3, 4)), ((2, 2), (5, 11)), ((2, 2, 2), (2, 3, 7)), ((4,), (9,)),
                                               ((4,), (4,)), ((2, 2), (3, 3))])
def test_an_index_outside_its_window_is_found_wherever_it_is(cell, windows):
    """Planes most of whose indices point into their own windows are written in order; every plane has another stranger."""
    rng = rng_for(*cell, *windows)
    size, count = tuple(c * n for c, n in zip(cell, windows, strict=True)), int(np.prod(windows))
    first = np.arange(np.prod(size)).reshape(size)[tuple(slice(None, None, c) for c in cell)].ravel()
    inside = np.arange(np.prod(size)).reshape(size)[tuple(slice(0, c) for c in cell)].ravel()
    index = first + rng.choice(inside, (count + 1, count))
    index[np.arange(count), np.arange(count)] = rng.integers(0, np.prod(size), count)  # of all planes but the last
    x = rng.standard_normal(index.shape)
    x[:, ::3] = -0.0
    x[0, 0], x[1, 1] = np.nan, -np.inf
    for isa, dtype in levels_and_dtypes():
        values = x.astype(dtype)
        want, placed = np.zeros((count + 1, np.prod(size)), dtype), np.zeros((count + 1, np.prod(size)), dtype)
        for i in range(count + 1):
            np.add.at(want[i], index[i], values[i])
            placed[i][index[i]] = values[i]
        with ck.use(isa=isa, algorithm="direct"):
            for planes in (slice(None), slice(count, None)):
                here = index[planes].reshape(-1, *windows)
                given, got = values[planes].reshape(here.shape), np.full((len(here), *size), np.nan, dtype)
                plans.scatter_plan(ScatterSpec(size, windows, np.dtype(dtype))).run(given, here, got)
                assert got.tobytes() == want[planes].tobytes(), f"{isa} {dtype}"
                plans.plan(UnpoolSpec(size, windows, np.dtype(dtype))).run(given, here, got)
                assert got.tobytes() == placed[planes].tobytes(), f"{isa} {dtype}"
                taken = np.full(here.shape, np.nan, dtype)
                plans.gradient_plan(UnpoolSpec(size, windows, np.dtype(dtype))).run(got, here, taken)
                assert taken.tobytes() == placed[planes][np.arange(len(here))[:, None], index[planes]].tobytes()
            for bad in (-1, int(np.prod(size)), 2**32 + int(index[count, -1])):
                wrong = index.copy()
                wrong[count, -1] = bad
                with pytest.raises(ck.ShapeError, match="^indices must be at least 0 and less than "):
                    plans.scatter_plan(ScatterSpec(size, windows, np.dtype(dtype))).run(
                        x.astype(dtype).reshape(-1, *windows), wrong.reshape(-1, *windows), np.empty_like(want))


def test_scatter_refuses_an_index_met_by_any_thread():
    dy, index = np.ones((64, 1, 64, 64), np.float32), np.zeros((64, 1, 64, 64), np.int64)
    for image in (0, 31, 63):
        wrong = index.copy()
        wrong[image, 0, 5, 5] = 64 * 64
        for threads in (1, 2, 3):
            with ck.threads(threads), pytest.raises(ck.ShapeError, match="got values from 0 to 4096$"):
                F.max_pool2d_backward(dy, wrong, dy.shape)


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_outside_the_operands_is_touched(at_end):
    rng = np.random.default_rng(8)
    for isa, dtype in levels_and_dtypes():
        for width in (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 50):
            x = guards.guarded(rng.standard_normal((2, 5, width)).astype(dtype), at_end=at_end)
            for kernel, stride, padding in ((2, 2, 0), (3, 1, 1), (3, 2, 1), (4, 3, 2), (5, width, 2)):
                if width + 2 * padding < kernel:
                    continue
                with ck.use(isa=isa, algorithm="direct"):
                    guarded_calls(x, kernel, stride, padding, at_end)


def guarded_calls(x, kernel, stride, padding, at_end):
    """Every kernel once, each operand against a forbidden page."""
    spec = spec_of(x, kernel, stride, padding)
    y, dx = (guards.guarded_empty(s, spec.dtype, at_end=at_end) for s in ((2, *spec.out_size), x.shape))
    index = guards.guarded_empty(y.shape, np.int64, at_end=at_end)
    for kind in ("max", "min"):
        run = plans.plan(spec_of(x, kernel, stride, padding, kind=kind)).run
        run(x, y, None)
        run(x, y, index)
        plans.scatter_plan(ScatterSpec(spec.size, spec.out_size, spec.dtype)).run(y, index, dx)
        assert not np.isnan(y).any() and not np.isnan(dx).any() and index.min() >= 0
        taps = guards.guarded_empty(y.shape, np.uint8, at_end=at_end)
        plans.taps_plan(spec).run(x, y, taps)
        plans.taps_gradient_plan(spec).run(y, taps, dx)
        assert not np.isnan(y).any() and not np.isnan(dx).any()
        unpool = UnpoolSpec(spec.size, spec.out_size, spec.dtype)
        plans.plan(unpool).run(y, index, dx)
        plans.gradient_plan(unpool).run(dx, index, y)
        assert not np.isnan(y).any() and not np.isnan(dx).any()
    spec = spec_of(x, kernel, stride, padding, kind="avg")
    plans.plan(spec).run(x, y)
    plans.gradient_plan(spec).run(y, dx)
    assert not np.isnan(y).any() and not np.isnan(dx).any()
    if padding == 0:
        spec = spec_of(x, kernel, stride, kind="lp", norm_type=2)
        plans.plan(spec).run(x, y)
        plans.gradient_plan(spec).run(y, x, y, dx)
        assert not np.isnan(y).any() and not np.isnan(dx).any()
    for out in (min(stride, 2), x.shape[2]):
        small = guards.guarded_empty((2, 3, out), x.dtype, at_end=at_end)
        where = guards.guarded_empty(small.shape, np.int64, at_end=at_end)
        plans.plan(AdaptiveSpec("adaptive_max", x.shape[1:], (3, out), x.dtype)).run(x, small, where)
        spec = AdaptiveSpec("adaptive_avg", x.shape[1:], (3, out), x.dtype)
        plans.plan(spec).run(x, small)
        plans.gradient_plan(spec).run(small, dx)
        assert not np.isnan(small).any() and not np.isnan(dx).any()


def test_the_plan_names_its_choice():
    spec = pool_spec((1, 1, 2**15, 2**15), np.dtype(np.float32), 2, kind="max", rank=2)[0]
    assert plans.plan(spec).considered[0] == (
        "direct", f"planes of {2**30} elements are above the {2**29} that 32-bit lanes number")
    spec = pool_spec((1, 1, 8, 8), np.dtype(np.float32), 2, kind="max", rank=2)[0]
    assert plans.plan(spec).algorithm == "direct"
    with ck.use(algorithm="reference"):
        assert plans.plan(spec).algorithm == "reference"


@pytest.mark.parametrize(("isa", "dtype"), list(levels_and_dtypes()))
@pytest.mark.parametrize("kind", ["adaptive_max", "adaptive_avg"])
def test_uneven_windows_of_all_widths(isa, dtype, kind):
    """Few columns, which share vectors with the rows behind them, up to more than one block; NaN stays in its windows."""
    for width in (*WIDTHS, 67, 300, 2100):
        x = rng_for(width).integers(-9, 10, (2, 3, 5, width)).astype(dtype)
        x[1, 2, 3, width // 2] = np.nan
        for out in {1, width // 3 + 1, width // 2 + 1, max(width - 1, 1), width + 5}:
            with ck.use(isa=isa):
                got = getattr(F, f"{kind}_pool2d")(x, (3, out))
            want = getattr(ck.reference, f"{kind}_pool2d")(x, (3, out))
            np.testing.assert_allclose(got, want, rtol=0 if kind == "adaptive_max" else 8 * np.finfo(dtype).eps)
