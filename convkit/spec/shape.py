"""What a change of shape is."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common
from convkit.spec.fold import FoldSpec


def flatten_shape(x, start_dim, end_dim):
    """The shape of ``x``, an array of any dtype, with the axes ``start_dim`` to ``end_dim`` made one."""
    return flattened(common.array("x", x).shape, start_dim, end_dim)


def flattened(shape, start_dim, end_dim):
    """The same of a shape."""
    shape = shape or (1,)
    start = common.axis_of("start_dim", start_dim, len(shape))
    end = common.axis_of("end_dim", end_dim, len(shape))
    if start > end:
        raise ShapeError(
            f"start_dim must not come after end_dim, got start_dim={start_dim} and end_dim={end_dim} "
            f"for x.shape={shape}"
        )
    return (*shape[:start], prod(shape[start:end + 1]), *shape[end + 1:])


def flatten_backward_shape(dy, input_shape, start_dim, end_dim):
    """The shape of the gradient of ``flatten``'s input, once ``dy`` has been checked against it."""
    input_shape = common.shape_of("input_shape", input_shape)
    want = flattened(input_shape, start_dim, end_dim)
    common.check_shape("dy", common.array("dy", dy).shape, want, f"that of x of shape {input_shape} flattened")
    return input_shape


def pixel_shuffle_spec(x, upscale_factor, name="x"):
    """Check ``x (*, C r r, H, W)``; returns r, (*, C), (H, W) and the dtype."""
    dtype, r = _image(name, x), common.integer("upscale_factor", upscale_factor, 1)
    *lead, channels, h, w = x.shape
    if channels % (r * r):
        raise ShapeError(f"the channels of {name} must be divisible by the square of upscale_factor={r}, "
                         f"got {name}.shape={x.shape}")
    return r, (*lead, channels // (r * r)), (h, w), dtype


def pixel_unshuffle_spec(x, downscale_factor, name="x"):
    """Check ``x (*, C, H r, W r)``; returns r, (*, C), (H, W) and the dtype."""
    dtype, r = _image(name, x), common.integer("downscale_factor", downscale_factor, 1)
    *lead, h, w = x.shape
    if h % r or w % r:
        raise ShapeError(f"height and width of {name} must be divisible by downscale_factor={r}, "
                         f"got {name}.shape={x.shape}")
    return r, tuple(lead), (h // r, w // r), dtype


def shuffle_window(x, upscale_factor, name="x"):
    """A shuffle as the fold that it is: windows of r x r pixels that tile the image; returns FoldSpec and (*, C)."""
    r, lead, (h, w), dtype = pixel_shuffle_spec(x, upscale_factor, name)
    return _tiles((h * r, w * r), r, dtype), lead


def unshuffle_window(x, downscale_factor, name="x"):
    """The inverse as the unfold that it is; returns the same."""
    r, lead, (h, w), dtype = pixel_unshuffle_spec(x, downscale_factor, name)
    return _tiles((h * r, w * r), r, dtype), lead


def _tiles(size, r, dtype):
    return FoldSpec(size, (r, r), (r, r), ((0, 0), (0, 0)), (1, 1), dtype)


def _image(name, x):
    dtype = common.native_float(name, common.array(name, x).dtype)
    if x.ndim < 3:
        raise ShapeError(f"{name} must have at least 3 axes (C, H, W), got {name}.shape={x.shape}")
    return dtype


@dataclass(frozen=True, slots=True)
class ChannelShuffleSpec:
    """Channels of ``inner`` elements, dealt out from ``groups`` groups."""

    channels: int
    groups: int
    inner: int
    dtype: np.dtype


def channel_shuffle_spec(x, groups, name="x"):
    """Check ``x (N, C, ...)`` and that ``groups`` divides C; returns the ChannelShuffleSpec."""
    dtype = common.native_float(name, common.array(name, x).dtype)
    groups = common.integer("groups", groups, 1)
    if x.ndim < 3:
        raise ShapeError(f"{name} must have at least 3 axes (N, C, L), got {name}.shape={x.shape}")
    if x.shape[1] % groups:
        raise ShapeError(f"groups must divide the channels of {name}, got groups={groups} and {x.shape[1]} channels")
    return ChannelShuffleSpec(x.shape[1], groups, prod(x.shape[2:]), dtype)


def channel_unshuffle_spec(dy, groups):
    """The same of the gradient, which is the shuffle that goes back."""
    spec = channel_shuffle_spec(dy, groups, "dy")
    return replace(spec, groups=spec.channels // spec.groups)
