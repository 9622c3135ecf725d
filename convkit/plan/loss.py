"""Ways to compute the cross-entropy, best first.

``run(logits, target, losses)`` fills one loss for each target and leaves their reduction to the caller;
``run(logits, target, scale, dlogits)`` multiplies each target's gradient by its ``scale``. ``logits`` is
``(N, classes, inner)``, ``target`` (int64), ``losses`` and ``scale`` are ``(N, inner)``.
"""

from convkit import reference
from convkit.plan.common import choose, twin

CANDIDATES = (twin(lambda _spec, logits, target: reference.cross_entropy(logits, target, "none")),)
BACKWARD_CANDIDATES = (
    twin(lambda _spec, z, target, scale: reference.cross_entropy_backward(z, target, "none", scale)),
)


def plan(spec):
    """The plan for a CrossEntropySpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a CrossEntropySpec."""
    return choose(spec, BACKWARD_CANDIDATES)
