"""Ways to apply a dropout mask, forward or backward, best first: ``run(x, mask, y)`` on flat arrays."""

from convkit import reference
from convkit.plan.common import choose, twin

CANDIDATES = (twin(lambda spec, x, mask: reference.dropout_backward(x, mask, spec.p)),)


def plan(spec):
    """The plan for a DropoutSpec."""
    return choose(spec, CANDIDATES)
