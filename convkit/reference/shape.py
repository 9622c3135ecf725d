"""Changes of shape."""

from convkit.spec.shape import flatten_shape


def flatten(x, start_dim=1, end_dim=-1):
    """``x`` with the axes ``start_dim`` to ``end_dim`` made one; a view where possible."""
    shape = flatten_shape(x, start_dim, end_dim)
    return x.reshape(shape)
