import numpy as np

KERNELS: tuple[str, ...]

class Norm:
    def __init__(self, name: str, isa: str, itemsize: int, eps: float = 0.0) -> None: ...
    def sums(self, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...
    def forward(
        self,
        x: np.ndarray,
        mean: np.ndarray | None,
        var: np.ndarray | None,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        momentum: float,
        y: np.ndarray,
        saved: np.ndarray | None,
        threads: int,
        line: np.ndarray | None = None,
    ) -> None: ...
    def backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        mean: np.ndarray | None,
        var: np.ndarray | None,
        saved: np.ndarray | None,
        dx: np.ndarray,
        dweight: np.ndarray,
        dbias: np.ndarray,
        threads: int,
        line: np.ndarray | None = None,
    ) -> None: ...
    def multiply(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        y: np.ndarray,
        threads: int,
        dy: np.ndarray | None = None,
        dweight: np.ndarray | None = None,
    ) -> None: ...
    def respond(
        self,
        x: np.ndarray,
        y: np.ndarray,
        window: int,
        alpha: float,
        beta: float,
        k: float,
        threads: int,
        dy: np.ndarray | None = None,
        part: np.ndarray | None = None,
    ) -> None: ...
    def forward_rows(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        y: np.ndarray,
        saved: np.ndarray | None,
        groups: int,
        affine: int,
        threads: int,
    ) -> None: ...
    def backward_rows(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        saved: np.ndarray | None,
        dx: np.ndarray,
        groups: int,
        affine: int,
        threads: int,
    ) -> tuple[np.ndarray, np.ndarray]: ...
