"""What an embedding is: rows of a table, picked by number."""

from dataclasses import dataclass

import numpy as np

from convkit.errors import ShapeError
from convkit.spec import common


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """A table of ``rows`` rows of ``width`` elements; ``padding`` is the row that learns nothing, or None."""

    rows: int
    width: int
    padding: int | None
    dtype: np.dtype


def embedding_spec(indices, weight, padding_idx):
    """Check row numbers of any shape against the table ``weight (rows, width)``."""
    dtype = common.native_float("weight", common.array("weight", weight).dtype)
    if weight.ndim != 2:
        raise ShapeError(f"weight must have 2 axes (rows, width), got weight.shape={weight.shape}")
    spec = EmbeddingSpec(*weight.shape, padding_row(padding_idx, weight.shape[0]), dtype)
    _check_indices(indices, spec.rows)
    common.check_bytes("the result", (*indices.shape, spec.width), dtype)
    return spec


def embedding_backward_spec(dy, indices, num_embeddings, padding_idx):
    """Check ``dy (*indices.shape, width)`` and the row numbers."""
    dtype = common.native_float("dy", common.array("dy", dy).dtype)
    rows = common.integer("num_embeddings", num_embeddings, 0)
    _check_indices(indices, rows)
    if dy.ndim != indices.ndim + 1 or dy.shape[:-1] != indices.shape:
        raise ShapeError(f"dy must have the shape of indices and one more axis, got dy.shape={dy.shape} and "
                         f"indices.shape={indices.shape}")
    common.check_bytes("the gradient", (rows, dy.shape[-1]), dtype)
    return EmbeddingSpec(rows, dy.shape[-1], padding_row(padding_idx, rows), dtype)


def padding_row(padding_idx, rows):
    """The row of ``padding_idx``, negative ones counted from the end, or None."""
    if padding_idx is None:
        return None
    row = common.integer("padding_idx", padding_idx)
    if not -rows <= row < rows:
        raise ShapeError(f"padding_idx must be between {-rows} and {rows - 1} for a table of {rows} rows, "
                         f"got padding_idx={common.shown(padding_idx)}")
    return row % rows


def _check_indices(indices, rows):
    common.index_array("indices", indices)
    if indices.size and not (indices.min() >= 0 and indices.max() < rows):
        raise ShapeError(f"indices must be at least 0 and less than the {rows} rows of the table, got values from "
                         f"{indices.min()} to {indices.max()}")
