"""What an algorithm would take: amounts of work, each times a coefficient that was fitted to measurements.

The amounts follow from the spec alone and are those of one image, of a batch where planes are small, whose weights are
packed: slots of the multiply-add units, what is empty in a tile included, and elements moved.
``benchmarks/fit_costs.py`` fits the coefficients.
"""

from functools import cache, lru_cache
from math import log2, prod
from operator import mul

from convkit.kernels import native
from convkit.plan import depthwise as pixels
from convkit.plan import direct as by_channel
from convkit.plan import gemm, geometry, winograd

if native.available:
    from convkit.kernels import conv as kernels

L1_BYTES, L1_WAY = 32 * 1024, 4096
L2_BYTES = 1024 * 1024  # half of it where the times were fitted
PROBE_SECONDS = 0.05
GRID_SLOTS = 0.88  # what a tile of direct convolution takes in a grid, over one by itself
# Small planes, of which Winograd has several side by side, come in batches: images that share the reading of weights.
SMALL_BATCH = 8
# Slots and splitting of Winograd's 64 points (4 or 5 taps), in those of 36, where coefficients were seen to need it:
# fitted to 3 x 3, they called the input gradient of 5x5 6-16 @14 slower than direct, and it is 1.5 times as fast.
POINTS_64 = {"avx2": (1.15, 0.55)}


class Shape:
    """Sizes of one convolution in the eyes of the kernels, channels and filters by group."""

    def __init__(self, spec, isa):
        self.spec, self.isa = spec, isa
        self.axes = geometry.axes(spec)
        self.itemsize = spec.dtype.itemsize
        self.lanes, self.most_pixels = kernels.tile_limits(isa, self.itemsize)
        self.groups, self.channels, self.filters = spec.groups, spec.c_in_per_group, spec.c_out_per_group
        if spec.direction == "input_gradient":
            self.channels, self.filters = self.filters, self.channels
        self.phases = prod(len(axis.phases) for axis in self.axes)
        self.taps = self.channels * prod(spec.kernel)  # of all phases together
        self.rows, self.columns = self.axes[0].count * self.axes[1].count, self.axes[2].count
        self.source = self.groups * self.channels * prod(axis.source for axis in self.axes)
        self.target = self.groups * self.filters * prod(axis.target for axis in self.axes)
        self.weight_bytes = prod(spec.weight_shape) * self.itemsize
        apart = spec.dilation[-2:] != (1, 1)  # residues are images already
        self.side = winograd.tile_side(spec, isa)
        self.batch = SMALL_BATCH if not apart and winograd.side_by_side(spec, self.lanes, self.side) else 1
        share = _far((self.source + self.target) * self.itemsize)
        self.far_source, self.far_target = share * self.source, share * self.target

    def boxed(self):
        """Elements and rows of a padded copy of the source."""
        depth, height, width = (axis.extent(axis.count) for axis in self.axes)
        rows = self.groups * self.channels * depth * height
        return rows * width, rows

    def slots(self, runs, taps):
        """Slots of one group, in panels of the best width."""
        widths = [v for v, most in enumerate(self.most_pixels, 1) if most]
        return min(geometry.tile_slots(v, self.filters, runs, taps, self.lanes, self.most_pixels) for v in widths)


def _far(nbytes):
    """The share of so many bytes that comes from beyond L2."""
    return max(0.0, 1 - L2_BYTES / nbytes)


def direct(shape):
    """Slots; elements and rows copied; vectors stored; weights read from beyond L2; source and target beyond L2."""
    how = by_channel.way(shape.spec, shape.isa)
    copied, rows = (0, 0) if how.in_place else shape.boxed()
    taps = shape.taps / shape.phases
    if how.by_position:
        taps *= prod(by_channel.share_inside(axis, 1) for axis in shape.axes)
    slots = shape.slots([(shape.columns, shape.rows)], taps) * (GRID_SLOTS if how.grids else 1)
    rounds = -(-copied * shape.itemsize // geometry.SOURCE_BYTES)
    far_weights = shape.weight_bytes / shape.batch * max(1, rounds) * _far(shape.weight_bytes)
    stored = -(-shape.filters // shape.lanes) * shape.rows
    return (shape.groups * shape.phases * slots, copied, rows, shape.groups * shape.phases * stored, shape.target,
            far_weights, shape.far_source, shape.far_target)


def in_grids(shape):
    """Slots; tiles' chunks closed; target written; weights that every block of pixels reads, from L2 and from beyond;
    source and target beyond L2.
    """
    pixels, vectors = shape.rows * shape.columns, -(-shape.filters // shape.lanes)
    blocks = max(1 / shape.batch, pixels / kernels.BLOCK_PIXELS)
    sums = shape.groups * pixels * vectors
    read = shape.weight_bytes * blocks
    return (sums * shape.taps, sums * -(-shape.taps // kernels.CHUNK_TAPS), shape.target, read,
            read * _far(shape.weight_bytes), shape.far_source, shape.far_target)


def matrix_product(shape):
    """Slots; elements filled, with a stride and without, and pieces of rows; source read for each of its taps."""
    pixels, width = prod(axis.target for axis in shape.axes), gemm.VECTORS * shape.lanes
    panels = pixels / width + 0.5  # they run on over the images of a batch
    slots = geometry.tile_slots(gemm.VECTORS, width, [(shape.filters, 1)], shape.taps, shape.lanes, shape.most_pixels)
    filled = shape.groups * shape.taps * panels * width
    strided = shape.axes[2].source_step > 1
    pieces = shape.groups * shape.taps * (panels + pixels / shape.axes[2].target)
    far_filled = filled * _far(shape.source * shape.itemsize)
    per_task = max(1, gemm.PANEL_BYTES // (shape.taps * width * shape.itemsize))
    far_weights = shape.weight_bytes / shape.batch * max(1, panels // per_task) * _far(shape.weight_bytes)
    return (shape.groups * panels * slots, 0 if strided else filled, filled if strided else 0, pieces, shape.target,
            far_filled, far_weights, shape.far_source, shape.far_target)


def by_tiles(shape):
    """Slots; elements transformed before and after; transformed weights, and those from beyond L2; residues apart."""
    spec, depth, batch = shape.spec, shape.axes[0], shape.batch
    plane, apart = (spec.out_size if spec.direction == "forward" else spec.size)[-2:], spec.dilation[-2:]
    side = shape.side
    rows, columns = (-(-n // (side * d)) for n, d in zip(plane, apart, strict=True))
    parts, depth_taps, points = prod(apart), len(depth.phases[0].taps), len(winograd.sums(spec, side))
    slots = points * shape.slots([(columns * batch, rows * depth.target * parts)], shape.channels * depth_taps) / batch
    row_elements = points * (columns + (batch == 1)) * shape.groups
    split = row_elements * rows * parts * shape.channels * depth.source
    joined = row_elements * rows * parts * shape.filters * depth.target
    dearer, cheaper = POINTS_64.get(shape.isa, (1, 1)) if winograd.taps(spec) > 3 else (1, 1)
    weight_bytes = shape.weight_bytes // prod(spec.kernel[-2:]) * points
    read = weight_bytes / batch
    rounds = -(-split * 4 // max(winograd.BLOCK_BYTES, weight_bytes // winograd.WEIGHTS_PER_BLOCK))
    return (shape.groups * slots * dearer, split * cheaper, joined, read * rounds, read * rounds * _far(weight_bytes),
            shape.source + shape.target if parts > 1 else 0, shape.far_source,
            shape.far_target)


def by_plane(shape):
    """Vectors multiplied, loaded (half of that in L1) and stored; elements copied, with a stride and without; rows."""
    several = 3 if shape.filters >= 8 else 1  # vectors of a tile, which run over rows
    copied, rows = shape.boxed()
    isa = pixels.level(shape.spec, shape.isa)
    lanes, _ = kernels.tile_limits(isa, shape.itemsize)
    lines, width = shape.rows, shape.columns
    if pixels.runs_on(shape.spec, shape.axes, isa):
        depth, height, row = shape.axes
        lines, width = depth.count, (height.count - 1) * (row.source + row.lo) + width
    near = 1.0
    if isa == "avx2":  # others were not measured since
        near = 0.5 if shape.phases == 1 and copied * shape.itemsize <= L1_BYTES * shape.groups // 2 else 1
        if pixels.in_place(shape.spec, shape.axes):
            rows, apart = 0, prod(axis.source for axis in shape.axes) * shape.itemsize
            copied *= apart % L1_WAY == 0 and shape.channels > L1_BYTES // L1_WAY  # they meet in the same sets of L1
    vectors = -(-lines * -(-width // lanes) // several) * several * shape.groups * (lanes / shape.lanes)
    strided = shape.axes[2].source_step > 1
    return (vectors * shape.filters * shape.taps, near * vectors * -(-shape.filters // 8) * shape.taps,
            vectors * shape.filters * shape.phases, 0 if strided else copied, copied if strided else 0, rows,
            shape.target if shape.phases > 1 else 0, shape.far_source, shape.far_target)


AMOUNTS = {"direct": direct, "grids": in_grids, "gemm": matrix_product, "winograd": by_tiles, "depthwise": by_plane}
# On one core: "avx2" of a Zen 3 server, "avx512" of a Zen 4 one, "portable" of a Sapphire Rapids one, its depthwise row
# a guess from AVX2's there.
COEFFICIENTS = {
    "avx2": {
        "depthwise": (0.000145, 0.000338, 0.00133, 0.000143, 0.000244, 0.00498, 0, 0.000211, 0),
        "direct": (0.000195, 0.000125, 0.0136, 0.0193, 0.000315, 5.04e-05, 0.000571, 0),
        "grids": (0.000157, 0.00056, 0.00028, 1.5e-06, 0, 0.00012, 0.00025),
        "gemm": (0.000164, 5.55e-05, 0.000267, 0.0043, 1.88e-05, 9e-05, 1.82e-05, 4.25e-05, 0),
        "winograd": (0.000214, 0.000614, 0.000114, 2.29e-05, 0, 0.00255, 0.000119, 0.000309),
    },
    "avx512": {
        "depthwise": (0.000252, 0.000203, 0.000996, 0, 9.45e-05, 0.00545, 0, 1.72e-05, 0),
        "direct": (0.000331, 0, 0.00535, 0.00421, 5.7e-05, 7.12e-05, 0.000111, 1.62e-05),
        "gemm": (0.000267, 5.6e-05, 7.8e-05, 0.00237, 0, 1.06e-05, 4e-06, 2.48e-05, 0),
        "grids": (0.000255, 0.00105, 8.84e-05, 1.71e-06, 0, 7.38e-06, 1.51e-05),
        "winograd": (0.00027, 0.0008, 5e-05, 5e-06, 0, 0.000818, 0, 0),
    },
    "portable": {
        "depthwise": (0.00041, 0.000713, 0.00273, 0.000303, 0.001, 0, 0.00232, 0, 0),
        "direct": (0.000449, 0.000124, 0.00994, 0.00766, 0.00366, 0.00156, 0.000798, 0.0091),
        "gemm": (0.000377, 0.000852, 0, 0.00683, 2e-05, 0.0017, 0.000718, 0, 0.00164),
        "winograd": (0.000244, 0.00158, 0.00292, 0, 0.000168, 0.00216, 0.00429, 0),
    },
}
COEFFICIENTS["neon"] = COEFFICIENTS["avx2"]  # not measured; of the others the nearest
_shape = lru_cache(maxsize=64)(Shape)


def row(algorithm, spec, isa):
    """Which coefficients are those of an algorithm: direct convolution has two ways."""
    shape = _shape(spec, isa)
    grids = algorithm == "direct" and by_channel.in_place_in_grids(shape.axes, shape.filters, isa, shape.itemsize)
    return "grids" if grids else algorithm


def amounts(algorithm, spec, isa):
    """The amounts of work of an algorithm that can compute ``spec``."""
    return AMOUNTS[row(algorithm, spec, isa)](_shape(spec, isa))


def by_rule(algorithm, spec):
    """Whether a rule decides: for one plane and one filter a group depthwise has kernels of its own, which were never
    slower than another algorithm; tiles along one axis, those of stride 2 and woven phases have rules (``loses``), and
    are not fitted."""
    if algorithm == "depthwise":
        return spec.c_in_per_group == spec.c_out_per_group == 1
    if algorithm == "winograd":
        return winograd.along(spec) is not None or winograd.strided(spec)
    return algorithm == "gemm" and (any(axis.phases[0].step > 1 for axis in geometry.axes(spec))
                                    or gemm.by_place(spec))


def microseconds(algorithm, spec, isa):
    """What an algorithm that can compute ``spec`` is predicted to take for one image; None where a rule decides."""
    if not all(axis.phases for axis in geometry.axes(spec)):
        return 0.0  # no tap reaches any target
    if by_rule(algorithm, spec):
        return None
    return sum(map(mul, COEFFICIENTS[isa][row(algorithm, spec, isa)], amounts(algorithm, spec, isa)))


# ---- weight gradients that either dot products of pixels or sums over them compute

# Nanoseconds, fitted (``benchmarks/fit_costs.py gradients``) to 800 random shapes of one image each, square maps of 7
# to 224, 1 to 512 channels, 2 to 256 filters: what is predicted to be faster takes 1.006 times the better of the two at
# AVX-512, 1.018 times at AVX2.
DOTS = {"avx512": (0.268, 3.09, 0.5, 2.22, 2.69), "avx2": (0.143, 2.14, 0.253, 1.28, 1.42)}
SUMS = {"avx512": (0.287, 2.42, 2.52, 3.23, 0.4), "avx2": (0.152, 1.63, 1.34, 1.0, 0.37)}
DOTS["portable"] = DOTS["neon"] = DOTS["avx2"]  # not measured
SUMS["portable"] = SUMS["neon"] = SUMS["avx2"]
WORTH_DOTS = 0.95  # of the time of direct


def dots_lose(spec, isa):
    """Why dot products of pixels should not compute a weight gradient; None if they may."""
    if not pixels.several(spec):
        return None
    dots = sum(map(mul, DOTS[isa], dot_amounts(spec, isa)))
    sums = sum(map(mul, SUMS[isa], pixel_amounts(spec, isa)))
    return None if dots <= WORTH_DOTS * sums else f"is predicted to take {dots / sums:.2f} of the time of direct"


def dot_amounts(spec, isa):
    """Vectors multiplied; sums loaded and stored, at each run of each block; vectors of dy; vectors copied, with a
    stride and without.
    """
    lanes, _ = kernels.tile_limits(isa, spec.dtype.itemsize)
    *outer, width = (target for _, target, *_ in geometry.canonical(spec))
    rows, vectors = prod(outer), -(-width // lanes)
    box = prod(n + lo + hi for n, (lo, hi) in zip(spec.size, spec.padding, strict=True))
    blocks = -(-spec.c_in_per_group * box * spec.dtype.itemsize // pixels.source_bytes(isa))
    runs = max(blocks, -(-rows // max(1, pixels.RUN // vectors)) * -(-vectors // pixels.RUN))
    sums = spec.c_out * spec.c_in_per_group * prod(spec.kernel)
    copied = 0 if pixels.dots_inside(spec) else spec.c_in * box / lanes
    strided = spec.stride[-1] > 1
    return (sums * rows * vectors, sums * runs, spec.c_out * rows * width / lanes, copied if strided else 0,
            0 if strided else copied)


def pixel_amounts(spec, isa):
    """Vectors multiplied; of the box of x and of dy, transposed; read in place; sums."""
    lanes, _ = kernels.tile_limits(isa, spec.dtype.itemsize)
    channels, filters, pixels_out = spec.c_in_per_group, spec.c_out_per_group, prod(spec.out_size)
    sums = spec.c_out * channels * prod(spec.kernel)
    if set(spec.kernel) == set(spec.stride) == {1} and spec.size == spec.out_size:
        fewer, more = sorted((channels, filters))
        in_lanes = min(-(-filters // lanes) * channels, -(-channels // lanes) * filters)
        return (spec.groups * in_lanes * pixels_out, 0, spec.groups * fewer * pixels_out / lanes,
                spec.groups * more * pixels_out / lanes, sums)
    vectors = spec.groups * -(-filters // lanes)
    box = prod(n + lo + hi for n, (lo, hi) in zip(spec.size, spec.padding, strict=True))
    return (vectors * channels * prod(spec.kernel) * pixels_out, spec.groups * -(-channels // lanes) * box,
            vectors * pixels_out, 0, sums)


# ---- the limits of this machine


@cache
def _peak(isa, itemsize):
    return native.runtime.fma_peak(isa, PROBE_SECONDS, itemsize)


@cache
def _copied(log2_bytes):
    return native.runtime.copy_bandwidth(2**log2_bytes // 2, PROBE_SECONDS)


def limits(flops, nbytes, isa, itemsize):
    """Microseconds of that many multiply-adds (two FLOP each) at the peak of one core, and of a copy as large."""
    log2_bytes = min(max(int(log2(max(nbytes, 1))), 13), 27)
    return flops / _peak(isa, itemsize) * 1e-3, nbytes / _copied(log2_bytes) * 1e-3
