"""Direct convolution by the channels-in-lanes tiles: how a spec becomes one of the objects of ``kernels.conv``.

Tiles and boxes are chosen by shape alone, so that results never depend on batch size or threads.
"""

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from convkit import settings
from convkit.plan import geometry
from convkit.plan.common import Packing

# Kernel positions in the padding are left out from so many channels on (their taps are one run, and a run is a
# reduction of its own), where at most this part of all meets the source: taps by position find less of x in L1.
LONG_RUN = 16
MOST_INSIDE = 7 / 8
MOST_INSIDE_OF_GRIDS = 0.91  # of stride 1, which take each position with the very pixels that it takes to the source
# And a weight gradient, pixels of maps as small as this, all images of one in a run; of so many times the images else.
FEW_TARGETS = 16
MOST_INSIDE_OF_FEW = 3 / 4
MANY_IMAGES = 4
WIDE_PIXEL = 64  # channels from which on a weight gradient's rows are those of one pixel, where lines must lie apart
GRID_VECTORS = 3  # of most panels in grids; one or two at the end have 2
MANY_VECTORS = 7  # of filters, so that a single one at the end does not matter where panels have two
NEAR_BYTES = 256 * 1024  # of the sums of all panels of a box and what a chunk of their taps meets: they stay in L2
MOST_SLOTS = 1.05  # of a panel in grids, over those of the best tiles


class Sums(Packing):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same on rotated weights with channels and
    filters exchanged.
    """

    def __init__(self, spec, isa):
        three = geometry.axes(spec)
        self.kernel = _sums(spec, isa, three)
        self.complete = all(axis.complete for axis in three)
        self.finishes = self.adds = all(axis.phases[0].step == 1 for axis in three)
        taps = tuple(tuple(tuple(tap for tap, _ in phase.taps) for phase in axis.phases) for axis in three)
        self.pack_key = ("direct", isa, self.kernel.vectors, self.kernel.by_position, self.kernel.grids,
                         self.kernel.by_chunk, spec.direction, taps)

    def with_packed(self, x, packed, bias, y, then=None):
        if not self.complete:
            fill(y, bias)
        self.kernel.run(x, packed, bias, y, x.shape[0], settings.get_threads(), then)


class Untouched:
    """Runs ``(dy, weight, bias, dx)`` where every window holds only padding along some axis."""

    workspace_bytes = 0

    def __call__(self, dy, weight, bias, dx):
        fill(dx, bias)


def fill(y, bias):
    """What an output holds that no tap reaches."""
    y[...] = 0 if bias is None else bias.reshape(-1, *[1] * (y.ndim - 2))


def input_gradient(spec, isa):
    """The object that runs ``(dy, weight, bias, dx)``."""
    return Sums(spec, isa) if all(axis.phases for axis in geometry.axes(spec)) else Untouched()


class WeightGradient:
    """Runs ``(dy, x, dw)``. Of a map that is little but padding the pixels that a kernel position takes to the padding
    are left out, unless one is not finite: infinity times padding is NaN.
    """

    def __init__(self, spec, isa):
        three = [geometry.forward_axis(*row) for row in geometry.canonical(spec)]
        self.skips = _axes_to_skip(spec, three)
        self.kernel = _weight_sums(spec, isa, three, self.skips)

    def __call__(self, dy, x, dw):
        skip = self.skips and bool(np.isfinite(dy).all())
        if self.kernel.turned:
            dy, x = x, dy
        self.kernel.run(dy.reshape(-1), x.reshape(-1), dw.reshape(-1), x.shape[0], settings.get_threads(), skip)

    @property
    def workspace_bytes(self):
        return self.kernel.workspace_bytes


def has_grids(three, filters, isa, itemsize, apart=False):
    """Whether there are grids of tiles for it: of stride 1 along rows, or with even and odd columns of a box ``apart``;
    of more filters than a vector has.
    """
    from convkit.kernels import conv

    return ((apart or three[2].source_step == 1) and conv.has_grids(isa, itemsize)
            and filters > conv.tile_limits(isa, itemsize)[0])


def in_place_in_grids(three, filters, isa, itemsize):
    """Whether they read the source itself, whatever its size."""
    return (has_grids(three, filters, isa, itemsize) and geometry.in_rows(three, itemsize)
            and all(a.source_step == 1 and [phase.step for phase in a.phases] == [1] for a in three))


@dataclass(frozen=True, slots=True)
class Way:
    """How the sums of a spec are computed: which the plan and its cost both read.

    Attributes
    ----------
    in_place : bool
        The tiles read the source itself.
    grids : bool
        They are summed in grids.
    by_chunk : bool
        All panels take a chunk of the taps before the next one.
    apart : bool
        Boxes have even and odd columns apart.
    by_position : bool
        Kernel positions in the padding are left out.
    vectors : int
        Of most panels.
    block, box : tuple of int
        Targets of a box, and the source elements that it holds.
    """

    in_place: bool
    grids: bool
    by_chunk: bool
    apart: bool
    by_position: bool
    vectors: int
    block: tuple[int, ...]
    box: tuple[int, ...]


def _sizes(spec):
    """Channels summed over and filters written, of all groups."""
    return (spec.c_in, spec.c_out) if spec.direction == "forward" else (spec.c_out, spec.c_in)


def way(spec, isa):
    """The ``Way`` of a forward or input-gradient spec at a level."""
    from convkit.kernels import conv

    three, itemsize = geometry.axes(spec), spec.dtype.itemsize
    channels, filters = _sizes(spec)
    group_channels, group_filters = channels // spec.groups, filters // spec.groups
    block = geometry.blocks(three, channels, itemsize)
    box = tuple(a.extent(b) for a, b in zip(three, block, strict=True))
    in_grids = in_place_in_grids(three, group_filters, isa, itemsize)
    in_place = in_grids or geometry.in_place(three, channels, itemsize)

    lanes, most_pixels = conv.tile_limits(isa, itemsize)
    taps = group_channels * max(len(taps) for _, taps in geometry.phases(three))
    runs = _runs(three, block)
    vectors = geometry.tile_vectors(group_filters, runs, taps, lanes, most_pixels)
    apart = three[2].source_step == 2 and not in_place
    grids = (has_grids(three, group_filters, isa, itemsize, apart) and not in_place and taps > conv.SHORT_TAPS
             and _fits_grids(group_filters, runs, vectors, lanes, most_pixels))
    whole_chunks = grids and group_channels >= conv.CHUNK_TAPS  # at each position, which takes its own pixels
    by_position = (_leaves_out(three, group_channels, 1, MOST_INSIDE if apart else MOST_INSIDE_OF_GRIDS) if whole_chunks
                   else _leaves_out(three, group_channels, most_pixels[vectors - 1], MOST_INSIDE))
    grids = in_grids or (grids and (whole_chunks or not by_position))
    # a single phase may still be one of every third target, where the others meet no tap
    in_rows = all([phase.step for phase in axis.phases] == [1] for axis in three)
    by_chunk = in_grids or (grids and not by_position and in_rows)
    if by_chunk and not in_place:
        positions = prod(axis.kernel for axis in three)
        block = geometry.blocks(three, -(-conv.CHUNK_TAPS // positions), itemsize, NEAR_BYTES, group_filters)
        box = tuple(a.extent(b) for a, b in zip(three, block, strict=True))
    return Way(in_place, grids, by_chunk, apart and grids, by_position, GRID_VECTORS if grids else vectors,
               tuple(block), box)


def _sums(spec, isa, three):
    from convkit.kernels import conv

    itemsize, how = spec.dtype.itemsize, way(spec, isa)
    channels, filters = _sizes(spec)
    channel_pitch = three[2].source if how.in_place else geometry.pitch(prod(how.box), itemsize)
    images = max(1, geometry.SOURCE_BYTES // (channel_pitch * channels * itemsize))
    tables = [_phase(three, parts, taps, how.box, how.apart) for parts, taps in geometry.phases(three)]
    return conv.Direct(
        spec.dtype, isa, spec.groups, channels, filters, [a.source for a in three], [a.target for a in three],
        [a.lo for a in three], [a.source_step for a in three], how.block, how.box, channel_pitch, images, how.in_place,
        how.by_position, how.grids, how.by_chunk, how.apart, how.vectors, spec.macs, tables,
        geometry.weight_strides(spec), prod(spec.kernel))


def _fits_grids(filters, runs, vectors, lanes, most_pixels):
    """Whether panels of 2 or 3 vectors lose little on runs of such lengths."""
    from convkit.kernels import conv

    def slots(v):
        return geometry.tile_slots(v, filters, runs, conv.CHUNK_TAPS, lanes, most_pixels)

    return min(slots(GRID_VECTORS - 1), slots(GRID_VECTORS)) <= MOST_SLOTS * slots(vectors)


def _axes_to_skip(spec, three):
    """Along how many axes a weight gradient should leave out pixels: all, a good part of few, of which each is a run of
    all images; or the first, whole slices.
    """
    shares = [share_inside(axis, 1) for axis in three]
    if min(spec.c_in_per_group, spec.c_out_per_group) < LONG_RUN:
        return 0
    if prod(axis.target for axis in three) <= FEW_TARGETS and prod(shares) <= MOST_INSIDE_OF_FEW:
        return 3
    return int(shares[0] <= MOST_INSIDE_OF_FEW)


def _inside(axis, dilation, skips):
    """Per kernel position [first, last) of the targets that meet the source, or of all unless it ``skips`` others."""
    if not skips:
        yield from [(0, axis.target)] * axis.kernel
        return
    for offset in range(0, axis.kernel * dilation, dilation):
        met = [i for i in range(axis.target) if 0 <= i * axis.source_step + offset - axis.lo < axis.source]
        yield (met[0], met[-1] + 1) if met else (0, 0)


def _weight_sums(spec, isa, three, skips):
    from convkit.kernels import conv

    rows = geometry.canonical(spec)
    source, target, kernel, stride, lo, dilation = zip(*rows, strict=True)
    itemsize = spec.dtype.itemsize
    c_in, c_out = spec.c_in, spec.c_out
    # with a stride, half of each cache line would be read for nothing, once for every panel
    in_place = not skips and set(kernel) == set(stride) == {1} and source == target and not any(lo)
    in_grids = in_place and conv.has_grids(isa, itemsize)
    # the smaller one of x and dy is put into panels; of x, sums are rows of dw: in grids they go there at once, and x
    # may be as large as dw, which else would be transposed
    turned = in_place and (c_in <= c_out or (in_grids and prod(target) <= c_out))
    if turned:
        c_in, c_out = c_out, c_in
    channels, filters = c_in // spec.groups, c_out // spec.groups
    channel_lanes = channels
    # Neighbouring kernel columns are neighbouring pixels, so without dilation one run takes them all, if nothing lies
    # between them: a run of pixels an odd number of lines apart is that of one column.
    columns = kernel[2] if dilation[2] == 1 and not skips else 1
    lanes, most_pixels = conv.tile_limits(isa, itemsize)
    if (conv.has_grids(isa, itemsize) and not in_place and channels >= WIDE_PIXEL
            and geometry.few_sets(stride[2] * channels, itemsize)):
        columns, channel_lanes = 1, geometry.pitch(channels, itemsize)
    elif geometry.aliases(channels, itemsize) and not in_place:
        channel_lanes += 64 // itemsize
    block = geometry.blocks(three, spec.groups * (channel_lanes + filters), itemsize)
    box = [a.extent(b) for a, b in zip(three, block, strict=True)]
    image_bytes = spec.groups * (channel_lanes * prod(box) + filters * prod(block)) * itemsize
    images = max(1, (MANY_IMAGES if skips else 1) * geometry.SOURCE_BYTES // image_bytes)

    positions = [(z, y, x) for z in range(kernel[0]) for y in range(kernel[1]) for x in range(0, kernel[2], columns)]
    bases = [((z * dilation[0] * box[1] + y * dilation[1]) * box[2] + x * dilation[2]) * channel_lanes
             for z, y, x in positions]
    taps = [[(z * kernel[1] + y) * kernel[2] + x + i for i in range(columns)] for z, y, x in positions]

    vectors = geometry.tile_vectors(filters, [(columns * channel_lanes, 1)], images * prod(block), lanes, most_pixels)
    in_lanes = -(-filters // lanes)
    if in_grids and (in_lanes % conv.STEPPED_VECTORS == 0 or in_lanes >= MANY_VECTORS):
        vectors = conv.STEPPED_VECTORS
    inside = [sum(met, ()) for met in product(*(_inside(axis, d, i < skips) for i, (axis, d) in
                                                enumerate(zip(three, dilation, strict=True))))] if skips else None
    return conv.WeightGradient(spec.dtype, isa, spec.groups, c_in, c_out, source, target, lo, stride, block, box,
                               channel_lanes, images, vectors, spec.macs, bases, taps, inside, in_place, turned)


def _runs(three, block):
    """(length, number) of the pixel runs in one plane of the innermost axes: whole boxes and the last one."""
    (rows, height), (count, width) = ((a.count, b) for a, b in zip(three[1:], block[1:], strict=True))
    lengths = [(width, count // width), (count % width, 1 if count % width else 0)]
    heights = [(height, rows // height), (rows % height, 1 if rows % height else 0)]
    return [(length, n * h) for length, times in lengths for h, n in heights for _ in range(times)]


def _phase(three, parts, taps, box, apart):
    start, step, count = ([getattr(p, field) for p in parts] for field in ("start", "step", "count"))
    positions = [tap for tap, _ in taps]
    column = [x // 2 + x % 2 * ((box[2] + 1) // 2) if apart else x for x in range(box[2])]
    offsets = [(z * box[1] + y) * box[2] + column[x] for _, (z, y, x) in taps]
    reach = [[offset - a.lo for _, offset in p.taps] for a, p in zip(three, parts, strict=True)]
    return start, step, count, positions, offsets, reach


def _leaves_out(three, group_channels, most_pixels, most_inside):
    """Whether tiles should leave out the kernel positions that meet only padding: a good part of all, in long runs."""
    inside = prod(share_inside(axis, run) for axis, run in zip(three, (1, 1, most_pixels), strict=True))
    return group_channels >= LONG_RUN and inside <= most_inside


def share_inside(axis, run):
    """Of all pairs of a run of targets and a kernel position, the part that meets the source."""
    met = pairs = 0
    for phase in axis.phases:
        for first in range(0, phase.count, run):
            last = min(first + run, phase.count) - 1
            for _, offset in phase.taps:
                met += first * axis.source_step + offset - axis.lo < axis.source and (
                    last * axis.source_step + offset >= axis.lo)
                pairs += 1
    return met / max(1, pairs)
