"""Kernels whose tails the drawn calls seldom meet, on every length around their vectors, between forbidden pages.

Results must have the bits that they have in ordinary memory; a byte too far ends the process.
"""

from dataclasses import replace
from itertools import product

import fuzz
import numpy as np
import pytest
from guards import guarded, guarded_empty, hostile_memory

import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.plan import common, winograd
from convkit.plan import depthwise as plan
from convkit.spec.activation import ACTIVATIONS, FROM_OUTPUT
from convkit.spec.conv import conv_spec
from convkit.verification import same_bits

pytestmark = pytest.mark.skipif(not native.available, reason=native.reason or "")
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
both_ends = pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
TAILS = (1, 3, 5, 7, 8, 9, 15, 17, 33)  # around vectors of 4 to 16 lanes, and several of them


def check(at_end, name, *args, **options):
    """A function of ``convkit.functional`` in ordinary and in guarded memory."""
    want = fuzz.outputs(F, name, args, options)
    with hostile_memory(at_end):
        got = fuzz.outputs(F, name, [guarded(a, at_end=at_end) if isinstance(a, np.ndarray) else a for a in args], options)
    assert same_bits(want, got), (name, [np.shape(a) for a in args], options)


def numbers(dtype, *shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@both_ends
@both_dtypes
@every_isa
def test_depthwise_with_channels_in_the_lanes(isa, dtype, at_end):
    lanes = {row[0]: row[3] for row in plan_rows(isa, dtype)}["channels"]
    shapes = product((1, lanes - 1, 2 * lanes + 1), (1, 5, 7, 15, 29), ((3, 1), (3, 2), (5, 1), (7, 2)))
    for groups, width, (kernel, stride) in shapes:
        spec, _, _ = conv_spec((1, groups, 4, width), dtype, (groups, 1, kernel, kernel), dtype, None, None, stride,
                               kernel // 2, 1, groups, rank=2)
        operands = {"x": numbers(dtype, *spec.x_shape(2)), "w": numbers(dtype, *spec.weight_shape),
                    "b": numbers(dtype, groups), "dy": numbers(dtype, *spec.y_shape(2))}
        for direction in ("forward", "input_gradient", "weight_gradient"):
            one = replace(spec, direction=direction)
            if plan.takes_channels(one):
                check_depthwise(one, isa, "channels", operands, at_end)


@both_ends
@both_dtypes
@every_isa
def test_depthwise_in_rows(isa, dtype, at_end):
    rows = set()
    for width, (kernel, stride), pad in product((8, 9, 11, 15, 18, 24, 25, 33), product((3, 5, 7), (1, 2)), (0, 1)):
        spec, _, _ = conv_spec((1, 2, 5, width * stride - pad), dtype, (2, 1, kernel, kernel), dtype, None, None,
                               stride, kernel // 2 - pad, 1, 2, rank=2)
        operands = {"x": numbers(dtype, *spec.x_shape(2)), "w": numbers(dtype, *spec.weight_shape),
                    "b": numbers(dtype, 2)}
        rows.add(plan.variant(spec, isa))
        check_depthwise(spec, isa, plan.variant(spec, isa), operands, at_end)
    assert len(rows - {"taps", "channels"}) == 6


def check_depthwise(spec, isa, name, operands, at_end):
    """The same bits where memory beside the operands is out of reach."""
    want = by_row(spec, isa, name, operands, np.zeros)
    held = {key: guarded(a, at_end=at_end) for key, a in operands.items()}
    with hostile_memory(at_end):
        got = by_row(spec, isa, name, held, lambda *a: guarded_empty(*a, at_end=at_end, fill=0))
    assert same_bits(want, got), (spec, name)


def plan_rows(isa, dtype):
    from convkit.kernels import depthwise
    return depthwise.variants(isa, dtype.itemsize)


def by_row(spec, isa, name, a, make):
    kernel = plan.make(spec, isa, name)
    if spec.direction == "weight_gradient":
        out = make(spec.weight_shape, spec.dtype)
        kernel.dot(a["dy"], a["x"], out, 2, 1)
    elif spec.direction == "forward":
        out = make(spec.y_shape(2), spec.dtype)
        kernel.sum(a["x"], a["w"], a["b"], out, 2, 1)
    else:
        out = make(spec.x_shape(2), spec.dtype)
        kernel.sum(a["dy"], a["w"], None, out, 2, 1)
    return out


@both_ends
@pytest.mark.parametrize(("algorithm", "side", "kernels"), [
    ("winograd", 4, (3, 5)), ("winograd", 2, (3,)), ("gemm", None, (1, 3)), ("direct", None, (1, 3))])
@every_isa
def test_convolutions(isa, algorithm, side, kernels, at_end, monkeypatch):
    computed = 0
    monkeypatch.setattr(winograd, "tile_side", lambda *_: side)
    common.clear()
    with convkit.use(isa=isa, algorithm=algorithm):
        for channels, filters, (height, width), kernel in product(
                (1, 17), (1, 15, 33), ((3, 3), (4, 17), (1, 70)), kernels):
            x, w, b = (numbers(np.float32, *s) for s in ((2, channels, height, width), (filters, channels, kernel, kernel),
                                                         (filters,)))
            dy = numbers(np.float32, 2, filters, height, width)
            calls = [("conv2d", (x, w, b), 1), ("conv2d_backward", (dy, x, w), 1)]
            if side != 4:
                calls.append(("conv2d", (x, w, b), 2))
            if side != 2:
                calls.append(("conv2d_backward", (dy[:, :, :(height + 1) // 2, :(width + 1) // 2].copy(), x, w), 2))
            for name, args, stride in calls:
                try:
                    check(at_end, name, *args, stride=stride, padding=kernel // 2)
                except common.AlgorithmRefused:
                    continue
                computed += 1
    common.clear()
    assert computed > 10


@both_ends
@both_dtypes
@every_isa
def test_one_row_of_every_length(isa, dtype, at_end):
    with convkit.use(isa=isa):
        for n in TAILS:
            x, dy = numbers(dtype, n), numbers(dtype, n)
            for name in ACTIVATIONS:
                check(at_end, name, x)
                y = getattr(F, name)(x)
                check(at_end, f"{name}_backward", dy, y if name in FROM_OUTPUT else x)
            for name in ("softmax", "log_softmax"):
                check(at_end, name, x)
                check(at_end, f"{name}_backward", dy, getattr(F, name)(x))
            check(at_end, "layer_norm", x[None], (n,), dy, x)
            check(at_end, "layer_norm_backward", dy[None], x[None], (n,), dy)
            check(at_end, "prelu_backward", dy, x, x[:1])
            check(at_end, "linear", x[None], numbers(dtype, 3, n), x[:1].repeat(3))
            check(at_end, "linear", numbers(dtype, 2, 3), numbers(dtype, n, 3), x)
            check(at_end, "linear_backward", dy[None], numbers(dtype, 1, 5), numbers(dtype, n, 5))


@both_ends
@both_dtypes
@every_isa
def test_losses_of_every_length(isa, dtype, at_end):
    with convkit.use(isa=isa):
        for n, reduction in product(TAILS, ("mean", "none")):
            x, y = numbers(dtype, n, 3), np.abs(numbers(dtype, 3, n)).T.copy() % 1
            classes = np.arange(n) % 3
            for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"):
                check(at_end, name, x, y, reduction=reduction)
                check(at_end, f"{name}_backward", x, y)
            for name in ("cross_entropy", "nll_loss"):
                check(at_end, name, x, classes, reduction=reduction)
                check(at_end, name, x.T.copy()[None], np.ones((1, n), int) % n * 0, reduction=reduction)
                check(at_end, f"{name}_backward", x, classes)
            check(at_end, "cross_entropy", x.T.copy(), np.arange(3) % n, y[0, :1].repeat(n), label_smoothing=0.1)
            check(at_end, "dice_loss", y[None], y[None], reduction=reduction)


@both_ends
@both_dtypes
@every_isa
def test_planes_of_every_width(isa, dtype, at_end):
    with convkit.use(isa=isa):
        for n in TAILS:
            x, dy = numbers(dtype, 2, 3, 2, n), numbers(dtype, 2, 3, 2, n)
            w, b = numbers(dtype, 3), numbers(dtype, 3)
            check(at_end, "batch_norm", x, w.copy(), np.abs(b), w, b, training=True)
            check(at_end, "batch_norm", x, w.copy(), np.abs(b), w, b)
            check(at_end, "batch_norm_backward", dy, x, w)
            check(at_end, "group_norm", x, 3, w, b)
            check(at_end, "group_norm_backward", dy, x, 3, w)
            check(at_end, "local_response_norm", x, 3)
            check(at_end, "local_response_norm_backward", dy, x, 3)
            for mode in ("nearest", "bilinear"):
                for size in ((3, n + 3), (1, max(1, n // 2)), (4, 2 * n)):
                    check(at_end, "interpolate", x, size=size, mode=mode)
                    check(at_end, "interpolate_backward", numbers(dtype, 2, 3, *size), x.shape, size=size, mode=mode)
            for stride in (1, 2):
                columns = F.unfold(x, (2, min(n, 3)), padding=(0, 1), stride=stride)
                check(at_end, "unfold", x, (2, min(n, 3)), padding=(0, 1), stride=stride)
                check(at_end, "fold", columns, (2, n), (2, min(n, 3)), padding=(0, 1), stride=stride)
            check(at_end, "adaptive_avg_pool2d", x, (1, max(1, n // 3)))
            check(at_end, "adaptive_max_pool2d", x, (2, max(1, n // 3)))
            check(at_end, "lp_pool2d", x, 2, (2, 1), (1, 1))
            check(at_end, "embedding", np.arange(n) % 5, numbers(dtype, 5, n))
            check(at_end, "embedding_backward", numbers(dtype, n, n), np.arange(n) % 5, 5)
            check(at_end, "pixel_shuffle", numbers(dtype, 4, 2, n), 2)
            check(at_end, "channel_shuffle", x, 3)
