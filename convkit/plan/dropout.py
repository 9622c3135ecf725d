"""Ways to apply a dropout mask, forward or backward, best first: ``run(x, mask, y)`` on flat arrays."""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import elementwise as kernels


def _direct(spec, isa):
    kernel = kernels.Elementwise("dropout", isa, spec.dtype.itemsize, spec.scale)
    return lambda x, mask, y: kernel(x, y, settings.get_threads(), mask=mask)


CANDIDATES = (
    Candidate("direct", never, _direct),
    twin(lambda spec, x, mask: reference.dropout_backward(x, mask, spec.p)),
)


def plan(spec):
    """The plan for a DropoutSpec."""
    return choose(spec, CANDIDATES)
