"""Implicit matrix product with pixels in the lanes: which convolutions take it, and in how large panels."""

from itertools import product
from math import prod

from convkit import settings
from convkit.plan import geometry
from convkit.plan.common import Packing
from convkit.plan.direct import fill

# What the panels of one task may hold: they stay in L2 while all filters pass by.
PANEL_BYTES = 256 * 1024
VECTORS = 3  # of a panel; 2 and 4 are 2-5 % slower on most layers
MOST_TAPS = 4096  # the tile closes at most this many in one go
LONG_ROW = 256  # pixels; shorter phases fill the panels in many pieces
LARGE_TARGET = 1024 * 1024  # bytes; phases by direct tiles read and write every line of it once each
FEWEST_FILTERS = 8  # that a filled panel must serve
MOST_BESIDE = 16  # phases of a row: their sums stay in L1


def rejects(spec, _isa):
    """Why it cannot compute ``spec``; None if it can."""
    three = geometry.axes(spec)
    if not all(axis.phases for axis in three):
        return "is for targets that have taps"
    if len(three[2].phases) > MOST_BESIDE:
        return f"weaves at most {MOST_BESIDE} phases of a row, not {len(three[2].phases)}"
    if any(_reach(phase) != list(range(_reach(phase)[0], _reach(phase)[-1] + 1)) for phase in _woven(three)):
        return "weaves phases whose taps are neighbours, not with this dilation"
    taps = _taps(spec, three)
    if taps > MOST_TAPS:
        return f"is for sums of at most {MOST_TAPS} products, not {taps}"
    return None


def loses(spec, _isa):
    """Why it should not compute ``spec``, for phases, which the cost model leaves to this rule; None if it pays."""
    three = geometry.axes(spec)
    if all(axis.phases[0].step == 1 for axis in three):
        return None
    filters = spec.c_out_per_group if spec.direction == "forward" else spec.c_in_per_group
    if filters < FEWEST_FILTERS:
        return f"pays from {FEWEST_FILTERS} filters per group, not with {filters}"
    return _phases_not_worth_it(three, filters * spec.groups * spec.dtype.itemsize)


def _woven(three):
    """The phases of a row, if there are several."""
    return three[2].phases if len(three[2].phases) > 1 else ()


def _reach(phase):
    return sorted(offset for _, offset in phase.taps)


def _phases_not_worth_it(three, bytes_per_target):
    if len({tuple(_reach(phase)) for phase in three[2].phases}) > 1:
        return "pays for phases that read the same inputs, which a kernel longer than the stride has not"
    if prod(a.count for a in three) < LONG_ROW:
        return f"pays for phases of {LONG_ROW} pixels, not of {prod(a.count for a in three)}"
    if prod(a.target for a in three) * bytes_per_target < LARGE_TARGET:
        return f"pays for phases of {LARGE_TARGET // 1024} KB of targets and more, where writing every line once tells"
    return None


class Sums(Packing):
    """Runs ``(x, weight, bias, y)`` or ``(dy, weight, bias, dx)``, the same on kernels turned around with channels and
    filters exchanged.
    """

    def __init__(self, spec, isa):
        three = geometry.axes(spec)
        self.kernel = _kernel(spec, isa, three)
        self.complete = all(axis.complete for axis in three)
        self.finishes = self.adds = self.kernel.plain
        taps = tuple(tuple(phase.taps for phase in axis.phases) for axis in three)
        self.pack_key = ("gemm", isa, self.kernel.vectors, spec.direction, taps)

    def with_packed(self, x, packed, bias, y, then=None):
        if not self.complete:
            fill(y, bias)
        self.kernel.run(x.reshape(-1), packed, bias, y.reshape(-1), x.shape[0], settings.get_threads(), then)


def _channels(spec):
    return spec.c_in if spec.direction == "forward" else spec.c_out


def _taps(spec, three):
    """The longest sum."""
    return _channels(spec) // spec.groups * prod(max(len(phase.taps) for phase in axis.phases) for axis in three)


def _kernel(spec, isa, three):
    from convkit.kernels import conv, gemm

    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    shares = list(_shares(three, channels // spec.groups))
    lanes, _ = conv.tile_limits(isa, spec.dtype.itemsize)
    taps = max(len(positions) for _, positions, *_ in shares) * channels // spec.groups
    panel_bytes = taps * VECTORS * lanes * spec.dtype.itemsize
    return gemm.Gemm(
        spec.dtype, isa, spec.groups, channels, filters, [a.source for a in three], [a.target for a in three],
        [a.source_step for a in three], [a.phases[0].step for a in three], shares, VECTORS,
        max(1, PANEL_BYTES // panel_bytes), spec.macs, geometry.weight_strides(spec))


def _shares(three, channels):
    """What ``kernels.gemm`` must know of the phases; those of the outer axes that read the same inputs share panels."""
    columns = sorted({offset for phase in three[2].phases for offset in _reach(phase)})
    shared = {}
    for outer in product(three[0].phases, three[1].phases):
        shared.setdefault(tuple((phase.count, *_reach(phase)) for phase in outer), []).append(outer)
    for ((depth, *zs), (lines, *ys)), rows in shared.items():
        positions = _in_order(three, zs, ys, columns)
        # A panel has the taps of a column of inputs behind each other, so that those of a phase follow each other too.
        channel_taps = len(zs) * len(ys) if _woven(three) else len(positions)
        places = [(tuple(o - a.lo for o, a in zip(position, three, strict=True)),
                   i // channel_taps * channels * channel_taps + i % channel_taps)
                  for i, position in enumerate(positions)]
        count = (depth, lines, max(phase.count for phase in three[2].phases))
        yield count, places, channel_taps, [
            [_phase(three, (*outer, beside), columns, channels * channel_taps) for beside in three[2].phases]
            for outer in rows]


def _in_order(three, zs, ys, xs):
    """(z, y, x) as the taps of a panel have them: by columns if the phases of a row share it."""
    return [(z, y, x) for x in xs for z in zs for y in ys] if _woven(three) else list(product(zs, ys, xs))


def _phase(three, phases, columns, column_taps):
    _, height, width = (a.kernel for a in three)
    kernel = [{offset: tap for tap, offset in phase.taps} for phase in phases]
    order = _in_order(three, *map(_reach, phases))
    first = columns.index(order[0][2]) * column_taps if _woven(three) else 0
    return (tuple(phase.start for phase in phases), phases[2].count, first,
            [(kernel[0][z] * height + kernel[1][y]) * width + kernel[2][x] for z, y, x in order])
