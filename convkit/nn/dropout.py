"""Dropout."""

import numpy as np

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class Dropout(Module):
    """In training, sets elements to 0 with probability ``p`` and multiplies the others by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float
    inplace : bool
        Taken for PyTorch's sake: ``x`` is never overwritten.
    rng : numpy.random.Generator, optional
        Source of the masks; give a seeded one for the same masks again.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rng: np.random.Generator | None = None) -> None:
        self.p = common.real("p", p, 0.0, 1.0, "between 0 and 1")
        self.inplace = inplace
        self.rng = np.random.default_rng() if rng is None else rng

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, mask = F.dropout(x, self.p, self.training, rng=self.rng)
        return y, lambda dy: F.dropout_backward(dy, mask, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
