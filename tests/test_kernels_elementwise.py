"""csrc/elementwise: every kernel at every level and dtype against its definition in extended precision."""

import numpy as np
import pytest
from dense import LENGTHS, Wide, every_dtype, every_isa, pytestmark, same_bits, worst  # noqa: F401

import convkit
import convkit.functional as F
from convkit.kernels import native

if native.available:
    from convkit.kernels.elementwise import KERNELS, Elementwise

SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0)


def _apply(name, isa, x, **operands):
    y = np.full(x.size + 2, np.nan, x.dtype)  # the neighbours show a store past the end
    Elementwise(name, isa, x.itemsize, operands.pop("scale", 1.0))(x, y[1:-1], 1, **operands)
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
    assert set(KERNELS) == {"relu", "relu_backward", "dropout", "exp", "log"}


@every_isa
@every_dtype
@pytest.mark.parametrize("n", LENGTHS)
def test_exact_kernels(isa, dtype, n):
    rng = np.random.default_rng(n)
    x, other, mask = _values(rng, n, dtype), _values(rng, n, dtype), rng.random(n) < 0.5
    np.testing.assert_array_equal(_apply("relu", isa, x), np.where(x <= 0, 0, x))
    np.testing.assert_array_equal(_apply("relu_backward", isa, x, other=other), np.where(other <= 0, 0, x))
    got = _apply("dropout", isa, x, mask=mask, scale=1.25)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, np.where(mask, x * dtype(1.25), 0))
    assert not np.signbit(_apply("relu", isa, np.full(n, -0.0, dtype))).any()


def _ulps(got, want):
    """Errors in units of the last place of the exact result."""
    info = np.finfo(got.dtype)
    with np.errstate(divide="ignore"):
        exponent = np.maximum(np.floor(np.log2(np.abs(want))), info.minexp)
    return np.abs(got.astype(Wide) - want) / np.ldexp(Wide(1), (exponent - info.nmant).astype(int))


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
