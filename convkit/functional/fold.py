"""Images as the columns of their windows (im2col), and back, without state."""

from collections.abc import Sequence
from math import prod

from convkit.functional.common import contiguous, in_float32
from convkit.plan.calls import empty, remembered
from convkit.plan.fold import fold_plan, unfold_plan
from convkit.spec.common import array
from convkit.spec.fold import fold_spec, unfold_backward_spec, unfold_spec
from convkit.typing import Floats, Padding, Size

_unfold_spec = remembered(unfold_spec)
_unfold_backward_spec = remembered(unfold_backward_spec)
_fold_spec = remembered(fold_spec)


def unfold(x: Floats, kernel_size: Size, dilation: Size = 1, padding: Padding = 0, stride: Size = 1) -> Floats:
    """Every window of an image as a column (im2col).

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W); (N, C, L) and (N, C, D, H, W) with a kernel of one and three axes
        float16, float32 or float64.
    kernel_size : int or tuple of int
        An integer means two axes, as in PyTorch; a tuple of one or three means as many.
    dilation, stride : int or tuple of int
    padding : int, one or one (lo, hi) per axis, "valid" or "same"
        Zeros around the image.

    Returns
    -------
    ndarray, shape (N, C * taps, windows) or (C * taps, windows)
        Row ``c * taps + k`` is what tap k of each window sees in channel c.

    Raises
    ------
    ShapeError, DtypeError
        If the window does not fit into the padded image, or an argument has no meaning.
    """
    return _unfold(*_unfold_spec(array("x", x).shape, x.dtype, kernel_size, dilation, padding, stride), x)


@in_float32
def _unfold(spec, lead, channels, x):
    y = empty((*lead, channels * spec.taps, prod(spec.out_size)), spec.dtype)
    if y.size:
        planes = prod(lead) * channels
        unfold_plan(spec).run(contiguous(x, spec.dtype).reshape(planes, *spec.size),
                              y.reshape(planes, spec.taps, *spec.out_size))
    return y


def unfold_backward(dy: Floats, input_shape: Sequence[int], kernel_size: Size, dilation: Size = 1,
                    padding: Padding = 0, stride: Size = 1) -> Floats:
    """Gradient of ``unfold``, which is ``fold``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the columns.
    input_shape : tuple of int
        Shape of the image.
    kernel_size, dilation, padding, stride
        As in the forward pass.

    Returns
    -------
    ndarray, shape ``input_shape``
    """
    return _fold(*_unfold_backward_spec(dy, input_shape, kernel_size, dilation, padding, stride), dy)


def fold(x: Floats, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Padding = 0,
         stride: Size = 1) -> Floats:
    """Add up windows, each where it lies in the image: the adjoint of ``unfold``, not its inverse.

    Parameters
    ----------
    x : ndarray, shape (N, C * taps, windows) or (C * taps, windows)
        Columns as ``unfold`` makes them, float16, float32 or float64.
    output_size : int or tuple of int
        Size of the image; an integer means two equal axes.
    kernel_size, dilation, padding, stride
        As in ``unfold``.

    Returns
    -------
    ndarray, shape (N, C, *output_size) or (C, *output_size)

    Raises
    ------
    ShapeError, DtypeError
        If the columns do not fit the image, or an argument has no meaning.
    """
    return _fold(*_fold_spec(array("x", x).shape, x.dtype, output_size, kernel_size, dilation, padding, stride), x)


def fold_backward(dy: Floats, kernel_size: Size, dilation: Size = 1, padding: Padding = 0, stride: Size = 1) -> Floats:
    """Gradient of ``fold``, which is ``unfold``.

    Parameters
    ----------
    dy : ndarray
        Gradient of the image.
    kernel_size, dilation, padding, stride
        As in the forward pass.

    Returns
    -------
    ndarray
        Gradient of the columns.
    """
    return unfold(dy, kernel_size, dilation, padding, stride)


@in_float32
def _fold(spec, lead, channels, columns):
    y, planes = empty((*lead, channels, *spec.size), spec.dtype), prod(lead) * channels
    if y.size:
        fold_plan(spec).run(contiguous(columns, spec.dtype).reshape(planes, spec.taps, *spec.out_size),
                            y.reshape(planes, *spec.size))
    return y
