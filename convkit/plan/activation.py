"""Ways to compute elementwise activations, best first: flat arrays, ``run(x, y)``, ``run(dy, y, dx)``."""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import elementwise as kernels


def _direct_relu(spec, isa):
    kernel = kernels.Elementwise("relu", isa, spec.dtype.itemsize)
    return lambda x, y: kernel(x, y, settings.get_threads())


def _direct_relu_backward(spec, isa):
    kernel = kernels.Elementwise("relu_backward", isa, spec.dtype.itemsize)
    return lambda dy, y, dx: kernel(dy, dx, settings.get_threads(), other=y)


RELU_CANDIDATES = (
    Candidate("direct", never, _direct_relu),
    twin(lambda _spec, x: reference.relu(x)),
)
RELU_BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct_relu_backward),
    twin(lambda _spec, dy, y: reference.relu_backward(dy, y)),
)


def relu_plan(spec):
    """The plan for a ReluSpec."""
    return choose(spec, RELU_CANDIDATES)


def relu_backward_plan(spec):
    """The plan for the gradient of a ReluSpec."""
    return choose(spec, RELU_BACKWARD_CANDIDATES)
