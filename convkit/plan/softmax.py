"""Ways to compute softmax and log-softmax (``spec.log``), best first.

Arrays are ``(outer, length, inner)``, normalised over the middle axis: ``run(x, y)`` and ``run(dy, y, dx)``.
"""

from convkit import reference
from convkit.plan.common import choose, twin


def _forward(spec, x):
    return (reference.log_softmax if spec.log else reference.softmax)(x, 1)


def _backward(spec, dy, y):
    return (reference.log_softmax_backward if spec.log else reference.softmax_backward)(dy, y, 1)


CANDIDATES = (twin(_forward),)
BACKWARD_CANDIDATES = (twin(_backward),)


def plan(spec):
    """The plan for a SoftmaxSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a SoftmaxSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
