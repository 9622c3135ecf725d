"""The checks that every operation shares: integers, tuples, padding, shapes, arrays.

All arithmetic is on Python integers, which do not overflow, and is compared with the limits before anything
is allocated or handed to C.
"""

import operator
from collections.abc import Mapping
from math import prod

import numpy as np

from convkit.errors import DtypeError, ShapeError

MAX_INT = 2**63 - 1  # what ptrdiff_t and int64 hold
MAX_BYTES = 2**47  # the address space of one process on today's CPUs
MAX_AXES = 64  # NumPy's own limit

FLOAT16, FLOAT32, FLOAT64, INT64 = map(np.dtype, (np.float16, np.float32, np.float64, np.int64))
# Either byte order is taken; the native one is what a spec holds.
_NATIVE_FLOAT = {d.newbyteorder(order): d for d in (FLOAT16, FLOAT32, FLOAT64) for order in "<>"}
AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


def integer(name, value, minimum=None, maximum=MAX_INT):
    """``value`` as a Python int; anything but a whole number (bool, float, str, None) is a DtypeError."""
    if type(value) is not int:
        value = _index(name, value, value, "an integer")
    _check_range(name, value, value, minimum, maximum)
    return value


def _index(name, value, whole, what="made of integers"):
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise DtypeError(f"{name} must be {what}, got {name}={shown(whole)}")


def _check_range(name, value, whole, minimum, maximum):
    if minimum is not None and value < minimum:
        rule = "not be negative" if minimum == 0 else f"be at least {minimum}"
        raise ShapeError(f"{name} must {rule}, got {name}={shown(whole)}")
    if value > maximum:
        raise ShapeError(f"{name} must be at most {maximum}, got {name}={shown(whole)}")


def shown(value):
    """``repr`` for messages, never longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out an int of thousands of digits
        text = "an integer of thousands of digits"
    text = " ".join(text.split())  # an array is written in several lines
    return text if len(text) <= 80 else text[:77] + "..."


def tuple_of(name, value, rank, minimum):
    """``value``, an integer or one per axis, as a tuple of ``rank`` ints, each at least ``minimum``."""
    what = "integers" if rank > 1 else "integer"
    if not isinstance(value, (tuple, list)):
        return (_for_all_axes(name, value, rank, minimum, what),) * rank
    _check_length(name, value, rank, what)
    items = tuple(v if type(v) is int else _index(name, v, value) for v in value)
    for v in items:
        _check_range(name, v, value, minimum, MAX_INT)
    return items


def _for_all_axes(name, value, rank, minimum, what):
    if type(value) is not int:
        value = _index(name, value, value, f"an integer or a tuple of {rank} {what}")
    _check_range(name, value, value, minimum, MAX_INT)
    return value


def _check_length(name, value, rank, what):
    if len(value) != rank:
        raise ShapeError(f"{name} must be an integer or a tuple of {rank} {what}, got {name}={shown(value)}")


def pad_pairs(name, value, size, kernel, stride, dilation):
    """Padding in any accepted form as one ``(lo, hi)`` per axis.

    Accepted are an int, one int or one ``(lo, hi)`` pair per axis, ``"valid"`` and ``"same"``. ``"same"``
    makes the output ``ceil(size / stride)`` long and puts the spare element at the end.
    """
    if isinstance(value, str):
        return _named_padding(name, value, size, kernel, stride, dilation)
    what = "integers or (lo, hi) pairs"
    if not isinstance(value, (tuple, list)):
        pad = _for_all_axes(name, value, len(size), 0, what)
        return ((pad, pad),) * len(size)
    _check_length(name, value, len(size), what)
    return tuple(_pair(name, v, value) for v in value)


def _pair(name, value, whole):
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ShapeError(
            f"{name} must give each axis an integer or a (lo, hi) pair, got {name}={shown(whole)}"
        )
    lo, hi = (v if type(v) is int else _index(name, v, whole) for v in pair)
    for v in (lo, hi):
        _check_range(name, v, whole, 0, MAX_INT)
    return lo, hi


def _named_padding(name, value, size, kernel, stride, dilation):
    if value == "valid":
        return ((0, 0),) * len(size)
    if value != "same":
        raise ShapeError(f"{name} must be integers, 'valid' or 'same', got {name}={shown(value)}")
    pads = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def check_bytes(name, shape, dtype):
    """Refuse an array that no machine could hold, before it is asked for."""
    total = prod(shape) * dtype.itemsize
    if total > MAX_BYTES:
        raise ShapeError(f"{name} would have shape {shown(tuple(shape))} and take {total} bytes, "
                         f"more than the limit of {MAX_BYTES}")


def shape_of(name, value):
    """A shape given as an argument (``input_shape``): a tuple or list of non-negative integers."""
    if not isinstance(value, (tuple, list)):
        raise DtypeError(f"{name} must be a tuple of integers, got {name}={shown(value)}")
    if len(value) > MAX_AXES:
        raise ShapeError(f"{name} must have at most {MAX_AXES} axes, got {len(value)}")
    return tuple_of(name, value, len(value), 0)


def native_float(name, dtype):
    """float16, float32 or float64 in native byte order, from either byte order; anything else is a DtypeError."""
    native = _NATIVE_FLOAT.get(dtype)
    if native is None:
        instead = f"compute {name}.real and {name}.imag apart" if dtype.kind == "c" else \
            f"convert it with {name}.astype(np.float32)"
        raise DtypeError(f"{name} must be float16, float32 or float64, got {name}.dtype={dtype}; {instead}")
    return native


def float_dtype(name, value):
    """The same for a dtype given as an argument, in any spelling but None, which NumPy takes for float64."""
    try:
        native = None if value is None else _NATIVE_FLOAT.get(np.dtype(value))
    except (TypeError, ValueError):
        native = None
    if native is None:
        raise DtypeError(f"{name} must be float16, float32 or float64, got {name}={shown(value)}")
    return native


def generator(name, value):
    """``value`` if random numbers can be drawn from it as from all generators of today's NumPy."""
    if not isinstance(value, np.random.Generator):
        raise DtypeError(f"{name} must be a numpy.random.Generator, such as np.random.default_rng(0), "
                         f"got {name}={shown(value)}")
    return value


def same_dtype(name, dtype, other_name, other):
    """Refuse two floating-point operands of different precision."""
    if native_float(name, dtype) is not other:
        raise DtypeError(f"{name} is {dtype.name} but {other_name} is {other.name}; both must be the same, "
                         f"convert one with {name}.astype(np.{other.name})")


def array(name, value):
    """Refuse anything that is not a NumPy array; nothing is converted silently."""
    if type(value) is np.ndarray:
        return value
    if not isinstance(value, np.ndarray):
        raise DtypeError(
            f"{name} must be a NumPy array, got {type(value).__name__}; convert it with np.asarray"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(
            f"{name} must be a plain NumPy array, got a masked array, whose mask would be ignored; "
            f"use {name}.filled(...)"
        )
    return value


def float_array(name, value):
    """``value`` if it is an array of float16, float32 or float64."""
    native_float(name, array(name, value).dtype)
    return value


def index_array(name, value):
    """``value`` if it is an array of a signed or unsigned integer dtype."""
    if array(name, value).dtype.kind not in "iu":
        raise DtypeError(f"{name} must be an array of integers, got {name}.dtype={value.dtype}")
    return value


def check_shape(name, got, want, why):
    """Refuse an operand whose shape is not the one that the others ask for."""
    if got != want:
        raise ShapeError(f"{name} must have shape {want} ({why}), got {name}.shape={got}")


def check_sum(block, shortcut):
    """Refuse to add the output of a short cut to that of a block, of another shape."""
    if block != shortcut:
        raise ShapeError(f"the outputs of block and shortcut must have the same shape, got {block} and {shortcut}")


def check_out(out, shape, dtype):
    """Refuse an ``out`` that cannot take the result as it is."""
    if array("out", out).dtype != dtype:
        raise DtypeError(f"out must be {dtype.name}, as the result is, got out.dtype={out.dtype}")
    check_shape("out", out.shape, shape, "that of the result")
    if not out.flags.writeable:
        raise ShapeError("out must be writeable, got a read-only array")


def mapping(name, value, what="a dict of arrays"):
    """Refuse anything but a dict or what reads like one."""
    if not isinstance(value, Mapping):
        raise DtypeError(f"{name} must be {what}, got {name}={shown(value)}")
    return value


def flag(name, value):
    """A yes or a no, as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise DtypeError(f"{name} must be True or False, got {name}={shown(value)}")
    return bool(value)


def flags(name, value, count):
    """A tuple of ``count`` yes/no answers, such as ``needs=(True, True, False)``."""
    if not isinstance(value, (tuple, list)):
        raise DtypeError(f"{name} must be a tuple of {count} bools, got {name}={shown(value)}")
    if len(value) != count:
        raise ShapeError(f"{name} must have {count} entries, got {name}={shown(value)}")
    return tuple(flag(name, v) for v in value)


def real(name, value, low, high, rule):
    """A finite real number in ``[low, high]`` as a float; ``rule`` words the range in the message."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DtypeError(f"{name} must be a number, got {name}={shown(value)}")
    if not low <= value <= high:  # also refuses NaN
        raise ShapeError(f"{name} must be {rule}, got {name}={shown(value)}")
    return float(value)


def axis_of(name, value, rank):
    """An axis number, negative ones counted from the end, as one in ``range(rank)``."""
    axis = integer(name, value)
    if not -rank <= axis < rank:
        raise ShapeError(f"{name} must be between {-rank} and {rank - 1} for an array of {rank} axes, "
                         f"got {name}={shown(value)}")
    return axis % rank


def split_image(name, shape, rank):
    """``(lead, channels, size)`` of an image batch ``(N, C, *size)`` or a single image ``(C, *size)``.

    ``lead`` is ``(N,)`` or ``()``. The batch may be empty; channels and sizes may not.
    """
    if len(shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name} must have {rank + 2} axes (N, C, {AXES[rank]}) or {rank + 1} (C, {AXES[rank]}), "
            f"got shape {shown(shape)}"
        )
    lead, channels, size = shape[:-rank - 1], shape[-rank - 1], shape[-rank:]
    if channels < 1:
        raise ShapeError(f"{name} must have at least 1 channel, got shape {shape}")
    if min(size) < 1:
        raise ShapeError(f"{name} must have at least 1 element along each of its axes {AXES[rank]}, "
                         f"got shape {shape}")
    return lead, channels, size


def spans(kernel, dilation):
    """Elements from the first tap of a window to its last, per axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def padded(size, padding):
    """Size with its padding, per axis."""
    return tuple(n + lo + hi for n, (lo, hi) in zip(size, padding, strict=True))
