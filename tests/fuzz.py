"""A differential fuzzer over every operation: ``python tests/fuzz.py --seconds 600 --seed 1``.

A call is drawn (operation, geometry, numbers, dtype, memory layout), computed by the NumPy twin in float64, and then by
the library at several levels, algorithms and numbers of threads, in hostile memory (guard pages, NaN) half of the time.
Every result must be within its bound, exact on small integers, and the same in every bit whatever the layout and the
threads; operations that treat images one by one must give the same bits for each alone. PyTorch in float64, if it is
here, judges the twin.
"""

import argparse
import time
from contextlib import nullcontext
from zlib import crc32

import numpy as np
from guards import guarded, hostile_memory
from museum import LAYOUTS, same_bits

import convkit
from convkit import functional, reference, settings, verification
from convkit.kernels import native
from convkit.plan import common, geometry
from convkit.spec.activation import ACTIVATIONS

try:
    import torch
except ImportError:
    torch = None

# Images alone give the same bits: (operation, positions of the arguments that carry a batch axis).
RANKS = (1, 2, 3)
CONVOLUTIONS = tuple(f"conv{t}{rank}d" for t in ("", "_transpose") for rank in RANKS)
POOLINGS = tuple(f"{kind}_pool{rank}d" for kind in ("max", "min", "avg", "lp") for rank in RANKS)
BY_ITEM = {**dict.fromkeys((*CONVOLUTIONS, *POOLINGS, "pad", "pad_backward"), (0,)),
           **dict.fromkeys(ACTIVATIONS, (0,)), **{f"{name}_backward": (0, 1) for name in ACTIVATIONS},
           "max_pool2d_backward": (0, 1), "min_pool2d_backward": (0, 1)}
SPECIALS = (np.nan, np.inf, -np.inf, -0.0, 1e-40, 0.0)
SPECIAL_OPERATIONS = (*CONVOLUTIONS, "pad", "max_pool2d", "min_pool2d", "avg_pool2d", *ACTIVATIONS, "softmax",
                      "log_softmax", "linear", "cross_entropy", "max_pool2d_backward", "avg_pool2d_backward")


class Wrong(AssertionError):
    """A difference, with the call that shows it."""


class Draw(verification.Fuzz):
    """Sizes and numbers of one call. Arrays are plain here; layouts are tried by the checks."""

    def numbers(self, *shape):
        if self.integers:
            return self.rng.integers(-4, 5, shape).astype(self.dtype)
        scale = 10.0 ** self.size(-3, 3)
        return (scale * self.rng.standard_normal(shape)).astype(self.dtype)


def wild_convolution(draw):
    """Geometries that ``verify`` does not draw: long rows, many channels, large kernels and strides, names."""
    kind = draw.size(0, 7)
    groups, per_group, filters = 1, draw.size(1, 9), draw.size(1, 12)
    kernel, stride, dilation = draw.sizes(2, 1, 3), draw.sizes(2, 1, 2), (1, 1)
    room = (9, 12)
    if kind == 0:  # many channels or filters
        per_group, filters = draw.size(1, 300), draw.size(1, 150)
        room = (2, 3)
    elif kind == 1:  # one long row
        kernel, room = (1, draw.size(1, 12)), (0, 700)
    elif kind == 2:  # one long column
        kernel, room = (draw.size(1, 12), 1), (300, 1)
    elif kind == 3:
        kernel, room = draw.sizes(2, 5, 16), (6, 6)
    elif kind == 4:
        stride, dilation = draw.sizes(2, 1, 9), draw.sizes(2, 1, 7)
    elif kind == 5:  # groups of unequal shape
        groups, per_group = draw.size(2, 9), draw.size(1, 5)
        filters = draw.size(1, 5)
    elif kind == 6:  # 1x1 of every kind
        kernel, stride = (1, 1), draw.sizes(2, 1, 3) if draw.chance(0.3) else (1, 1)
    else:  # one channel, or one filter
        per_group, filters = (1, filters) if draw.chance(0.5) else (per_group, 1)
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    padding = draw.size(0, 3)
    if draw.chance(0.4):
        padding = tuple((draw.size(0, 2 * s), draw.size(0, 2 * s)) for s in spans)
    if draw.chance(0.2):
        padding = ("same", "valid")[draw.size(0, 1)]
    size = tuple(s + draw.size(0, r) for s, r in zip(spans, room, strict=True))
    x = draw.numbers(draw.size(1, 3), groups * per_group, *size)
    weight = draw.numbers(groups * filters, per_group, *kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if draw.chance(0.1):
        x = x[0]
    return x, weight, options


def wild_conv2d(draw):
    x, weight, options = wild_convolution(draw)
    return verification.Call((x, weight, draw.numbers(len(weight)) if draw.chance(0.5) else None), options)


def wild_conv2d_backward(draw):
    x, weight, options = wild_convolution(draw)
    return verification.Call((draw.numbers(*reference.conv2d(x, weight, **options).shape), x, weight), options)


WILD = {"conv2d": wild_conv2d, "conv2d_backward": wild_conv2d_backward}
OPERATIONS = {op.name: op for op in verification.OPERATIONS}


def ways(rng, count):
    """Some of the (isa, algorithm, threads) to compute a call in; the first is what a user gets."""
    every = [(isa, algorithm) for isa in native.ISA_LEVELS for algorithm in (None, *settings.ALGORITHMS[:-1])]
    every += [(None, "reference")]
    picked = [every[i] for i in rng.permutation(len(every))[:count]]
    return [(None, None), *picked]


def is_batch(name, args):
    """Whether the first argument has several images; one image alone may be drawn where it is a convolution's."""
    x = args[0]
    return len(x) > 1 and (x.ndim == args[1].ndim if name.startswith("conv") else name.startswith("pad") or x.ndim == 4)


def compute(name, args, options, threads):
    with convkit.threads(threads):
        return outputs(functional, name, args, options)


def outputs(module, name, args, options):
    """Results as a tuple, with the running statistics that batch_norm changes in place."""
    args = tuple(a.copy() if name == "batch_norm" and i in (1, 2) and isinstance(a, np.ndarray) else a
                 for i, a in enumerate(args))
    result = getattr(module, name)(*args, **options)
    result = result if isinstance(result, tuple) else (result,)
    return result + args[1:3] if name == "batch_norm" else result


def laid_out(rng, args, name):
    """The arguments, each in a layout of the museum (the statistics that batch_norm writes stay as they are)."""
    names = [None if name == "batch_norm" and i in (1, 2) else list(LAYOUTS)[rng.integers(len(LAYOUTS))]
             for i in range(len(args))]
    return names, tuple(LAYOUTS[layout](a) if layout and isinstance(a, np.ndarray) else a
                        for layout, a in zip(names, args, strict=True))


def check(seed, name):
    """Draw and judge one call; raises ``Wrong``. Returns how many results were compared."""
    rng = np.random.default_rng([*seed, crc32(name.encode())])
    dtype = np.dtype((np.float32, np.float64)[rng.integers(2)])
    op, draw = OPERATIONS[name], Draw([*seed, 1], dtype)
    call = (WILD[name] if name in WILD and rng.random() < 0.6 else op.draw)(draw)
    args, options = call.args, call.options
    special = name in SPECIAL_OPERATIONS and rng.random() < 0.15
    if special:
        first = args[0].copy()
        first[rng.random(first.shape) < 0.03] = SPECIALS[rng.integers(len(SPECIALS))]
        args = (first, *args[1:])

    def wrong(what, **detail):
        shapes = [f"{a.dtype}{a.shape}" if isinstance(a, np.ndarray) else a for a in args]
        raise Wrong(f"{what}: {name}({shapes}, {options}) seed={seed} {detail}")

    wide = verification.Call(tuple(a.astype(np.float64) if verification._is_float(a) else a for a in args), options)
    with np.errstate(all="ignore"):
        want = outputs(reference, name, wide.args, options)
        bound = None if special else op.bound(name, wide, want)
    if torch is not None and not special:
        theirs = by_torch(name, wide.args, options)
        scale = 1 if theirs is None else max(1, np.abs(theirs).max(initial=0))
        if theirs is not None and not np.allclose(want[0], theirs, rtol=1e-9, atol=1e-9 * scale):
            wrong("the twin and PyTorch differ")

    compared = 0
    for isa, algorithm in ways(rng, 3):
        threads = int((1, 2, 3, 8)[rng.integers(4)])
        hostile, at_end = rng.random() < 0.5, rng.random() < 0.5
        layouts, laid = laid_out(rng, args, name)
        detail = {"isa": isa, "algorithm": algorithm, "threads": threads, "layouts": layouts}
        with convkit.use(isa=isa, algorithm=algorithm), common.recording() as plans:
            try:
                plain = compute(name, args, options, 1)
                with hostile_memory(at_end) if hostile else nullcontext():
                    if hostile and name != "batch_norm":
                        laid = tuple(guarded(a, at_end=at_end) if isinstance(a, np.ndarray) and a.ndim else a
                                     for a in args)
                        detail["layouts"] = f"guarded, at_end={at_end}"
                    got = compute(name, laid, options, threads)
            except common.AlgorithmRefused:
                continue
            compared += 1
            if not same_bits(plain, got):
                wrong("bits depend on threads, layout or memory", **detail)
            if name in BY_ITEM and is_batch(name, args):
                alone = compute(name, tuple(a[1:2] if i in BY_ITEM[name] else (1, *a[1:]) if isinstance(a, tuple) else a
                                            for i, a in enumerate(args)), options, threads)
                if not same_bits(alone[0], plain[0][1:2]):
                    wrong("an image alone has other bits", **detail)
        by_tile = any(plan.algorithm == "winograd" for plan in plans)
        limits = verification._tile_bounds(name, wide, bound) if by_tile and not special else bound
        for one, right, limit in zip(plain, want, limits or want, strict=True):
            if right is None or one is None:
                if one is not right:
                    wrong("None differs", **detail)
                continue
            if special:
                with np.errstate(all="ignore"):
                    right = np.asarray(right).astype(np.asarray(one).dtype)
                if not (same_bits(np.isnan(one), np.isnan(right)) and same_bits(np.isinf(one), np.isinf(right))):
                    wrong("NaN or infinity in other places", **detail)
            else:
                # near zero numbers have no relative precision
                floor = 0 if op.exact_on_integers else np.finfo(dtype).smallest_subnormal / np.finfo(dtype).eps
                units = verification._error(one, right, limit + floor, dtype)
                if not units <= 1 or (units > 0 and op.exact_on_integers and draw.integers and not by_tile):
                    wrong(f"error of {units} bounds", **detail)
    return compared


def by_torch(name, args, options):
    """The first result by PyTorch, or None where it has no such operation or geometry."""
    to = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    function = torch.nn.functional
    if name in ("conv1d", "conv2d", "conv3d"):
        padding, rank = options["padding"], args[1].ndim - 2
        if padding == "same":
            return None
        pairs = ((0, 0),) * rank if padding == "valid" else ((padding,) * 2,) * rank if isinstance(padding, int) \
            else padding
        mode = options.get("padding_mode", "constant")
        x = function.pad(to[0], [v for pair in reversed(pairs) for v in pair], mode)
        y = getattr(function, name)(x, to[1], to[2], options["stride"], 0, options["dilation"], options["groups"])
    elif name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        full = getattr(function, name)(*to, **{**options, "padding": 0, "output_padding": 0})
        crop = [v for (lo, hi), e in reversed(list(zip(options["padding"], options["output_padding"], strict=True)))
                for v in (-lo, e - hi)]
        if to[2] is not None and any(e > hi for (_, hi), e in zip(options["padding"], options["output_padding"],
                                                                 strict=True)):
            return None  # a border of bias
        y = function.pad(full, crop)
    elif name == "pad":
        y = function.pad(*to[:3], to[3] if to[2] == "constant" else None)
    elif "pool" in name:
        if name.endswith("backward") or "unpool" in name or not hasattr(function, name) or np.isnan(args[0]).any():
            return None
        if options.get("norm_type") == np.inf or (name == "avg_pool1d" and options["divisor_override"]) \
                or (name.startswith("adaptive") and args[1] == (None,)):
            return None
        drop = ("return_indices", "divisor_override" if name == "avg_pool1d" else "")
        options = {k: v for k, v in options.items() if k not in drop}
        if name == "lp_pool1d":  # takes no tuples
            options |= {k: v and v[0] for k, v in options.items() if k in ("kernel_size", "stride")}
        y = getattr(function, name)(*to, **options)
    elif name in ACTIVATIONS:
        y = getattr(function, name)(to[0], **options)
    elif name in ("softmax", "log_softmax", "linear"):
        y = getattr(function, name)(*to)
    elif name == "cross_entropy":
        y = function.cross_entropy(*to, **options)
    else:
        return None
    return y.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--keep-going", action="store_true", help="report every failure, not only the first")
    options = parser.parse_args()
    end, calls, results, failures = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < end:
        name = options.operations[calls % len(options.operations)]
        if calls % (7 * len(options.operations)) == 0:  # now and then many boxes
            geometry.SOURCE_BYTES = (512 * 1024, 4096, 512)[calls // (7 * len(options.operations)) % 3]
            common.clear()
        try:
            results += check((options.seed, calls), name)
        except Exception as exc:
            failures += 1
            print(f"FAIL {type(exc).__name__}: {exc} (SOURCE_BYTES={geometry.SOURCE_BYTES})", flush=True)
            if not options.keep_going:
                raise
        calls += 1
    print(f"{calls} calls, {results} results compared, {failures} failures, seed {options.seed}")
    return failures != 0


if __name__ == "__main__":
    raise SystemExit(main())
