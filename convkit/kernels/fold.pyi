import numpy as np

KERNELS: tuple[str, ...]

class Fold:
    def __init__(
        self,
        name: str,
        isa: str,
        itemsize: int,
        size: tuple[int, ...],
        out: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[tuple[int, int], ...],
        dilation: tuple[int, ...],
    ) -> None: ...
    def __call__(self, source: np.ndarray, target: np.ndarray, threads: int) -> None: ...
