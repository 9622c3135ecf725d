"""Convolution and pooling once more, as plain loops in float64 that share no code with the library.

Slow and obvious: one output position, one tap, one group at a time. Any rank; ``pads`` is one ``(lo, hi)``
per axis.
"""

from itertools import product
from math import ceil, floor, isnan

import numpy as np


def out_size(size, kernel, stride, pads, dilation, ceil_mode=False):
    """Number of windows per axis; with ``ceil_mode``, of those that start in the input or the padding before
    it.
    """
    sizes = []
    for n, k, s, (lo, hi), d in zip(size, kernel, stride, pads, dilation, strict=True):
        steps = (n + lo + hi - (d * (k - 1) + 1)) / s
        count = (ceil(steps) if ceil_mode else floor(steps)) + 1
        while ceil_mode and (count - 1) * s - lo >= n:
            count -= 1
        sizes.append(count)
    return tuple(sizes)


def window(p, size, kernel, stride, pads, dilation):
    """Taps of the window at ``p`` that lie in the input, in row-major order: pairs (tap, position in the
    input).
    """
    for k in product(*map(range, kernel)):
        q = tuple(
            i * s - lo + j * d for i, s, (lo, _), j, d in zip(p, stride, pads, k, dilation, strict=True)
        )
        if all(0 <= a < n for a, n in zip(q, size, strict=True)):
            yield k, q


def conv_terms(size, w_shape, stride, pads, dilation, groups):
    """The products of a convolution by output position, tap and group: (output channels, input channels, p, tap, q)."""
    c_out, per_group, *kernel = w_shape
    filters = c_out // groups
    for p in product(*map(range, out_size(size, kernel, stride, pads, dilation))):
        for k, q in window(p, size, kernel, stride, pads, dilation):
            for g in range(groups):
                yield slice(g * filters, (g + 1) * filters), slice(g * per_group, (g + 1) * per_group), p, k, q


def conv(x, w, bias, stride, pads, dilation, groups):
    """The convolution of ``x (n, c, *size)``."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    y = np.zeros((len(x), len(w), *out_size(x.shape[2:], w.shape[2:], stride, pads, dilation)))
    if bias is not None:
        for o in range(len(w)):
            y[:, o] = bias[o]
    for o, i, p, k, q in conv_terms(x.shape[2:], w.shape, stride, pads, dilation, groups):
        y[:, o, *p] += x[:, i, *q] @ w[o, :, *k].T
    return y


def conv_backward(dy, x, w, stride, pads, dilation, groups):
    """Its gradients (dx, dw, db)."""
    dy, x, w = dy.astype(np.float64), x.astype(np.float64), w.astype(np.float64)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for o, i, p, k, q in conv_terms(x.shape[2:], w.shape, stride, pads, dilation, groups):
        dx[:, i, *q] += dy[:, o, *p] @ w[o, :, *k]
        dw[o, :, *k] += dy[:, o, *p].T @ x[:, i, *q]
    db = np.array([sum(float(v) for v in dy[:, o].ravel()) for o in range(len(w))])
    return dx, dw, db


def extreme_pool(x, largest, kernel, stride, pads, dilation, ceil_mode=False):
    """Maxima (or minima) of ``x (planes, *size)`` and their flat indices."""
    size = x.shape[1:]
    outs = out_size(size, kernel, stride, pads, dilation, ceil_mode)
    y, index = np.zeros((len(x), *outs)), np.zeros((len(x), *outs), np.int64)
    for n, p in product(range(len(x)), product(*map(range, outs))):
        best = None
        for _, q in window(p, size, kernel, stride, pads, dilation):
            v = float(x[n, *q])
            if best is None or isnan(v) or (v > best if largest else v < best):
                best, index[n, *p] = v, np.ravel_multi_index(q, size)
        y[n, *p] = best
    return y, index


def scatter(dy, index, shape):
    """``dy`` added where the indices say, in each plane."""
    dx = np.zeros(shape)
    for n in range(len(dy)):
        for v, i in zip(dy[n].ravel(), index[n].ravel(), strict=True):
            dx[n, *np.unravel_index(i, shape[1:])] += v
    return dx


def avg_weights(p, size, kernel, stride, pads, include_pad, divisor):
    """Positions that the window at ``p`` averages, and what it divides by."""
    inside = [q for _, q in window(p, size, kernel, stride, pads, (1,) * len(size))]
    if divisor is None:
        padded = [n + lo + hi for n, (lo, hi) in zip(size, pads, strict=True)]
        no_pads = ((0, 0),) * len(size)
        counted = (
            list(window(p, padded, kernel, stride, no_pads, (1,) * len(size))) if include_pad else inside
        )
        divisor = len(counted)
    return inside, divisor


def avg_pool(x, kernel, stride, pads, ceil_mode=False, include_pad=True, divisor=None):
    """Means of ``x (planes, *size)``."""
    size = x.shape[1:]
    outs = out_size(size, kernel, stride, pads, (1,) * len(size), ceil_mode)
    y = np.zeros((len(x), *outs))
    for p in product(*map(range, outs)):
        inside, d = avg_weights(p, size, kernel, stride, pads, include_pad, divisor)
        for n in range(len(x)):
            y[n, *p] = sum(float(x[n, *q]) for q in inside) / d
    return y


def avg_pool_backward(dy, size, kernel, stride, pads, include_pad=True, divisor=None):
    """Their gradient."""
    dx = np.zeros((len(dy), *size))
    for p in product(*map(range, dy.shape[1:])):
        inside, d = avg_weights(p, size, kernel, stride, pads, include_pad, divisor)
        for n in range(len(dy)):
            for q in inside:
                dx[n, *q] += float(dy[n, *p]) / d
    return dx
