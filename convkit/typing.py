"""The types in public signatures, for people who check theirs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float16, float32 or float64
Indices = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

Size = int | Sequence[int]  # one for all axes, or one per axis
AdaptiveSize = int | Sequence[int | None] | None  # of an output; None along an axis keeps the input's
Padding = int | str | Sequence[int | tuple[int, int]]

Backward = Callable[..., Floats]  # what a layer's ``forward`` returns beside its output: ``dx = backward(dy)``
