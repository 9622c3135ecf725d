"""Ways to compute activations, best first: arrays of one shape, ``run(x, y)``, ``run(dy, other, dx)``.

PReLU: ``run(x, weight, y)`` and ``run(dy, x, weight, dx, dweight)`` on ``(N, channels, inner)``, one weight for each
channel.
"""

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import elementwise as kernels
    from convkit.kernels import norm as channel_kernels


def _kernel(spec, isa, suffix):
    """The kernel of a spec, whose numeric arguments are the kernel's parameters."""
    name = "gelu_tanh" if spec.arguments == ("tanh",) else spec.name
    numbers = [value for value in spec.arguments if isinstance(value, float)]
    return kernels.Elementwise(name + suffix, isa, spec.dtype.itemsize, *numbers)


def finishing(acts, past):
    """``f(past)``: what a convolution's tasks do to what they have just written: add ``past``, None or an array of its
    shape and like this one, then an activation's kernel or None."""
    if past is None:
        finish = kernels.Finish(acts)
        return lambda _: finish
    adds = kernels.Elementwise("add", settings.choice()[0], past.itemsize)
    return lambda past: kernels.Finish(acts, adds, past)


class _Direct:
    """Runs ``(x, y)``; ``kernel`` is what computes it on a part of an array."""

    def __init__(self, spec, isa):
        self.kernel = _kernel(spec, isa, "")

    def __call__(self, x, y):
        self.kernel(x, y, settings.get_threads())


def _direct_backward(spec, isa):
    kernel = _kernel(spec, isa, "_backward")
    return lambda dy, other, dx: kernel(dy, dx, settings.get_threads(), other=other)


def _forward(spec, x):
    return getattr(reference, spec.name)(x, *spec.arguments)


def _backward(spec, dy, other):
    return getattr(reference, f"{spec.name}_backward")(dy, other, *spec.arguments)


def _direct_prelu(spec, isa):
    kernel = channel_kernels.Norm("prelu", isa, spec.dtype.itemsize)
    return lambda x, weight, y: kernel.multiply(x, weight, y, settings.get_threads())


def _direct_prelu_backward(spec, isa):
    kernel = channel_kernels.Norm("prelu_backward", isa, spec.dtype.itemsize)
    return lambda dy, x, weight, dx, dweight: kernel.multiply(x, weight, dx, settings.get_threads(), dy, dweight)


def _prelu_backward(dy, x, weight, dx, dweight):
    dx[...], dweight[...] = reference.prelu_backward(dy, x, weight)


PRELU_CANDIDATES = (
    Candidate("direct", never, _direct_prelu),
    twin(lambda _spec, x, weight: reference.prelu(x, weight)),
)
PRELU_BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct_prelu_backward),
    Candidate("reference", never, lambda _spec, _isa: _prelu_backward, native=False),
)
CANDIDATES = (Candidate("direct", never, _Direct), twin(_forward))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_backward), twin(_backward))


def plan(spec):
    """The plan for an ActivationSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of an ActivationSpec."""
    return choose(spec, BACKWARD_CANDIDATES)


def prelu_plan(spec):
    """The plan for a PreluSpec."""
    return choose(spec, PRELU_CANDIDATES)


def prelu_backward_plan(spec):
    """The plan for the gradient of a PreluSpec."""
    return choose(spec, PRELU_BACKWARD_CANDIDATES)
