"""Ways to compute a convolution and its two gradients, best first.

``plan(spec).run`` takes C-contiguous arrays with a batch axis, in the spec's dtype, and fills the last one:
``run(x, weight, bias, y)`` forward, ``run(dy, weight, bias, dx)`` for the input gradient, ``run(dy, x, dw)`` for the
weight gradient, and ``run(dy, db)`` with dy as ``(N, channels, inner)`` for the bias gradient. The bias may be None;
with an input gradient it makes a transposed convolution. There is at least one image. A ``run`` that packs its weight
also has ``pack(weight)``, ``pack_key`` (equal keys mean equal packings) and ``with_packed(x, packed, bias, y)``.
"""

from convkit import settings
from convkit.plan import depthwise, direct, gemm, weight_gradient, winograd
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import conv as reference


def _candidates(by_pixel, by_channel, twin_function, *special):
    return (Candidate("depthwise", depthwise.rejects, by_pixel),
            *special,
            Candidate("direct", never, by_channel),
            twin(twin_function))


def _channel_sums(spec, isa):
    from convkit.kernels.norm import Norm

    kernel = Norm("channel_sum", isa, spec.dtype.itemsize)
    return lambda dy, db: kernel.sums(dy, db, settings.get_threads())


_special = (Candidate("winograd", winograd.rejects, winograd.Sums, loses=winograd.loses),
            Candidate("gemm", gemm.rejects, gemm.Sums, loses=gemm.loses))

CANDIDATES = {
    "forward": _candidates(depthwise.sums, direct.Sums, reference.forward, *_special),
    "input_gradient": _candidates(depthwise.sums, direct.input_gradient, reference.input_gradient, *_special),
    "weight_gradient": _candidates(depthwise.WeightGradient, direct.WeightGradient, reference.weight_gradient,
                                   Candidate("winograd", weight_gradient.rejects, weight_gradient.Winograd,
                                             loses=weight_gradient.loses)),
    "bias_gradient": (Candidate("direct", never, _channel_sums), twin(reference.bias_gradient)),
}


def plan(spec):
    """The plan for a ConvSpec, in the spec's direction."""
    return choose(spec, CANDIDATES[spec.direction])
