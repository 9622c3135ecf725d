"""float16: stored as such, computed in float32, rounded once; everywhere."""

import warnings

import fuzz
import numpy as np
import pytest
from dense import every_isa, pytestmark  # noqa: F401
from guards import guarded, guarded_empty

import convkit
import convkit.functional as F
from convkit import DtypeError, nn, optim, reference
from convkit.kernels import native
from convkit.verification import same_bits

if native.available:
    from convkit.kernels import elementwise

HALF = np.float16
EVERY = np.arange(2**16, dtype=np.uint16).view(HALF)


def _numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(HALF)


def _wide(a):
    return a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == HALF else a


@np.errstate(over="ignore")
def _rounded(result):
    """What float32 gave, as float16."""
    if isinstance(result, tuple):
        return tuple(map(_rounded, result))
    is_float = isinstance(result, (np.ndarray, np.generic)) and result.dtype == np.float32
    return result.astype(HALF) if is_float else result


# ---- the kernels


@every_isa
def test_every_number_is_widened_exactly(isa):
    y = np.empty(EVERY.size, np.float32)
    elementwise.widen(isa, EVERY, y, 1)
    with np.errstate(invalid="ignore"):
        want = EVERY.astype(np.float32)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(want))


@every_isa
def test_every_number_is_rounded_to_the_nearest_even(isa):
    """Each float16, what lies half way to the next one, and the float32 on either side of both."""
    exact = np.sort(EVERY[np.isfinite(EVERY)].astype(np.float32))
    half_way = (exact[:-1] + exact[1:]) / 2
    points = np.concatenate([exact, half_way])
    x = np.concatenate([points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf)),
                        np.float32([np.inf, -np.inf, np.nan, 3e38, -3e38, 65519.996, 65520, 1e-45, -1e-45])])
    y = np.empty(x.size, HALF)
    elementwise.narrow(isa, x, y, 1)
    with np.errstate(over="ignore"):
        want = x.astype(HALF)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(want))


@every_isa
@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_past_the_last_element(isa, at_end):
    for n in range(1, 40):
        half = _numbers(n)
        wide = half.astype(np.float32)
        y, z = (guarded_empty(n, a.dtype, at_end=at_end) for a in (wide, half))
        elementwise.widen(isa, guarded(half, at_end=at_end), y, 1)
        elementwise.narrow(isa, guarded(wide, at_end=at_end), z, 1)
        np.testing.assert_array_equal(y, wide)
        np.testing.assert_array_equal(z, half)


def test_threads_share_a_large_array():
    x = _numbers(300_001)
    with convkit.threads(1):
        one = F.relu(x)
    with convkit.threads(3):
        assert same_bits(F.relu(x), one)


# ---- every operation


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_the_result_is_that_of_float32_rounded_once(name):
    for seed in range(3):
        draw = fuzz.Draw([seed, 5], np.dtype(HALF))
        draw.large = False
        call = fuzz.OPERATIONS[name].draw(draw)
        args = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in call.args)
        wide = tuple(_wide(a) for a in args)
        got, want = getattr(F, name)(*args, **call.options), getattr(F, name)(*wide, **call.options)
        assert same_bits(got, _rounded(want))
        assert same_bits(args, _rounded(wide)), "what is written in place"


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_the_twin_is_that_of_float64_rounded_once(name):
    draw = fuzz.Draw([1, 5], np.dtype(HALF))
    draw.large = False
    call = fuzz.OPERATIONS[name].draw(draw)
    args = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in call.args)
    wide = tuple(a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == HALF else a for a in args)
    got, want = fuzz.outputs(reference, name, args, call.options), fuzz.outputs(reference, name, wide, call.options)
    for one, right in zip(got, want, strict=True):
        if right is not None and np.asarray(right).dtype == np.float64:
            with np.errstate(over="ignore"):
                right = np.asarray(right).astype(HALF)
        np.testing.assert_array_equal(one, right)
        assert one is None or np.asarray(one).dtype == np.asarray(right).dtype


def test_dropout():
    x = _numbers(4, 3, 5, 5)
    for function, backward in ((F.dropout, F.dropout_backward), (F.dropout2d, F.dropout2d_backward)):
        y, mask = function(x, 0.3, rng=np.random.default_rng(0))
        wide, same = function(_wide(x), 0.3, rng=np.random.default_rng(0))
        assert same_bits((y, mask), (_rounded(wide), same))
        assert same_bits(backward(x, mask, 0.3), y)
        assert same_bits(function(x, training=False, rng=np.random.default_rng(0))[0], x)


def test_padding_by_copies_is_added_up_in_float32():
    x, w = _numbers(1, 2, 5, 6), _numbers(3, 2, 3, 3, seed=1)
    dy = _numbers(1, 3, 5, 6, seed=2)
    for mode in ("reflect", "replicate", "circular"):
        got = F.conv2d_backward(dy, x, w, padding=1, padding_mode=mode)
        assert same_bits(got, _rounded(F.conv2d_backward(_wide(dy), _wide(x), _wide(w), padding=1, padding_mode=mode)))
        wide = F.pad_backward(_wide(dy), (1, 1, 1, 1), mode)
        assert same_bits(F.pad_backward(dy, (1, 1, 1, 1), mode), _rounded(wide))


def test_too_large_is_infinite_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = np.full((1, 4, 3, 3), 60000, HALF)
        assert np.isposinf(F.conv2d(x, np.ones((1, 4, 3, 3), HALF))).all()
        assert np.isposinf(F.mse_loss(x, -x, reduction="sum"))
        assert np.isposinf(F.pad(x, (1, 1), value=1e6)[..., 0]).all()
        with convkit.use(algorithm="reference"):
            assert np.isposinf(F.conv2d(x, np.ones((1, 4, 3, 3), HALF))).all()


def test_a_sum_larger_than_float16_may_come_back():
    """60000 + 60000 - 60000: only what is returned has to fit."""
    x = np.array([60000, 60000, -60000], HALF).reshape(1, 1, 3)
    assert F.conv1d(x, np.ones((1, 1, 3), HALF)).item() == 60000
    assert F.mse_loss(x, np.zeros_like(x), reduction="mean") == np.inf
    assert F.avg_pool1d(x, 3).item() == 20000


@pytest.mark.parametrize("layout", [lambda a: a, lambda a: np.repeat(a, 2, -1)[..., ::2], np.asfortranarray], ids=str)
def test_out(layout):
    x, w = _numbers(2, 3, 6, 6), _numbers(4, 3, 3, 3)
    out = layout(np.zeros((2, 4, 4, 4), HALF))
    assert F.conv2d(x, w, out=out) is out
    assert same_bits(np.ascontiguousarray(out), F.conv2d(x, w))


def test_no_other_dtype_beside_it():
    x, w = _numbers(1, 2, 5, 5), _numbers(3, 2, 3, 3)
    with pytest.raises(DtypeError, match=r"^x is float16 but weight is float32; both must be the same, convert one with "
                                         r"x.astype\(np.float32\)$"):
        F.conv2d(x, _wide(w))
    with pytest.raises(DtypeError, match="^x is float32 but weight is float16"):
        F.conv2d(_wide(x), w)
    with pytest.raises(DtypeError, match="^out must be float16, as the result is"):
        F.conv2d(x, w, out=np.zeros((1, 3, 3, 3), np.float32))
    with pytest.raises(DtypeError, match="^running_mean is float32 but x is float16"):
        F.batch_norm(x, np.zeros(2, np.float32), np.ones(2, np.float32))


# ---- layers


def _net():
    rng, half = np.random.default_rng(0), {"dtype": HALF}
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, rng=rng, **half), nn.BatchNorm2d(8, **half), nn.PReLU(8, **half), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", rng=rng, **half), nn.GroupNorm(2, 8, **half), nn.GELU(),
        nn.AdaptiveAvgPool2d(2), nn.Dropout(0.1, rng=rng), nn.Flatten(), nn.Linear(32, 4, rng=rng, **half))


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.05, momentum=0.9), lambda p: optim.Adam(p, lr=0.01),
                                  lambda p: optim.AdamW(p, lr=0.01)], ids=["SGD", "Adam", "AdamW"])
def test_a_network_of_float16_learns(make):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 256)
    x = (rng.standard_normal((256, 1, 8, 8)) * 0.3 + np.kron(np.eye(4), np.ones((1, 16)))[y].reshape(-1, 1, 8, 8))
    model = _net()
    history = convkit.fit(model, nn.CrossEntropyLoss(), make(model.parameters()), x.astype(HALF), y, epochs=4,
                          batch_size=32, progress=False, rng=np.random.default_rng(0))
    assert history.loss[-1] < 0.2
    assert all(a.dtype in (HALF, np.int64) for a in model.state_dict().values())
    assert all(p.grad.dtype == HALF for p in model.parameters())


def test_adam_divides_by_no_zero():
    """eps is 0 in float16, but the state is float32."""
    p = nn.Parameter(np.ones(3, HALF))
    p.grad = np.array([0, 1e-4, 1], HALF)
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    np.testing.assert_allclose(p.data, [1, 0.9, 0.9], rtol=1e-3)
    other = optim.Adam([p], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    assert all(a.dtype == np.float32 for name, a in other.state_dict().items() if "exp_avg" in name)


def test_weights_of_either_precision_load_into_the_other(tmp_path):
    model, wide = nn.Linear(3, 2, dtype=HALF), nn.Linear(3, 2)
    convkit.save(tmp_path / "half.safetensors", model.state_dict())
    state = convkit.load(tmp_path / "half.safetensors")
    assert state["weight"].dtype == HALF
    wide.load_state_dict(state)
    assert wide.weight.dtype == np.float32 and np.array_equal(wide.weight.data, model.weight.data)
    model.load_state_dict(wide.state_dict())
    assert model.weight.dtype == HALF


def test_a_packed_weight_follows_its_parameter():
    layer, x = nn.Conv2d(3, 8, 3, rng=np.random.default_rng(0), dtype=HALF), _numbers(1, 3, 9, 9)
    assert same_bits(layer(x), layer(x))
    layer.weight.data *= 2
    assert same_bits(layer(x), F.conv2d(x, layer.weight.data, layer.bias.data))


def test_embedding_starts_like_that_of_float32():
    half, wide = (nn.Embedding(5, 4, rng=np.random.default_rng(0), dtype=d) for d in (HALF, np.float32))
    assert same_bits(half(np.arange(5)), wide(np.arange(5)).astype(HALF))


def test_explain_says_what_computes():
    assert str(convkit.explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3), dtype=HALF)).startswith(
        "conv2d, float16 computed in float32")
    assert "float32" in str(convkit.explain("relu", _numbers(3)))
