"""What padding is: how far each axis grows or is cropped, and what the border may hold."""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common

MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True, slots=True)
class PadSpec:
    """Planes of ``size`` with ``(lo, hi)`` per axis in ``pairs``; what the constant is, the call says."""

    mode: str
    size: tuple
    pairs: tuple
    dtype: np.dtype

    @property
    def out_size(self):
        """Size of a padded plane."""
        return common.padded(self.size, self.pairs)


def pad_spec(x, pairs, mode):
    """The PadSpec of a checked call, without the axes in front that stay as they are, and the number of planes."""
    return _of_last_axes("x", x, x.shape, pairs, mode)


def unpad_spec(dy, pairs, mode):
    """The same of a checked call of ``pad_backward``, whose ``dy`` is as large as a padded array."""
    lead = dy.ndim - len(pairs)
    size = (n - lo - hi for n, (lo, hi) in zip(dy.shape[lead:], pairs, strict=True))
    return _of_last_axes("dy", dy, (*dy.shape[:lead], *size), pairs, mode)


def _of_last_axes(name, array, size, pairs, mode):
    first = next((i for i, pair in enumerate(pairs) if any(pair)), len(pairs) - 1) if pairs else 0
    lead = array.ndim - len(pairs) + first
    return PadSpec(mode, size[lead:], tuple(pairs[first:]), common.native_float(name, array.dtype)), prod(size[:lead])


def pad_pairs(shape, padding, mode):
    """One ``(lo, hi)`` per axis of an array of this shape, from PyTorch's flat list that begins at the last axis."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ShapeError(f"mode must be one of {', '.join(MODES)}, got mode={common.shown(mode)}")
    if not isinstance(padding, (tuple, list)):
        raise DtypeError(f"padding must be a tuple of integers, got padding={common.shown(padding)}")
    if len(padding) % 2 or len(padding) > 2 * len(shape):
        raise ShapeError(f"padding must hold a low and a high integer for each of at most {len(shape)} axes, "
                         f"got padding={common.shown(padding)}")
    flat = common.tuple_of("padding", padding, len(padding), None if mode == "constant" else 0)
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))[::-1]
    if mode != "constant" and not (1 <= len(pairs) <= 3 and len(shape) - len(pairs) in (1, 2)):
        raise ShapeError(f"padding must be 2 integers for x of shape (N, C, L) or (C, L), 4 or 6 with one or two axes "
                         f"more, with mode={mode!r}, got padding={common.shown(padding)} for shape {shape}")
    return ((0, 0),) * (len(shape) - len(pairs)) + pairs


def check_pad(x, padding, mode, value):
    """Check a call of ``pad``; returns one ``(lo, hi)`` per axis of x."""
    common.float_array("x", x)
    common.real("value", value, -float("inf"), float("inf"), "a number that is not NaN")
    pairs = pad_pairs(x.shape, padding, mode)
    check_border(mode, pairs, x.shape, f"mode={mode!r}")
    common.check_bytes("the padded array", common.padded(x.shape, pairs), x.dtype)
    return pairs


def check_pad_backward(dy, padding, mode):
    """Check a call of ``pad_backward``; returns one ``(lo, hi)`` per axis of dy."""
    common.float_array("dy", dy)
    pairs = pad_pairs(dy.shape, padding, mode)
    size = tuple(n - lo - hi for n, (lo, hi) in zip(dy.shape, pairs, strict=True))
    if min(size, default=0) < 0:
        raise ShapeError(f"dy must be as large as the padding, got dy.shape={dy.shape} and "
                         f"padding={common.shown(padding)}")
    check_border(mode, pairs, size, f"mode={mode!r}")
    common.check_bytes("the gradient", size, dy.dtype)
    return pairs


def check_border(mode, pairs, size, shown):
    """Refuse padding for which an axis is too short: to be copied from, or to be cropped."""
    for (lo, hi), n in zip(pairs, size, strict=True):
        if n + min(lo, 0) + min(hi, 0) < 0:
            raise ShapeError(f"padding must not crop more than there is, got padding={pairs} for size {size}")
    if mode in ("reflect", "circular"):
        short = mode == "reflect"
        if any(max(pair) > n - short and max(pair) for pair, n in zip(pairs, size, strict=True)):
            raise ShapeError(f"padding must be {'less than' if short else 'at most'} the input with "
                             f"{shown}, got padding={pairs} for size {size}")
    if mode == "replicate" and any(max(pair) and not n for pair, n in zip(pairs, size, strict=True)):
        raise ShapeError(f"padding must repeat at least 1 element with {shown}, got padding={pairs} for size {size}")
