"""Layers between images and the columns of their windows."""

from convkit import functional as F
from convkit.nn.module import Module
from convkit.spec.fold import check_window
from convkit.typing import Backward, Floats, Padding, Size


class Unfold(Module):
    """Every window of an image as a column; see ``functional.unfold``.

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or tuple
    """

    output_size: Size | None = None

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Padding = 0, stride: Size = 1) -> None:
        check_window(self.output_size, kernel_size, dilation, padding, stride)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def _window(self):
        return self.kernel_size, self.dilation, self.padding, self.stride

    def predict(self, x: Floats) -> Floats:
        return F.unfold(x, *self._window())

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        shape, window = x.shape, self._window()
        return F.unfold(x, *window), lambda dy: F.unfold_backward(dy, shape, *window)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size!r}, dilation={self.dilation!r}, padding={self.padding!r}, "
                f"stride={self.stride!r}")


class Fold(Unfold):
    """Adds up windows, each where it lies in the image; see ``functional.fold``.

    Parameters
    ----------
    output_size : int or tuple
        Size of the image.
    kernel_size, dilation, padding, stride : int or tuple
    """

    def __init__(self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Padding = 0,
                 stride: Size = 1) -> None:
        self.output_size = output_size
        super().__init__(kernel_size, dilation, padding, stride)

    def predict(self, x: Floats) -> Floats:
        return F.fold(x, self.output_size, *self._window())

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        window = self._window()
        return F.fold(x, self.output_size, *window), lambda dy: F.fold_backward(dy, *window)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size!r}, {super().extra_repr()}"
