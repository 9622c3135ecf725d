"""Resampling without state."""

from collections.abc import Sequence
from functools import partial
from math import prod

from convkit.functional.common import contiguous, filled_by, in_float32
from convkit.plan.calls import empty, planned
from convkit.plan.resample import backward_plan, plan
from convkit.spec.common import array
from convkit.spec.resample import resample_backward_spec, resample_spec
from convkit.typing import Floats, Size


def interpolate(x: Floats, size: Size | None = None, scale_factor: float | Sequence[float] | None = None,
                mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None) -> Floats:
    """Read images at other places, more or fewer of them.

    Parameters
    ----------
    x : ndarray, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        float16, float32 or float64.
    size : int or tuple of int, optional
        Of the result, per axis; or else
    scale_factor : float or tuple of float, optional
        The size of the result is ``floor(size * scale_factor)``.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear"}
        Output element p of an axis is input element ``floor(p * size / out)``, or ``floor((p + 1/2) * size / out)``, or
        between the two around ``(p + 1/2) * size / out - 1/2``, kept inside; the linear modes take one, two and three
        axes.
    align_corners : bool, optional
        For the linear modes: around ``p * (size - 1) / (out - 1)``, so that the corners stay what they are.
    recompute_scale_factor : bool, optional
        Whether the sizes decide the places also where ``scale_factor`` is given. Without, ``size / out`` in these
        formulas is ``1 / scale_factor``, which is something else where the product was rounded down.

    Returns
    -------
    ndarray, shape (N, C, ...)

    Raises
    ------
    ShapeError, DtypeError
        If the options do not fit the input, or each other.

    Notes
    -----
    As in PyTorch, but places are exact where whole numbers decide them, and a neighbour of weight 0 is not looked at.
    An axis that keeps its size is left as it is whatever the factor, and for "nearest" one that doubles is doubled, as
    PyTorch does in 2-d.
    """
    return _resampled(x, size, scale_factor, mode, align_corners, recompute_scale_factor)(x)


@planned
def _resampled(x, *options):
    """What computes such calls."""
    spec, lead = resample_spec(array("x", x).shape, x.dtype, *options)
    return filled_by(plan, spec, (*lead, *spec.out_size), x) or partial(_run, spec, lead)


@in_float32
def _run(spec, lead, x):
    y = empty((*lead, *spec.out_size), spec.dtype)
    if y.size:
        plan(spec).run(_planes(x, spec.size, spec.dtype), _planes(y, spec.out_size, spec.dtype))
    return y


def interpolate_backward(dy: Floats, input_shape: Sequence[int], size: Size | None = None,
                         scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                         align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> Floats:
    """Gradient of ``interpolate``: each element of ``dy`` goes back to its neighbours, with their weights.

    Parameters
    ----------
    dy : ndarray
        Gradient of the output.
    input_shape : tuple of int
        Shape of the input.
    size, scale_factor, mode, align_corners, recompute_scale_factor
        As in the forward pass.

    Returns
    -------
    ndarray, shape ``input_shape``

    Raises
    ------
    ShapeError, DtypeError
        If ``dy`` is not shaped like the output, or as ``interpolate``.
    """
    return _gradient(dy, input_shape, size, scale_factor, mode, align_corners, recompute_scale_factor)(dy)


@planned
def _gradient(dy, input_shape, *options):
    spec, lead = resample_backward_spec(dy, input_shape, *options)
    return filled_by(backward_plan, spec, (*lead, *spec.size), dy) or partial(_run_backward, spec, lead)


@in_float32
def _run_backward(spec, lead, dy):
    dx = empty((*lead, *spec.size), spec.dtype)
    if dx.size:
        backward_plan(spec).run(_planes(dy, spec.out_size, spec.dtype), _planes(dx, spec.size, spec.dtype))
    return dx


def _planes(a, size, dtype):
    return contiguous(a, dtype).reshape(prod(a.shape[:2]), *size)
