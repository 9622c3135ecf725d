"""What every function here does with arrays before and after the plan runs."""

from math import prod

import numpy as np


def contiguous(a, dtype):
    """``a`` itself if it is C-contiguous, aligned and of this native dtype, else one copy that is."""
    if type(a) is not np.ndarray:  # a memmap or a matrix: the same memory without the subclass's habits
        a = np.asarray(a)
    flags = a.flags
    if flags.c_contiguous and flags.aligned and a.dtype == dtype:
        return a
    return np.array(a, dtype, order="C")


def optional(a, dtype):
    """``contiguous`` for an operand that may be None."""
    return None if a is None else contiguous(a, dtype)


def planes(a, dtype, size):
    """``a (N, C, *size)`` or ``(C, *size)`` as contiguous ``(planes, *size)``."""
    return contiguous(a, dtype).reshape(prod(a.shape[:-len(size)]), *size)


def target_for(out, shape, dtype, *inputs):
    """Where the kernel writes: ``out`` if it is plain memory that no input overlaps, else a new array."""
    if out is not None and out.flags.c_contiguous and out.flags.aligned \
            and not any(a is not None and np.may_share_memory(out, a) for a in inputs):
        return out
    return np.empty(shape, dtype)


def deliver(y, out):
    """``y`` when the caller gave no ``out``, else ``out`` with the result in it."""
    if out is not None and out is not y:
        out[...] = y
        return out
    return y


def run_packed(run, x, weight, bias, y, packed):
    """Run a forward plan, with what ``packed`` keeps of the weight if there is a keeper and the plan packs at all."""
    if packed is None or not hasattr(run, "pack"):
        run(x, weight, bias, y)
    else:
        run.with_packed(x, packed(run.pack_key, run.pack), bias, y)
