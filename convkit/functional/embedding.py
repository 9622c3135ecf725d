"""Embedding without state."""

import numpy as np

from convkit.functional.common import contiguous, in_float32
from convkit.plan.embedding import backward_plan
from convkit.spec.common import INT64
from convkit.spec.embedding import embedding_backward_spec, embedding_spec
from convkit.typing import Floats, Labels


def embedding(indices: Labels, weight: Floats, padding_idx: int | None = None) -> Floats:
    """Rows of a table: ``weight[indices]``.

    Parameters
    ----------
    indices : ndarray of int
        Row numbers, any shape.
    weight : ndarray, shape (rows, width)
        float16, float32 or float64.
    padding_idx : int, optional
        The row that gets no gradient; it changes nothing here.

    Returns
    -------
    ndarray, shape (*indices.shape, width)

    Raises
    ------
    ShapeError, DtypeError
        If a number is no row, or an operand is of the wrong kind.
    """
    spec = embedding_spec(indices, weight, padding_idx)
    y = np.empty((*indices.shape, spec.width), spec.dtype)
    # whole rows are copied: NumPy's own C does that at the speed of memory; the numbers have been checked
    np.take(contiguous(weight, spec.dtype), contiguous(indices, INT64), 0, out=y, mode="clip")
    return y


def embedding_backward(dy: Floats, indices: Labels, num_embeddings: int, padding_idx: int | None = None) -> Floats:
    """Gradient of an embedding's table: for each row, the sum of what came back wherever it was used.

    Parameters
    ----------
    dy : ndarray, shape (*indices.shape, width)
        Gradient of the output.
    indices : ndarray of int
        As in the forward pass.
    num_embeddings : int
        Rows of the table.
    padding_idx : int, optional
        The row whose gradient stays 0.

    Returns
    -------
    ndarray, shape (num_embeddings, width)
        Each sum in the order of ``indices``, so the bits do not depend on threads.
    """
    return _gradient(embedding_backward_spec(dy, indices, num_embeddings, padding_idx), dy, indices)


@in_float32
def _gradient(spec, dy, indices):
    dweight = np.empty((spec.rows, spec.width), spec.dtype)
    if dweight.size:
        backward_plan(spec).run(contiguous(dy, spec.dtype).reshape(indices.size, spec.width),
                                contiguous(indices, INT64).reshape(-1), dweight)
    return dweight
