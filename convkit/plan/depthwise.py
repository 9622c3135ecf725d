"""Convolution with pixels in the lanes: when it pays, and how a spec becomes a ``kernels.depthwise.Depthwise``."""

from dataclasses import replace
from math import prod

from convkit import settings
from convkit.plan import geometry
from convkit.plan.direct import fill

# Padded source of one unit, which every few filters read again: it stays in L2, of AVX2 processors half a megabyte.
SOURCE_BYTES = {"avx2": 256 * 1024}
# Padded source of one unit with channels in the lanes: near the L1 cache.
CHANNELS_BYTES = 128 * 1024
# Targets that are transposed back together: whole vectors of most rows, still in the L1 cache.
CHANNELS_PIXELS = 112
MOST_WEIGHTS = 1024 * 1024  # bytes of a group that every run of pixels reads: more do not stay in L2
# Of several planes: their sums are closed in one level of chunks, and 64 of those gave 9.9 eps, as many as 16 give 8.
MOST_TAPS = 1024
# The kernels keep all taps of a sum in one chunk, and whole rows in scratch.
CHANNELS_TAPS, CHANNELS_ROW = 256, 2048
ROWS_TAPS = 7**3  # of one filter that a row kernel takes
LANES = 16  # of float32 in the longest vector
FLAT_TAPS = 64  # of a sum, for which rows are taken from one run afterwards: a twelfth of so many is worth it
VECTORS = 3  # of pixels in a tile of four filters
RUN = 128  # vectors of one run of a weight gradient
HELD_KERNEL = 5  # whose weights AVX-512's 32 registers hold beside the sums
NARROW_ROWS = 1024  # of a plane that is one unit in any case


def rejects(spec, _isa):
    """Why these kernels cannot compute ``spec``, or should not; None if they may."""
    three = _axes(spec)
    if not all(axis.phases for axis in three):
        return "every window holds only padding along some axis"
    planes, _ = _roles(spec)
    taps = planes * prod(max(len(phase.taps) for phase in axis.phases) for axis in three)
    if spec.direction != "weight_gradient" and planes > 1 and taps > MOST_TAPS:
        return f"is for sums of at most {MOST_TAPS} products over several channels, not {taps}"
    return None


def loses(spec, _isa):
    """Why these kernels should not compute ``spec``, which the cost model does not see; None if they may."""
    weights = prod(spec.weight_shape) // spec.groups * spec.dtype.itemsize
    if weights > MOST_WEIGHTS:
        return f"reads the {weights // 1024} KB of a group's weights again for every few pixels"
    return None


def _roles(spec):
    """Planes that one group reads and writes; the weight gradient's are those of its forward pass."""
    if spec.direction == "input_gradient":
        return spec.c_out_per_group, spec.c_in_per_group
    return spec.c_in_per_group, spec.c_out_per_group


def several(spec):
    """Whether a group has more than one plane or filter."""
    return max(_roles(spec)) > 1


def source_bytes(isa):
    """What the padded source of a unit should hold at most."""
    return SOURCE_BYTES.get(isa, geometry.SOURCE_BYTES)


def dots_inside(spec):
    """Whether the tiles of a weight gradient of several planes or filters read x in place."""
    return _inside(_axes(spec))


def _axes(spec):
    return geometry.axes(spec if spec.direction == "input_gradient" else replace(spec, direction="forward"))


class _Planned:
    """One kernel object and what a plan tells about it."""

    def __init__(self, spec, isa, kernel=None):
        self.kernel = kernel or make(spec, isa)

    @property
    def variant(self):
        """Name of the kernel's row in the registry."""
        return self.kernel.variant

    @property
    def workspace_bytes(self):
        """Scratch of each thread."""
        return self.kernel.workspace_bytes


class _Sums(_Planned):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same sums over rotated taps, a stride's residues
    apart.
    """

    def __init__(self, spec, isa, kernel):
        super().__init__(spec, isa, kernel)
        self.complete = all(axis.complete for axis in _axes(spec))
        self.finishes = self.adds = spec.direction == "forward"

    def __call__(self, x, weight, bias, y, then=None):
        if not self.complete:
            fill(y, bias)
        self.kernel.sum(x, weight, bias, y, len(x), settings.get_threads(), False, then)


class _PackedSums(_Sums):
    """The same by a kernel that packs its weight; a layer packs it once."""

    def __init__(self, spec, isa, kernel):
        super().__init__(spec, isa, kernel)
        taps = tuple(tuple(tuple(tap for tap, _ in phase.taps) for phase in axis.phases) for axis in _axes(spec))
        self.pack_key = ("depthwise", level(spec, isa), self.variant, spec.direction, taps)

    def pack(self, weight):
        return self.kernel.pack(weight)

    def with_packed(self, x, packed, bias, y, then=None):
        if not self.complete:
            fill(y, bias)
        self.kernel.sum(x, packed, bias, y, len(x), settings.get_threads(), True, then)


def sums(spec, isa):
    """The object that runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``."""
    kernel = make(spec, isa)
    return (_PackedSums if kernel.packs else _Sums)(spec, isa, kernel)


class WeightGradient(_Planned):
    """Runs ``(dy, x, dw)``."""

    def __call__(self, dy, x, dw):
        self.kernel.dot(dy, x, dw, len(x), settings.get_threads())


def variant(spec, isa):
    """The first row of a level's registry that takes ``spec``."""
    from convkit.kernels import depthwise

    dot = spec.direction == "weight_gradient"
    rows = [(name, lanes, bool(kernel))
            for name, kernel, stride, lanes, has_sum, has_dot, filters in depthwise.variants(isa, spec.dtype.itemsize)
            if (has_dot and (filters == 1 or several(spec)) if dot else has_sum)
            and (not kernel or _fits(spec, isa, kernel, stride))]
    in_rows = any(own for *_, own in rows)
    narrow = in_rows and _narrow(spec, isa)
    return next(name for name, lanes, _ in rows if lanes == 1 or not narrow and _channels_pay(spec, lanes, in_rows))


def _fits(spec, isa, kernel, stride):
    return ((spec.rank == 2 or spec.rank == 3 and isa == "avx2") and prod(spec.kernel) <= ROWS_TAPS
            and spec.c_in_per_group == spec.c_out_per_group == 1 and spec.kernel[-2:] == (kernel, kernel)
            and spec.stride[-2:] == (stride, stride) and (stride == 1 or spec.dilation[-2:] == (1, 1))
            and (_fits_dots(spec, kernel, stride) if spec.direction == "weight_gradient" else
                 _fits_spread(spec, isa) if spec.direction == "input_gradient" and max(spec.stride) > 1 else
                 isa != "avx2" or _narrow(spec, isa) or _fits_strips(spec, kernel, stride)))


def _fits_dots(spec, kernel, stride):
    """Whether rows of dy are multiplied with those of x: more than one vector long, one run at most, and no padding is
    wider than a tap.
    """
    row = _axes(spec)[2]
    behind = row.source_step * (row.target - 1) + 2 - row.lo - (row.source - 1)
    return (spec.rank == 2 and max(spec.dilation) == 1 and row.lo <= 1 and behind <= 1
            and _fits_strips(spec, kernel, stride) and row.target <= RUN * 32 // spec.dtype.itemsize)


def _fits_spread(spec, isa):
    """Whether AVX2 spreads each row of dy over two of dx, whole vectors of pairs."""
    row = _axes(spec)[2]
    return (isa == "avx2" and spec.kernel == (3, 3) and spec.stride == (2, 2)
            and all(lo == 1 for lo, _ in spec.padding) and row.target % 2 == 0
            and 32 // spec.dtype.itemsize <= row.target // 2 <= row.source)


def _narrow(spec, isa):
    """Whether a vector of AVX2 holds every row of 3x3 planes, which has a row kernel of its own."""
    row = _axes(spec)[2]
    return (isa == "avx2" and spec.kernel == (3, 3) and spec.stride == spec.dilation == (1, 1)
            and max(row.source, row.target) <= 32 // spec.dtype.itemsize and spec.size[0] <= NARROW_ROWS)


def _fits_strips(spec, kernel, stride):
    """Whether rows are long enough for strips, whose first vector may have padding under the taps before the middle,
    and for a vector at each end where padding is deeper; with a stride it must not be. Those of a part of 7x7 have
    three vectors at least, the others two.
    """
    row, lanes, half = _axes(spec)[2], 32 // spec.dtype.itemsize, kernel // 2 * spec.dilation[-1]
    behind = row.source_step * (row.target - 1) + 2 * half - row.lo - (row.source - 1)
    edges = [max(0, padding - min(half, lanes)) for padding in (row.lo, behind)]
    inner = (2 if kernel == 7 and stride == 1 else 1) * lanes
    return row.target - sum(edges) >= inner + half and max(edges) <= (lanes if row.source_step == 1 else 0)


def takes_channels(spec):
    """Whether the kernels with channels in the lanes can compute ``spec``."""
    steps = spec.stride if spec.direction != "input_gradient" else (1,)
    row = max(spec.out_size[-1], spec.size[-1] + sum(spec.padding[-1]))
    return (spec.c_in_per_group == spec.c_out_per_group == 1 and spec.rank <= 2 and steps[-1] <= 2
            and prod(spec.kernel) <= CHANNELS_TAPS and row <= CHANNELS_ROW)


def _channels_pay(spec, lanes, in_rows):
    """Whether transposing pays, ``in_rows`` if a row kernel takes the spec (figures in csrc/depthwise/README.md)."""
    taps, strided = prod(spec.kernel), max(spec.stride) > 1
    width = spec.size[-1] if spec.direction == "input_gradient" else spec.out_size[-1]
    if taps == 1 or not takes_channels(spec) or 4 * spec.groups < 3 * lanes * -(-spec.groups // lanes):
        return False
    if spec.direction == "weight_gradient":
        return width * spec.dtype.itemsize <= 64 if in_rows else strided or taps > 9 or width <= 32
    if in_rows:
        return width <= 8 or taps >= 49 and width <= 16
    return strided or taps >= 25 or width <= 16


def make(spec, isa, name=None):
    """The kernel object of a spec; ``name`` forces a row of the registry (tests)."""
    from convkit.kernels import depthwise

    if name is None:
        isa = level(spec, isa)
        name = variant(spec, isa)
    gradient = spec.direction == "input_gradient"
    three = _axes(spec)
    planes, filters = _roles(spec)
    itemsize = spec.dtype.itemsize

    lanes = {row[0]: row[3] for row in depthwise.variants(isa, itemsize)}[name]
    block = (geometry.blocks(three, planes, itemsize, source_bytes(isa)) if lanes == 1 else
             _rows_block(three, lanes, itemsize))
    there = {"taps": in_place(spec, three), "tiles": _inside(three)}.get(name, False)
    if there and name == "taps":
        block[2] = _whole_vectors(block[2], three[2].count, itemsize)
    blocks = [-(-a.count // b) for a, b in zip(three, block, strict=True)]
    step = three[2].source_step
    box = [a.extent(b) for a, b in zip(three, block, strict=True)]
    skipped = 0
    flat = name == "taps" and runs_on(spec, three, isa, block)
    if there:
        box = [a.source for a in three]
    elif lanes == 1:
        box[2] = three[2].source + three[2].lo if flat else -(-box[2] // step)  # of one residue
    else:
        step, skipped = 1, max(0, -three[2].lo)  # columns that no tap sees are in the box too
        box[2] = max(box[2] + skipped, three[2].lo + skipped + three[2].source)
    plane_pitch = prod(box) if there else geometry.pitch(prod(box) * step + (LANES if flat else 0), itemsize)

    taps = prod(spec.kernel)
    dilation = [d for *_, d in geometry.canonical(spec)]
    by_out, by_in = spec.c_in_per_group * taps, taps
    w_filter, w_plane = (by_in, by_out) if gradient else (by_out, by_in)
    phases = [_phase(parts, positions, planes, box, step, plane_pitch, w_plane, skipped)
              for parts, positions in geometry.phases(three)]
    return depthwise.Depthwise(
        spec.dtype, isa, name, spec.groups, planes, filters, [a.source for a in three],
        [a.target for a in three], [a.lo for a in three], [a.source_step for a in three], dilation, block, blocks, box,
        plane_pitch, there, flat, (by_out * spec.c_out_per_group, w_filter, w_plane), gradient, phases,
        max(1, min(block[1], CHANNELS_PIXELS // three[2].target)), _work(spec))


def in_place(spec, three):
    """Whether windows lie inside the source, neighbours beside each other: no copy is needed."""
    shortest = LANES * 4 // spec.dtype.itemsize  # loads of shorter rows would end outside
    return (spec.direction != "weight_gradient" and three[2].count >= shortest and _inside(three) and all(
        a.source_step == 1 and a.complete for a in three))


def _inside(three):
    """Whether every window lies inside the source, whose neighbours along a row it meets."""
    return three[2].source_step == 1 and all(
        a.lo == 0 and len(a.phases) == 1 and a.extent(a.count) <= a.source for a in three)


def _whole_vectors(block, count, itemsize):
    """Of targets along a row, the next larger block of whole vectors that leaves no shorter one at its end."""
    lanes = LANES * 4 // itemsize
    block = -(-block // lanes) * lanes
    while 0 < count % block < lanes:
        block += lanes
    return min(block, count)


def runs_on(spec, three, isa, block=None):
    """Whether rows that run on into each other, over padding that both share, fill fewer tiles than one by one."""
    _, y, x = three
    lanes, taps = 32 // spec.dtype.itemsize, _roles(spec)[0] * prod(spec.kernel)
    if (isa != "avx2" or spec.direction == "weight_gradient" or taps < FLAT_TAPS or y.source_step * x.source_step > 1
            or len(y.phases) * len(x.phases) > 1 or block and block[2] < x.count or not 0 < x.lo <= lanes
            or x.extent(x.count) - x.lo - x.source not in range(x.lo + 1)):
        return False
    rows = block[1] if block else y.count
    length = (rows - 1) * (x.source + x.lo) + x.count
    by_rows, flat = -(-x.count // lanes) * rows, -(-length // lanes)
    return length >= lanes and 12 * -(-flat // VECTORS) <= 11 * -(-by_rows // VECTORS)


def level(spec, isa):
    """The level whose kernels compute ``spec``: AVX-512 takes those of AVX2, which know more of rows and gradients,
    but for what gains by longer vectors or by more registers for weights (figures in csrc/depthwise/README.md).
    """
    if isa != "avx512":
        return isa
    width = spec.size[-1] if spec.direction == "input_gradient" else spec.out_size[-1]
    if spec.direction == "weight_gradient":
        return isa if several(spec) else "avx2"
    if width * spec.dtype.itemsize <= 32:
        return "avx2"
    if spec.c_in_per_group == spec.c_out_per_group == 1:
        if (spec.direction, spec.kernel, spec.stride, spec.dilation) == ("forward", (3, 3), (2, 2), (1, 1)):
            return isa
        return isa if spec.rank == 2 and max(spec.stride) == 1 and max(spec.kernel) <= HELD_KERNEL else "avx2"
    return isa if spec.groups == 1 and not runs_on(spec, _axes(spec), "avx2") else "avx2"


def _work(spec):
    """Multiply-adds, and moved elements at what they cost in multiply-adds."""
    return spec.macs + 8 * (prod(spec.x_shape(1)) + prod(spec.y_shape(1)))


def _phase(parts, positions, planes, box, step, plane_pitch, w_plane, skipped):
    start, steps, count = ([getattr(p, field) for p in parts] for field in ("start", "step", "count"))
    # in the order of their positions, which is the order in which the row kernels add
    positions = sorted(((tap, (z, y, x + skipped)) for tap, (z, y, x) in positions), key=lambda p: p[1])
    taps = [(((z * box[1] + y) * step + x % step) * box[2] + x // step, tap) for tap, (z, y, x) in positions]
    offsets = [c * plane_pitch + offset for c in range(planes) for offset, _ in taps]
    weights = [c * w_plane + tap for c in range(planes) for _, tap in taps]
    return start, steps, count, len(parts[2].taps), offsets, weights, [z * box[1] + y for _, (z, y, _) in positions]


def _rows_block(three, lanes, itemsize):
    """Rows of targets whose padded source, `lanes` channels of it, stays near the L1 cache."""
    _, y, x = three
    row = lanes * itemsize * (x.lo + x.source)
    rows = y.count
    while rows > 1 and y.extent(rows) * row > CHANNELS_BYTES:
        rows -= 1
    parts = -(-y.count // rows)
    return [1, -(-y.count // parts), x.count]
