"""Direct convolution by the channels-in-lanes tiles: how a spec becomes a ``kernels.conv.Direct``."""

from math import prod

from convkit.kernels import conv
from convkit.plan import geometry


def build(spec, isa):
    """The kernel object of a forward or input-gradient spec, its tile and its boxes chosen by shape alone."""
    three = geometry.axes(spec)
    itemsize = spec.dtype.itemsize
    forward = spec.direction == "forward"
    channels, filters = (spec.c_in, spec.c_out) if forward else (spec.c_out, spec.c_in)
    group_channels, group_filters = channels // spec.groups, filters // spec.groups

    block = geometry.blocks(three, channels, itemsize)
    box = [a.extent(b) for a, b in zip(three, block, strict=True)]
    in_place = geometry.in_place(three, itemsize)
    channel_pitch = three[2].source if in_place else geometry.pitch(prod(box), itemsize)
    images = max(1, geometry.SOURCE_BYTES // (channel_pitch * channels * itemsize))

    tables = [_phase(parts, taps, box) for parts, taps in geometry.phases(three)]
    lanes, most_pixels = conv.tile_limits(isa, itemsize)
    taps = group_channels * max(len(positions) for *_, positions, _ in tables)
    vectors = geometry.tile_vectors(group_filters, _runs(three[2], block[2]), taps, lanes, most_pixels)

    kernel = prod(spec.kernel)
    w_group = spec.c_out_per_group * spec.c_in_per_group * kernel
    by_out, by_in = spec.c_in_per_group * kernel, kernel
    w_strides = (w_group, by_out, by_in) if forward else (w_group, by_in, by_out)
    return conv.Direct(
        spec.dtype, isa, spec.groups, channels, filters, [a.source for a in three], [a.target for a in three],
        [a.lo for a in three], [a.source_step for a in three], block, box, channel_pitch, images, in_place, vectors,
        spec.macs, tables, w_strides, not all(a.complete for a in three))


def _runs(axis, block):
    """Lengths of the pixel runs of the innermost axis: whole boxes and the last one."""
    count = axis.count
    return [block] * (count // block) + ([count % block] if count % block else [])


def _phase(parts, taps, box):
    start, step, count = ([getattr(p, field) for p in parts] for field in ("start", "step", "count"))
    positions = [tap for tap, _ in taps]
    offsets = [(z * box[1] + y) * box[2] + x for _, (z, y, x) in taps]
    return start, step, count, positions, offsets
