"""Dropout."""

import numpy as np

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec import common
from convkit.typing import Backward, Floats


class _Dropout(Module):
    """What dropouts share; a subclass names its ``function`` in ``convkit.functional``."""

    function = ""

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rng: np.random.Generator | None = None) -> None:
        self.p = common.real("p", p, 0.0, 1.0, "between 0 and 1")
        self.inplace = inplace
        self.rng = np.random.default_rng() if rng is None else common.generator("rng", rng)

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y, mask = getattr(F, self.function)(x, self.p, self.training, rng=self.rng)
        backward = getattr(F, f"{self.function}_backward")
        return y, lambda dy: backward(dy, mask, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, sets elements to 0 with probability ``p`` and multiplies the others by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float
    inplace : bool
        Taken for PyTorch's sake: ``x`` is never overwritten.
    rng : numpy.random.Generator, optional
        Source of the masks; give a seeded one for the same masks again.
    """

    function = "dropout"


class Dropout1d(_Dropout):
    """As ``Dropout``, for whole channels of ``x (N, C, L)`` or ``(C, L)``."""

    function = "dropout1d"


class Dropout2d(_Dropout):
    """As ``Dropout``, for whole channels of ``x (N, C, H, W)`` or ``(C, H, W)``."""

    function = "dropout2d"


class Dropout3d(_Dropout):
    """As ``Dropout``, for whole channels of ``x (N, C, D, H, W)`` or ``(C, D, H, W)``."""

    function = "dropout3d"
