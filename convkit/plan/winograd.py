"""Winograd's F(4x4, 3x3), F(2x2, 3x3) or F(4x4, 5x5) in every slice of depth and F(4, 3), F(4, 5) or F(4, 7) along
one axis: which convolutions take them, and in how large blocks. A kernel of 2, 4 or 6 taps is one of 3, 5 or 7 with
zeros. With stride 2 tiles of 2 x 2 outputs, or 4 x 4 of an input gradient, and 3 x 3 taps in every slice.

The error of a tile is bounded by its largest inputs, not by each window's (``precision="strict"`` refuses it), and an
image that holds a NaN, an infinity or a number near the end of the range is computed directly.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod

import numpy as np

from convkit import settings
from convkit.plan import direct, geometry
from convkit.plan.common import Packing

MOST_TAPS, MOST_LINE_TAPS = 5, 7
TAPS = (2, 3), (3, MOST_TAPS)  # from and to, along both axes of a plane
# Channels by the taps of a plane's or a line's transforms: errors of several even out; one alone reaches 8.3 eps T with
# 3 x 3 taps and without fused multiply-adds, and errors at more points are larger.
FEWEST_SUMMED = {3: 4, 5: 16}
FEWEST_SUMMED_LINES = {3: 4, 5: 4, 7: 16}
# By the taps along one axis: with fewer channels or filters, or fewer in each of several groups, it does not pay.
FEWEST_CHANNELS = {2: (128, 128), 3: (24, 48), 4: (32, 48), 5: (32, 32), 6: (32, 32), 7: (24, 32)}
FEWEST_TILES = {3: 8, 5: 4, 7: 4}  # of a line
FEWEST_STRIDED = 48, 64, 32  # channels, filters and tiles of stride 2
FEWEST_STRIDED_GRADIENT = 16, 16, 32  # of input gradients; at the other levels they were not measured with fewer
LINE_ROW = 112  # tiles: whole vectors, and whole runs of 14 for the registers of AVX-512
TRANSFORMS = 1.25  # what a tile costs, in that of its multiplications
# Reading a transformed weight from beyond L2 costs as much as multiplying it with so many tiles, and at AVX-512 with
# more where all of them are beyond L3 too (at AVX2 that was not seen).
READ_AS_TILES, FAR_WEIGHTS = 7, 1536 * 1024
READ_AS_TILES_FROM_MEMORY, FARTHEST_WEIGHTS = 20, 64 * 1024 * 1024
# What a round keeps in a large L2: the transformed input and the sums of a panel.
BLOCK_BYTES = 768 * 1024
# Taps that all panels are multiplied with before the next ones: a chunk of the sums, so that none is closed more often.
SEGMENT = 64
NEAR_WEIGHTS = 4 * 1024 * 1024
# Runs of tiles for the registers, in those of rows alone, from which on the rows of a plane are closed up.
CLOSED_RUNS = 0.9
# Pixels of a plane that stays in L1 with an image in each lane; the share of the lanes that its own tiles may fill.
SMALL_PLANE, MOST_FILLED = 256, 0.7
# Weights that do not fit in L2 come from farther away in every round, so rounds grow with them.
WEIGHTS_PER_BLOCK = 3
# Tiles of the smallest round that a thread is given for its own: fewer do not hide the reading of all weights, or where
# those stay in L2, their way from there.
OWN_TILES, OWN_TILES_FROM_L2 = 24, 8


def rejects(spec, _isa):
    """Why Winograd cannot compute ``spec``; None if it can."""
    if settings.choice()[2] == "strict":
        return "its error is not bounded in every window, which precision='strict' asks for"
    why = _no_line(spec) if along(spec) is not None else _no_slices(spec)
    if why:
        return why
    if spec.dtype.itemsize != 4:
        return f"is for float32, not {spec.dtype}"
    if not all(axis.phases for axis in geometry.axes(spec)):
        return "every window holds only padding"
    summed = spec.c_in_per_group if spec.direction == "forward" else spec.c_out_per_group
    fewest = (FEWEST_SUMMED if along(spec) is None else FEWEST_SUMMED_LINES)[taps(spec)]
    if summed < fewest:
        return f"is for sums over {fewest} channels and more, not {summed}: fewer could exceed its error bound"
    return None


def along(spec):
    """The axis of the kernel's taps, where it has one along the others; else None."""
    wide = [axis for axis, k in enumerate(spec.kernel) if k != 1]
    return wide[0] if len(wide) == 1 and spec.kernel[wide[0]] <= MOST_LINE_TAPS else None


def taps(spec):
    """Along each axis of the transforms: the kernel has as many, or fewer and zeros. An odd number from 3."""
    most = max(spec.kernel if along(spec) is not None else spec.kernel[-2:])
    return max(3, most + 1 - most % 2)


def _no_line(spec):
    if spec.stride != (1,) * spec.rank:
        return f"is for stride 1, not {spec.stride}"
    others = [axis for axis in range(spec.rank) if axis != along(spec)]
    if any(spec.padding[axis] != (0, 0) or spec.size[axis] != spec.out_size[axis] for axis in others):
        return f"with taps along one axis it is for padding along that axis alone, not {spec.padding}"
    return None


def _no_slices(spec):
    # 2 x 4 with zeros to 5 x 5 gave 11.8 eps T: its own sums are small beside what the transforms of 5 taps round
    if spec.rank == 1 or not any(all(low <= k <= most for k in spec.kernel[-2:]) for low, most in TAPS):
        return (f"is for kernels of 2 or 3 taps, or of 3 to {MOST_TAPS}, in height and width, at any depth, or 2 to "
                f"{MOST_LINE_TAPS} along one axis, not {spec.kernel}")
    if strided(spec):
        if spec.direction != "forward" and any(lo % 2 == 0 for lo, _ in spec.padding[-2:]):
            return f"with stride 2 its input gradient is for odd padding before rows and columns, not {spec.padding}"
        if spec.direction != "forward" and spec.stride[:-2] not in ((), (1,)):
            return f"is for input gradients of stride 1 along the depth, not {spec.stride}"
        if spec.kernel[-2:] != (3, 3) or spec.dilation[-2:] != (1, 1):
            return f"with stride 2 it is for 3 x 3 taps without dilation, not {spec.kernel} with {spec.dilation}"
        return None
    if spec.stride[-2:] != (1, 1):
        return f"is for stride 1, or 2, in height and width, not {spec.stride}"
    if spec.direction != "forward" and spec.stride != (1,) * spec.rank:
        return f"is for input gradients of stride 1, not {spec.stride}"
    return None


def strided(spec):
    """Whether the tiles of a plane are those of stride 2."""
    return spec.stride[-2:] == (2, 2)


def tile_side(spec, isa):
    """Outputs along each side of a tile: 4, or for 3 x 3 taps 2 where that takes fewer multiplications, or more but the
    reading of the larger weights of 4 costs more than those, and forward with stride 2."""
    if strided(spec):
        return 2 if spec.direction == "forward" else 4
    if taps(spec) > 3:
        return 4
    depth = geometry.axes(spec)[0]
    plane = (spec.out_size if spec.direction == "forward" else spec.size)[-2:]

    def cost(side, read):
        tiles = depth.target * prod(d * -(-n // (side * d)) for n, d in zip(plane, spec.dilation[-2:], strict=True))
        return (side + 2) ** 2 * (tiles + read)

    nbytes = prod(spec.weight_shape) // prod(spec.kernel[-2:]) * 36 * 4
    read = READ_AS_TILES if nbytes > FAR_WEIGHTS else 0
    if isa == "avx512" and nbytes > FARTHEST_WEIGHTS:
        read = READ_AS_TILES_FROM_MEMORY
    return 2 if any(cost(2, each) < cost(4, each) for each in (0, read)) else 4


def sums(spec, side):
    """What a tile multiplies per channel and filter: for each of its sums the products, each as the indices of the
    point in V and of the weights that it takes."""
    if not strided(spec):
        return [[(point, point)] for point in range((side + taps(spec) - 1) ** 2)]
    if spec.direction == "forward":
        # even inputs at three points; odd ones at two of them, with the middle tap
        along = ((0, 0), (1, 3)), ((2, 1),), ((3, 2), (4, 3))
        return [[(5 * v + h, 4 * y + x) for v, y in rows for h, x in columns] for rows in along for columns in along]
    along = (0, 2), (1, 1), (2, 0), (0, 3), (1, 3)
    return [[(3 * v + h, 4 * y + x)] for v, y in along for h, x in along]


def side_by_side(spec, lanes, side):
    """Whether images in the lanes are faster, because the tiles of a small plane would leave many lanes empty."""
    if along(spec) is not None or _no_slices(spec) or strided(spec):
        return False
    height, width = _planes(spec)
    rows, columns = -(-height.target // side), -(-width.target // side)
    lo = width.lo if spec.dilation[-2:] == (1, 1) else 0
    filled = rows * columns / (-(-rows * (columns + 1) // lanes) * lanes)
    return (height.source * width.source <= SMALL_PLANE and filled <= MOST_FILLED
            and 0 <= lo <= side * columns + taps(spec) - 1 - width.source)


def loses(spec, isa):
    """Why it should not compute taps along one axis or stride 2, which the cost model leaves to this rule; None if it
    pays."""
    if strided(spec):
        return _loses_strided(spec, isa)
    if along(spec) is None:
        return None
    fewest = FEWEST_CHANNELS[max(spec.kernel)][spec.groups > 1]
    if min(spec.c_in_per_group, spec.c_out_per_group) < fewest:
        return (f"pays from {fewest} channels and filters per group, not with {spec.c_in_per_group} and "
                f"{spec.c_out_per_group}")
    line = _line(spec)
    if line.lines * line.tiles < FEWEST_TILES[taps(spec)]:
        return f"pays from {FEWEST_TILES[taps(spec)]} tiles of 4, not with {line.lines * line.tiles}"
    if (taps(spec) + 3) * line.tiles * TRANSFORMS > max(spec.kernel) * line.target:
        return f"tiles of 4 on {line.target // line.inner} outputs with dilation {line.dilation} are mostly empty"
    return None


def _loses_strided(spec, isa):
    gradient = isa in ("avx2", "avx512") and spec.direction == "input_gradient"
    channels, filters, fewest = FEWEST_STRIDED_GRADIENT if gradient else FEWEST_STRIDED
    if min(spec.c_in_per_group, spec.c_out_per_group) < channels or spec.c_out_per_group < filters:
        return (f"with stride 2 it pays from {channels} channels and {filters} filters per group, not with "
                f"{spec.c_in_per_group} and {spec.c_out_per_group}")
    height, width = spec.out_size[-2:]
    tiles = geometry.axes(spec)[0].target * -(-height // 2) * -(-width // 2)
    if tiles < fewest:
        return f"with stride 2 it pays from {fewest} tiles of 2 x 2, not with {tiles}"
    if 25 * tiles * TRANSFORMS > 9 * geometry.axes(spec)[0].target * height * width:
        return f"tiles of 2 x 2 on {height} x {width} outputs are mostly empty"
    return None


class Sums(Packing):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same on kernels turned by 180 degrees with
    channels and filters exchanged.

    With dilation d the targets of one residue modulo d, in height and width, and the inputs that they meet are a plain
    convolution of their own: d * d images instead of one.
    """

    finishes = True

    def __init__(self, spec, isa, side=None):
        self.spec, self.isa = spec, isa
        side = side or tile_side(spec, isa)
        if along(spec) is not None:
            self.apart = (1, 1)  # a dilation is a longer step
            self.kernel = _line_kernel(spec, isa, _line(spec))
        else:
            self.apart = spec.dilation[-2:]
            self.planes = _planes(spec)
            self.kernel = _kernel(spec, isa, self.planes, side)
        self.adds = self.apart == (1, 1)
        self.pack_key = ("winograd", isa, side, self.kernel.vectors, spec.direction)

    def pack(self, weight):
        return super().pack(weight), weight.copy()  # a reference would look like a user's

    def __call__(self, x, weight, bias, y):
        self._compute(x, weight.reshape(-1), weight, bias, y, None, False)

    def with_packed(self, x, packed, bias, y, then=None):
        self._compute(x, *packed, bias, y, then, True)

    def _compute(self, x, operand, weight, bias, y, then, packed):
        """The kernel takes the weight ``packed`` or as it lies, the direct path what it was."""
        if self.apart == (1, 1):
            out_of_range = self._run(x, operand, bias, y, len(x), then, packed)
        else:
            out_of_range = self._run_apart(x, operand, bias, y, then, packed)
        if out_of_range:
            panels = self._by_window.pack(weight)
            for image in sorted({i // prod(self.apart) for i in out_of_range}):
                self._by_window.with_packed(x[image:image + 1], panels, bias, y[image:image + 1],
                                            then and then.of_image(image))

    @cached_property
    def _by_window(self):
        return direct.Sums(self.spec, self.isa)

    def _run(self, x, operand, bias, y, n, then, packed):
        return self.kernel.run(x, operand, bias, y, n, settings.get_threads(), then, packed)

    def _run_apart(self, x, operand, bias, y, then, packed):
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
        out_of_range = self._run(source_parts, operand, bias, target_parts, len(x) * prod(self.apart), then, packed)
        winograd.put_together(target_parts, target, threads)
        return out_of_range


@dataclass(frozen=True, slots=True)
class _Plane:
    """Height or width of what the kernel computes: target j meets as many source elements as taps, from j - lo on."""

    source: int
    target: int
    lo: int


@dataclass(frozen=True, slots=True)
class _Line:
    """An axis and all inside it: target i meets source i - lo + k * step for each tap k; all in elements."""

    lines: int
    inner: int
    dilation: int
    source: int
    target: int
    lo: int

    @property
    def step(self):
        return self.inner * self.dilation

    @property
    def tiles(self):
        return -(-self.target // (4 * self.step)) * self.step


def _line(spec):
    axis = along(spec)
    inner, d, (before, _) = prod(spec.size[axis + 1:]), spec.dilation[axis], spec.padding[axis]
    x, y = spec.size[axis], spec.out_size[axis]
    source, target, lo = (x, y, before) if spec.direction == "forward" else (y, x, (taps(spec) - 1) * d - before)
    return _Line(prod(spec.size[:axis]), inner, d, source * inner, target * inner, lo * inner)


def _part(n, dilation):
    return -(-n // dilation)


def _planes(spec):
    forward = spec.direction == "forward"
    in_parts, more = spec.dilation[-2:] != (1, 1), taps(spec) - 1
    planes = []
    for x, y, (before, _), d in zip(spec.size[-2:], spec.out_size[-2:], spec.padding[-2:], spec.dilation[-2:],
                                    strict=True):
        source, target, lo = (x, y, before) if forward else (y, x, more * d - before)
        if strided(spec) and not forward:
            lo = (1 - before) // 2
        planes.append(_Plane(_part(target, d) + more, _part(target, d), lo) if in_parts else _Plane(source, target, lo))
    return tuple(planes)


def _line_kernel(spec, isa, line):
    from convkit.kernels import conv

    lanes, _ = conv.tile_limits(isa, 4)
    rows = -(-line.tiles // LINE_ROW)
    columns = -(-line.tiles // rows)
    if line.step < lanes:
        columns = -(-columns // line.step) * line.step  # whole steps
    plain, points = geometry.forward_axis(1, 1, *geometry.PLAIN), [[(point, point)] for point in range(taps(spec) + 3)]
    return _winograd(spec, isa, points, plain, [0], [line.lines, line.source], [line.lines, line.target],
                     [0, line.lo], line.lines * rows, columns, 4, (line.step, rows, columns))


def _kernel(spec, isa, planes, side):
    depth = geometry.axes(spec)[0]
    shift = [offset - depth.lo for _, offset in depth.phases[0].taps]
    lo = [p.lo if spec.dilation[-2:] == (1, 1) else 0 for p in planes]  # parts hold their zeros
    rows, columns = (-(-p.target // side) for p in planes)
    return _winograd(spec, isa, sums(spec, side), depth, shift, [p.source for p in planes],
                     [p.target for p in planes], lo, rows, columns, side, None)


def _winograd(spec, isa, tile_sums, depth, shift, source, target, lo, rows, columns, side, line):
    from convkit.kernels import conv, winograd

    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    group_channels, group_filters = channels // spec.groups, filters // spec.groups
    lanes, most = conv.tile_limits(isa, 4)
    n_points, n_weights = (len(set(indices)) for indices in zip(*chain(*tile_sums), strict=True))
    weight_bytes = n_weights * 4 * channels * len(shift) * group_filters
    bytes_of_tile, budget = n_points * 4 * channels, max(BLOCK_BYTES, weight_bytes // WEIGHTS_PER_BLOCK)
    pitch = columns if line or _closes_up(rows, columns, most[1]) else columns + 1
    extents = [_block(rows, depth, bytes_of_tile * pitch, budget)]
    block, slices, images = extents[0]
    planes = slices * images
    runs = (columns * block, planes) if pitch == columns else (columns, block * planes)
    beside = side_by_side(spec, lanes, side)
    if beside:
        # a plane of few channels has sums larger than its V
        bytes_of_tile += len(tile_sums) * 4 * min(group_filters, 2 * lanes)
        block, slices, images = _block(rows, depth, bytes_of_tile * columns * lanes, budget)
        extents.append((block, slices, images * lanes))
    if line or beside:
        runs = columns * extents[0][0] * planes, 1
    vectors = geometry.tile_vectors(group_filters, [runs], group_channels * len(shift), lanes, most)
    sums_of_panel = len(tile_sums) * 4 * vectors * lanes * columns * max(map(prod, extents))
    # With AVX-512 one panel after the other where weights are many: their segments come from farther away than sums.
    segment = {"avx512": SEGMENT if weight_bytes <= NEAR_WEIGHTS else 0,
               "avx2": SEGMENT}.get(isa, group_channels * len(shift))
    together = max(1, budget // sums_of_panel) if segment else 1
    return winograd.Winograd(
        isa, spec.groups, channels, filters, [depth.source, *source], [depth.target, *target], lo, depth.source_step,
        shift, extents, pitch, vectors, segment, together,
        OWN_TILES_FROM_L2 if weight_bytes <= BLOCK_BYTES else OWN_TILES, spec.macs, geometry.weight_strides(spec),
        not forward, side, taps(spec), (1, max(spec.kernel)) if line else spec.kernel[-2:], line,
        2 if strided(spec) else 1, tile_sums)


def _closes_up(rows, columns, most):
    """Whether the rows of a plane are one run of tiles for the products. Each then begins a vector of its own in V;
    else they share vectors, with an entry after every row that belongs to no tile."""
    alone = -(-rows // 2) if 2 * columns <= most else rows * -(-columns // most)
    return -(-rows * columns // most) <= CLOSED_RUNS * alone


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
