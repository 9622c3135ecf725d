"""The table of vectors that stand for numbers."""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from convkit import functional as F
from convkit.nn.module import Module
from convkit.nn.parameter import Parameter, memory_for
from convkit.spec import common
from convkit.spec.embedding import padding_row
from convkit.typing import Floats, Labels


class Embedding(Module):
    """``weight[indices]``: a learned vector for each of ``num_embeddings`` numbers.

    As the first layer it has no gradient to hand on: its backward returns None.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    padding_idx : int, optional
        The row that is 0 at first and learns nothing.
    rng : numpy.random.Generator, optional
        Source of the first weights: normal, as in PyTorch.
    dtype : float16, float32 or float64
    """

    can_skip_dx = True

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
                 rng: np.random.Generator | None = None, dtype: DTypeLike = np.float32) -> None:
        self.num_embeddings = common.integer("num_embeddings", num_embeddings, 1)
        self.embedding_dim = common.integer("embedding_dim", embedding_dim, 1)
        self.padding_idx = padding_row(padding_idx, self.num_embeddings)
        dtype = common.float_dtype("dtype", dtype)
        shape = (self.num_embeddings, self.embedding_dim)
        rng = np.random.default_rng() if rng is None else common.generator("rng", rng)
        with memory_for("the weight", shape, dtype):
            values = rng.standard_normal(shape, np.promote_types(dtype, np.float32)).astype(dtype, copy=False)
            if self.padding_idx is not None:
                values[self.padding_idx] = 0
            self.weight = Parameter(values)

    def __call__(self, indices: Labels) -> Floats:
        return self.predict(indices)

    def predict(self, indices: Labels) -> Floats:  # type: ignore[override]
        return F.embedding(indices, self.weight._data, self.padding_idx)

    def forward(self, indices: Labels) -> tuple[Floats, Callable[..., None]]:  # type: ignore[override]
        def backward(dy, need_dx=False):
            if self.weight.requires_grad:
                self.weight.add_grad(F.embedding_backward(dy, indices, self.num_embeddings, self.padding_idx))

        return self.predict(indices), backward

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
