"""Implicit matrix product with pixels in the lanes: which convolutions take it, and in how large panels."""

from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from convkit import settings
from convkit.plan import depthwise, geometry
from convkit.plan.common import Packing
from convkit.plan.direct import fill, share_inside

# What the panels of one task may hold: they stay in L2 while all filters pass by.
PANEL_BYTES = 256 * 1024
VECTORS = 3  # of a panel; 2 and 4 are 2-5 % slower on most layers
MOST_TAPS = 4096  # the tile closes at most this many in one go
LONG_ROW = 256  # pixels; shorter phases fill the panels in many pieces
LARGE_TARGET = 1024 * 1024  # bytes; phases by direct tiles read and write every line of it once each
FEWEST_FILTERS = 8  # that a filled panel must serve
MANY_FILTERS = 32  # with which, or with one phase to a row, phases of one tap a channel pay at any size
MOST_STACKED = 16  # rows of phases and filters
MEASURED = ("avx2", "avx512")  # where these pay, and a single filter
MOST_BESIDE = 16  # phases of a row: their sums stay in L1
# Phases of a row that a single filter needs, stacked: so many phases in all, or products of a sum.
FEWEST_BESIDE, FEWEST_STACKED, LONG_STACKED = 4, 8, 1024
# Planes that are little but padding: places have taps of their own there, and images are in the lanes.
FEW_PLACES = 4  # of the source or of the target
MOST_PLACES = 16  # of the target
MOST_INSIDE = 3 / 4  # of all pairs of a target and a kernel position, those that meet the source
FEWEST_BY_PLACE = 32  # channels and filters of a group
PLACE_VECTORS = 2  # of images


def rejects(spec, _isa):
    """Why it cannot compute ``spec``; None if it can."""
    three = geometry.axes(spec)
    if not all(axis.phases for axis in three):
        return "is for targets that have taps"
    if by_place(spec):
        taps = _group_channels(spec) * max(len(positions) for _, positions, *_ in _places(three))
        return None if taps <= MOST_TAPS else _too_long(taps)
    if len(three[2].phases) > MOST_BESIDE:
        return f"weaves at most {MOST_BESIDE} phases of a row, not {len(three[2].phases)}"
    if any(_reach(phase) != list(range(_reach(phase)[0], _reach(phase)[-1] + 1)) for phase in _woven(three)):
        return "weaves phases whose taps are neighbours, not with this dilation"
    taps = _taps(spec, three)
    if taps > MOST_TAPS:
        return _too_long(taps)
    return None


def _too_long(taps):
    return f"is for sums of at most {MOST_TAPS} products, not {taps}"


def by_place(spec):
    """Whether every target has a panel of its own, of many images, with the taps that meet the source there."""
    three = geometry.axes(spec)
    targets, sources = (prod(getattr(a, side) for a in three) for side in ("target", "source"))
    return (min(spec.c_in_per_group, spec.c_out_per_group) >= FEWEST_BY_PLACE and targets <= MOST_PLACES
            and min(targets, sources) <= FEW_PLACES and prod(share_inside(axis, 1) for axis in three) <= MOST_INSIDE
            and all(map(_every_tap_meets, three)))


def _every_tap_meets(axis):
    """Whether no position of the kernel meets only padding: then every weight is a part of some target."""
    met = {tap for _, pairs in _targets(axis) for tap, at in pairs if 0 <= at < axis.source}
    return all(tap in met for phase in axis.phases for tap, _ in phase.taps)


def loses(spec, isa):
    """Why it should not compute ``spec``, for phases, which the cost model leaves to this rule; None if it pays."""
    three = geometry.axes(spec)
    if by_place(spec) or all(axis.phases[0].step == 1 for axis in three):
        return None
    filters = spec.c_out_per_group if spec.direction == "forward" else spec.c_in_per_group
    if filters < FEWEST_FILTERS:
        if isa in MEASURED and filters == 1 and (depthwise.rejects(spec, isa) or _stacks(spec, three)):
            return None  # direct would fill one lane
        return f"pays from {FEWEST_FILTERS} filters per group, not with {filters}"
    alone = all(len(phase.taps) == 1 for axis in three for phase in axis.phases)
    always = isa in MEASURED and alone and (filters >= MANY_FILTERS or not _woven(three))
    return _phases_not_worth_it(three, filters * spec.groups * spec.dtype.itemsize, always)


def _stacks(spec, three):
    """Whether phases of one filter pay as rows of the same tiles, which read no input again for each."""
    phases = prod(len(axis.phases) for axis in three)
    return (len(three[2].phases) >= FEWEST_BESIDE and phases <= MOST_STACKED
            and all(len({tuple(_reach(phase)) for phase in axis.phases}) == 1 for axis in three)
            and (phases >= FEWEST_STACKED or _taps(spec, three) >= LONG_STACKED))


def _woven(three):
    """The phases of a row, if there are several."""
    return three[2].phases if len(three[2].phases) > 1 else ()


def _reach(phase):
    return sorted(offset for _, offset in phase.taps)


def _phases_not_worth_it(three, bytes_per_target, always):
    """Why not phases of a row that may read other inputs or, unless ``always``, be too small."""
    if len({tuple(_reach(phase)) for phase in three[2].phases}) > 1:
        return "pays for phases that read the same inputs, which a kernel longer than the stride has not"
    if always:
        return None
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
        self.kernel.run(x, packed, bias, y, len(x), settings.get_threads(), then)


class ByPlace(Packing):
    """The same, place by place, on the weight as it lies: a training step meets every weight once, and packs nothing.

    Forward an infinite weight is NaN where it meets padding, and here it is left out. It makes a number of every image
    infinite or NaN, so that looking at the small y is enough to find it; then all taps are computed.
    """

    pack_key = ("gemm", "as it lies")

    def __init__(self, spec, isa):
        self.spec, self.isa = spec, isa
        three = geometry.axes(spec)
        places = list(_places(three))
        self.complete = len(places) == prod(axis.target for axis in three)
        self.kernel = _kernel(spec, isa, three, places)

    def with_packed(self, x, packed, bias, y):
        if not self.complete:
            fill(y, bias)
        operands = x, packed, bias, y, len(x), settings.get_threads()
        self.kernel.run(*operands)
        if self.spec.direction == "forward" and not np.isfinite(y).all() and not np.isfinite(packed).all():
            self._with_padding.run(*operands)

    @cached_property
    def _with_padding(self):
        three = geometry.axes(self.spec)
        return _kernel(self.spec, self.isa, three, list(_places(three, inside=False)))


def sums(spec, isa):
    """The object that runs a forward pass or an input gradient."""
    return ByPlace(spec, isa) if by_place(spec) else Sums(spec, isa)


def _group_channels(spec):
    return spec.c_in_per_group if spec.direction == "forward" else spec.c_out_per_group


def _taps(spec, three):
    """The longest sum."""
    return _group_channels(spec) * prod(max(len(phase.taps) for phase in axis.phases) for axis in three)


def _kernel(spec, isa, three, places=None):
    from convkit.kernels import conv, gemm

    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    shares = places or list(_shares(three, channels // spec.groups))
    vectors = PLACE_VECTORS if places else VECTORS
    lanes, _ = conv.tile_limits(isa, spec.dtype.itemsize)
    taps = max(len(positions) for _, positions, *_ in shares) * channels // spec.groups
    panel_bytes = taps * vectors * lanes * spec.dtype.itemsize
    return gemm.Gemm(
        spec.dtype, isa, spec.groups, channels, filters, [a.source for a in three], [a.target for a in three],
        [a.source_step for a in three], [a.phases[0].step for a in three], shares, vectors,
        max(1, PANEL_BYTES // panel_bytes), MOST_STACKED, spec.macs, geometry.weight_strides(spec), places is not None)


def _places(three, inside=True):
    """What ``kernels.gemm`` must know of every target that has taps, each of which is a share of one place: those taps
    that meet the source, or all.
    """
    _, height, width = (a.kernel for a in three)
    for target in product(*map(_targets, three)):
        taps = list(product(*([(tap, at) for tap, at in pairs if 0 <= at < a.source or not inside]
                              for (_, pairs), a in zip(target, three, strict=True))))
        if taps:
            order = [(kz * height + ky) * width + kx for (kz, _), (ky, _), (kx, _) in taps]
            places = [(tuple(at for _, at in tap), i) for i, tap in enumerate(taps)]
            yield (1, 1, 1), places, len(taps), [[(tuple(start for start, _ in target), 1, 0, order)]]


def _targets(axis):
    """Every target of an axis and its (tap, source) pairs."""
    for phase in axis.phases:
        for j in range(phase.count):
            first = j * axis.source_step - axis.lo
            yield phase.start + j * phase.step, [(tap, first + offset) for tap, offset in phase.taps]


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
