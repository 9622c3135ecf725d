"""A differential fuzzer over every operation: ``python tests/fuzz.py --seconds 600 --seed 1``.

A call is drawn (operation, geometry, numbers, dtype, memory layout), computed by the NumPy twin in float64, and then by
the library at several levels, algorithms and numbers of threads, in hostile memory (guard pages, NaN) half of the time.
Every result must be within its bound, exact on small integers, and the same in every bit whatever the layout and the
threads; operations that treat images one by one must give the same bits for each alone. PyTorch in float64, if it is
here, judges the twin and its gradients (fuzz_torch.py), and which geometries are impossible (fuzz_refusals.py).
"""

import argparse
import faulthandler
import resource
import time
import traceback
from contextlib import nullcontext
from zlib import crc32

import numpy as np
from fuzz_calls import WILD, Draw
from guards import guarded, hostile_memory
from museum import LAYOUTS

import convkit
from convkit import functional, reference, settings, verification
from convkit.kernels import native
from convkit.plan import common, geometry, winograd
from convkit.spec.activation import ACTIVATIONS
from convkit.verification import same_bits

try:
    import fuzz_refusals
    from fuzz_torch import by_torch
except ImportError:
    by_torch = fuzz_refusals = None

# Images alone give the same bits: (operation, positions of the arguments that carry a batch axis).
RANKS = (1, 2, 3)
CONVOLUTIONS = tuple(f"conv{t}{rank}d" for t in ("", "_transpose") for rank in RANKS)
POOLINGS = tuple(f"{kind}_pool{rank}d" for kind in ("max", "min", "avg", "lp") for rank in RANKS)
EXTREMES = tuple(f"{kind}_pool{rank}d" for kind in ("max", "min") for rank in RANKS)
ADAPTIVE = tuple(f"adaptive_{kind}_pool{rank}d" for kind in ("max", "avg") for rank in RANKS)
BY_ITEM = {**dict.fromkeys((*CONVOLUTIONS, *POOLINGS, *ADAPTIVE, "pad", "pad_backward", "interpolate"), (0,)),
           **dict.fromkeys(ACTIVATIONS, (0,)), **{f"{name}_backward": (0, 1) for name in ACTIVATIONS},
           **{f"{name}_backward": (0, 1) for name in EXTREMES}}
FROM_ROUNDED = tuple(f"lp_pool{rank}d_backward" for rank in RANKS)  # by an output in the dtype of the call
SPECIALS = (np.nan, np.inf, -np.inf, -0.0, 1e-40, 0.0)
SPECIAL_OPERATIONS = (*CONVOLUTIONS, "pad", *EXTREMES, *(f"{name}_backward" for name in EXTREMES), *ADAPTIVE,
                      *(f"avg_pool{rank}d" for rank in RANKS), "avg_pool2d_backward", *ACTIVATIONS, "softmax",
                      "log_softmax", "linear", "cross_entropy", "unfold", "fold", "embedding_backward")


STUCK = 600  # seconds after which a call is taken to hang: the stacks of all threads are printed, and the run ends


class Wrong(AssertionError):
    """A difference, with the call that shows it."""


OPERATIONS = {op.name: op for op in verification.OPERATIONS}

LARGE_WEIGHTS = winograd.FAR_WEIGHTS


def ways(rng, count):
    """Some of the (isa, algorithm, threads) to compute a call in; the first is what a user gets."""
    every = [(isa, algorithm) for isa in native.ISA_LEVELS for algorithm in (None, *settings.ALGORITHMS[:-1])]
    every += [(None, "reference")]
    picked = [every[i] for i in rng.permutation(len(every))[:count]]
    return [(None, None), *picked]


def is_batch(name, args):
    """Whether the first argument has several images; one image alone may be drawn where it is a convolution's."""
    x = args[0]
    if name.startswith("conv"):
        return len(x) > 1 and x.ndim == args[1].ndim
    return len(x) > 1 and ("pool" not in name or x.ndim == 2 + int(name.removesuffix("_backward")[-2]))


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


def bounds(op, call, want):
    """The largest error per output; where ``dloss`` comes from above, that of each loss times it."""
    if "dloss" not in call.options:
        return op.bound(op.name, call, want)
    options = dict(call.options)
    dloss = np.abs(options.pop("dloss"))
    if options["reduction"] == "none":
        options["reduction"] = "sum"
    plain = verification.Call(call.args, options)
    each, = op.bound(op.name, plain, outputs(reference, op.name, call.args, options))
    each = each + 2.0**-126  # a softmax so small that it has no relative precision, times dloss
    if dloss.ndim and op.name.startswith(("cross", "nll")) and call.args[0].ndim > 1:
        dloss = dloss[:, None]
    return (each * dloss.reshape(dloss.shape + (1,) * (each.ndim - dloss.ndim)),)


def shown(a):
    return f"{a.dtype}{a.shape}" if isinstance(a, np.ndarray) else a


def widened(a):
    return a.astype(np.float64) if verification._is_float(a) else a


def near(mine, theirs, tolerance):
    size = max(1, np.abs(mine).max(initial=0, where=np.isfinite(mine)))
    return mine.shape == theirs.shape and np.allclose(mine, theirs, tolerance, tolerance * size, equal_nan=True)


def check(seed, name):
    """Draw and judge one call; raises ``Wrong``. Returns how many results were compared."""
    rng = np.random.default_rng([*seed, crc32(name.encode())])
    if name.startswith("conv"):  # tiles of two are for weights larger than any drawn here
        winograd.FAR_WEIGHTS = 0 if rng.integers(2) else LARGE_WEIGHTS
        common.clear()
    dtype = verification.DTYPES[rng.integers(len(verification.DTYPES))]
    op, draw = OPERATIONS[name], Draw([*seed, 1], dtype)
    call = (WILD[name] if name in WILD and rng.random() < 0.6 else op.draw)(draw)
    args, options = call.args, call.options
    special = name in SPECIAL_OPERATIONS and rng.random() < 0.15
    if special:
        first = args[0].copy()
        first[rng.random(first.shape) < 0.03] = SPECIALS[rng.integers(len(SPECIALS))]
        args = (first, *args[1:])

    def wrong(what, **detail):
        shapes, named = [shown(a) for a in args], {k: shown(v) for k, v in options.items()}
        raise Wrong(f"{what}: {name}({shapes}, {named}) seed={seed} {detail}")

    wide = verification.Call(tuple(map(widened, args)), {k: widened(v) for k, v in options.items()})
    with np.errstate(all="ignore"):
        want = outputs(reference, name, wide.args, wide.options)
        bound = None if special else bounds(op, wide, want)
    if by_torch is not None and not special:
        tolerance = max(1e-9, 16 * np.finfo(dtype).eps) if name in FROM_ROUNDED else 1e-9
        for mine, theirs in zip(want, by_torch(name, wide.args, wide.options) or (), strict=False):
            if mine is not None and not near(mine, theirs, tolerance):
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
                alone = compute(name, tuple(a[1:2] if i in BY_ITEM[name] else (1, *a[1:]) if i == 2 and isinstance(a, tuple) else a
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
                same = op.bound is verification._nothing
                if not (same_bits(np.isnan(one), np.isnan(right)) and same_bits(np.isinf(one), np.isinf(right))) \
                        or (same and not np.array_equal(one, right, equal_nan=True)):
                    wrong("NaN or infinity in other places", **detail)
            else:
                # near zero numbers have no relative precision
                numbers = np.finfo(np.promote_types(dtype, np.float32))
                floor = 0 if op.exact_on_integers else numbers.smallest_subnormal / numbers.eps
                units = verification._error(one, right, limit + floor, dtype)
                if not units <= 1 or (units > 0 and op.exact_on_integers and draw.integers and not by_tile):
                    wrong(f"error of {units} bounds", **detail)
    return compared


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--memory", type=float, default=8,
                        help="address space in GiB, 0 for any; a call that takes more has failed")
    parser.add_argument("--keep-going", action="store_true", help="report every failure, not only the first")
    options = parser.parse_args()
    if options.memory:
        resource.setrlimit(resource.RLIMIT_AS, (int(options.memory * 2**30),) * 2)
    end, calls, results, refusals, failures = time.monotonic() + options.seconds, 0, 0, 0, 0
    watched = 0  # until when a stuck call ends the process; a watcher is a thread, too dear for each call
    slowest = (0.0, "none", None)  # in CPU time: on a busy machine any call may wait
    try:
        while time.monotonic() < end:
            name = options.operations[calls % len(options.operations)]
            if calls % (7 * len(options.operations)) == 0:  # now and then many boxes
                geometry.SOURCE_BYTES = (512 * 1024, 4096, 512)[calls // (7 * len(options.operations)) % 3]
                common.clear()
            seed, before = (options.seed, calls), time.process_time()
            if time.monotonic() > watched - STUCK:
                watched = time.monotonic() + 2 * STUCK
                faulthandler.dump_traceback_later(2 * STUCK, exit=True)
            try:
                results += check(seed, name)
                if fuzz_refusals is not None:
                    refusals += 1
                    fuzz_refusals.check(seed)
            except Exception as exc:
                failures += 1
                where = traceback.extract_tb(exc.__traceback__)[-1]
                print(f"FAIL {type(exc).__name__}: {exc} ({name}, {seed=}, {where.name}:{where.lineno}, "
                      f"SOURCE_BYTES={geometry.SOURCE_BYTES})", flush=True)
                if not options.keep_going:
                    raise
            slowest = max(slowest, (time.process_time() - before, name, seed))
            calls += 1
    except KeyboardInterrupt:
        pass
    faulthandler.cancel_dump_traceback_later()
    print(f"{calls} calls and {refusals} of doubtful geometry, {results} results compared, {failures} failures, "
          f"{time.monotonic() - end + options.seconds:.0f} s, seed {options.seed}; "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most; "
          f"the slowest call took {slowest[0]:.1f} s: {slowest[1]}, seed={slowest[2]}")
    return failures != 0


if __name__ == "__main__":
    raise SystemExit(main())
