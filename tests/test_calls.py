"""Calls that repeat: what is remembered of one must not reach a call that is another."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

import convkit
import convkit.functional as F
from convkit import nn
from convkit.kernels import native
from convkit.plan import common
from convkit.plan.calls import MAX_CALLS, apart, forget_plans, plain, planned, remembered, remembered_of_same

RNG = np.random.default_rng(0)
needs_kernels = pytest.mark.skipif(not native.available, reason="without kernels every call is checked anew")


def counting(remember):
    asked = []

    def function(*arguments):
        asked.append(arguments)
        return len(asked)

    return remember(function), asked


def floats(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


@needs_kernels
def test_equal_geometry_and_values_are_one_call():
    call, asked = counting(remembered)
    first = call(floats(2, 3), "same", (1, (2, 3)), None, True, 0.5)
    assert call(floats(2, 3), "sa" + "me", (1, (2, 3)), None, True, 0.5) == first
    assert call(floats(3, 2).T, "same", (1, (2, 3)), None, True, 0.5) == first  # the layout is not what is checked
    assert len(asked) == 1


@needs_kernels
@pytest.mark.parametrize("one, other", [
    (1, True), (1, 1.0), (True, 1.0), (0.0, -0.0), (0, None), ("1", 1), ((1, 2), (1, (2,))), ((), None),
    ((1, 2), ((1,), 2)), ("", None), ("a", "b"), (2**40, 2**40 + 1), (-1, 2**64 - 1),
    (floats(2, 3), floats(3, 2)), (floats(6), floats(2, 3)), (floats(1), floats(1, dtype=np.float64)),
    (np.zeros(2, np.int32), np.zeros(2, np.uint32)), (np.dtype("f4"), np.dtype("f8")),
])
def test_different_calls_stay_apart(one, other):
    call, _ = counting(remembered)
    assert call(one) != call(other)


@needs_kernels
def test_a_read_only_array_is_another_one():
    call, _ = counting(remembered)
    a = floats(3)
    first = call(a)
    a.flags.writeable = False
    assert call(a) != first


@needs_kernels
@pytest.mark.parametrize("value", [
    [1, 2], np.int64(1), np.float32(1), {}, object(), 2**70, "\ud800", np.ones(2, ">f4"), np.array(["a", "bc"]),
    np.ma.ones(3), np.ones((2, 2)).view(np.matrix), np.dtype(">f4"), np.dtype("U3"), (1, [2]), (1,) * 200, "x" * 2000],
    ids=lambda value: type(value).__name__)
def test_what_may_mean_something_else_the_next_time_is_not_remembered(value):
    call, asked = counting(remembered)
    assert call(value) != call(value)
    assert len(asked) == 2 and asked[0][0] is value


@needs_kernels
def test_errors_are_not_remembered():
    answers = [ValueError("no"), 5]

    def function(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    call = remembered(function)
    with pytest.raises(ValueError, match="no"):
        call(1)
    assert call(1) == call(1) == 5


@needs_kernels
def test_the_oldest_call_makes_room():
    call, asked = counting(remembered)
    for i in range(MAX_CALLS + 1):
        call(i)
    assert call(MAX_CALLS) == MAX_CALLS + 1
    assert call(0) == len(asked) == MAX_CALLS + 2
    call.clear()
    assert call(0) == MAX_CALLS + 3


@needs_kernels
def test_of_same_objects():
    call, asked = counting(remembered_of_same)
    a, b = (1, 2), [3]
    assert call(a, b) == call(a, b)
    assert call(a, [3]) != call(a, b)
    for i in range(100):  # the address of an object that is gone may be another's
        assert call([i]) == len(asked)


@needs_kernels
def test_what_is_planned_depends_on_settings_and_layout():
    call, asked = counting(planned)
    a = floats(2, 2)
    first = call(a)
    assert call(floats(2, 2)) == first != call(a.T)
    with convkit.use(algorithm="reference"):
        assert call(a) == 3
    with convkit.use(precision="strict"):
        assert call(a) == 4
    assert call(a) == first
    with common.recording():
        assert call(a) == 5 and call(a) == 6
    assert call(a) == first
    forget_plans()
    assert call(a) == len(asked) == 7


def test_short_ways_take_no_operand_that_wants_a_look():
    x, w, bias = floats(2, 3, 6, 8), floats(4, 3, 3, 3), floats(4)
    v, matrix = floats(5, 6), floats(4, 6)
    calls = ((F.conv2d, (x, w, bias)), (F.conv_transpose2d, (floats(2, 4, 5, 5), w, floats(3))), (F.relu, (x,)),
             (F.max_pool2d, (x, 2)), (F.avg_pool2d, (x, 2)), (F.adaptive_avg_pool2d, (x, 2)), (F.global_max_pool, (x,)),
             (F.linear, (v, matrix, bias)), (F.nll_loss, (v, np.arange(5))), (F.lp_pool2d, (x, 2.0, 2)))
    for function, operands in calls:
        want = function(*operands)
        for change in (np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder()), lambda a: np.repeat(a, 2, -1)[..., ::2],
                       lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)):
            changed = [change(a) if isinstance(a, np.ndarray) else a for a in operands]
            np.testing.assert_array_equal(function(*changed), want)
        half = [a.astype(np.float16) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in operands]
        assert function(*half).dtype == np.float16
        again = function(*operands)
        np.testing.assert_array_equal(again, want)
        assert not np.shares_memory(again, want)
    empty = np.empty((0, 3, 6, 8), np.float32)
    assert F.relu(empty).shape == empty.shape and F.max_pool2d(empty, 2).shape == (0, 3, 3, 4)
    assert F.conv2d(empty, w, bias).shape == (0, 4, 4, 6) and F.avg_pool2d(empty, 2).shape == (0, 3, 3, 4)
    assert F.linear(v[:0], matrix).shape == (0, 4) and np.isnan(F.nll_loss(v[:0], np.arange(0)))


def test_plain_and_apart():
    a = np.zeros((4, 6), np.float32)
    assert plain(a, a.dtype) and plain(a[1:3], a.dtype)
    for other in (a.T, a[:, 1:], a.astype(">f4"), a.astype(np.float64), a.view(np.matrix), None, [1.0]):
        assert not plain(other, a.dtype)
    assert apart(a[:2], a[2:]) and not apart(a[:3], a[2:]) and not apart(a, a)
    assert apart(a[:, :3], a.copy()) and not apart(a[:, ::2], a)


def test_true_is_no_stride_after_one_was():
    x, w = floats(1, 2, 5, 5), floats(3, 2, 3, 3)
    F.conv2d(x, w, stride=1)
    for wrong in (True, 1.0):
        with pytest.raises(convkit.DtypeError, match="stride must be an integer or a tuple of 2 integers, got"):
            F.conv2d(x, w, stride=wrong)
    F.batch_norm(x, None, None, training=True)
    with pytest.raises(convkit.DtypeError, match="training must be True or False"):
        F.batch_norm(x, None, None, training=1)


def test_a_concat_like_one_before_differs_in_axis_or_sizes():
    a, b = floats(2, 3, 4), floats(2, 3, 4)
    for axis in (1, 2, -1, 1):
        np.testing.assert_array_equal(F.concat(a, b, axis=axis), np.concatenate((a, b), axis))
    np.testing.assert_array_equal(F.concat(a, b[:, :1]), np.concatenate((a, b[:, :1]), 1))
    for wrong in (floats(2, 3, 5), floats(2, 3, 4, dtype=np.float64)):
        with pytest.raises((convkit.ShapeError, convkit.DtypeError)):
            F.concat(a, wrong)


def test_batch_norm_looks_at_operands_that_do_not_lie_like_those_before():
    x, (mean, var, weight, bias) = floats(2, 3, 4, 5), np.abs(floats(4, 3))
    want = F.batch_norm(x, mean, var, weight, bias)
    turned, spread = np.asfortranarray(x), np.repeat(var, 2)[::2]
    np.testing.assert_array_equal(F.batch_norm(turned, mean, spread, weight, bias), want)
    np.testing.assert_array_equal(F.batch_norm(x, mean, var, weight, bias), want)
    np.testing.assert_array_equal(F.batch_norm(x.astype(">f4"), mean, var, weight, bias), want)
    assert F.batch_norm(x[:0], mean, var, weight, bias).shape == (0, 3, 4, 5)


def test_every_array_is_looked_at_again():
    x, w = floats(1, 2, 5, 5), floats(3, 2, 3, 3)
    want = F.conv2d(x, w)
    out = np.empty_like(want)
    assert F.conv2d(x, w, out=out) is out
    frozen = np.empty_like(want)
    frozen.flags.writeable = False
    with pytest.raises(convkit.ShapeError, match="writeable"):
        F.conv2d(x, w, out=frozen)
    with pytest.raises(convkit.DtypeError, match="masked"):
        F.conv2d(np.ma.array(x), w)
    everywhere = np.zeros((1, 3, 3, 3, 2), np.float32)[..., 0]
    for like in (x.astype(">f4"), np.asfortranarray(x), x[..., ::-1][..., ::-1], np.pad(x, 1)[1:-1, 1:-1, 1:-1, 1:-1]):
        np.testing.assert_array_equal(F.conv2d(like, w), want)
        np.testing.assert_array_equal(F.conv2d(like, np.asfortranarray(w), out=everywhere), want)
    square = floats(1, 2, 4, 4)
    want = F.conv2d(square, w[:2], padding=1)
    np.testing.assert_array_equal(F.conv2d(square, w[:2], padding=1, out=np.empty_like(square)), want)
    np.testing.assert_array_equal(F.conv2d(square, w[:2], padding=1, out=square), want)  # over its own input


@needs_kernels
@pytest.mark.parametrize("function", [F.conv2d, F.conv_transpose2d])
def test_out_takes_the_result_without_new_memory_unless_it_overlaps_an_operand(function):
    x, w, bias = floats(1, 8, 64, 64), floats(8, 8, 1, 1), floats(8)
    want, out = function(x, w, bias), np.empty_like(x)
    for _ in range(2):  # the second call is remembered
        tracemalloc.start()
        assert function(x, w, bias, out=out) is out
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(out, want)
    assert peak < x.nbytes / 2
    for i in range(3):  # each operand in turn lies in the memory of the result
        out, operands = floats(*x.shape), [x, w, bias]
        shape = operands[i].shape
        over = operands[i] = out.reshape(-1)[-operands[i].size:].reshape(shape)
        over[...] = (x, w, bias)[i]
        assert function(*operands, out=out) is out
        np.testing.assert_array_equal(out, want)


@needs_kernels
def test_settings_and_timings_reach_a_call_that_was_made_before():
    x, w = floats(1, 8, 20, 20), floats(8, 8, 3, 3)

    def algorithm():
        with common.recording() as plans:
            F.conv2d(x, w)
        plan, = plans
        return plan.algorithm

    usual = algorithm()
    with convkit.use(algorithm="reference"):
        assert algorithm() == "reference"
    assert algorithm() == usual
    other = "gemm" if usual != "gemm" else "direct"
    with common.recording() as plans:
        F.conv2d(x, w)
    before = common.timings()
    try:
        common.add_timings({(plans[0].spec, plans[0].isa): common.Timing(1, {other: 1.0})})
        assert algorithm() == other
    finally:
        common.clear_timings()
        common.add_timings(before)
    assert algorithm() == usual


def net():
    return nn.Sequential(nn.Conv2d(2, 4, 3, rng=np.random.default_rng(1)), nn.BatchNorm2d(4), nn.LeakyReLU()).eval()


def one_by_one(layers, x):
    for layer in layers:
        x = layer(x)
    return x


CHANGES = {
    "a layer added": lambda n: n.append(nn.Tanh()),
    "a layer replaced": lambda n: setattr(n, "2", nn.Tanh()),
    "a layer removed": lambda n: delattr(n, "2"),
    "a slope": lambda n: setattr(n[2], "negative_slope", 0.5),
    "a method": lambda n: setattr(n[2], "predict", np.abs),
    "a mode": lambda n: n.train(),
    "the mode of one": lambda n: n[1].train(),
    "statistics in place": lambda n: n[1].running_mean.__iadd__(1),
    "other statistics": lambda n: setattr(n[1], "running_var", np.full(4, 9, np.float32)),
    "weights": lambda n: setattr(n[0].weight, "data", -n[0].weight.data),
    "weights in place": lambda n: n[0].weight.data.__imul__(2),
    "a bias in place": lambda n: n[0].bias.data.__iadd__(2),
    "no bias": lambda n: setattr(n[0], "bias", None),
    "eps": lambda n: setattr(n[1], "eps", 0.5),
    "padding": lambda n: setattr(n[0], "padding", (1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_notices_what_changes(change):
    x, model = floats(2, 2, 6, 6), net()
    model(x)
    CHANGES[change](model)
    fresh = copy.deepcopy(model)
    np.testing.assert_allclose(model(x), one_by_one(fresh, x), rtol=1e-5, atol=1e-5)
    y, backward = model.forward(x)
    assert backward(np.ones_like(y)).shape == x.shape


def test_another_dtype_of_the_weights_is_noticed():
    x, model = floats(2, 2, 6, 6), net()
    model(x)
    for layer in list(model)[:2]:
        for parameter in (layer.weight, layer.bias):
            parameter.data = parameter.data.astype(np.float16)
    model[1].running_mean, model[1].running_var = (a.astype(np.float16) for a in (model[1].running_mean,
                                                                                  model[1].running_var))
    half = x.astype(np.float16)
    np.testing.assert_array_equal(model(half), one_by_one(model, half))


def test_copies_and_pickles_have_layers_of_their_own():
    x, model = floats(2, 2, 6, 6), net()
    want = model(x)
    model.train().forward(x)
    model.eval()
    want = model(x)
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(x), want)
    other = copy.deepcopy(model)
    other[0].weight.data = -other[0].weight.data
    np.testing.assert_array_equal(model(x), want)
    assert np.abs(other(x) - want).max() > 0.1
