from collections.abc import Sequence

import numpy as np

KERNELS: tuple[str, ...]

class Step:
    def __init__(self, name: str, isa: str, itemsize: int) -> None: ...
    def __call__(
        self,
        parameters: Sequence[
            tuple[
                np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None, float, float
            ]
        ],
        rule: object,
        threads: int,
    ) -> None: ...
