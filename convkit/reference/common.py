"""The window, which is all that convolution and pooling share.

Output position ``p`` looks at the padded input through taps ``k``, at ``p * stride + k * dilation`` along
each axis. For one tap and all positions at once that is a strided view, so every sum over a window is a loop
over its taps. Axis letters: n images, g groups, c input channels, o output channels, k taps, p output
positions.
"""

import numpy as np


def widen(a):
    """``a`` in float64, C-contiguous, so that neither precision nor layout changes a result."""
    return np.asarray(a, np.float64, order="C")


@np.errstate(over="ignore")
def narrow(a, dtype):
    """``a`` rounded once to ``dtype``; what is too large for it becomes infinite."""
    return a.astype(dtype)


def deliver(y, out):
    """``y``, or ``out`` filled with it."""
    if out is None:
        return y
    out[...] = y
    return out


def extent(spec, out_size):
    """Elements per axis that the windows reach, padding and overhang (``ceil_mode``) included."""
    whole = (n + lo + max(hi, 0) for n, (lo, hi) in zip(spec.size, spec.padding, strict=True))
    reach = ((p - 1) * s + (k - 1) * d + 1
             for p, s, k, d in zip(out_size, spec.stride, spec.kernel, spec.dilation, strict=True))
    return tuple(max(w, r) for w, r in zip(whole, reach, strict=True))


def pad(x, spec, out_size, value=0.0):
    """``x (..., *size)`` in the middle of an array ``(..., *extent)`` of ``value``."""
    full = np.full(x.shape[:-spec.rank] + extent(spec, out_size), value, x.dtype)
    full[inside(spec)] = x
    return full


def inside(spec):
    """The index of the input proper within the padded array."""
    return (..., *(slice(lo, lo + n) for n, (lo, _) in zip(spec.size, spec.padding, strict=True)))


def taps(spec, out_size):
    """For each tap of the window in row-major order: its index, and what it sees of the padded array."""
    for k in np.ndindex(*spec.kernel):
        seen = tuple(slice(i * d, i * d + (p - 1) * s + 1, s)
                     for i, d, p, s in zip(k, spec.dilation, out_size, spec.stride, strict=True))
        yield k, (..., *seen)
