from collections.abc import Sequence

import numpy as np

class Winograd:
    vectors: int
    block: int
    slices: int
    images: int
    def __init__(
        self,
        isa: str,
        groups: int,
        channels: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        kernel: Sequence[int],
        lo: Sequence[int],
        depth_step: int,
        shift: Sequence[int],
        block: int,
        slices: int,
        images: int,
        vectors: int,
        macs: int,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def run(self, dy: np.ndarray, x: np.ndarray, dw: np.ndarray, n: int, threads: int) -> bool: ...
