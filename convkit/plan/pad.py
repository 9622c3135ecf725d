"""Ways to pad, best first: ``plan(spec).run(x, value, y)``, C-contiguous planes of ``size`` and of ``out_size``.

Each element of the result is an element of ``x`` or the constant: the kernel of resampling, with one source for each
target or none.
"""

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, twin
from convkit.reference.pad import padded, places

if native.available:
    from convkit.kernels import resample as kernels


def _no_rows(spec, _isa):
    if len(spec.size) > 3:
        return f"the kernels know 3 axes, and {len(spec.size)} are padded or lie behind one that is"
    if max(spec.out_size, default=0) >= 2**31:
        return "the kernels number places with 32 bits"
    return None if all(spec.size) else "there is nothing to copy"


def _direct(spec, isa):
    more = 3 - len(spec.size)
    size, pairs = (1,) * more + spec.size, ((0, 0),) * more + spec.pairs
    lists = [_list(places(n, *pair, spec.mode), spec.dtype) for n, pair in zip(size, pairs, strict=True)]
    kernel = kernels.Resample(isa, spec.dtype.itemsize, size, (1,) * more + spec.out_size, lists)
    return lambda x, value, y: kernel(x, y, settings.get_threads(), value)


def _list(source, dtype):
    return np.arange(len(source) + 1), source.astype(np.int32), np.ones(len(source), dtype)


CANDIDATES = (
    Candidate("direct", _no_rows, _direct),
    twin(lambda spec, x, value: padded(x, spec.pairs, spec.mode, value)),
)


def plan(spec):
    """The plan for a PadSpec."""
    return choose(spec, CANDIDATES)
