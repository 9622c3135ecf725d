"""What Sequential computes together in eval mode: the same numbers, nobody's array overwritten, no change missed."""

import copy
import pickle

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

needs_kernels = pytest.mark.skipif(not native.available, reason="the NumPy definitions pack nothing and add nothing by tasks")


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
    ("depthwise", lambda dtype: nn.Conv2d(12, 12, 3, padding=1, groups=12, dtype=dtype), (31, 40)),  # rows
    ("depthwise", lambda dtype: nn.Conv2d(12, 12, 5, stride=2, padding=2, groups=12, dtype=dtype), (30, 61)),
    ("depthwise", lambda dtype: nn.Conv2d(20, 20, 3, padding=1, groups=20, dtype=dtype), (7, 7)),  # channels in the lanes
    ("depthwise", lambda dtype: nn.Conv2d(3, 12, 3, padding=1, groups=3, dtype=dtype), (31, 40)),
    ("depthwise", lambda dtype: nn.Conv1d(6, 6, 9, groups=6, dtype=dtype), (300,)),
    ("winograd", lambda dtype: nn.Conv2d(9, 40, 3, padding=1, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.Conv2d(9, 40, 3, padding=2, dilation=2, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.Conv2d(9, 40, 3, stride=2, padding=1, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.ConvTranspose2d(17, 40, 3, stride=2, padding=1, dtype=dtype), (15, 14)),
    ("winograd", lambda dtype: nn.Conv3d(8, 20, 3, groups=2, dtype=dtype), (5, 17, 19)),
    ("winograd", lambda dtype: nn.Conv2d(17, 40, 5, padding=2, dtype=dtype), (31, 30)),
    ("winograd", lambda dtype: nn.Conv1d(9, 40, 3, padding=1, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv1d(9, 40, 5, padding=2, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv1d(17, 40, 7, padding=6, dilation=2, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv1d(9, 40, 3, dilation=3, dtype=dtype), (501,)),
    ("winograd", lambda dtype: nn.Conv2d(9, 20, (3, 1), padding=(1, 0), dtype=dtype), (33, 17)),
    ("winograd", lambda dtype: nn.Conv2d(64, 20, (3, 1), padding=(1, 0), dtype=dtype), (33, 200)),  # several rounds
]


@pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU, lambda: nn.LeakyReLU(0.3)])
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


# What finishes its sums in registers: tiles and rows of filters, panels in one go, panels of two images, lines.
FINISHING = [
    ("direct", (1, 2), (5, 40, 3), (3, 7)), ("direct", (2, 3), (17, 33, 3), (12, 13)), ("direct", (1, 3), (700, 8, 3), (9,)),
    ("direct", (2, 2), (130, 45, 3), (9, 30)), ("direct", (1, 3), (70, 45, 1), (5, 6)), ("direct", (2, 1), (1100, 18, 1), (11, 27)),
    ("gemm", (1, 3), (70, 40, 1), (5, 5)), ("gemm", (1, 1), (20, 9, 1), (40, 40)), ("gemm", (2, 2), (1100, 5, 1), (9, 20)),
    ("winograd", (1, 2), (9, 40, 3), (15, 14)), ("winograd", (1, 2), (9, 21, 3), (37,)),
    ("winograd", (1, 5), (9, 21, 3), (5, 6)),
]


@pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
@pytest.mark.parametrize("short_cut", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu"])
@pytest.mark.parametrize(("algorithm", "threads_and_images", "sizes", "size"), FINISHING)
def test_sums_finished_in_registers_have_the_bits_of_passes(algorithm, threads_and_images, sizes, size, activation,
                                                            short_cut):
    threads, n = threads_and_images
    channels, filters, k = sizes
    for dtype in (np.float32,) if algorithm == "winograd" else (np.float32, np.float64):
        rng = np.random.default_rng(channels)
        weight = rng.standard_normal((filters, channels, *[k] * len(size))).astype(dtype)
        weight[1] *= np.finfo(dtype).tiny  # sums that end as -0
        x = rng.standard_normal((n, channels, *size)).astype(dtype)
        x[0, :, ..., -1] = np.finfo(dtype).tiny * np.sign(x[0, :, ..., -1])
        arguments = (1, k // 2, 1, 1, "zeros", len(size))
        if not short_cut:
            x[-1, -1].flat[2] = np.nan
        past = rng.standard_normal((n, filters, *size)).astype(dtype)
        past[:, 0].flat[:4] = np.nan, np.inf, -np.inf, -0.0
        past = past if short_cut else None

        def operands(weight=weight):
            return weight, None, lambda _key, make: make(weight)

        with convkit.use(algorithm=algorithm), convkit.threads(threads):
            got = functional_conv.convolution_of(operands, (activation,) if activation else (), *arguments)(x, past)
            want = functional_conv.convolution_of(operands, (), *arguments)(x)
        if short_cut:
            want += past
        want = getattr(convkit.functional, activation)(want) if activation else want
        assert got.tobytes() == want.tobytes()


# Kernel, stride, size, channels, filters, groups: planes of one vector and of two, strips, pairs of rows, kernels in parts,
# channels in the lanes, taps in place, from a copy and as one run, rows shorter than a vector, blocks of a plane, many filters.
DEPTHWISE = [(3, 1, (7, 7), 21, 21, 21), (3, 1, (14, 14), 9, 9, 9), (3, 1, (31, 40), 5, 5, 5), (3, 2, (30, 61), 5, 5, 5),
             (3, 2, (10, 75), 5, 5, 5), (5, 1, (28, 27), 5, 5, 5), (7, 1, (23, 56), 3, 3, 3), (5, 2, (14, 14), 20, 20, 20),
             (7, 1, (7, 7), 20, 20, 20), (1, 1, (20, 30), 9, 6, 1), (3, 2, (30, 30), 3, 13, 1), (3, 1, (14, 14), 32, 32, 2),
             (5, 1, (6, 5), 2, 6, 2), (3, 1, (300, 190), 3, 50, 1), (3, 1, (3, 9, 20), 4, 4, 4)]


@pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
@pytest.mark.parametrize("short_cut", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu"])
@pytest.mark.parametrize(("k", "stride", "size", "channels", "filters", "groups"), DEPTHWISE)
def test_depthwise_sums_are_finished_with_the_bits_of_passes(k, stride, size, channels, filters, groups, activation,
                                                             short_cut):
    rank = len(size)
    for dtype, threads, n in ((np.float32, 1, 2), (np.float32, 3, 1), (np.float64, 2, 1)):
        rng = np.random.default_rng(channels)
        weight = 3 * rng.standard_normal((filters, channels // groups, *[k] * rank)).astype(dtype)
        weight[1] *= np.finfo(dtype).tiny  # sums that end as -0
        bias = rng.standard_normal(filters).astype(dtype)
        bias[1] = -0.0
        x = rng.standard_normal((n, channels, *size)).astype(dtype)
        x[0, :, ..., -1] = np.finfo(dtype).tiny * np.sign(x[0, :, ..., -1])
        x[0, 0].flat[3] = np.nan
        arguments = (stride, k // 2, 1, groups, "zeros", rank)

        def operands(weight=weight, bias=bias):
            return weight, bias, None

        with convkit.use(algorithm="depthwise"), convkit.threads(threads):
            want = functional_conv.convolution_of(operands, (), *arguments)(x)
            past = rng.standard_normal(want.shape).astype(dtype) if short_cut else None
            got = functional_conv.convolution_of(operands, (activation,) if activation else (), *arguments)(x, past)
        if short_cut:
            want += past
        want = getattr(convkit.functional, activation)(want) if activation else want
        assert got.tobytes() == want.tobytes()


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
    for parameter in (conv.weight, conv.bias, norm.weight, norm.bias):
        view = parameter.data  # as long as this is held, every call looks
        for _ in range(3):
            changed(lambda view=view: view.__iadd__(1))
        del view
        changed(lambda parameter=parameter: setattr(parameter, "data", parameter.data - 1))


@pytest.mark.parametrize("norm", [False, True])
def test_a_layer_notices_what_becomes_of_it(norm):
    rng = np.random.default_rng(1)
    layer = nn.Conv2d(8, 16, 3, rng=rng)
    net = nn.Sequential(layer, normed(nn.BatchNorm2d(16), rng)).eval() if norm else layer
    x = rng.standard_normal((1, 8, 9, 9), np.float32)

    def right(x):
        weight, bias = layer.weight.data.copy(), None if layer.bias is None else layer.bias.data.copy()
        for _ in range(2):
            y = layer(x)
            close(y, convkit.functional.conv2d(x, weight, bias, layer.stride, layer.padding, padding_mode=mode))
            close(net(x), one_by_one(net, x) if norm else y)

    mode = "zeros"
    for image in (x, x[..., :5], np.ascontiguousarray(x[..., :5]), *([] if norm else [x[0]]), x):
        right(image)
    for name, value in (("stride", (2, 1)), ("padding", 1), ("bias", nn.Parameter(np.ones(16, np.float32))),
                        ("weight", nn.Parameter(rng.standard_normal((16, 8, 3, 3), np.float32))), ("bias", None)):
        setattr(layer, name, value)
        right(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.weight.data *= 2
        close(other(x), 2 * layer(x))
    mode = layer.padding_mode = "circular"
    right(x)
    layer.weight.data = layer.weight.data.astype(np.float64)
    with pytest.raises(convkit.DtypeError):
        layer(x)
    close(layer(x.astype(np.float64)), convkit.functional.conv2d(
        x.astype(np.float64), layer.weight.data, None, layer.stride, layer.padding, padding_mode=mode))


@needs_kernels
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


def residual(rng, rank=2, shortcut=None, dtype=np.float32, **options):
    """A block whose last two layers are a convolution and a batch norm, and an activation after it."""
    conv, norm = getattr(nn, f"Conv{rank}d"), getattr(nn, f"BatchNorm{rank}d")
    body = nn.Sequential(conv(8, 24, 3, padding=1, rng=rng, dtype=dtype), nn.ReLU(),
                         conv(24, 8, 3, **{"padding": 1, **options}, rng=rng, dtype=dtype),
                         normed(norm(8, dtype=dtype), rng))
    return nn.Sequential(nn.Residual(body, shortcut), nn.LeakyReLU())


def block_by_block(net, x):
    block, act = net
    return act(one_by_one(block.block, x) + block.shortcut(x))


@pytest.mark.parametrize("algorithm", [None, "direct", "gemm", "winograd", "reference"])
@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"dilation": 2, "padding": 2}])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_short_cut_is_added_by_the_tasks_of_the_convolution(rank, options, algorithm):
    rng = np.random.default_rng(rank)
    net = residual(rng, rank, **options).eval()
    x = rng.standard_normal((3, 8, *[13] * rank), np.float32)
    before = x.copy()
    assert [len(group) for group in net.stages()] == [2]
    if algorithm not in (None, "reference") and not native.available:
        pytest.skip("needs the compiled kernels")
    with convkit.use(algorithm=algorithm), convkit.threads(2):
        got = net(x)
        close(got, block_by_block(net, x))
        apart = nn.LeakyReLU()(net[0].block(x) + x)
        assert got.tobytes() == apart.tobytes()
        assert np.concatenate([net(image[None]) for image in x]).tobytes() == got.tobytes()
        assert net(x[1]).tobytes() == got[1].tobytes()
    np.testing.assert_array_equal(x, before)


@needs_kernels
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_short_cut_beside_an_image_that_is_computed_directly(dilation):
    rng = np.random.default_rng(3)
    net = residual(rng, dilation=dilation, padding=dilation).eval()
    x = rng.standard_normal((3, 8, 14, 14), np.float32)
    with convkit.use(algorithm="winograd"), np.errstate(all="ignore"):
        clean = net(x)
        x[1, 2, 3, 4] = np.inf
        got, want = net(x), nn.LeakyReLU()(net[0].block(x) + x)
    np.testing.assert_array_equal(got, want)
    assert got[[0, 2]].tobytes() == clean[[0, 2]].tobytes()
    assert 0 < np.isfinite(got[1]).sum() < got[1].size


@pytest.mark.parametrize("make", [
    lambda rng: residual(rng, shortcut=nn.Conv2d(8, 8, 1, rng=rng)),
    lambda rng: residual(rng, dtype=np.float64),
    lambda rng: residual(rng, shortcut=nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Identity())),
    lambda rng: nn.Sequential(nn.Residual(nn.Conv2d(8, 8, 3, padding=1, rng=rng)), nn.ReLU()),
    lambda rng: nn.Sequential(nn.Residual(nn.Sequential()), nn.ReLU()),
    lambda rng: nn.Sequential(nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 1, rng=rng), nn.ReLU())), nn.ReLU()),
    lambda rng: nn.Sequential(nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 1, rng=rng, dtype=np.float16))), nn.ReLU()),
    lambda rng: nn.Sequential(nn.Residual(nn.Conv2d(8, 8, 3, padding=1, groups=8, rng=rng)), nn.ReLU(), nn.Tanh()),
    lambda rng: nn.Sequential(nn.Residual(nn.Residual(nn.Conv2d(8, 8, 1, rng=rng))), nn.ReLU()),
])
def test_other_blocks_and_short_cuts(make):
    rng = np.random.default_rng(4)
    net = make(rng)
    dtype = next((p.dtype for p in net.parameters()), np.dtype(np.float32))
    x = rng.standard_normal((2, 8, 9, 9)).astype(dtype)
    for mode in (net.train, net.eval):
        mode()
        if mode == net.train and any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()):
            continue
        block, *acts = net
        want = one_by_one(acts, block.block(x) + block.shortcut(x))
        got = net(x)
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


def test_a_short_cut_of_another_type_or_shape():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 8, 9, 9), np.float32)

    class Wider(nn.Module):
        def forward(self, x):
            return x.astype(np.float64), None

    net = residual(rng, shortcut=Wider()).eval()
    assert net(x).dtype == np.float64
    np.testing.assert_allclose(net(x), block_by_block(net, x), atol=1e-4)
    for shortcut in (nn.MaxPool2d(2), nn.Conv2d(8, 9, 1, rng=rng)):
        for body in (nn.Conv2d(8, 8, 1, rng=rng), nn.Tanh()):
            for net in (nn.Residual(body, shortcut), nn.Sequential(nn.Residual(body, shortcut), nn.ReLU()).eval()):
                with pytest.raises(convkit.ShapeError, match="outputs of block and shortcut must have the same shape, got .* and "):
                    net(x)


def test_a_block_that_does_something_of_its_own_is_left_alone():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 8, 9, 9), np.float32)

    class Twice(nn.Residual):
        def predict(self, x):
            return 2 * super().predict(x)

    conv = nn.Conv2d(8, 8, 1, rng=rng)
    net = nn.Sequential(Twice(conv), nn.ReLU()).eval()
    np.testing.assert_array_equal(net(x), nn.ReLU()(2 * (conv(x) + x)))
    net = nn.Sequential(nn.Residual(nn.Sequential(conv)), nn.ReLU()).eval()
    first = net(x)
    conv.weight.data = conv.weight.data * 2
    assert np.abs(net(x) - first).max() > 0.1
    conv.predict = lambda x: 0 * x
    np.testing.assert_array_equal(net(x), nn.ReLU()(x))


# ---- explain


def test_explain_shows_what_is_computed_together_and_by_what():
    block = nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)))
    net = nn.Sequential({"stem": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "act": nn.ReLU(),
                         "body": nn.Sequential(nn.MaxPool2d(2), block, nn.ReLU()),
                         "flat": nn.Flatten(), "head": nn.Linear(72, 5)})
    with convkit.use(algorithm="direct"):
        told = convkit.explain(net, np.zeros((2, 3, 8, 8), np.float32))
    assert [(s.name, s.layers, s.output_shape) for s in told.stages] == [
        ("stem to act", ("Conv2d", "BatchNorm2d", "ReLU"), (2, 8, 6, 6)),
        ("body.0", ("MaxPool2d",), (2, 8, 3, 3)),
        ("body.1 to body.2", ("Residual", "ReLU"), (2, 8, 3, 3)),
        ("flat", ("Flatten",), (2, 72)),
        ("head", ("Linear",), (2, 5))]
    assert told.stages[0].algorithms[0] == told.stages[2].algorithms[0] == "conv: direct"
    assert told.stages[3].algorithms == ()
    assert "Conv2d + BatchNorm2d + ReLU" in str(told) and len(str(told).splitlines()) == 7
    assert net.training  # it was a copy that predicted


def test_explain_of_one_layer_and_of_what_does_not_fit():
    stage, = nn.MaxPool2d(2, return_indices=True).explain((1, 2, 4, 6)).stages
    assert stage.name == "MaxPool2d" and stage.output_shape == (1, 2, 2, 3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3))
    with pytest.raises(convkit.ShapeError, match="^x must have 4 axes"):
        net.explain((1, 3))
    with pytest.raises(convkit.DtypeError, match="^of a network explain takes x alone, got padding too$"):
        convkit.explain(net, (1, 3, 8, 8), padding=1)
