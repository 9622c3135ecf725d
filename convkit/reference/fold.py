"""Unfolding: a column for each window, a row for each channel and tap; and its adjoint, which adds the columns up."""

from collections.abc import Sequence

import numpy as np

from convkit.reference.common import extent, inside, narrow, pad, taps, widen
from convkit.spec.common import array
from convkit.spec.fold import fold_spec, unfold_backward_spec, unfold_spec
from convkit.typing import Floats, Padding, Size


def unfold(x: Floats, kernel_size: Size, dilation: Size = 1, padding: Padding = 0, stride: Size = 1) -> Floats:
    """Row ``c * taps + k``, column ``p`` is what tap ``k`` of window ``p`` sees in channel ``c``."""
    spec, lead, channels = unfold_spec(array("x", x).shape, x.dtype, kernel_size, dilation, padding, stride)
    return unfolded(spec, x).astype(spec.dtype).reshape(*lead, channels * spec.taps, _windows(spec))


def unfold_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, dilation: Size = 1,
                    padding: Padding = 0, stride: Size = 1) -> Floats:
    """Every element goes back to where it was seen."""
    spec, lead, channels = unfold_backward_spec(dy, input_shape, kernel_size, dilation, padding, stride)
    return _folded(spec, dy, lead, channels)


def fold(x: Floats, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Padding = 0,
         stride: Size = 1) -> Floats:
    """The sum of all windows, each added where it lies."""
    spec, lead, channels = fold_spec(array("x", x).shape, x.dtype, output_size, kernel_size, dilation, padding, stride)
    return _folded(spec, x, lead, channels)


def fold_backward(dy: Floats, kernel_size: Size, dilation: Size = 1, padding: Padding = 0, stride: Size = 1) -> Floats:
    """Every window sees the gradient where it lies."""
    return unfold(dy, kernel_size, dilation, padding, stride)


def _folded(spec, columns, lead, channels):
    columns = columns.reshape(*lead, channels, spec.taps, *spec.out_size)
    return narrow(folded(spec, columns), spec.dtype)


def _windows(spec):
    return int(np.prod(spec.out_size))


def unfolded(spec, x):
    """``x (..., *size)`` as ``(..., taps, *out_size)``."""
    full, lead = pad(x, spec, spec.out_size), x.shape[:-spec.rank]
    y = np.empty((*lead, spec.taps, *spec.out_size), x.dtype)
    for k, (_, seen) in enumerate(taps(spec, spec.out_size)):
        y[(..., k, *(slice(None),) * spec.rank)] = full[seen]
    return y


def folded(spec, columns):
    """The adjoint of ``unfolded``, in float64."""
    full = np.zeros(columns.shape[:-spec.rank - 1] + extent(spec, spec.out_size))
    for k, (_, seen) in enumerate(taps(spec, spec.out_size)):
        full[seen] += widen(columns[(..., k, *(slice(None),) * spec.rank)])
    return full[inside(spec)]
