import numpy as np

KERNELS: tuple[str, ...]

class Softmax:
    def __init__(self, name: str, isa: str, itemsize: int) -> None: ...
    def forward(self, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...
    def backward(self, dy: np.ndarray, y: np.ndarray, dx: np.ndarray, threads: int) -> None: ...
    def entropy(
        self,
        logits: np.ndarray,
        target: np.ndarray | None,
        hit: np.ndarray | None,
        every: np.ndarray | None,
        soft: np.ndarray | None,
        y: np.ndarray,
        threads: int,
    ) -> None: ...
