"""Embedding without state."""

from convkit.functional.common import as_they_are, contiguous, in_float32
from convkit.plan.calls import empty, planned
from convkit.plan.embedding import backward_plan, plan
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
    y = _lookup(indices, weight, padding_idx)(indices, weight)
    if y is None:
        embedding_spec(indices, weight, padding_idx)  # which says what is wrong
    return y


@planned
def _lookup(indices, weight, padding_idx):
    """What computes such calls; it returns None where a number is no row."""
    spec = embedding_spec(indices, weight, padding_idx)
    shape, dtype, run = (*indices.shape, spec.width), spec.dtype, plan(spec).run
    plain = as_they_are(dtype, indices, weight)

    def call(indices, weight):
        y = empty(shape, dtype)
        if not y.size:
            return y if not indices.size or 0 <= indices.min() <= indices.max() < spec.rows else None
        if not plain:
            indices, weight = contiguous(indices, INT64), contiguous(weight, dtype)
        return y if run(indices, weight, y) else None

    return call


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
    dweight = empty((spec.rows, spec.width), spec.dtype)
    if dweight.size:
        backward_plan(spec).run(contiguous(dy, spec.dtype).reshape(indices.size, spec.width),
                                contiguous(indices, INT64).reshape(-1), dweight)
    return dweight
