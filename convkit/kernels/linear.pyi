from typing import Any

import numpy as np

class Panels:
    data: np.ndarray
    dtype: np.dtype[Any]
    isa: str
    depth: int
    columns: int
    vectors: int
    lanes: int
    def __init__(self, dtype: np.dtype[Any], isa: str, depth: int, columns: int, vectors: int) -> None: ...
    def pack_columns(self, b: np.ndarray) -> None: ...
    def pack_rows(self, b: np.ndarray) -> None: ...

def multiply(
    a: np.ndarray, b: Panels, bias: np.ndarray | None, c: np.ndarray, a_is_transposed: bool, threads: int
) -> None: ...
