"""Ways to pad, best first: ``plan(spec).run(x, value, y)``, C-contiguous planes of ``size`` and of ``out_size``, and
``backward_plan(spec).run(dy, dx)``.

Each element of the result is an element of ``x`` or the constant: the kernel of resampling, with one source for each
target or none. For the gradient its lists are turned round, as those of a resampling are.
"""

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, twin
from convkit.plan.resample import lists_of, turned
from convkit.reference.pad import padded, places, unpadded

if native.available:
    from convkit.kernels import resample as kernels


def _no_rows(spec, _isa):
    if len(spec.size) > 3:
        return f"the kernels know 3 axes, and {len(spec.size)} are padded or lie behind one that is"
    if max(spec.out_size, default=0) >= 2**31:
        return "the kernels number places with 32 bits"
    return None if all(spec.size) else "there is nothing to copy"


def _direct(spec, isa):
    size, out_size, terms = _axes(spec)
    lists = [lists_of(*each, n, m, spec.dtype) for each, n, m in zip(terms, size, out_size, strict=True)]
    kernel = kernels.Resample(isa, spec.dtype.itemsize, size, out_size, lists)
    return lambda x, value, y: kernel(x, y, settings.get_threads(), value)


def _direct_backward(spec, isa):
    size, out_size, terms = _axes(spec)
    lists = [turned(*each, m, n, spec.dtype) for each, n, m in zip(terms, size, out_size, strict=True)]
    kernel = kernels.Resample(isa, spec.dtype.itemsize, out_size, size, lists)
    return lambda dy, dx: kernel(dy, dx, settings.get_threads())


def _axes(spec):
    """Both sizes along three axes, and (target, source, weight) of every element that is one of ``x`` or none."""
    more = 3 - len(spec.size)
    size, out_size, pairs = (1,) * more + spec.size, (1,) * more + spec.out_size, ((0, 0),) * more + spec.pairs
    terms = [(np.arange(m), places(n, *pair, spec.mode), np.ones(m))
             for n, m, pair in zip(size, out_size, pairs, strict=True)]
    return size, out_size, terms


CANDIDATES = (
    Candidate("direct", _no_rows, _direct),
    twin(lambda spec, x, value: padded(x, spec.pairs, spec.mode, value)),
)
BACKWARD_CANDIDATES = (
    Candidate("direct", _no_rows, _direct_backward),
    twin(lambda spec, dy: unpadded(dy, spec.pairs, spec.mode)),
)


def plan(spec):
    """The plan for a PadSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a PadSpec that does not pad with a constant."""
    return choose(spec, BACKWARD_CANDIDATES)
