"""Ways to compute losses, best first.

Cross-entropy (ClassSpec): ``run(logits, target, hit, every, soft, losses)`` fills one loss for each target, the sum
over classes of ``(hit [c == target] + every soft_c) -log softmax(logits)_c``, and leaves their reduction to the caller;
``run(logits, target, hit, every, soft, dlogits)`` is the gradient of the sum of these. ``logits`` is ``(N, classes,
inner)``; ``target`` (int64, or None), ``hit``, ``every`` (None for ones) and ``losses`` are ``(N, inner)``; ``soft`` is
None, ``(classes,)``, or like logits.

NLL (ClassSpec): ``run(x, target, weight, ignored, losses)`` fills the losses, unless that is None, and returns their
sum and that of the weights of the targets; ``run(target, weight, ignored, share, dx)`` puts into ``dx``, zeros, the
gradient of the sum of ``share`` times the losses. Every target is a class or ``ignored``: ``count_targets`` says so.

Dice (PairSpec): ``run(x, target)`` returns the sums of ``x target`` and of ``x + target`` of each row, ``(rows, 2)`` in
float64; ``run(target, a, b, dx)`` fills ``dx`` with ``a - b target``, a and b one for each row.

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
    from convkit.kernels.loss import count_targets
    from convkit.kernels.norm import Norm
else:
    def count_targets(target, classes, ignored):
        used = target[target != ignored]
        return -1 if used.size and not 0 <= used.min() <= used.max() < classes else used.size


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


def _picked(spec):
    return pairs.Picked(spec.dtype.itemsize, spec.outer, spec.classes, spec.inner)


def _direct_nll(spec, _isa):
    picked = _picked(spec)
    return lambda *arrays: picked.losses(*arrays, settings.get_threads())


def _direct_nll_backward(spec, _isa):
    picked = _picked(spec)
    return lambda *arrays: picked.backward(*arrays, settings.get_threads())


@np.errstate(all="ignore")
def _nll(_spec, x, target, weight, ignored, losses):
    each, weights = reference.picked_losses(x, target, weight, ignored)
    if losses is not None:
        losses[...] = each
    return each.sum(), weights.sum()


def _nll_backward(spec, target, weight, ignored, share):
    return reference.picked_gradient((spec.outer, spec.classes, spec.inner), target, weight, ignored, share)


NLL_CANDIDATES = (
    Candidate("direct", never, _direct_nll),
    Candidate("reference", never, lambda spec, _isa: partial(_nll, spec), native=False),
)
NLL_BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_nll_backward), twin(_nll_backward))


def nll_plan(spec):
    """The plan for an NLL (ClassSpec)."""
    return choose(spec, NLL_CANDIDATES)


def nll_backward_plan(spec):
    """The plan for the gradient of an NLL."""
    return choose(spec, NLL_BACKWARD_CANDIDATES)


def _direct_dice(spec, isa):
    kernel = pairs.PairLoss("dice", isa, spec.dtype.itemsize)
    return lambda x, target: kernel.overlap(x, target, settings.get_threads())


def _direct_dice_backward(spec, isa):
    """A batch norm of one image, whose channels are the rows and have mean 0 and variance 1."""
    kernel = Norm("eval", isa, spec.dtype.itemsize, 0.0)

    def run(target, a, b, dx):
        kernel.forward(target[None], np.zeros_like(a), np.ones_like(a), -b, a, 0.0, dx[None], None,
                       settings.get_threads())

    return run


@np.errstate(all="ignore")
def _dice(x, target):
    x, target = x.astype(np.float64), target.astype(np.float64)
    return np.stack([(x * target).sum(1), (x + target).sum(1)], 1)


DICE_CANDIDATES = (
    Candidate("direct", never, _direct_dice),
    Candidate("reference", never, lambda _spec, _isa: _dice, native=False),
)
DICE_BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct_dice_backward),
    twin(lambda _spec, target, a, b: a[:, None] - b[:, None] * target),
)


def dice_plan(spec):
    """The plan for the sums of a Dice loss (PairSpec)."""
    return choose(spec, DICE_CANDIDATES)


def dice_backward_plan(spec):
    """The plan for the gradient of a Dice loss."""
    return choose(spec, DICE_BACKWARD_CANDIDATES)
