from collections.abc import Sequence

import numpy as np

class Gemm:
    packed_size: int
    vectors: int
    panels: int
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
        positions: Sequence[int],
        shift: Sequence[Sequence[int]],
        vectors: int,
        panels: int,
        macs: int,
        w_strides: Sequence[int],
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def pack(self, w: np.ndarray) -> np.ndarray: ...
    def run(
        self, x: np.ndarray, packed: np.ndarray, bias: np.ndarray | None, y: np.ndarray, n: int, threads: int
    ) -> None: ...
