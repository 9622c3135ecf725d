"""Ways to deal channels out, best first: ``run(x, y)`` on C-contiguous ``(images, channels, inner)``.

Each channel of the result is one of ``x``: the kernel of resampling, whose rows are the channels here.
"""

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, twin
from convkit.plan.resample import lists_of
from convkit.reference.shape import dealt

if native.available:
    from convkit.kernels import resample as kernels


def _rejects(spec, _isa):
    return "the kernels number places with 32 bits" if max(spec.channels, spec.inner) >= 2**31 else None


def _direct(spec, isa):
    size = (1, spec.channels, spec.inner)
    orders = np.zeros(1, int), dealt(spec.channels, spec.groups), np.arange(spec.inner)
    lists = [lists_of(np.arange(n), order, np.ones(n), n, n, spec.dtype) for n, order in zip(size, orders, strict=True)]
    kernel = kernels.Resample(isa, spec.dtype.itemsize, size, size, lists)
    return lambda x, y: kernel(x, y, settings.get_threads())


CANDIDATES = (
    Candidate("direct", _rejects, _direct),
    twin(lambda spec, x: x[:, dealt(spec.channels, spec.groups)]),
)


def plan(spec):
    """The plan for a ChannelShuffleSpec."""
    return choose(spec, CANDIDATES)
