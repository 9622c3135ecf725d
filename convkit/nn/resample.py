"""Layers that resample."""

from collections.abc import Sequence

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec.resample import check_options
from convkit.typing import Backward, Floats, Size


class Upsample(Module):
    """Reads images at other places, more or fewer of them; see ``functional.interpolate``.

    Parameters
    ----------
    size : int or tuple of int, optional
        Of the output, or else
    scale_factor : float or tuple of float, optional
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear"}
    align_corners : bool, optional
    recompute_scale_factor : bool, optional
    """

    def __init__(self, size: Size | None = None, scale_factor: float | Sequence[float] | None = None,
                 mode: str = "nearest", align_corners: bool | None = None,
                 recompute_scale_factor: bool | None = None) -> None:
        self.size = size
        self.scale_factor = check_options(size, scale_factor, mode)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def _options(self):
        return self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor

    def predict(self, x: Floats) -> Floats:
        return F.interpolate(x, *self._options())

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        options, shape = self._options(), x.shape
        return F.interpolate(x, *options), lambda dy: F.interpolate_backward(dy, shape, *options)

    def extra_repr(self) -> str:
        given = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{given}, mode={self.mode!r}"
