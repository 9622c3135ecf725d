"""Changes of shape."""

from convkit.spec.shape import flatten_shape
from convkit.typing import Floats


def flatten(x: Floats, start_dim: int = 1, end_dim: int = -1) -> Floats:
    """Make the axes ``start_dim`` to ``end_dim`` one.

    Parameters
    ----------
    x : ndarray
        Any dtype.
    start_dim, end_dim : int
        First and last of the axes, negative ones counted from the end.

    Returns
    -------
    ndarray
        A view where the memory layout allows, else a copy.
    """
    shape = flatten_shape(x, start_dim, end_dim)
    return x.reshape(shape)
