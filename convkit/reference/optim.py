"""Steps of optimisers, in float64 inside. ``rule`` is a ``spec.optim.Rule``; arrays are changed in place."""

import numpy as np


@np.errstate(all="ignore")
def sgd(data, grad, first, _second, _third, keep, take, rule):
    """``b = keep * b + take * g``, then ``p -= lr * b``; ``first`` is b, or None for ``b = g``."""
    g = _decayed(data, grad, rule)
    b = g
    if first is not None:
        b = keep * first.astype(np.float64) + take * g
        first[...] = b
    data[...] = data - rule.lr * (g + rule.beta1 * b if rule.nesterov else b)


@np.errstate(all="ignore")
def adam(data, grad, first, second, _third, rate, root, rule):
    """``p -= rate * mean / (sqrt(square) / root + eps)``, the means (``first``) of the gradient and (``second``) of its
    square moved on before."""
    g = _decayed(data, grad, rule)
    mean, square = first.astype(np.float64), second.astype(np.float64)
    mean += (1 - rule.beta1) * (g - mean)
    square = rule.beta2 * square + (1 - rule.beta2) * g * g
    first[...], second[...] = mean, square
    data[...] = rule.shrink * data.astype(np.float64) - rate * mean / (np.sqrt(square) / root + rule.eps)


@np.errstate(all="ignore")
def rmsprop(data, grad, first, second, third, _keep, _take, rule):
    """``s = g / (sqrt(square) + eps)`` with the mean square of gradients (``second``) moved on before, less the square
    of their mean (``third``, or None); ``p -= lr * b`` with ``b = momentum * b + s`` (``first``), or with ``s`` if that
    is None.
    """
    g = _decayed(data, grad, rule)
    square = rule.beta2 * second.astype(np.float64) + (1 - rule.beta2) * g * g
    second[...] = square
    if third is not None:
        mean = third.astype(np.float64)
        mean += (1 - rule.beta2) * (g - mean)
        third[...] = mean
        square = np.maximum(square - mean * mean, 0)
    step = g / (np.sqrt(square) + rule.eps)
    if first is not None:
        step += rule.beta1 * first.astype(np.float64)
        first[...] = step
    data[...] = data - rule.lr * step


def _decayed(data, grad, rule):
    g = grad.astype(np.float64)
    return g + rule.decay * data if rule.decay else g
