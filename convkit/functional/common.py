"""What every function here does with arrays before and after the plan runs.

float16 is for storing: what computes is float32. A function that runs a plan takes the spec first and is decorated with
``in_float32``: it gets the spec of a float32 call, ``contiguous`` widens the operands on their way to the plan, and the
results are rounded once, at the end.
"""

from dataclasses import replace
from functools import lru_cache, partial, wraps

import numpy as np

from convkit.plan.calls import apart, empty, holds, plain
from convkit.plan.common import recording
from convkit.plan.half import narrow_plan, widen_plan
from convkit.spec.common import FLOAT16, FLOAT32, INT64


def in_float32(run):
    """Let ``run(spec, ...)``, which computes in the dtype of its spec, do float16 as well."""
    @wraps(run)
    def call(spec, *arguments):
        if spec.dtype is not FLOAT16:
            return run(spec, *arguments)
        return narrowed(run(computing(spec), *arguments))

    return call


_of_float32 = lru_cache(maxsize=1024)(partial(replace, dtype=FLOAT32))


def computing(spec):
    """The spec of what computes a call."""
    return spec if spec.dtype is not FLOAT16 else _of_float32(spec)


def narrowed(result):
    """A result, or a tuple of results, with float16 for float32; too large numbers become infinite."""
    if isinstance(result, tuple):
        return tuple(narrowed(r) for r in result)
    if isinstance(result, np.float32):
        with np.errstate(over="ignore"):
            return np.float16(result)
    if isinstance(result, np.ndarray) and result.dtype == FLOAT32:
        return _converted(contiguous(result, FLOAT32), FLOAT16, narrow_plan)
    return result


def _converted(a, dtype, plan):
    y = empty(a.shape, dtype)
    if y.size:
        plan().run(a, y)
    return y


def as_they_are(dtype, *operands):
    """Whether kernels take operands of such geometry without a look at each: plain, none empty, and no float16."""
    return dtype is not FLOAT16 and all(a is None or a.size and plain(a, INT64 if a.dtype.kind == "i" else dtype)
                                        for a in operands)


def filled_by(plan_of, spec, shape, *operands, after=(), view=None):
    """A function of operands like these that fills a new array by the plan, which takes ``after`` behind it, and all in
    the shape ``view`` if that is given; None where each call wants a look at them, or there are no kernels.
    """
    if not as_they_are(spec.dtype, *operands) or 0 in shape:
        return None
    plan, dtype = plan_of(spec), spec.dtype
    if plan.isa is None:
        return None
    run = plan.run

    def call(*operands):
        y = empty(shape, dtype)
        run(*operands, y, *after)
        return y

    def call_in_view(*operands):
        y = empty(shape, dtype)
        run(*[a.reshape(view) for a in operands], y.reshape(view), *after)
        return y

    return call if view is None else call_in_view


def contiguous(a, dtype):
    """``a`` itself if it is C-contiguous, aligned and of this native dtype, else one copy that is."""
    if plain(a, dtype):
        return a
    if type(a) is not np.ndarray:  # a memmap or a matrix: the same memory without the subclass's habits
        a = np.asarray(a)
    flags = a.flags
    if flags.c_contiguous and flags.aligned and a.dtype == dtype:
        return a
    if a.dtype.char == "e" and dtype == FLOAT32:
        return _converted(contiguous(a, FLOAT16), dtype, widen_plan)
    return np.array(a, dtype, order="C")


def bytes_of(arrays, before=()):
    """What each of a tuple of arrays holds, None for None; ``before`` itself if it is that."""
    return before if holds(before, arrays) else tuple(None if a is None else a.tobytes() for a in arrays)


def optional(a, dtype):
    """``contiguous`` for an operand that may be None."""
    return None if a is None else contiguous(a, dtype)


def planes(a, dtype, size):
    """``a (N, C, *size)`` or ``(C, *size)`` as contiguous ``(planes, *size)``."""
    return contiguous(a, dtype).reshape((-1, *size))


def target_for(out, shape, dtype, *inputs):
    """Where the kernel writes: ``out`` if it is plain memory that no input overlaps, else a new array."""
    if out is not None and plain(out, dtype) and all(a is None or apart(out, a) for a in inputs):
        return out
    return empty(shape, dtype)


def deliver(y, out):
    """``y`` when the caller gave no ``out``, else ``out`` with the result in it."""
    if out is not None and out is not y:
        out[...] = narrowed(y) if out.dtype.char == "e" else y
        return out
    return y


def run_packed(spec, run, x, weight, bias, y, packed, then=None):
    """Run a forward plan, with what ``packed`` keeps of the weight if there is a keeper and the plan packs at all;
    ``then`` is a ``Finish`` for a plan that takes one, with a keeper.
    """
    finish = () if then is None else (then,)
    if packed is None or not hasattr(run, "pack"):
        run(x, contiguous(weight, spec.dtype), bias, y, *finish)
    else:
        kept = packed(run.pack_key, lambda kept: run.pack(contiguous(kept, spec.dtype)))
        run.with_packed(x, kept, bias, y, *finish)


def computed_by(function, x):
    """``function(x)``, and what computed it: each operation's kind and algorithm, such as "conv: winograd"."""
    with recording() as plans:
        y = function(x)
    kinds = (type(plan.spec).__name__.removesuffix("Spec").lower() for plan in plans)
    return y, tuple(dict.fromkeys(f"{kind}: {plan.algorithm}" for kind, plan in zip(kinds, plans, strict=True)))
