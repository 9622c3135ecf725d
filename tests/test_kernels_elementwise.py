"""csrc/elementwise: every kernel at every level and dtype against its definition in extended precision."""

from functools import cache

import numpy as np
import pytest
from dense import LENGTHS, Wide, every_dtype, every_isa, pytestmark, same_bits, worst  # noqa: F401

import convkit
import convkit.functional as F
from convkit.kernels import native
from convkit.reference.dropout import kept
from convkit.spec.activation import ACTIVATIONS
from convkit.spec.dropout import DropoutSpec

if native.available:
    from convkit.kernels.elementwise import KERNELS, Elementwise, keep

SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0)


def _apply(name, isa, x, *parameters, **operands):
    y = np.full(x.size + 2, np.nan, x.dtype)  # the neighbours show a store past the end
    Elementwise(name, isa, x.itemsize, *parameters)(x, y[1:-1], 1, **operands)
    assert np.isnan(y[[0, -1]]).all()
    return y[1:-1]


def _values(rng, n, dtype):
    """Mixed signs, with every special value somewhere."""
    x = rng.standard_normal(n).astype(dtype)
    special = np.array([*SPECIAL, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)
    at = rng.permutation(n)[: len(special)]
    x[at] = special[: len(at)]
    return x


def test_the_registry_is_covered():
    activations = {*ACTIVATIONS, "gelu_tanh"}
    backward = {f"{name}_backward" for name in activations}
    assert set(KERNELS) == activations | backward | {"add", "dropout", "exp", "log"}


@every_isa
@every_dtype
@pytest.mark.parametrize("n", LENGTHS)
def test_exact_kernels(isa, dtype, n):
    rng = np.random.default_rng(n)
    x, other, mask = _values(rng, n, dtype), _values(rng, n, dtype), rng.random(n) < 0.5
    np.testing.assert_array_equal(_apply("relu", isa, x), np.where(x <= 0, 0, x))
    np.testing.assert_array_equal(_apply("relu_backward", isa, x, other=other), np.where(other <= 0, 0, x))
    np.testing.assert_array_equal(_apply("relu6", isa, x), np.clip(x, 0, 6))
    got, dropped = _apply("relu6_backward", isa, x, other=other), (other <= 0) | (other >= 6)
    np.testing.assert_array_equal(got, np.where(dropped, 0, x))
    got = _apply("dropout", isa, x, 1.25, mask=mask)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(_apply("add", isa, x, other=other), x + other)
        np.testing.assert_array_equal(got, np.where(mask, x * dtype(1.25), 0))
    assert not np.signbit(_apply("relu", isa, np.full(n, -0.0, dtype))).any()


def _ulps(got, want):
    """Errors in units of the last place of the exact result."""
    return np.abs(got.astype(Wide) - want) / _ulp(want, np.finfo(got.dtype))


PI = Wide("3.14159265358979323846264338327950288")
SELU_SCALE, SELU_ALPHA = Wide("1.0507009873554804934193349852946"), Wide("1.6732632423543772848170429916717")


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _normal(x):
    """The normal distribution: its series near 0, and the continued fraction of its tail."""
    t = np.minimum(np.abs(x), 60)
    near = np.minimum(t, 3)
    term = series = near
    for k in range(1, 120):
        term = term * near * near / (2 * k + 1)
        series = series + term
    fraction = far = np.maximum(t, 3)
    for k in range(300, 0, -1):
        fraction = far + k / fraction
    density = np.exp(-t * t / 2) / np.sqrt(2 * PI)
    tail = np.where(t < 3, Wide(0.5) - density * series, density / fraction)
    return np.where(x < 0, tail, 1 - tail)


def _elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _mish(x):
    e = np.exp(-np.abs(x))
    top = np.where(x < 0, e * (e + 2), 1 + 2 * e)
    return x * top / (top + np.where(x < 0, 2, 2 * e * e))


def _gelu_tanh(x):
    c = np.clip(x, -30, 30)
    return x * _sigmoid(2 * np.sqrt(2 / PI) * (c + Wide("0.044715") * c**3))


# name: (value in extended precision, ulps, parameters). The bounds are those of csrc/elementwise/README.md.
CURVES = {
    "sigmoid": (_sigmoid, 2.5, ()),
    "silu": (lambda x: x * _sigmoid(x), 3.5, ()),
    "mish": (_mish, 4.5, ()),
    "tanh": (np.tanh, 3.2, ()),
    "softplus": (lambda x: np.where(x > 20, x, np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))), 2, (1.0, 20.0)),
    "elu": (_elu, 1.2, (1.0,)),
    "selu": (lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))), 3.5, ()),
    "gelu": (lambda x: x * _normal(x), 7, ()),
    "hardsigmoid": (lambda x: np.clip(x + 3, 0, 6) / 6, 1, ()),
    "hardswish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, 2, ()),
}


@cache
def _everywhere(dtype):
    """Inputs between the last that gives a denormal and 30, around 0, and down to the smallest numbers."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low = np.log(info.smallest_subnormal) - 2
    tiny = np.exp2(rng.uniform(info.minexp - info.nmant, 0, 6000).astype(Wide)) * rng.choice([-1, 1], 6000)
    parts = (rng.uniform(low, 30, 20000), rng.uniform(-6, 6, 20000), rng.uniform(-1, 1, 10000), tiny)
    return np.concatenate(parts).astype(dtype)


@cache
def _exactly(name, dtype):
    return CURVES[name][0](_everywhere(dtype).astype(Wide))


@every_isa
@every_dtype
@pytest.mark.parametrize("name", CURVES)
def test_activations_over_the_whole_range(isa, dtype, name):
    """Within some ulps; where the exponential itself is denormal, within one of those, times x."""
    _, ulps, parameters = CURVES[name]
    x, info = _everywhere(dtype), np.finfo(dtype)
    want, got = _exactly(name, dtype), _apply(name, isa, x, *parameters)
    error = np.abs(got.astype(Wide) - want)
    unit = _ulp(want, info) * ulps + info.smallest_subnormal * (np.abs(x) + 1)
    assert (error <= unit).all(), x[np.argmax(error / unit)]


@every_isa
@every_dtype
def test_tanh_never_passes_1_and_keeps_signs(isa, dtype):
    x = np.linspace(0, 22, 1_000_001, dtype=dtype)
    y = _apply("tanh", isa, x)
    assert y.max() == 1
    assert y[0] == 0
    np.testing.assert_array_equal(_apply("tanh", isa, -x), -y)
    assert np.signbit(_apply("tanh", isa, -x)).all()


@every_isa
@every_dtype
def test_gelu_by_tanh_over_the_whole_range(isa, dtype):
    """Its exponent is computed from x, and an exponential magnifies what rounding took from that."""
    x, info = _everywhere(dtype), np.finfo(dtype)
    want, got = _gelu_tanh(x.astype(Wide)), _apply("gelu_tanh", isa, x)
    c = np.clip(x, -30, 30)
    unit = _ulp(want, info) * (4 + 4 * np.abs(c + 0.0447 * c**3)) + info.smallest_subnormal * 300
    assert (np.abs(got.astype(Wide) - want) <= unit).all()


@every_isa
@every_dtype
@pytest.mark.parametrize("name", [*CURVES, "gelu_tanh", "leaky_relu", "relu6"])
def test_activations_of_special_values(isa, dtype, name):
    info = np.finfo(dtype)
    x = np.array([0, -0.0, info.smallest_subnormal, np.inf, info.max, -info.max, -np.inf, np.nan], dtype)
    parameters = CURVES[name][2] if name in CURVES else (0.01,) if name == "leaky_relu" else ()
    got = _apply(name, isa, x, *parameters)
    half, one = dtype(info.smallest_subnormal / 2), info.smallest_subnormal
    at = {"sigmoid": (0.5, 1, 0), "hardsigmoid": (0.5, 1, 0), "tanh": (0, 1, -1), "relu6": (0, 6, 0),
          "softplus": (np.log(2), np.inf, 0), "elu": (0, np.inf, -1), "selu": (0, np.inf, -SELU_SCALE * SELU_ALPHA),
          "leaky_relu": (0, np.inf, -np.inf)}.get(name, (0, np.inf, np.nan))
    zero, top, bottom = (dtype(v) for v in at)
    np.testing.assert_allclose(got[:2], [zero] * 2, rtol=2 * info.eps, atol=0)
    assert abs(got[2] - zero) <= max(2 * info.eps * zero, 2 * one), half
    np.testing.assert_array_equal(got[3], top)
    np.testing.assert_allclose(got[6:], [bottom, np.nan], rtol=2 * info.eps, atol=0)
    assert got[4] >= 1 or name == "relu6"
    assert not np.isnan(got[5])


@every_isa
@every_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_slope_of_nothing_stops_any_gradient(isa, dtype, name):
    """Where an activation is a constant by its definition, an infinite or NaN gradient does not pass."""
    flat = {"relu": (-1,), "relu6": (-1, 7), "hardsigmoid": (-4, 4), "hardswish": (-4,)}.get(name, ())
    for at in flat:
        x, dy = np.full(9, at, dtype), np.array([np.nan, np.inf, 1] * 3, dtype)
        other = np.maximum(x, 0) if name == "relu" else x
        np.testing.assert_array_equal(_apply(f"{name}_backward", isa, dy, other=other), np.zeros(9))


def _ulp(want, info):
    """The unit in the last place of each exact result."""
    with np.errstate(divide="ignore"):
        exponent = np.maximum(np.floor(np.log2(np.abs(want))), info.minexp)
    return np.ldexp(Wide(1), (exponent - info.nmant).astype(int))


@every_isa
@every_dtype
def test_exp_over_the_whole_range(isa, dtype):
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low, high = np.log(Wide(info.smallest_subnormal)) - 2, np.log(Wide(info.max))
    x = np.concatenate(
        [
            rng.uniform(low, high, 60000),
            rng.uniform(-1, 1, 20000),
            rng.uniform(-1e-3, 1e-3, 5000),
            np.linspace(low, low + 30, 5000),
            np.linspace(high - 1, high + 1, 5000),
        ]
    ).astype(dtype)
    want = np.exp(x.astype(Wide))
    got = _apply("exp", isa, x)
    fits = want < Wide(info.max) * (1 + info.eps / 4)
    assert np.isposinf(got[~fits]).all()
    assert _ulps(got[fits], want[fits]).max() <= 1.1


@every_isa
@every_dtype
def test_log_over_the_whole_range(isa, dtype):
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    low, high = np.log(Wide(info.smallest_subnormal)), np.log(Wide(info.max))
    x = np.concatenate(
        [
            np.exp(rng.uniform(low, high, 60000).astype(Wide)),
            rng.uniform(0.5, 2, 20000),
            1 + rng.uniform(-1e-4, 1e-4, 5000),
            rng.uniform(0, info.tiny, 5000),
        ]
    ).astype(dtype)
    x = x[(x > 0) & (x != 1)]
    assert _ulps(_apply("log", isa, x), np.log(x.astype(Wide))).max() <= 1.1


@every_isa
@every_dtype
def test_exp_and_log_of_special_values(isa, dtype):
    info = np.finfo(dtype)
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.smallest_subnormal], dtype)
    np.testing.assert_array_equal(
        _apply("exp", isa, x), np.array([1, 1, np.inf, 0, np.nan, np.inf, 0, 1], dtype)
    )
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, -info.smallest_subnormal], dtype)
    want = np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, 0, np.nan, np.nan], dtype)
    np.testing.assert_array_equal(_apply("log", isa, x), want)


@every_dtype
def test_same_bits_at_any_thread_count_and_layout(dtype):
    rng = np.random.default_rng(1)
    shape = (3, 5, 117, 121)  # above the size that stays on one thread
    x, dy, mask = (
        rng.standard_normal(shape).astype(dtype),
        rng.standard_normal(shape).astype(dtype),
        rng.random(shape) < 0.5,
    )
    same_bits(lambda x: (F.relu(x),), x)
    same_bits(lambda dy, y: (F.relu_backward(dy, y),), dy, x)
    same_bits(lambda dy: (F.dropout_backward(dy, mask, 0.3),), dy)


@every_isa
@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 65, 1000, 32768, 300_001])
def test_a_mask_is_the_twins_at_any_thread_count(isa, count):
    for p, key in ((0.3, 0x0123456789ABCDEF), (0.5, 2**64 - 1), (1e-9, 7), (0.0, 5), (1.0, 5)):
        spec = DropoutSpec(p, np.dtype(np.float32))
        want = kept(spec, key, count)
        for threads in (1, 2, 3):
            got = np.full(count + 2, 7, np.uint8)  # the neighbours show a store past the end
            keep(isa, key, spec.limit, got[1:-1].view(bool), threads)
            np.testing.assert_array_equal(got, [7, *want, 7])


def test_dropout_draws_what_the_twin_draws():
    x = np.random.default_rng(2).standard_normal((7, 33)).astype(np.float32)
    y, mask = F.dropout(x, 0.3, rng=np.random.default_rng(3))
    want, want_mask = convkit.reference.dropout(x, 0.3, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(mask, want_mask)
    assert worst(y, want.astype(Wide), np.abs(want)) <= 1.5
    np.testing.assert_array_equal(F.dropout_backward(y, mask, 1.0), np.zeros_like(y))


def test_empty_and_scalar_arrays():
    assert F.relu(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert F.relu(np.array(-2.0)).shape == ()
    assert F.relu(np.array(2.5)) == 2.5
