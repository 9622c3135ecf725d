"""Winograd's F(3x3, 4x4) and F(5x5, 4x4) in every slice of depth: which weight gradients take it, and in how large
rounds.

The error is bounded by the largest inputs of the tiles (``precision="strict"`` refuses it), and a batch that holds a
NaN, an infinity or a number near the end of the range is computed directly.
"""

from functools import cached_property
from math import prod

import numpy as np

from convkit import settings
from convkit.plan import direct, geometry, winograd

# Fewer tiles in a whole batch take the direct kernel, unless Winograd is forced: its sums are four times as large, and
# one image of 7 x 7 takes a third of the time there. A plan does not know the batch, but of a sum over it no part has
# bits of its own.
FEWEST_IN_A_BATCH = 16
TAPS = (3, 3), (3, 5)  # from and to, along both axes
FEWEST_CHANNELS = 8  # and four times that in each of several groups, whose products are small
FEWEST_APART = 128  # channels where a dilation takes x and dy apart
TRANSFORMS = 1.25  # what a tile costs, in that of its multiplications
# What a round holds at the points: half of a large L2, or as much as its sums, to a limit.
ROUND_BYTES = 768 * 1024
MOST_ROUND_BYTES = 16 * 1024 * 1024


def rejects(spec, _isa):
    """Why Winograd cannot compute ``spec``; None if it can."""
    if settings.choice()[2] == "strict":
        return "its error is not bounded by every window's own numbers, which precision='strict' asks for"
    if spec.rank == 1 or not any(all(low <= k <= most for k in spec.kernel[-2:]) for low, most in TAPS):
        return f"is for kernels of 3 x 3, or of 3 to 5 taps in height and width, at any depth, not {spec.kernel}"
    if spec.stride[-2:] != (1, 1):
        return f"is for stride 1 in height and width, not {spec.stride}"
    if spec.dtype.itemsize != 4:
        return f"is for float32, not {spec.dtype}"
    return None


def loses(spec, _isa):
    """Why it should not compute ``spec``; None if it pays."""
    fewest = FEWEST_CHANNELS * (1 if spec.groups == 1 else 4)
    if spec.dilation[-2:] != (1, 1):
        fewest = FEWEST_APART
    if min(spec.c_in_per_group, spec.c_out_per_group) < fewest:
        return (f"pays from {fewest} channels and filters per group, not with {spec.c_in_per_group} and "
                f"{spec.c_out_per_group}")
    tiles = _tiles(spec)
    if _points(spec) * tiles * TRANSFORMS > prod(spec.kernel[-2:]) * prod(spec.out_size):
        return f"{tiles} tiles of 4 x 4 on {' x '.join(map(str, spec.out_size))} outputs are mostly empty"
    return None


def _points(spec):
    return (winograd.taps(spec) + 3) ** 2


def _part(n, dilation):
    return -(-n // dilation)


def _tiles(spec):
    """Tiles of an image, all slices and residues."""
    in_plane = (d * _part(_part(n, d), 4) for n, d in zip(spec.out_size[-2:], spec.dilation[-2:], strict=True))
    return prod(spec.out_size[:-2]) * prod(in_plane)


class Winograd:
    """Runs ``(dy, x, dw)``. With dilation d what belongs to one residue modulo d, in height and width, is an image of
    its own.
    """

    def __init__(self, spec, isa):
        self.spec, self.isa = spec, isa
        self.apart = spec.dilation[-2:]
        self.lo = [before for before, _ in spec.padding[-2:]]
        self.kernel = _kernel(spec, isa)

    def __call__(self, dy, x, dw):
        if len(x) * _tiles(self.spec) < FEWEST_IN_A_BATCH and settings.choice()[1] != "winograd":
            self._by_window(dy, x, dw)
        else:
            self._by_tiles(dy, x, dw)

    def _by_tiles(self, dy, x, dw):
        n = len(x) * prod(self.apart)
        images = dy, x
        if self.apart != (1, 1):
            sides = [_part(n, d) for n, d in zip(self.spec.out_size[-2:], self.apart, strict=True)]
            met = [side + k - 1 for side, k in zip(sides, self.spec.kernel[-2:], strict=True)]
            images = self._apart(dy, sides, (0, 0)), self._apart(x, met, self.lo)
        if not self.kernel.run(*(a.reshape(-1) for a in images), dw.reshape(-1), n, settings.get_threads()):
            self._by_window(dy, x, dw)

    @cached_property
    def _by_window(self):
        return direct.WeightGradient(self.spec, self.isa)

    def _apart(self, array, sides, lo):
        from convkit.kernels import winograd

        planes = prod(array.shape[1:-2])
        parts = np.empty((len(array), *self.apart, planes, *sides), array.dtype)
        winograd.take_apart(array.reshape(len(array), planes, *array.shape[-2:]), parts, lo, settings.get_threads())
        return parts

    @property
    def workspace_bytes(self):
        return self.kernel.workspace_bytes


def _kernel(spec, isa):
    from convkit.kernels import conv, weight_gradient

    rows = geometry.canonical(spec)
    source, target, kernel, stride, lo, dilation = (list(row) for row in zip(*rows, strict=True))
    for axis in (1, 2):
        if spec.dilation[-2:] != (1, 1):
            target[axis] = _part(target[axis], dilation[axis])
            source[axis], lo[axis] = target[axis] + kernel[axis] - 1, 0  # parts hold their zeros
    shift = [k * dilation[0] - lo[0] for k in range(kernel[0])]
    channels, filters = spec.c_in_per_group, spec.c_out_per_group
    tile_rows, tile_columns = (_part(n, 4) for n in target[1:])
    row_bytes = _points(spec) * 4 * spec.groups * (channels + filters) * tile_columns
    sums_bytes = _points(spec) * 4 * spec.groups * channels * filters * len(shift)
    block, slices, images = _round(tile_rows, target[0], row_bytes, max(ROUND_BYTES, min(sums_bytes, MOST_ROUND_BYTES)))
    lanes, most = conv.tile_limits(isa, 4)
    vectors = geometry.tile_vectors(filters, [(channels, 1)], block * slices * images * tile_columns, lanes, most)
    return weight_gradient.Winograd(isa, spec.groups, spec.c_in, spec.c_out, source, target, kernel[1:], lo[1:],
                                    stride[0], shift, block, slices, images, vectors, spec.macs)


def _round(rows, slices, row_bytes, budget):
    """Rows of tiles, slices and images of a round: as many as the budget holds, evenly."""
    most = max(1, budget // row_bytes)
    if most < rows:
        return _part(rows, _part(rows, most)), 1, 1
    most //= rows
    if most < slices:
        return rows, _part(slices, _part(slices, most)), 1
    return rows, slices, most // slices
