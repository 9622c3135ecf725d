"""Ways to compute a pooling and its gradient, best first.

``run`` takes C-contiguous arrays ``(planes, *size)`` in the spec's dtype and fills the last ones:
``plan(spec).run(x, y, indices)`` for maximum and minimum (int64 indices, or None where they are not wanted),
``plan(spec).run(x, y)`` for averages, and for the gradients ``scatter_plan(spec).run(dy, indices, dx)`` and
``average_gradient_plan(spec).run(dy, dx)``. There is at least one plane.
"""

from functools import partial

from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import pool as reference


def _extreme(spec, x, y, indices):
    y[...], where = reference.extreme(spec, x)
    if indices is not None:
        indices[...] = where


_EXTREME = (Candidate("reference", never, lambda spec, _isa: partial(_extreme, spec), native=False),)

CANDIDATES = {
    "max": _EXTREME,
    "min": _EXTREME,
    "avg": (twin(reference.average),),
}
SCATTER_CANDIDATES = (twin(reference.scatter),)
AVERAGE_GRADIENT_CANDIDATES = (twin(reference.average_gradient),)


def plan(spec):
    """The plan for the forward pass of a PoolSpec."""
    return choose(spec, CANDIDATES[spec.kind])


def scatter_plan(spec):
    """The plan for the gradient of a maximum or minimum (ScatterSpec)."""
    return choose(spec, SCATTER_CANDIDATES)


def average_gradient_plan(spec):
    """The plan for the gradient of an average (PoolSpec)."""
    return choose(spec, AVERAGE_GRADIENT_CANDIDATES)
