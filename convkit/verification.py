"""Every operation against its NumPy twin, on shapes drawn at random: ``convkit.verify``, ``convkit verify``.

The twin runs in float64. An error is counted in units of its bound, which is computed in every element
from the absolute values of the operands, so that one wrong tap shows however large the rest is.
Operations that only choose or only add and multiply must be exact on small integers. Each call is made
with one and with two threads, whose results must agree in every bit. float16 has the bound of float32, in
which it is computed, and half of its own last digit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from convkit import functional, reference, settings
from convkit.kernels import native
from convkit.plan import common
from convkit.spec.activation import ACTIVATIONS, FROM_OUTPUT
from convkit.spec.common import integer, pad_pairs, tuple_of
from convkit.spec.conv import crop_pairs

DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
GATED = ("gelu", "hardswish", "mish", "silu")
FACTOR = 8  # every bound is 8 eps times what the operation does to the absolute values


@dataclass(frozen=True)
class Call:
    """Positional arguments and options of one call; ``abs_args`` is what its bound is computed from."""

    args: tuple
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """``draw(fuzz)`` makes a call; ``bound(name, call, want)`` the largest error per output, over 8 eps."""

    name: str
    draw: Callable
    bound: Callable
    exact_on_integers: bool = True


class Fuzz:
    """Random sizes, numbers and layouts for one call; the seed alone decides them."""

    def __init__(self, seed, dtype):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.integers = bool(self.rng.integers(2))
        self.large = self.rng.random() < 0.1  # enough work for a second thread

    def size(self, low, high):
        """An integer in ``[low, high]``."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, p):
        """True with probability ``p``."""
        return bool(self.rng.random() < p)

    def sizes(self, count, low, high):
        """``count`` integers in ``[low, high]``."""
        return tuple(self.size(low, high) for _ in range(count))

    def numbers(self, *shape):
        """Small integers or normal numbers, now and then in an unusual memory layout."""
        values = self.rng.integers(-4, 5, shape) if self.integers else self.rng.standard_normal(shape)
        values = values.astype(self.dtype)
        layout = self.size(0, 7)
        if layout == 0:
            return np.asfortranarray(values)
        if layout == 1 and values.ndim:
            return np.repeat(values, 2, axis=-1)[..., ::2]
        if layout == 2 and values.ndim:
            return values[::-1].copy()[::-1]
        return values

    def positive(self, *shape):
        """Numbers between 0.5 and 2."""
        return self.rng.uniform(0.5, 2, shape).astype(self.dtype)


# ---- drawing calls


ROOM = {1: (30, 400), 2: (14, 40), 3: (5, 12)}  # elements per axis beyond the least, in small and in large calls


def _channels(fuzz):
    """(kind, groups, input and output channels per group): depthwise, grouped, plain or (maybe) 1x1."""
    kind = fuzz.size(0, 3)
    groups = fuzz.size(1, 40) if kind == 0 else fuzz.size(2, 4) if kind == 1 else 1
    return kind, groups, 1 if kind == 0 else fuzz.size(1, 20), fuzz.size(1, 2) if kind == 0 else fuzz.size(1, 40)


def _taps(fuzz, rank, ones):
    """Kernel, stride, dilation and the elements that a window spans, per axis."""
    if fuzz.chance(0.1):  # what Winograd is for along one axis
        axis, apart = fuzz.size(0, rank - 1), fuzz.size(1, 5)
        kernel, dilation = (tuple(value if i == axis else 1 for i in range(rank))
                            for value in (fuzz.size(2, 7) if fuzz.chance(0.4) else 3, apart))
        return kernel, (1,) * rank, dilation, tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    if rank > 1 and fuzz.chance(0.2):  # what Winograd is for: anything along the depth, mostly 3 x 3 in its slices
        depth, step, apart = ((n,) * (rank - 2) for n in (fuzz.size(1, 3), fuzz.size(1, 2), fuzz.size(1, 2)))
        spans = tuple((k - 1) * d + 1 for k, d in zip(depth, apart, strict=True))
        wide = fuzz.sizes(2, 1, 3) if fuzz.chance(0.3) else (1, 1)
        if fuzz.chance(0.2):
            return (*depth, 3, 3), (*step, 2, 2), (*apart, 1, 1), (*spans, 3, 3)
        plane = fuzz.sizes(2, 2, 5) if fuzz.chance(0.3) else (3, 3)
        return (*depth, *plane), (*step, 1, 1), (*apart, *wide), (*spans, *((k - 1) * d + 1 for k, d in
                                                                          zip(plane, wide, strict=True)))
    kernel = (1,) * rank if ones else fuzz.sizes(rank, 1, 5 if rank < 3 else 3)
    dilation = fuzz.sizes(rank, 1, 3) if fuzz.chance(0.3) else (1,) * rank
    stride = fuzz.sizes(rank, 1, 3) if fuzz.chance(0.4) else (1,) * rank
    return kernel, stride, dilation, tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def _convolution(fuzz, rank=2):
    """Input, weight and geometry of a convolution, of every kind that has a plan of its own."""
    kind, groups, per_group, filters = _channels(fuzz)
    kernel, stride, dilation, spans = _taps(fuzz, rank, kind == 3 and fuzz.chance(0.5))
    padding = tuple((fuzz.size(0, s), fuzz.size(0, s)) for s in spans)
    least = [max(1, s - sum(p)) for s, p in zip(spans, padding, strict=True)]
    size = tuple(fuzz.size(n, n + ROOM[rank][fuzz.large]) for n in least)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if fuzz.chance(0.2) and all(max(p) < n for p, n in zip(padding, size, strict=True)):
        options["padding_mode"] = ("reflect", "replicate", "circular")[fuzz.size(0, 2)]
    x = fuzz.numbers(fuzz.size(1, 3), groups * per_group, *size)
    weight = fuzz.numbers(groups * filters, per_group, *kernel)
    return x, weight, options


def _transposed(fuzz, rank=2):
    """Input, weight and geometry of a transposed convolution."""
    kind, groups, per_group, filters = _channels(fuzz)
    kernel, stride, dilation, spans = _taps(fuzz, rank, kind == 3 and fuzz.chance(0.5))
    size = tuple(fuzz.size(1, 1 + ROOM[rank][fuzz.large]) for _ in spans)
    extra = tuple(fuzz.size(0, max(s, d) - 1) if fuzz.chance(0.5) else 0 for s, d in zip(stride, dilation, strict=True))
    room = [(n - 1) * s + span + e - 1 for n, s, span, e in zip(size, stride, spans, extra, strict=True)]
    padding = tuple((fuzz.size(0, min(r // 2, s)), fuzz.size(0, min(r // 2, s)))
                    for r, s in zip(room, spans, strict=True))
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    x = fuzz.numbers(fuzz.size(1, 3), groups * per_group, *size)
    weight = fuzz.numbers(groups * per_group, filters, *kernel)
    return x, weight, options


def _forward(operands, rank):
    def draw(fuzz):
        x, weight, options = operands(fuzz, rank)
        filters = weight.shape[0] if operands is _convolution else weight.shape[1] * options["groups"]
        return Call((x, weight, fuzz.numbers(filters) if fuzz.chance(0.7) else None), options)
    return draw


def _backward(operands, rank, name):
    def draw(fuzz):
        x, weight, options = operands(fuzz, rank)
        return Call((fuzz.numbers(*_shape_after(name, x, weight, **options)), x, weight), options)
    return draw


def _pad_options(fuzz):
    mode = ("constant", "reflect", "replicate", "circular")[fuzz.size(0, 3)]
    rank = fuzz.size(1, 3)
    size = fuzz.sizes(rank, 1, 40 if fuzz.large else 9)
    lows = (max(-(n // 2), -3) for n in size) if mode == "constant" else (0,) * rank
    most = {"constant": 9, "replicate": 9, "reflect": -1, "circular": 0}[mode]
    padding = [fuzz.size(low, most if most == 9 else n + most)
               for low, n in reversed(list(zip(lows, size, strict=True))) for _ in range(2)]
    return fuzz.numbers(*fuzz.sizes(2, 1, 5), *size), padding, mode


def _pad(fuzz):
    return Call((*_pad_options(fuzz), fuzz.size(-2, 2)))


def _pad_backward(fuzz):
    x, padding, mode = _pad_options(fuzz)
    return Call((fuzz.numbers(*_shape_after("pad", x, padding, mode)), padding, mode))


def _shape_after(name, x, *args, **options):
    return getattr(reference, name)(x, *args, **options).shape


def _windows(fuzz, rank, dilated=False, padded=True):
    """Input and geometry of a pooling."""
    kernel = fuzz.sizes(rank, 1, 6 - rank if rank == 3 else 5)
    dilation = fuzz.sizes(rank, 1, 2) if dilated and fuzz.chance(0.3) else (1,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = {1: 3000 if fuzz.large else 60, 2: 60 if fuzz.large else 20, 3: 20 if fuzz.large else 6}[rank]
    size = tuple(fuzz.size(s, s + room) for s in spans)
    options = {"kernel_size": kernel, "stride": fuzz.sizes(rank, 1, 3) if fuzz.chance(0.7) else None,
               "ceil_mode": fuzz.chance(0.3)}
    if padded:
        options["padding"] = tuple(fuzz.size(0, k // 2) for k in kernel)
    if dilated:
        options["dilation"] = dilation
    return fuzz.numbers(fuzz.size(1, 2), fuzz.size(1, 20 if rank < 3 else 5), *size), options


def _with_nans(fuzz, x):
    if fuzz.chance(0.2):
        x[fuzz.rng.random(x.shape) < 0.05] = np.nan
    return x


def _extreme_pool(rank):
    def draw(fuzz):
        x, options = _windows(fuzz, rank, dilated=True)
        return Call((_with_nans(fuzz, x),), {**options, "return_indices": fuzz.chance(0.5)})
    return draw


def _extreme_pool_backward(name, rank):
    def draw(fuzz):
        x, options = _windows(fuzz, rank, dilated=True)
        y, indices = getattr(reference, name)(x, **options, return_indices=True)
        return Call((fuzz.numbers(*y.shape), indices, x.shape))
    return draw


def _averages(fuzz, rank):
    x, options = _windows(fuzz, rank)
    options["count_include_pad"] = fuzz.chance(0.5)
    options["divisor_override"] = fuzz.size(1, 9) if fuzz.chance(0.2) else None
    return x, options


def _avg_pool(rank):
    def draw(fuzz):
        x, options = _averages(fuzz, rank)
        return Call((x,), options)
    return draw


def _avg_pool_backward(rank):
    def draw(fuzz):
        x, options = _averages(fuzz, rank)
        return Call((fuzz.numbers(*_shape_after(f"avg_pool{rank}d", x, **options)), x.shape), options)
    return draw


def _lp_pool(rank):
    def draw(fuzz):
        x, options = _windows(fuzz, rank, padded=False)
        options["norm_type"] = (1, 2, 3, 2.5, 4, np.inf)[fuzz.size(0, 5)]
        if options["norm_type"] in (1, 3, 2.5):  # sums near 0 have steep roots
            np.abs(x, out=x)
        return Call((x,), options)
    return draw


def _lp_pool_backward(rank):
    def draw(fuzz):
        call = _lp_pool(rank)(fuzz)
        y = getattr(reference, f"lp_pool{rank}d")(*call.args, **call.options)
        return Call((fuzz.numbers(*y.shape), *call.args, y), call.options)
    return draw


def _adaptive_input(fuzz, rank):
    room = {1: 2000 if fuzz.large else 60, 2: 70 if fuzz.large else 20, 3: 20 if fuzz.large else 8}[rank]
    x = fuzz.numbers(fuzz.size(1, 2), fuzz.size(1, 10), *fuzz.sizes(rank, 1, room))
    return x, tuple(None if fuzz.chance(0.1) else fuzz.size(1, n + 3) for n in x.shape[2:])


def _adaptive_max_pool(rank):
    def draw(fuzz):
        x, output_size = _adaptive_input(fuzz, rank)
        return Call((_with_nans(fuzz, x), output_size), {"return_indices": fuzz.chance(0.5)})
    return draw


def _adaptive_max_pool_backward(rank):
    def draw(fuzz):
        x, output_size = _adaptive_input(fuzz, rank)
        y, indices = getattr(reference, f"adaptive_max_pool{rank}d")(x, output_size, True)
        return Call((fuzz.numbers(*y.shape), indices, x.shape))
    return draw


def _adaptive_avg_pool(rank):
    return lambda fuzz: Call(_adaptive_input(fuzz, rank))


def _adaptive_avg_pool_backward(rank):
    def draw(fuzz):
        x, output_size = _adaptive_input(fuzz, rank)
        y_shape = _shape_after(f"adaptive_avg_pool{rank}d", x, output_size)
        return Call((fuzz.numbers(*y_shape), x.shape))
    return draw


def _global_input(fuzz):
    return _adaptive_input(fuzz, fuzz.size(1, 3))[0]


def _global_extreme_pool(fuzz):
    return Call((_with_nans(fuzz, _global_input(fuzz)),), {"return_indices": fuzz.chance(0.5)})


def _global_extreme_pool_backward(name):
    def draw(fuzz):
        x = _global_input(fuzz)
        y, indices = getattr(reference, name)(x, True)
        return Call((fuzz.numbers(*y.shape), indices, x.shape))
    return draw


def _global_avg_pool(fuzz):
    return Call((_global_input(fuzz),))


def _global_avg_pool_backward(fuzz):
    x = _global_input(fuzz)
    return Call((fuzz.numbers(*x.shape[:2], *(1,) * (x.ndim - 2)), x.shape))


def _unpooling(fuzz, rank):
    """Pooled values, their indices, and the planes that they come from."""
    x, options = _windows(fuzz, rank, padded=False)
    geometry = {name: options[name] for name in ("kernel_size", "stride")}
    y, indices = getattr(reference, f"max_pool{rank}d")(x, **geometry, return_indices=True)
    return y, indices, x, geometry


def _max_unpool(rank):
    def draw(fuzz):
        y, indices, x, geometry = _unpooling(fuzz, rank)
        stride = geometry["stride"] or geometry["kernel_size"]
        ends = [(n - 1) * s + k for n, s, k in zip(y.shape[2:], stride, geometry["kernel_size"], strict=True)]
        near = all(n - e < s for n, e, s in zip(x.shape[2:], ends, stride, strict=True))
        size = x.shape[2:] if near else [e + s - 1 for e, s in zip(ends, stride, strict=True)]
        return Call((fuzz.numbers(*y.shape), indices % np.prod(size), *geometry.values()), {"output_size": size})
    return draw


def _max_unpool_backward(rank):
    def draw(fuzz):
        _, indices, x, _ = _unpooling(fuzz, rank)
        return Call((fuzz.numbers(*x.shape), indices))
    return draw


def _any_array(fuzz):
    return fuzz.numbers(*fuzz.sizes(fuzz.size(1, 4), 1, 40 if fuzz.large else 9))


def _activation_options(fuzz, name):
    """Arguments of an activation; powers of two for beta, so that ``beta * x`` is exact at either precision."""
    if name == "leaky_relu":
        return {"negative_slope": fuzz.size(-1, 4) / 4}
    if name == "elu":
        return {"alpha": fuzz.size(1, 8) / 4}
    if name == "gelu":
        return {"approximate": ("none", "tanh")[fuzz.size(0, 1)]}
    return {"beta": 2.0 ** fuzz.size(-2, 2), "threshold": float(fuzz.size(3, 30))} if name == "softplus" else {}


def _activation(name):
    def draw(fuzz):
        return Call((_any_array(fuzz),), _activation_options(fuzz, name))
    return draw


def _activation_backward(name):
    def draw(fuzz):
        x, options = _any_array(fuzz), _activation_options(fuzz, name)
        other = getattr(reference, name)(x, **options) if name in FROM_OUTPUT else x
        return Call((fuzz.numbers(*x.shape), other), options)
    return draw


def _linear(fuzz):
    top = 300 if fuzz.large else 50
    lead = fuzz.sizes(fuzz.size(0, 2), 1, 12)
    x = fuzz.numbers(*lead, fuzz.size(1, top))
    weight = fuzz.numbers(fuzz.size(1, top), x.shape[-1])
    return Call((x, weight, fuzz.numbers(weight.shape[0]) if fuzz.chance(0.7) else None))


def _linear_backward(fuzz):
    x, weight, _ = _linear(fuzz).args
    return Call((fuzz.numbers(*x.shape[:-1], weight.shape[0]), x, weight))


def _softmax(fuzz):
    x = _any_array(fuzz)
    return Call((x, fuzz.size(-x.ndim, x.ndim - 1)))


def _softmax_backward(name):
    def draw(fuzz):
        x, axis = _softmax(fuzz).args
        return Call((fuzz.numbers(*x.shape), getattr(reference, name)(x, axis), axis))
    return draw


def _classes(fuzz):
    """Logits, target and options of a loss over classes."""
    logits = fuzz.numbers(*fuzz.sizes(2, 1, 60 if fuzz.large else 20), *fuzz.sizes(fuzz.size(0, 2), 1, 5))
    classes = logits.shape[1]
    target = fuzz.rng.integers(0, classes, logits.shape[:1] + logits.shape[2:])
    weight = fuzz.positive(classes) if fuzz.chance(0.3) else None
    options = {"reduction": ("mean", "sum", "none")[fuzz.size(0, 2)]}
    if classes > 1 and fuzz.chance(0.3):
        options["ignore_index"] = fuzz.size(0, classes)
        target.flat[0] = (options["ignore_index"] + 1) % classes  # so that some target counts
    return logits, target, weight, options


def _cross_entropy(fuzz):
    logits, target, weight, options = _classes(fuzz)
    if fuzz.chance(0.3):
        options["label_smoothing"] = float(fuzz.rng.random())
    if fuzz.chance(0.2):
        target, options["ignore_index"] = fuzz.positive(*logits.shape), -100
    return Call((logits, target, weight), options)


def _nll_loss(fuzz):
    logits, target, weight, options = _classes(fuzz)
    return Call((logits, target, weight), options)


def _gradient_of(draw):
    """A call of a loss's gradient: its own arguments, and what is to come of each of them."""
    def backward(fuzz):
        call = draw(fuzz)
        return Call(call.args, {**call.options, "reduction": ("mean", "sum")[fuzz.size(0, 1)]})
    return backward


def _pair(fuzz):
    x = _any_array(fuzz)
    return Call((x, fuzz.numbers(*x.shape)), {"reduction": ("mean", "sum", "none")[fuzz.size(0, 2)]})


def _smooth_l1(fuzz):
    call = _pair(fuzz)
    return Call(call.args, {**call.options, "beta": fuzz.size(0, 4) / 2})


def _binary(fuzz):
    call = _pair(fuzz)
    x = call.args[0]
    weight = fuzz.positive(*x.shape[fuzz.size(0, x.ndim - 1):]) if fuzz.chance(0.4) else None
    return Call((x, fuzz.rng.random(x.shape).astype(fuzz.dtype), weight), call.options)


def _dice(fuzz):
    shape = fuzz.sizes(fuzz.size(2, 4), 1, 9)
    return Call((fuzz.positive(*shape), fuzz.positive(*shape)),
                {"smooth": float(fuzz.size(0, 2)), "reduction": ("mean", "sum", "none")[fuzz.size(0, 2)]})


def _normalised(fuzz):
    return fuzz.numbers(fuzz.size(2, 5), fuzz.size(1, 20), *fuzz.sizes(2, 2, 30 if fuzz.large else 8))


def _batch_norm(fuzz):
    x = _normalised(fuzz)
    c = x.shape[1]
    affine = (fuzz.numbers(c), fuzz.numbers(c)) if fuzz.chance(0.7) else (None, None)
    return Call((x, fuzz.numbers(c), fuzz.positive(c), *affine), {"training": fuzz.chance(0.5)})


def _batch_norm_backward(fuzz):
    x = _normalised(fuzz)
    weight = fuzz.positive(x.shape[1]) if fuzz.chance(0.7) else None
    return Call((fuzz.numbers(*x.shape), x, weight))


def _interpolate(fuzz):
    rank = fuzz.size(1, 3)
    size = fuzz.sizes(rank, 1, (40, 14, 6)[rank - 1] * (3 if fuzz.large else 1))
    mode = ("nearest", "nearest-exact", "linear", "linear")[fuzz.size(0, 3)]
    options = {"mode": mode}
    if mode == "linear":
        options = {"mode": ("linear", "bilinear", "trilinear")[rank - 1], "align_corners": fuzz.chance(0.5)}
    if fuzz.chance(0.5):
        options["size"] = fuzz.sizes(rank, 1, 30)
    else:
        options["scale_factor"] = tuple(fuzz.size(1, 10) / 4 if n > 3 else float(fuzz.size(1, 3)) for n in size)
        options["recompute_scale_factor"] = fuzz.chance(0.3)
    return Call((fuzz.numbers(fuzz.size(1, 2), fuzz.size(1, 4), *size),), options)


def _interpolate_backward(fuzz):
    x, = (call := _interpolate(fuzz)).args
    return Call((fuzz.numbers(*_shape_after("interpolate", x, **call.options)), x.shape), call.options)


def _columns(fuzz):
    """An image and its windows, as unfold takes them."""
    rank = fuzz.size(1, 3)
    kernel, dilation = fuzz.sizes(rank, 1, 4), fuzz.sizes(rank, 1, 2)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple((fuzz.size(0, s), fuzz.size(0, s)) for s in spans)
    room = (60, 12, 3)[rank - 1] * (3 if fuzz.large else 1)
    size = tuple(fuzz.size(max(1, s - sum(p)), s + room) for s, p in zip(spans, padding, strict=True))
    lead = (fuzz.size(1, 3),) if fuzz.chance(0.7) else ()
    return fuzz.numbers(*lead, fuzz.size(1, 5), *size), {"kernel_size": kernel, "dilation": dilation,
                                                         "padding": padding, "stride": fuzz.sizes(rank, 1, 3)}


def _unfold(fuzz):
    x, window = _columns(fuzz)
    return Call((x,), window)


def _unfold_backward(fuzz):
    x, window = _columns(fuzz)
    return Call((fuzz.numbers(*_shape_after("unfold", x, **window)), x.shape), window)


def _fold(fuzz):
    x, window = _columns(fuzz)
    columns = fuzz.numbers(*_shape_after("unfold", x, **window))
    return Call((columns, x.shape[-len(window["stride"]):]), window)


def _embedding(fuzz):
    rows = fuzz.size(1, 60)
    indices = fuzz.rng.integers(0, rows, fuzz.sizes(fuzz.size(1, 2), 1, 60 if fuzz.large else 12))
    padding = fuzz.size(0, rows - 1) if fuzz.chance(0.3) else None
    return indices, rows, padding


def _embedding_forward(fuzz):
    indices, rows, padding = _embedding(fuzz)
    return Call((indices, fuzz.numbers(rows, fuzz.size(1, 40)), padding))


def _embedding_backward(fuzz):
    indices, rows, padding = _embedding(fuzz)
    return Call((fuzz.numbers(*indices.shape, fuzz.size(1, 40)), indices, rows, padding))


def _pixel_shuffle(fuzz):
    r = fuzz.size(1, 4)
    return Call((fuzz.numbers(*fuzz.sizes(fuzz.size(0, 2), 1, 4), fuzz.size(1, 5) * r * r, *fuzz.sizes(2, 1, 9)), r))


def _pixel_unshuffle(fuzz):
    r = fuzz.size(1, 4)
    lead = fuzz.sizes(fuzz.size(1, 3), 1, 5)
    return Call((fuzz.numbers(*lead, fuzz.size(1, 9) * r, fuzz.size(1, 9) * r), r))


def _channel_shuffle(fuzz):
    groups = fuzz.size(1, 5)
    return Call((fuzz.numbers(fuzz.size(1, 4), groups * fuzz.size(1, 6), *fuzz.sizes(fuzz.size(1, 3), 1, 7)), groups))


def _layer_norm(fuzz):
    x = fuzz.numbers(*fuzz.sizes(fuzz.size(0, 2), 1, 5), fuzz.size(2, 700 if fuzz.large else 40))
    shape = x.shape[fuzz.size(0, x.ndim - 1):]
    affine = (fuzz.numbers(*shape), fuzz.numbers(*shape)) if fuzz.chance(0.7) else (None, None)
    return Call((x, shape, *affine))


def _layer_norm_backward(fuzz):
    x, shape, weight, _ = _layer_norm(fuzz).args
    return Call((fuzz.numbers(*x.shape), x, shape, weight))


def _group_norm(fuzz):
    groups = fuzz.size(1, 4)
    size = fuzz.sizes(fuzz.size(0, 2), 2, 30 if fuzz.large else 8)
    x = fuzz.numbers(fuzz.size(1, 4), groups * fuzz.size(1, 6), *size)
    affine = (fuzz.numbers(x.shape[1]), fuzz.numbers(x.shape[1])) if fuzz.chance(0.7) else (None, None)
    return Call((x, groups, *affine))


def _group_norm_backward(fuzz):
    x, groups, weight, _ = _group_norm(fuzz).args
    return Call((fuzz.numbers(*x.shape), x, groups, weight))


def _instance_norm(fuzz):
    x, mean, var, *affine = _batch_norm(fuzz).args
    own = fuzz.chance(0.7)  # the running statistics then move in place, which the tests look at
    return Call((x, *((None, None) if own else (mean, var)), *affine), {"use_input_stats": own})


def _response(fuzz):
    x = _normalised(fuzz)
    numbers = {"alpha": fuzz.size(1, 8) / 4, "beta": fuzz.size(1, 4) / 4, "k": fuzz.size(1, 4) / 2}
    return Call((x, fuzz.size(1, 7)), numbers)


def _response_backward(fuzz):
    call = _response(fuzz)
    return Call((fuzz.numbers(*call.args[0].shape), *call.args), call.options)


def _prelu(fuzz):
    x = _any_array(fuzz)
    return Call((x, fuzz.numbers(x.shape[1] if x.ndim > 1 and fuzz.chance(0.7) else 1)))


def _prelu_backward(fuzz):
    x, weight = _prelu(fuzz).args
    return Call((fuzz.numbers(*x.shape), x, weight))


class _SameKey(np.random.Generator):
    """A generator from which every dropout draws one key, so that calls alike give masks alike."""

    def __init__(self, key):
        super().__init__(np.random.PCG64(key))
        self._key = np.uint64(key)

    def integers(self, *args, **kwargs):
        return self._key


def _for_dropout(fuzz, rank):
    """An array of any shape, or of channels with ``rank`` axes, and a probability."""
    x = fuzz.numbers(*fuzz.sizes(rank + fuzz.size(1, 2), 1, 20 if fuzz.large else 6)) if rank else _any_array(fuzz)
    return x, fuzz.size(0, 4) / 4 if fuzz.chance(0.5) else float(fuzz.rng.random())


def _dropout(rank):
    def draw(fuzz):
        x, p = _for_dropout(fuzz, rank)
        return Call((x, p, fuzz.chance(0.9)), {"rng": _SameKey(fuzz.size(0, 2**62))})
    return draw


def _dropout_backward(rank):
    def draw(fuzz):
        dy, p = _for_dropout(fuzz, rank)
        mask = fuzz.rng.random(dy.shape[:dy.ndim - rank]) < 0.6
        return Call((dy, mask if fuzz.chance(0.9) else None, p))
    return draw


def _flat(fuzz):
    x = _any_array(fuzz)
    start = fuzz.size(-x.ndim, x.ndim - 1)
    return x, {"start_dim": start, "end_dim": fuzz.size(start % x.ndim, x.ndim - 1)}


def _flatten(fuzz):
    x, dims = _flat(fuzz)
    return Call((x,), dims)


def _flatten_backward(fuzz):
    x, dims = _flat(fuzz)
    return Call((fuzz.numbers(*_shape_after("flatten", x, **dims)), x.shape), dims)


def _beside(fuzz):
    """A shape, an axis of it, and sizes of arrays along that."""
    shape = fuzz.sizes(fuzz.size(1, 4), 1, 40 if fuzz.large else 9)
    return shape, fuzz.size(-len(shape), len(shape) - 1), fuzz.sizes(fuzz.size(1, 4), 0, 9)


def _with_size(shape, axis, size):
    return tuple(size if i == axis % len(shape) else n for i, n in enumerate(shape))


def _concat(fuzz):
    shape, axis, sizes = _beside(fuzz)
    return Call(tuple(fuzz.numbers(*_with_size(shape, axis, n)) for n in sizes), {"axis": axis})


def _concat_backward(fuzz):
    shape, axis, sizes = _beside(fuzz)
    return Call((fuzz.numbers(*_with_size(shape, axis, sum(sizes))), sizes), {"axis": axis})


def _add(fuzz):
    x = _any_array(fuzz)
    return Call((x, fuzz.numbers(*x.shape)))


def _add_backward(fuzz):
    return Call((_any_array(fuzz),))


# ---- bounds: what the operation does to absolute values, in float64


def _nothing(name, call, want):
    """Values are chosen, not computed."""
    return tuple(np.zeros(np.shape(w)) for w in want)


def _of_absolute_values(name, call, want):
    """Sums of products: the same operation on absolute values."""
    args = tuple(np.abs(a) if _is_float(a) else a for a in call.args)
    return _tuple(getattr(reference, name)(*args, **call.options))


def _tile_bounds(name, call, bounds):
    """Where Winograd computed a result: 8 eps T in every 4 x 4 tile of a slice of it, T = sum over the channels and the
    kernel's slices of (sum of |w|) times (largest |x| in the tile's inputs, 6 x 6 for kernels up to 3 x 3 and 8 x 8 for
    larger ones), or in the 6, 8 or 10 inputs of a tile of 4 along the only axis that has taps. With stride 2 it is
    a window of x, and of dy the 3 x 3 that 4 x 4 of dx take. Of a weight's gradient see there."""
    *head, weight = [np.abs(a) for a in call.args[:2 + name.endswith("_backward")]]
    turned = name.endswith("_backward") != ("transpose" in name)
    rank = weight.ndim - 2
    source = head[0].reshape(-1, *head[0].shape[-rank - 1:])
    stride, dilation, pads = _window(name, call.options, head[-1].shape[-rank:], weight.shape[2:])
    mode = call.options.get("padding_mode", "zeros")
    flat = [p for pair in reversed(pads) for p in pair]
    bound, *others = bounds
    if others and rank > 1 and 3 <= min(weight.shape[-2:]) <= max(weight.shape[-2:]) <= 5:
        of_one = 8 if weight.shape[-2:] == (3, 3) else 128
        others[0] = others[0] + of_one * _weight_tile_bound(name, call)
    if turned and max(stride) > 1:  # not by tiles, though the weight's gradient may be
        return (bound, *others)
    size = bound.shape[-rank:]
    if mode != "zeros":
        if turned:
            size = tuple(n + sum(pair) for n, pair in zip(size, pads, strict=True))
        else:
            source = reference.pad(source, flat, mode)
        pads = [(0, 0)] * len(pads)
    kernel = weight.shape[2:]
    lines = kernel.count(1) == rank - 1
    plain = rank == 2 or lines  # one slice
    most = max(kernel if lines else kernel[-2:])
    taps = max(3, most + 1 - most % 2)
    strided = stride[-2:] == (2, 2)
    tile = ((4, 2, 3) if turned else (1, 2, 3)) if strided else None
    lows = [low if not turned else (1 - low) // 2 if strided else (taps - 1) * d - low
            for (low, _), d in zip(pads, dilation, strict=True)]
    if lines:
        axis = kernel.index(max(kernel))
        source = source.reshape(*source.shape[:2], math.prod(source.shape[2:2 + axis]), source.shape[2 + axis], -1)
        largest = _largest_around(source, [3], [size[axis]], [dilation[axis]], [lows[axis]], taps)
        sums = weight.sum(2 + axis).reshape(*weight.shape[:2], 1, 1, 1)
    else:
        largest = _largest_around(source[:, :, None] if plain else source, [3, 4], size[-2:], dilation[-2:], lows[-2:],
                                  taps, tile)
        sums = (weight[:, :, None] if plain else weight).sum((3, 4), keepdims=True)
    along = {"stride": (1 if plain else stride[0], 1, 1), "dilation": (1 if plain else dilation[0], 1, 1),
             "padding": ((0, 0) if plain else pads[0], (0, 0), (0, 0)), "groups": call.options.get("groups", 1)}
    if turned:
        shape = (len(largest), sums.shape[1] * along["groups"], largest.shape[2] if plain else size[0],
                 *largest.shape[3:])
        # fewer than the outputs of that depth where output_padding, which a dilation allows without a stride, made it
        outputs = shape[2] + sum(along["padding"][0]) - along["dilation"][0] * (sums.shape[2] - 1)
        more = outputs - largest.shape[2]
        largest = np.pad(largest, [(0, 0), (0, 0), (0, more), (0, 0), (0, 0)])
        per_tile, _, _ = reference.conv3d_backward(largest, np.zeros(shape), sums, **along, needs=(True, False, False))
    else:
        per_tile = reference.conv3d(largest, sums, **along)[:, :, :None if plain else size[0]]
    tile_bound = per_tile.reshape(*per_tile.shape[:2], *size)
    if mode != "zeros" and turned:
        tile_bound = reference.pad_backward(tile_bound, flat, mode)
    bound = bound + tile_bound.reshape(bound.shape)
    return (bound, *others)


def _weight_tile_bound(name, call):
    """Of a weight's gradient T for every filter, channel and kernel slice: the sum over all images' tiles of (sum of
    |dy|) times (largest |x| in the tile's 6 x 6 inputs, or 8 x 8 of a kernel that is more than 3 x 3). The error is
    up to 64 eps T, or 1,024, where a single number makes up all of a sum of |dy|."""
    dy, x, weight = [np.abs(a) for a in call.args[:3]]
    rank = weight.ndim - 2
    stride, dilation, pads = _window(name, call.options, x.shape[-rank:], weight.shape[2:])
    mode = call.options.get("padding_mode", "zeros")
    if "transpose" in name:  # the gradient of the convolution that makes x of dy
        dy, x = x, dy
    elif mode != "zeros":
        x = reference.pad(x, [p for pair in reversed(pads) for p in pair], mode)
        pads = [(0, 0)] * rank
    if rank == 2:  # one slice
        dy, x, weight = dy[..., None, :, :], x[..., None, :, :], weight[:, :, None]
        stride, dilation, pads = (1, *stride), (1, *dilation), ((0, 0), *pads)
    x, dy = (a.reshape(-1, *a.shape[-4:]) for a in (x, dy))
    largest = _largest_around(x, [3, 4], dy.shape[-2:], dilation[1:], [low for low, _ in pads[1:]],
                              3 if weight.shape[-2:] == (3, 3) else 5)
    largest = np.pad(largest, [(0, 0), (0, 0), pads[0], (0, 0), (0, 0)])
    read = (dy.shape[2] - 1) * stride[0] + (weight.shape[2] - 1) * dilation[0] + 1
    _, bound, _ = reference.conv3d_backward(
        dy, largest[:, :, :read], weight[..., :1, :1], stride=(stride[0], 1, 1), dilation=(dilation[0], 1, 1),
        groups=call.options.get("groups", 1), needs=(False, True, False))
    return bound if rank == 3 else bound[:, :, 0]


def _window(name, options, size, kernel):
    """Stride, dilation and (lo, hi) pairs per axis of a convolution's options, ``size`` being that of its input."""
    stride, dilation = (tuple_of(key, options.get(key, 1), len(size), 1) for key in ("stride", "dilation"))
    padding = options.get("padding", 0)
    if "transpose" in name:
        return stride, dilation, crop_pairs(padding, len(size))
    return stride, dilation, pad_pairs("padding", padding, size, kernel, stride, dilation)


def _largest_around(source, axes, size, dilation, lows, taps, tile=None):
    """For every output of (n, c, depth, height, width) the largest of the inputs of its tile of 4 along each of the
    axes: taps + 3, all of one residue modulo the dilation. A ``tile`` of its own: (outputs, inputs from one to the
    next, inputs of each)."""
    side, step, reads = tile or (4, 4, taps + 3)
    for axis, n, d, low in zip(axes, size, dilation, lows, strict=True):
        first = np.arange(n) // d // side * step * d + np.arange(n) % d - low  # input of each output's tile
        at = first[:, None] + d * np.arange(reads)
        held = source.take(at.clip(0, source.shape[axis] - 1).reshape(-1), axis)
        shape = [1] * source.ndim
        shape[axis] = at.size
        held = held * ((at >= 0) & (at < source.shape[axis])).reshape(shape)
        source = held.reshape(*source.shape[:axis], n, reads, *source.shape[axis + 1:]).max(axis + 1)
    return source


def _magnified(name, x, options):
    """1, and by how much an exponential magnifies the rounding of its argument where that is computed from x."""
    if name == "softplus":
        return 1 + np.abs(options["beta"] * x)
    if name == "gelu":
        return 1 + (2 * np.abs(_gelu_line(x)) if options["approximate"] == "tanh" else x**2 / 2)  # the twin's own
    return 1


def _gelu_line(x):
    x = np.clip(x, -30, 30)
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def _activation_bound(name, call, want):
    x, = call.args
    # the smallest denormal of float32, over eps: an exponential may be one, and is then multiplied by x
    return (np.abs(want[0]) * _magnified(name, x, call.options) + np.abs(x) * 2.0**-126,)


def _activation_backward_bound(name, call, want):
    dy, other = call.args
    forward = name.removesuffix("_backward")
    size = np.abs(want[0])
    if forward in GATED:  # y = x g(x): the slope g + x g' may cancel
        gate = np.abs(getattr(reference, forward)(other, **call.options)) / np.where(other == 0, 1, np.abs(other))
        size = size + 2 * np.abs(dy) * np.where(other == 0, 1, gate)
    slope = (1 + np.minimum(np.abs(other), 30)) ** 3 if forward == "gelu" else 1 + np.abs(other)  # times a denormal
    return (size * _magnified(forward, other, call.options) + np.abs(dy) * slope * 2.0**-126,)


def _lp_bound(name, call, want):
    """Powers and roots by exp and log err with the size of the logarithms."""
    y, = want
    with np.errstate(divide="ignore"):
        return (y * (2 + np.abs(np.log(y, where=y > 0, out=np.zeros_like(y)))),)


def _lp_backward_bound(name, call, want):
    dy, x, y = (np.abs(a) for a in call.args)
    dx, = _tuple(getattr(reference, name)(dy, x, y, **call.options))
    p = 1 if np.isinf(call.options["norm_type"]) else call.options["norm_type"]
    with np.errstate(divide="ignore"):
        logs = [np.abs(np.log(a, where=a > 0, out=np.zeros_like(a))).max(initial=0) for a in (x, y)]
    return (dx * (2 + p * (1 + sum(logs))),)


def _distance_from_top(x, axis):
    return np.abs(x - x.max(axis=axis, keepdims=True))


def _softmax_bound(name, call, want):
    return (want[0] * (1 + _distance_from_top(*call.args)),)


def _log_softmax_bound(name, call, want):
    return (1 + _distance_from_top(*call.args) + np.abs(want[0]),)


def _softmax_backward_bound(name, call, want):
    dy, y, axis = call.args
    return (y * (np.abs(dy) + (np.abs(dy) * y).sum(axis=axis, keepdims=True)),)


def _log_softmax_backward_bound(name, call, want):
    dy, y, axis = call.args
    return (np.abs(dy) + np.exp(y) * (1 + np.abs(y)) * np.abs(dy).sum(axis=axis, keepdims=True),)


def _reduced(each, call, count=None):
    """Bounds of single losses as that of their mean or sum."""
    reduction = call.options["reduction"]
    if reduction == "none":
        return (each,)
    return (each.sum() / (1 if reduction == "sum" else each.size if count is None else max(count, 1e-300)),)


def _in_target(call):
    """Weight of every class in every target, and the weight of all targets together."""
    logits, target, weight = call.args
    return reference.loss._in_target(logits, target, weight, call.options.get("ignore_index", -100),
                                     call.options.get("label_smoothing", 0.0))


def _cross_entropy_bound(name, call, want):
    q, count = _in_target(call)
    return _reduced((q * (1 + _distance_from_top(call.args[0], 1)
                          - 2 * reference.log_softmax(call.args[0], 1))).sum(1), call, count)


def _cross_entropy_backward_bound(name, call, want):
    q, count = _in_target(call)
    y = reference.softmax(call.args[0], 1) * (1 + _distance_from_top(call.args[0], 1))
    each = y * q.sum(1, keepdims=True) + q
    return (each / (max(count, 1e-300) if call.options["reduction"] == "mean" else 1),)


def _nll_bound(name, call, want):
    q, count = _in_target(call)
    return _reduced((q * np.abs(call.args[0])).sum(1), call, count)


def _nll_backward_bound(name, call, want):
    return (np.abs(want[0]),)


def _pair_bound(name, call, want):
    """The loss of numbers whose distance is all that they have."""
    x, target = (np.abs(a) for a in call.args)
    options = {**call.options, "reduction": "none"}
    return _reduced(getattr(reference, name)(x, -target, **options), call)


def _pair_backward_bound(name, call, want):
    return (2 * np.abs(want[0]) + (np.abs(call.args[0]) + np.abs(call.args[1])) / _divisor(call),)


def _divisor(call):
    """What a gradient is small by: the number of losses, and the width of a parabola."""
    return max(1, call.args[0].size if call.options["reduction"] == "mean" else 1) * (call.options.get("beta") or 1)


def _binary_bound(name, call, want):
    return _reduced(2 * reference.binary_cross_entropy_with_logits(*call.args, reduction="none"), call)


def _binary_backward_bound(name, call, want):
    logits, target, weight = call.args
    p = 1 / (1 + np.exp(-logits))
    each = ((1 - target) * p + target * (1 - p)) * (1 if weight is None else weight)
    return (2 * each / _divisor(call),)


def _dice_bound(name, call, want):
    return _reduced(np.ones(call.args[0].shape[:2]), call)


def _dice_backward_bound(name, call, want):
    x, target = call.args
    space = tuple(range(2, x.ndim))
    each = (1 + 2 * target) / (x + target).sum(space, keepdims=True)
    return (each / (np.prod(x.shape[:2]) if call.options["reduction"] == "mean" else 1),)


def _per_channel(v):
    return v[:, None, None]


def _batch_norm_bound(name, call, want):
    x, mean, var, weight, bias = call.args
    training = call.options["training"]
    spread, axes = np.abs(x), (0, 2, 3)
    if training:
        spread, var = spread + spread.mean(axis=axes, keepdims=True), x.var(axis=axes)
    else:
        spread = spread + _per_channel(np.abs(mean))
    scale = (1 if weight is None else np.abs(weight)) / np.sqrt(var + 1e-5)
    y = 2 * spread * _per_channel(scale) + (0 if bias is None else _per_channel(np.abs(bias)))
    if not training:
        return (y, np.zeros_like(mean), np.zeros_like(mean))
    old_mean, old_var = np.abs(mean), call.args[2]
    return (y, old_mean + np.abs(x).mean(axis=axes), old_var + 2 * (spread**2).mean(axis=axes))


def _batch_norm_backward_bound(name, call, want):
    dy, x, weight = call.args
    axes = (0, 2, 3)
    inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)
    spread = (np.abs(x) + np.abs(x).mean(axis=axes, keepdims=True)) * inverse
    size = np.abs(dy)
    dx = size + size.mean(axis=axes, keepdims=True) + spread * (size * spread).mean(axis=axes, keepdims=True)
    dx = 2 * dx * inverse * (1 if weight is None else _per_channel(np.abs(weight)))
    sums = (None, None) if want[1] is None else (2 * (size * spread).sum(axis=axes), size.sum(axis=axes))
    return (dx, *sums)


def _response_bound(name, call, want):
    x, size = call.args
    return (np.abs(want[0]) * (1 + _log_of_response(x, size, **call.options)),)


def _response_backward_bound(name, call, want):
    dy, x, size = call.args
    y = np.abs(reference.local_response_norm(x, size, **call.options))
    first = np.abs(dy) * np.where(x == 0, 1, y / np.where(x == 0, 1, np.abs(x)))
    difference = reference.local_response_norm_backward(np.abs(dy), np.abs(x), size, **call.options)
    terms = np.abs(want[0]) + np.where(x == 0, 0, 2 * first - difference)  # first term and second, not their difference
    return (terms * (1 + _log_of_response(x, size, **call.options)),)


def _log_of_response(x, size, alpha, beta, k):
    """The largest ``|log d|``: what the power magnifies."""
    return np.abs(np.log(k)) + np.log1p(alpha * (x * x).max(initial=0) / k)


def _prelu_bound(name, call, want):
    return (np.abs(want[0]),)


def _prelu_backward_bound(name, call, want):
    dy, x, weight = call.args
    return (np.abs(want[0]), np.abs(reference.prelu_backward(np.abs(dy), -np.abs(x) * (x <= 0), weight)[1]))


def _row_shape(name, x, by):
    """``x`` as images, groups, runs of a group, elements of a run; ``by`` is what the norm of this name goes by."""
    if name.startswith("layer"):
        return -1, 1, np.prod(by), 1
    groups = by if name.startswith("group") else x.shape[1]
    return -1, groups, x.shape[1] // groups, np.prod(x.shape[2:], dtype=int)


def _row_spread(x, rows, statistics):
    """``|x| + |mean|`` and ``1 / sqrt(var + eps)``, of each row of ``x`` or those given for each channel."""
    if statistics is None:
        mean, var = np.abs(x).mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    else:
        mean, var = (np.abs(s).reshape(rows[1], rows[2], 1) for s in statistics)
    return np.abs(x) + mean, 1 / np.sqrt(var + 1e-5)


def _by_run(a, rows, otherwise):
    return otherwise if a is None else np.abs(a).reshape(rows[1], rows[2], 1)


def _row_norm_bound(name, call, want):
    x, by, *rest = call.args
    rows = _row_shape(name, x, by)
    statistics = None
    if name == "instance_norm":
        statistics = None if call.options["use_input_stats"] else (by, rest[0])
        rest = rest[1:]
    spread, scale = _row_spread(x.reshape(rows), rows, statistics)
    y = 2 * spread * scale * _by_run(rest[0], rows, 1) + _by_run(rest[1], rows, 0)
    return (y.reshape(x.shape),)


def _row_norm_backward_bound(name, call, want):
    dy, x, *by, weight = call.args
    rows = _row_shape(name, x, *by or (None,))
    spread, scale = _row_spread(x.reshape(rows), rows, None)
    spread, dy = spread * scale, np.abs(dy).reshape(rows)
    g = dy * _by_run(weight, rows, 1)
    dx = g + g.mean((2, 3), keepdims=True) + spread * (g * spread).mean((2, 3), keepdims=True)
    dweight, dbias = (a.sum((0, 3)).reshape(want[1].shape) for a in (2 * dy * spread, dy))
    return ((2 * dx * scale).reshape(x.shape), dweight, dbias)


def _activations():
    for name in ACTIVATIONS:
        chosen = name in ("relu", "relu6")
        yield Operation(name, _activation(name), _nothing if chosen else _activation_bound, chosen)
        yield Operation(f"{name}_backward", _activation_backward(name),
                        _nothing if chosen else _activation_backward_bound, chosen)


def _poolings():
    for rank in (1, 2, 3):
        d = f"{rank}d"
        for kind in ("max", "min"):
            name = f"{kind}_pool{d}"
            yield Operation(name, _extreme_pool(rank), _nothing)
            yield Operation(f"{name}_backward", _extreme_pool_backward(name, rank), _of_absolute_values)
        yield Operation(f"avg_pool{d}", _avg_pool(rank), _of_absolute_values, False)
        yield Operation(f"avg_pool{d}_backward", _avg_pool_backward(rank), _of_absolute_values, False)
        yield Operation(f"lp_pool{d}", _lp_pool(rank), _lp_bound, False)
        yield Operation(f"lp_pool{d}_backward", _lp_pool_backward(rank), _lp_backward_bound, False)
        yield Operation(f"adaptive_max_pool{d}", _adaptive_max_pool(rank), _nothing)
        yield Operation(f"adaptive_max_pool{d}_backward", _adaptive_max_pool_backward(rank), _of_absolute_values)
        yield Operation(f"adaptive_avg_pool{d}", _adaptive_avg_pool(rank), _of_absolute_values, False)
        yield Operation(f"adaptive_avg_pool{d}_backward", _adaptive_avg_pool_backward(rank), _of_absolute_values, False)
        yield Operation(f"max_unpool{d}", _max_unpool(rank), _nothing)
        yield Operation(f"max_unpool{d}_backward", _max_unpool_backward(rank), _nothing)
    for kind in ("max", "min"):
        name = f"global_{kind}_pool"
        yield Operation(name, _global_extreme_pool, _nothing)
        yield Operation(f"{name}_backward", _global_extreme_pool_backward(name), _nothing)
    yield Operation("global_avg_pool", _global_avg_pool, _of_absolute_values, False)
    yield Operation("global_avg_pool_backward", _global_avg_pool_backward, _of_absolute_values, False)


def _dropouts():
    for rank in (0, 1, 2, 3):
        name = f"dropout{rank}d" if rank else "dropout"
        yield Operation(name, _dropout(rank), _of_absolute_values, exact_on_integers=False)
        yield Operation(f"{name}_backward", _dropout_backward(rank), _of_absolute_values, exact_on_integers=False)


OPERATIONS = (
    *(Operation(f"conv{rank}d", _forward(_convolution, rank), _of_absolute_values) for rank in (1, 2, 3)),
    *(Operation(f"conv{rank}d_backward", _backward(_convolution, rank, f"conv{rank}d"), _of_absolute_values)
      for rank in (1, 2, 3)),
    *(Operation(f"conv_transpose{rank}d", _forward(_transposed, rank), _of_absolute_values) for rank in (1, 2, 3)),
    *(Operation(f"conv_transpose{rank}d_backward", _backward(_transposed, rank, f"conv_transpose{rank}d"),
                _of_absolute_values) for rank in (1, 2, 3)),
    *_poolings(),
    Operation("pad", _pad, _nothing),
    Operation("pad_backward", _pad_backward, _of_absolute_values),
    *_activations(),
    Operation("linear", _linear, _of_absolute_values),
    Operation("linear_backward", _linear_backward, _of_absolute_values),
    Operation("softmax", _softmax, _softmax_bound, exact_on_integers=False),
    Operation("softmax_backward", _softmax_backward("softmax"), _softmax_backward_bound,
              exact_on_integers=False),
    Operation("log_softmax", _softmax, _log_softmax_bound, exact_on_integers=False),
    Operation("log_softmax_backward", _softmax_backward("log_softmax"), _log_softmax_backward_bound,
              exact_on_integers=False),
    Operation("cross_entropy", _cross_entropy, _cross_entropy_bound, exact_on_integers=False),
    Operation("cross_entropy_backward", _gradient_of(_cross_entropy), _cross_entropy_backward_bound,
              exact_on_integers=False),
    Operation("nll_loss", _nll_loss, _nll_bound, exact_on_integers=False),
    Operation("nll_loss_backward", _gradient_of(_nll_loss), _nll_backward_bound, exact_on_integers=False),
    Operation("binary_cross_entropy_with_logits", _binary, _binary_bound, exact_on_integers=False),
    Operation("binary_cross_entropy_with_logits_backward", _gradient_of(_binary), _binary_backward_bound,
              exact_on_integers=False),
    Operation("mse_loss", _pair, _pair_bound, exact_on_integers=False),
    Operation("mse_loss_backward", _gradient_of(_pair), _pair_backward_bound, exact_on_integers=False),
    Operation("l1_loss", _pair, _pair_bound, exact_on_integers=False),
    Operation("l1_loss_backward", _gradient_of(_pair), _pair_backward_bound, exact_on_integers=False),
    Operation("smooth_l1_loss", _smooth_l1, _pair_bound, exact_on_integers=False),
    Operation("smooth_l1_loss_backward", _gradient_of(_smooth_l1), _pair_backward_bound, exact_on_integers=False),
    Operation("dice_loss", _dice, _dice_bound, exact_on_integers=False),
    Operation("dice_loss_backward", _gradient_of(_dice), _dice_backward_bound, exact_on_integers=False),
    Operation("batch_norm", _batch_norm, _batch_norm_bound, exact_on_integers=False),
    Operation("batch_norm_backward", _batch_norm_backward, _batch_norm_backward_bound,
              exact_on_integers=False),
    Operation("layer_norm", _layer_norm, _row_norm_bound, exact_on_integers=False),
    Operation("layer_norm_backward", _layer_norm_backward, _row_norm_backward_bound, exact_on_integers=False),
    Operation("group_norm", _group_norm, _row_norm_bound, exact_on_integers=False),
    Operation("group_norm_backward", _group_norm_backward, _row_norm_backward_bound, exact_on_integers=False),
    Operation("instance_norm", _instance_norm, _row_norm_bound, exact_on_integers=False),
    Operation("instance_norm_backward", _batch_norm_backward, _row_norm_backward_bound, exact_on_integers=False),
    *_dropouts(),
    Operation("local_response_norm", _response, _response_bound, exact_on_integers=False),
    Operation("local_response_norm_backward", _response_backward, _response_backward_bound, exact_on_integers=False),
    Operation("prelu", _prelu, _prelu_bound),
    Operation("prelu_backward", _prelu_backward, _prelu_backward_bound),
    Operation("interpolate", _interpolate, _of_absolute_values, exact_on_integers=False),
    Operation("interpolate_backward", _interpolate_backward, _of_absolute_values, exact_on_integers=False),
    Operation("unfold", _unfold, _nothing),
    Operation("unfold_backward", _unfold_backward, _of_absolute_values),
    Operation("fold", _fold, _of_absolute_values),
    Operation("fold_backward", _unfold, _nothing),
    Operation("embedding", _embedding_forward, _nothing),
    Operation("embedding_backward", _embedding_backward, _of_absolute_values),
    Operation("pixel_shuffle", _pixel_shuffle, _nothing),
    Operation("pixel_shuffle_backward", _pixel_unshuffle, _nothing),
    Operation("pixel_unshuffle", _pixel_unshuffle, _nothing),
    Operation("pixel_unshuffle_backward", _pixel_shuffle, _nothing),
    Operation("channel_shuffle", _channel_shuffle, _nothing),
    Operation("channel_shuffle_backward", _channel_shuffle, _nothing),
    Operation("flatten", _flatten, _nothing),
    Operation("flatten_backward", _flatten_backward, _nothing),
    Operation("concat", _concat, _nothing),
    Operation("concat_backward", _concat_backward, _nothing),
    Operation("add", _add, _of_absolute_values),
    Operation("add_backward", _add_backward, _nothing),
)


# ---- running them


@dataclass
class Row:
    """What was found about one operation, dtype, ISA and algorithm; ``isa`` is None for the NumPy twin."""

    operation: str
    dtype: str
    isa: str | None
    algorithm: str
    cases: int = 0
    worst: float = 0.0
    exact: bool | None = None  # None: never asked
    same_bits: bool = True
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """No error beyond its bound, integers exact, the same bits at one and two threads."""
        return self.failure is None


@dataclass(frozen=True)
class Report:
    """The rows of one run of ``verify``."""

    rows: tuple[Row, ...]
    cases: int
    seed: int

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def __str__(self):
        lines = [f"{'operation':42}{'dtype':9}{'isa':10}{'algorithm':11}{'cases':>6}{'worst error':>13}  "
                 f"{'integers':10}{'1 = 2 threads':15}"]
        for r in self.rows:
            exact = {None: "-", True: "exact", False: "NOT EXACT"}[r.exact]
            bits = "same bits" if r.same_bits else "DIFFERENT"
            verdict = "PASS" if r.passed else f"FAIL: {r.failure}"
            lines.append(f"{r.operation:42}{r.dtype:9}{r.isa or '-':10}{r.algorithm:11}{r.cases:>6}"
                         f"{r.worst:>13.3f}  {exact:10}{bits:15}{verdict}")
        failed = sum(not row.passed for row in self.rows)
        lines.append(f"{'FAIL' if failed else 'PASS'}: {len(self.rows) - failed} of {len(self.rows)} rows, "
                     f"error in units of its bound, seed {self.seed}")
        return "\n".join(lines)


def verify(cases: int = 30, seed: int = 0, operations: str | Sequence[str] | None = None,
           progress: Callable[[str], object] | None = None) -> Report:
    """Compare every operation, ISA level, algorithm and dtype with its NumPy twin.

    Parameters
    ----------
    cases : int
        Calls drawn per operation and dtype; each is made at every ISA level and with every algorithm.
    seed : int
        Decides all shapes and numbers.
    operations : str or sequence of str, optional
        Names from ``convkit.functional``; all by default.
    progress : callable, optional
        Called with the name of each operation as it begins.

    Returns
    -------
    Report
        ``report.passed``, ``report.rows``; printing it gives a table.
    """
    integer("cases", cases, 1), integer("seed", seed, 0)
    if isinstance(operations, str):
        operations = (operations,)
    unknown = set(operations or ()) - {op.name for op in OPERATIONS}
    if unknown:
        raise ValueError(f"operations must be among {', '.join(op.name for op in OPERATIONS)}, "
                         f"got {', '.join(sorted(unknown))}")
    rows = []
    for op in OPERATIONS:
        if operations is None or op.name in operations:
            if progress is not None:
                progress(op.name)
            for dtype in DTYPES:
                rows += _verify_one(op, dtype, cases, seed)
    return Report(tuple(rows), cases, seed)


def _verify_one(op, dtype, cases, seed):
    rows = {}
    for index in range(cases):
        fuzz = Fuzz([seed, crc32(op.name.encode()), dtype.itemsize, index], dtype)
        call = op.draw(fuzz)
        wide = Call(tuple(a.astype(np.float64) if _is_float(a) else a for a in call.args), call.options)
        want = _run(reference, op.name, wide)
        bound = op.bound(op.name, wide, want)
        exact = op.exact_on_integers and fuzz.integers
        for isa, algorithm in _ways():
            outcome = _try(op.name, call, isa, algorithm)
            if outcome is not None:
                key, one, two, by_tile = outcome
                row = rows.setdefault(key, Row(op.name, dtype.name, *key))
                _judge(row, index, one, two, want, _tile_bounds(op.name, wide, bound) if by_tile else bound,
                       exact and not by_tile, dtype)
            if outcome is not None and outcome[0][1] == "numpy":
                break  # nothing to force: one run says it all
    order = [*_ways(), (None, "numpy")]
    return [rows[key] for key in order if key in rows]


def _ways():
    """Every (isa, algorithm) to force; the twin runs too, through the checks of a real call."""
    names = [name for name in settings.ALGORITHMS if name != "reference"]
    return (*((isa, name) for isa in native.ISA_LEVELS for name in names), (None, "reference"))


def _try(name, call, isa, algorithm):
    """Run a call one way: (isa, algorithm) that ran, results at 1 and at 2 threads, and whether Winograd had a part in
    them; None if it cannot."""
    with settings.use(isa=isa, algorithm=algorithm), common.recording() as plans:
        try:
            with settings.threads(1):
                one = _run(functional, name, call)
            with settings.threads(2):
                two = _run(functional, name, call)
        except common.AlgorithmRefused:
            return None
    if not plans:
        return (None, "numpy"), one, two, False
    if all(plan.algorithm != algorithm for plan in plans):
        return None
    return (isa, algorithm), one, two, any(plan.algorithm == "winograd" for plan in plans)


def _run(module, name, call):
    """All outputs of a call as a tuple, on copies of the arrays that it may change."""
    args = call.args
    if name == "batch_norm":
        args = (args[0], args[1].copy(), args[2].copy(), *args[3:])
    outputs = _tuple(getattr(module, name)(*args, **call.options))
    return outputs + args[1:3] if name == "batch_norm" else outputs


def _judge(row, index, one, two, want, bound, exact, dtype):
    row.cases += 1
    errors = [_error(o, w, b, dtype) for o, w, b in zip(one, want, bound, strict=True) if w is not None]
    worst = max(errors, default=0.0)
    same = same_bits(one, two)
    row.worst = max(row.worst, worst)
    row.same_bits &= same
    if exact:
        row.exact = worst == 0 and row.exact is not False
    if row.failure is None and not (worst <= 1 and same and (worst == 0 or not exact)):
        row.failure = f"case {index}"


def same_bits(a, b):
    """Whether two results (arrays, scalars, None, or tuples of them) agree in shape, dtype and every bit.

    Every NaN counts as the same one: which sign and payload a sum of two passes on is the compiler's choice, another
    one in a loop's body than in its end.
    """
    if isinstance(a, tuple) or isinstance(b, tuple):
        return isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and all(map(same_bits, a, b))
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and _bits(a) == _bits(b)


def _bits(a):
    return np.where(np.isnan(a), a.dtype.type(np.nan), a).tobytes() if a.dtype.kind == "f" else a.tobytes()


def _error(got, want, bound, dtype):
    """The largest error in units of ``8 eps bound``; infinite for a wrong shape, dtype or NaN."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape or (want.dtype.kind == "f" and got.dtype != dtype):
        return np.inf
    nan = np.isnan(want)
    if not np.array_equal(np.isnan(got), nan):
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        right = got == want.astype(got.dtype)
        error = np.where(right | nan, 0.0, np.abs(got.astype(np.float64) - want))
    allowed = FACTOR * np.finfo(np.promote_types(dtype, np.float32)).eps * np.broadcast_to(bound, error.shape)
    if dtype == np.float16:  # computed in float32, then rounded once
        allowed = allowed + np.maximum(np.abs(want) * 2.0**-11, 2.0**-25)
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(error == 0, 0.0, error / allowed)
    return float(units.max(initial=0.0))


def _is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _tuple(result):
    return result if isinstance(result, tuple) else (result,)
