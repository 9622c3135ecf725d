"""Ways to compute a convolution and its two gradients.

``plan(spec).run`` takes C-contiguous arrays with a batch axis, in the spec's dtype, and fills the last one:
``run(x, weight, bias, y)`` forward, ``run(dy, weight, bias, dx)`` for the input gradient, ``run(dy, x, dw)`` for the
weight gradient, and ``run(dy, db)`` with dy as ``(N, channels, inner)`` for the bias gradient. The bias may be None;
with an input gradient it makes a transposed convolution. There is at least one image. A ``run`` that packs its weight
also has ``pack(weight)``, ``pack_key`` (equal keys mean equal packings) and ``with_packed(x, packed, bias, y)``;
one that ``finishes`` takes a ``Finish`` after those, as does a ``run`` that packs nothing.
"""

from functools import partial

from convkit import settings
from convkit.plan import cost, depthwise, direct, gemm, weight_gradient, winograd
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import conv as reference


def _sums(by_channel, twin_function):
    """The two directions that are sums over taps; of what can compute them the plan takes what is predicted fastest."""
    ways = (("depthwise", depthwise.rejects, depthwise.sums, depthwise.loses),
            ("winograd", winograd.rejects, winograd.Sums, winograd.loses),
            ("gemm", gemm.rejects, gemm.sums, gemm.loses),
            ("direct", never, by_channel, never))
    return (*(Candidate(name, rejects, build, loses=loses, predict=partial(cost.microseconds, name))
              for name, rejects, build, loses in ways), twin(twin_function))


def _channel_sums(spec, isa):
    from convkit.kernels.norm import Norm

    kernel = Norm("channel_sum", isa, spec.dtype.itemsize)
    return lambda dy, db: kernel.sums(dy, db, settings.get_threads())


CANDIDATES = {
    "forward": _sums(direct.Sums, reference.forward),
    "input_gradient": _sums(direct.input_gradient, reference.input_gradient),
    "weight_gradient": (Candidate("winograd", weight_gradient.rejects, weight_gradient.Winograd,
                                  loses=weight_gradient.loses),
                        Candidate("depthwise", depthwise.rejects, depthwise.WeightGradient, loses=cost.dots_lose),
                        Candidate("direct", never, direct.WeightGradient),
                        twin(reference.weight_gradient)),
    "bias_gradient": (Candidate("direct", never, _channel_sums), twin(reference.bias_gradient)),
}


def plan(spec):
    """The plan for a ConvSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
