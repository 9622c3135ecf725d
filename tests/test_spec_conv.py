"""ConvSpec: what is accepted, what its shapes are, and what is refused with which sentence."""

from itertools import product

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit import DtypeError, ShapeError, functional
from convkit.spec.conv import ConvSpec, conv_spec

F32, F64 = np.dtype("f4"), np.dtype("f8")

# rank, x, weight, arguments, output shape
VALID = [
    (2, (2, 4, 8, 9), (6, 4, 3, 3), {}, (2, 6, 6, 7)),
    (2, (4, 8, 9), (6, 4, 3, 3), {}, (1, 6, 6, 7)),
    (2, (0, 4, 8, 9), (6, 4, 3, 3), {}, (0, 6, 6, 7)),
    (2, (2, 4, 8, 9), (6, 2, 3, 3), {"groups": 2}, (2, 6, 6, 7)),
    (2, (2, 4, 8, 9), (8, 1, 3, 3), {"groups": 4, "padding": "same"}, (2, 8, 8, 9)),
    (2, (1, 1, 8, 9), (1, 1, 2, 4), {"padding": "same"}, (1, 1, 8, 9)),
    (2, (1, 1, 8, 9), (1, 1, 3, 3), {"padding": "same", "stride": 2}, (1, 1, 4, 5)),
    (2, (1, 1, 8, 9), (1, 1, 3, 3), {"padding": "valid", "stride": (1, 2)}, (1, 1, 6, 4)),
    (2, (1, 1, 8, 9), (1, 1, 3, 3), {"padding": (1, 0)}, (1, 1, 8, 7)),
    (2, (1, 1, 8, 9), (1, 1, 3, 3), {"padding": ((1, 0), (0, 2))}, (1, 1, 7, 9)),
    (2, (1, 1, 8, 9), (1, 1, 3, 3), {"padding": [1, (0, 2)]}, (1, 1, 8, 9)),
    (2, (1, 1, 1, 1), (1, 1, 1, 1), {"padding": 5}, (1, 1, 11, 11)),
    (2, (1, 1, 8, 8), (1, 1, 2, 2), {"stride": 2**62}, (1, 1, 1, 1)),
    (2, (1, 1, 8, 8), (1, 1, 1, 1), {"dilation": 2**62}, (1, 1, 8, 8)),
    (2, (1, 1, 8, 8), (1, 1, 2, 2), {"dilation": 7}, (1, 1, 1, 1)),
    (2, (1, 1, 8, 8), (1, 1, 3, 3), {"stride": np.int64(2), "padding": np.uint8(1)}, (1, 1, 4, 4)),
    (1, (1, 1, 1), (1, 1, 1), {}, (1, 1, 1)),
    (1, (3, 2, 10), (4, 2, 3), {"padding": ((2, 1),), "stride": (2,)}, (3, 4, 6)),
    (3, (1, 1, 2, 3, 4), (1, 1, 3, 3, 3), {"padding": (1, 0, 0)}, (1, 1, 2, 1, 2)),
]


@pytest.mark.parametrize(("rank", "x", "w", "args", "y"), VALID)
def test_output_shape(rank, x, w, args, y):
    spec, n, batched = conv_spec(x, F32, w, F32, w[:1], F32, rank=rank, **args)
    assert spec.y_shape(n) == y
    assert batched == (len(x) == rank + 2)
    assert spec.x_shape(n)[-len(x):] == x
    assert spec.weight_shape == w
    assert spec.rank == rank
    assert oracle.out_size(spec.size, spec.kernel, spec.stride, spec.padding, spec.dilation) == spec.out_size


def test_a_spec_is_canonical_hashable_and_frozen():
    one = conv_spec((2, 4, 8, 8), F32, (4, 4, 3, 1), F32, stride=1, padding=1, dilation=(1, 5), rank=2)[0]
    same = conv_spec((7, 4, 8, 8), F32.newbyteorder(), (4, 4, 3, 1), F32, stride=[1, np.int8(1)],
                     padding=((1, 1), (1, 1)), rank=2)[0]
    assert one == same
    assert hash(one) == hash(same)
    with pytest.raises(AttributeError):
        one.groups = 2
    assert one == ConvSpec(4, 4, (8, 8), (3, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, F32)
    backward = conv_spec(
        (2, 4, 8, 8), F32, (4, 4, 3, 1), F32, padding=1, rank=2, direction="weight_gradient"
    )[0]
    assert backward != one
    assert backward.direction == "weight_gradient"


def test_same_padding_puts_the_spare_element_at_the_end():
    for size, kernel, stride, dilation in product(range(1, 9), range(1, 6), range(1, 5), range(1, 4)):
        spec, _, _ = conv_spec(
            (1, size), F32, (1, 1, kernel), F32, None, None, stride, "same", dilation, rank=1
        )
        (lo, hi), = spec.padding
        assert spec.out_size == (-(-size // stride),)
        assert 0 <= hi - lo <= 1


def test_macs_counts_each_product_once():
    spec, _, _ = conv_spec((5, 4, 8, 9), F32, (6, 2, 3, 3), F32, groups=2, rank=2)
    assert spec.macs == 6 * 7 * 6 * 2 * 9
    assert (spec.c_in_per_group, spec.c_out_per_group) == (2, 3)


X, W = (2, 4, 8, 8), (6, 4, 3, 3)

# numbers are rows of the table of bad input in field/reliability.md 1d
INVALID = [
    # 1-3: not positive, negative
    (X, W, {"stride": 0}, "stride must be at least 1, got stride=0"),
    (X, W, {"stride": (1, 0)}, "stride must be at least 1, got stride=(1, 0)"),
    (X, W, {"stride": -1}, "stride must be at least 1, got stride=-1"),
    (X, W, {"dilation": 0}, "dilation must be at least 1, got dilation=0"),
    (X, W, {"dilation": (-1, 1)}, "dilation must be at least 1, got dilation=(-1, 1)"),
    (X, W, {"padding": -1}, "padding must not be negative, got padding=-1"),
    (X, W, {"padding": (0, (1, -1))}, "padding must not be negative, got padding=(0, (1, -1))"),
    # 4-7: groups and channels
    (X, W, {"groups": 0}, "groups must be at least 1, got groups=0"),
    (X, W, {"groups": -1}, "groups must be at least 1, got groups=-1"),
    (X, W, {"groups": 3}, "groups must divide the channels of x, got groups=3 and 4 channels"),
    (
        X,
        (6, 1, 3, 3),
        {"groups": 4},
        "groups must divide the output channels of weight, got groups=4 and 6 output channels",
    ),
    (
        X,
        (2, 1, 3, 3),
        {"groups": 4},
        "groups must divide the output channels of weight, got groups=4 and 2 output channels",
    ),
    (X, (6, 3, 3, 3), {}, "weight has 3 input channels per group but x has 4 channels and groups=1"),
    (X, (6, 5, 3, 3), {}, "weight has 5 input channels per group but x has 4 channels and groups=1"),
    (X, W, {"groups": 2}, "weight has 4 input channels per group but x has 4 channels and groups=2"),
    # 8: rank
    ((), W, {}, "x must have 4 axes (N, C, H, W) or 3 (C, H, W), got shape ()"),
    ((8, 8), W, {}, "x must have 4 axes (N, C, H, W) or 3 (C, H, W), got shape (8, 8)"),
    ((1, 2, 4, 8, 8), W, {}, "x must have 4 axes (N, C, H, W) or 3 (C, H, W), got shape (1, 2, 4, 8, 8)"),
    (X, (6,), {}, "weight must have 4 axes (c_out, c_in / groups, H, W), got weight.shape=(6,)"),
    (X, (6, 4, 3), {}, "weight must have 4 axes (c_out, c_in / groups, H, W), got weight.shape=(6, 4, 3)"),
    (
        X,
        (6, 4, 3, 3, 3),
        {},
        "weight must have 4 axes (c_out, c_in / groups, H, W), got weight.shape=(6, 4, 3, 3, 3)",
    ),
    # 9, 10, 28, 29: sizes
    (X, (6, 4, 9, 3), {}, "the kernel (9, 3) with dilation=(1, 1) is larger than the padded input (8, 8)"),
    (X, W, {"dilation": 4}, "the kernel (3, 3) with dilation=(4, 4) is larger than the padded input (8, 8)"),
    (
        X,
        (6, 4, 0, 3),
        {},
        "weight must have at least 1 element along each axis, got weight.shape=(6, 4, 0, 3)",
    ),
    (
        X,
        (0, 4, 3, 3),
        {},
        "weight must have at least 1 element along each axis, got weight.shape=(0, 4, 3, 3)",
    ),
    ((2, 0, 8, 8), (6, 0, 3, 3), {}, "x must have at least 1 channel, got shape (2, 0, 8, 8)"),
    (
        (2, 4, 0, 8),
        W,
        {"padding": 3},
        "x must have at least 1 element along each of its axes H, W, got shape (2, 4, 0, 8)",
    ),
    # 12, 13: tuples of the wrong length, unknown words
    (X, W, {"stride": ()}, "stride must be an integer or a tuple of 2 integers, got stride=()"),
    (X, W, {"stride": (1,)}, "stride must be an integer or a tuple of 2 integers, got stride=(1,)"),
    (
        X,
        W,
        {"dilation": (1, 1, 1)},
        "dilation must be an integer or a tuple of 2 integers, got dilation=(1, 1, 1)",
    ),
    (
        X,
        W,
        {"padding": (1, 1, 1)},
        "padding must be an integer or a tuple of 2 integers or (lo, hi) pairs, got padding=(1, 1, 1)",
    ),
    (
        X,
        W,
        {"padding": ((1, 1), (1,))},
        "padding must give each axis an integer or a (lo, hi) pair, got padding=((1, 1), (1,))",
    ),
    (X, W, {"padding": "full"}, "padding must be integers, 'valid' or 'same', got padding='full'"),
    # 15-18: huge
    (
        X,
        W,
        {"stride": 2**70},
        "stride must be at most 9223372036854775807, got stride=1180591620717411303424",
    ),
    (
        X,
        W,
        {"stride": 10**5000},
        "stride must be at most 9223372036854775807, got stride=an integer of thousands of digits",
    ),
    (
        X,
        W,
        {"dilation": 2**62},
        "the kernel (3, 3) with dilation=(4611686018427387904, 4611686018427387904) is larger "
        "than the padded input (8, 8)",
    ),
    (
        X,
        W,
        {"dilation": 2**62 + 1},
        "the kernel (3, 3) with dilation=(4611686018427387905, 4611686018427387905) is "
        "larger than the padded input (8, 8)",
    ),
    (
        X,
        W,
        {"padding": 2**24},
        "the padded input would have shape (4, 33554440, 33554440) and take 18014407099417600 "
        "bytes, more than the limit of 140737488355328",
    ),
    (
        X,
        W,
        {"padding": 2**31 + 1, "stride": 2**31},
        "the padded input would have shape (4, 4294967306, 4294967306) and "
        "take 295147906553742362176 bytes, more than the limit of 140737488355328",
    ),
]


@pytest.mark.parametrize(("x", "w", "args", "message"), INVALID)
def test_refused_geometry(x, w, args, message):
    with pytest.raises(ShapeError) as error:
        conv_spec(x, F32, w, F32, rank=2, **args)
    assert str(error.value) == message


# 14: not integers
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups"])
@pytest.mark.parametrize(
    "bad", [1.5, 1.0, float("nan"), True, None, np.float32(1), np.True_, b"1", object, 1j]
)
def test_only_integers_are_integers(name, bad):
    with pytest.raises(DtypeError, match=rf"^{name} must be an integer( or a tuple of 2 integers.*)?, got {name}="):
        conv_spec(X, F32, W, F32, rank=2, **{name: bad})
    if name != "groups":
        conv_spec(X, F32, W, F32, rank=2, **{name: (1, 1)})  # in the cache: True == 1 == 1.0 must not find it
        with pytest.raises(DtypeError, match=f"^{name} must be made of integers, got {name}="):
            conv_spec(X, F32, W, F32, rank=2, **{name: (1, bad)})


@pytest.mark.parametrize(
    ("name", "error"),
    [("stride", DtypeError), ("dilation", DtypeError), ("groups", DtypeError), ("padding", ShapeError)],
)
def test_a_string_is_no_integer(name, error):
    with pytest.raises(error, match=f"^{name} must be"):
        conv_spec(X, F32, W, F32, rank=2, **{name: "2"})


# 11: bias
@pytest.mark.parametrize("shape", [(), (5,), (4,), (1,), (6, 1), (0,)])
def test_bias_is_one_number_for_each_output_channel(shape):
    with pytest.raises(ShapeError) as error:
        conv_spec(X, F32, W, F32, shape, F32, rank=2)
    assert str(error.value) == f"bias must have shape (6,) (one per output channel), got bias.shape={shape}"


# 19, 20: dtypes
def test_dtypes_must_agree():
    with pytest.raises(DtypeError) as error:
        conv_spec(X, F64, W, F32, rank=2)
    assert str(error.value) == ("x is float64 but weight is float32; both must be the same, convert one with "
                                "x.astype(np.float32)")  # a layer's weight is no array that could be converted
    with pytest.raises(DtypeError, match="^bias is float32 but x is float64"):
        conv_spec(X, F64, W, F64, (6,), F32, rank=2)


@pytest.mark.parametrize(
    "dtype", ["g", "c8", "i4", "u1", "?", "O", "S3", "U2", "M8[s]", "V4", [("a", "f4")]]
)
def test_only_half_single_and_double_precision(dtype):
    dtype = np.dtype(dtype)
    for name in ("x", "weight", "bias"):
        dtypes = {"x": F32, "weight": F32, "bias": F32, name: dtype}
        with pytest.raises(DtypeError, match=rf"^{name} must be float16, float32 or float64, got {name}\.dtype="):
            conv_spec(X, dtypes["x"], W, dtypes["weight"], (6,), dtypes["bias"], rank=2)


@pytest.mark.parametrize("bad", [None, [[1.0]], 1.0, "x", np.float32(1), memoryview(b"1"), range(3)])
def test_only_numpy_arrays_are_arrays(bad):
    x, w = np.ones(X, F32), np.ones(W, F32)
    for name, args in (("x", (bad, w)), ("weight", (x, bad)), ("bias", (x, w, bad))):
        if (name, bad) == ("bias", None):
            continue
        with pytest.raises(
            DtypeError, match=f"^{name} must be a NumPy array, got {type(bad).__name__}; convert it"
        ):
            functional.conv2d(*args)


def test_a_masked_array_is_refused_and_a_memmap_is_not(tmp_path):
    w = np.ones(W, F32)
    with pytest.raises(DtypeError, match="whose mask would be ignored"):
        functional.conv2d(np.ma.masked_array(np.ones(X, F32)), w)
    mapped = np.memmap(tmp_path / "x", F32, "w+", shape=X)
    assert functional.conv2d(mapped, w).shape == (2, 6, 6, 6)


# 49: gradients
def test_the_backward_pass_checks_dy_and_needs():
    x, w, dy = np.ones(X, F32), np.ones(W, F32), np.ones((2, 6, 6, 6), F32)
    cases = [
        (
            (dy[:1], x, w),
            {},
            "dy must have shape (2, 6, 6, 6) (that of the output), got dy.shape=(1, 6, 6, 6)",
        ),
        ((dy[0], x, w), {}, "dy must have shape (2, 6, 6, 6) (that of the output), got dy.shape=(6, 6, 6)"),
        ((dy, x[0], w), {}, "dy must have shape (6, 6, 6) (that of the output), got dy.shape=(2, 6, 6, 6)"),
        ((dy, x, w), {"needs": (True,)}, "needs must have 3 entries, got needs=(True,)"),
        ((dy, x, w[:, :3]), {}, "weight has 3 input channels per group but x has 4 channels and groups=1"),
    ]
    for args, options, message in cases:
        with pytest.raises(ShapeError) as error:
            functional.conv2d_backward(*args, **options)
        assert str(error.value) == message
    for options in ({"needs": True}, {"needs": (1, 1, 1)}):
        with pytest.raises(DtypeError, match="^needs must be"):
            functional.conv2d_backward(dy, x, w, **options)
    with pytest.raises(DtypeError, match="^dy is float64 but x is float32"):
        functional.conv2d_backward(dy.astype(F64), x, w)


def test_out_must_take_the_result():
    x, w = np.ones(X, F32), np.ones(W, F32)
    read_only = np.empty((2, 6, 6, 6), F32)
    read_only.flags.writeable = False
    for out, error, message in [
        (
            np.empty((2, 6, 6, 5), F32),
            ShapeError,
            "out must have shape (2, 6, 6, 6) (that of the result), got out.shape=(2, 6, 6, 5)",
        ),
        (np.empty((2, 6, 6, 6)), DtypeError, "out must be float32, as the result is, got out.dtype=float64"),
        (read_only, ShapeError, "out must be writeable, got a read-only array"),
        ([1.0], DtypeError, "out must be a NumPy array, got list; convert it with np.asarray"),
    ]:
        with pytest.raises(error) as raised:
            functional.conv2d(x, w, out=out)
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("mode", "padding", "message"),
    [
        (
            "reflect",
            8,
            "padding must be less than the input with padding_mode='reflect', got padding=((8, 8), (8, 8)) "
            "for size (8, 8)",
        ),
        (
            "circular",
            (0, (0, 9)),
            "padding must be at most the input with padding_mode='circular', got padding="
            "((0, 0), (0, 9)) for size (8, 8)",
        ),
        (
            "mirror",
            1,
            "padding_mode must be one of zeros, reflect, replicate, circular, got padding_mode='mirror'",
        ),
        (None, 1, "padding_mode must be one of zeros, reflect, replicate, circular, got padding_mode=None"),
    ],
)
def test_padding_modes(mode, padding, message):
    with pytest.raises(ShapeError) as error:
        functional.conv2d(np.ones(X, F32), np.ones(W, F32), padding=padding, padding_mode=mode)
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
SIZES = st.integers(0, 7)


@settings(max_examples=400, deadline=None)
@given(rank=st.integers(1, 3), x=st.lists(SIZES, max_size=6), w=st.lists(SIZES, max_size=6), stride=ARGUMENT,
       padding=ARGUMENT, dilation=ARGUMENT, groups=st.one_of(st.just(1), ARGUMENT))
def test_any_call_ends_in_a_possible_geometry_or_in_an_error(rank, x, w, stride, padding, dilation, groups):
    try:
        spec, n, _ = conv_spec(
            tuple(x), F32, tuple(w), F32, None, None, stride, padding, dilation, groups, rank=rank
        )
    except (ShapeError, DtypeError):
        return
    assert_possible(spec)
    assert n >= 0


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rank=st.integers(1, 3))
def test_ordinary_calls_are_accepted_exactly_when_a_window_fits(data, rank):
    def per_axis(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank).map(tuple))

    size, kernel, stride, dilation = per_axis(1, 9), per_axis(1, 5), per_axis(1, 4), per_axis(1, 3)
    pads = tuple(zip(per_axis(0, 3), per_axis(0, 3), strict=True))
    groups = data.draw(st.integers(1, 3))
    args = (size, kernel, stride, pads, dilation)
    fits = min(oracle.out_size(*args)) >= 1
    try:
        spec, _, _ = conv_spec(
            (1, 2 * groups, *size),
            F64,
            (3 * groups, 2, *kernel),
            F64,
            None,
            None,
            stride,
            pads,
            dilation,
            groups,
            rank=rank,
        )
    except ShapeError:
        assert not fits
    else:
        assert fits
        assert spec.out_size == oracle.out_size(*args)
        assert_possible(spec)


def assert_possible(spec):
    assert (
        min(spec.c_in, spec.c_out, spec.groups, *spec.size, *spec.kernel, *spec.stride, *spec.dilation) >= 1
    )
    assert spec.c_in % spec.groups == spec.c_out % spec.groups == 0
    assert min(spec.out_size) >= 1
    for n, k, s, (lo, hi), d, p in zip(
        spec.size, spec.kernel, spec.stride, spec.padding, spec.dilation, spec.out_size, strict=True
    ):
        assert 0 <= (p - 1) * s + (k - 1) * d < n + lo + hi <= (p - 1) * s + (k - 1) * d + s
        assert all(type(v) is int and 0 <= v < 2**47 for v in (n, k, s, lo, hi, d, p))
