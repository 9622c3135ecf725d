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


def _lists(target, source, weight, size, dtype):
    """Where the terms of each of ``size`` targets begin, and their sources and weights."""
    begin = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(target, minlength=size), out=begin[1:])
    return begin, source.astype(np.int32), weight.astype(dtype)


def _direct(spec, isa):
    lists = [_lists(*_terms(spec, axis), spec.out_size[axis], spec.dtype) for axis in range(spec.rank)]
    return _runner(spec, isa, spec.size, spec.out_size, lists)


def _direct_backward(spec, isa):
    lists = []
    for axis in range(spec.rank):
        target, source, weight = _terms(spec, axis)
        order = np.argsort(source, kind="stable")
        lists.append(_lists(source[order], target[order], weight[order], spec.size[axis], spec.dtype))
    return _runner(spec, isa, spec.out_size, spec.size, lists)


def _runner(spec, isa, source, target, lists):
    one = _lists(np.zeros(1, int), np.zeros(1, int), np.ones(1), 1, spec.dtype)
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
