"""PoolSpec and its gradients: what is accepted, what its shapes are, and what is refused with which sentence.
"""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit import DtypeError, ShapeError
from convkit import functional as F
from convkit.spec.pool import pool_spec

F32 = np.dtype("f4")

# rank, x, arguments, output
VALID = [
    (2, (2, 3, 8, 9), {"kernel_size": 2}, (2, 3, 4, 4)),
    (2, (3, 8, 9), {"kernel_size": 2}, (3, 4, 4)),
    (2, (0, 3, 8, 9), {"kernel_size": 2}, (0, 3, 4, 4)),
    (2, (2, 3, 8, 9), {"kernel_size": 2, "ceil_mode": True}, (2, 3, 4, 5)),
    (2, (2, 3, 8, 9), {"kernel_size": (3, 2), "stride": 1, "padding": 1}, (2, 3, 8, 10)),
    (2, (2, 3, 8, 9), {"kernel_size": 3, "stride": 2, "padding": ((0, 1), (1, 0))}, (2, 3, 4, 4)),
    (2, (2, 3, 8, 9), {"kernel_size": 3, "stride": 2, "padding": "same"}, (2, 3, 4, 5)),
    (2, (2, 3, 8, 9), {"kernel_size": 3, "stride": 1, "dilation": (2, 3)}, (2, 3, 4, 3)),
    (2, (1, 1, 1, 1), {"kernel_size": 3, "ceil_mode": True}, (1, 1, 1, 1)),
    (2, (1, 1, 3, 3), {"kernel_size": 2, "stride": 2**62}, (1, 1, 1, 1)),
    (1, (1, 1, 5), {"kernel_size": 2, "stride": 4, "padding": 1, "ceil_mode": True}, (1, 1, 2)),
    (1, (1, 1, 4), {"kernel_size": 2, "stride": 5, "padding": 1, "ceil_mode": True}, (1, 1, 1)),
    (3, (1, 1, 4, 5, 6), {"kernel_size": 2, "stride": (1, 2, 3)}, (1, 1, 3, 2, 2)),
]


@pytest.mark.parametrize(("rank", "x", "args", "y"), VALID)
@pytest.mark.parametrize("kind", ["max", "min", "avg"])
def test_output_shape(kind, rank, x, args, y):
    spec, lead = pool_spec(x, F32, **args, kind=kind, rank=rank)
    assert lead + spec.out_size == y
    assert spec.kind == kind
    assert spec.rank == rank
    assert spec.size == x[-rank:]
    assert_possible(spec)


def test_a_spec_is_canonical_hashable_and_frozen():
    one = pool_spec((2, 3, 8, 8), F32, 3, None, 1, kind="max", rank=2)[0]
    same = pool_spec(
        (7, 8, 8), F32.newbyteorder(), [3, np.int8(3)], (3, 3), ((1, 1), 1), 1, kind="max", rank=2
    )[0]
    assert one == same
    assert hash(one) == hash(same)
    assert one != pool_spec((2, 3, 8, 8), F32, 3, None, 1, kind="min", rank=2)[0]
    with pytest.raises(AttributeError):
        one.kind = "avg"


X = (2, 3, 8, 8)

# numbers are rows of the table of bad input in field/reliability.md 1d
INVALID = [
    # 53-55
    (X, {"kernel_size": 0}, "kernel_size must be at least 1, got kernel_size=0"),
    (X, {"kernel_size": -2}, "kernel_size must be at least 1, got kernel_size=-2"),
    (X, {"kernel_size": ()}, "kernel_size must be an integer or a tuple of 2 integers, got kernel_size=()"),
    (X, {"stride": 0}, "stride must be at least 1, got stride=0"),
    (X, {"dilation": 0}, "dilation must be at least 1, got dilation=0"),
    (X, {"dilation": (-3, 1)}, "dilation must be at least 1, got dilation=(-3, 1)"),
    # 56
    (X, {"padding": -1}, "padding must not be negative, got padding=-1"),
    (
        X,
        {"padding": 2},
        "padding must be at most half of the (dilated) kernel, got padding=2 for kernel_size=3",
    ),
    (
        X,
        {"padding": (0, (0, 2))},
        "padding must be at most half of the (dilated) kernel, got padding=(0, (0, 2)) for kernel_size=3",
    ),
    (
        X,
        {"padding": 2**61},
        "padding must be at most half of the (dilated) kernel, got padding=2305843009213693952 for "
        "kernel_size=3",
    ),
    # 57-61
    (X, {"kernel_size": 9}, "the window (9, 9) with dilation=(1, 1) is larger than the padded input (8, 8)"),
    (
        X,
        {"kernel_size": 2**31},
        "the window (2147483648, 2147483648) with dilation=(1, 1) is larger than the padded input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 1250999896764, "dilation": 1250999896764},
        "the window (1250999896764, 1250999896764) with dilation=(1250999896764, 1250999896764) is "
        "larger than the padded "
        "input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 2**29, "dilation": 1879048192},
        "the window (536870912, 536870912) with dilation=(1879048192, 1879048192) is larger than the "
        "padded input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 2**63 - 1},
        "the window (9223372036854775807, 9223372036854775807) with dilation=(1, 1) is "
        "larger than the padded input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 2**61, "stride": None, "ceil_mode": True},
        "the windowed input would have shape (2305843009213693952, 2305843009213693952) and take "
        "21267647932558653966460912964485513216 bytes, more than the limit of 140737488355328",
    ),
    (
        X,
        {"kernel_size": 2**32 + 1, "stride": 2**63 - 1},
        "the window (4294967297, 4294967297) with dilation=(1, 1) is larger than the padded input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 5, "dilation": 2**31 - 1},
        "the window (5, 5) with dilation=(2147483647, 2147483647) is larger than the padded input (8, 8)",
    ),
    (
        X,
        {"kernel_size": 2, "dilation": 11, "padding": 6},
        "dilation=11 with padding=(6, 6) puts a whole window outside the input, which has only 8 "
        "elements along that "
        "axis",
    ),
    # shapes
    ((8, 8), {}, "x must have 4 axes (N, C, H, W) or 3 (C, H, W), got shape (8, 8)"),
    ((2, 0, 8, 8), {}, "x must have at least 1 channel, got shape (2, 0, 8, 8)"),
    ((2, 3, 8, 0), {}, "x must have at least 1 element along each of its axes H, W, got shape (2, 3, 8, 0)"),
    # 71
    (X, {"divisor_override": 0}, "divisor_override must be at least 1, got divisor_override=0"),
    (X, {"divisor_override": -3}, "divisor_override must be at least 1, got divisor_override=-3"),
]


@pytest.mark.parametrize(("x", "args", "message"), INVALID)
def test_refused_geometry(x, args, message):
    with pytest.raises(ShapeError) as error:
        pool_spec(x, F32, **{"kernel_size": 3, "stride": 1, **args}, kind="max", rank=2)
    assert str(error.value) == message


def test_rows_59_60_and_70_in_one_dimension():
    for args in (
        (2**63 - 1,),
        (2**61, None, 0, 1, True),
        (2**32 + 1, 2**63 - 1),
        (2**31,),
        (0,),
        (-1,),
        (3, 0),
    ):
        with pytest.raises(ShapeError):
            pool_spec((2, 3, 8), F32, *args, kind="max", rank=1)


@pytest.mark.parametrize(("args", "message"), [
    ({"kernel_size": 2.0}, "kernel_size must be an integer or a tuple of 2 integers, got kernel_size=2.0"),
    ({"kernel_size": None}, "kernel_size must be an integer or a tuple of 2 integers, got kernel_size=None"),
    ({"kernel_size": (2, True)}, "kernel_size must be made of integers, got kernel_size=(2, True)"),
    ({"stride": True}, "stride must be an integer or a tuple of 2 integers, got stride=True"),
    ({"ceil_mode": 1}, "ceil_mode must be True or False, got ceil_mode=1"),
    ({"count_include_pad": None}, "count_include_pad must be True or False, got count_include_pad=None"),
    ({"divisor_override": 2.5}, "divisor_override must be an integer, got divisor_override=2.5"),
])
def test_arguments_of_the_wrong_kind(args, message):
    pool_spec(X, F32, 2, 1, kind="avg", rank=2)  # in the cache: True == 1 == 1.0 must not find it
    with pytest.raises(DtypeError) as error:
        pool_spec(X, F32, **{"kernel_size": 2, "stride": 1, **args}, kind="avg", rank=2)
    assert str(error.value) == message


@pytest.mark.parametrize("pool", [F.max_pool2d, F.min_pool2d, F.avg_pool2d])
def test_only_float_arrays(pool):
    for bad in (None, [[1.0]], 1.0):
        with pytest.raises(DtypeError, match="^x must be a NumPy array, got "):
            pool(bad, 2)
    with pytest.raises(DtypeError, match="^x must be float16, float32 or float64, got x.dtype=int64"):
        pool(np.ones(X, np.int64), 2)


@pytest.mark.parametrize("backward", [F.max_pool2d_backward, F.min_pool2d_backward])
def test_the_scatter_checks_its_operands(backward):
    dy, indices = np.ones((2, 3, 4, 4), F32), np.zeros((2, 3, 4, 4), np.int64)
    for index in (64, 99, -1, 2**32 + 3, -2**63, 2**63 - 1):  # 68, 79
        wrong = indices.copy()
        wrong[1, 2, 3, 3] = index
        with pytest.raises(ShapeError) as error:
            backward(dy, wrong, X)
        assert str(error.value) == (
            "indices must be at least 0 and less than the 64 elements of an input plane, got "
            f"values from {min(0, index)} to {max(0, index)}"
        )
    for args, kind, message in [
        (
            (dy, indices[0], X),
            ShapeError,
            "indices must have shape (2, 3, 4, 4) (that of dy), got indices.shape=(3, 4, 4)",
        ),
        (
            (dy, indices, X[1:]),
            ShapeError,
            "dy must have 3 axes, the first (3,) as in input_shape=(3, 8, 8), got dy.shape=(2, 3, 4, 4)",
        ),
        (
            (dy, indices, (2, 4, 8, 8)),
            ShapeError,
            "dy must have 4 axes, the first (2, 4) as in input_shape=(2, 4, 8, 8), got dy.shape=(2, 3, 4, 4)",
        ),
        (
            (dy, indices, (2, 3, 8)),
            ShapeError,
            "dy must have 3 axes, the first (2,) as in input_shape=(2, 3, 8), got dy.shape=(2, 3, 4, 4)",
        ),
        (
            (dy, indices, (2, 3, -8, 8)),
            ShapeError,
            "input_shape must not be negative, got input_shape=(2, 3, -8, 8)",
        ),
        (
            (dy, indices, (2, 3, 8.0, 8)),
            DtypeError,
            "input_shape must be made of integers, got input_shape=(2, 3, 8.0, 8)",
        ),
        ((dy, indices, None), DtypeError, "input_shape must be a tuple of integers, got input_shape=None"),
        (
            (dy, indices, (2, 3, 2**40, 2**40)),
            ShapeError,
            "the input gradient would have shape (2, 3, 1099511627776, 1099511627776) and take "
            "29014219670751100192948224 bytes, more than the limit of 140737488355328",
        ),
        (
            (dy, indices.astype(np.int32), X),
            DtypeError,
            "indices must be int64, as the pooling returned them, got indices.dtype=int32",
        ),
        (
            (dy, indices.astype(F32), X),
            DtypeError,
            "indices must be int64, as the pooling returned them, got indices.dtype=float32",
        ),
        (
            (dy.astype(bool), indices, X),
            DtypeError,
            "dy must be float16, float32 or float64, got dy.dtype=bool; convert it with dy.astype(np.float32)",
        ),
        (([1.0], indices, X), DtypeError, "dy must be a NumPy array, got list; convert it with np.asarray"),
    ]:
        with pytest.raises(kind) as error:
            backward(*args)
        assert str(error.value) == message


def test_the_average_gradient_checks_its_operands():  # 76
    dy = np.ones((2, 3, 4, 4), F32)
    for args, kind, message in [
        (
            (dy[..., :3], X, 2),
            ShapeError,
            "dy must have shape (2, 3, 4, 4) (that of the output), got dy.shape=(2, 3, 4, 3)",
        ),
        (
            (dy, X[1:], 2),
            ShapeError,
            "dy must have shape (3, 4, 4) (that of the output), got dy.shape=(2, 3, 4, 4)",
        ),
        (
            (dy, (2, 3, 8), 2),
            ShapeError,
            "dy must have shape (2, 1, 4) (that of the output), got dy.shape=(2, 3, 4, 4)",
        ),
        ((dy, X, 0), ShapeError, "kernel_size must be at least 1, got kernel_size=0"),
        ((dy, "8888", 2), DtypeError, "input_shape must be a tuple of integers, got input_shape='8888'"),
        (
            (dy.astype(int), X, 2),
            DtypeError,
            "dy must be float16, float32 or float64, got dy.dtype=int64; convert it with dy.astype(np.float32)",
        ),
    ]:
        with pytest.raises(kind) as error:
            F.avg_pool2d_backward(*args)
        assert str(error.value) == message


NUMBERS = st.one_of(
    st.integers(-2, 6),
    st.integers(),
    st.sampled_from([2**31, 2**32 + 1, 2**61, 2**62 + 1, 2**63]),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=4),
)
ARGUMENT = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, max_size=4),
    st.lists(NUMBERS, max_size=4).map(tuple),
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3),
    st.sampled_from(["same", "valid"]),
)


@settings(max_examples=400, deadline=None)
@given(rank=st.integers(1, 3), x=st.lists(st.integers(0, 7), max_size=6), kernel=ARGUMENT, stride=ARGUMENT,
       padding=ARGUMENT, dilation=ARGUMENT, ceil_mode=st.booleans(), divisor=ARGUMENT)
def test_any_call_ends_in_a_possible_geometry_or_in_an_error(
    rank, x, kernel, stride, padding, dilation, ceil_mode, divisor
):
    try:
        spec, _ = pool_spec(
            tuple(x), F32, kernel, stride, padding, dilation, ceil_mode, True, divisor, kind="avg", rank=rank
        )
    except (ShapeError, DtypeError):
        return
    assert_possible(spec)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), rank=st.integers(1, 3), ceil_mode=st.booleans())
def test_ordinary_calls_are_accepted_exactly_when_every_window_has_an_element(data, rank, ceil_mode):
    def per_axis(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank).map(tuple))

    size, kernel, stride, dilation = per_axis(1, 6), per_axis(1, 5), per_axis(1, 4), per_axis(1, 7)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = tuple((data.draw(st.integers(0, n // 2)), data.draw(st.integers(0, n // 2))) for n in spans)
    args = (size, kernel, stride, pads, dilation)
    outs = oracle.out_size(*args, ceil_mode)
    windows = [] if min(outs) < 1 else [list(oracle.window(p, *args)) for p in np.ndindex(*outs)]
    possible = bool(windows) and all(windows)
    try:
        spec, _ = pool_spec((1, *size), F32, kernel, stride, pads, dilation, ceil_mode, kind="max", rank=rank)
    except ShapeError:
        assert not possible
    else:
        assert possible
        assert spec.out_size == outs
        # cutting the kernel and the stride to the padded input has changed no window
        cut = (spec.size, spec.kernel, spec.stride, spec.padding, spec.dilation)
        assert [[q for _, q in oracle.window(p, *cut)] for p in np.ndindex(*outs)] == \
            [[q for _, q in window] for window in windows]


def assert_possible(spec):
    assert min(*spec.size, *spec.kernel, *spec.stride, *spec.dilation, *spec.out_size) >= 1
    for n, k, s, (lo, hi), d, p in zip(
        spec.size, spec.kernel, spec.stride, spec.padding, spec.dilation, spec.out_size, strict=True
    ):
        assert (p - 1) * s < n + lo, "the last window starts in the padding after the input"
        assert (k - 1) * d < 2**47
        assert k <= n + lo + hi
        assert s <= n + lo + hi
        assert all(type(v) is int and 0 <= v < 2**47 for v in (n, k, s, lo, hi, d, p))
