from typing import Any

import numpy as np

PACKED: int
COLUMNS: int
ROWS: int

def most_vectors(isa: str, itemsize: int) -> int: ...

class Product:
    def __init__(self, isa: str, dtype: np.dtype[Any], vectors: int, row_vectors: int = 1) -> None: ...
    def pack_rows(self, b: np.ndarray, threads: int) -> np.ndarray: ...
    def multiply(
        self,
        a: np.ndarray,
        b: np.ndarray,
        layout: int,
        bias: np.ndarray | None,
        c: np.ndarray,
        a_is_transposed: bool,
        threads: int,
    ) -> None: ...
