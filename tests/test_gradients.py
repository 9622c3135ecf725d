"""Backward against forward at every level: the adjoint identity, exact on small integers, for all that is linear, and
directional derivatives in float64 for the rest. (``test_reference_gradients`` differentiates element by element.)
"""

import fuzz
import numpy as np
import pytest
from fuzz_calls import convolution

import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.plan import common
from convkit.plan.common import AlgorithmRefused
from convkit.settings import ALGORITHMS

pytestmark = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))
DTYPES = (np.float32, np.float64)


def whole(rng, shape, dtype):
    a = rng.integers(-4, 5, shape).astype(dtype)
    assert a.size < 16 or len(np.unique(a)) > 2
    return a


def dot(a, b):
    return (a.astype(np.float64) * b.astype(np.float64)).sum()


def integer_draws(kind, count):
    """Draws of the fuzzer whose numbers are small integers."""
    for i in range(count):
        draw = fuzz.Draw([31, i], np.dtype(DTYPES[i % 2]))
        draw.integers, draw.large = True, False
        yield draw, kind(draw)


def wild(draw):
    return convolution(draw, 2)


def test_convolution_is_adjoint_in_all_three_operands(isa):
    """<conv(x, w), dy> == <x, dx> == <w, dw>, and <conv(0, w) + b, dy> == <b, db>."""
    with convkit.use(isa=isa, precision="strict"):  # Winograd's tiles are not exact
        for draw, (x, w, options) in [*integer_draws(wild, 20),
                                      *integer_draws(fuzz.verification._convolution, 20)]:
            y = F.conv2d(x, w, **options)
            dy, bias = draw.numbers(*y.shape), draw.numbers(len(w))
            dx, dw, db = F.conv2d_backward(dy, x, w, **options)
            assert dot(y, dy) == dot(x, dx) == dot(w, dw), (x.shape, w.shape, options)
            assert dot(F.conv2d(np.zeros_like(x), w, bias, **options), dy) == dot(bias, db)


def _forced(algorithm, function, *args, **options):
    """The result by ``algorithm`` where it can compute this call, else by the direct one; and whether it could."""
    try:
        with convkit.use(algorithm=algorithm):
            return function(*args, **options), True
    except AlgorithmRefused:
        with convkit.use(algorithm="direct"):
            return function(*args, **options), False


@pytest.mark.skipif(not native.available, reason="one algorithm")
@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "reference"])
def test_every_algorithm_is_adjoint(isa, algorithm):
    """To the last bit on small integers, but for Winograd's, whose points are no integers."""
    taken = set()
    with convkit.use(isa=isa):
        for draw, (x, w, options) in [*integer_draws(wild, 30), *integer_draws(_plain_3x3, 10)]:
            with common.recording() as plans:
                y, forward = _forced(algorithm, F.conv2d, x, w, **options)
                dy = draw.numbers(*y.shape)
                (dx, *_), towards_x = _forced(algorithm, F.conv2d_backward, dy, x, w, **options,
                                              needs=(True, False, False))
                (_, dw, _), towards_w = _forced(algorithm, F.conv2d_backward, dy, x, w, **options,
                                                needs=(False, True, False))
            taken |= {name for name, own in (("y", forward), ("dx", towards_x), ("dw", towards_w)) if own}
            by_tile = any(plan.algorithm == "winograd" for plan in plans)
            slack = 1e-5 * dot(np.abs(y), np.abs(dy)) if by_tile else 0
            assert dot(x, dx) == pytest.approx(dot(y, dy), abs=slack, rel=0), (x.shape, w.shape, options)
            assert dot(w, dw) == pytest.approx(dot(y, dy), abs=slack, rel=0), (x.shape, w.shape, options)
    assert taken >= {"y", "dx"}


def _plain_3x3(draw):
    """What Winograd's algorithm is for."""
    return draw.numbers(2, 17, 13, 14), draw.numbers(19, 17, 3, 3), {"padding": 1}


@pytest.mark.parametrize("name", fuzz.CONVOLUTIONS)
def test_every_convolution_is_adjoint(isa, name):
    """All ranks, transposed ones and padding modes too; and a transposed one is the adjoint of the plain one."""
    conv, backward = getattr(F, name), getattr(F, f"{name}_backward")
    operands = fuzz.verification._transposed if "transpose" in name else fuzz.verification._convolution
    rank = int(name[-2])
    with convkit.use(isa=isa, precision="strict"):  # Winograd's tiles are not exact
        for draw, (x, w, options) in integer_draws(lambda draw: operands(draw, rank), 12):
            y = conv(x, w, **options)
            dy = draw.numbers(*y.shape)
            bias = draw.numbers(y.shape[1])
            dx, dw, db = backward(dy, x, w, **options)
            assert dot(y, dy) == dot(x, dx) == dot(w, dw), (x.shape, w.shape, options)
            assert dot(conv(np.zeros_like(x), w, bias, **options), dy) == dot(bias, db)
            if "transpose" in name:
                plain = {k: v for k, v in options.items() if k != "output_padding"}
                back = getattr(F, f"conv{rank}d")(dy, w, **plain)
                seen = tuple(slice(n) for n in x.shape)  # what output padding beyond the padding adds is not x's
                assert np.array_equal(back[seen], dx)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_is_adjoint(isa, mode):
    for draw, call in integer_draws(fuzz.verification._pad_options, 60):
        x, padding, how = call
        if how == mode:
            y = F.pad(x, padding, mode)
            dy = draw.numbers(*y.shape)
            assert dot(y, dy) == dot(x, F.pad_backward(dy, padding, mode)), (x.shape, padding)


def test_linear_is_adjoint_in_all_three_operands(isa):
    with convkit.use(isa=isa):
        for draw, call in integer_draws(fuzz.verification._linear, 30):
            x, w, _ = call.args
            y = F.linear(x, w)
            dy, bias = draw.numbers(*y.shape), draw.numbers(len(w))
            dx, dw, db = F.linear_backward(dy, x, w)
            assert dot(y, dy) == dot(x, dx) == dot(w, dw), (x.shape, w.shape)
            assert dot(F.linear(np.zeros_like(x), w, bias), dy) == dot(bias, db)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_average_pooling_is_adjoint(isa, rank):
    """Sums (divisor 1) and eighths: both exact."""
    pool, backward = getattr(F, f"avg_pool{rank}d"), getattr(F, f"avg_pool{rank}d_backward")
    with convkit.use(isa=isa):
        for divisor in (1, 8):
            for draw, (x, options) in integer_draws(lambda fuzz_: fuzz.verification._averages(fuzz_, rank), 15):
                options = {**options, "divisor_override": divisor}
                y = pool(x, **options)
                dy = draw.numbers(*y.shape)
                assert dot(y, dy) == dot(x, backward(dy, x.shape, **options)), (x.shape, options)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adaptive_averages_are_adjoint_where_windows_are_powers_of_two(isa, rank):
    pool, backward = getattr(F, f"adaptive_avg_pool{rank}d"), getattr(F, f"adaptive_avg_pool{rank}d_backward")
    with convkit.use(isa=isa):
        for size, out in ((3, 2), (8, 4), (5, 8), (1, 5), (17, 16), (4, 4)):  # of one, two or four elements an axis
            for dtype in DTYPES:
                rng = np.random.default_rng([size, out])
                x = whole(rng, (2, 3, *(size,) * rank), dtype)
                y = pool(x, out)
                dy = whole(rng, y.shape, dtype)
                assert dot(y, dy) == dot(x, backward(dy, x.shape)), (size, out)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_is_adjoint_to_its_gradient(isa, rank):
    unpool, backward = getattr(F, f"max_unpool{rank}d"), getattr(F, f"max_unpool{rank}d_backward")
    with convkit.use(isa=isa):
        for dtype in DTYPES:
            rng = np.random.default_rng(rank)
            x = whole(rng, (2, 3, *(8,) * rank), dtype)
            y, indices = getattr(F, f"max_pool{rank}d")(x, 2, return_indices=True)
            dy = whole(rng, x.shape, dtype)
            assert dot(unpool(y, indices, 2), dy) == dot(y, backward(dy, indices))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_scatter_is_adjoint_to_gathering_at_the_indices(isa, kind, rank):
    pool, backward = getattr(F, f"{kind}_pool{rank}d"), getattr(F, f"{kind}_pool{rank}d_backward")
    with convkit.use(isa=isa):
        for draw, call in integer_draws(fuzz.verification._extreme_pool(rank), 15):
            x = np.nan_to_num(call.args[0])
            y, index = pool(x, **{**call.options, "return_indices": True})
            gathered = np.take_along_axis(x.reshape(*x.shape[:2], -1), index.reshape(*index.shape[:2], -1), -1)
            assert np.array_equal(gathered.reshape(y.shape), y)
            dy, other = draw.numbers(*y.shape), draw.numbers(*x.shape)
            elsewhere = np.take_along_axis(other.reshape(*x.shape[:2], -1), index.reshape(*index.shape[:2], -1), -1)
            assert dot(elsewhere, dy.reshape(elsewhere.shape)) == dot(other, backward(dy, index, x.shape))


def test_dropout_is_its_own_adjoint(isa):
    rng = np.random.default_rng(3)
    for dtype in DTYPES:
        x, dy = whole(rng, (7, 33), dtype), whole(rng, (7, 33), dtype)
        y, mask = F.dropout(x, 0.5, rng=np.random.default_rng(1))
        assert 0 < mask.sum() < mask.size
        assert dot(y, dy) == dot(x, F.dropout_backward(dy, mask, 0.5))


def test_relu_passes_what_was_positive(isa):
    rng = np.random.default_rng(4)
    with convkit.use(isa=isa):
        for dtype in DTYPES:
            for n in (1, 15, 16, 17, 33, 1000):
                x, dy = whole(rng, n, dtype), whole(rng, n, dtype)
                assert np.array_equal(F.relu_backward(dy, F.relu(x)), np.where(x > 0, dy, 0))


# ---- along random directions, where there is no exact identity

def slope(f, x, direction, step=1e-5):
    """Derivative of ``f`` along ``direction``, by four points: error of the fourth power of the step."""
    def at(k):
        return f(x + k * step * direction)
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


def check_slope(f, x, gradient):
    rng = np.random.default_rng(6)
    assert gradient.shape == x.shape
    assert np.abs(gradient).max() > 1e-3
    for _ in range(4):
        direction = rng.normal(size=x.shape)
        want = (gradient * direction).sum()
        assert abs(slope(f, x, direction) - want) <= 1e-8 * np.abs(gradient * direction).sum() + 1e-9


@pytest.mark.parametrize("shape", [(4, 3), (3, 17, 2), (2, 5, 3, 4), (33,)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(isa, name, shape):
    rng = np.random.default_rng(5)
    x, dy = 2 * rng.normal(size=shape), rng.normal(size=shape)
    with convkit.use(isa=isa):
        for axis in range(len(shape)):
            got = getattr(F, f"{name}_backward")(dy, getattr(F, name)(x, axis), axis)
            check_slope(lambda a, axis=axis: (getattr(F, name)(a, axis) * dy).sum(), x, got)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(5, 3), (7, 18), (2, 4, 3, 5)], ids=str)
def test_cross_entropy(isa, reduction, shape):
    rng = np.random.default_rng(7)
    logits, target = 2 * rng.normal(size=shape), rng.integers(0, shape[1], shape[:1] + shape[2:])
    dloss = rng.normal(size=target.shape) if reduction == "none" else 1.5
    with convkit.use(isa=isa):
        check_slope(lambda a: (F.cross_entropy(a, target, reduction=reduction) * dloss).sum(), logits,
                    F.cross_entropy_backward(logits, target, reduction=reduction, dloss=dloss))


@pytest.mark.parametrize("shape", [(6, 3), (4, 5, 7), (2, 3, 5, 9)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(isa, shape, training):
    rng = np.random.default_rng(8)
    c = shape[1]
    x, dy, w, b = rng.normal(size=shape) + 1, rng.normal(size=shape), rng.normal(size=c), rng.normal(size=c)
    mean, var = (None, None) if training else (rng.normal(size=c), rng.uniform(0.5, 2, c))

    def loss(x, w, b):
        return (F.batch_norm(x, mean, var, w, b, training) * dy).sum()

    with convkit.use(isa=isa):
        dx, dw, db = F.batch_norm_backward(dy, x, w, mean=mean, var=var, training=training)
        check_slope(lambda a: loss(a, w, b), x, dx)
        check_slope(lambda a: loss(x, a, b), w, dw)
        check_slope(lambda a: loss(x, w, a), b, db)
