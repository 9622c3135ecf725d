"""Ways to compute normalisations, best first.

Batch norm: ``run(x, running_mean, running_var, weight, bias, momentum, y, saved)`` updates the running statistics
(or None) in place when training; ``run(dy, x, weight, mean, var, saved, dx, dweight,
dbias)`` takes None for mean and var where the batch's own are to be found. ``x``, ``y``, ``dy`` and ``dx`` are
``(N, channels, inner)``, contiguous like all others; ``weight`` and ``bias`` may be None. There is at least one image.
Where ``run`` has ``fuses_relu`` it takes ``line (channels, 3)``, float64, at the end, and ReLU follows; any gradient
takes that, and clears ``dy``, where it lies, wherever that ReLU gave 0.

Rows (layer, group and instance norm): ``run(x, weight, bias, y, saved)`` and ``run(dy, x, weight, saved, dx)``, which
returns dweight and dbias in float64; ``x``, ``y``, ``dy`` and ``dx`` are ``(rows, length)``.

Local response norm: ``run(x, y)`` and ``run(dy, x, dx)`` on ``(N, channels, inner)``.

``saved (channels or rows, 3)``, float64, takes the mean in two parts and the variance in a forward pass, for the
backward pass, whichever candidate that is; it may be None.
"""

from functools import partial

import numpy as np

from convkit import reference, settings
from convkit.kernels import native
from convkit.plan.common import Candidate, choose, never, twin
from convkit.reference import norm as twins

if native.available:
    from convkit.kernels import norm as kernels


def _forward(spec, x, running_mean, running_var, weight, bias, momentum, y, saved):
    y[...] = reference.batch_norm(x, running_mean, running_var, weight, bias, spec.training, momentum, spec.eps)
    if saved is not None:
        _save(x, saved)


def _backward(spec, dy, x, weight, mean, var, saved, dx, dweight, dbias, line=None):
    if line is not None:
        center, slope, constant = line.T[:, :, None]
        dy[(x - center) * slope + constant <= 0] = 0
    dx[...], dweight[...], dbias[...] = reference.batch_norm_backward(
        dy, x, weight, spec.eps, mean=mean, var=var, training=spec.training)


class _Direct:
    def __init__(self, spec, isa):
        self.kernel = kernels.Norm("train" if spec.training else "eval", isa, spec.dtype.itemsize, spec.eps)
        self.fuses_relu = spec.training

    def __call__(self, x, mean, var, weight, bias, momentum, y, saved, line=None):
        self.kernel.forward(x, mean, var, weight, bias, momentum, y, saved, settings.get_threads(), line)


def _direct_backward(spec, isa):
    name = "train_backward" if spec.training else "eval_backward"
    kernel = kernels.Norm(name, isa, spec.dtype.itemsize, spec.eps)

    def run(dy, x, weight, mean, var, saved, dx, dweight, dbias, line=None):
        kernel.backward(dy, x, weight, mean, var, saved, dx, dweight, dbias, settings.get_threads(), line)

    return run


def _rows(spec, x, weight, bias, y, saved):
    y[...] = twins.normalise_rows(spec, x, weight, bias)
    if saved is not None:
        _save(x[None], saved)


def _save(x, saved):
    saved[:, 0], saved[:, 2], _ = twins.statistics(x)
    saved[:, 1] = 0


@np.errstate(over="ignore")
def _rows_backward(spec, dy, x, weight, saved, dx):
    dx[...], dweight, dbias = twins.rows_backward(spec, dy, x, weight)
    return dweight.reshape(-1), dbias.reshape(-1)


def _direct_rows(spec, isa):
    kernel = kernels.Norm("rows", isa, spec.dtype.itemsize, spec.eps)
    return lambda *arrays: kernel.forward_rows(*arrays, spec.groups, spec.affine, settings.get_threads())


def _direct_rows_backward(spec, isa):
    kernel = kernels.Norm("rows_backward", isa, spec.dtype.itemsize, spec.eps)
    return lambda *arrays: kernel.backward_rows(*arrays, spec.groups, spec.affine, settings.get_threads())


def _direct_response(spec, isa):
    kernel = kernels.Norm("response", isa, spec.dtype.itemsize)
    return lambda x, y: kernel.respond(x, y, spec.size, spec.alpha, spec.beta, spec.k, settings.get_threads())


def _direct_response_backward(spec, isa):
    kernel = kernels.Norm("response_backward", isa, spec.dtype.itemsize)
    return lambda dy, x, dx: kernel.respond(x, dx, spec.size, spec.alpha, spec.beta, spec.k, settings.get_threads(),
                                            dy, np.empty_like(dx))


def _response(spec, x):
    return reference.local_response_norm(x, spec.size, spec.alpha, spec.beta, spec.k)


def _response_backward(spec, dy, x):
    return reference.local_response_norm_backward(dy, x, spec.size, spec.alpha, spec.beta, spec.k)


def _by_twin(compute):
    """The last row of a list: ``compute(spec, *arrays)`` fills in the results."""
    return Candidate("reference", never, lambda spec, _isa: partial(compute, spec), native=False)


CANDIDATES = (Candidate("direct", never, _Direct), _by_twin(_forward))
BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_backward), _by_twin(_backward))
ROW_CANDIDATES = (Candidate("direct", never, _direct_rows), _by_twin(_rows))
ROW_BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_rows_backward), _by_twin(_rows_backward))
RESPONSE_CANDIDATES = (Candidate("direct", never, _direct_response), twin(_response))
RESPONSE_BACKWARD_CANDIDATES = (Candidate("direct", never, _direct_response_backward), twin(_response_backward))


def plan(spec):
    """The plan for a BatchNormSpec."""
    return choose(spec, CANDIDATES)


def backward_plan(spec):
    """The plan for the gradient of a BatchNormSpec."""
    return choose(spec, BACKWARD_CANDIDATES)


def rows_plan(spec):
    """The plan for a RowNormSpec."""
    return choose(spec, ROW_CANDIDATES)


def rows_backward_plan(spec):
    """The plan for the gradient of a RowNormSpec."""
    return choose(spec, ROW_BACKWARD_CANDIDATES)


def response_plan(spec):
    """The plan for a ResponseSpec."""
    return choose(spec, RESPONSE_CANDIDATES)


def response_backward_plan(spec):
    """The plan for the gradient of a ResponseSpec."""
    return choose(spec, RESPONSE_BACKWARD_CANDIDATES)
