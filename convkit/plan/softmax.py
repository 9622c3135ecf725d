"""Ways to compute softmax and log-softmax (``spec.log``), best first.

Arrays are ``(outer, length, inner)``, normalised over the middle axis: ``run(x, y)`` and ``run(dy, y, dx)``.
"""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import softmax as kernels


def _forward(spec, x):
    return (reference.log_softmax if spec.log else reference.softmax)(x, 1)


def _backward(spec, dy, y):
    return (reference.log_softmax_backward if spec.log else reference.softmax_backward)(dy, y, 1)


def _direct(spec, isa):
    kernel = kernels.Softmax("log_softmax" if spec.log else "softmax", isa, spec.dtype.itemsize)
    return lambda x, y: kernel.forward(x, y, settings.get_threads())


def _direct_backward(spec, isa):
    name = "log_softmax_backward" if spec.log else "softmax_backward"
    kernel = kernels.Softmax(name, isa, spec.dtype.itemsize)
    return lambda dy, y, dx: kernel.backward(dy, y, dx, settings.get_threads())


CANDIDATES = (Candidate("direct", never, _direct), twin(_forward))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_backward), twin(_backward))


def plan(spec):
    """The plan for a SoftmaxSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a SoftmaxSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
