"""Implicit matrix product with pixels in the lanes: which convolutions take it, and in how large panels."""

from math import prod

from convkit import settings
from convkit.plan import geometry
from convkit.plan.common import Packing

# What the panels of one task may hold: they stay in L2 while all filters pass by.
PANEL_BYTES = 256 * 1024
VECTORS = 3  # of a panel; 2 and 4 are 2-5 % slower on most layers
MOST_TAPS = 4096  # the tile closes at most this many in one go
LONG_ROW = 256  # pixels; shorter rows fill the panels in many pieces
FEW_TAPS = 32  # as long as the store of a direct tile takes
LARGE_SOURCE = 1024 * 1024  # bytes
FEWEST_FILTERS = 8  # that a filled panel must serve


def rejects(spec, _isa):
    """Why it cannot compute ``spec``; None if it can."""
    if any(len(axis.phases) != 1 or axis.phases[0].step != 1 for axis in geometry.axes(spec)):
        return "is for targets that share their taps: not for input gradients of stride 2 and more"
    if _taps(spec) > MOST_TAPS:
        return f"is for sums of at most {MOST_TAPS} products, not {_taps(spec)}"
    return None


def loses(spec, _isa):
    """Why it should not compute ``spec``; None if it pays."""
    three = geometry.axes(spec)
    filters = spec.c_out_per_group if spec.direction == "forward" else spec.c_in_per_group
    if filters < FEWEST_FILTERS:
        return f"pays from {FEWEST_FILTERS} filters per group, not with {filters}"
    pixels = prod(a.target for a in three)
    if prod(spec.kernel) == 1 and pixels >= LONG_ROW:
        return None
    if three[2].target < LONG_ROW:
        return f"pays on rows of {LONG_ROW} pixels, not of {three[2].target}"
    if three[0].source * three[1].source * three[2].source * _channels(spec) * spec.dtype.itemsize > LARGE_SOURCE:
        return "would read a source that is larger than the cache once for every position of the kernel"
    if three[2].source_step > 1 and _taps(spec) > FEW_TAPS:
        return f"with a stride pays up to {FEW_TAPS} products a pixel, not with {_taps(spec)}"
    return None


class Sums(Packing):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same on kernels turned around with channels and
    filters exchanged.
    """

    def __init__(self, spec, isa):
        self.kernel = _kernel(spec, isa)
        self.pack_key = ("gemm", isa, self.kernel.vectors, spec.direction)

    def with_packed(self, x, packed, bias, y):
        self.kernel.run(x.reshape(-1), packed, bias, y.reshape(-1), x.shape[0], settings.get_threads())


def _channels(spec):
    return spec.c_in if spec.direction == "forward" else spec.c_out


def _taps(spec):
    return _channels(spec) // spec.groups * prod(spec.kernel)


def _kernel(spec, isa):
    from convkit.kernels import conv, gemm

    three = geometry.axes(spec)
    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    (_, taps), = geometry.phases(three)
    shift = [[o - a.lo for o, a in zip(offset, three, strict=True)] for _, offset in taps]
    lanes, _ = conv.tile_limits(isa, spec.dtype.itemsize)
    panel_bytes = _taps(spec) * VECTORS * lanes * spec.dtype.itemsize
    return gemm.Gemm(
        spec.dtype, isa, spec.groups, channels, filters, [a.source for a in three], [a.target for a in three],
        [a.source_step for a in three], [tap for tap, _ in taps], shift, VECTORS, max(1, PANEL_BYTES // panel_bytes),
        spec.macs, geometry.weight_strides(spec))
