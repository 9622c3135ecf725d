"""Winograd's F(4x4, 3x3) in every slice of depth: which convolutions take it, and in how large blocks.

The error of a tile is bounded by its largest inputs, not by each window's (``precision="strict"`` refuses it), and an
image that holds a NaN, an infinity or a number near the end of the range is computed directly.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from convkit import settings
from convkit.plan import direct, geometry
from convkit.plan.common import Packing

POINTS = 36
FEWEST_SUMMED = 4  # channels: errors of several even out; one alone reaches 8.3 eps T without fused multiply-adds
FEWEST_CHANNELS = 16  # and twice that in each of several groups, whose products are small
FEWEST_TILES = 9
SMALLEST_PART = 12  # of a dilated convolution, whose residues are computed apart
TRANSFORMS = 1.25  # what a tile costs, in that of its multiplications
# What a round keeps in a large L2: the transformed input and the sums of a panel.
BLOCK_BYTES = 768 * 1024
# Weights that do not fit in L2 come from farther away in every round, so rounds grow with them.
WEIGHTS_PER_BLOCK = 8
# Tiles of the smallest round that a thread is given for its own: fewer do not hide the reading of all weights, or where
# those stay in L2, their way from there.
OWN_TILES, OWN_TILES_FROM_L2 = 32, 8


def rejects(spec, _isa):
    """Why Winograd cannot compute ``spec``; None if it can."""
    if settings.choice()[2] == "strict":
        return "its error is not bounded in every window, which precision='strict' asks for"
    if spec.rank == 1 or spec.kernel[-2:] != (3, 3):
        return f"is for kernels of 3 x 3 or depth x 3 x 3, not {spec.kernel}"
    if spec.stride[-2:] != (1, 1):
        return f"is for stride 1 in height and width, not {spec.stride}"
    if spec.direction != "forward" and spec.stride != (1,) * spec.rank:
        return f"is for input gradients of stride 1, not {spec.stride}"
    if spec.dtype.itemsize != 4:
        return f"is for float32, not {spec.dtype}"
    if not all(axis.phases for axis in geometry.axes(spec)):
        return "every window holds only padding"
    summed = spec.c_in_per_group if spec.direction == "forward" else spec.c_out_per_group
    if summed < FEWEST_SUMMED:
        return f"is for sums over {FEWEST_SUMMED} channels and more, not {summed}: fewer could exceed its error bound"
    return None


def loses(spec, _isa):
    """Why it should not compute ``spec``; None if it pays."""
    fewest = FEWEST_CHANNELS * (1 if spec.groups == 1 else 2)
    if min(spec.c_in_per_group, spec.c_out_per_group) < fewest:
        return (f"pays from {fewest} channels and filters per group, not with {spec.c_in_per_group} and "
                f"{spec.c_out_per_group}")
    *depth, height, width = spec.out_size if spec.direction == "forward" else spec.size
    if any(d > 1 and _part(n, d) < SMALLEST_PART for n, d in zip((height, width), spec.dilation[-2:], strict=True)):
        return f"with dilation {spec.dilation[-2:]} parts of {height} x {width} are smaller than {SMALLEST_PART}"
    tiles = prod(d * -(-_part(n, d) // 4) for n, d in zip((height, width), spec.dilation[-2:], strict=True))
    if tiles * prod(depth) < FEWEST_TILES:
        return (f"pays from {FEWEST_TILES} tiles of 4 x 4, not with {tiles * prod(depth)}: its weights are four times "
                "as large")
    if POINTS * tiles * TRANSFORMS > 9 * height * width:
        return f"{tiles} tiles of 4 x 4 on {height} x {width} outputs are mostly empty"
    return None


class Sums(Packing):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same on kernels turned by 180 degrees with
    channels and filters exchanged.

    With dilation d the targets of one residue modulo d, in height and width, and the inputs that they meet are a plain
    convolution of their own: d * d images instead of one.
    """

    def __init__(self, spec, isa):
        self.spec, self.isa = spec, isa
        self.apart = spec.dilation[-2:]
        self.planes = _planes(spec)
        self.kernel = _kernel(spec, isa, self.planes)
        self.pack_key = ("winograd", isa, self.kernel.vectors, spec.direction)

    def pack(self, weight):
        return super().pack(weight), weight.copy()  # a reference would look like a user's

    def with_packed(self, x, packed, bias, y):
        at_points, weight = packed
        if self.apart == (1, 1):
            out_of_range = self._run(x, at_points, bias, y, len(x))
        else:
            out_of_range = self._run_apart(x, at_points, bias, y)
        if out_of_range:
            by_window = direct.Sums(self.spec, self.isa)
            panels = by_window.pack(weight)
            for image in sorted({i // prod(self.apart) for i in out_of_range}):
                by_window.with_packed(x[image:image + 1], panels, bias, y[image:image + 1])

    def _run(self, x, at_points, bias, y, n):
        return self.kernel.run(x.reshape(-1), at_points, bias, y.reshape(-1), n, settings.get_threads())

    def _run_apart(self, x, at_points, bias, y):
        """Every residue's targets, and what they meet of the source, as an image of its own."""
        from convkit.kernels import winograd

        def parts(array, sides):
            planes = prod(array.shape[1:-2])
            return (array.reshape(len(x), planes, *array.shape[-2:]),
                    np.empty((len(x), *self.apart, planes, *sides), x.dtype))

        threads = settings.get_threads()
        source, source_parts = parts(x, [p.source for p in self.planes])
        target, target_parts = parts(y, [p.target for p in self.planes])
        winograd.take_apart(source, source_parts, [p.lo for p in self.planes], threads)
        out_of_range = self._run(source_parts, at_points, bias, target_parts, len(x) * prod(self.apart))
        winograd.put_together(target_parts, target, threads)
        return out_of_range


@dataclass(frozen=True, slots=True)
class _Plane:
    """Height or width of what the kernel computes: target j meets source j - lo, j + 1 - lo and j + 2 - lo."""

    source: int
    target: int
    lo: int


def _part(n, dilation):
    return -(-n // dilation)


def _planes(spec):
    forward = spec.direction == "forward"
    in_parts = spec.dilation[-2:] != (1, 1)
    planes = []
    for x, y, (before, _), d in zip(spec.size[-2:], spec.out_size[-2:], spec.padding[-2:], spec.dilation[-2:],
                                    strict=True):
        source, target, lo = (x, y, before) if forward else (y, x, 2 * d - before)
        planes.append(_Plane(_part(target, d) + 2, _part(target, d), lo) if in_parts else _Plane(source, target, lo))
    return tuple(planes)


def _kernel(spec, isa, planes):
    from convkit.kernels import conv, winograd

    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    depth = geometry.axes(spec)[0]
    shift = [offset - depth.lo for _, offset in depth.phases[0].taps]
    lo = [p.lo if spec.dilation[-2:] == (1, 1) else 0 for p in planes]  # parts hold their zeros
    rows, columns = (-(-p.target // 4) for p in planes)
    group_channels, group_filters = channels // spec.groups, filters // spec.groups
    lanes, most = conv.tile_limits(isa, 4)
    row_bytes = POINTS * 4 * channels * (columns + 1)
    weight_bytes = POINTS * 4 * channels * len(shift) * group_filters
    block, slices, images = _block(rows, depth, row_bytes, max(BLOCK_BYTES, weight_bytes // WEIGHTS_PER_BLOCK))
    vectors = geometry.tile_vectors(group_filters, [(columns, block * slices * images)], group_channels * len(shift),
                                    lanes, most)
    return winograd.Winograd(
        isa, spec.groups, channels, filters, [depth.source, *(p.source for p in planes)],
        [depth.target, *(p.target for p in planes)], lo, depth.source_step, shift, block, slices, images, vectors,
        OWN_TILES_FROM_L2 if weight_bytes <= BLOCK_BYTES else OWN_TILES, spec.macs, geometry.weight_strides(spec),
        not forward)


def _block(rows, depth, row_bytes, budget):
    """Rows of tiles and output slices of a round, and of how many images: as many as the budget holds, evenly.

    Slices come first: what a kernel reads beyond a block of them is transformed twice, but rows are transformed once.
    """
    most = max(1, budget // row_bytes)  # rows of tiles of all source slices
    slices, read = depth.target, depth.extent(depth.target)
    while read > most and slices > 1 and read > 2 * depth.extent(1):
        slices = -(-slices // 2)
        read = depth.extent(slices)
    most //= read
    if slices == depth.target and most >= rows:
        return rows, slices, most // rows
    rounds = -(-rows // max(1, most))
    block = -(-rows // rounds)
    return block + (block % 2 if block < most else 0), slices, 1
