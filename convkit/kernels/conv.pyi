from collections.abc import Sequence
from typing import Any

import numpy as np

from convkit.kernels.elementwise import Finish

BLOCK_PIXELS: int
SHORT_TAPS: int
STEPPED_VECTORS: int
CHUNK_TAPS: int

def tile_limits(isa: str, itemsize: int) -> tuple[int, tuple[int, ...]]: ...
def has_grids(isa: str, itemsize: int) -> bool: ...

class Direct:
    packed_size: int
    vectors: int
    most_pixels: int
    lanes: int
    images: int
    by_position: bool
    grids: bool
    by_chunk: bool
    in_place: bool
    def __init__(
        self,
        dtype: np.dtype[Any],
        isa: str,
        groups: int,
        channels: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        lo: Sequence[int],
        source_step: Sequence[int],
        block: Sequence[int],
        box: Sequence[int],
        channel_pitch: int,
        images: int,
        in_place: bool,
        by_position: bool,
        grids: bool,
        by_chunk: bool,
        apart: bool,
        vectors: int,
        macs: int,
        phases: Sequence[tuple[Any, ...]],
        w_strides: Sequence[int],
        kernel_size: int,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def pack(self, w: np.ndarray) -> np.ndarray: ...
    def run(
        self, x: np.ndarray, packed: np.ndarray, bias: np.ndarray | None, y: np.ndarray, n: int, threads: int,
        then: Finish | None = None,
    ) -> None: ...

class WeightGradient:
    vectors: int
    most_pixels: int
    lanes: int
    images: int
    in_place: bool
    turned: bool
    def __init__(
        self,
        dtype: np.dtype[Any],
        isa: str,
        groups: int,
        channels: int,
        filters: int,
        source: Sequence[int],
        target: Sequence[int],
        lo: Sequence[int],
        stride: Sequence[int],
        block: Sequence[int],
        box: Sequence[int],
        channel_lanes: int,
        images: int,
        vectors: int,
        macs: int,
        bases: Sequence[int],
        taps: Sequence[Sequence[int]],
        inside: Sequence[Sequence[int]] | None = None,
        in_place: bool = False,
        turned: bool = False,
    ) -> None: ...
    @property
    def workspace_bytes(self) -> int: ...
    def run(
        self, dy: np.ndarray, x: np.ndarray, dw: np.ndarray, n: int, threads: int, skip: bool = False,
    ) -> None: ...
