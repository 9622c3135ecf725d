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
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def forward(self, x: np.ndarray, y: np.ndarray, indices: np.ndarray | None, threads: int) -> None: ...
    def backward(self, dy: np.ndarray, indices: np.ndarray | None, dx: np.ndarray, threads: int) -> bool: ...
