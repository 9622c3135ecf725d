"""Embedding: rows of a table, and the table of what came back for each."""

import numpy as np

from convkit.reference.common import narrow, widen
from convkit.spec.embedding import embedding_backward_spec, embedding_spec
from convkit.typing import Floats, Labels


def embedding(indices: Labels, weight: Floats, padding_idx: int | None = None) -> Floats:
    """``y[...] = weight[indices[...]]``."""
    spec = embedding_spec(indices, weight, padding_idx)
    return weight[indices].astype(spec.dtype)


def embedding_backward(dy: Floats, indices: Labels, num_embeddings: int, padding_idx: int | None = None) -> Floats:
    """``dweight[indices[...]] += dy[...]``, and nothing for ``padding_idx``."""
    spec = embedding_backward_spec(dy, indices, num_embeddings, padding_idx)
    return narrow(gradient(spec, dy.reshape(-1, spec.width), indices.reshape(-1)), spec.dtype)


def gradient(spec, dy, indices):
    """The sum for each row, in float64."""
    total = np.zeros((spec.rows, spec.width))
    np.add.at(total, indices, widen(dy))
    if spec.padding is not None:
        total[spec.padding] = 0
    return total
