"""What a resampling is: an image read at other places along each axis."""

from dataclasses import dataclass
from math import floor

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common

MODES = {"nearest": ("nearest", None), "nearest-exact": ("nearest-exact", None), "linear": ("linear", 1),
         "bilinear": ("linear", 2), "trilinear": ("linear", 3)}
MAX_SIZE = 2**31 - 1  # along one axis: places are numbered with 32 bits


@dataclass(frozen=True, slots=True)
class ResampleSpec:
    """Planes of ``size`` read at ``out_size`` places.

    ``kind`` is "nearest", "nearest-exact" or "linear"; ``scale`` holds, per axis, the factor that the user gave, or
    None where the sizes decide.
    """

    kind: str
    size: tuple
    out_size: tuple
    align_corners: bool
    scale: tuple
    dtype: np.dtype

    @property
    def rank(self):
        """Number of axes that are resampled."""
        return len(self.size)


def resample_spec(x_shape, x_dtype, size, scale_factor, mode, align_corners, recompute_scale_factor, name="x"):
    """Check an input ``(N, C, *size)`` and the options; returns the ResampleSpec and ``(N, C)``."""
    dtype = common.native_float(name, x_dtype)
    kind, rank = _mode(mode, name, x_shape)
    lead, in_size = x_shape[:2], x_shape[2:]
    if min(in_size) < 1 or max(in_size) > MAX_SIZE:
        raise ShapeError(f"{name} must have between 1 and {MAX_SIZE} elements along each of its axes "
                         f"{common.AXES[rank]}, got {name}.shape={x_shape}")
    if align_corners is not None and kind != "linear":
        raise ShapeError(f"align_corners must be None unless the mode is linear, bilinear or trilinear, "
                         f"got align_corners={common.shown(align_corners)} and mode={mode!r}")
    align = False if align_corners is None else common.flag("align_corners", align_corners)
    out_size, scale = _out_size(in_size, size, scale_factor)
    if recompute_scale_factor is not None and common.flag("recompute_scale_factor", recompute_scale_factor):
        if size is not None:
            raise ShapeError("recompute_scale_factor needs scale_factor, not size")
        scale = (None,) * rank
    common.check_bytes("the result", (*lead, *out_size), dtype)
    return ResampleSpec(kind, in_size, out_size, align, scale, dtype), lead


def _mode(mode, name, shape):
    kind, rank = _known_mode(mode)
    if len(shape) - 2 != rank if rank else not 3 <= len(shape) <= 5:
        axes = f"{rank + 2} axes (N, C, {common.AXES[rank]})" if rank else "3 to 5 axes (N, C, ...)"
        raise ShapeError(f"{name} must have {axes} for mode={mode!r}, got {name}.shape={shape}")
    return kind, len(shape) - 2


def _known_mode(mode):
    if not isinstance(mode, str) or mode not in MODES:
        raise ShapeError(f"mode must be one of {', '.join(MODES)}, got mode={common.shown(mode)}")
    return MODES[mode]


def _check_exclusive(size, scale_factor):
    if (size is None) == (scale_factor is None):
        raise ShapeError(f"exactly one of size and scale_factor must be given, got size={common.shown(size)} and "
                         f"scale_factor={common.shown(scale_factor)}")


def _out_size(in_size, size, scale_factor):
    """Output size, and the factors as given (None per axis where the size was)."""
    rank = len(in_size)
    _check_exclusive(size, scale_factor)
    if scale_factor is None:
        out, scale = common.tuple_of("size", size, rank, 1), (None,) * rank
    else:
        scale = _factors(scale_factor, rank)
        out = tuple(floor(n * s) for n, s in zip(in_size, scale, strict=True))
    if min(out) < 1 or max(out) > MAX_SIZE:
        raise ShapeError(f"the result must have between 1 and {MAX_SIZE} elements along each axis, got {out} from "
                         f"size={common.shown(size)} and scale_factor={common.shown(scale_factor)}")
    return out, scale


def _factors(value, rank):
    items = value if isinstance(value, (tuple, list)) else (value,) * rank
    if len(items) != rank:
        raise ShapeError(f"scale_factor must be a number or a tuple of {rank}, got scale_factor={common.shown(value)}")
    rule = f"between 1/{MAX_SIZE} and {MAX_SIZE}"
    return tuple(common.real("scale_factor", v, 1 / MAX_SIZE, float(MAX_SIZE), rule) for v in items)


def resample_backward_spec(dy, input_shape, *options):
    """Check ``dy`` against the output of an input of that shape; returns the ResampleSpec and ``(N, C)``."""
    shape = common.shape_of("input_shape", input_shape)
    spec, lead = resample_spec(shape, common.array("dy", dy).dtype, *options, name="input")
    common.check_bytes("the input", shape, spec.dtype)
    common.check_shape("dy", dy.shape, (*lead, *spec.out_size), "that of the output")
    return spec, lead


def check_options(size, scale_factor, mode):
    """Refuse what is wrong with any input; returns the factors as floats, one or a tuple as they were given."""
    rank = _known_mode(mode)[1]
    _check_exclusive(size, scale_factor)
    given = size if scale_factor is None else scale_factor
    rank = rank or (len(given) if isinstance(given, (tuple, list)) and given else 1)
    if scale_factor is None:
        common.tuple_of("size", size, rank, 1)
        return None
    factors = _factors(scale_factor, rank)
    return factors if isinstance(scale_factor, (tuple, list)) else factors[0]
