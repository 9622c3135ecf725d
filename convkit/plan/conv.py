"""Ways to compute a convolution and its two gradients, best first.

``plan(spec).run`` takes C-contiguous arrays with a batch axis, in the spec's dtype, and fills the last one:
``run(x, weight, bias, y)`` forward (bias may be None), ``run(dy, weight, dx)`` for the input gradient and
``run(dy, x, dw)`` for the weight gradient. There is at least one image. A forward ``run`` that packs its weight
also has ``pack(weight)``, ``pack_key`` (equal keys mean equal packings) and ``with_packed(x, packed, bias, y)``.
"""

from convkit.plan import depthwise, direct
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import conv as reference


def _candidates(direction, twin_function):
    return (Candidate("depthwise", depthwise.rejects, getattr(depthwise, direction)),
            Candidate("direct", never, getattr(direct, direction)),
            twin(twin_function))


CANDIDATES = {
    "forward": _candidates("Forward", reference.forward),
    "input_gradient": _candidates("InputGradient", reference.input_gradient),
    "weight_gradient": _candidates("WeightGradient", reference.weight_gradient),
}


def plan(spec):
    """The plan for a ConvSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
