"""What Sequential computes together in eval mode: the same numbers, nobody's array overwritten, no change missed."""

import numpy as np
import pytest

import convkit
from convkit import nn
from convkit.functional import conv as functional_conv
from convkit.kernels import native
from convkit.nn.fusion import stages
from convkit.nn.parameter import MOST_PACKINGS

ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh,
               nn.Hardsigmoid, nn.Hardswish, nn.Softplus]


def normed(norm, rng):
    """A batch norm that has learned something."""
    norm.running_mean[:] = rng.standard_normal(norm.num_features)
    norm.running_var[:] = rng.uniform(0.5, 2, norm.num_features)
    norm.weight.data = rng.uniform(-2, 2, norm.num_features).astype(norm.weight.dtype)
    norm.bias.data = rng.standard_normal(norm.num_features).astype(norm.weight.dtype)
    return norm


def one_by_one(net, x):
    for layer in net:
        x = layer(x)
    return x


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(want.dtype).eps * max(1, np.abs(want).max()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"groups": 8}, {"stride": 2, "padding": 1},
                                     {"padding": 1, "padding_mode": "reflect"}])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_batch_norm_and_activation_after_a_convolution(rank, options, dtype):
    rng = np.random.default_rng(rank)
    conv, norm = getattr(nn, f"Conv{rank}d"), getattr(nn, f"BatchNorm{rank}d")
    net = nn.Sequential(conv(8, 24, 3, **options, rng=rng, dtype=dtype), normed(norm(24, dtype=dtype), rng),
                        nn.ReLU()).eval()
    x = rng.standard_normal((2, 8, *[9] * rank)).astype(dtype)
    before = x.copy()
    assert [len(group) for group in net.stages()] == [3]
    close(net(x), one_by_one(net, x))
    np.testing.assert_array_equal(x, before)
    with convkit.use(algorithm="reference"):
        close(net(x), one_by_one(net, x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("first", [lambda: nn.Linear(5, 7), lambda: nn.Conv1d(3, 4, 2),
                                   lambda: nn.ConvTranspose1d(3, 4, 2), lambda: nn.BatchNorm1d(3)])
def test_activations_where_their_input_lies_have_the_same_bits(first, activation):
    net = nn.Sequential(first(), activation(), nn.Tanh()).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 5), np.float32)
    assert [len(group) for group in net.stages()] == [3]
    np.testing.assert_array_equal(net(x), one_by_one(net, x))


CONVOLUTIONS = [
    # algorithm, layer, spatial size: several images, rounds, boxes, slices, panels and tails
    ("direct", lambda dtype: nn.Conv2d(6, 40, 3, padding=1, dtype=dtype), (7, 7)),
    ("direct", lambda dtype: nn.Conv2d(16, 33, 3, stride=2, dtype=dtype), (61, 150)),
    ("direct", lambda dtype: nn.Conv3d(8, 20, 3, groups=2, dtype=dtype), (9, 30, 31)),
    ("direct", lambda dtype: nn.Conv1d(5000, 8, 1, dtype=dtype), (9,)),
    ("gemm", lambda dtype: nn.Conv2d(6, 40, 1, dtype=dtype), (7, 9)),
    ("gemm", lambda dtype: nn.Conv1d(20, 9, 3, padding=1, dtype=dtype), (500,)),
    ("winograd", lambda dtype: nn.Conv2d(9, 40, 3, padding=1, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.Conv2d(9, 40, 3, padding=2, dilation=2, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.Conv3d(8, 20, 3, groups=2, dtype=dtype), (5, 17, 19)),
    ("winograd", lambda dtype: nn.Conv1d(9, 40, 3, padding=1, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv1d(9, 40, 3, dilation=3, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv2d(9, 20, (3, 1), padding=(1, 0), dtype=dtype), (33, 17)),
    ("winograd", lambda dtype: nn.Conv2d(64, 20, (3, 1), padding=(1, 0), dtype=dtype), (33, 200)),  # several rounds
]


@pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, lambda: nn.LeakyReLU(0.3)])
@pytest.mark.parametrize(("algorithm", "layer", "size", "dtype"), [
    (*convolution, dtype) for convolution in CONVOLUTIONS for dtype in (np.float32, np.float64)
    if convolution[0] != "winograd" or dtype == np.float32])
def test_activations_by_the_tasks_of_a_convolution_have_the_same_bits(algorithm, layer, size, activation, dtype):
    conv = layer(dtype)
    net = nn.Sequential(conv, activation()).eval()
    x = np.random.default_rng(1).standard_normal((5, conv.in_channels, *size)).astype(dtype)
    if algorithm == "winograd":
        x[2, 0].flat[7] = np.inf  # this image goes to the direct kernels
    with convkit.use(algorithm=algorithm):
        y = conv(x)
    want = net[1](y)
    for threads in (1, 2, 3):
        with (convkit.use(algorithm=algorithm), convkit.threads(threads), pytest.MonkeyPatch.context() as patch):
            patch.setattr(functional_conv, "in_place", None)  # a pass of its own would call it
            np.testing.assert_array_equal(net(x), want)


def test_what_is_not_computed_together():
    class Loud(nn.ReLU):
        pass

    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm, nn.ReLU())
    assert [len(g) for g in net.stages()] == [1, 1, 1]  # training
    net.eval()
    assert [len(g) for g in net.stages()] == [3]
    norm.train()
    assert [len(g) for g in stages(net)] == [1, 2]  # a norm that still learns
    norm.eval()
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5), np.float32)
    for layers in ([nn.Identity(), nn.ReLU()], [nn.Flatten(), nn.ReLU()], [nn.Dropout(), nn.ReLU()], [nn.ReLU()],
                   [norm, Loud()], [norm, nn.BatchNorm2d(4)], [nn.PReLU(4), nn.ReLU()],
                   [nn.BatchNorm2d(4, track_running_stats=False), nn.Softmax(1)]):
        net = nn.Sequential(*layers).eval()
        before = x.copy()
        assert [len(g) for g in net.stages()] == [1] * len(layers)
        np.testing.assert_array_equal(net(x), one_by_one(net, x))
        np.testing.assert_array_equal(x, before)


def test_a_replaced_predict_is_called():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    seen = []
    net[1].predict = lambda x: seen.append(x.shape) or x
    net(np.ones((1, 3, 4, 4), np.float32))
    assert seen == [(1, 4, 2, 2)]


def test_other_channels_are_refused_as_without_fusion():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)).eval()
    with pytest.raises(convkit.ShapeError, match="5"):
        net(np.ones((1, 3, 4, 4), np.float32))


def test_no_change_is_missed():
    rng = np.random.default_rng(1)
    conv, norm = nn.Conv2d(3, 20, 3, rng=rng), normed(nn.BatchNorm2d(20), rng)
    net = nn.Sequential(conv, norm).eval()
    x = rng.standard_normal((1, 3, 8, 8), np.float32)

    def changed(change):
        old = net(x)
        change()
        new = net(x)
        close(new, one_by_one(net, x))
        assert np.abs(new - old).max() > 0.01

    changed(lambda: conv.weight.data.__imul__(2))
    changed(lambda: setattr(conv.weight, "data", conv.weight.data / 3))
    changed(lambda: conv.bias.data.__iadd__(1))
    changed(lambda: norm.running_mean.__iadd__(1))
    changed(lambda: norm.running_var.__imul__(3))
    changed(lambda: norm.weight.data.__imul__(0.5))
    changed(lambda: norm.bias.data.__isub__(2))
    changed(lambda: setattr(norm, "eps", 1.0))


def test_the_weight_is_folded_and_packed_once():
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()).eval()
    x = np.random.default_rng(0).standard_normal((1, 16, 20, 20), np.float32)
    first = net(x)
    kept = net[0].weight._packed[1]
    assert len(kept) == 2
    made = {key: id(value) for key, value in kept.items()}
    np.testing.assert_array_equal(net(x), first)
    assert {key: id(value) for key, value in net[0].weight._packed[1].items()} == made


def test_what_is_kept_has_an_end():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 6), np.float32)
    for _ in range(50):  # a norm that learns beside frozen weights
        net[1].running_var += 0.1
        close(net(x), one_by_one(net, x))
    assert len(net[0].weight._packed[1]) <= MOST_PACKINGS


def test_float16_is_not_folded():
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=np.float16), nn.BatchNorm2d(4, dtype=np.float16), nn.ReLU()).eval()
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float16)
    assert [len(group) for group in net.stages()] == [1, 2]
    np.testing.assert_array_equal(net(x), one_by_one(net, x))
