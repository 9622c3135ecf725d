"""The convolution tiles: every row of csrc/conv/kernels.def at every level, in all three directions.

Small integers must come out exactly as from six plain loops (``oracle``); floats within ``8 eps (|x| * |w|)`` in every
window. Widths choose the pixels of a tile and ``tile_vectors`` its vectors, so each row of the table is reached; a
small ``SOURCE_BYTES`` cuts small images into many boxes and rounds.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np
import oracle
import pytest
from guards import guarded, guarded_empty, hostile_memory

import convkit
from convkit import functional as F
from convkit import reference
from convkit.kernels import native
from convkit.plan import common, direct, geometry
from convkit.plan import conv as conv_plan
from convkit.spec.conv import conv_spec
from convkit.verification import same_bits

pytestmark = pytest.mark.skipif(not native.available, reason=f"no compiled kernels: {native.reason}")

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
WITH_GRIDS = ("avx2", "avx512")  # of tiles of float32
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def registry():
    """(vectors, pixels) of every row of the table, or of the table as it was if the sources are not here."""
    path = Path(__file__).parent.parent / "csrc" / "conv" / "kernels.def"
    return [tuple(map(int, row)) for row in re.findall(r"^CK_CONV_ROW\((\d+), (\d+)\)", path.read_text(), re.M)]


def limits(isa, dtype):
    from convkit.kernels import conv

    return conv.tile_limits(isa, dtype.itemsize)


ROWS = [pytest.param(isa, dtype, v, m, id=f"{isa}-{dtype}-{v}x{m}")
        for isa in native.ISA_LEVELS for dtype in DTYPES for v, m in registry() if m <= limits(isa, dtype)[1][v - 1]]


def whole(rng, *shape, dtype):
    a = rng.integers(-4, 5, shape).astype(dtype)
    assert a.size < 8 or a.min() < a.max()
    return a


def run(direction, operands, shape, spec_args, isa, threads=1):
    """One direct plan, called as ``functional`` does, on guarded operands and a guarded output full of NaN."""
    spec = conv_spec(*spec_args[:4], None, None, *spec_args[4:], rank=2, direction=direction)[0]
    with convkit.use(isa=isa, algorithm="direct"), convkit.threads(threads):
        plan = conv_plan.plan(spec)
        assert (plan.algorithm, plan.isa) == ("direct", isa)
        results = []
        for at_end in (True, False):
            out = guarded_empty(shape, spec.dtype, at_end=at_end)
            with hostile_memory(at_end):
                plan.run(*(a if a is None else guarded(a, at_end=at_end) for a in operands), out)
            results.append(out.copy())
    assert same_bits(*results)
    return plan.run, results[0]


def all_directions(rng, isa, dtype, x_shape, w_shape, stride=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """The three directions on small integers against the oracle; returns the plans' objects."""
    x, w, bias = (whole(rng, *shape, dtype=dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    want = oracle.conv(x, w, bias, stride, pads, dilation, groups)
    dy = whole(rng, *want.shape, dtype=dtype)
    dx, dw, _ = oracle.conv_backward(dy, x, w, stride, pads, dilation, groups)
    args = (x_shape, dtype, w_shape, dtype, stride, pads, dilation, groups)
    forward, y = run("forward", (x, w, bias), want.shape, args, isa)
    np.testing.assert_array_equal(y, want)
    towards_x, got = run("input_gradient", (dy, w, None), x_shape, args, isa)
    np.testing.assert_array_equal(got, dx)
    towards_w, got = run("weight_gradient", (dy, x), w_shape, args, isa)
    np.testing.assert_array_equal(got, dw)
    return forward, towards_x, towards_w


def test_the_table_of_tiles_is_whole():
    rows = registry()
    assert len(rows) == len(set(rows)) > 40
    for isa, dtype in product(native.ISA_LEVELS, DTYPES):
        lanes, most = limits(isa, dtype)
        assert lanes >= 1
        assert most[0] >= 7, "the narrowest tile holds a row of a 7 x 7 map"
        # no holes: a plan takes any run up to the longest
        assert all((v, m) in rows for v, longest in enumerate(most, 1) for m in range(1, longest + 1))


@pytest.mark.parametrize(("isa", "dtype", "vectors", "pixels"), ROWS)
def test_every_tile_is_exact(isa, dtype, vectors, pixels, monkeypatch):
    monkeypatch.setattr(geometry, "tile_vectors", lambda *args: vectors)
    common.clear()
    lanes, most = limits(isa, dtype)
    rng = np.random.default_rng([vectors, pixels, lanes])
    full = vectors * lanes
    # tails around the vector and around the panel: which one is drawn depends on the row, all together see them all
    tails = sorted({1, max(1, lanes - 1), lanes + 1, max(1, full - 1), full, full + 1})
    filters = tails[(vectors + pixels) % len(tails)]
    try:
        # forward: runs of `pixels` outputs, of one row and where they fit of two; neighbouring input pixels, then every other
        for stride in (1, 2):
            width = (pixels - 1) * stride + 2
            forward, *_ = all_directions(rng, isa, dtype, (1, 2, 3, width), (filters, 2, 1, 2), (1, stride))
            assert forward.kernel.vectors == vectors
            assert forward.kernel.most_pixels == most[vectors - 1]
        # input gradient: filters are input channels; runs of `pixels` inputs, stored in rows and then scattered
        for stride, pads in ((1, (1, 1)), (2, (0, 0))):
            width = pixels * stride
            _, towards_x, _ = all_directions(rng, isa, dtype, (1, filters, 2, width), (2, filters, 1, 2), (1, stride),
                                             ((0, 0), pads))
            assert towards_x.kernel.vectors == vectors
        # weight gradient: rows of the tile are input channels, side by side or planes apart
        _, _, towards_w = all_directions(rng, isa, dtype, (2, pixels, 2, 2), (filters, pixels, 2, 1))
        assert towards_w.kernel.vectors == vectors
        all_directions(rng, isa, dtype, (2, pixels, 2, 2), (filters, pixels, 1, 1))
    finally:
        common.clear()


@every_isa
@every_dtype
def test_sizes_around_the_vector(isa, dtype):
    """Channels, filters and widths one below, at and above the lanes and twice the lanes, as planned."""
    lanes, _ = limits(isa, dtype)
    rng = np.random.default_rng(lanes)
    for n in sorted({1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1} - {0}):
        all_directions(rng, isa, dtype, (1, 1, 2, n + 1), (n, 1, 2, 2))
        all_directions(rng, isa, dtype, (2, n, 2, 3), (2, n, 1, 2))


GEOMETRIES = [
    # x, weight, stride, pads, dilation, groups
    ((2, 3, 7, 8), (5, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 3, 9, 8), (4, 3, 3, 2), (2, 3), ((0, 2), (1, 0)), (1, 1), 1),
    ((2, 2, 6, 7), (3, 2, 2, 2), (3, 4), ((0, 0), (0, 0)), (1, 1), 1),  # stride past the kernel
    ((1, 2, 9, 10), (3, 2, 3, 3), (1, 2), ((2, 2), (3, 1)), (2, 3), 1),
    ((1, 2, 9, 9), (2, 2, 3, 3), (2, 2), ((1, 1), (1, 1)), (2, 2), 1),  # stride and dilation share a factor
    ((2, 6, 5, 6), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    ((1, 6, 6, 5), (12, 1, 3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), 6),  # depthwise with multiplier
    ((1, 2, 1, 1), (3, 2, 2, 2), (1, 1), ((5, 5), (4, 3)), (1, 1), 1),  # mostly padding
    ((1, 1, 3, 3), (2, 1, 1, 1), (5, 5), ((4, 4), (4, 4)), (1, 1), 1),  # windows in padding only
    ((1, 2, 4, 5), (2, 2, 4, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((3, 4, 5, 5), (6, 4, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 4, 5, 6), (6, 2, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 2),
    ((1, 2, 1, 33), (3, 2, 1, 5), (1, 1), ((0, 0), (2, 2)), (1, 1), 1),
    ((1, 2, 33, 1), (3, 2, 5, 1), (2, 1), ((2, 2), (0, 0)), (1, 1), 1),
    ((2, 1, 8, 8), (1, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 2, 8, 8), (2, 2, 2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 2, 9, 9), (2, 2, 2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),  # the last row is in no window
]


@every_isa
@every_dtype
@pytest.mark.parametrize("geometry_", GEOMETRIES, ids=str)
def test_geometries_are_exact(isa, dtype, geometry_):
    all_directions(np.random.default_rng(1), isa, dtype, *geometry_)


@pytest.fixture
def leave_out(monkeypatch):
    """Every layer leaves out the kernel positions that meet only padding, and its weight gradient their pixels."""
    monkeypatch.setattr(direct, "LONG_RUN", 1)
    monkeypatch.setattr(direct, "MOST_INSIDE", 1)
    monkeypatch.setattr(direct, "MOST_INSIDE_OF_GRIDS", 1)
    monkeypatch.setattr(direct, "MOST_INSIDE_OF_FEW", 1)
    monkeypatch.setattr(direct, "FEW_TARGETS", 10**6)
    common.clear()
    yield
    common.clear()


PADDED = [
    ((2, 3, 5, 6), (4, 3, 3, 3), (1, 1), ((4, 4), (4, 4)), (4, 4), 1),
    ((1, 4, 7, 40), (4, 2, 2, 5), (1, 2), ((3, 0), (30, 9)), (1, 7), 2),
    ((3, 2, 4, 4), (20, 2, 9, 9), (1, 1), ((4, 4), (4, 4)), (1, 1), 1),
]


@every_isa
@every_dtype
@pytest.mark.parametrize("geometry_", GEOMETRIES + PADDED, ids=str)
def test_positions_in_the_padding_are_left_out(isa, dtype, geometry_, leave_out):
    forward, towards_x, towards_w = all_directions(np.random.default_rng(4), isa, dtype, *geometry_)
    assert forward.kernel.by_position
    assert towards_x.kernel.by_position
    assert towards_w.skips


@every_isa
@pytest.mark.parametrize("source_bytes", [1, 300, 1500])
def test_pixels_are_left_out_of_every_box_and_round(isa, source_bytes, small_source, leave_out):
    small_source(source_bytes)
    for x, w, *rest in (GEOMETRIES + PADDED)[::2]:
        *_, towards_w = all_directions(np.random.default_rng(5), isa, np.dtype("f4"), (5, *x[1:]), w, *rest)
        assert towards_w.skips


@pytest.mark.parametrize(("channels", "size", "skips"), [(64, 2, True), (64, 4, True), (64, 8, False), (8, 2, False)])
def test_which_weight_gradients_leave_pixels_out(channels, size, skips):
    spec, _, _ = conv_spec((1, channels, size, size), np.dtype("f4"), (64, channels, 5, 5), np.dtype("f4"), rank=2,
                           padding=2, direction="weight_gradient")
    assert direct.WeightGradient(spec, native.ISA_LEVELS[-1]).skips == (3 if skips else 0)


# Size of x, weight shape, stride, padding: of little depth, where most slices that a kernel position takes are padding.
SHALLOW = [
    ((1, 20, 2, 7, 9), (33, 20, 3, 3, 3), 1, 1), ((5, 16, 1, 6, 5), (17, 16, 3, 2, 3), 1, 1),
    ((3, 40, 2, 4, 4), (34, 20, 5, 3, 1), 1, (2, 1, 0)), ((2, 16, 3, 9, 8), (70, 16, 3, 3, 3), (2, 2, 1), 1),
]


@every_isa
@every_dtype
@pytest.mark.parametrize("source_bytes", [None, 1, 5000])
@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "padding"), SHALLOW, ids=str)
def test_slices_in_the_padding_are_left_out(isa, dtype, x_shape, w_shape, stride, padding, source_bytes, small_source):
    if source_bytes:
        small_source(source_bytes)
    rng, groups = np.random.default_rng(7), x_shape[1] // w_shape[1]
    options = {"stride": stride, "padding": padding, "groups": groups, "needs": (False, True, False)}
    x, w = whole(rng, *x_shape, dtype=dtype), whole(rng, *w_shape, dtype=dtype)
    spec = conv_spec(x_shape, dtype, w_shape, dtype, None, None, stride, padding, 1, groups, rank=3,
                     direction="weight_gradient")[0]
    dy = whole(rng, *spec.y_shape(len(x)), dtype=dtype)
    assert direct.WeightGradient(spec, isa).skips == 1
    with convkit.use(isa=isa, algorithm="direct"), convkit.threads(3):
        dw = F.conv3d_backward(dy, x, w, **options)[1]
    np.testing.assert_array_equal(dw, reference.conv3d_backward(dy, x, w, **options)[1])
    dy[0, 3, 0, 1, 2] = np.nan  # times padding it is NaN
    with convkit.use(isa=isa, algorithm="direct"):
        dw = F.conv3d_backward(dy, x, w, **options)[1]
    np.testing.assert_array_equal(dw, reference.conv3d_backward(dy, x, w, **options)[1])


def test_infinite_gradients_of_pixels_left_out_meet_padding():
    rng = np.random.default_rng(6)
    x, dy = rng.integers(1, 5, (3, 32, 2, 2)).astype("f4"), rng.integers(1, 5, (3, 40, 2, 2)).astype("f4")
    dy[1, 7, 0, 1], dy[2, 30, 1, 1] = np.inf, np.nan
    weight, options = np.ones((40, 32, 3, 3), np.float32), {"padding": 1, "needs": (False, True, False)}
    with convkit.use(algorithm="direct"), np.errstate(invalid="ignore"):
        _, dw, _ = F.conv2d_backward(dy, x, weight, **options)
        _, want, _ = reference.conv2d_backward(dy, x, weight, **options)
    assert np.isnan(want[7]).any()
    np.testing.assert_array_equal(dw, want)


def test_which_layers_leave_positions_out():
    def leaves_out(*shape, **options):
        args = ((1, *shape[:2], 1), np.dtype("f4"), (16, shape[0], *shape[2:]), np.dtype("f4"))
        return direct.Sums(conv_spec(*args, rank=2, **options)[0], native.ISA_LEVELS[-1]).kernel.by_position

    assert leaves_out(256, 33, 3, 1, padding=(24, 0), dilation=(24, 1))
    assert leaves_out(48, 49, 128, 1, padding=(64, 0))
    assert not leaves_out(256, 33, 3, 1, padding=(1, 0))
    assert not leaves_out(8, 33, 3, 1, padding=(24, 0), dilation=(24, 1))


def test_infinity_times_padding_is_nan(leave_out):
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    w[1, 0, 0, 0] = np.inf
    with convkit.use(algorithm="direct"):
        y = F.conv2d(x, w, padding=1)
    want = reference.conv2d(x, w, padding=1)
    assert np.isnan(want).any()
    np.testing.assert_array_equal(y, want)


@every_isa
@every_dtype
def test_an_infinite_weight_is_found_wherever_it_is(isa, dtype, leave_out):
    spec = conv_spec((1, 2, 5, 5), dtype, (7, 2, 3, 3), dtype, padding=1, rank=2)[0]
    kernel = direct.Sums(spec, isa).kernel
    assert kernel.by_position
    w = np.full((7, 2, 3, 3), np.finfo(dtype).max)
    w[::2] *= -1
    assert kernel.pack(w)[-1] == 0
    for at in np.ndindex(w.shape):
        for value in (np.inf, -np.inf, np.nan):
            changed = w.copy()
            changed[at] = value
            assert kernel.pack(changed)[-1] == 1


@every_isa
@every_dtype
@pytest.mark.parametrize("source_bytes", [1, 300, 1500])
def test_many_boxes_and_rounds_are_exact(isa, dtype, source_bytes, small_source):
    """Boxes of one output, of a row, of a few rows; rounds of one image and of several."""
    small_source(source_bytes)
    rng = np.random.default_rng(2)
    rounds = set()
    for x, w, *rest in GEOMETRIES[::2]:
        forward, *_ = all_directions(rng, isa, dtype, (5, *x[1:]), w, *rest)
        rounds.add(forward.kernel.images)
    assert rounds == {1} if source_bytes == 1 else source_bytes == 300 or max(rounds) > 1


@every_isa
@every_dtype
@pytest.mark.parametrize("source_bytes", [1, 700, 512 * 1024])
def test_weight_gradients_of_one_position_read_x_or_dy_as_it_lies(isa, dtype, source_bytes, small_source):
    small_source(source_bytes)
    rng = np.random.default_rng(5)
    for x, w, groups in (((3, 20, 5, 7), (35, 20, 1, 1), 1), ((2, 9, 1, 1), (3, 9, 1, 1), 1),
                         ((5, 1, 3, 2), (2, 1, 1, 1), 1), ((3, 12, 9, 16), (8, 3, 1, 1), 4),
                         ((3, 14, 9, 16), (22, 7, 1, 1), 2), ((2, 33, 64, 16), (17, 33, 1, 1), 1)):
        kernel = all_directions(rng, isa, dtype, x, w, groups=groups)[2].kernel
        grids = isa in WITH_GRIDS and dtype == "f4"
        assert kernel.in_place and kernel.turned == (x[1] <= w[0] or (grids and x[2] * x[3] <= w[0]))
    for stride, pads in (((2, 2), ((0, 0), (0, 0))), ((1, 1), ((1, 0), (0, 0))), ((1, 1), ((0, 0), (0, 2)))):
        assert not all_directions(rng, isa, dtype, (2, 9, 6, 6), (8, 9, 1, 1), stride, pads)[2].kernel.in_place


@every_isa
@pytest.mark.parametrize(("x", "filters", "groups", "turned", "vectors"), [
    ((1, 48, 7, 7), 130, 1, True, 2),     # sums go straight into dw, of one image and of several rounds
    ((9, 112, 5, 5), 100, 1, True, 2),    # x is the larger one, and small all the same; and a single vector is left
    ((2, 96, 9, 9), 53, 1, False, 2),     # dy in panels, a part of the last vector, low tiles
    ((2, 32, 40, 41), 200, 1, True, 2),   # blocks of pixels, rows in parts
    ((3, 60, 33, 33), 90, 2, True, 2),    # groups
    ((2, 24, 8, 8), 30, 1, True, 3),      # three vectors have no such grids
], ids=str)
def test_weight_gradients_take_rows_in_place_in_grids(isa, x, filters, groups, turned, vectors, small_source):
    small_source(64 * 1024)
    rng = np.random.default_rng(6)
    spec = conv_spec(x, np.dtype("f4"), (filters, x[1] // groups, 1, 1), np.dtype("f4"), groups=groups, rank=2,
                     direction="weight_gradient")[0]
    run = direct.WeightGradient(spec, isa)
    if isa == "avx2":
        assert (run.kernel.turned, run.kernel.vectors) == (turned, vectors)
    x, dy = (rng.integers(-4, 5, shape).astype("f4") for shape in (x, (x[0], filters, *x[2:])))
    want = reference.conv.weight_gradient(spec, dy, x)
    for threads in (1, 2, 3):
        got = np.full(want.shape, np.nan, "f4")
        with convkit.threads(threads):
            run(dy, x, got)
        np.testing.assert_array_equal(got, want)


GRIDS = [
    # x, weight, groups: panels of 2 and of 3 vectors and what is left of the last, chunks of taps, more than 16 of them,
    # blocks of pixels, images together and the last of them alone, one pixel
    ((1, 70, 1, 1), (9, 70, 1, 1), 1), ((1, 3, 5, 5), (16, 3, 1, 1), 1), ((2, 64, 7, 7), (24, 64, 1, 1), 1),
    ((11, 65, 7, 7), (31, 65, 1, 1), 1), ((3, 129, 5, 8), (40, 129, 1, 1), 1), ((1, 20, 17, 19), (56, 20, 1, 1), 1),
    ((1, 1030, 3, 3), (27, 1030, 1, 1), 1), ((2, 2200, 2, 3), (10, 2200, 1, 1), 1), ((1, 33, 29, 31), (50, 33, 1, 1), 1),
    ((3, 38, 6, 7), (66, 19, 1, 1), 2), ((1, 40, 16, 17), (300, 40, 1, 1), 1), ((300, 30, 1, 1), (24, 30, 1, 1), 1),
    ((2, 25, 1, 50), (30, 25, 1, 3), 1),
]


@every_isa
@every_dtype
@pytest.mark.parametrize(("x", "w", "groups"), GRIDS, ids=str)
def test_grids_of_tiles_are_exact(isa, dtype, x, w, groups):
    from convkit.kernels import conv

    forward, towards_x, _ = all_directions(np.random.default_rng(7), isa, dtype, x, w, groups=groups)
    grids = conv.has_grids(isa, dtype.itemsize)
    assert grids == (isa in WITH_GRIDS and dtype == np.float32)
    assert (forward.kernel.grids and forward.kernel.in_place) == (grids and w[0] // groups > limits(isa, dtype)[0])
    assert towards_x.kernel.grids == (grids and x[1] // groups > limits(isa, dtype)[0] and w[3] == 1)


@every_isa
def test_grids_turn_kernels_around(isa):
    """The input gradient of a layer that is padded by all of its kernel meets no padding itself."""
    _, towards_x, _ = all_directions(np.random.default_rng(8), isa, np.dtype("f4"), (2, 20, 1, 50), (30, 20, 1, 3),
                                     pads=((0, 0), (2, 2)))
    assert towards_x.kernel.grids and towards_x.kernel.in_place if isa in WITH_GRIDS else not towards_x.kernel.grids


BOXED_GRIDS = [
    # x, weight, stride, pads, groups: rows a few at a time and one in parts, panels of 2 vectors last, more than 16 chunks,
    # groups, both strides, the stride of one axis alone, phases of the input gradient
    ((2, 20, 9, 11), (40, 20, 3, 3), (1, 1), ((1, 1), (1, 1)), 1),
    ((1, 60, 1, 700), (33, 60, 1, 3), (1, 1), ((0, 0), (1, 1)), 1),
    ((1, 24, 40, 37), (24, 24, 3, 3), (1, 1), ((1, 0), (2, 1)), 1),
    ((1, 130, 12, 16), (17, 130, 3, 3), (1, 1), ((1, 1), (1, 1)), 1),
    ((3, 70, 6, 7), (66, 35, 3, 2), (1, 1), ((1, 1), (0, 1)), 2), ((2, 50, 19, 21), (56, 50, 3, 3), (2, 2), ((1, 1), (1, 1)), 1),
    ((1, 90, 1, 1100), (27, 90, 1, 2), (1, 2), ((0, 0), (1, 0)), 1),
    ((1, 33, 14, 15), (48, 33, 3, 3), (2, 1), ((1, 1), (1, 1)), 1),
    ((2, 64, 12, 10), (90, 64, 4, 4), (2, 2), ((1, 1), (1, 1)), 1), ((1, 15, 5, 12), (40, 15, 3, 5), (1, 2), ((1, 1), (3, 2)), 1),
    ((1, 15, 3, 2), (40, 15, 1, 11), (1, 2), ((0, 0), (9, 10)), 1),
]


@every_isa
@pytest.mark.parametrize("source_bytes", [2000, 512 * 1024])
@pytest.mark.parametrize(("x", "w", "stride", "pads", "groups"), BOXED_GRIDS, ids=str)
def test_grids_of_boxes_are_exact(isa, x, w, stride, pads, groups, source_bytes, small_source):
    small_source(source_bytes)
    forward, *_ = all_directions(np.random.default_rng(11), isa, np.dtype("f4"), x, w, stride, pads, groups=groups)
    assert not forward.kernel.in_place
    if source_bytes > 2000:
        assert forward.kernel.grids == (isa in WITH_GRIDS)


CHUNKED_BOXES = [
    # x, weight, stride, padding: slices of three dimensions, both strides, more channels than are there at a time with a
    # chunk that begins within one of them, more than 16 chunks
    ((2, 20, 6, 9, 14), (48, 20, 3, 3, 3), 1, 0), ((1, 14, 6, 9, 25), (24, 14, 2, 3, 3), (1, 2, 2), (0, 1, 1)),
    ((3, 190, 20, 24), (64, 190, 3, 3), 1, 1), ((2, 40, 2000), (60, 40, 5), 2, 2),
]


@every_isa
@pytest.mark.parametrize("near_bytes", [20_000, 512 * 1024])
@pytest.mark.parametrize(("x", "w", "stride", "padding"), CHUNKED_BOXES, ids=str)
def test_boxes_by_chunk_are_the_same_for_any_threads(isa, x, w, stride, padding, near_bytes, small_source):
    """All panels by chunks of the taps: whole numbers exactly, any numbers with the same bits, and what follows the sums."""
    small_source(512 * 1024, near_bytes)
    rng, dims = np.random.default_rng(14), len(x) - 2
    conv = getattr(F, f"conv{dims}d")
    x, w, bias = (whole(rng, *shape, dtype=np.dtype("f4")) for shape in (x, w, w[:1]))
    spec = conv_spec(x.shape, x.dtype, w.shape, w.dtype, None, None, stride, padding, 1, 1, rank=dims, direction="forward")[0]
    assert direct.way(spec, isa).by_chunk == (isa in WITH_GRIDS)
    fractions = [rng.standard_normal(a.shape, dtype=np.float32) for a in (x, w)]
    layer = getattr(convkit.nn, f"Conv{dims}d")(x.shape[1], len(w), w.shape[2:], stride, padding).eval()
    gelu = convkit.nn.Sequential(layer, convkit.nn.GELU()).eval()
    with convkit.use(isa=isa, algorithm="direct"):
        want = getattr(reference, f"conv{dims}d")(x, w, bias, stride, padding)
        alone, after = conv(*fractions, None, stride, padding), convkit.nn.GELU()(layer(x))
        for threads in (1, 2, 3):
            with convkit.threads(threads):
                np.testing.assert_array_equal(conv(x, w, bias, stride, padding), want)
                assert same_bits(conv(*fractions, None, stride, padding), alone)
                assert same_bits(conv(fractions[0][:1], fractions[1], None, stride, padding), alone[:1])
                assert same_bits(gelu(x), after)


@every_isa
@pytest.mark.parametrize("width", [13, 15, 16, 17, 23, 24, 31, 32, 33, 46, 47])
def test_rows_are_split_into_even_and_odd_columns(isa, width):
    """Whole pairs of vectors, the last of them once more, and parts; padding of both parities on either side."""
    rng, dtype, filters = np.random.default_rng(12), np.dtype("f4"), (24, 60, 3, 3)
    x, w, bias = whole(rng, 2, 60, 5, width, dtype=dtype), whole(rng, *filters, dtype=dtype), whole(rng, 24, dtype=dtype)
    grids = []
    for columns in ((2, 2), (1, 2), (2, 3), (3, 4)):
        geometry_ = (2, 2), ((0, 0), columns), (1, 1), 1
        want = oracle.conv(x, w, bias, *geometry_)
        forward, y = run("forward", (x, w, bias), want.shape, (x.shape, dtype, filters, dtype, *geometry_), isa)
        np.testing.assert_array_equal(y, want)
        grids.append(forward.kernel.grids)
    assert any(grids) == (isa in WITH_GRIDS)


PADDED_GRIDS = [
    # x, weight, stride, pads, dilation, groups: whole chunks of channels at a position and two kinds of them, closed more
    # than once, positions that meet nothing, rows in parts, strides that lie apart, groups, phases of the input gradient
    ((2, 64, 7, 7), (40, 64, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 150, 5, 8), (24, 150, 3, 5), (1, 1), ((1, 1), (2, 2)), (1, 1), 1),
    ((1, 70, 9, 8), (24, 70, 3, 3), (1, 1), ((7, 7), (9, 9)), (7, 9), 1),
    ((1, 64, 1, 300), (17, 64, 1, 5), (1, 1), ((0, 0), (130, 129)), (1, 65), 1),
    ((2, 64, 9, 7), (90, 64, 4, 4), (2, 2), ((2, 2), (2, 2)), (1, 1), 1),
    ((1, 140, 6, 5), (140, 70, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
]


@every_isa
@every_dtype
@pytest.mark.parametrize("source_bytes", [2000, 512 * 1024])
@pytest.mark.parametrize("geometry_", PADDED_GRIDS, ids=str)
def test_grids_leave_pixels_out_that_meet_padding(isa, dtype, geometry_, source_bytes, small_source, leave_out):
    small_source(source_bytes)
    forward, towards_x, _ = all_directions(np.random.default_rng(13), isa, dtype, *geometry_)
    assert forward.kernel.by_position and towards_x.kernel.by_position
    if source_bytes > 2000:
        assert forward.kernel.grids == (isa in WITH_GRIDS and dtype == np.float32)


@every_isa
@pytest.mark.parametrize(("shape", "kernel", "stride", "pads"), [
    ((1, 161, 28), (1,), (3,), ((39, 25),)), ((2, 200, 9, 11), (1, 1), (2, 3), ((1, 0), (2, 2))),
    ((1, 130, 9, 11), (1, 2), (2, 2), ((1, 0), (1, 0))), ((1, 130, 9, 11), (2, 1), (2, 1), ((1, 0), (1, 0))),
])
def test_strides_longer_than_the_kernel_leave_targets_out(isa, shape, kernel, stride, pads):
    """Transposed, with one phase that meets taps and boxes that padding begins."""
    rng = np.random.default_rng(14)
    x, w = whole(rng, *shape, dtype="f4"), whole(rng, shape[1], 46, *kernel, dtype="f4")
    name = f"conv_transpose{len(kernel)}d"
    want = getattr(reference, name)(x, w, stride=stride, padding=pads)
    with convkit.use(isa=isa, algorithm="direct"):
        np.testing.assert_array_equal(getattr(F, name)(x, w, stride=stride, padding=pads), want)


def test_infinity_times_padding_is_nan_in_grids(leave_out):
    x, w = np.ones((1, 64, 5, 5), np.float32), np.ones((16, 64, 3, 3), np.float32)
    w[1, 3, 0, 0] = np.inf
    with convkit.use(algorithm="direct"):
        y = F.conv2d(x, w, padding=1)
    want = reference.conv2d(x, w, padding=1)
    assert np.isnan(want).any()
    np.testing.assert_array_equal(y, want)


SEGMENTS = [
    # x, weight, stride, pads, dilation, groups: pixels of a round in one segment and in some, closed more than once, in
    # several rounds; runs of all kernel columns, and of one whose pixels lie an odd number of lines apart; rows of kernels
    ((1, 20, 5, 6), (17, 20, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((3, 3, 40, 41), (20, 3, 3, 3), (1, 1), ((0, 1), (1, 0)), (1, 1), 1),
    ((5, 64, 12, 11), (40, 64, 3, 2), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 128, 17, 19), (33, 128, 2, 3), (2, 2), ((1, 0), (1, 1)), (1, 1), 1),
    ((2, 40, 15, 14), (24, 20, 3, 2), (1, 2), ((2, 2), (1, 1)), (2, 3), 2),
    ((2, 70, 40, 61), (34, 70, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


@every_isa
@every_dtype
@pytest.mark.parametrize("source_bytes", [20_000, 512 * 1024])
@pytest.mark.parametrize(("x", "w", "stride", "pads", "dilation", "groups"), SEGMENTS, ids=str)
def test_weight_gradients_by_segments_are_exact(isa, dtype, x, w, stride, pads, dilation, groups, source_bytes,
                                                small_source):
    small_source(source_bytes)
    rng = np.random.default_rng(12)
    *_, towards_w = all_directions(rng, isa, dtype, x, w, stride, pads, dilation, groups)
    assert towards_w.kernel.vectors > 1 or (isa, dtype.itemsize) != ("avx2", 4) or source_bytes == 20_000
    spec = conv_spec(x, dtype, w, dtype, None, None, stride, pads, dilation, groups, rank=2, direction="weight_gradient")[0]
    dy, source = (rng.standard_normal(shape).astype(dtype) for shape in ((x[0], w[0], *spec.out_size), x))
    results = []
    for threads in (1, 2, 5):
        results.append(np.empty(w, dtype))
        with convkit.threads(threads), hostile_memory(at_end=True):
            towards_w(dy, source, results[-1])
    assert same_bits(results[0], results[1]) and same_bits(results[0], results[2])


@every_isa
@pytest.mark.parametrize("stride", [1, 2])
def test_planes_that_alias_or_have_a_stride_are_copied(isa, stride):
    shape = (1, 16, 32, 16) if stride == 1 else (1, 16, 9, 9)
    forward, *_ = all_directions(np.random.default_rng(9), isa, np.dtype("f4"), shape, (24, 16, 1, 1), (stride, stride))
    assert not (forward.kernel.grids and forward.kernel.in_place)


@every_isa
@every_dtype
def test_boxes_do_not_change_a_bit_of_the_forward_pass(isa, dtype, small_source):
    """A sum is made by one tile whatever the box, so boxes and rounds cannot show in forward and input gradient."""
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(3, 5, 12, 13)).astype(dtype), rng.normal(size=(7, 5, 3, 3)).astype(dtype)
    with convkit.use(isa=isa, algorithm="direct"):
        y = F.conv2d(x, w, padding=1, stride=(1, 2))
        dx = F.conv2d_backward(y, x, w, padding=1, stride=(1, 2))[0]
        for source_bytes in (1, 700, 3000):
            small_source(source_bytes)
            assert same_bits(F.conv2d(x, w, padding=1, stride=(1, 2)), y)
            assert same_bits(F.conv2d_backward(y, x, w, padding=1, stride=(1, 2))[0], dx)


THREADED = [
    # x, weight, options: above MIN_MACS; boxes of one thread each, several images, slices, phases, weights beyond OWN_WEIGHTS,
    # pixels left out of a grid
    ((1, 16, 40, 41), (40, 16, 3, 3), {"padding": 1}),
    ((3, 16, 23, 22), (33, 16, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 8, 9, 14, 15), (24, 8, 3, 3, 3), {"stride": (2, 1, 1), "padding": 1}),
    ((5, 8, 700), (48, 8, 5), {"stride": 3}),
    ((1, 256, 7, 7), (160, 256, 3, 3), {"padding": 1}), ((2, 70, 12, 13), (40, 70, 3, 3), {"padding": 5, "dilation": 5}),
    ((1, 40, 30, 31), (50, 40, 3, 3), {"padding": 1}), ((2, 30, 9, 14, 15), (40, 30, 2, 3, 3), {"stride": (1, 1, 2)}),
    ((9, 130, 7, 7), (50, 130, 1, 1), {}), ((1, 48, 33, 31), (120, 48, 1, 1), {}), ((3, 1100, 4, 5), (90, 1100, 1, 1), {}),
]


@every_isa
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), THREADED, ids=str)
def test_threads_do_not_change_a_bit(isa, x_shape, w_shape, options):
    rng = np.random.default_rng(5)
    forward, backward = (getattr(F, f"conv{len(x_shape) - 2}d{end}") for end in ("", "_backward"))
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in (x_shape, w_shape, w_shape[:1]))

    def both():
        y = forward(x, w, b, **options)
        return y, backward(y, x, w, **options, needs=(True, False, False))[0]

    with convkit.use(isa=isa, algorithm="direct"):
        with convkit.threads(1):
            y, dx = both()
            one_by_one = np.concatenate([forward(x[i:i + 1], w, b, **options) for i in range(len(x))])
        assert same_bits(y, one_by_one)
        for threads in (2, 3, 8):
            with convkit.threads(threads), hostile_memory(at_end=True):
                assert all(same_bits(a, b) for a, b in zip(both(), (y, dx), strict=True))


def worst(got, want, bound, dtype):
    """The largest error in units of eps times the sum of absolute products."""
    assert got.dtype == dtype
    assert np.isfinite(got).all()
    units = np.abs(got - want) / (np.finfo(dtype).eps * bound)
    return float(np.where(got == want, 0, units).max())


def wide_conv(x, w, dy, padding, stride):
    """(y, dx, dw) tap by tap in extended precision: the judge of float64 has to be better than float64."""
    x, w = x.astype(np.longdouble), w.astype(np.longdouble)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    oh, ow = ((n - k) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True))
    y, dx, dw = np.zeros((len(x), len(w), oh, ow), np.longdouble), np.zeros_like(x), np.zeros_like(w)
    for i, j in np.ndindex(*w.shape[2:]):
        here = np.s_[:, :, i:i + (oh - 1) * stride + 1:stride, j:j + (ow - 1) * stride + 1:stride]
        y += np.einsum("nchw,kc->nkhw", x[here], w[:, :, i, j])
        if dy is not None:
            dx[here] += np.einsum("nkhw,kc->nchw", dy, w[:, :, i, j])
            dw[:, :, i, j] = np.einsum("nkhw,nchw->kc", dy, x[here])
    return y, dx[:, :, padding:dx.shape[2] - padding, padding:dx.shape[3] - padding], dw


LONG = [
    # x, weight, padding, stride: reductions of 9 to 5000 terms, forward or in a gradient
    ((1, 1, 20, 20), (16, 1, 3, 3), 1, 1),
    ((1, 64, 9, 9), (8, 64, 3, 3), 1, 2),
    ((1, 555, 4, 5), (5, 555, 3, 3), 1, 1),
    ((1, 16, 32, 33), (5, 16, 31, 31), 0, 1),
    ((1, 5000, 2, 3), (18, 5000, 1, 1), 0, 1),
    ((1, 257, 5, 5), (2100, 257, 1, 1), 0, 1),  # the input gradient sums over 2100 filters
    ((8, 3, 26, 26), (4, 3, 2, 2), 0, 1),  # the weight gradient sums over 5000 pixels
    ((8, 3, 26, 26), (20, 3, 2, 2), 0, 1),  # by segments
]


# After one value that dwarfs the others, each of the additions left in its chunk, and of the chunks after that, rounds at
# its size: the walk of those errors is the widest that these tiles can take on data that nobody built against them.
@every_dtype
@pytest.mark.parametrize(("kind", "limit"), [("normal", 8), ("positive", 8), ("one_huge", 8)])
def test_floats_stay_within_the_bound(dtype, kind, limit):
    """``|error| <= limit eps (|x| * |w|)`` in every window, forward and in both gradients."""
    rng = np.random.default_rng(4)

    def draw(*shape):
        a = rng.uniform(0.5, 1.5, shape) if kind == "positive" else rng.normal(size=shape)
        if kind == "one_huge":
            a.flat[a.size // 2] = 1e6
        return a.astype(dtype)

    for x_shape, w_shape, padding, stride in LONG:
        x, w = draw(*x_shape), draw(*w_shape)
        dy = draw(*F.conv2d(x, w, padding=padding, stride=stride).shape)
        wants = wide_conv(x, w, dy, padding, stride)
        bounds = wide_conv(np.abs(x), np.abs(w), np.abs(dy), padding, stride)
        for isa in native.ISA_LEVELS:
            with convkit.use(isa=isa, algorithm="direct"):
                y = F.conv2d(x, w, padding=padding, stride=stride)
                dx, dw, _ = F.conv2d_backward(dy, x, w, padding=padding, stride=stride)
            for name, got, want, bound in zip(("y", "dx", "dw"), (y, dx, dw), wants, bounds, strict=True):
                assert worst(got, want, bound, dtype) <= limit, (isa, name, x_shape)


@every_isa
@every_dtype
def test_values_at_the_ends_of_the_range_and_nan_in_its_windows(isa, dtype):  # rows 35-38
    big, small = {4: (1e38, 1e-40), 8: (1e308, 1e-310)}[dtype.itemsize]
    identity = np.zeros((3, 3, 3, 3), dtype)
    identity[range(3), range(3), 1, 1] = 1
    with convkit.use(isa=isa, algorithm="direct"):
        for value in (big, small):
            x = np.full((1, 3, 9, 20), value, dtype)
            x[0, :, ::2] *= -1
            assert same_bits(F.conv2d(x, identity, padding=1), x)
        for value in (np.nan, np.inf, -np.inf):
            x = np.ones((2, 3, 11, 20), dtype)
            x[0, 1, 5, 7] = value
            y = F.conv2d(x, np.ones((4, 3, 3, 3), dtype), padding=1)
            struck = ~np.isfinite(y)
            assert struck[0, :, 4:7, 6:9].all()
            assert struck.sum() == 4 * 9
        x[...] = np.nan
        assert np.isnan(F.conv2d(x, np.zeros((4, 3, 3, 3), dtype), padding=1)).all()  # NaN times zero


@every_isa
@every_dtype
def test_the_cases_table_is_exact(isa, dtype):
    """The miniatures of ``convkit.cases``, which benchmarks and command share, through the public functions."""
    from convkit.cases import SMALL

    rng = np.random.default_rng(6)
    for case in SMALL:
        x, w = whole(rng, *case.x, dtype=dtype), whole(rng, *case.weight, dtype=dtype)
        want = getattr(reference, case.op)(x, w, **case.options)
        dy = whole(rng, *want.shape, dtype=dtype)
        with convkit.use(isa=isa, precision="strict"):
            np.testing.assert_array_equal(getattr(F, case.op)(x, w, **case.options), want, err_msg=case.id)
            gradients = (getattr(floor, f"{case.op}_backward")(dy, x, w, **case.options) for floor in (F, reference))
            for got, right in zip(*gradients, strict=True):
                np.testing.assert_array_equal(got, right, err_msg=case.id)
