"""Ways to compute batch normalisation, best first.

``run(x, running_mean, running_var, weight, bias, momentum, y)`` updates the running statistics (the user's
own arrays, of any layout, or None) in place when training; ``run(dy, x, weight, mean, var, dx, dweight,
dbias)`` takes None for mean and var where the batch's own are to be found. ``x``, ``y``, ``dy`` and ``dx``
are ``(N, channels, inner)``, contiguous like ``weight`` and ``bias``, which may be None. There is at least
one image.
"""

from functools import partial

from convkit import reference
from convkit.plan.common import Candidate, choose, never, twin


def _forward(spec, x, running_mean, running_var, weight, bias, momentum):
    return reference.batch_norm(x, running_mean, running_var, weight, bias, spec.training, momentum, spec.eps)


def _backward(spec, dy, x, weight, mean, var, dx, dweight, dbias):
    dx[...], dweight[...], dbias[...] = reference.batch_norm_backward(
        dy, x, weight, spec.eps, mean=mean, var=var, training=spec.training)


CANDIDATES = (twin(_forward),)
BACKWARD_CANDIDATES = (
    Candidate("reference", never, lambda spec, _isa: partial(_backward, spec), native=False),
)


def plan(spec):
    """The plan for a BatchNormSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a BatchNormSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
