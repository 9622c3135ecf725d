from collections.abc import Sequence

import numpy as np

from convkit.kernels.elementwise import Finish

def variants(isa: str, itemsize: int) -> list[tuple[str, int, int, int, bool, bool, int]]: ...

class Depthwise:
    variant: str
    def __init__(
        self,
        dtype: np.dtype,
        isa: str,
        variant: str,
        groups: int,
        planes: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        lo: Sequence[int],
        source_step: Sequence[int],
        dilation: Sequence[int],
        block: Sequence[int],
        blocks: Sequence[int],
        box: Sequence[int],
        plane_pitch: int,
        w_steps: tuple[int, int, int],
        reversed: bool,
        phases: Sequence[tuple],
        slab: int,
        work: float,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def packs(self) -> bool: ...
    def pack(self, w: np.ndarray) -> np.ndarray: ...
    def sum(
        self,
        source: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        target: np.ndarray,
        n: int,
        threads: int,
        packed: bool = ...,
        then: Finish | None = ...,
    ) -> None: ...
    def dot(self, dy: np.ndarray, x: np.ndarray, dw: np.ndarray, n: int, threads: int) -> None: ...
