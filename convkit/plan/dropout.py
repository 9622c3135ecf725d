"""Ways to apply a dropout mask, forward or backward, best first: ``run(x, mask, y)`` on flat arrays.

Whole channels: the same on ``x (1, channels, inner)`` with a mask of one element for each. What a mask keeps:
``run(key, count, mask)``.
"""

import numpy as np

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference.dropout import kept

if native.available:
    from convkit.kernels import elementwise as kernels
    from convkit.kernels import norm as channel_kernels


def _direct(spec, isa):
    kernel = kernels.Elementwise("dropout", isa, spec.dtype.itemsize, spec.scale)
    return lambda x, mask, y: kernel(x, y, settings.get_threads(), mask=mask)


def _direct_mask(spec, isa):
    return lambda key, count, mask: kernels.keep(isa, key, spec.limit, mask, settings.get_threads())


def _direct_channels(spec, isa):
    kernel = channel_kernels.Norm("scale", isa, spec.dtype.itemsize)
    scale = spec.dtype.type(spec.scale)
    return lambda x, mask, y: kernel.multiply(x, np.multiply(mask, scale), y, settings.get_threads())


CHANNEL_CANDIDATES = (
    Candidate("direct", never, _direct_channels),
    twin(lambda spec, x, mask: reference.dropout1d_backward(x, mask[None], spec.p)),
)
MASK_CANDIDATES = (Candidate("direct", never, _direct_mask), twin(kept))
CANDIDATES = (
    Candidate("direct", never, _direct),
    twin(lambda spec, x, mask: reference.dropout_backward(x, mask, spec.p)),
)


def plan(spec):
    """The plan for a DropoutSpec."""
    return choose(spec, CANDIDATES)


def channel_plan(spec):
    """The plan for a DropoutSpec of whole channels."""
    return choose(spec, CHANNEL_CANDIDATES)


def mask_plan(spec):
    """The plan for the mask of a DropoutSpec."""
    return choose(spec, MASK_CANDIDATES)
