import numpy as np

KERNELS: tuple[str, ...]

class Elementwise:
    def __init__(self, name: str, isa: str, itemsize: int, a: float = 0.0, b: float = 0.0) -> None: ...
    def __call__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        threads: int,
        other: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None: ...

def widen(isa: str, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...
def narrow(isa: str, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...
