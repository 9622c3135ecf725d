from collections.abc import Sequence

import numpy as np

from convkit.kernels.elementwise import Finish

class Winograd:
    packed_size: int
    vectors: int
    extents: Sequence[tuple[int, int, int]]
    def __init__(
        self,
        isa: str,
        groups: int,
        channels: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        lo: Sequence[int],
        depth_step: int,
        shift: Sequence[int],
        extents: Sequence[tuple[int, int, int]],
        vectors: int,
        fewest_tiles: int,
        macs: int,
        w_strides: Sequence[int],
        turned: bool,
        side: int,
        taps: int,
        kernel: Sequence[int],
        line: Sequence[int] | None,
        stride: int,
        sums: Sequence[Sequence[tuple[int, int]]],
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def pack(self, w: np.ndarray) -> np.ndarray: ...
    def run(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, n: int, threads: int,
        then: Finish | None = None, packed: bool = True,
    ) -> list[int]: ...

def take_apart(x: np.ndarray, parts: np.ndarray, lo: Sequence[int], threads: int) -> None: ...
def put_together(parts: np.ndarray, y: np.ndarray, threads: int) -> None: ...
