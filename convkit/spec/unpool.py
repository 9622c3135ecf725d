"""What one max unpooling is: planes of pooled values that go back into larger planes, at their indices."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import DtypeError, ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class UnpoolSpec:
    """Planes of ``out_size``, as a pooling gave them, go into planes of ``size``, as it had seen them."""

    size: tuple[int, ...]
    out_size: tuple[int, ...]
    dtype: np.dtype
    kind: str = "unpool"

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)


def unpool_spec(x, indices, kernel_size, stride, padding, output_size, *, rank):
    """Check a call of an unpooling; returns the UnpoolSpec. Who reads the indices checks their values."""
    dtype = common.native_float("x", common.array("x", x).dtype)
    lead, channels, size = common.split_image("x", x.shape, rank)
    _check_indices(indices, "x", x)
    kernel = common.tuple_of("kernel_size", kernel_size, rank, 1)
    stride = kernel if stride is None else common.tuple_of("stride", stride, rank, 1)
    padding = common.tuple_of("padding", padding, rank, 0)
    default = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(size, stride, padding, kernel, strict=True))
    target = default if output_size is None else _output_size(output_size, default, stride, rank)
    if min(target) < 1:
        raise ShapeError(f"padding={common.shown(padding)} leaves nothing of the output {common.shown(default)}")
    common.check_bytes("the output", (*lead, channels, *target), dtype)
    return UnpoolSpec(target, size, dtype)


def _output_size(output_size, default, stride, rank):
    """PyTorch's rule: less than a stride away from what the geometry gives; leading axes are left out."""
    wanted = common.shape_of("output_size", output_size)
    if len(wanted) not in (rank, rank + 1, rank + 2):
        raise ShapeError(f"output_size must have {rank} entries, or those of the whole output's shape, "
                         f"got output_size={common.shown(output_size)}")
    wanted = wanted[-rank:]
    for n, d, s in zip(wanted, default, stride, strict=True):
        if not d - s < n < d + s:
            raise ShapeError(f"output_size must be less than the stride {common.shown(stride)} away from "
                             f"{common.shown(default)}, got output_size={common.shown(output_size)}")
    return wanted


def unpool_backward_spec(dy, indices, *, rank):
    """Check the gradient of an unpooling; returns the forward pass's UnpoolSpec."""
    dtype = common.native_float("dy", common.array("dy", dy).dtype)
    lead, channels, size = common.split_image("dy", dy.shape, rank)
    common.array("indices", indices)
    if indices.ndim != dy.ndim or indices.shape[:-rank] != (*lead, channels):
        raise ShapeError(f"indices must have {dy.ndim} axes, the first {(*lead, channels)} as in dy, "
                         f"got indices.shape={indices.shape}")
    common.split_image("indices", indices.shape, rank)
    _check_indices(indices, "indices", indices)
    return UnpoolSpec(size, indices.shape[-rank:], dtype)


def _check_indices(indices, name, like):
    if common.array("indices", indices).dtype.newbyteorder("=") != common.INT64:
        raise DtypeError(f"indices must be int64, as the pooling returned them, got indices.dtype={indices.dtype}")
    common.check_shape("indices", indices.shape, like.shape, f"that of {name}")
