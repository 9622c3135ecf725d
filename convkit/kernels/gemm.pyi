from collections.abc import Sequence
from typing import Any

import numpy as np

from convkit.kernels.elementwise import Finish

class Gemm:
    packed_size: int
    vectors: int
    panels: int
    plain: bool
    def __init__(
        self,
        dtype: np.dtype,
        isa: str,
        groups: int,
        channels: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        step: Sequence[int],
        target_step: Sequence[int],
        shares: Sequence[tuple[Any, ...]],
        vectors: int,
        panels: int,
        macs: int,
        w_strides: Sequence[int],
        by_place: bool,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def pack(self, w: np.ndarray) -> np.ndarray: ...
    def run(
        self, x: np.ndarray, packed: np.ndarray, bias: np.ndarray | None, y: np.ndarray, n: int, threads: int,
        then: Finish | None = None,
    ) -> None: ...
