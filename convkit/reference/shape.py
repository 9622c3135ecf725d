"""Changes of shape."""

from convkit.spec.shape import flatten_shape
from convkit.typing import Floats


def flatten(x: Floats, start_dim: int = 1, end_dim: int = -1) -> Floats:
    """``x`` with the axes ``start_dim`` to ``end_dim`` made one; a view where possible."""
    shape = flatten_shape(x, start_dim, end_dim)
    return x.reshape(shape)
