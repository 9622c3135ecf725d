"""Ways to compute elementwise activations, best first: flat arrays, ``run(x, y)``, ``run(dy, other, dx)``."""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import elementwise as kernels


def _kernel(spec, isa, suffix):
    """The kernel of a spec, whose numeric arguments are the kernel's parameters."""
    name = "gelu_tanh" if spec.arguments == ("tanh",) else spec.name
    numbers = [value for value in spec.arguments if isinstance(value, float)]
    return kernels.Elementwise(name + suffix, isa, spec.dtype.itemsize, *numbers)


def _direct(spec, isa):
    kernel = _kernel(spec, isa, "")
    return lambda x, y: kernel(x, y, settings.get_threads())


def _direct_backward(spec, isa):
    kernel = _kernel(spec, isa, "_backward")
    return lambda dy, other, dx: kernel(dy, dx, settings.get_threads(), other=other)


def _forward(spec, x):
    return getattr(reference, spec.name)(x, *spec.arguments)


def _backward(spec, dy, other):
    return getattr(reference, f"{spec.name}_backward")(dy, other, *spec.arguments)


CANDIDATES = (Candidate("direct", never, _direct), twin(_forward))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_backward), twin(_backward))


def plan(spec):
    """The plan for an ActivationSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of an ActivationSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
