"""Ways to compute losses, best first.

Cross-entropy (ClassSpec): ``run(logits, target, hit, every, soft, losses)`` fills one loss for each target, the sum
over classes of ``(hit [c == target] + every soft_c) -log softmax(logits)_c``, and leaves their reduction to the caller;
``run(logits, target, hit, every, soft, dlogits)`` is the gradient of the sum of these. ``logits`` is ``(N, classes,
inner)``; ``target`` (int64, or None), ``hit``, ``every`` (None for ones) and ``losses`` are ``(N, inner)``; ``soft`` is
None, ``(classes,)``, or like logits.

Losses between two arrays (PairSpec), all flat: ``run(x, target, weight, pos_weight, losses)`` fills ``losses``, unless
that is None, and returns their sum; ``run(x, target, weight, pos_weight, scale, dx)`` takes a number or an array for
scale.
"""

from functools import partial

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import loss as reference

if native.available:
    from convkit.kernels import loss as pairs
    from convkit.kernels import softmax as kernels


def _direct(name):
    def build(spec, isa):
        kernel = kernels.Softmax(name, isa, spec.dtype.itemsize)
        return lambda *arrays: kernel.entropy(*arrays, settings.get_threads())
    return build


CANDIDATES = (
    Candidate("direct", never, _direct("cross_entropy")),
    twin(lambda _spec, *arrays: reference.fused_losses(*arrays)),
)
BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct("cross_entropy_backward")),
    twin(lambda _spec, *arrays: reference.fused_gradient(*arrays)),
)


def plan(spec):
    """The plan for a cross-entropy."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a cross-entropy."""
    return choose(spec, BACKWARD_CANDIDATES)


def _direct_pair(spec, isa):
    kernel = pairs.PairLoss(spec.kind, isa, spec.dtype.itemsize, spec.beta)
    return lambda *arrays: kernel.forward(*arrays, settings.get_threads())


def _direct_pair_backward(spec, isa):
    kernel = pairs.PairLoss(f"{spec.kind}_backward", isa, spec.dtype.itemsize, spec.beta)
    return lambda *arrays: kernel.backward(*arrays, settings.get_threads())


@np.errstate(all="ignore")
def _pair(spec, x, target, weight, pos_weight, losses):
    each = reference.pair_losses(spec, x, target, weight, pos_weight)
    if losses is not None:
        losses[...] = each
    return each.sum()


def _pair_backward(spec, x, target, weight, pos_weight, scale):
    return reference.pair_gradient(spec, x, target, scale, weight, pos_weight)


PAIR_CANDIDATES = (
    Candidate("direct", never, _direct_pair),
    Candidate("reference", never, lambda spec, _isa: partial(_pair, spec), native=False),
)
PAIR_BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_pair_backward), twin(_pair_backward))


def pair_plan(spec):
    """The plan for a PairSpec."""
    return choose(spec, PAIR_CANDIDATES)


def pair_backward_plan(spec):
    """The plan for the gradient of a PairSpec."""
    return choose(spec, PAIR_BACKWARD_CANDIDATES)
