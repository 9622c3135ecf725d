"""Winograd's F(4x4, 3x3), F(2x2, 3x3), F(4x4, 5x5), F(4, 3), F(4, 5) and F(4, 7): the loops over images, slices, blocks
of tile rows, panels of filters and points.

``Winograd`` computes a forward pass or an input gradient of a convolution of stride 1 and up to 5 x 5 taps in each
slice of depth, or of stride 2 and 3 x 3 taps; along the depth it is a plain sum over slices, whose taps stand beside
the channels. One that has taps along a single axis is computed in lines, which hold that axis and all inside it; a
row is some neighbouring tiles of a line.

A round takes some rows of tiles of some slices of some images: it brings every channel to the points (36, 16, 64, 6,
8 or 10; with stride 2 25 or 9), which is V, then for some panels of filters multiplies with the tiles of csrc/conv,
point after point, and brings their sums back. Rounds are shared out among the threads, each with a V of its
own; what is left over, or too small, is computed by all threads together, by channels and by panels. No sum depends
on what a round or a task holds, so none depends on how many threads there are.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset
from convkit.kernels.elementwise cimport Finish, ck_finish, finish_early, finish_late, finish_t, set_finish
from convkit.kernels.conv cimport tiles_of
from convkit.kernels.operands cimport nbytes_of, reading, writing
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done, level_of, task_t
from convkit.kernels.tiles cimport FETCHED_TILES, ck_conv_grid, ck_conv_table, ck_conv_tile, round_up, run_rows

import numpy as np

from convkit.kernels.operands import aligned_empty

cdef extern from *:
    int trailing_zeros "__builtin_ctz"(unsigned bits) noexcept nogil
    void fetch "__builtin_prefetch"(const void* address) noexcept nogil

cdef extern from "winograd/winograd.h" nogil:
    ctypedef struct ck_winograd_input:
        const void* plane
        ptrdiff_t height, width, y, x, rows, pitch, v_pitch
        void* scratch
        void* v
        ptrdiff_t v_step
        double limit
    ctypedef struct ck_winograd_images:
        const void* plane
        ptrdiff_t image_step, images, height, width, y, x, rows, columns
        void* scratch
        void* v
        ptrdiff_t v_step, tile_step
        double limit
    ctypedef struct ck_winograd_output:
        const void* m
        ptrdiff_t m_step, m_tile
        const void* bias
        void* y
        ptrdiff_t y_filter, y_row, filters, rows, width
        const ck_finish* finish
    ctypedef struct ck_winograd_lines_input:
        const void* plane
        ptrdiff_t n, step, lo, line_rows, tiles, first, rows
        void* v
        ptrdiff_t v_step
        double limit
    ctypedef struct ck_winograd_lines_output:
        const void* m
        ptrdiff_t m_step, lanes
        const void* bias
        void* y
        ptrdiff_t y_filter, filters, n, step, line_rows, tiles, first, rows
        const ck_finish* finish
    ctypedef void (*ck_winograd_weights)(const void* taps, int turned, ptrdiff_t lanes, void* u, ptrdiff_t u_step
                                         ) noexcept nogil
    ctypedef struct ck_winograd_plane:
        ptrdiff_t side
        int split(const ck_winograd_input* job) noexcept nogil
        unsigned split_images(const ck_winograd_images* job) noexcept nogil
        ck_winograd_weights weights
        void join(const ck_winograd_output* job) noexcept nogil
    ctypedef struct ck_winograd_line:
        int split(const ck_winograd_lines_input* job) noexcept nogil
        ck_winograd_weights weights
        void join(const ck_winograd_lines_output* job) noexcept nogil
    ctypedef struct ck_winograd_table:
        double largest(const void* w, ptrdiff_t n) noexcept nogil
        ck_winograd_plane four, two, wide, strided, strided_gradient
        ck_winograd_line three, five, seven
    ptrdiff_t ck_winograd_scratch(ptrdiff_t rows, ptrdiff_t pitch)
    ptrdiff_t ck_winograd_scratch_of_images(ptrdiff_t rows, ptrdiff_t columns)
    const ck_winograd_table* ck_winograd_table_for(int level)

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.
cdef ptrdiff_t MIN_MACS = 1_500_000
# Threads that share a round read each other's part of V: below this one of them is as fast.
cdef ptrdiff_t MIN_SHARED_MACS = 16_000_000

cdef enum:
    MOST_TOGETHER = 32           # panels
    FETCHED_CHANNELS = 2         # ahead, of weights that are to be transformed


cdef struct extent_t:            # of a round
    ptrdiff_t block              # tile rows of each image
    ptrdiff_t slices             # output slices of each image
    ptrdiff_t source_slices      # that they read
    ptrdiff_t images


cdef struct winograd_t:
    const ck_conv_table* tiles
    const ck_winograd_table* table
    const ck_winograd_plane* plane
    const ck_winograd_line* line
    ptrdiff_t groups, channels, group_channels, filters, group_filters, group_panels, panel_filters, most_pixels
    ptrdiff_t depth, height, width                 # of the source
    ptrdiff_t out_depth, out_height, out_width
    ptrdiff_t lo_y, lo_x
    ptrdiff_t depth_step, positions                # slices between neighbouring outputs; kernel positions along depth
    const ptrdiff_t* shift       # slice of each position, from an output's index times depth_step; in order, up or down
    ptrdiff_t taps               # positions times the channels of a group
    ptrdiff_t sums               # of a tile of a slice or a line
    const ptrdiff_t* first       # product of each sum, and behind them the number of all
    const ptrdiff_t* point_of    # each product in V, and behind them their number
    const ptrdiff_t* weight_of   # each product, and behind them their number
    ptrdiff_t step               # pixels of the source from tile to tile
    ptrdiff_t kernel_rows, kernel_columns  # in a slice or a line
    ptrdiff_t tap_row            # taps of a row of the transform
    ptrdiff_t line_step          # elements between the taps of a line; 0: planes
    ptrdiff_t line_rows          # rows of tiles of a line
    ptrdiff_t tile_rows, tile_columns
    ptrdiff_t pitch              # of a row in V, which may have one entry more than tiles
    ptrdiff_t w_group, w_filter, w_channel  # strides of the weight array
    ptrdiff_t weight_step        # elements between the weights of all panels at two points, with segments
    ptrdiff_t together           # panels
    ptrdiff_t segments           # of the taps: of each the weights of all panels lie together; 0: those of a panel do
    extent_t extent[2]           # of a round, and where images are side by side
    ptrdiff_t macs
    ptrdiff_t fewest_tiles       # of a round that one thread computes, where rounds are made smaller for several
    bint turned
    bint small                   # planes, whose images may be side by side


cdef struct call_t:
    const winograd_t* plan
    const float* x
    float* u                     # packed weights, or where each task makes its own, those of a panel and a segment
    ptrdiff_t u_step             # from worker to worker: 0 where all read the packed ones
    ptrdiff_t u_point            # from point to point of a worker's own
    const float* w               # what they are made of
    double limit                 # of the input
    const float* bias            # panels, or NULL
    float* y
    ptrdiff_t n                  # images
    float* v                     # of each worker: [point][channel][image][slice][tile row][tile]; across: images last
    ptrdiff_t v_step
    float* own                   # of each worker: rows in quarters, or the sums [sum][tile][panel lanes]
    ptrdiff_t own_step
    uint8_t* bad                 # [worker][image]: whether it holds what the transforms would spread
    bint across                  # images are the lanes of the input transform and side by side in V
    const extent_t* extent
    ptrdiff_t image_rounds, slice_rounds, row_rounds
    ptrdiff_t images, rows       # of the largest round
    ptrdiff_t slice_step, image_step  # elements of V from slice to slice, image to image, of one channel
    ptrdiff_t channel_step, point_step
    ptrdiff_t* off               # of each tap in V
    finish_t then                # on what a task has written


cdef struct round_t:
    const call_t* call
    float* v
    ptrdiff_t first_image, images, first_slice, slices, first_row, rows
    ptrdiff_t parts              # tasks that share the rows of a panel
    ptrdiff_t panels             # that a task computes together


cdef inline ptrdiff_t all_lanes(const winograd_t* p) noexcept nogil:
    """Filters of all groups, each group's in whole vectors."""
    return p.groups * round_up(p.group_filters, p.tiles.lanes)


cdef struct segment_t:           # of the taps
    ptrdiff_t first, taps


cdef inline segment_t segment(const winograd_t* p, ptrdiff_t i) noexcept nogil:
    cdef ptrdiff_t n = max(<ptrdiff_t>1, p.segments), first = p.taps * i // n
    return segment_t(first, p.taps * (i + 1) // n - first)


cdef inline ptrdiff_t weights_offset(const winograd_t* p, ptrdiff_t group, ptrdiff_t filter0, ptrdiff_t lanes,
                                     ptrdiff_t weight, segment_t s) noexcept nogil:
    """Where the panel of a group that begins with this filter has one of its weights, for the taps of a segment: behind
    the limit's vector ``[weight][segment][panel][tap][lane]``, or with one segment ``[panel][weight][tap][lane]``."""
    cdef ptrdiff_t before = group * round_up(p.group_filters, p.tiles.lanes) + filter0
    if p.segments:
        return p.tiles.lanes + weight * p.weight_step + s.first * all_lanes(p) + before * s.taps
    return p.tiles.lanes + p.taps * (before * p.weight_of[p.first[p.sums]] + weight * lanes)


cdef void split_weights(const winograd_t* p, const float* w, ptrdiff_t group, ptrdiff_t filter0, segment_t s, float* u,
                        ptrdiff_t u_point) noexcept nogil:
    """The weights of a panel at the points, for the taps of a segment: ``u[point * u_point + tap * lanes + f]``."""
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters), lanes = round_up(filters, p.tiles.lanes)
    cdef ptrdiff_t tap, row, i
    cdef const float* source
    cdef ck_winograd_weights transform = p.line.weights if p.line_step else p.plane.weights
    cdef float taps[25 * 64]  # of one channel and a panel of up to four vectors of 16 filters
    cdef ptrdiff_t rows = p.kernel_rows, columns = p.kernel_columns
    if columns == p.tap_row:  # all rows follow each other there as they do here
        rows, columns = 1, rows * columns
    memset(&taps[0], 0, sizeof(taps))
    for tap in range(s.first, s.first + s.taps):
        source = w + group * p.w_group + filter0 * p.w_filter + tap % p.group_channels * p.w_channel
        if p.turned:  # the filters of each channel lie together, far from those of the next
            for i in range(0, filters * p.w_filter, 16):
                fetch(source + FETCHED_CHANNELS * p.w_channel + i)
        for row in range(rows):
            p.tiles.transpose(source + (tap // p.group_channels * rows + row) * columns, p.w_filter,
                              &taps[row * p.tap_row * lanes], lanes, filters, columns)
        transform(&taps[0], p.turned, lanes, u + (tap - s.first) * lanes, u_point)


cdef void pack_panel(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One panel of a group at the points, where ``weights_offset`` says."""
    cdef const call_t* a = <const call_t*>job
    cdef const winograd_t* p = a.plan
    cdef ptrdiff_t group = task // p.group_panels, filter0 = task % p.group_panels * p.panel_filters, i
    cdef ptrdiff_t lanes = round_up(min(p.group_filters - filter0, p.panel_filters), p.tiles.lanes)
    cdef segment_t s
    for i in range(max(<ptrdiff_t>1, p.segments)):
        s = segment(p, i)
        split_weights(p, a.w, group, filter0, s, a.u + weights_offset(p, group, filter0, lanes, 0, s),
                      p.weight_step if p.segments else p.taps * lanes)


cdef double limit_of(const winograd_t* p, const float* w) noexcept nogil:
    """Of the input: the transforms multiply by at most 157 (input), 1.9 (weights) and 371 (output), and channels are
    added up. Negative where a weight is not finite or itself near the end of the range."""
    cdef double largest = p.table.largest(w, p.groups * p.group_filters * p.taps * p.kernel_rows * p.kernel_columns)
    return 1e33 / (max(1.0, largest) * p.taps) if largest < 1e30 else -1


cdef inline ptrdiff_t first_source(const round_t* r) noexcept nogil:
    """The first source slice that the round's outputs may read; it lies before the source where that is padded."""
    cdef const winograd_t* p = r.call.plan
    return r.first_slice * p.depth_step + min(p.shift[0], p.shift[p.positions - 1])


cdef void split_channel(void* job, ptrdiff_t c, int worker) noexcept nogil:
    """One channel of every slice to the points, in order: the vectors of a slice may end in the next one's part."""
    cdef const round_t* r = <const round_t*>job
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t image, i, z
    cdef ck_winograd_input part
    if p.line_step:
        split_lines(r, c, worker)
        return
    if r.call.across:
        split_images(r, c, worker)
        return
    part.height, part.width = p.height, p.width
    part.y, part.x = p.step * r.first_row - p.lo_y, -p.lo_x
    part.rows, part.pitch, part.v_pitch = r.rows, p.tile_columns + 1, p.pitch
    part.scratch = r.call.own + worker * r.call.own_step
    part.v_step = r.call.point_step
    part.limit = r.call.limit
    for image in range(r.images):
        for i in range(r.call.extent.source_slices):
            z = first_source(r) + i
            if 0 <= z < p.depth:
                part.plane = r.call.x + (((r.first_image + image) * p.channels + c) * p.depth + z) * p.height * p.width
                part.v = (r.v + c * r.call.channel_step + image * r.call.image_step + i * r.call.slice_step)
                if p.plane.split(&part):
                    r.call.bad[worker * r.call.n + r.first_image + image] = 1


cdef void split_images(const round_t* r, ptrdiff_t c, int worker) noexcept nogil:
    """One channel of every slice to the points, as many images at once as there are lanes."""
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t image = 0, i, z, lanes = p.tiles.lanes, of_image = p.channels * p.depth * p.height * p.width
    cdef unsigned found
    cdef ck_winograd_images part
    part.image_step = of_image
    part.height, part.width = p.height, p.width
    part.y, part.x = p.plane.side * r.first_row - p.lo_y, -p.lo_x
    part.rows, part.columns = r.rows, p.tile_columns
    part.scratch = r.call.own + worker * r.call.own_step
    part.v_step, part.tile_step = r.call.point_step, r.images
    part.limit = r.call.limit
    while image < r.images:
        part.images = min(lanes, r.images - image)
        for i in range(r.call.extent.source_slices):
            z = first_source(r) + i
            if 0 <= z < p.depth:
                part.plane = r.call.x + (r.first_image + image) * of_image + (c * p.depth + z) * p.height * p.width
                part.v = r.v + c * r.call.channel_step + i * r.call.slice_step + image
                found = p.plane.split_images(&part)
                while found:
                    r.call.bad[worker * r.call.n + r.first_image + image + trailing_zeros(found)] = 1
                    found &= found - 1
        image += lanes


cdef void split_lines(const round_t* r, ptrdiff_t c, int worker) noexcept nogil:
    """One channel of every row of lines to the points, in order for the same reason."""
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t image
    cdef ck_winograd_lines_input part
    part.n, part.step, part.lo = p.width, p.line_step, p.lo_x
    part.line_rows, part.tiles = p.line_rows, p.tile_columns
    part.first, part.rows = r.first_row, r.rows
    part.v_step = r.call.point_step
    part.limit = r.call.limit
    for image in range(r.images):
        part.plane = r.call.x + ((r.first_image + image) * p.channels + c) * p.height * p.width
        part.v = r.v + c * r.call.channel_step + image * r.rows * p.tile_columns
        if p.line.split(&part):
            r.call.bad[worker * r.call.n + r.first_image + image] = 1


cdef inline ptrdiff_t row_offset(const round_t* r, ptrdiff_t row) noexcept nogil:
    """Where the tiles of a row lie in V for a kernel position of shift 0; rows go through images, slices, tile rows."""
    cdef const winograd_t* p = r.call.plan
    if p.line_step:
        return row * p.tile_columns
    cdef ptrdiff_t plane = row // r.rows, pitch = p.tile_columns * r.images if r.call.across else p.pitch
    cdef ptrdiff_t z = (r.first_slice + plane % r.slices) * p.depth_step - first_source(r)
    return plane // r.slices * r.call.image_step + z * r.call.slice_step + row % r.rows * pitch


cdef inline ptrdiff_t row_tiles(const round_t* r) noexcept nogil:
    """Tiles of a row: those of all images where they are side by side."""
    return r.call.plan.tile_columns * (r.images if r.call.across else 1)


cdef inline ptrdiff_t rows_of(const round_t* r) noexcept nogil:
    return (1 if r.call.across else r.images) * r.slices * r.rows


cdef void inside(const round_t* r, ptrdiff_t row, ptrdiff_t* first, ptrdiff_t* last) noexcept nogil:
    """The kernel positions along depth that meet the source at a row's slice."""
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t z = (r.first_slice + row // r.rows % r.slices) * p.depth_step
    first[0], last[0] = 0, p.positions
    while first[0] < last[0] and not 0 <= z + p.shift[first[0]] < p.depth:
        first[0] += 1
    while last[0] > first[0] and not 0 <= z + p.shift[last[0] - 1] < p.depth:
        last[0] -= 1


cdef struct panel_t:             # of filters, on some rows of tiles
    ptrdiff_t filter             # the first
    ptrdiff_t filters, lanes
    ptrdiff_t group, filter0     # in it
    const float* v               # of the group
    float* u                     # packed weights, or the worker's own
    const float* bias            # or NULL
    float* sums
    ptrdiff_t m_step             # of sums, from one to the next


cdef panel_t panel_of(const round_t* r, ptrdiff_t i, ptrdiff_t tiles, float* sums) noexcept nogil:
    """Panel i of all groups, on so many tiles."""
    cdef const winograd_t* p = r.call.plan
    cdef panel_t panel
    panel.group, panel.filter0 = i // p.group_panels, i % p.group_panels * p.panel_filters
    panel.filter = panel.group * p.group_filters + panel.filter0
    panel.filters = min(p.group_filters - panel.filter0, p.panel_filters)
    panel.lanes = round_up(panel.filters, p.tiles.lanes)
    panel.v = r.v + panel.group * p.group_channels * r.call.channel_step
    panel.bias = r.call.bias
    if panel.bias != NULL:
        panel.bias += i * p.panel_filters
    panel.sums = sums
    panel.m_step = sum_step(tiles, panel.lanes)
    return panel


cdef inline ptrdiff_t sum_step(ptrdiff_t tiles, ptrdiff_t lanes) noexcept nogil:
    """Elements from sum to sum of a panel, an odd number of cache lines: those of a tile spread over the sets of L1."""
    return (round_up(tiles * lanes, 16) // 16 | 1) * 16


cdef void sum_panels(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some panels of filters on some rows of tiles: all of them at one point after the other."""
    cdef const round_t* r = <const round_t*>job
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t part = task % r.parts, all_rows = rows_of(r), tiles = row_tiles(r)
    cdef ptrdiff_t first_panel = task // r.parts * r.panels
    cdef ptrdiff_t panels = min(r.panels, p.groups * p.group_panels - first_panel)
    cdef ptrdiff_t height = 2 if not closed_up(r) and 2 * tiles <= p.most_pixels else 1
    cdef ptrdiff_t pairs = (all_rows + height - 1) // height
    cdef ptrdiff_t first = pairs * part // r.parts * height
    cdef ptrdiff_t last = min(pairs * (part + 1) // r.parts * height, all_rows)
    cdef float* sums = r.call.own + worker * r.call.own_step
    cdef ptrdiff_t of_panel = p.sums * sum_step((last - first) * tiles, p.panel_filters)
    cdef ptrdiff_t i, j, i_segment, product, alike, segments = max(<ptrdiff_t>1, p.segments)
    cdef panel_t of[MOST_TOGETHER]
    cdef ck_conv_tile tile
    cdef bint two_by_two
    for j in range(panels):
        of[j] = panel_of(r, first_panel + j, (last - first) * tiles, sums + j * of_panel)
        of[j].u = r.call.u + worker * r.call.u_step
    tile.x_step = 1
    tile.bias = NULL
    tile.y_filter = 1
    tile.row_bias = NULL
    tile.finish = NULL
    tile.ahead_end = NULL
    for i_segment in range(segments if r.call.u_step else 0):
        for j in range(panels):
            split_weights(p, r.call.w, of[j].group, of[j].filter0, segment(p, i_segment), of[j].u, r.call.u_point)
            two_by_two = height == 2 and of[j].lanes > p.tiles.lanes
            for i in range(p.sums):
                sum_product(r, &tile, &of[j], 1, of_panel, i, i, i_segment, i_segment + 1, first, last, two_by_two)
    for i in range(0 if r.call.u_step else p.sums):
        for product in range(p.first[i], p.first[i + 1]):
            j = 0
            while j < panels:
                alike = 1
                while j + alike < panels and of[j + alike].group == of[j].group and of[j + alike].lanes == of[j].lanes:
                    alike += 1
                two_by_two = height == 2 and of[j].lanes > p.tiles.lanes
                sum_product(r, &tile, &of[j], alike, of_panel, i, product, 0, segments, first, last, two_by_two)
                j += alike
    for j in range(panels):
        if p.line_step:
            join_lines(r, &of[j], first, last)
        else:
            join_rows(r, &of[j], first, last)


cdef inline bint closed_up(const round_t* r) noexcept nogil:
    """Whether the rows of a plane are one run of tiles."""
    return r.call.across or r.call.plan.pitch == r.call.plan.tile_columns


cdef struct strip_t:             # rows of tiles of a panel that lie evenly in V and meet the same kernel positions
    ptrdiff_t rows               # of the grid, which holds runs of `columns` tiles
    ptrdiff_t columns
    ptrdiff_t taken              # rows of tiles
    bint two                     # whether each row of the grid is two rows of tiles


cdef bint planes_alike(const round_t* r) noexcept nogil:
    """Whether the planes of a round lie evenly in V and meet the same kernel positions."""
    cdef const winograd_t* p = r.call.plan
    if r.slices == 1:
        return True
    if p.positions > 1 or p.depth_step > 1 or p.shift[0] or p.depth != p.out_depth:
        return False
    return r.call.across or r.images == 1 or r.slices == r.call.extent.source_slices


cdef strip_t strip_at(const round_t* r, ptrdiff_t row, ptrdiff_t last, bint two_by_two) noexcept nogil:
    """From ``row`` on, below ``last``: the rows of a plane in one run, of whole planes where those are alike, or one by
    one, or ``two_by_two``."""
    cdef ptrdiff_t tiles = row_tiles(r), left = min(last, (row // r.rows + 1) * r.rows) - row
    if r.call.plan.line_step:
        return strip_t(1, (last - row) * tiles, last - row, False)
    cdef ptrdiff_t planes = (last - row) // r.rows if row % r.rows == 0 and planes_alike(r) else 0
    if closed_up(r):
        planes = max(<ptrdiff_t>1, planes)
        return strip_t(planes, left * tiles, planes * left, False)
    if two_by_two and planes > 1 and r.rows <= 2:
        planes = planes if r.rows == 2 else planes // 2
        return strip_t(planes, tiles, 2 * planes, True)
    if two_by_two and left > 1:
        return strip_t(left // 2, tiles, left // 2 * 2, True)
    return strip_t(left, tiles, left, False)


cdef inline const float* weights_at(const round_t* r, const panel_t* panel, ptrdiff_t weight, segment_t s
                                    ) noexcept nogil:
    """A panel's, for the taps of a segment: packed, or just made."""
    return panel.u + (weight * r.call.u_point if r.call.u_step else
                      weights_offset(r.call.plan, panel.group, panel.filter0, panel.lanes, weight, s))


cdef void sum_product(const round_t* r, ck_conv_tile* tile, const panel_t* panel, ptrdiff_t panels, ptrdiff_t of_panel,
                      ptrdiff_t i, ptrdiff_t product, ptrdiff_t first_segment, ptrdiff_t end_segment, ptrdiff_t first,
                      ptrdiff_t last, bint two_by_two) noexcept nogil:
    """One product of sum ``i`` on rows ``first`` to ``last`` for some panels alike, whose sums lie ``of_panel`` apart:
    segment by segment of the taps, so that V and the weights of a panel stay in L1 while all tiles meet them.
    """
    cdef const winograd_t* p = r.call.plan
    cdef const float* v = panel.v + p.point_of[product] * r.call.point_step
    cdef ptrdiff_t row, begin, end, i_segment, j, tap, runs, soon
    cdef ck_conv_grid grid
    cdef segment_t s
    cdef strip_t strip
    grid.panels, grid.y_panel = panels, of_panel
    tile.y_pixel = tile.filters = panel.lanes
    for i_segment in range(first_segment, end_segment):
        s = segment(p, i_segment)
        grid.w_panel = grid.ahead_panel = s.taps * panel.lanes
        grid.by_chunk = 0
        row = first
        while row < last:
            strip = strip_at(r, row, last, two_by_two)
            tile.x_half = row_offset(r, row + 1) - row_offset(r, row) if strip.two else 0
            tile.y_half = strip.columns * panel.lanes
            grid.rows, grid.y_row = strip.rows, strip.taken // strip.rows * row_tiles(r) * panel.lanes
            grid.x_row = row_offset(r, row + strip.taken // strip.rows) - row_offset(r, row)
            tile.x = v + row_offset(r, row)
            tile.y = panel.sums + i * panel.m_step + (row - first) * row_tiles(r) * panel.lanes
            row += strip.taken
            inside(r, row - strip.taken, &begin, &end)
            runs = 1 if strip.two else (strip.columns + p.most_pixels - 1) // p.most_pixels
            tap = max(s.first, begin * p.group_channels)
            tile.taps = min(s.first + s.taps, end * p.group_channels) - tap
            tile.accumulate = product > p.first[i] or tap > begin * p.group_channels
            if tile.taps > 0:
                tile.off = r.call.off + tap
                tile.w = weights_at(r, panel, p.weight_of[product], s) + (tap - s.first) * panel.lanes
                # While the tiles of one panel are summed they fetch the weights of one soon to come.
                soon = max(<ptrdiff_t>1, FETCHED_TILES // (strip.rows * runs))
                tile.ahead = <const float*>tile.w + soon * grid.w_panel
                if not p.segments or r.call.u_step:
                    tile.ahead = weights_at(r, panel, p.weight_of[product + 1], s)
                run_rows(p.tiles, sizeof(float), tile, &grid, strip.columns, runs, 2 if strip.two else 1)
            elif begin == end and not tile.accumulate:
                for j in range(panels):
                    memset(<float*>tile.y + j * of_panel, 0, strip.rows * grid.y_row * sizeof(float))


cdef void join_rows(const round_t* r, const panel_t* panel, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """The sums of rows ``first`` to ``last`` into y."""
    cdef const winograd_t* p = r.call.plan
    cdef ck_winograd_output out
    cdef ptrdiff_t row, image, z, y, i, beside = r.images if r.call.across else 1, tiles = row_tiles(r)
    out.m_step = panel.m_step
    out.m_tile = beside * panel.lanes
    out.bias = panel.bias
    out.y_filter = p.out_depth * p.out_height * p.out_width
    out.y_row = p.out_width
    out.filters = panel.filters
    out.width = p.out_width
    out.finish = finish_early(&r.call.then)
    for row in range(first, last):
        image = r.first_image + row // r.rows // r.slices
        z = r.first_slice + row // r.rows % r.slices
        y = p.plane.side * (r.first_row + row % r.rows)
        out.rows = min(p.plane.side, p.out_height - y)
        for i in range(beside):
            out.m = panel.sums + ((row - first) * tiles + i) * panel.lanes
            out.y = (r.call.y + ((image + i) * p.filters + panel.filter) * out.y_filter
                     + (z * p.out_height + y) * p.out_width)
            p.plane.join(&out)
            if r.call.then.steps > r.call.then.late:
                finish_rows(r, <const float*>out.y, out.y_filter, panel.filters, out.rows * out.width)


cdef inline void finish_rows(const round_t* r, const float* y, ptrdiff_t y_filter, ptrdiff_t filters, ptrdiff_t n
                             ) noexcept nogil:
    """What no transform can do to ``n`` neighbouring outputs of each filter."""
    cdef ptrdiff_t f
    for f in range(filters):
        finish_late(&r.call.then, y - r.call.y + f * y_filter, n)


cdef void finish_line(const round_t* r, const float* y, ptrdiff_t y_filter, ptrdiff_t filters, ptrdiff_t row
                      ) noexcept nogil:
    """The same for the outputs of a row of tiles of a line."""
    cdef const winograd_t* p = r.call.plan
    cdef ptrdiff_t t = row % p.line_rows * p.tile_columns, last = t + p.tile_columns, inside, n, i, at
    y += row // p.line_rows * p.out_width
    if p.line_step < p.tiles.lanes:  # of whole steps: neighbours
        finish_rows(r, y + 4 * t, y_filter, filters, min(4 * last, p.out_width) - 4 * t)
        return
    while t < last:
        inside = t % p.line_step
        n = min(last - t, p.line_step - inside)
        for i in range(4):
            at = 4 * (t - inside) + inside + i * p.line_step
            if at < p.out_width:
                finish_rows(r, y + at, y_filter, filters, min(n, p.out_width - at))
        t += n


cdef void join_lines(const round_t* r, const panel_t* panel, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """The same for rows of lines."""
    cdef const winograd_t* p = r.call.plan
    cdef ck_winograd_lines_output out
    cdef ptrdiff_t row = first, image, i
    out.m_step = panel.m_step
    out.lanes = panel.lanes
    out.bias = panel.bias
    out.y_filter = p.out_height * p.out_width
    out.filters = panel.filters
    out.n, out.step = p.out_width, p.line_step
    out.line_rows, out.tiles = p.line_rows, p.tile_columns
    out.finish = finish_early(&r.call.then)
    while row < last:  # of one image after the other
        image = row // r.rows
        out.m = panel.sums + (row - first) * p.tile_columns * panel.lanes
        out.y = r.call.y + ((r.first_image + image) * p.filters + panel.filter) * out.y_filter
        out.first = r.first_row + row % r.rows
        out.rows = min(last, (image + 1) * r.rows) - row
        p.line.join(&out)
        if r.call.then.steps > r.call.then.late:
            for i in range(out.first, out.first + out.rows):
                finish_line(r, <const float*>out.y, out.y_filter, panel.filters, i)
        row += out.rows


cdef inline ptrdiff_t begin_of(ptrdiff_t all, ptrdiff_t unit, ptrdiff_t i, ptrdiff_t parts) noexcept nogil:
    """Where part i of nearly equal parts begins, in whole units."""
    return min((all + unit - 1) // unit * i // parts * unit, all)


cdef inline ptrdiff_t row_unit(const call_t* a) noexcept nogil:
    """Rows that may share a tile stay together."""
    return 1 if a.across or a.extent.block % 2 else 2


cdef round_t round_of(const call_t* a, ptrdiff_t i) noexcept nogil:
    """Round i of a call, with the first V."""
    cdef const winograd_t* p = a.plan
    cdef ptrdiff_t row = i % a.row_rounds, z = i // a.row_rounds % a.slice_rounds
    cdef ptrdiff_t image = i // a.row_rounds // a.slice_rounds
    cdef ptrdiff_t unit = row_unit(a)
    cdef round_t r
    r.call, r.v, r.parts, r.panels = a, a.v, 1, p.together
    r.first_image = begin_of(a.n, 1, image, a.image_rounds)
    r.images = begin_of(a.n, 1, image + 1, a.image_rounds) - r.first_image
    r.first_slice = begin_of(p.out_depth, 1, z, a.slice_rounds)
    r.slices = begin_of(p.out_depth, 1, z + 1, a.slice_rounds) - r.first_slice
    r.first_row = begin_of(p.tile_rows, unit, row, a.row_rounds)
    r.rows = begin_of(p.tile_rows, unit, row + 1, a.row_rounds) - r.first_row
    return r


cdef inline ptrdiff_t sets_of(const round_t* r) noexcept nogil:
    """Of panels that are computed together."""
    cdef const winograd_t* p = r.call.plan
    return (p.groups * p.group_panels + r.panels - 1) // r.panels


cdef void round_alone(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A whole round by one worker."""
    cdef const call_t* a = <const call_t*>job
    cdef const winograd_t* p = a.plan
    cdef round_t r = round_of(a, task)
    cdef ptrdiff_t i
    r.v = a.v + worker * a.v_step
    for i in range(p.channels):
        split_channel(&r, i, worker)
    for i in range(sets_of(&r)):
        sum_panels(&r, i, worker)


cdef int round_together(const call_t* a, ptrdiff_t i, int threads) except -1 nogil:
    """A round by all threads."""
    cdef ptrdiff_t panels = a.plan.groups * a.plan.group_panels
    cdef round_t r = round_of(a, i)
    r.panels = min(r.panels, (panels + threads - 1) // threads)
    # a few tasks per thread even out their ends; more only cost
    if r.panels == 1 and a.u_step == 0:
        r.parts = max(1, min(rows_of(&r), (4 * threads + panels - 1) // panels))
    parallel_for(split_channel, &r, a.plan.channels, threads)
    parallel_for(sum_panels, &r, sets_of(&r) * r.parts, threads)
    return 0


cdef void share_out(call_t* a, int threads) noexcept nogil:
    """Rounds of the planned size, or somewhat smaller ones of which every thread takes as many."""
    cdef const winograd_t* p = a.plan
    a.across = p.small and 2 * a.n >= p.tiles.lanes
    a.extent = &p.extent[a.across]
    cdef const extent_t* e = a.extent
    cdef ptrdiff_t units = (p.tile_rows + row_unit(a) - 1) // row_unit(a), images, rows, rounds, cost, best = 0
    cdef ptrdiff_t most = a.n * p.out_depth * p.tile_rows * p.tile_columns // p.fewest_tiles
    cdef ptrdiff_t least_images = (a.n + e.images - 1) // e.images, least_rows = (p.tile_rows + e.block - 1) // e.block
    a.slice_rounds = (p.out_depth + e.slices - 1) // e.slices
    a.image_rounds, a.row_rounds = least_images, least_rows
    if threads == 1:
        return
    for images in range(least_images, min(a.n, least_images + threads) + 1):
        for rows in range(least_rows, min(units, least_rows + threads) + 1):
            rounds = images * a.slice_rounds * rows
            cost = rounds * ((a.n + images - 1) // images) * ((units + rows - 1) // rows)
            if rounds % threads == 0 and rounds <= most and (best == 0 or cost < best):
                best = cost
                a.image_rounds, a.row_rounds = images, rows


cdef ptrdiff_t transform_scratch(const call_t* a) noexcept nogil:
    cdef const winograd_t* p = a.plan
    if p.line_step:
        return 0
    return (ck_winograd_scratch_of_images(a.rows, p.tile_columns) if a.across
            else ck_winograd_scratch(a.rows, p.tile_columns + 1))


cdef void lay_out(call_t* a) noexcept nogil:
    """What a round of the call takes in V and beside it."""
    cdef const winograd_t* p = a.plan
    cdef ptrdiff_t i, behind = p.tiles.lanes - 1  # a channel's last vector may end there
    a.images = (a.n + a.image_rounds - 1) // a.image_rounds
    a.rows = 0
    for i in range(a.row_rounds):
        a.rows = max(a.rows, round_of(a, i).rows)
    a.slice_step = a.rows * (p.tile_columns * a.images if a.across else p.pitch)
    a.image_step = 0 if a.across else a.extent.source_slices * a.slice_step
    # Odd numbers of vectors: the same tile at all channels, and at all points, spreads over the sets of L1.
    a.channel_step = (1 if a.across else a.images) * a.extent.source_slices * a.slice_step
    if not p.line_step and p.pitch == p.tile_columns:
        behind = round_up(p.tile_columns, p.tiles.lanes) - p.tile_columns
    a.channel_step = (round_up(a.channel_step + behind, p.tiles.lanes) // p.tiles.lanes | 1) * p.tiles.lanes
    a.point_step = (round_up(p.channels * a.channel_step, 16) // 16 | 1) * 16
    a.v_step = p.point_of[p.first[p.sums]] * a.point_step
    cdef ptrdiff_t tiles = a.images * a.extent.slices * a.rows * p.tile_columns
    a.own_step = round_up(max(transform_scratch(a), p.together * p.sums * sum_step(tiles, p.panel_filters)), 16)


cdef class Winograd:
    """A planned convolution, float32, of stride 1 in every slice or along lines: forward, or with ``turned`` kernels an
    input gradient; of ``stride`` 1, or 2 with 3 x 3 taps.

    ``source`` and ``target`` sizes are (depth, height, width), ``lo`` the padding before height and width; an output
    slice times ``depth_step`` plus ``shift[k]`` is the source slice that kernel position k of the depth meets.
    ``w_strides`` are the strides of the weight array, in elements, from group to group, filter to filter and channel to
    channel. A round takes up to ``block`` rows of tiles of ``slices`` slices of each of ``images`` images, the first of
    ``extents``; a second one is for calls of so many images that they are side by side. For several threads a round is
    made smaller, down to ``fewest_tiles`` tiles. A row of tiles takes ``pitch`` entries in V: its tiles, or one more.
    At each point ``together`` panels of ``vectors`` vectors of filters are multiplied before the next one, and with
    ``segment`` > 0 so many taps of all of them before the next ones; packed weights lie in this order, else by panel.

    Tiles have ``side`` x ``side`` outputs, 4 or 2, and the transforms ``taps`` x ``taps``, 3, with tiles of 4 also 5;
    ``kernel``, the taps of a slice, may be smaller. ``line`` is None, or for lines (elements between taps, rows of
    tiles of a line, tiles of a row); sizes are then (1, lines, elements of a line) and ``lo`` is in elements.
    ``sums`` lists for each sum of a tile its products, each as the indices of the point in V and of the weights that it
    takes.
    """

    cdef winograd_t plan
    cdef object _shifts, _first, _products
    cdef readonly ptrdiff_t packed_size, vectors
    cdef readonly object extents

    def __init__(self, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, lo,
                 ptrdiff_t depth_step, shift, extents, ptrdiff_t pitch, ptrdiff_t vectors, ptrdiff_t segment,
                 ptrdiff_t together, ptrdiff_t fewest_tiles, ptrdiff_t macs,
                 w_strides, bint turned, side, ptrdiff_t taps, kernel, line,
                 ptrdiff_t stride, sums):
        cdef winograd_t* p = &self.plan
        p.tiles = tiles_of(isa, 4)
        cdef const ck_winograd_table* table = ck_winograd_table_for(level_of(isa))
        p.table = table
        p.panel_filters = vectors * p.tiles.lanes
        p.most_pixels = p.tiles.most_pixels[vectors - 1]
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        p.group_panels = (p.group_filters + p.panel_filters - 1) // p.panel_filters
        p.depth, p.height, p.width = source
        p.out_depth, p.out_height, p.out_width = target
        p.lo_y, p.lo_x = lo
        p.depth_step, p.positions = depth_step, len(shift)
        p.taps = p.positions * p.group_channels
        if line is None:
            if stride == 2:
                p.plane = &table.strided_gradient if turned else &table.strided
            else:
                p.plane = &table.wide if taps == 5 else &table.two if side == 2 else &table.four
            p.step, p.line_step = side // stride if turned else side * stride, 0
            p.tile_rows, p.tile_columns = (p.out_height + side - 1) // side, (p.out_width + side - 1) // side
            p.pitch = pitch
        else:
            p.line = &table.three if taps == 3 else &table.five if taps == 5 else &table.seven
            p.line_step, p.line_rows, p.tile_columns = line
            p.tile_rows = p.out_height * p.line_rows
            p.pitch = p.tile_columns
        p.segments = (p.taps + segment - 1) // segment if segment else 0
        p.together = min(together, p.groups * p.group_panels, <ptrdiff_t>MOST_TOGETHER)
        p.fewest_tiles, p.macs, p.turned, p.tap_row = fewest_tiles, macs, turned, taps
        p.kernel_rows, p.kernel_columns = kernel
        if p.kernel_columns == taps:  # its rows are neighbours in the transform too
            p.kernel_rows, p.kernel_columns = 1, p.kernel_rows * taps
        p.small = len(extents) == 2
        for i, (block, slices, images) in enumerate(extents):
            p.extent[i].block, p.extent[i].slices, p.extent[i].images = block, slices, images
            p.extent[i].source_slices = (slices - 1) * depth_step + max(shift) - min(shift) + 1
        self._first = np.cumsum([0, *map(len, sums)], dtype=np.intp)
        p.sums, p.first = len(sums), <const ptrdiff_t*>reading(self._first, self._first.nbytes)
        products = np.array([product for each in sums for product in each], np.intp)
        self._products = np.concatenate([products, products.max(0, keepdims=True) + 1]).T.copy()
        p.point_of = <const ptrdiff_t*>reading(self._products, self._products.nbytes)
        p.weight_of = p.point_of + len(products) + 1
        self._shifts = np.array(shift, np.intp)
        p.shift = <const ptrdiff_t*>reading(self._shifts, self._shifts.nbytes)
        p.w_group, p.w_filter, p.w_channel = w_strides
        # An odd number of cache lines: the same taps at all points spread over the sets of L1.
        p.weight_step = (round_up(p.taps * all_lanes(p), 16) // 16 | 1) * 16
        # the limit of the input comes first, in a vector of its own
        self.packed_size = p.tiles.lanes + p.weight_of[p.first[p.sums]] * p.weight_step
        self.vectors, self.extents = vectors, extents

    cdef ptrdiff_t _bias_elements(self):
        return self.plan.groups * self.plan.group_panels * self.plan.panel_filters

    @property
    def workspace_bytes(self):
        """Scratch of a call on one thread with enough images to fill a round."""
        cdef call_t a
        a.plan, a.n = &self.plan, self.plan.extent[self.plan.small].images
        share_out(&a, 1)
        lay_out(&a)
        return 4 * (a.v_step + a.own_step + self._bias_elements()) + 8 * self.plan.taps

    cdef const float* _weight(self, w) except NULL:
        cdef winograd_t* p = &self.plan
        return <const float*>reading(w, 4 * p.groups * p.group_filters * p.taps * p.kernel_rows * p.kernel_columns)

    def pack(self, w not None):
        """The weight array, C-contiguous, at the points in panels, behind the limit of the input."""
        cdef call_t a
        packed = aligned_empty(self.packed_size, np.dtype(np.float32))
        a.plan, a.w, a.u = &self.plan, self._weight(w), <float*>writing(packed, 4 * self.packed_size)
        a.u[0] = limit_of(a.plan, a.w)
        with nogil:
            parallel_for(pack_panel, &a, a.plan.groups * a.plan.group_panels, 1)
        return packed

    def run(self, x not None, weight not None, bias, y not None, ptrdiff_t n, int threads, Finish then=None,
            bint packed=True):
        """Compute ``n`` images: x and y C-contiguous, ``weight`` from ``pack``, or not ``packed`` the weight array,
        ``bias`` one per filter or None; ``then`` is applied to y. The bits are the same.

        Returns the images that hold a NaN, an infinity or a number near the end of the range: their y is not valid.
        """
        cdef winograd_t* p = &self.plan
        cdef call_t a
        cdef ptrdiff_t rounds, alone, i, v_elements, elements
        cdef ptrdiff_t panels = p.groups * p.group_panels
        if p.macs * n < MIN_MACS:
            threads = 1
        a.plan, a.n = p, n
        a.x, a.y = <const float*>reading(x, nbytes_of(x)), <float*>writing(y, nbytes_of(y))
        a.u, a.w, a.u_step = NULL, NULL, 0
        if packed:
            a.u = <float*>reading(weight, 4 * self.packed_size)
            a.limit = a.u[0]
        else:
            a.w = self._weight(weight)
            a.limit = limit_of(p, a.w)
        set_finish(&a.then, then, a.y, nbytes_of(y))
        share_out(&a, threads)
        lay_out(&a)
        rounds = a.image_rounds * a.slice_rounds * a.row_rounds
        alone = rounds - rounds % threads if p.macs * n >= MIN_SHARED_MACS else rounds
        if not packed and rounds == 1 and p.first[p.sums] == p.sums and panels >= threads:
            own_weights(&a)
        v_elements = a.v_step * (threads if alone else 1)
        elements = v_elements + threads * (a.own_step + a.u_step) + self._bias_elements()
        if not packed and a.u_step == 0:
            elements += self.packed_size
        a.v = <float*>scratch(4 * elements + 8 * p.taps + threads * n)
        a.own = a.v + v_elements
        a.off = <ptrdiff_t*>(a.v + elements)
        a.bad = <uint8_t*>(a.off + p.taps)
        if not packed:
            a.u = a.own + threads * a.own_step
        a.bias = NULL
        if bias is not None:
            a.bias = spread_bias(p, <const float*>reading(bias, nbytes_of(bias)),
                                 <float*>a.off - self._bias_elements())
        with nogil:
            memset(a.bad, 0, threads * n)
            for i in range(p.taps):
                a.off[i] = (p.shift[i // p.group_channels] * a.slice_step + i % p.group_channels * a.channel_step)
            if not packed and a.u_step == 0:
                parallel_for(pack_panel, &a, panels, threads)
            parallel_for(round_alone, &a, alone, threads)
            for i in range(alone, rounds):
                round_together(&a, i, threads)
        found = {i % n for i in range(threads * n) if a.bad[i]}
        scratch_done()
        return sorted(found)


cdef void own_weights(call_t* a) noexcept nogil:
    """Let each task make the weights of a panel and a segment just before it multiplies with them: written to memory
    and read again they would cost more than all else in a call of one round."""
    cdef const winograd_t* p = a.plan
    cdef ptrdiff_t n = max(<ptrdiff_t>1, p.segments)
    a.u_point = (round_up((p.taps + n - 1) // n * p.panel_filters, 16) // 16 | 1) * 16
    a.u_step = p.weight_of[p.first[p.sums]] * a.u_point


cdef float* spread_bias(const winograd_t* p, const float* bias, float* to) noexcept:
    """The bias of whole panels, zeros past the last filter of a group."""
    cdef ptrdiff_t panel_filters = p.group_panels * p.panel_filters, g, f
    for g in range(p.groups):
        for f in range(panel_filters):
            to[g * panel_filters + f] = bias[g * p.group_filters + f] if f < p.group_filters else 0
    return to


cdef struct parts_t:
    float* whole             # [image][plane][height][width]
    float* parts             # [image][residue][residue][plane][part height][part width]
    ptrdiff_t planes, height, width, apart_y, apart_x, part_height, part_width, lo_y, lo_x


cdef inline float* part_of(const parts_t* p, ptrdiff_t task, ptrdiff_t i, ptrdiff_t j) noexcept nogil:
    return p.parts + ((((task // p.planes * p.apart_y + i) * p.apart_x + j) * p.planes + task % p.planes)
                      * p.part_height * p.part_width)


cdef void take_plane_apart(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One plane into the parts of its residues, zeros where a part reaches beyond it."""
    cdef const parts_t* p = <const parts_t*>job
    cdef ptrdiff_t i, j, q, t, y, x
    cdef const float* row
    cdef float* to
    for i in range(p.apart_y):
        for j in range(p.apart_x):
            to = part_of(p, task, i, j)
            for q in range(p.part_height):
                y = q * p.apart_y + i - p.lo_y
                row = p.whole + (task * p.height + y) * p.width
                for t in range(p.part_width):
                    x = t * p.apart_x + j - p.lo_x
                    to[t] = row[x] if 0 <= y < p.height and 0 <= x < p.width else 0
                to += p.part_width


cdef void put_plane_together(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const parts_t* p = <const parts_t*>job
    cdef ptrdiff_t i, j, q, t
    cdef const float* part
    cdef float* row
    for i in range(p.apart_y):
        for q in range((p.height - i + p.apart_y - 1) // p.apart_y):
            row = p.whole + (task * p.height + q * p.apart_y + i) * p.width
            for j in range(p.apart_x):
                part = part_of(p, task, i, j) + q * p.part_width
                for t in range((p.width - j + p.apart_x - 1) // p.apart_x):
                    row[t * p.apart_x + j] = part[t]


cdef int each_plane(task_t task, parts_t* p, whole, parts, int threads) except -1:
    cdef ptrdiff_t n
    n, p.planes, p.height, p.width = whole.shape
    _, p.apart_y, p.apart_x, _, p.part_height, p.part_width = parts.shape
    with nogil:
        parallel_for(task, p, n * p.planes, threads)
    return 0


def take_apart(x not None, parts not None, lo, int threads):
    """``parts[n, i, j, p, q, t] = x[n, p, q * d + i - lo, t * e + j - lo]``, 0 outside, for d of i and e of j."""
    cdef parts_t p
    p.whole, p.parts = <float*>reading(x, x.nbytes), <float*>writing(parts, parts.nbytes)
    p.lo_y, p.lo_x = lo
    each_plane(take_plane_apart, &p, x, parts, threads)


def put_together(parts not None, y not None, int threads):
    """``y[n, p, q * d + i, t * e + j] = parts[n, i, j, p, q, t]``; the parts may reach beyond y."""
    cdef parts_t p
    p.whole, p.parts, p.lo_y, p.lo_x = <float*>writing(y, y.nbytes), <float*>reading(parts, parts.nbytes), 0, 0
    each_plane(put_plane_together, &p, y, parts, threads)
