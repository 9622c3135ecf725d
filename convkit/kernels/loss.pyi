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
