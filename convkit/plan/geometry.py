"""Where the taps of a convolution lie: the arithmetic that turns a spec into tables for the kernels.

Everything is three-dimensional here, with ones in front. A direct convolution reads a zero-padded copy of its
*source* and writes its *target*:

    target[f, start + j * step] = sum over taps of w[f, c, tap] * source[c, j * source_step + offset(tap) - lo]

Forward, the source is x, and there is one phase: offset = tap * dilation, source_step = stride, step = 1. For the
input gradient the source is dy and the target dx; the targets of one residue modulo the stride share their taps,
so there is one phase per residue with source_step = 1 and step = stride, and no zero is ever inserted.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

# Bytes of padded source that one round of tasks shares: about half of a small L2, so that the weights fit beside.
SOURCE_BYTES = 512 * 1024
# A source that the tiles read in place comes into L2 by their own prefetches; a larger one is copied, as a stream.
IN_PLACE_BYTES = 1024 * 1024
# How much more a box may copy per target than the whole source: dilated kernels reach far beyond a small box.
MOST_COPIED = 3
# What beginning a row of a copy costs, in elements.
ROW = 32


PLAIN = (1, 1, 0, 1)  # kernel, stride, lo and dilation of an axis whose pixels do not meet


@dataclass(frozen=True, slots=True)
class AxisPhase:
    """One residue of one axis: targets ``start + j * step`` for j below ``count``; ``taps`` are (tap, offset)."""

    start: int
    step: int
    count: int
    taps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a direct convolution."""

    source: int
    target: int
    kernel: int
    lo: int
    source_step: int
    phases: tuple[AxisPhase, ...]

    def extent(self, block):
        """Padded source elements that ``block`` neighbouring targets of any phase read."""
        return (block - 1) * self.source_step + max(offset for p in self.phases for _, offset in p.taps) + 1

    @property
    def count(self):
        return max(p.count for p in self.phases)

    @property
    def complete(self):
        """Whether the phases write every target."""
        return sum(p.count for p in self.phases) == self.target


def forward_axis(size, out, kernel, stride, lo, dilation):
    taps = tuple((k, k * dilation) for k in range(kernel))
    return Axis(size, out, kernel, lo, stride, (AxisPhase(0, 1, out, taps),))


def gradient_axis(size, out, kernel, stride, lo, dilation):
    # dx[i] = sum over k of dy[(i + lo - k * dilation) / stride] * w[k], where the division is exact
    residues = {}
    for k in range(kernel):
        first = (k * dilation - lo) % stride
        if first < size:
            residues.setdefault(first, []).append((k, (first + lo - k * dilation) // stride))
    pad = max((-q for taps in residues.values() for _, q in taps), default=0)
    phases = tuple(
        AxisPhase(first, stride, -(-(size - first) // stride), tuple((k, q + pad) for k, q in taps))
        for first, taps in sorted(residues.items()))
    return Axis(out, size, kernel, pad, 1, phases)


def canonical(spec):
    """Per-axis (size, out, kernel, stride, lo, dilation), three axes; neighbours without a kernel are one axis."""
    rows = []
    for size, out, kernel, stride, (lo, hi), dilation in zip(
            spec.size, spec.out_size, spec.kernel, spec.stride, spec.padding, spec.dilation, strict=True):
        plain = kernel == stride == 1 and lo == hi == 0
        if plain and rows and rows[-1][2:] == PLAIN:
            rows[-1] = (rows[-1][0] * size, rows[-1][1] * out, *PLAIN)
        else:
            rows.append((size, out, *PLAIN) if plain else (size, out, kernel, stride, lo, dilation))
    return [(1, 1, *PLAIN)] * (3 - len(rows)) + rows


@lru_cache(maxsize=256)
def axes(spec):
    """The three ``Axis`` of a forward or input-gradient spec."""
    make = forward_axis if spec.direction == "forward" else gradient_axis
    return tuple(make(*row) for row in canonical(spec))


def weight_strides(spec):
    """Elements of the weight array from group to group, filter to filter and channel to channel of the sums."""
    by_in = prod(spec.kernel)
    by_out = spec.c_in_per_group * by_in
    group = spec.c_out_per_group * by_out
    return (group, by_out, by_in) if spec.direction == "forward" else (group, by_in, by_out)


def aliases(elements, itemsize):
    """Whether planes this far apart meet in a few sets of the L1 cache: their distance is a multiple of 2 KB."""
    return elements * itemsize % 2048 == 0


def few_sets(elements, itemsize):
    """Whether lines this far apart meet in a quarter of the sets of the L1 cache, or in fewer."""
    return elements * itemsize % 256 == 0


def pitch(elements, itemsize):
    """Elements from one padded plane to the next: an odd number of cache lines, so that the same place in many planes
    spreads over all sets of the L1 cache."""
    per_line = 64 // itemsize
    return (-(-elements // per_line) | 1) * per_line


def in_rows(three, itemsize):
    """Whether the source is one row per channel, without padding, that the tiles could read themselves."""
    return (all(a.lo == 0 and a.extent(a.count) <= a.source for a in three) and three[0].source == three[1].source == 1
            and not aliases(three[2].source, itemsize))


def in_place(three, channels, itemsize):
    """Whether the tiles read the source itself because it is small enough."""
    return in_rows(three, itemsize) and channels * three[2].source * itemsize <= IN_PLACE_BYTES


def blocks(three, channels, itemsize, nbytes=None, filters=0):
    """Targets per axis that one padded box serves, so that the box, and the sums of so many ``filters``, stay near
    ``nbytes``, ``SOURCE_BYTES`` if None.

    Each step splits the axis that leaves the least padded source to copy per target: every split reads the
    kernel's overhang twice, and a short row costs about ``ROW`` elements more than its length.
    """
    nbytes = SOURCE_BYTES if nbytes is None else nbytes

    def block(parts):
        return [-(-a.count // p) for a, p in zip(three, parts, strict=True)]

    def box(parts):
        return [a.extent(b) for a, b in zip(three, block(parts), strict=True)]

    def copied_per_target(parts):
        z, y, x = box(parts)
        return z * y * (x + ROW) / prod(block(parts))

    parts = (1, 1, 1)
    while itemsize * (channels * prod(box(parts)) + filters * prod(block(parts))) > nbytes:
        splits = [parts[:i] + (parts[i] + 1 + parts[i] // 4,) + parts[i + 1:]
                  for i, b in enumerate(block(parts)) if b > 1]
        if not splits:
            break
        best = min(splits, key=copied_per_target)
        if copied_per_target(best) > MOST_COPIED * copied_per_target((1, 1, 1)):
            break
        parts = best
    return block(parts)


def phases(three):
    """The phases of space: products of the axes' phases, each with its taps as (flat tap, (z, y, x) offset)."""
    _, height, width = (a.kernel for a in three)
    for pz, py, px in product(*(a.phases for a in three)):
        taps = [((kz * height + ky) * width + kx, (z, y, x))
                for (kz, z), (ky, y), (kx, x) in product(pz.taps, py.taps, px.taps)]
        yield (pz, py, px), taps


def tile_vectors(filters, runs, taps, lanes, most_pixels):
    """Vectors per panel: the shape that spends the fewest cycles on ``filters`` filters and runs of pixels."""
    vectors = [v for v in range(1, len(most_pixels) + 1) if most_pixels[v - 1]]
    return min(vectors, key=lambda v: tile_slots(v, filters, runs, taps, lanes, most_pixels))


def tile_slots(vectors, filters, runs, taps, lanes, most_pixels):
    """Slots of the multiply-add units that ``filters`` filters and runs of pixels take in panels of ``vectors``.

    ``runs`` are (pixels, how many of them). A tile of m pixels by v vectors costs about max(m·v, m + v, 8) slots a tap
    (multiply-adds, loads, latency), and a fixed part for its store. ``most_pixels[v - 1]`` is the longest run the
    registers hold at v vectors; runs of at most half that are taken in pairs where v > 1.
    """
    most = most_pixels[vectors - 1]

    def all_runs(v):
        return sum(
            run_cost(2 * pixels, v) * (count // 2) + run_cost(pixels, v) * (count % 2)
            if v > 1 and 2 * pixels <= most else run_cost(pixels, v) * count for pixels, count in runs)

    def run_cost(pixels, v):
        n = -(-pixels // most)
        m, more = divmod(pixels, n)
        return (n - more) * slots(m, v) + more * slots(m + 1, v)

    def slots(m, v):
        return taps * (max(m * v, m + v, 8) + v / 4) + 40 + 4 * m * v if m else 0

    panels, rest = divmod(-(-filters // lanes), vectors)
    return panels * all_runs(vectors) + (all_runs(rest) if rest else 0)
