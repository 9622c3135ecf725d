"""Winograd's F(3x3, 4x4) and F(5x5, 4x4) for weight gradients: the loops over images, slices, blocks of tile rows and
the 36 or 64 points.

A round takes some rows of tiles of some slices of some images. Its tasks first bring vectors of channels of x and of
dy to the 36 points, then add the products of one point and one panel of filters, over all tiles of the round, to that
point's sums. When all rounds are done the sums become weights. Every sum adds up its tiles in their order and is one
task's.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset
from convkit.kernels.conv cimport tiles_of
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done, level_of
from convkit.kernels.tiles cimport ck_conv_grid, ck_conv_table, ck_conv_tile, round_up, run_rows

import numpy as np

cdef extern from "winograd/weight_gradient.h" nogil:
    ctypedef struct ck_gradient_tiles:
        const void* plane
        ptrdiff_t plane_step, planes, height, width, y, x, rows, columns
        void* scratch
        void* points
        ptrdiff_t point_step, tile_step
        double limit
    ctypedef struct ck_gradient_sums:
        const void* sums
        ptrdiff_t point_step, channels, lanes, rows, columns
        void* taps
        ptrdiff_t channel_step
    ctypedef struct ck_gradient_taps:
        int split_x(const ck_gradient_tiles* job) noexcept nogil
        int split_dy(const ck_gradient_tiles* job) noexcept nogil
        void join(const ck_gradient_sums* job) noexcept nogil
    ctypedef struct ck_gradient_table:
        ck_gradient_taps three, five
    ptrdiff_t ck_gradient_scratch(ptrdiff_t columns)
    const ck_gradient_table* ck_gradient_table_for(int level)

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.
cdef ptrdiff_t MIN_MACS = 1_000_000
# The transforms multiply by at most 26 (x), 46 (dy) and 4 (sums) at 36 points, by 225, 225 and 5 at 64, and up to 10^7
# tiles are added up.
cdef double LIMIT = 1e14
cdef double LIMIT_OF_FIVE = 1e13
# Channels that become weights at a time.
cdef enum:
    JOINED = 8


cdef struct gradient_t:
    const ck_conv_table* tiles
    const ck_gradient_taps* table
    ptrdiff_t points, kernel_height, kernel_width
    double limit
    ptrdiff_t groups, channels, group_channels, channel_lanes, filters, group_filters
    ptrdiff_t panel_filters, group_panels, group_lanes, most_pixels
    ptrdiff_t depth, height, width                 # of x
    ptrdiff_t out_depth, out_height, out_width     # of dy
    ptrdiff_t lo_y, lo_x
    ptrdiff_t depth_step, positions                # slices of x between neighbours of dy; kernel positions along depth
    const ptrdiff_t* shift       # slice of x of each position, from an output's index times depth_step; ascending
    ptrdiff_t tile_rows, tile_columns
    ptrdiff_t block, slices, images                # of a round: tile rows, output slices, images
    ptrdiff_t source_slices      # that the slices of a round meet
    ptrdiff_t x_tile, x_slice, x_image, x_group, x_point  # elements of x at the points between neighbours of each kind
    ptrdiff_t dy_point
    ptrdiff_t macs


cdef struct round_t:
    const gradient_t* plan
    const float* x               # first image of the round
    const float* dy
    float* x_points              # [point][group][image][slice][tile][channel lanes]
    float* dy_points             # [point][group][panel][image, slice, tile][panel lanes]
    float* sums                  # [group][panel][position][point][channel][panel lanes]
    float* dw
    ptrdiff_t* off               # of every tile of the round in x_points
    float* own                   # of each worker
    ptrdiff_t own_step
    uint8_t* bad                 # of each worker: met what the transforms would spread
    ptrdiff_t images, first_slice, slices, first_row, rows
    ptrdiff_t tiles              # of all images and slices
    bint first


cdef void split_x(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A vector of channels of one slice of x."""
    cdef const round_t* r = <const round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t lanes = p.tiles.lanes, vectors = (p.group_channels + lanes - 1) // lanes
    cdef ptrdiff_t c = task % vectors * lanes, group = task // vectors % p.groups
    cdef ptrdiff_t slice = task // vectors // p.groups % p.source_slices
    cdef ptrdiff_t image = task // vectors // p.groups // p.source_slices
    cdef ptrdiff_t z = r.first_slice * p.depth_step + p.shift[0] + slice, point, i
    cdef ck_gradient_tiles tiles
    cdef float* to = r.x_points + group * p.x_group + image * p.x_image + slice * p.x_slice + c
    if not 0 <= z < p.depth:
        for point in range(p.points):
            for i in range(r.rows * p.tile_columns):
                memset(to + point * p.x_point + i * p.x_tile, 0, lanes * sizeof(float))
        return
    tiles.plane_step = p.depth * p.height * p.width
    tiles.plane = r.x + ((image * p.channels + group * p.group_channels + c) * p.depth + z) * p.height * p.width
    tiles.planes = min(p.group_channels - c, lanes)
    tiles.height, tiles.width = p.height, p.width
    tiles.y, tiles.x = 4 * r.first_row - p.lo_y, -p.lo_x
    tiles.rows, tiles.columns = r.rows, p.tile_columns
    tiles.scratch = r.own + worker * r.own_step
    tiles.points = to
    tiles.point_step, tiles.tile_step = p.x_point, p.x_tile
    tiles.limit = p.limit
    if p.table.split_x(&tiles):
        r.bad[worker] = 1


cdef void split_dy(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A vector of filters of one slice of dy."""
    cdef const round_t* r = <const round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t lanes = p.tiles.lanes, vectors = p.group_lanes // lanes
    cdef ptrdiff_t f = task % vectors * lanes, group = task // vectors % p.groups
    cdef ptrdiff_t slice = task // vectors // p.groups % r.slices
    cdef ptrdiff_t image = task // vectors // p.groups // r.slices
    cdef ptrdiff_t filter0 = f // p.panel_filters * p.panel_filters
    cdef ptrdiff_t panel_lanes = min(p.panel_filters, p.group_lanes - filter0)
    cdef ck_gradient_tiles tiles
    tiles.plane_step = p.out_depth * p.out_height * p.out_width
    tiles.plane = r.dy + ((image * p.filters + group * p.group_filters + f) * p.out_depth + r.first_slice + slice) * (
        p.out_height * p.out_width)
    tiles.planes = min(p.group_filters - f, lanes)
    tiles.height, tiles.width = p.out_height, p.out_width
    tiles.y, tiles.x = 4 * r.first_row, 0
    tiles.rows, tiles.columns = r.rows, p.tile_columns
    tiles.scratch = r.own + worker * r.own_step
    tiles.points = r.dy_points + (group * p.group_lanes + filter0) * r.tiles + f - filter0 + (
        (image * r.slices + slice) * r.rows * p.tile_columns * panel_lanes)
    tiles.point_step, tiles.tile_step = p.dy_point, panel_lanes
    tiles.limit = p.limit
    if p.table.split_dy(&tiles):
        r.bad[worker] = 1


cdef inline float* sums_of(const round_t* r, ptrdiff_t group, ptrdiff_t filter0) noexcept nogil:
    """The sums of the panel of a group that begins with this filter."""
    cdef const gradient_t* p = r.plan
    return r.sums + (group * p.group_lanes + filter0) * p.positions * p.points * p.group_channels


cdef void sum_point(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """The products of one point, one kernel position along the depth and one panel of filters with all channels."""
    cdef const round_t* r = <const round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t panel = task % p.group_panels, group = task // p.group_panels % p.groups
    cdef ptrdiff_t k = task // p.group_panels // p.groups % p.positions
    cdef ptrdiff_t point = task // p.group_panels // p.groups // p.positions
    cdef ptrdiff_t filter0 = panel * p.panel_filters
    cdef ptrdiff_t lanes = min(p.panel_filters, p.group_lanes - filter0)
    cdef ck_conv_tile tile
    cdef ck_conv_grid grid
    grid.panels = grid.rows = 1
    grid.w_panel = grid.y_panel = grid.ahead_panel = grid.x_row = grid.y_row = 0
    grid.by_chunk = 0
    tile.x = r.x_points + point * p.x_point + group * p.x_group + (p.shift[k] - p.shift[0]) * p.x_slice
    tile.y = sums_of(r, group, filter0) + (k * p.points + point) * p.group_channels * lanes
    tile.off = r.off
    tile.taps = r.tiles
    tile.x_step = 1
    tile.x_half = 0
    tile.w = r.dy_points + point * p.dy_point + (group * p.group_lanes + filter0) * r.tiles
    tile.ahead = <const float*>tile.w + tile.taps * lanes
    tile.bias = tile.row_bias = tile.ahead_end = NULL
    tile.y_pixel = lanes
    tile.y_filter = 1
    tile.filters = lanes
    tile.accumulate = not r.first
    tile.finish = NULL
    run_rows(p.tiles, sizeof(float), &tile, &grid, p.group_channels,
             (p.group_channels + p.most_pixels - 1) // p.most_pixels, 1)


cdef void join_channels(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """The weights of a panel of filters and a few channels."""
    cdef const round_t* r = <const round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t panel = task % p.group_panels, group = task // p.group_panels % p.groups
    cdef ptrdiff_t c = task // p.group_panels // p.groups * JOINED, k
    cdef ptrdiff_t count = min(<ptrdiff_t>JOINED, p.group_channels - c)
    cdef ptrdiff_t plane = p.kernel_height * p.kernel_width, taps = plane * p.positions
    cdef ptrdiff_t filter0 = panel * p.panel_filters
    cdef ptrdiff_t lanes = min(p.panel_filters, p.group_lanes - filter0)
    cdef float* block = r.own + worker * r.own_step
    cdef const float* sums = sums_of(r, group, filter0) + c * lanes
    cdef ck_gradient_sums join
    join.point_step, join.channel_step = p.group_channels * lanes, taps * lanes
    join.channels, join.lanes = count, lanes
    join.rows, join.columns = p.kernel_height, p.kernel_width
    for k in range(p.positions):
        join.sums = sums + k * p.points * p.group_channels * lanes
        join.taps = block + plane * k * lanes
        p.table.join(&join)
    p.tiles.transpose(block, lanes, r.dw + ((group * p.group_filters + filter0) * p.group_channels + c) * taps,
                      p.group_channels * taps, count * taps, min(p.panel_filters, p.group_filters - filter0))


cdef class Winograd:
    """A planned weight gradient, float32, of a convolution that is up to 5 x 5 with stride 1 in every slice.

    ``source`` and ``target`` are the sizes of x and dy (depth, height, width), ``kernel`` the taps and ``lo`` the
    padding of height and width; a slice of dy times ``depth_step`` plus ``shift[k]`` is the slice of x that kernel
    position k of the depth meets.
    A round takes ``block`` rows of tiles of ``slices`` slices of each of ``images`` images.
    """

    cdef gradient_t plan
    cdef object _keep
    cdef readonly ptrdiff_t vectors, block, slices, images

    def __init__(self, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, kernel, lo,
                 ptrdiff_t depth_step, shift, ptrdiff_t block, ptrdiff_t slices, ptrdiff_t images, ptrdiff_t vectors,
                 ptrdiff_t macs):
        cdef gradient_t* p = &self.plan
        p.tiles = tiles_of(isa, 4)
        p.kernel_height, p.kernel_width = kernel
        cdef const ck_gradient_table* table = ck_gradient_table_for(level_of(isa))
        if max(kernel) <= 3:
            p.table, p.points, p.limit = &table.three, 36, LIMIT
        else:
            p.table, p.points, p.limit = &table.five, 64, LIMIT_OF_FIVE
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        p.channel_lanes = round_up(p.group_channels, p.tiles.lanes)
        p.panel_filters = vectors * p.tiles.lanes
        p.group_panels = (p.group_filters + p.panel_filters - 1) // p.panel_filters
        p.group_lanes = round_up(p.group_filters, p.tiles.lanes)
        p.most_pixels = p.tiles.most_pixels[vectors - 1]
        p.depth, p.height, p.width = source
        p.out_depth, p.out_height, p.out_width = target
        p.lo_y, p.lo_x = lo
        p.depth_step, p.positions = depth_step, len(shift)
        p.tile_rows, p.tile_columns = (p.out_height + 3) // 4, (p.out_width + 3) // 4
        p.block, p.slices, p.images, p.macs = block, slices, images, macs
        p.source_slices = (slices - 1) * depth_step + max(shift) - min(shift) + 1
        # An odd number of cache lines: the same channels of many tiles spread over the sets of L1.
        p.x_tile = (round_up(p.channel_lanes, 16) // 16 | 1) * 16
        p.x_slice = block * p.tile_columns * p.x_tile
        p.x_image = p.source_slices * p.x_slice
        p.x_group = images * p.x_image
        # And from point to point: so many stores a power of two apart would share one set.
        p.x_point = (groups * p.x_group // 16 | 1) * 16
        p.dy_point = (round_up(groups * p.group_lanes * self._tiles(), 16) // 16 | 1) * 16
        shifts = np.array(shift, np.intp)
        p.shift = <const ptrdiff_t*>reading(shifts, shifts.nbytes)
        self._keep = shifts
        self.vectors, self.block, self.slices, self.images = vectors, block, slices, images

    cdef ptrdiff_t _tiles(self):
        cdef gradient_t* p = &self.plan
        return p.images * p.slices * p.block * p.tile_columns

    cdef ptrdiff_t _sums(self):
        cdef gradient_t* p = &self.plan
        return round_up(p.points * p.positions * p.groups * p.group_lanes * p.group_channels, 16)

    cdef ptrdiff_t _own_elements(self):
        cdef gradient_t* p = &self.plan
        cdef ptrdiff_t taps = p.kernel_height * p.kernel_width * p.positions
        return round_up(max(ck_gradient_scratch(p.tile_columns), JOINED * taps * p.panel_filters), 16)

    cdef ptrdiff_t _scratch_bytes(self, int threads):
        cdef gradient_t* p = &self.plan
        return 4 * (p.points * (p.x_point + p.dy_point) + self._sums() + threads * self._own_elements()
                    ) + self._tiles() * <ptrdiff_t>sizeof(ptrdiff_t) + threads

    @property
    def workspace_bytes(self):
        """Scratch of a call on one thread."""
        return self._scratch_bytes(1)

    def run(self, dy not None, x not None, dw not None, ptrdiff_t n, int threads):
        """Fill dw from ``n`` images of dy and x, all C-contiguous.

        Returns whether it could: not where a NaN, an infinity or a number near the end of the range turns up.
        """
        cdef gradient_t* p = &self.plan
        cdef round_t r
        cdef ptrdiff_t first = 0
        cdef bint good = True
        cdef const float* xs = <const float*>reading(x, x.nbytes)
        cdef const float* dys = <const float*>reading(dy, dy.nbytes)
        if p.macs * n < MIN_MACS:
            threads = 1
        r.plan = p
        r.x_points = <float*>scratch(self._scratch_bytes(threads))
        r.dy_points = r.x_points + p.points * p.x_point
        r.sums = r.dy_points + p.points * p.dy_point
        r.own = r.sums + self._sums()
        r.own_step = self._own_elements()
        r.off = <ptrdiff_t*>(r.own + threads * r.own_step)
        r.bad = <uint8_t*>(r.off + self._tiles())
        memset(r.bad, 0, threads)
        r.dw = <float*>writing(dw, dw.nbytes)
        r.first = True
        with nogil:
            while first < n and good:
                r.images = min(p.images, n - first)
                r.x = xs + first * p.channels * p.depth * p.height * p.width
                r.dy = dys + first * p.filters * p.out_depth * p.out_height * p.out_width
                good = add_blocks(&r, threads)
                first += r.images
            if good:
                parallel_for(join_channels, &r, (p.group_channels + JOINED - 1) // JOINED * p.groups * p.group_panels,
                             threads)
            scratch_done()
        return good


cdef bint add_blocks(round_t* r, int threads) except -1 nogil:
    """Every block of slices and rows of the round's images; whether their values are in range."""
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t vectors = (p.group_channels + p.tiles.lanes - 1) // p.tiles.lanes, i
    r.first_slice = 0
    while r.first_slice < p.out_depth:
        r.slices = min(p.slices, p.out_depth - r.first_slice)
        r.first_row = 0
        while r.first_row < p.tile_rows:
            r.rows = min(p.block, p.tile_rows - r.first_row)
            place_tiles(r)
            parallel_for(split_x, r, vectors * p.groups * p.source_slices * r.images, threads)
            parallel_for(split_dy, r, p.group_lanes // p.tiles.lanes * p.groups * r.slices * r.images, threads)
            for i in range(threads):
                if r.bad[i]:
                    return False
            parallel_for(sum_point, r, p.points * p.positions * p.groups * p.group_panels, threads)
            r.first = False
            r.first_row += p.block
        r.first_slice += p.slices
    return True


cdef void place_tiles(round_t* r) noexcept nogil:
    """Where x at the points has the tile that each of dy meets at the first kernel position along the depth."""
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t image, slice, tile, count = r.rows * p.tile_columns
    cdef ptrdiff_t* off = r.off
    for image in range(r.images):
        for slice in range(r.slices):
            for tile in range(count):
                off[tile] = image * p.x_image + slice * p.depth_step * p.x_slice + tile * p.x_tile
            off += count
    r.tiles = off - r.off
