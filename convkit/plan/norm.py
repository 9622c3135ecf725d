"""Ways to compute batch normalisation, best first.

``run(x, running_mean, running_var, weight, bias, momentum, y)`` updates the running statistics (the user's
own arrays, of any layout, or None) in place when training; ``run(dy, x, weight, mean, var, dx, dweight,
dbias)`` takes None for mean and var where the batch's own are to be found. ``x``, ``y``, ``dy`` and ``dx``
are ``(N, channels, inner)``, contiguous like ``weight`` and ``bias``, which may be None. There is at least
one image.
"""

from functools import partial

import numpy as np

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin

if native.available:
    from convkit.kernels import norm as kernels


def _forward(spec, x, running_mean, running_var, weight, bias, momentum):
    return reference.batch_norm(x, running_mean, running_var, weight, bias, spec.training, momentum, spec.eps)


def _backward(spec, dy, x, weight, mean, var, dx, dweight, dbias):
    dx[...], dweight[...], dbias[...] = reference.batch_norm_backward(
        dy, x, weight, spec.eps, mean=mean, var=var, training=spec.training)


def _direct(spec, isa):
    kernel = kernels.Norm("train" if spec.training else "eval", isa, spec.dtype.itemsize, spec.eps)

    def run(x, running_mean, running_var, weight, bias, momentum, y):
        mean, var = (_plain(a, spec.dtype) for a in (running_mean, running_var))
        kernel.forward(x, mean, var, weight, bias, momentum, y, settings.get_threads())
        if spec.training:
            for own, used in ((running_mean, mean), (running_var, var)):
                if used is not own:
                    own[...] = used

    return run


def _plain(a, dtype):
    """The user's array itself where a kernel can work on it, else a copy."""
    return None if a is None else np.require(a, dtype, ("C_CONTIGUOUS", "ALIGNED"))


def _direct_backward(spec, isa):
    name = "train_backward" if spec.training else "eval_backward"
    kernel = kernels.Norm(name, isa, spec.dtype.itemsize, spec.eps)
    return lambda *arrays: kernel.backward(*arrays, settings.get_threads())


CANDIDATES = (Candidate("direct", never, _direct), twin(_forward))
BACKWARD_CANDIDATES = (
    Candidate("direct", never, _direct_backward),
    Candidate("reference", never, lambda spec, _isa: partial(_backward, spec), native=False),
)


def plan(spec):
    """The plan for a BatchNormSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a BatchNormSpec."""
    return choose(spec, BACKWARD_CANDIDATES)
