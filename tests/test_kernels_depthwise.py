"""The depthwise kernels: every row of the registry at every level, against the twins and exactly on integers."""

from dataclasses import replace

import numpy as np
import pytest

import convkit
from convkit import threads
from convkit.kernels import native
from convkit.plan import depthwise as plan
from convkit.plan import geometry
from convkit.plan.conv import CANDIDATES
from convkit.plan.conv import plan as chosen
from convkit.reference import conv as reference
from convkit.spec.conv import conv_spec

pytestmark = pytest.mark.skipif(not native.available, reason=native.reason or "")
if native.available:
    from convkit.kernels import depthwise, runtime
    from convkit.kernels.conv import tile_limits

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
DIRECTIONS = ("forward", "input_gradient", "weight_gradient")


@pytest.fixture(autouse=True)
def poisoned_scratch():
    runtime.poison_scratch(True)
    yield
    runtime.poison_scratch(False)


def levels():
    return native.ISA_LEVELS


def spec_of(size, kernel, stride=1, padding=0, dilation=1, groups=3, c_in=1, c_out=1, dtype=DTYPES[0]):
    spec, _, _ = conv_spec((1, groups * c_in, *size), dtype, (groups * c_out, c_in, *kernel), dtype, None, None,
                           stride, padding, dilation, groups, rank=len(size))
    return spec


def whole(shape, dtype, seed=0):
    """Integers so small that every sum is exact, none of them zero."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 9, shape) * rng.choice([-1, 1], shape)).astype(dtype)


def operands(spec, n, make=whole):
    return (make(spec.x_shape(n), spec.dtype, 1), make(spec.weight_shape, spec.dtype, 2),
            make((spec.c_out,), spec.dtype, 3), make(spec.y_shape(n), spec.dtype, 4))


def compute(spec, direction, isa, name, x, w, bias, dy, n_threads=1):
    """One direction by one row of the registry, into memory that was NaN before."""
    kernel = plan.make(replace(spec, direction=direction), isa, name)
    n = len(x)
    if direction == "weight_gradient":
        out = np.full(spec.weight_shape, np.nan, spec.dtype)
        kernel.dot(dy, x, out, n, n_threads)
    elif direction == "forward":
        out = np.full(spec.y_shape(n), np.nan, spec.dtype)
        kernel.sum(x, w, bias, out, n, n_threads)
    else:
        out = np.full(spec.x_shape(n), np.nan, spec.dtype)
        if not all(axis.complete for axis in plan._axes(replace(spec, direction=direction))):
            out[...] = 0  # no phase writes all of it
        kernel.sum(dy, w, None, out, n, n_threads)
    return out


def expected(spec, x, w, bias, dy):
    return {"forward": reference.forward(spec, x, w, bias), "input_gradient": reference.input_gradient(spec, dy, w),
            "weight_gradient": reference.weight_gradient(spec, dy, x)}


def rows(spec, direction, isa):
    """The rows that take this spec: the one the plan names, the one with channels in the lanes, and the last."""
    every = depthwise.variants(isa, spec.dtype.itemsize)
    spec = replace(spec, direction=direction)
    return {plan.variant(spec, isa), every[-1][0], *(["channels"] if plan.takes_channels(spec) else [])}


def check_exact(spec, n=1, isas=None):
    data = operands(spec, n)
    want = expected(spec, *data)
    for isa in isas or levels():
        for direction in DIRECTIONS:
            for name in rows(spec, direction, isa):
                got = compute(spec, direction, isa, name, *data)
                np.testing.assert_array_equal(got, want[direction], err_msg=f"{direction} {isa} {name} {spec}")


def test_every_row_is_reached_by_a_spec_of_its_shape():
    for isa in levels():
        for dtype in DTYPES:
            for name, kernel, stride, lanes, has_sum, has_dot, filters in depthwise.variants(isa, dtype.itemsize):
                size = kernel or 4
                spec = spec_of((30, 31), (size, size), stride or (2 if lanes > 1 else 3), groups=lanes, c_out=filters,
                               dtype=dtype)
                assert not has_sum or plan.variant(spec, isa) == name
                assert not has_dot or plan.variant(replace(spec, direction="weight_gradient"), isa) == name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_widths_around_the_vector(kernel, stride, dtype):
    most = {isa: 2 * tile_limits(isa, dtype.itemsize)[0] + 3 for isa in levels()}
    for width in range(1, max(most.values()) + 1):
        pads = ((1, 2), (kernel // 2, kernel // 2))
        if width * stride + 2 * (kernel // 2) < kernel:
            continue
        check_exact(spec_of((kernel + 2, width * stride), (kernel, kernel), stride, pads, groups=2, dtype=dtype),
                    isas=[isa for isa in levels() if width <= most[isa]])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", range(1, 8))
def test_kernels_dilations_and_strides(kernel, dtype):
    for other in (1, 2, kernel):
        for stride in (1, 2, 3):
            for dilation in (1, 2, 3):
                check_exact(spec_of((20, 23), (other, kernel), stride, 1, dilation, groups=2, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_strips_of_every_length_and_padding(kernel, stride, dtype):
    """Rows long enough for the widest strip, with and without padding, in bands: a band of AVX2 is 128 KB."""
    reached = set()
    for isa in levels():
        lanes = tile_limits(isa, dtype.itemsize)[0]
        for width in (lanes + kernel // 2, 2 * lanes + 1, 3 * lanes, 3 * lanes + 3, 5 * lanes + 2):
            for low, high in ((kernel // 2, kernel // 2), (0, kernel // 2), (kernel // 2, 0), (kernel - 1, 1)):
                spec = spec_of((kernel + 2, width * stride + 1), (kernel, kernel), stride, ((1, 1), (low, high)),
                               groups=2, dtype=dtype)
                reached.add(plan.variant(spec, isa))
                check_exact(spec, isas=[isa])
        tall = spec_of((300, 130 * stride), (kernel, kernel), stride, kernel // 2, groups=1, dtype=dtype)
        reached.add(plan.variant(tall, isa))
        check_exact(tall, isas=[isa])
    assert any(name.startswith("rows") for name in reached)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (2, 5, 5), (5, 3, 3), (2, 7, 7)], ids=str)
def test_rows_in_depth(kernel, dtype):
    """At AVX2 row kernels sum one tap in depth after the other: slabs, bands and strips, with planes of padding."""
    reached = set()
    for stride, dilation in ((1, 1), ((2, 1, 1), 1), (1, 2), ((1, 2, 2), 1), ((3, 2, 2), (2, 1, 1))):
        for size in ((4, 9, 53), (2, 230, 160), (2, 5, 48), (3, 7, 79)):
            if size[1] > 9 and dilation != 1:
                continue
            pad = [(d * (k // 2),) * 2 for k, d in zip(kernel, np.broadcast_to(dilation, 3).tolist(), strict=True)]
            pad[0] = (kernel[0] - 1,) * 2
            spec = spec_of(size, kernel, stride, tuple(pad), dilation, groups=2, dtype=dtype)
            reached |= {plan.variant(spec, isa) for isa in levels()}
            check_exact(spec)
    assert "avx2" not in levels() or {f"rows_{kernel[1]}x{kernel[1]}{s}" for s in ("", "_s2")} <= reached


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_input_gradients_of_stride_2_by_rows(dtype):
    """Every end of a row and of a plane, with a bias as transposed layers have, and the bits of `taps`."""
    lanes = 32 // dtype.itemsize
    for width in (max(2 * lanes, 10), 2 * lanes + 4, 6 * lanes - 2, 4 * lanes):
        for height, hi in ((6, 0), (7, 1), (8, 1), (1, 2)):
            spec = spec_of((height, width), (3, 3), 2, ((1, hi), (1, hi)), groups=3, dtype=dtype)
            check_exact(spec, n=2)
            gradient = replace(spec, direction="input_gradient")
            assert "avx2" not in levels() or plan.variant(gradient, "avx2") == "rows_3x3_s2"
            x, w, bias, dy = (a + dtype.type(0.1) for a in operands(spec, 2))
            for isa in levels():
                results = [np.full(spec.x_shape(2), np.nan, dtype) for _ in range(2)]
                for name, y in zip((plan.variant(gradient, isa), "taps"), results, strict=True):
                    plan.make(gradient, isa, name).sum(dy, w, bias[:3], y, 2, 1)
                assert np.array_equal(*(y.view(f"i{dtype.itemsize}") for y in results))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_weight_gradients_by_rows(stride, dtype):
    """Ends of rows inside and outside of whole vectors, several runs, and nothing of the next row in a sum."""
    lanes = 32 // dtype.itemsize
    for across in (2 * lanes + 1, 3 * lanes, 4 * lanes - 1):
        for lo, hi in ((0, 0), (0, 1), (1, 0), (1, 1)):
            width = stride * (across - 1) + 3 - lo - hi
            spec = spec_of((stride * 140, width), (3, 3), stride, ((1, 1), (lo, hi)), groups=2, dtype=dtype)
            gradient = replace(spec, direction="weight_gradient")
            by_rows = dtype == np.float32  # double goes by channels
            assert "avx2" not in levels() or plan.variant(gradient, "avx2").startswith("rows_3x3") == by_rows
            check_exact(spec, n=2)
            x, w, bias, dy = operands(spec, 1)
            x[:, :, 3, -1] = np.inf
            dy[:, :, 4, -1] = np.inf
            want = expected(spec, x, w, bias, dy)["weight_gradient"]
            for isa in levels():
                got = compute(spec, "weight_gradient", isa, plan.variant(gradient, isa), x, w, bias, dy)
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planes_no_wider_than_a_vector(dtype):
    """At AVX2 whole vectors of these rows are stored, over the beginning of the next row, but never past the plane."""
    for pads in (((1, 1), (1, 1)), ((0, 2), (2, 0)), ((4, 3), (0, 1)), ((2, 0), (0, 2))):
        for size in ((1, 3), (3, 2), (9, 3), (2, 32 // dtype.itemsize - 1), (40, 32 // dtype.itemsize - 1)):
            spec = spec_of(size, (3, 3), 1, pads, groups=11, dtype=dtype)
            assert "avx2" not in levels() or plan.variant(spec, "avx2") == "rows_3x3"
            check_exact(spec, n=2)
            data = operands(spec, 2)
            y = np.full(spec.y_shape(4), 7, dtype)
            for isa in levels():
                plan.make(spec, isa).sum(*data[:3], y[1:3], 2, 3)
                assert (y[[0, 3]] == 7).all(), isa
                np.testing.assert_array_equal(y[1:3], reference.forward(spec, *data[:3]), err_msg=isa)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_taps_far_apart_in_padding_rows(kernel, dtype):
    """The zeros of a row kernel end 71 elements in at AVX2, with taps 28 columns apart before their last one."""
    for dilation in (28, 40):
        pad = dilation * (kernel // 2)
        check_exact(spec_of((2, 90 + 2 * pad), (kernel, kernel), 1, pad, dilation, groups=1, dtype=dtype))


@pytest.mark.parametrize("size, kernel, options", [
    ((1, 1), (3, 3), {"padding": 1}),
    ((1, 1), (1, 1), {}),
    ((7, 7), (7, 7), {"padding": 3}),
    ((2, 40), (5, 5), {"padding": 4}),
    ((9, 9), (3, 3), {"padding": ((5, 0), (0, 6))}),
    ((9, 9), (3, 3), {"padding": ((7, 7), (7, 7)), "stride": 2}),
    ((8, 8), (3, 3), {"stride": 2}),
    ((9, 50), (2, 4), {"stride": (3, 5), "padding": 1}),
    ((11, 12), (3, 2), {"stride": (2, 1), "dilation": (1, 4), "padding": (1, 3)}),
    ((3, 3), (3, 3), {"stride": 5, "padding": 4}),
    ((300,), (9,), {"padding": 4}),
    ((90_000,), (5,), {"padding": 2, "groups": 1}),
    ((90_001,), (4,), {"stride": 3, "groups": 1}),
    ((900, 190), (3, 3), {"padding": 1, "groups": 1}),
    ((5, 6, 17), (3, 3, 3), {"padding": 1, "c_out": 2}),
    ((4, 9, 9), (2, 1, 3), {"stride": (2, 1, 2), "dilation": (1, 1, 2), "padding": 1}),
    ((12, 13), (3, 3), {"padding": 1, "c_out": 2}),
    ((12, 13), (5, 5), {"c_out": 7, "c_in": 3, "groups": 2}),
    ((12, 33), (3, 3), {"stride": 2, "c_out": 6, "c_in": 2, "groups": 2, "padding": 1}),
    ((13, 50), (3, 3), {"c_out": 23, "c_in": 9, "groups": 1, "padding": 1}),
    ((7, 21), (4, 4), {"stride": 2, "c_out": 3, "c_in": 11, "groups": 1, "padding": 1}),
    ((7, 21), (4, 3), {"stride": (3, 4), "c_out": 17, "c_in": 12, "groups": 1}),
    ((3, 4, 19), (1, 2, 2), {"stride": (1, 2, 2), "c_out": 10, "c_in": 13, "groups": 1}),
    ((40, 41), (1, 1), {"c_out": 9, "c_in": 70, "groups": 1}),
    ((60, 101), (1, 1), {"c_out": 5, "c_in": 70, "groups": 1}),
    ((13, 50), (3, 3), {"c_out": 5, "c_in": 12, "groups": 1}),
], ids=str)
def test_geometries(size, kernel, options):
    for dtype in DTYPES:
        check_exact(spec_of(size, kernel, dtype=dtype, **options), n=2)


@pytest.mark.parametrize("size, kernel, pads", [
    ((14, 14), (3, 3), 1), ((15, 9), (3, 3), ((0, 1), (1, 1))), ((12, 12), (3, 4), ((1, 1), (2, 1))),
    ((3, 14, 13), (3, 3, 3), 1),
], ids=str)
def test_rows_that_share_their_padding(size, kernel, pads):
    """Rows of a box as one run at AVX2, whose planes end in padding that the next one would overwrite."""
    spec = spec_of(size, kernel, 1, pads, groups=2, c_in=8, c_out=5)
    three = plan._axes(spec)
    assert plan.runs_on(spec, three, "avx2", geometry.blocks(three, 8, 4))
    check_exact(spec, n=2)


def test_infinities_beyond_a_row_stay_out_of_it():
    """Neighbours in a run of rows, and what follows a row that is read in place."""
    for size, pads in (((14, 14), 1), ((14, 20), 0)):
        spec = spec_of(size, (3, 3), 1, pads, groups=1, c_in=8, c_out=4)
        x, *others = operands(spec, 1)
        x[:, :, 5, -1] = np.inf
        want = expected(spec, x, *others)["forward"]
        for isa in levels():
            got = compute(spec, "forward", isa, "taps", x, *others)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want), err_msg=isa)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (7, 1), (4, 1), (17, 1), (3, 1, 60, 9)], ids=str)
def test_error_stays_within_the_bound(shape, dtype):
    kernel, stride, c_in, c_out = (*shape, 1, 1)[:4]

    def normal(shape, dtype, seed):
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype)

    spec = spec_of((40, 45), (kernel, kernel), stride, kernel // 2, groups=2, c_in=c_in, c_out=c_out, dtype=dtype)
    data = operands(spec, 3, normal)
    want, bound = expected(spec, *data), expected(spec, *map(np.abs, data))
    for isa in levels():
        for direction in DIRECTIONS:
            for name in rows(spec, direction, isa):
                error = np.abs(compute(spec, direction, isa, name, *data) - want[direction])
                assert (error <= 8 * np.finfo(dtype).eps * bound[direction]).all(), (direction, isa, name)


def test_all_rows_of_a_sum_give_the_same_bits():
    spec = spec_of((21, 37), (5, 5), 1, 2, groups=4)
    x, w, bias, dy = (a + np.float32(0.1) for a in operands(spec, 2))
    for isa in levels():
        for direction in DIRECTIONS[:2]:
            results = [compute(spec, direction, isa, name, x, w, bias, dy) for name in rows(spec, direction, isa)]
            assert all(np.array_equal(r.view(np.int32), results[0].view(np.int32)) for r in results)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_threads_and_batch_split_do_not_change_bits(stride):
    spec = spec_of((64, 65), (3, 3), stride, 1, groups=40)
    data = [a + np.float32(0.1) for a in operands(spec, 9)]
    isa = levels()[-1]
    for direction in DIRECTIONS:
        for name in rows(spec, direction, isa):
            first = compute(spec, direction, isa, name, *data)
            for count in (2, 3):
                assert np.array_equal(compute(spec, direction, isa, name, *data, n_threads=count), first)
            if direction != "weight_gradient":
                x, w, bias, dy = data
                for i in range(3):
                    one = compute(spec, direction, isa, name, x[i:i + 1], w, bias, dy[i:i + 1])
                    assert np.array_equal(one[0], first[i])


@pytest.mark.parametrize(("name", "c_in", "c_out"), [("channels", 1, 1), ("taps", 1, 1), ("taps", 5, 15)])
def test_a_packed_weight_gives_the_same_bits(name, c_in, c_out):
    spec = spec_of((9, 10), (3, 3), 2, 1, groups=37, c_in=c_in, c_out=c_out)
    x, w, bias, dy = (a + np.float32(0.1) for a in operands(spec, 2))
    for isa in levels():
        for direction, source, target in (("forward", x, dy), ("input_gradient", dy, x)):
            kernel = plan.make(replace(spec, direction=direction), isa, name)
            got = np.full_like(target, np.nan)
            kernel.sum(source, kernel.pack(w), None, got, 2, 1, packed=True)
            assert np.array_equal(got, compute(spec, direction, isa, name, x, w, None, dy))


@pytest.mark.parametrize(("size", "options"), [((300, 190), {"groups": 1, "c_in": 3, "c_out": 50, "padding": 1}),
                                               ((3, 90, 1100), {"groups": 1, "c_in": 2, "c_out": 9}),
                                               ((9, 10), {"groups": 37, "stride": 2})], ids=str)
def test_an_activation_follows_on_what_a_task_wrote(size, options):
    from convkit.functional.activation import part_kernel
    from convkit.kernels.elementwise import Finish

    spec = spec_of(size, (3,) * len(size), **options)
    x, w, bias, _ = (a + np.float32(0.1) for a in operands(spec, 2))
    for isa in levels():
        runs = plan.sums(spec, isa)
        plain, got = (np.full(spec.y_shape(2), np.nan, spec.dtype) for _ in range(2))
        packed = runs.pack(w)
        runs.with_packed(x, packed, bias, plain)
        for count in (1, 2, 3):  # filters are shared where there are few units
            with threads(count):
                runs.with_packed(x, packed, bias, got)
                assert np.array_equal(got, plain)
                runs.with_packed(x, packed, bias, got, Finish(part_kernel(got, "relu")))
            assert runs.finishes and np.array_equal(got, np.maximum(plain, 0))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_nan_or_infinity_stays_in_its_windows(stride):
    spec = spec_of((12, 40), (3, 3), stride, 1, groups=1)
    x, w, bias, dy = operands(spec, 1)
    x[0, 0, 5, 15], x[0, 0, 11, 39] = np.nan, np.inf
    dy[0, 0, 3, 7] = np.inf
    want = expected(spec, x, w, bias, dy)
    for isa in levels():
        for direction in DIRECTIONS:
            for name in rows(spec, direction, isa):
                got = compute(spec, direction, isa, name, x, w, bias, dy)
                np.testing.assert_array_equal(got, want[direction].astype(np.float32))


@pytest.mark.parametrize(("size", "kernel"), [((9, 9), 5), ((7, 7), 3), ((9, 12), 3)], ids=str)
def test_an_infinite_weight_meets_the_padding(size, kernel):
    spec = spec_of(size, (kernel, kernel), 1, kernel // 2, groups=2)
    x, w, bias, dy = operands(spec, 1)
    w[0, 0, 0, 2], w[1, 0, kernel - 1, 0] = np.inf, np.nan
    want = expected(spec, x, w, bias, dy)
    for isa in levels():
        for name in rows(spec, "forward", isa):
            got = compute(spec, "forward", isa, name, x, w, bias, dy)
            np.testing.assert_array_equal(got, want["forward"].astype(np.float32))


def test_a_wrong_operand_is_refused():
    spec = spec_of((8, 8), (3, 3))
    x, w, bias, dy = operands(spec, 1)
    kernel = plan.make(spec, levels()[-1])
    with pytest.raises(ValueError, match="called for an operand of"):
        kernel.sum(x[:, :2].copy(), w, bias, dy, 1, 1)
    dy.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        kernel.sum(x, w, bias, dy, 1, 1)


def test_the_plan_takes_depthwise_where_it_pays():
    isa = levels()[-1]
    candidate = CANDIDATES["forward"][0]
    assert candidate.name == "depthwise"
    assert candidate.rejects(spec_of((9, 9), (3, 3)), isa) is None
    dots = next(c for c in CANDIDATES["weight_gradient"] if c.name == "depthwise")
    image = replace(spec_of((64, 64), (3, 3), c_in=3, c_out=32, padding=1, groups=1), direction="weight_gradient")
    assert dots.loses(image, isa) is None
    deep = replace(spec_of((7, 7), (3, 3), c_in=128, c_out=128, padding=1, groups=1), direction="weight_gradient")
    assert "of the time of direct" in dots.loses(deep, isa)
    long = spec_of((9, 9), (3, 3), c_in=114, groups=1)
    assert candidate.rejects(long, isa) == "is for sums of at most 1024 products over several channels, not 1026"
    hidden = replace(spec_of((1, 9), (2, 3), (2, 1), ((1, 2), (0, 0))), direction="input_gradient")
    nothing = conv_spec((1, 1, 1), DTYPES[0], (1, 1, 3), DTYPES[0], None, None, 3, ((2, 2),), 2, 1, rank=1,
                        direction="input_gradient")[0]
    assert candidate.rejects(hidden, isa) is None
    assert candidate.rejects(nothing, isa) in (None, "every window holds only padding along some axis")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), [
    ((37,), (1,), 1, 0, 1), ((3001,), (3,), 1, 1, 1), ((700,), (10,), 5, 0, 1), ((90,), (5,), 3, ((0, 7),), 2),
    ((5, 33), (3, 3), 1, 1, 1), ((9, 31), (3, 2), 2, ((1, 2), (0, 3)), 1), ((6, 19), (1, 1), 1, 0, 1),
    ((6, 19), (1, 1), 2, 0, 1), ((8, 18), (5, 5), 1, 0, 1), ((12, 12), (7, 7), 2, 3, 1), ((3, 4, 17), (2, 3, 3), 1, 1, 1),
    ((4, 5, 20), (3, 1, 2), (1, 2, 1), 0, (1, 1, 3))])
def test_weight_gradients_of_several_planes_and_filters(size, kernel, stride, padding, dilation, dtype, small_source,
                                                         monkeypatch):
    for groups, c_in, c_out in ((1, 1, 2), (1, 3, 9), (2, 2, 5), (1, 7, 3), (3, 2, 1), (1, 5, 12)):
        spec = spec_of(size, kernel, stride, padding, dilation, groups, c_in, c_out, dtype)
        x, w, bias, dy = operands(spec, 3)
        for source_bytes in (1 << 19, 600):
            small_source(source_bytes)
            monkeypatch.setattr(plan, "SOURCE_BYTES", {"avx2": source_bytes})
            want = expected(spec, x, w, bias, dy)["weight_gradient"]
            for isa in levels():
                got = compute(spec, "weight_gradient", isa, "tiles", x, w, bias, dy)
                np.testing.assert_array_equal(got, want, err_msg=f"{isa} {spec}")
            x[1, 0, ..., -1] = np.inf  # what lies beside a window must not meet a zero


@pytest.mark.parametrize("shape", [((2, 3, 96, 100), (40, 3, 3, 3)), ((1, 24, 50, 50), (70, 24, 1, 1))])
def test_tiles_of_weight_gradients_keep_their_bits_at_any_number_of_threads(shape):
    (n, c, *size), (filters, _, *kernel) = shape
    spec = spec_of(size, kernel, padding=kernel[0] // 2, groups=1, c_in=c, c_out=filters)
    rng = np.random.default_rng(0)
    x, w, bias, dy = operands(spec, n, lambda shape, dtype, seed: rng.standard_normal(shape).astype(dtype))
    want = expected(spec, x, w, bias, dy)["weight_gradient"]
    for isa in levels():
        got = [compute(spec, "weight_gradient", isa, "tiles", x, w, bias, dy, n) for n in (1, 2, 3, 8)]
        np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-3)
        for other in got[1:]:
            np.testing.assert_array_equal(got[0], other)


def test_the_functions_reach_it():
    import convkit.functional as F

    spec = spec_of((9, 10), (3, 3), 2, 1, groups=5)
    x, w, bias, dy = operands(spec, 2)
    with threads(2):
        y = F.conv2d(x, w, bias, 2, 1, groups=5)
        dx, dw, _ = F.conv2d_backward(dy, x, w, 2, 1, groups=5)
    want = expected(spec, x, w, bias, dy)
    for got, direction in zip((y, dx, dw), DIRECTIONS, strict=True):
        np.testing.assert_array_equal(got, want[direction])


def test_weights_beyond_l2_are_left_to_others():
    def considered(channels, groups=1):
        x, w, dtype = (1, channels, 400), (1024, channels // groups, 1), np.dtype(np.float32)
        return dict(chosen(conv_spec(x, dtype, w, dtype, rank=1, groups=groups)[0]).considered)["depthwise"]

    assert "again for every few pixels" in considered(512)
    assert considered(64) is considered(512, groups=16) is None


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 112, 127, 129, 224, 300])
def test_3x3_of_stride_2_with_any_padding(isa, dtype, width):
    rng = np.random.default_rng(width)
    for lo, hi in ((1, 1), (0, 1), (0, 2), (2, 0), (40, 3), (3, 140), (150, 200)):
        x = rng.integers(-4, 5, (2, 3, 5, width)).astype(dtype)
        w, bias = rng.integers(-4, 5, (3, 1, 3, 3)).astype(dtype), rng.integers(-4, 5, 3).astype(dtype)
        options = {"stride": 2, "padding": ((1, 1), (lo, hi)), "groups": 3}
        if width + lo + hi < 3:
            continue
        with convkit.use(isa=isa, algorithm="depthwise"):
            y = convkit.functional.conv2d(x, w, bias, **options)
        np.testing.assert_array_equal(y, convkit.reference.conv2d(x, w, bias, **options), f"{lo}, {hi}")
