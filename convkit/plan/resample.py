"""Ways to resample, best first: ``plan(spec).run(x, y)`` and ``backward_plan(spec).run(dy, dx)``.

Arrays are C-contiguous ``(planes, *size)`` and ``(planes, *out_size)``. Along each axis an element of the result is a
sum over a few elements of the source; the kernel gets these as lists, forward and backward alike.
"""

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import resample as reference

if native.available:
    from convkit.kernels import resample as kernels


def _three(axes, one):
    return [one] * (3 - len(axes)) + list(axes)


def _terms(spec, axis):
    """(target, source, weight) of every term of the forward sums along one axis, in the order of the targets.

    A place with one neighbour is two halves of it where others have two, so that every sum has as many terms.
    """
    lower, upper, t = reference.neighbours(spec, axis)
    target = np.arange(len(lower))
    if not t.any():
        return target, lower, np.ones(len(t))
    t, upper = np.where(t == 0, 0.5, t), np.where(t == 0, lower, upper)
    return np.repeat(target, 2), np.stack([lower, upper], 1).ravel(), np.stack([1 - t, t], 1).ravel()


def turned(target, source, weight, target_size, size, dtype):
    """The lists of the gradient: where each of ``size`` sources has a part, in the order of the targets."""
    order = np.argsort(source, kind="stable")
    return lists_of(source[order], target[order], weight[order], target_size, size, dtype)


def lists_of(target, source, weight, size, target_size, dtype):
    """What the kernel takes for an axis: where the terms of each target begin, their sources and weights, and whether
    they are something simpler (``csrc/resample/resample.h``). A source is one of ``size``, or -1, none.
    """
    begin = np.zeros(target_size + 1, np.int64)
    lengths = np.bincount(target, minlength=target_size)
    np.cumsum(lengths, out=begin[1:])
    terms, ones = int(lengths[0]) if lengths.min() == lengths.max() else 0, bool((weight == 1).all())
    copies, times = terms == 1 and ones, target_size // size
    repeats = times if copies and np.array_equal(source, np.repeat(np.arange(size), times)) else 0
    pairs = terms == 2 and ones and size == 2 * target_size and np.array_equal(source, np.arange(size))
    run = _longest_run(begin, lengths, source, weight)
    return begin, source.astype(np.int32), weight.astype(dtype), terms, copies, run, repeats, pairs


def _longest_run(begin, lengths, source, weight):
    """Where copies of neighbours of the source stand side by side the longest: from, to."""
    first = np.minimum(begin[:-1], len(source) - 1)  # the last targets may have no terms
    copied = np.where((lengths == 1) & (weight[first] == 1), source[first], -1)
    ends = np.concatenate([[0], np.flatnonzero((copied[:-1] < 0) | (np.diff(copied) != 1)) + 1, [len(copied)]])
    longest = np.diff(ends).argmax()
    run = int(ends[longest]), int(ends[longest + 1])
    return run if copied[run[0]] >= 0 else (0, 0)


def _direct(spec, isa):
    lists = [lists_of(*_terms(spec, axis), spec.size[axis], spec.out_size[axis], spec.dtype)
             for axis in range(spec.rank)]
    return _runner(spec, isa, spec.size, spec.out_size, lists)


def _direct_backward(spec, isa):
    lists = []
    for axis in range(spec.rank):
        lists.append(turned(*_terms(spec, axis), spec.out_size[axis], spec.size[axis], spec.dtype))
    return _runner(spec, isa, spec.out_size, spec.size, lists)


def _runner(spec, isa, source, target, lists):
    one = lists_of(np.zeros(1, int), np.zeros(1, int), np.ones(1), 1, 1, spec.dtype)
    kernel = kernels.Resample(isa, spec.dtype.itemsize, _three(source, 1), _three(target, 1), _three(lists, one))

    def run(x, y):
        kernel(x, y, settings.get_threads())

    run.workspace_bytes = kernel.workspace_bytes
    return run


CANDIDATES = (Candidate("direct", never, _direct), twin(reference.resampled))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_backward), twin(reference.gradient))


def plan(spec):
    """The plan for a ResampleSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a ResampleSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
