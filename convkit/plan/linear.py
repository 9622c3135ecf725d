"""Ways to compute a linear map and its two gradients, best first.

``plan(spec).run`` takes C-contiguous matrices and fills the last one: ``run(x, weight, bias, y)`` forward
(bias may be None), ``run(dy, weight, dx)`` for the input gradient and ``run(dy, x, dw)`` for the weight
gradient.
"""

from convkit.plan.common import choose, twin
from convkit.reference.linear import forward, input_gradient, weight_gradient

CANDIDATES = {
    "forward": (twin(forward),),
    "input_gradient": (twin(input_gradient),),
    "weight_gradient": (twin(weight_gradient),),
}


def plan(spec):
    """The plan for a LinearSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
