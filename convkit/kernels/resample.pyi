import numpy as np

class Resample:
    workspace_bytes: int
    def __init__(
        self,
        isa: str,
        itemsize: int,
        source: list[int],
        target: list[int],
        lists: list[tuple[np.ndarray, np.ndarray, np.ndarray, int, bool, tuple[int, int], int, bool]],
    ) -> None: ...
    def __call__(self, x: np.ndarray, y: np.ndarray, threads: int, value: float = 0) -> None: ...
