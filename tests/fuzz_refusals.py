"""Calls that may be impossible: convkit must refuse them where PyTorch does, and agree with it where it does not.

``check(seed)`` draws one call whose arguments are plausible one by one, each now and then broken (zero, negative, of the
wrong length, not fitting the others), makes it in both, and compares. Where the two differ on purpose, ``RULES`` says so.
"""

import re
import warnings
from math import prod

import numpy as np
import torch
from fuzz_calls import Draw
from torch.nn import functional as T

import convkit
from convkit import functional as F


class Wrong(AssertionError):
    """The two differ, with the call that shows it."""


def number(draw, low, high, broken):
    """A plausible number, or one that no geometry allows."""
    return draw.one_of(*broken) if draw.chance(0.06) else draw.size(low, high)


def per_axis(draw, rank, low, high, broken):
    """One number, or one per axis, or too many or too few."""
    if draw.chance(0.4):
        return number(draw, low, high, broken)
    length = max(1, rank + draw.size(-1, 1)) if draw.chance(0.05) else rank
    return tuple(number(draw, low, high, broken) for _ in range(length))


def image(draw, rank, channels, top=9):
    axes = rank + draw.one_of(-1, 1) if draw.chance(0.04) else rank
    size = [number(draw, 1, top, (0,)) for _ in range(axes)]
    lead = () if draw.chance(0.2) else (number(draw, 1, 2, (0,)),)
    return draw.numbers(*lead, channels, *size)


def conv(draw, rank):
    groups = number(draw, 1, 3, (0, -1, 5))
    per_group, filters = draw.size(1, 3), draw.size(1, 3)
    count = max(groups, 1) * per_group + (draw.chance(0.05) and draw.one_of(-1, 1))
    weight = draw.numbers(max(groups, 1) * filters + (draw.chance(0.05) and 1), per_group,
                          *(number(draw, 1, 4, (0,)) for _ in range(rank + (draw.chance(0.03) and 1))))
    bias = draw.numbers(len(weight) + (draw.chance(0.05) and 1)) if draw.chance(0.3) else None
    padding = draw.one_of("same", "valid", "full") if draw.chance(0.1) else per_axis(draw, rank, 0, 3, (-1, 9))
    return f"conv{rank}d", (image(draw, rank, count), weight, bias), {
        "stride": per_axis(draw, rank, 1, 3, (0, -1)), "padding": padding,
        "dilation": per_axis(draw, rank, 1, 3, (0, -2)), "groups": groups}


def conv_transpose(draw, rank):
    groups = number(draw, 1, 3, (0, -1, 5))
    per_group, filters = draw.size(1, 3), draw.size(1, 3)
    count = max(groups, 1) * per_group + (draw.chance(0.05) and 1)
    weight = draw.numbers(max(groups, 1) * per_group, filters,
                          *(number(draw, 1, 4, (0,)) for _ in range(rank + (draw.chance(0.03) and 1))))
    bias = draw.numbers(filters * max(groups, 1) + (draw.chance(0.05) and 1)) if draw.chance(0.3) else None
    return f"conv_transpose{rank}d", (image(draw, rank, count, 4), weight, bias), {
        "stride": per_axis(draw, rank, 1, 3, (0, -1)), "padding": per_axis(draw, rank, 0, 3, (-1, 9)),
        "output_padding": per_axis(draw, rank, 0, 1, (-1, 2, 3)), "groups": groups,
        "dilation": per_axis(draw, rank, 1, 3, (0, -2))}


def max_pool(draw, rank):
    return f"max_pool{rank}d", (image(draw, rank, 2), per_axis(draw, rank, 1, 4, (0, -1, 12))), {
        "stride": None if draw.chance(0.3) else per_axis(draw, rank, 1, 3, (0, -1)),
        "padding": per_axis(draw, rank, 0, 1, (-1, 2, 5)), "dilation": per_axis(draw, rank, 1, 2, (0, -1, 5)),
        "ceil_mode": draw.chance(0.5)}


def avg_pool(draw, rank):
    return f"avg_pool{rank}d", (image(draw, rank, 2), per_axis(draw, rank, 1, 4, (0, -1, 12))), {
        "stride": None if draw.chance(0.3) else per_axis(draw, rank, 1, 3, (0, -1)),
        "padding": per_axis(draw, rank, 0, 1, (-1, 2, 5)), "ceil_mode": draw.chance(0.5),
        "count_include_pad": draw.chance(0.5),
        **({"divisor_override": draw.one_of(None, number(draw, 1, 5, (0, -2)))} if rank > 1 else {})}


def lp_pool(draw, rank):
    name, args, options = avg_pool(draw, rank)
    x, kernel = args
    return f"lp_pool{rank}d", (np.abs(x) + 1, draw.size(1, 4), kernel), \
        {"stride": options["stride"], "ceil_mode": options["ceil_mode"]}


def adaptive(draw, rank):
    kind = draw.one_of("avg", "max")
    return f"adaptive_{kind}_pool{rank}d", (image(draw, rank, 2), per_axis(draw, rank, 1, 12, (0, -1, None))), {}


def unpool(draw, rank):
    x = image(draw, rank, 2, 4)
    indices = draw.rng.permutation(x.size).reshape(x.shape) % max(1, prod(x.shape[-rank:]) * 2)
    indices = np.sort(indices, axis=-1) if draw.chance(0.1) else indices
    if draw.chance(0.05) and indices.size:
        indices.flat[-1] = draw.one_of(-1, 10**6)
    return f"max_unpool{rank}d", (x, indices, per_axis(draw, rank, 1, 3, (0, -1))), {
        "stride": None if draw.chance(0.3) else per_axis(draw, rank, 1, 3, (0, -1)),
        "padding": per_axis(draw, rank, 0, 1, (-1, 4))}


def interpolate(draw, rank):
    mode = draw.one_of("nearest", "nearest-exact", ("linear", "bilinear", "trilinear")[rank - 1])
    if draw.chance(0.08):
        mode = draw.one_of("linear", "bilinear", "trilinear", "no such mode")
    options = {"mode": mode}
    if draw.chance(0.5):
        options["align_corners"] = draw.one_of(None, True, False) if "linear" in mode else draw.one_of(None, None, True)
    if draw.chance(0.6):
        options["size"] = per_axis(draw, rank, 1, 12, (0, -1))
    if "size" not in options or draw.chance(0.05):
        options["scale_factor"] = draw.one_of(0.5, 2, 1.7, (1.5,) * rank, 0.01, 0.0, -1.0)
    return "interpolate", (draw.numbers(draw.size(1, 2), 2, *(number(draw, 1, 9, (0,)) for _ in range(rank))),), options


def unfold(draw, rank):
    return "unfold", (image(draw, 2, 2), (draw.size(1, 3), number(draw, 1, 4, (0, -1, 12)))), {
        "dilation": per_axis(draw, 2, 1, 3, (0, -1)), "padding": per_axis(draw, 2, 0, 2, (-1, 5)),
        "stride": per_axis(draw, 2, 1, 3, (0, -1))}


def fold(draw, rank):
    kernel, size = draw.sizes(2, 1, 3), draw.sizes(2, 1, 6)
    windows = [max(0, n - k + 1) for n, k in zip(size, kernel, strict=True)]
    x = draw.numbers(draw.size(1, 2), 2 * prod(kernel) + (draw.chance(0.1) and 1), prod(windows) + (draw.chance(0.1) and 1))
    return "fold", (x, size, kernel), {"padding": number(draw, 0, 0, (1, -1)), "stride": number(draw, 1, 1, (0, 2))}


def pad(draw, rank):
    x = draw.numbers(*(number(draw, 1, 5, (0,)) for _ in range(draw.size(1, 5))))
    mode = draw.one_of("constant", "reflect", "replicate", "circular")
    length = 2 * rank if draw.chance(0.9) else draw.size(1, 8)
    return "pad", (x, tuple(number(draw, 0, 3, (-1, 9)) for _ in range(length)), mode), {}


def losses(draw, rank):
    name = draw.one_of("cross_entropy", "nll_loss")
    classes = number(draw, 1, 4, (0,))
    shape = tuple(number(draw, 1, 4, (0,)) for _ in range(draw.size(0, 2)))
    n = number(draw, 1, 4, (0,))
    target = draw.rng.integers(0, max(classes, 1), (n + (draw.chance(0.05) and 1), *shape))
    if draw.chance(0.08) and target.size:
        target.flat[0] = draw.one_of(-1, classes, -100)
    return name, (draw.numbers(n, classes, *shape), target), {"reduction": draw.one_of("mean", "sum", "none", "max")}


def distances(draw, rank):
    name = draw.one_of("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits")
    shape = draw.sizes(draw.size(1, 3), 0 if draw.chance(0.1) else 1, 4)
    other = shape if draw.chance(0.9) else shape[1:]
    options = {"beta": draw.one_of(0.5, 0.0, -1.0)} if name.startswith("smooth") else {}
    return name, (draw.numbers(*shape), draw.numbers(*other)), options


def norms(draw, rank):
    channels = draw.size(1, 6)
    x = draw.numbers(draw.size(1, 3), channels, *(number(draw, 1, 4, (0,)) for _ in range(draw.size(0, 3))))
    length = channels + (draw.chance(0.08) and 1)
    weight = draw.numbers(length) if draw.chance(0.5) else None
    if draw.chance(0.3):
        return "group_norm", (x, number(draw, 1, 3, (0, -1, 7)), weight), {}
    if draw.chance(0.4):
        shape = x.shape[draw.size(0, x.ndim - 1):] if draw.chance(0.9) else (2, 3)
        return "layer_norm", (x, shape), {}
    if draw.chance(0.4):
        return "local_response_norm", (x, number(draw, 1, 5, (0, -1))), {}
    mean = draw.numbers(length) if draw.chance(0.8) else None
    return "batch_norm", (x, mean, None if mean is None else mean * 0 + 1, weight), {"training": draw.chance(0.5)}


def around(draw, rank):
    name = draw.one_of("softmax", "log_softmax", "pixel_shuffle", "pixel_unshuffle", "linear", "embedding", "prelu")
    if "soft" in name:
        x = draw.numbers(*draw.sizes(draw.size(0, 3), 0 if draw.chance(0.1) else 1, 4))
        return name, (x, draw.size(-4, 4)), {}
    if name == "linear":
        n = draw.size(1, 4)
        return name, (draw.numbers(*draw.sizes(draw.size(0, 2), 0, 3), n + (draw.chance(0.1) and 1)),
                      draw.numbers(draw.size(1, 4), n)), {}
    if name == "embedding":
        return name, (draw.rng.integers(-draw.chance(0.1), 4 + draw.chance(0.1), draw.sizes(2, 0, 3)),
                      draw.numbers(4, 3), draw.one_of(None, 1, -1, -4, 4, -5)), {}
    if name == "prelu":
        x = draw.numbers(*draw.sizes(draw.size(1, 3), 1, 4))
        return name, (x, draw.numbers(draw.one_of(1, x.shape[min(1, x.ndim - 1)], 3))), {}
    r = number(draw, 1, 3, (0, -1))
    shape = draw.sizes(draw.size(1, 3), 1, 9 * 2)
    return name, (draw.numbers(*draw.sizes(draw.size(0, 1), 1, 2), *shape), r), {}


DRAWERS = (conv, conv_transpose, max_pool, avg_pool, lp_pool, adaptive, unpool, interpolate, unfold, fold, pad, losses,
           distances, norms, around)


def check(seed):
    """Draw one call and make it in both; raises ``Wrong``. Returns whether both took it."""
    draw = Draw([*seed, 7], np.dtype(np.float64))
    draw.integers = True
    name, args, options = DRAWERS[draw.size(0, len(DRAWERS) - 1)](draw, draw.size(1, 3))
    ours = outcome(getattr(F, name), args, options, (convkit.ShapeError, convkit.DtypeError))
    to = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    if name == "lp_pool1d":  # takes no tuples
        to[2], options = (v[0] if isinstance(v, tuple) and len(v) == 1 else v for v in (to[2], options))
        options = {k: v[0] if isinstance(v, tuple) and len(v) == 1 else v for k, v in options.items()}
    theirs = outcome(getattr(T, name), to, options, Exception)
    shapes = [a.shape if isinstance(a, np.ndarray) else a for a in args]
    call = f"{name}({shapes}, {options}) seed={seed}"
    if isinstance(ours, Exception) != isinstance(theirs, Exception):
        if not excused(name, ours, theirs):
            raise Wrong(f"{call}: convkit {said(ours)}, PyTorch {said(theirs)}")
    elif not isinstance(ours, Exception):
        theirs = theirs.numpy()
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, 1e-9, 1e-9, equal_nan=True):
            raise Wrong(f"{call}: results differ, {ours.shape} and {theirs.shape}")
        return True
    return False


def outcome(function, args, options, refusals):
    try:
        with warnings.catch_warnings(action="ignore"):
            return function(*args, **options)
    except refusals as exc:
        return exc


def said(result):
    return f"says {type(result).__name__}: {result}".splitlines()[0] if isinstance(result, Exception) else "takes it"


# Where convkit refuses what PyTorch takes: operation, convkit's words, why.
STRICTER = (
    ("", "tuple of [0-9] integers|integer or a tuple of 1", "one number per axis or one for all, not a tuple of one"),
    ("max_unpool", "leaves nothing|not be negative|must be at least 1", "PyTorch computes an empty or odd size"),
    ("lp_pool", "kernel_size must be at least", "PyTorch gives empty results"),
    ("adaptive", "output_size must be at least", "PyTorch gives empty results"),
    ("adaptive_avg_pool", "x must have [345] axes", "PyTorch takes any array where the output is one element"),
    ("max_pool", "puts a whole window outside", "PyTorch gives -inf and an index that lies nowhere"),
    ("conv", "output_padding must be less|output must have at least|dilation must be at least",
     "PyTorch does not check an empty batch"),
    ("avg_pool", "divisor_override must be at least", "PyTorch divides by a negative number"),
    ("pad", "padding must not be negative", "only constant padding crops"),
    ("", "must have at least 1 (channel|class|axis|element)|normalized_shape must be at least 1", "nothing to compute"),
    ("", "target must have shape", "losses do not broadcast"),
    ("smooth_l1", "beta must", "a negative width"),
    ("softmax", "axis must", ""), ("log_softmax", "axis must", ""),
)
# Where PyTorch refuses what convkit takes: operation, PyTorch's words, why.
LOOSER = (
    ("conv", "is not supported for strided", "'same' is defined for every stride"),
    ("avg_pool3d", "smaller than kernel size", "a window larger than the input in ceil_mode, as in 2-d"),
    ("lp_pool3d", "smaller than kernel size", "a window larger than the input in ceil_mode, as in 2-d"),
    ("max_pool", "half of (effective )?kernel size", "padding up to half of the dilated window"),
    ("group_norm", "more than 1 value", "a group of one value is its bias"),
    ("adaptive", "NoneType", "None keeps an axis in every adaptive pooling"),
    ("pad", "possibly 0 batch size", "no channels give no channels"),
)


def excused(name, ours, theirs):
    """Whether the two may differ: one of the tables above says so."""
    table, said = (STRICTER, ours) if isinstance(ours, Exception) else (LOOSER, theirs)
    return any(name.startswith(operation) and re.search(words, str(said)) for operation, words, _ in table)
