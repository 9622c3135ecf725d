"""Wild calls for the fuzzer: geometries, sizes and options that ``verify`` does not draw.

Each drawer takes a ``Draw`` and returns a ``Call``. Per-axis values are unequal, windows large, strides longer than
windows, planes long and thin, batches missing, paddings given in every form.
"""

from math import prod

import numpy as np

from convkit import reference, verification
from convkit.verification import Call


class Draw(verification.Fuzz):
    """Sizes and numbers of one call. Arrays are plain here; layouts are tried by the checks."""

    def numbers(self, *shape):
        if self.integers:
            return self.rng.integers(-4, 5, shape).astype(self.dtype)
        scale = 10.0 ** (self.size(-2, 0) if self.dtype == np.float16 else self.size(-3, 3))
        return (scale * self.rng.standard_normal(shape)).astype(self.dtype)

    def one_of(self, *choices):
        return choices[self.size(0, len(choices) - 1)]


def sizes_beyond(draw, least, rank):
    """A little more than ``least`` per axis, or much more along one axis."""
    size = [n + draw.size(0, (40, 12, 4)[rank - 1]) for n in least]
    if draw.chance(0.2):
        size[draw.size(0, rank - 1)] += draw.size(0, (3000, 700, 150)[rank - 1])
        size = [n if n > 40 else m for n, m in zip(size, least, strict=True)]
    return tuple(size)


def window(draw, rank):
    """Kernel, stride, dilation and span per axis; the form of an argument that is the same on every axis varies."""
    kind = draw.size(0, 5)
    kernel, stride, dilation = draw.sizes(rank, 1, 3), draw.sizes(rank, 1, 2), (1,) * rank
    if kind == 0:  # one long axis
        kernel = tuple(draw.size(1, 12) if i == draw.size(0, rank - 1) else 1 for i in range(rank))
    elif kind == 1:
        kernel = draw.sizes(rank, 4, (40, 16, 6)[rank - 1])
    elif kind == 2:
        stride, dilation = draw.sizes(rank, 1, 9), draw.sizes(rank, 1, 7)
    elif kind == 3:
        kernel, stride = (1,) * rank, draw.sizes(rank, 1, 3) if draw.chance(0.3) else (1,) * rank
    elif kind == 4:
        kernel, stride = (3,) * rank, (1,) * rank
    return kernel, stride, dilation, tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def short(draw, values):
    """One number for all axes where they are equal, now and then."""
    same = len(set(values)) == 1 and not isinstance(values[0], tuple)
    return values[0] if same and draw.chance(0.5) else values


def channels(draw, taps):
    """Groups, input channels and filters of a group: fewer filters where the windows are large, or one call in a
    hundred would take as long as all others."""
    kind = draw.size(0, 5)
    if kind == 0:
        return 1, draw.size(1, 300), draw.size(1, max(1, min(150, 1500 // taps)))
    if kind == 1:  # depthwise, with a multiplier
        return draw.size(1, 70), 1, draw.size(1, 4)
    if kind == 2:
        return draw.size(2, 9), draw.size(1, 20), draw.size(1, 20)
    if kind == 3:
        return (1, 1, draw.size(1, 12)) if draw.chance(0.5) else (1, draw.size(1, 9), 1)
    return 1, draw.size(1, 9), draw.size(1, 12)


def convolution(draw, rank):
    kernel, stride, dilation, spans = window(draw, rank)
    groups, per_group, filters = channels(draw, prod(kernel))
    padding = draw.size(0, 3)
    kind = draw.size(0, 4)
    if kind == 0:
        padding = tuple((draw.size(0, 2 * s), draw.size(0, 2 * s)) for s in spans)
    elif kind == 1:
        padding = draw.one_of("same", "valid")
    elif kind == 2:
        padding = draw.sizes(rank, 0, max(spans))
    size = sizes_beyond(draw, spans if rank < 3 or groups * per_group < 100 else (1,) * rank, rank)
    options = {"stride": short(draw, stride), "padding": padding, "dilation": short(draw, dilation), "groups": groups}
    pads = {"same": max(spans), "valid": 0}.get(padding, padding) if isinstance(padding, str) else np.max(padding)
    if draw.chance(0.3) and pads < min(size):
        options["padding_mode"] = draw.one_of("reflect", "replicate", "circular")
    if isinstance(padding, str) and padding == "valid" or rank == 3:
        size = tuple(map(max, size, spans))
    x = draw.numbers(draw.size(1, 3), groups * per_group, *size)
    weight = draw.numbers(groups * filters, per_group, *kernel)
    return x[0] if draw.chance(0.15) else x, weight, options


def transposed(draw, rank):
    kernel, stride, dilation, spans = window(draw, rank)
    groups, per_group, filters = channels(draw, prod(kernel))
    size = sizes_beyond(draw, (1,) * rank, rank)
    extra = tuple(draw.size(0, max(s, d) - 1) if draw.chance(0.5) else 0 for s, d in zip(stride, dilation, strict=True))
    room = [(n - 1) * s + span + e - 1 for n, s, span, e in zip(size, stride, spans, extra, strict=True)]
    padding = tuple((draw.size(0, r // 2), draw.size(0, r // 2)) for r in room)
    if draw.chance(0.5):
        padding = tuple(min(draw.size(0, s), r // 2) for s, r in zip(spans, room, strict=True))
    options = {"stride": short(draw, stride), "padding": short(draw, padding), "output_padding": short(draw, extra),
               "groups": groups, "dilation": short(draw, dilation)}
    x = draw.numbers(draw.size(1, 3), groups * per_group, *size)
    weight = draw.numbers(groups * per_group, filters, *kernel)
    return x[0] if draw.chance(0.15) else x, weight, options


def forward(operands, rank):
    def drawn(draw):
        x, weight, options = operands(draw, rank)
        filters = len(weight) if operands is convolution else weight.shape[1] * options["groups"]
        return Call((x, weight, draw.numbers(filters) if draw.chance(0.5) else None), options)
    return drawn


def backward(operands, rank, name):
    def drawn(draw):
        x, weight, options = operands(draw, rank)
        return Call((draw.numbers(*getattr(reference, name)(x, weight, **options).shape), x, weight), options)
    return drawn


def pooled(draw, rank, dilated=False, padded=True):
    """Input and geometry of a pooling: whole planes, strides beyond windows, windows that only just fit."""
    kernel = draw.sizes(rank, 1, draw.one_of(3, (60, 14, 5)[rank - 1]))
    dilation = draw.sizes(rank, 1, 4) if dilated and draw.chance(0.4) else (1,) * rank
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(spans) if draw.chance(0.15) else sizes_beyond(draw, spans, rank)
    stride = draw.one_of(None, draw.sizes(rank, 1, 3), draw.sizes(rank, 1, 9))
    options = {"kernel_size": short(draw, kernel), "stride": stride and short(draw, stride),
               "ceil_mode": draw.chance(0.5)}
    if padded:
        options["padding"] = draw.one_of(0, tuple(draw.size(0, s // 2) for s in spans),
                                         tuple((draw.size(0, s // 2), draw.size(0, s // 2)) for s in spans))
    if dilated:
        options["dilation"] = short(draw, dilation)
    x = draw.numbers(draw.size(1, 2), draw.size(1, 30 if rank < 3 else 5), *size)
    return x[0] if draw.chance(0.2) else x, options


def extreme(rank):
    def drawn(draw):
        x, options = pooled(draw, rank, dilated=True)
        return Call((with_ties(draw, x),), {**options, "return_indices": draw.chance(0.5)})
    return drawn


def extreme_backward(name, rank):
    def drawn(draw):
        x, options = pooled(draw, rank, dilated=True)
        y, indices = getattr(reference, name)(with_ties(draw, x), **options, return_indices=True)
        return Call((draw.numbers(*y.shape), indices, x.shape))
    return drawn


def with_ties(draw, x):
    """Now and then one number everywhere, or NaN at places."""
    if draw.chance(0.2):
        x = np.full_like(x, draw.size(-1, 1))
    return verification._with_nans(draw, x)


def averages(draw, rank):
    x, options = pooled(draw, rank)
    return x, {**options, "count_include_pad": draw.chance(0.5), "divisor_override": draw.one_of(None, draw.size(1, 9))}


def average(rank):
    def drawn(draw):
        x, options = averages(draw, rank)
        return Call((x,), options)
    return drawn


def average_backward(rank):
    def drawn(draw):
        x, options = averages(draw, rank)
        y = getattr(reference, f"avg_pool{rank}d")(x, **options)
        return Call((draw.numbers(*y.shape), x.shape), options)
    return drawn


def power(rank):
    def drawn(draw):
        x, options = pooled(draw, rank, padded=False)
        options["norm_type"] = draw.one_of(1, 2, 3, 1.5, 4, np.inf)
        return Call((np.abs(x),), options)
    return drawn


def power_backward(rank):
    def drawn(draw):
        call = power(rank)(draw)
        y = getattr(reference, f"lp_pool{rank}d")(*call.args, **call.options)
        return Call((draw.numbers(*y.shape), *call.args, y), call.options)
    return drawn


def adaptive(draw, rank):
    size = sizes_beyond(draw, (1,) * rank, rank)
    x = draw.numbers(draw.size(1, 2), draw.size(1, 20), *size)
    wanted = tuple(draw.one_of(None, 1, n, draw.size(1, 2 * n), draw.size(1, 7)) if n < 50 else draw.size(1, n)
                   for n in size)
    return x[0] if draw.chance(0.2) else x, wanted


def adaptive_average(rank):
    return lambda draw: Call(adaptive(draw, rank))


def adaptive_average_backward(rank):
    def drawn(draw):
        x, wanted = adaptive(draw, rank)
        y = getattr(reference, f"adaptive_avg_pool{rank}d")(x, wanted)
        return Call((draw.numbers(*y.shape), x.shape))
    return drawn


def adaptive_maximum(rank):
    def drawn(draw):
        x, wanted = adaptive(draw, rank)
        return Call((with_ties(draw, x), wanted), {"return_indices": draw.chance(0.5)})
    return drawn


def interpolated(draw):
    rank = draw.size(1, 3)
    size = sizes_beyond(draw, (1,) * rank, rank)
    mode = draw.one_of("nearest", "nearest-exact", ("linear", "bilinear", "trilinear")[rank - 1])
    options = {"mode": mode}
    if mode.endswith("linear"):
        options["align_corners"] = draw.one_of(None, True, False)
    top = (2000, 60, 12)[rank - 1]
    if draw.chance(0.5):
        options["size"] = short(draw, draw.sizes(rank, 1, top))
    else:
        factors = [draw.one_of(0.5, 2.0, 3, 1 / 3, float(draw.rng.uniform(0.1, 4))) for _ in size]
        options["scale_factor"] = tuple(max(f, 1 / n) for f, n in zip(factors, size, strict=True))
        options["recompute_scale_factor"] = draw.one_of(None, True, False)
    return Call((draw.numbers(draw.size(1, 2), draw.size(1, 9), *size),), options)


def interpolated_backward(draw):
    x, = (call := interpolated(draw)).args
    return Call((draw.numbers(*reference.interpolate(x, **call.options).shape), x.shape), call.options)


def columns(draw):
    """An image and its windows, as unfold takes them."""
    rank = draw.size(1, 3)
    kernel, stride, dilation, spans = window(draw, rank)
    padding = draw.one_of(0, tuple(draw.size(0, s) for s in spans), tuple((draw.size(0, s), 0) for s in spans))
    size = sizes_beyond(draw, spans, rank)
    x = draw.numbers(draw.size(1, 2), draw.size(1, 5), *size)
    return x[0] if draw.chance(0.3) else x, {"kernel_size": kernel, "dilation": short(draw, dilation),
                                             "padding": padding, "stride": short(draw, stride)}


def unfolded(draw):
    x, options = columns(draw)
    return Call((x,), options)


def unfolded_backward(draw):
    x, options = columns(draw)
    return Call((draw.numbers(*reference.unfold(x, **options).shape), x.shape), options)


def folded(draw):
    x, options = columns(draw)
    rank = len(options["kernel_size"])
    return Call((draw.numbers(*reference.unfold(x, **options).shape), x.shape[-rank:]), options)


def with_dloss(name):
    """The gradient of a loss with every reduction, and with what comes from above."""
    draw_verified = next(op.draw for op in verification.OPERATIONS if op.name == name)

    def drawn(draw):
        call = draw_verified(draw)
        options = {**call.options, "reduction": draw.one_of("mean", "sum", "none")}
        loss = getattr(reference, name.removesuffix("_backward"))(*call.args, **options)
        return Call(call.args, {**options, "dloss": draw.numbers(*np.shape(loss))})
    return drawn


def extreme_numbers(name):
    """Arguments of an activation far from zero, where exponentials overflow and vanish."""
    draw_verified = next(op.draw for op in verification.OPERATIONS if op.name == name)

    def drawn(draw):
        call = draw_verified(draw)
        *head, x = call.args
        return Call((*head, (x * draw.one_of(1e-30, 1e-6, 8, 30, 100)).astype(x.dtype)), call.options)
    return drawn


LOSSES = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "smooth_l1_loss",
          "dice_loss")
BOUNDED = ("elu", "selu", "sigmoid", "tanh", "hardsigmoid", "hardswish", "silu", "mish", "gelu", "softplus")


def _wild():
    for rank in (1, 2, 3):
        d = f"{rank}d"
        for name, operands in (("conv", convolution), ("conv_transpose", transposed)):
            yield f"{name}{d}", forward(operands, rank)
            yield f"{name}{d}_backward", backward(operands, rank, f"{name}{d}")
        for name in (f"max_pool{d}", f"min_pool{d}"):
            yield name, extreme(rank)
            yield f"{name}_backward", extreme_backward(name, rank)
        yield f"avg_pool{d}", average(rank)
        yield f"avg_pool{d}_backward", average_backward(rank)
        yield f"lp_pool{d}", power(rank)
        yield f"lp_pool{d}_backward", power_backward(rank)
        yield f"adaptive_avg_pool{d}", adaptive_average(rank)
        yield f"adaptive_avg_pool{d}_backward", adaptive_average_backward(rank)
        yield f"adaptive_max_pool{d}", adaptive_maximum(rank)
    yield "interpolate", interpolated
    yield "interpolate_backward", interpolated_backward
    yield "unfold", unfolded
    yield "unfold_backward", unfolded_backward
    yield "fold", folded
    yield "fold_backward", unfolded
    for name in LOSSES:
        yield f"{name}_backward", with_dloss(f"{name}_backward")
    for name in BOUNDED:
        yield name, extreme_numbers(name)


WILD = dict(_wild())
