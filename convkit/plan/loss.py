"""Ways to compute the cross-entropy, best first.

``run(logits, target, losses)`` fills one loss for each target and leaves their reduction to the caller;
``run(logits, target, scale, dlogits)`` multiplies each target's gradient by its ``scale``. ``logits`` is
``(N, classes, inner)``, ``target`` (int64), ``losses`` and ``scale`` are ``(N, inner)``.
"""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import softmax as kernels


def _direct(spec, isa):
    kernel = kernels.Softmax("cross_entropy", isa, spec.dtype.itemsize)
    return lambda logits, target, losses: kernel.losses(logits, target, losses, settings.get_threads())


def _direct_backward(spec, isa):
    kernel = kernels.Softmax("cross_entropy_backward", isa, spec.dtype.itemsize)
    return lambda z, target, scale, dz: kernel.gradient(z, target, scale, dz, settings.get_threads())


CANDIDATES = (
    Candidate("direct", never, _direct),
    twin(lambda _spec, logits, target: reference.cross_entropy(logits, target, "none")),
)
BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct_backward),
    twin(lambda _spec, z, target, scale: reference.cross_entropy_backward(z, target, "none", scale)),
)


def plan(spec):
    """The plan for a CrossEntropySpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a CrossEntropySpec."""
    return choose(spec, BACKWARD_CANDIDATES)
