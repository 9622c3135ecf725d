"""The same bits at any number of threads, for a batch and its items, with packed weights and without, run after run."""

from itertools import product

import fuzz
import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit import nn
from convkit.cli.nets import NETS
from convkit.cli.steps import make_step
from convkit.kernels import native
from convkit.plan.common import AlgorithmRefused
from convkit.spec.activation import ACTIVATIONS
from convkit.verification import same_bits

THREADS = (1, 2, 3, 8)
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))

# Enough work in each for the pool: below about a million multiply-adds a call stays on its thread.
CONVS = {
    "3x3": ((5, 24, 11, 13), (40, 24, 3, 3), {"padding": 1}),
    "strided": ((5, 16, 33, 31), (24, 16, 3, 3), {"stride": 2, "padding": 1}),
    "dilated": ((3, 16, 20, 21), (24, 16, 3, 3), {"dilation": 3, "padding": 3}),
    "1x1": ((5, 64, 14, 15), (48, 64, 1, 1), {}),
    "groups": ((4, 32, 20, 20), (48, 8, 3, 3), {"groups": 4, "padding": 1}),
    "depthwise": ((5, 40, 31, 29), (40, 1, 3, 3), {"groups": 40, "padding": 1}),
    "few channels": ((4, 3, 40, 40), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "one pixel": ((70, 300, 1, 1), (70, 300, 1, 1), {}),
    "long sum": ((2, 700, 5, 5), (9, 700, 3, 3), {"padding": 1}),
    "1-d": ((3, 24, 500), (40, 24, 5), {"dilation": 4, "padding": ((16, 0),)}),
    "1-d depthwise": ((3, 40, 900), (40, 1, 31), {"groups": 40, "padding": 15}),
    "3-d": ((3, 8, 6, 9, 10), (24, 8, 3, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
    "3-d depthwise": ((3, 16, 9, 20, 20), (16, 1, 3, 3, 3), {"padding": 1, "groups": 16}),
    "mirrored": ((3, 16, 18, 20), (24, 16, 3, 3), {"padding": 3, "padding_mode": "reflect"}),
    "repeated": ((3, 8, 5, 7, 8), (24, 8, 3, 3, 3), {"padding": 2, "padding_mode": "replicate"}),
}
TRANSPOSED = {
    "4x4s2": ((5, 24, 7, 9), (24, 40, 4, 4), {"stride": 2, "padding": 1}),
    "stride past the kernel": ((3, 32, 12, 13), (32, 40, 2, 3), {"stride": 4, "output_padding": 1}),
    "groups": ((4, 32, 14, 15), (32, 8, 3, 3), {"groups": 4, "padding": 1, "dilation": 2}),
    "depthwise": ((5, 40, 22, 23), (40, 1, 4, 4), {"groups": 40, "padding": 1, "stride": 2}),
    "1-d": ((4, 64, 50), (64, 32, 16), {"stride": 8, "padding": 4}),
    "3-d": ((3, 16, 5, 6, 7), (16, 12, 3, 2, 3), {"padding": 1, "stride": (1, 2, 2), "output_padding": (0, 1, 1)}),
}


def data(*shapes, dtype=np.float32):
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@every_isa
@pytest.mark.parametrize("case", [*CONVS, *(f"transposed {name}" for name in TRANSPOSED)])
def test_convolution(isa, case):
    transposed = case.startswith("transposed")
    x_shape, w_shape, options = TRANSPOSED[case.removeprefix("transposed ")] if transposed else CONVS[case]
    name = f"conv{'_transpose' * transposed}{len(x_shape) - 2}d"
    conv, conv_backward = getattr(F, name), getattr(F, f"{name}_backward")
    filters = w_shape[1] * options.get("groups", 1) if transposed else w_shape[0]
    for dtype in (np.float32, np.float64):
        x, w, bias = data(x_shape, w_shape, (filters,), dtype=dtype)
        with convkit.use(isa=isa):
            results = []
            for threads in (*THREADS, 2):
                with convkit.threads(threads):
                    y = conv(x, w, bias, **options)
                    results.append((y, *conv_backward(y, x, w, **options)))
            for other in results[1:]:
                assert same_bits(results[0], other)
            y, dx, *_ = results[0]
            for i in (0, len(x) - 1):
                assert same_bits(conv(x[i:i + 1], w, bias, **options), y[i:i + 1])
                assert same_bits(conv(x[i], w, bias, **options), y[i])
                assert same_bits(conv_backward(y[i:i + 1], x[i:i + 1], w, **options)[0], dx[i:i + 1])
            halves = [conv(part, w, bias, **options) for part in (x[:2], x[2:])]
            assert same_bits(np.concatenate(halves), y)



@every_isa
@pytest.mark.parametrize("algorithm", ["direct", "gemm", None])
def test_no_tile_makes_a_zero_negative(isa, algorithm):
    """A product with zero may be -0. A sum begins with 0, whatever the tile: else its bits would tell the tile."""
    for channels, filters, size, k in product((1, 3), (1, 5, 16, 37), (1, 4, 9, 14, 30), (1, 3)):
        x, w = np.zeros((2, channels, size), np.float32), np.full((filters, channels, k), -1, np.float32)
        try:
            with convkit.use(isa=isa, algorithm=algorithm):
                y = F.conv1d(x, w, padding=1)
        except AlgorithmRefused:
            continue
        assert not np.signbit(y).any(), (channels, filters, size, k)

@every_isa
def test_a_layer_with_packed_weights_gives_the_bits_of_the_function(isa):
    with convkit.use(isa=isa):
        for groups, (make, function) in product((1, 4, 16), ((nn.Conv2d, F.conv2d),
                                                             (nn.ConvTranspose2d, F.conv_transpose2d))):
            x, = data((3, 16, 17, 18))
            layer = make(16, 32, 3, padding=1, groups=groups, rng=np.random.default_rng(0))
            want = function(x, layer.weight.data, layer.bias.data, padding=1, groups=groups)
            assert same_bits(layer(x), want)
            assert same_bits(layer(x), want)
            assert same_bits(layer(x[1:2]), want[1:2])
        x, = data((33, 50))
        layer = nn.Linear(50, 41, rng=np.random.default_rng(0))
        want = F.linear(x, layer.weight.data, layer.bias.data)
        assert same_bits(layer(x), want)
        assert same_bits(layer(x[7:8]), want[7:8])


LINEARS = [((1, 300), (200, 300)), ((70, 300), (200, 300)), ((64, 1000), (10, 1000)), ((257, 33), (65, 33)),
           ((5, 17, 100), (90, 100))]


@every_isa
@pytest.mark.parametrize(("x_shape", "w_shape"), LINEARS, ids=str)
def test_linear(isa, x_shape, w_shape):
    x, w, bias = data(x_shape, w_shape, w_shape[:1])
    with convkit.use(isa=isa):
        results = []
        for threads in THREADS:
            with convkit.threads(threads):
                y = F.linear(x, w, bias)
                results.append((y, *F.linear_backward(y, x, w)))
        for other in results[1:]:
            assert same_bits(results[0], other)
        y, dx, *_ = results[0]
        for i in range(0, len(x), max(1, len(x) // 3)):
            assert same_bits(F.linear(x[i:i + 1], w, bias), y[i:i + 1])
            assert same_bits(F.linear(x[i], w, bias), y[i])
            assert same_bits(F.linear_backward(y[i], x[i], w)[0], dx[i])


def pooling_calls():
    """One call of each pooling, with work enough for several threads."""
    calls = {}
    for rank, shape in ((1, (4, 20, 2550)), (2, (4, 20, 50, 51)), (3, (4, 20, 13, 14, 15))):
        x, d, out = data(shape)[0], f"{rank}d", (7, 11, 6)[:rank]
        y, index = getattr(F, f"max_pool{d}")(x, 2, return_indices=True)
        norms, small = getattr(F, f"lp_pool{d}")(x, 2, 3, 2), getattr(F, f"adaptive_avg_pool{d}")(x, out)
        _, where = getattr(F, f"adaptive_max_pool{d}")(x, out, True)
        calls |= {
            f"max_pool{d}": ((x, 3, 2, 1), {}), f"max_pool{d} indices": ((x, 3, 2, 1), {"return_indices": True}),
            f"min_pool{d}": ((x, 2, 2), {"ceil_mode": True}), f"avg_pool{d}": ((x, 3, 1, 1), {}),
            f"max_pool{d}_backward": ((y, index, shape), {}), f"min_pool{d}_backward": ((y, index, shape), {}),
            f"avg_pool{d}_backward": ((x, shape, 3, 1, 1), {}), f"lp_pool{d}": ((x, 2, 3, 2), {}),
            f"lp_pool{d}_backward": ((norms, x, norms, 2, 3, 2), {}), f"adaptive_avg_pool{d}": ((x, out), {}),
            f"adaptive_max_pool{d}": ((x, out, True), {}), f"adaptive_avg_pool{d}_backward": ((small, shape), {}),
            f"adaptive_max_pool{d}_backward": ((small, where, shape), {}),
            f"max_unpool{d}": ((y, index, 2), {"output_size": shape}), f"max_unpool{d}_backward": ((x, index), {})}
    point, where = F.global_max_pool(x, True)
    for kind in ("max", "min"):
        calls |= {f"global_{kind}_pool": ((x, True), {}), f"global_{kind}_pool_backward": ((point, where, shape), {})}
    return calls | {"global_avg_pool": ((x,), {}), "global_avg_pool_backward": ((point, shape), {})}


def calls_of_the_rest():
    x, dy = data((4, 20, 50, 51), (4, 20, 50, 51))
    flat, = data((900, 300))
    target = np.random.default_rng(1).integers(0, 300, 900)
    mean, var, weight = np.zeros(20, np.float32), np.ones(20, np.float32), np.full(20, 1.5, np.float32)
    y = F.softmax(flat)
    logs = F.log_softmax(flat)
    columns = F.unfold(x, 3, padding=1)
    pixels, y20 = np.random.default_rng(2).integers(0, 20, (4, 50, 51)), F.softmax(dy, 1)
    return {
        **pooling_calls(), "max_pool2d wide": ((x, 5, 1, 2), {"return_indices": True}),
        "avg_pool2d uncounted": ((x, 3, 2, 1, True, False), {}), "avg_pool2d global": ((x, (50, 51)), {}),
        **{name: ((x,), {}) for name in ACTIVATIONS}, **{f"{name}_backward": ((dy, x), {}) for name in ACTIVATIONS},
        "softmax": ((flat,), {}), "softmax axis": ((x, 1), {}), "log_softmax": ((flat,), {}),
        "log_softmax axis": ((x, 0), {}), "softmax_backward": ((flat, y), {}),
        "log_softmax_backward": ((flat, logs), {}),
        "cross_entropy": ((flat, target), {}), "cross_entropy none": ((flat, target), {"reduction": "none"}),
        "cross_entropy pixels": ((x, pixels), {"ignore_index": 3, "label_smoothing": 0.1}),
        "cross_entropy_backward": ((flat, target), {}),
        "cross_entropy_backward pixels": ((x, pixels, weight), {"ignore_index": 3, "label_smoothing": 0.1}),
        "cross_entropy soft": ((x, y20), {"reduction": "none"}), "cross_entropy_backward soft": ((x, y20), {}),
        "nll_loss": ((logs, target), {}), "nll_loss_backward": ((logs, target), {}),
        "unfold": ((x, 3), {"padding": 1}), "unfold_backward": ((columns, x.shape, 3), {"padding": 1}),
        "fold": ((columns, (50, 51), 3), {"padding": 1}), "fold_backward": ((x, 3), {"stride": 2}),
        "embedding": ((pixels, flat), {}), "embedding_backward": ((flat, target % 30, 30, 3), {}),
        "interpolate": ((x,), {"scale_factor": 2.0}), "interpolate down": ((x, (21, 130)), {"mode": "bilinear"}),
        "interpolate up": ((x, (123, 70)), {"mode": "bilinear", "align_corners": True}),
        "interpolate_backward": ((dy, (4, 20, 23, 90)), {"size": (50, 51), "mode": "bilinear"}),
        **{name + part: ((x, dy), {}) for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "dice_loss",
                                                   "binary_cross_entropy_with_logits") for part in ("", "_backward")},
        "batch_norm": ((x, mean, var, weight, mean), {"training": True}),
        "batch_norm eval": ((x, mean, var, weight, mean), {}),
        "batch_norm_backward": ((dy, x, weight), {}),
        "layer_norm": ((x, (51,)), {}), "layer_norm_backward": ((dy, x, (51,)), {}),
        "group_norm": ((x, 5, weight, mean), {}), "group_norm_backward": ((dy, x, 5, weight), {}),
        "instance_norm": ((x, None, None, weight, mean), {}), "instance_norm_backward": ((dy, x, weight), {}),
        "local_response_norm": ((x, 5), {}), "local_response_norm_backward": ((dy, x, 4, 0.5), {}),
        "prelu": ((x, weight), {}), "prelu_backward": ((dy, x, weight), {}),
        "dropout2d_backward": ((x, x[:, :, 0, 0] > 0, 0.3), {}),
        "add": ((x, dy), {}),
        "channel_shuffle": ((x, 4), {}), "channel_shuffle_backward": ((x, 4), {}),
        "pixel_shuffle": ((x, 2), {}), "pixel_shuffle_backward": ((x[..., :50], 2), {}),
        "pixel_unshuffle": ((x[..., :50], 2), {}), "pixel_unshuffle_backward": ((x, 2), {}),
    }


def test_everything_else():
    calls = calls_of_the_rest()
    elsewhere = {"linear", "linear_backward", "dropout", "dropout_backward", "flatten",
                 *(f"dropout{rank}d{suffix}" for rank in (1, 2, 3) for suffix in ("", "_backward")),
                 # copies, which no thread shares
                 "pad", "pad_backward", "flatten_backward", "concat",
                 "concat_backward", "add_backward"}
    elsewhere |= {name for name in F.__all__ if name.startswith("conv")}
    assert {key.partition(" ")[0] for key in calls} | elsewhere == set(F.__all__)
    for isa in native.ISA_LEVELS or (None,):
        with convkit.use(isa=isa):
            for key, (args, options) in calls.items():
                name = key.partition(" ")[0]
                results = []
                for threads in THREADS:
                    with convkit.threads(threads):
                        results.append(fuzz.outputs(F, name, args, options))
                assert all(same_bits(results[0], other) for other in results[1:]), (isa, key)


BY_IMAGE = ["max_pool2d indices", "max_pool2d wide", "min_pool2d", "avg_pool2d", "avg_pool2d uncounted",
            "avg_pool2d global", "lp_pool3d", "adaptive_max_pool2d", "adaptive_avg_pool3d", "global_avg_pool",
            *ACTIVATIONS, "softmax axis", "softmax", "log_softmax", "batch_norm eval", "cross_entropy none",
            "layer_norm", "group_norm", "instance_norm", "local_response_norm", "interpolate", "interpolate up",
            "interpolate down", "unfold", "fold"]


@every_isa
def test_a_batch_is_its_items(isa):
    calls = calls_of_the_rest()
    with convkit.use(isa=isa):
        for key in BY_IMAGE:
            args, options = calls[key]
            name, batched = key.partition(" ")[0], 2 if key.startswith("cross_entropy") else 1
            want = fuzz.outputs(F, name, args, options)
            for i in (0, 3):
                item = tuple(a[i:i + 1] if k < batched else a for k, a in enumerate(args))
                alone = fuzz.outputs(F, name, item, options)
                kept = 1 if name == "batch_norm" else len(want)
                assert all(same_bits(a, w[i:i + 1]) for a, w in zip(alone[:kept], want[:kept], strict=True)), (key, i)


def test_dropout_depends_on_its_generator_alone():
    x, = data((300, 301))
    results = []
    for threads in THREADS:
        with convkit.threads(threads):
            y, mask = F.dropout(x, 0.3, rng=np.random.default_rng(9))
            results.append((y, mask, F.dropout_backward(x, mask, 0.3)))
    assert all(same_bits(results[0], other) for other in results[1:])


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_a_training_run_gives_the_same_parameters_at_any_number_of_threads(net):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((4, *net.x[1:]), dtype=np.float32), rng.integers(0, net.classes, 4)
    first, results = net.build(nn).state_dict(), []
    for threads in (1, 2, 3):
        model = net.build(nn)
        model.load_state_dict(first)
        step = make_step(net, model, x, target)
        with convkit.threads(threads):
            losses = [step() for _ in range(3)]
        results.append((losses, model.state_dict()))
    for losses, state in results[1:]:
        assert losses == results[0][0]
        assert all(same_bits(state[key], results[0][1][key]) for key in state)
    assert not any(np.array_equal(first[key], value) for key, value in results[0][1].items())


def test_every_nan_counts_as_the_same_one():
    nan = np.array([np.nan], np.float32)
    assert same_bits(nan, -nan)
    assert not same_bits(nan, np.ones(1, np.float32))
    assert not same_bits(np.zeros(1), -np.zeros(1))
    assert not same_bits((nan,), nan)
