from collections.abc import Sequence

import numpy as np

MAX_INDEXED: int
KERNELS: tuple[str, ...]

class Pool:
    def __init__(
        self,
        name: str,
        isa: str,
        itemsize: int,
        size: Sequence[int],
        out: Sequence[int],
        kernel: Sequence[int] = ...,
        stride: Sequence[int] = ...,
        padding: Sequence[tuple[int, int]] = ...,
        dilation: Sequence[int] = ...,
        include_pad: bool = True,
        divisor: int = 0,
        power: float = 1,
        whole: float = 1,
        adaptive: bool = False,
        lanes: int = 0,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def run(
        self,
        source: np.ndarray,
        target: np.ndarray,
        threads: int,
        chosen: np.ndarray | None = None,
        x: np.ndarray | None = None,
        y: np.ndarray | None = None,
    ) -> bool: ...
