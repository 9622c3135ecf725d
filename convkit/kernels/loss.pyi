import numpy as np

KERNELS: tuple[str, ...]

class PairLoss:
    def __init__(self, name: str, isa: str, itemsize: int, beta: float = 0.0) -> None: ...
    def forward(
        self,
        x: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        pos_weight: np.ndarray | None,
        y: np.ndarray | None,
        threads: int,
    ) -> float: ...
    def backward(
        self,
        x: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        pos_weight: np.ndarray | None,
        scale: float | np.ndarray,
        dx: np.ndarray,
        threads: int,
    ) -> None: ...
    def overlap(self, x: np.ndarray, target: np.ndarray, threads: int) -> np.ndarray: ...

class Picked:
    def __init__(self, itemsize: int, outer: int, classes: int, inner: int) -> None: ...
    def losses(
        self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignored: int, y: np.ndarray | None,
        threads: int,
    ) -> tuple[float, float]: ...
    def backward(
        self, target: np.ndarray, weight: np.ndarray | None, ignored: int, share: np.ndarray, dx: np.ndarray,
        threads: int,
    ) -> None: ...

def count_targets(target: np.ndarray, classes: int, ignored: int) -> int: ...
