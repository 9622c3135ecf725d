"""Ways to compute a step of an optimiser, best first.

``run(parameters, rule)`` changes arrays in place; a parameter is ``(data, grad, first, second, third,
keep, take)``, C-contiguous arrays of the spec's dtype and two numbers, as ``reference.optim`` takes them.
"""

from functools import partial

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never
from convkit.reference import optim as reference

if native.available:
    from convkit.kernels import optim as kernels


def _direct(spec, isa):
    kernel = kernels.Step(spec.kind, isa, spec.dtype.itemsize)
    return lambda parameters, rule: kernel(parameters, rule, settings.get_threads())


def _each(step, parameters, rule):
    for parameter in parameters:
        step(*parameter, rule)


CANDIDATES = (
    Candidate("direct", never, _direct),
    Candidate("reference", never, lambda spec, _isa: partial(_each, getattr(reference, spec.kind)), native=False),
)


def plan(spec):
    """The plan for an OptimSpec."""
    return choose(spec, CANDIDATES)
