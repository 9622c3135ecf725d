"""Convolution with pixels in the lanes: when it pays, and how a spec becomes a ``kernels.depthwise.Depthwise``."""

from dataclasses import replace
from functools import partial
from math import prod

from convkit import settings
from convkit.plan import geometry

# With channels in the lanes, a group of fewer filters leaves lanes empty; with pixels in the lanes each filter reads
# every tap again. The border is measured (csrc/depthwise/README.md).
MOST_FILTERS = 6
MOST_PLANES = 4


def rejects(spec, _isa):
    """Why the depthwise kernels should not compute ``spec``, or None."""
    planes, filters = _roles(spec)
    if filters > MOST_FILTERS:
        return f"each group writes {filters} channels, more than {MOST_FILTERS}, which fill the lanes of other kernels"
    if planes > MOST_PLANES and filters > 1:
        return f"each group reads {planes} channels, more than {MOST_PLANES}"
    return None


def _roles(spec):
    """Planes that one group reads and writes; the weight gradient's are those of its forward pass."""
    if spec.direction == "input_gradient":
        return spec.c_out_per_group, spec.c_in_per_group
    return spec.c_in_per_group, spec.c_out_per_group


def build(spec, isa):
    """What runs ``spec``, with the arrays that ``plan.conv`` says."""
    return partial(_RUN[spec.direction], make(spec, isa))


def _forward(kernel, x, weight, bias, y):
    kernel.sum(x, weight, bias, y, len(x), settings.get_threads())


def _input_gradient(kernel, dy, weight, dx):
    kernel.sum(dy, weight, None, dx, len(dy), settings.get_threads())


def _weight_gradient(kernel, dy, x, dw):
    kernel.dot(dy, x, dw, len(x), settings.get_threads())


_RUN = {"forward": _forward, "input_gradient": _input_gradient, "weight_gradient": _weight_gradient}


def variant(spec, isa):
    """The first row of the registry that takes ``spec``."""
    from convkit.kernels import depthwise

    dot = spec.direction == "weight_gradient"
    for name, kernel, stride, has_sum, has_dot in depthwise.variants(isa, spec.dtype.itemsize):
        if (has_dot if dot else has_sum) and (not kernel or _fits(spec, kernel, stride)):
            return name
    raise AssertionError("the last row takes everything")


def _fits(spec, kernel, stride):
    return (spec.rank == 2 and spec.c_in_per_group == spec.c_out_per_group == 1 and spec.kernel == (kernel, kernel)
            and spec.stride == (stride, stride) and spec.dilation == (1, 1)
            and not (stride > 1 and spec.direction == "input_gradient"))


def make(spec, isa, name=None):
    """The kernel object of a spec; ``name`` forces a row of the registry (tests)."""
    from convkit.kernels import depthwise

    name = name or variant(spec, isa)
    gradient = spec.direction == "input_gradient"
    three = geometry.axes(spec if gradient else replace(spec, direction="forward"))
    planes, filters = _roles(spec)
    itemsize = spec.dtype.itemsize

    block = geometry.blocks(three, planes, itemsize)
    blocks = [-(-a.count // max(1, b)) for a, b in zip(three, block, strict=True)]
    step = three[2].source_step
    box = [a.extent(b) for a, b in zip(three, block, strict=True)]
    box[2] = -(-box[2] // step)  # of one residue
    plane_pitch = geometry.pitch(box[0] * box[1] * box[2] * step, itemsize)

    kernel = [k for _, _, k, *_ in geometry.canonical(spec)]
    taps = prod(kernel)
    by_out, by_in = spec.c_in_per_group * taps, taps
    w_filter, w_plane = (by_in, by_out) if gradient else (by_out, by_in)
    phases = [_phase(parts, positions, planes, box, step, plane_pitch, w_plane)
              for parts, positions in geometry.phases(three)]
    return depthwise.Depthwise(
        spec.dtype, isa, name, spec.groups, planes, filters, [a.source for a in three], [a.target for a in three],
        [a.lo for a in three], [a.source_step for a in three], kernel, block, blocks, box, plane_pitch,
        (by_out * spec.c_out_per_group, w_filter, w_plane), gradient, phases,
        not all(a.complete for a in three), _work(spec))


def _work(spec):
    """Multiply-adds, and moved elements at what they cost in multiply-adds."""
    return spec.macs + 8 * (prod(spec.x_shape(1)) + prod(spec.y_shape(1)))


def _phase(parts, positions, planes, box, step, plane_pitch, w_plane):
    start, steps, count = ([getattr(p, field) for p in parts] for field in ("start", "step", "count"))
    taps = [(((z * box[1] + y) * step + x % step) * box[2] + x // step, tap) for tap, (z, y, x) in positions]
    offsets = [c * plane_pitch + offset for c in range(planes) for offset, _ in taps]
    weights = [c * w_plane + tap for c in range(planes) for _, tap in taps]
    return start, steps, count, offsets, weights
