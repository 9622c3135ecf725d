"""Ways to compute elementwise activations, best first: flat arrays, ``run(x, y)``, ``run(dy, y, dx)``."""

from convkit import reference
from convkit.plan.common import choose, twin

RELU_CANDIDATES = (twin(lambda _spec, x: reference.relu(x)),)
RELU_BACKWARD_CANDIDATES = (twin(lambda _spec, dy, y: reference.relu_backward(dy, y)),)


def relu_plan(spec):
    """The plan for a ReluSpec."""
    return choose(spec, RELU_CANDIDATES)


def relu_backward_plan(spec):
    """The plan for the gradient of a ReluSpec."""
    return choose(spec, RELU_BACKWARD_CANDIDATES)
