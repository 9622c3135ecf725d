"""What a change of shape is."""

from math import prod

from convkit.errors import ShapeError
from convkit.spec import common


def flatten_shape(x, start_dim, end_dim):
    """The shape of ``x``, an array of any dtype, with the axes ``start_dim`` to ``end_dim`` made one."""
    shape = common.array("x", x).shape or (1,)
    start = common.axis_of("start_dim", start_dim, len(shape))
    end = common.axis_of("end_dim", end_dim, len(shape))
    if start > end:
        raise ShapeError(
            f"start_dim must not come after end_dim, got start_dim={start_dim} and end_dim={end_dim} "
            f"for x.shape={shape}"
        )
    return (*shape[:start], prod(shape[start:end + 1]), *shape[end + 1:])
