"""Direct convolution with channels in the lanes: the loops over images, boxes, panels of filters and pixel runs.

``Direct`` computes a forward pass or an input gradient, ``WeightGradient`` a weight gradient; both are made once
per plan by ``convkit.plan`` from the tables of ``convkit.plan.geometry`` and hold no data. The sums are done by
the tiles of csrc/conv. A round copies some images, or a box of one image, into zero-padded planes, then its
tasks run over that copy: one task is one panel of filters on one image, so no two tasks write the same output
and no sum depends on how many threads there are.

Where the level has kernels for grids of tiles they take a chunk of the taps on a block of pixels before the next chunk.
All panels take it in turn: there a task is a block of x as it lies, ``sum_block``, or a box whose channels are padded
just before the chunk that meets them, ``sum_box_by_chunk``. Where a kernel meets much padding, each of its positions
takes the pixels only that it takes to x, ``sum_grid_inside``.
"""

from libc.string cimport memcpy, memset
from convkit.kernels.elementwise cimport (
    Finish, finish_early, finish_from, finish_late, finish_t, move_finish, set_finish)
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done, level_of
from convkit.kernels.tiles cimport CK_CONV_CHUNK, CK_CONV_CHUNKS, CK_CONV_STEPPED, CK_CONV_TOGETHER
from convkit.kernels.tiles cimport CK_CONV_VECTORS, FETCHED_TILES
from convkit.kernels.tiles cimport ck_conv_grid, ck_conv_table, ck_conv_tile
from convkit.kernels.tiles cimport real, round_up, run_rows

import numpy as np

from convkit.kernels.operands import aligned_empty

cdef extern from "conv/conv.h" nogil:
    const ck_conv_table* ck_conv_table_for(int level, int itemsize)

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.
cdef ptrdiff_t MIN_MACS = 1_000_000
# Threads take boxes of their own where all weights stay in the L2 of each: what one pads no other reads.
cdef ptrdiff_t OWN_WEIGHTS = 1024 * 1024
# A panel of weights with more taps does not stay in L2 while the tiles pass: they take it in segments.
cdef ptrdiff_t SEGMENT = 4096
# Pixels of a task in grids: a chunk of their taps stays in L2 while panels pass by, with sums of so many bytes.
cdef ptrdiff_t GRID_PIXELS = 256
cdef ptrdiff_t GRID_SUMS = 128 * 1024
# Channels of a box that are there at a time, where they are padded chunk by chunk: bytes.
cdef ptrdiff_t BOX_BYTES = 96 * 1024
# The weights of so few taps stay in L1: their tiles fetch the lines of y that the next one writes.
cdef ptrdiff_t SHORT = 160
# Pixels of a weight gradient whose part of a panel stays in L1 while all rows meet it.
cdef ptrdiff_t SEGMENT_PIXELS = 128
# Rows of it that lie in place, and their sums, that stay near while all panels pass by: bytes.
cdef ptrdiff_t NEAR_ROWS = 128 * 1024
cdef ptrdiff_t NEAR_SUMS = 64 * 1024


# For the plan and its cost: pixels of a grid, taps whose weights stay in L1, taps of a sum that a tile closes; vectors
# of panels whose grids take rows in place.
BLOCK_PIXELS, SHORT_TAPS, CHUNK_TAPS = GRID_PIXELS, SHORT, CK_CONV_CHUNK
STEPPED_VECTORS = CK_CONV_STEPPED


cdef enum:
    UNPACKED = 8   # channels whose weight gradients are put in order at a time
    LONG_ROW = 64  # pixels


cdef const ck_conv_table* tiles_of(isa, int itemsize) except NULL:
    return ck_conv_table_for(level_of(isa), itemsize)


def tile_limits(isa, int itemsize):
    """(lanes, longest pixel run per number of vectors) of a level's tiles."""
    cdef const ck_conv_table* table = tiles_of(isa, itemsize)
    return table.lanes, tuple([table.most_pixels[v] for v in range(CK_CONV_VECTORS)])


def has_grids(isa, int itemsize):
    """Whether a level has kernels for grids of tiles."""
    return bool(tiles_of(isa, itemsize).grids)


cdef struct phase_t:
    ptrdiff_t start[3]       # target of j = 0
    ptrdiff_t step[3]        # targets between neighbouring j
    ptrdiff_t count[3]
    ptrdiff_t taps           # channels of a group times kernel positions
    const ptrdiff_t* off     # offset of each into the padded box
    ptrdiff_t panels         # first element of the phase's packed weights
    ptrdiff_t kernel[3]      # positions along each axis
    const ptrdiff_t* reach   # of each of them, axis after axis: the source of target 0


cdef struct direct_t:
    int itemsize
    const ck_conv_table* table
    ptrdiff_t vectors, most_pixels, panel_filters
    # source: what is padded; target: what is written
    ptrdiff_t groups, channels, group_channels, filters, group_filters, group_panels
    ptrdiff_t source[3]
    ptrdiff_t target[3]
    ptrdiff_t lo[3]
    ptrdiff_t source_step[3]
    ptrdiff_t block[3]       # targets of a box
    ptrdiff_t box[3]         # padded source elements of a box
    ptrdiff_t channel_pitch, image_pitch
    ptrdiff_t images         # per round
    bint in_place            # the tiles read the source itself: nothing is padded
    bint apart               # rows of a box have their even columns before the odd ones
    ptrdiff_t column_step    # in the box, between neighbouring targets: 1 where stride 2 lies apart
    bint by_position         # taps are ordered (position, channel), so that positions in the padding can be left out
    bint grids               # of tiles, chunk after chunk of the taps
    bint by_chunk            # and all panels take one before the next; not in place its channels are padded just before
    ptrdiff_t slots          # for so many of them
    ptrdiff_t wide           # panels of a group that have all vectors; the others have one less
    ptrdiff_t macs
    phase_t* phase
    ptrdiff_t n_phases


cdef struct round_t:
    const direct_t* plan
    const phase_t* phase
    const char* x            # first image of the round
    const char* w
    const char* bias         # panels, or NULL
    bint skip                # positions in the padding are left out
    char* y
    char* padded             # scratch for the padded copy
    const char* source       # what the tiles read: the copy, or x at the box
    ptrdiff_t images
    ptrdiff_t origin[3]      # first j of the box
    ptrdiff_t boxes[3]       # of an image, along each axis
    ptrdiff_t parts          # tasks that share the rows of a box; in grids, the panels of a group
    ptrdiff_t blocks         # in grids: tasks that share the pixels of an image,
    ptrdiff_t together       # or whole images of one task
    char* own                # of each worker: sums
    ptrdiff_t own_bytes
    finish_t then            # on what a task has written


cdef void pad_plane(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One channel of one image."""
    cdef const round_t* r = <const round_t*>job
    pad_channels(r, task // r.plan.channels, task % r.plan.channels, task % r.plan.channels + 1)


cdef void pad_channels(const round_t* r, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t end_channel) noexcept nogil:
    """Copy the box of some channels of one image, zeros where it overhangs the source."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, line = p.box[2] * size, slice_bytes = p.source[1] * p.source[2] * size, i, z
    cdef ptrdiff_t first[3]
    cdef ptrdiff_t begin[3]
    cdef ptrdiff_t end[3]    # the part of the box that lies inside the source
    cdef const char* rows
    cdef char* plane
    for i in range(3):
        first[i] = r.origin[i] * p.source_step[i] - p.lo[i]
        begin[i] = min(max(-first[i], 0), p.box[i])
        end[i] = max(min(p.source[i] - first[i], p.box[i]), begin[i])
    while channel < end_channel:
        rows = r.x + ((image * p.channels + channel) * p.source[0] + first[0]) * slice_bytes + (
            (first[1] + begin[1]) * p.source[2] + first[2] + begin[2]) * size
        plane = r.padded + (image * p.image_pitch + channel * p.channel_pitch) * size
        for z in range(p.box[0]):
            if z < begin[0] or z >= end[0]:
                memset(plane, 0, p.box[1] * line)
            else:
                memset(plane, 0, begin[1] * line)
                (p.table.pad_apart if p.apart else p.table.pad)(
                    rows, p.source[2], plane + begin[1] * line, end[1] - begin[1], begin[2], end[2] - begin[2],
                    p.box[2] - end[2], rows + p.source[0] * slice_bytes)
                memset(plane + end[1] * line, 0, (p.box[1] - end[1]) * line)
            plane += p.box[1] * line
            rows += slice_bytes
        channel += 1


cdef void sum_panel(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One panel of filters on a part of the rows of one image's box, a segment of the taps at a time."""
    cdef const round_t* r = <const round_t*>job
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t part = task % r.parts
    cdef ptrdiff_t image = (task // r.parts) % r.images
    cdef ptrdiff_t panel = (task // r.parts) // r.images
    cdef ptrdiff_t group = panel // p.group_panels
    cdef ptrdiff_t filter0 = panel_lane(p, panel % p.group_panels)
    cdef ptrdiff_t filters = min(p.group_filters, panel_lane(p, panel % p.group_panels + 1)) - filter0
    cdef ptrdiff_t lanes = round_up(filters, p.table.lanes)
    cdef ptrdiff_t size = p.itemsize, i, first, last
    cdef ptrdiff_t segments = 1 if p.grids else (f.taps + SEGMENT - 1) // SEGMENT
    cdef ptrdiff_t count[3]
    cdef const char* w = r.w + (f.panels + (group * round_up(p.group_filters, p.table.lanes) + filter0) * f.taps) * size
    cdef ck_conv_tile tile
    for i in range(3):
        count[i] = min(p.block[i], f.count[i] - r.origin[i])
        if count[i] <= 0:
            return
    tile.x_step = p.column_step
    tile.bias = NULL
    if r.bias != NULL:
        tile.bias = r.bias + (group * p.group_panels * p.panel_filters + filter0) * size
    tile.y_pixel = f.step[2]
    tile.y_filter = p.target[0] * p.target[1] * p.target[2]
    tile.filters = filters
    tile.row_bias = NULL
    tile.finish = finish_early(&r.then) if segments == 1 and (p.grids or not r.skip) else NULL
    for i in range(segments):
        first, last = f.taps * i // segments, f.taps * (i + 1) // segments
        tile.off = f.off + first
        tile.taps = last - first
        tile.w = w + first * lanes * size
        tile.accumulate = i > 0
        if p.grids:
            sum_rows_in_grids(r, &tile, image, group, filter0, part, count, r.own + worker * r.own_bytes)
        else:
            sum_rows(r, &tile, image, group, filter0, part, count)
        tile.bias = NULL
    if r.then.steps > (r.then.late if tile.finish != NULL else 0):
        finish_rows(r, (image * p.filters + group * p.group_filters + filter0) * tile.y_filter, &tile, part, count)


cdef inline const char* source_row(const round_t* r, ptrdiff_t image, ptrdiff_t group, ptrdiff_t z, ptrdiff_t y
                                   ) noexcept nogil:
    """Where what a row of the round's targets meets begins."""
    cdef const direct_t* p = r.plan
    return r.source + (image * p.image_pitch + group * p.group_channels * p.channel_pitch
                       + (z * p.source_step[0] * p.box[1] + y * p.source_step[1]) * p.box[2]) * p.itemsize


cdef inline char* target_row(const round_t* r, ptrdiff_t image, ptrdiff_t group, ptrdiff_t filter0, ptrdiff_t z,
                             ptrdiff_t y) noexcept nogil:
    """Where that row of a filter begins in y."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t plane = (image * p.filters + group * p.group_filters + filter0) * p.target[0]
    return r.y + (((plane + f.start[0] + (r.origin[0] + z) * f.step[0]) * p.target[1]
                   + f.start[1] + (r.origin[1] + y) * f.step[1]) * p.target[2]
                  + f.start[2] + r.origin[2] * f.step[2]) * p.itemsize


cdef void sum_rows(const round_t* r, ck_conv_tile* tile, ptrdiff_t image, ptrdiff_t group, ptrdiff_t filter0,
                   ptrdiff_t part, const ptrdiff_t* count) noexcept nogil:
    """The tiles of the part's rows, with the panel and the taps that ``tile`` has."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t vectors = (tile.filters + p.table.lanes - 1) // p.table.lanes
    cdef ptrdiff_t size = p.itemsize, z, y, x, i, m, row, rows, runs, first, last, height, lines
    cdef bint short = f.taps <= SHORT and f.step[2] == 1
    cdef ck_conv_tile tiles[CK_CONV_TOGETHER]
    cdef int pixels[CK_CONV_TOGETHER]
    cdef ptrdiff_t waiting = 0
    cdef const char* source
    cdef char* target
    runs = (count[2] + p.most_pixels - 1) // p.most_pixels
    height = row_height(p, tile, count)
    rows = count[0] * ((count[1] + height - 1) // height)
    tile.y_half = f.step[1] * p.target[2]
    first = rows * part // r.parts
    last = rows * (part + 1) // r.parts
    # While this panel is in L2 its tiles fetch the one that follows, each an equal share.
    tile.ahead = <const char*>tile.w + tile.taps * vectors * p.table.lanes * size
    tile.ahead_end = NULL
    tile.ahead_step = min(<ptrdiff_t>64, vectors * p.table.lanes * size // max(<ptrdiff_t>1, (last - first) * runs) + 1)
    if short:
        tile.ahead_step = tile.y_filter * size
    for row in range(first, last):
        z = row // (rows // count[0])
        y = row % (rows // count[0]) * height
        source, target = source_row(r, image, group, z, y), target_row(r, image, group, filter0, z, y)
        lines = min(height, count[1] - y)
        tile.x_half = p.source_step[1] * p.box[2] if lines == 2 else 0
        x = 0
        for i in range(runs):
            m = count[2] * (i + 1) // runs - x
            tile.x = source + x * p.column_step * size
            tile.y = target + x * f.step[2] * size
            if short:
                tile.ahead = target + (x + m) * size
                tile.ahead_end = <const char*>tile.ahead + tile.filters * tile.y_filter * size
            if r.skip:
                sum_inside(r, tile, z, y, lines, x, m, <int>vectors)
            elif short:
                p.table.run(tile, <int>(lines * m), <int>vectors)
            else:
                tiles[waiting] = tile[0]
                pixels[waiting] = <int>(lines * m)
                waiting += 1
                if waiting == CK_CONV_TOGETHER:
                    p.table.run_together(tiles, pixels, waiting, <int>vectors)
                    waiting = 0
            x += m
            if not short:
                tile.ahead = <const char*>tile.ahead + tile.taps * tile.ahead_step
    if waiting:
        p.table.run_together(tiles, pixels, waiting, <int>vectors)


cdef void finish_rows(const round_t* r, ptrdiff_t plane, const ck_conv_tile* tile, ptrdiff_t part,
                      const ptrdiff_t* count) noexcept nogil:
    """What the tiles of ``sum_rows`` left to do, where a single phase wrote; the panel begins at ``plane``."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t height = row_height(p, tile, count), pairs = (count[1] + height - 1) // height
    cdef ptrdiff_t row = count[0] * pairs * part // r.parts, last = count[0] * pairs * (part + 1) // r.parts
    cdef ptrdiff_t z, y, lines, f, line, at
    cdef int step = r.then.late if tile.finish != NULL else 0
    while row < last:  # the lines of one slice after the other
        z, y = row // pairs, row % pairs * height
        lines = min(count[1], (last - z * pairs) * height) - y
        at = plane + ((r.origin[0] + z) * p.target[1] + r.origin[1] + y) * p.target[2] + r.origin[2]
        for f in range(tile.filters):
            if count[2] == p.target[2]:
                finish_from(&r.then, step, r.then.steps, at + f * tile.y_filter, lines * count[2])
            else:
                for line in range(lines):
                    finish_from(&r.then, step, r.then.steps, at + f * tile.y_filter + line * p.target[2], count[2])
        row = (z + 1) * pairs


cdef inline ptrdiff_t row_height(const direct_t* p, const ck_conv_tile* tile, const ptrdiff_t* count) noexcept nogil:
    """Two rows to a tile that holds them: the weights are read half as often."""
    return 2 if tile.filters > p.table.lanes and 2 * count[2] <= p.most_pixels and not p.grids else 1


cdef inline void positions_inside(const round_t* r, int axis, ptrdiff_t target, ptrdiff_t count,
                                  ptrdiff_t* inside) noexcept nogil:
    """[first, last) of the axis' kernel positions at which some of ``count`` targets meet the source."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t first = (r.origin[axis] + target) * p.source_step[axis]
    cdef ptrdiff_t last = first + (count - 1) * p.source_step[axis], before = 0, reach, k
    for k in range(axis):
        before += f.kernel[k]
    inside[0] = inside[1] = 0
    for k in range(f.kernel[axis]):
        reach = f.reach[before + k]
        if last + reach >= 0 and first + reach < p.source[axis]:
            if inside[1] == 0:
                inside[0] = k
            inside[1] = k + 1


cdef inline bint targets_inside(const round_t* r, int axis, ptrdiff_t position, ptrdiff_t target, ptrdiff_t count,
                                ptrdiff_t* inside) noexcept nogil:
    """[first, last) of ``count`` targets that the axis' kernel position takes to the source; whether there are any."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t step = p.source_step[axis], before = position, at, k
    for k in range(axis):
        before += r.phase.kernel[k]
    at = (r.origin[axis] + target) * step + r.phase.reach[before]
    inside[0] = (step - 1 - at) // step if at < 0 else 0
    inside[1] = min(count, (p.source[axis] - at + step - 1) // step) if at < p.source[axis] else 0
    return inside[0] < inside[1]


cdef void sum_inside(const round_t* r, const ck_conv_tile* whole, ptrdiff_t z, ptrdiff_t y, ptrdiff_t height,
                     ptrdiff_t x, ptrdiff_t m, int vectors) noexcept nogil:
    """The tile without the kernel positions that lie in the padding for all of its targets: they are runs of taps."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t inside[3][2]
    cdef ptrdiff_t kz, ky, first, last, segment = whole.off - f.off, done = 0
    cdef ptrdiff_t line = p.group_channels * f.kernel[2]
    cdef ck_conv_tile tile = whole[0]
    positions_inside(r, 0, z, 1, inside[0])
    positions_inside(r, 1, y, height, inside[1])
    positions_inside(r, 2, x, m, inside[2])
    kz = inside[0][0]
    while kz < inside[0][1]:
        ky = inside[1][0]
        while ky < inside[1][1]:
            first = (kz * f.kernel[1] + ky) * line + inside[2][0] * p.group_channels
            last = first + (inside[2][1] - inside[2][0]) * p.group_channels
            ky += 1
            if inside[2][1] - inside[2][0] == f.kernel[2]:  # whole lines follow each other
                last += (inside[1][1] - ky) * line
                ky = inside[1][1]
            first, last = max(first - segment, 0), min(last - segment, whole.taps)
            if first < last:
                run_taps(r, whole, &tile, first, last - first, done, height * m, vectors)
                done += 1
        kz += 1
    if done == 0 and not whole.accumulate:  # all of them zeros
        run_taps(r, whole, &tile, 0, 1, done, height * m, vectors)


cdef inline void run_taps(const round_t* r, const ck_conv_tile* whole, ck_conv_tile* tile, ptrdiff_t first,
                          ptrdiff_t taps, ptrdiff_t done, ptrdiff_t pixels, int vectors) noexcept nogil:
    tile.off = whole.off + first
    tile.w = <const char*>whole.w + first * vectors * r.plan.table.lanes * r.plan.itemsize
    tile.taps = taps
    tile.accumulate = whole.accumulate or done > 0
    tile.bias = whole.bias
    if done > 0:
        tile.bias = NULL
    r.plan.table.run(tile, <int>pixels, vectors)


cdef void sum_rows_in_grids(const round_t* r, const ck_conv_tile* panel, ptrdiff_t image, ptrdiff_t group,
                            ptrdiff_t filter0, ptrdiff_t part, const ptrdiff_t* count, char* own) noexcept nogil:
    """The part's rows with the panel that ``panel`` has, a few rows of a slice, or a part of one, at a time."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t rows = count[0] * count[1], row = rows * part // r.parts, last = rows * (part + 1) // r.parts
    cdef ptrdiff_t parts = (count[2] + GRID_PIXELS - 1) // GRID_PIXELS, size = p.itemsize, z, y, x, i, lines, pixels
    cdef const char* source
    cdef char* target
    cdef const char* sums
    cdef ck_conv_tile tile = panel[0]
    while row < last:
        z, y = row // count[1], row % count[1]
        lines = min(max(<ptrdiff_t>1, GRID_PIXELS // count[2]), min(last, (z + 1) * count[1]) - row)
        source, target = source_row(r, image, group, z, y), target_row(r, image, group, filter0, z, y)
        for i in range(parts):
            x = min(count[2], round_up(count[2] * i // parts, 4))
            pixels = min(count[2], round_up(count[2] * (i + 1) // parts, 4)) - x
            tile.x, tile.y = source + x * size, target + x * f.step[2] * size
            if r.skip:
                sums = sum_grid_inside(r, &tile, z, y, lines, x, pixels, own)
            else:
                sums = sum_grid(r, &tile, lines, pixels, own)
            store_grid(r, &tile, sums, lines, pixels)
        row += lines


cdef inline void begin_grid(const direct_t* p, ck_conv_tile* tile, ck_conv_grid* grid, ptrdiff_t lines, ptrdiff_t pixels
                            ) noexcept nogil:
    """``tile``, of a panel, sums neighbouring lines of pixels to [line][pixel][lane]."""
    tile.bias = tile.ahead_end = NULL
    tile.finish = NULL
    tile.x_half = 0
    tile.y_filter = 1
    grid.panels, grid.rows, grid.x_row, grid.by_chunk = 1, lines, p.source_step[1] * p.box[2], 1
    grid.y_row = pixels * round_up(tile.filters, p.table.lanes)
    grid.y_panel = 0


cdef inline void set_chunks(const direct_t* p, ck_conv_tile* tile, const ck_conv_tile* panel, ptrdiff_t first,
                            ptrdiff_t last) noexcept nogil:
    """``tile`` takes these taps of ``panel``."""
    tile.off, tile.taps = panel.off + first, last - first
    tile.w = <const char*>panel.w + first * round_up(panel.filters, p.table.lanes) * p.itemsize


cdef char* sum_grid(const round_t* r, const ck_conv_tile* panel, ptrdiff_t lines, ptrdiff_t pixels, char* sums
                    ) noexcept nogil:
    """Some pixels of neighbouring lines: chunk after chunk, so that the sums and a chunk's weights stay in L1; returns
    where the sums are."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t chunks = grid_chunks(panel.taps), i = 0, last
    cdef char* more = sums + grid_bytes(p)
    cdef ck_conv_tile tile = panel[0]
    cdef ck_conv_grid grid
    begin_grid(p, &tile, &grid, lines, pixels)
    tile.accumulate = 0
    while i < chunks:
        last = min(chunks, i + CK_CONV_CHUNKS)
        set_chunks(p, &tile, panel, panel.taps * i // chunks, panel.taps * last // chunks)
        tile.y = more if i else sums
        run_panels(p, &tile, &grid, pixels)
        if i:
            p.table.add(sums, more, lines * grid.y_row, 0)
        i = last
    return sums


cdef char* sum_grid_inside(const round_t* r, const ck_conv_tile* panel, ptrdiff_t z, ptrdiff_t y, ptrdiff_t lines,
                           ptrdiff_t x, ptrdiff_t pixels, char* sums) noexcept nogil:
    """The same, each kernel position with the pixels only that it takes to the source."""
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t inside[3][2]
    cdef ptrdiff_t chunks = grid_chunks(p.group_channels), position, i, last, elements, open = 0, closed = 0
    cdef char* totals = sums + grid_bytes(p)
    cdef ck_conv_tile tile = panel[0]
    cdef ck_conv_grid grid
    begin_grid(p, &tile, &grid, lines, pixels)
    elements = lines * grid.y_row
    memset(sums, 0, elements * p.itemsize)
    tile.accumulate = 1
    for position in range(f.kernel[0] * f.kernel[1] * f.kernel[2]):
        if not (targets_inside(r, 0, position // (f.kernel[1] * f.kernel[2]), z, 1, inside[0])
                and targets_inside(r, 1, position // f.kernel[2] % f.kernel[1], y, lines, inside[1])
                and targets_inside(r, 2, position % f.kernel[2], x, pixels, inside[2])):
            continue
        tile.x = <const char*>panel.x + (inside[1][0] * grid.x_row + inside[2][0]) * p.itemsize
        tile.y = sums + (inside[1][0] * pixels + inside[2][0]) * (grid.y_row // pixels) * p.itemsize
        grid.rows = inside[1][1] - inside[1][0]
        i = 0
        while i < chunks:
            # by its number among all, so that no sum depends on what else is in the block
            if (position * chunks + i) // CK_CONV_CHUNKS > open:
                p.table.add(totals, sums, elements, closed == 0)
                memset(sums, 0, elements * p.itemsize)
                open = (position * chunks + i) // CK_CONV_CHUNKS
                closed += 1
            last = min(chunks, (open + 1) * CK_CONV_CHUNKS - position * chunks)
            set_chunks(p, &tile, panel, position * p.group_channels + p.group_channels * i // chunks,
                       position * p.group_channels + p.group_channels * last // chunks)
            run_panels(p, &tile, &grid, inside[2][1] - inside[2][0])
            i = last
    if closed == 0:
        return sums
    p.table.add(totals, sums, elements, 0)
    return totals


cdef void store_grid(const round_t* r, const ck_conv_tile* panel, const char* sums, ptrdiff_t lines, ptrdiff_t pixels
                     ) noexcept nogil:
    """The sums of some pixels of neighbouring lines into y."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t lanes = round_up(panel.filters, p.table.lanes), row = r.phase.step[1] * p.target[2], i
    cdef ck_conv_tile tile = panel[0]
    tile.accumulate = 0
    if pixels * r.phase.step[2] == row:  # they follow each other
        pixels *= lines
        lines = 1
    for i in range(lines):
        tile.y = <char*>panel.y + i * row * p.itemsize
        p.table.store(&tile, sums + i * pixels * lanes * p.itemsize, pixels, <int>(lanes // p.table.lanes))


cdef inline ptrdiff_t grid_bytes(const direct_t* p) noexcept nogil:
    """The sums of a panel on a block of pixels, whose ends are rounded, and some pixels that only the store reads."""
    return round_up((GRID_PIXELS + 4 + p.table.lanes) * p.panel_filters * p.itemsize, 64)


cdef inline ptrdiff_t panel_lane(const direct_t* p, ptrdiff_t panel) noexcept nogil:
    """The first lane of a panel."""
    return (p.vectors * panel - max(<ptrdiff_t>0, panel - p.wide)) * p.table.lanes


cdef inline ptrdiff_t grid_chunks(ptrdiff_t taps) noexcept nogil:
    return (taps + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK


cdef inline ptrdiff_t grid_pixel(const round_t* r, ptrdiff_t block) noexcept nogil:
    """The first pixel of a block: whole tiles lie before it."""
    cdef ptrdiff_t pixels = r.phase.count[2]
    return min(pixels, round_up(pixels * block // r.blocks, 4))


cdef void sum_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A part of the panels of one group on a block of pixels, or on those of a few images: chunk after chunk of the
    taps, so that the weights of a panel stay in L1 while all tiles pass, and x is read once.
    """
    cdef const round_t* r = <const round_t*>job
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t part = task % r.parts, group = task // r.parts % p.groups, at = task // r.parts // p.groups
    cdef ptrdiff_t image = at // r.blocks * r.together, first_pixel = grid_pixel(r, at % r.blocks)
    cdef ptrdiff_t pixels = grid_pixel(r, at % r.blocks + 1) - first_pixel, images = min(r.together, r.images - image)
    cdef ptrdiff_t first = p.group_panels * part // r.parts, last = p.group_panels * (part + 1) // r.parts
    cdef ptrdiff_t chunks = grid_chunks(f.taps), i, size = p.itemsize
    cdef ptrdiff_t elements = (panel_lane(p, last) - panel_lane(p, first)) * images * pixels
    cdef char* sums = r.own + worker * r.own_bytes
    cdef char* totals = sums + round_up(elements * size, 64)
    cdef ck_conv_tile tile
    cdef ck_conv_grid grid
    if pixels == 0:
        return
    tile.x = r.x + ((image * p.channels + group * p.group_channels) * p.source[2] + first_pixel) * size
    tile.x_step = tile.y_filter = 1
    tile.x_half = 0
    tile.bias = tile.row_bias = tile.ahead_end = NULL
    tile.finish = NULL
    grid.rows, grid.x_row, grid.by_chunk = images, p.channels * p.source[2], 0
    for i in range(chunks):
        tile.accumulate = i % CK_CONV_CHUNKS > 0
        tile.off = f.off + f.taps * i // chunks
        tile.taps = f.taps * (i + 1) // chunks - f.taps * i // chunks
        sum_chunk(r, &tile, &grid, group, first, last, 1, pixels, sums)
        if chunks > CK_CONV_CHUNKS and (i + 1 == chunks or (i + 1) % CK_CONV_CHUNKS == 0):
            p.table.add(totals, sums, elements, i < CK_CONV_CHUNKS)
    store_panels(r, &tile, group, first, last, image, images, first_pixel, pixels,
                 totals if chunks > CK_CONV_CHUNKS else sums)


cdef void sum_chunk(const round_t* r, ck_conv_tile* tile, ck_conv_grid* grid, ptrdiff_t group, ptrdiff_t first,
                    ptrdiff_t last, ptrdiff_t slices, ptrdiff_t pixels, char* sums) noexcept nogil:
    """The taps that ``tile`` has for panels ``first`` to ``last``: those of all vectors, then those with one less."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t wide = min(max(first, p.wide), last), i, z
    cdef const char* w = r.w + (round_up(p.group_filters, p.table.lanes)
                                * (group * r.phase.taps + (tile.off - r.phase.off))) * p.itemsize
    cdef const char* x = <const char*>tile.x
    for i in range(2):
        tile.w = w + panel_lane(p, first) * tile.taps * p.itemsize
        tile.filters = (p.vectors - i) * p.table.lanes
        grid.panels = (last if i else wide) - first
        grid.y_row = pixels * tile.filters
        grid.y_panel = slices * grid.rows * grid.y_row
        for z in range(slices if grid.panels > 0 else 0):
            tile.x = x + z * p.source_step[0] * p.box[1] * p.box[2] * p.itemsize
            tile.y = sums + z * grid.rows * grid.y_row * p.itemsize
            run_panels(p, tile, grid, pixels)
        sums += grid.panels * grid.y_panel * p.itemsize
        first = wide
    tile.x = x


cdef void run_panels(const direct_t* p, ck_conv_tile* tile, ck_conv_grid* grid, ptrdiff_t pixels) noexcept nogil:
    """The taps that ``tile`` has for the panels and the rows of ``pixels`` pixels that ``grid`` has; the sums go to
    [panel][row][pixel][lane]."""
    cdef ptrdiff_t lanes = round_up(tile.filters, p.table.lanes)
    cdef ptrdiff_t most = p.table.most_pixels[lanes // p.table.lanes - 1], runs = (pixels + most - 1) // most
    tile.filters = tile.y_pixel = lanes
    grid.w_panel = grid.ahead_panel = tile.taps * lanes
    # While the tiles take one chunk of weights they fetch another soon to come.
    tile.ahead = <const char*>tile.w + (max(<ptrdiff_t>1, FETCHED_TILES // (grid.rows * runs))
                                        * min(tile.taps, <ptrdiff_t>CK_CONV_CHUNK) * lanes * p.itemsize)
    run_rows(p.table, p.itemsize, tile, grid, pixels, runs, 1)


cdef void store_panels(const round_t* r, ck_conv_tile* tile, ptrdiff_t group, ptrdiff_t first, ptrdiff_t last,
                       ptrdiff_t image, ptrdiff_t images, ptrdiff_t first_pixel, ptrdiff_t pixels, const char* sums
                       ) noexcept nogil:
    """The sums of some panels, [panel][image][pixel][lane], into y."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, panel, i, f, filter0, lanes, at
    tile.accumulate = 0
    tile.finish = finish_early(&r.then)
    tile.y_pixel, tile.y_filter = 1, r.phase.count[2]
    for panel in range(first, last):
        filter0, lanes = panel_lane(p, panel), panel_lane(p, panel + 1) - panel_lane(p, panel)
        tile.filters = min(lanes, p.group_filters - filter0)
        if r.bias != NULL:
            tile.bias = r.bias + (group * p.group_panels * p.panel_filters + filter0) * size
        for i in range(images):
            at = ((image + i) * p.filters + group * p.group_filters + filter0) * tile.y_filter + first_pixel
            tile.y = r.y + at * size
            p.table.store(tile, sums, pixels, <int>(lanes // p.table.lanes))
            sums += pixels * lanes * size
            for f in range(tile.filters if r.then.steps > r.then.late else 0):
                finish_late(&r.then, at + f * tile.y_filter, pixels)


cdef void sum_box_by_chunk(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A part of the panels of one group on a box of one image: chunk after chunk of the taps, each with the channels
    that it meets padded just before, while they and all sums stay in L2.
    """
    cdef round_t r = (<const round_t*>job)[0]
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t part = task % r.parts, group = task // r.parts % p.groups
    cdef ptrdiff_t first = p.group_panels * part // r.parts, last = p.group_panels * (part + 1) // r.parts
    cdef ptrdiff_t chunks = grid_chunks(f.taps), positions = f.taps // p.group_channels, size = p.itemsize
    cdef ptrdiff_t i, elements, channel0 = 0, channel = 0, end
    cdef ptrdiff_t count[3]
    cdef char* box = r.own + worker * r.own_bytes
    cdef char* sums = box + box_bytes(p)
    cdef char* more
    cdef ck_conv_tile tile
    cdef ck_conv_grid grid
    begin_box(&r, task // r.parts // p.groups)
    for i in range(3):
        count[i] = min(p.block[i], f.count[i] - r.origin[i])
    elements = (panel_lane(p, last) - panel_lane(p, first)) * count[0] * count[1] * count[2]
    more = sums + round_up(elements * size, 64)
    tile.filters, tile.x_step, tile.row_bias = p.panel_filters, 1, NULL
    begin_grid(p, &tile, &grid, count[1], count[2])
    grid.by_chunk = 0
    r.padded = box - group * p.group_channels * p.channel_pitch * size
    for i in range(chunks):
        tile.off = f.off + f.taps * i // chunks
        tile.taps = f.taps * (i + 1) // chunks - f.taps * i // chunks
        end = (f.taps * (i + 1) // chunks - 1) // positions + 1
        if end > channel0 + p.slots:  # those that are left go where others were
            channel = f.taps * i // chunks // positions
            r.padded -= (channel - channel0) * p.channel_pitch * size
            channel0 = channel
        pad_channels(&r, 0, group * p.group_channels + channel, group * p.group_channels + end)
        channel = end
        r.source = r.padded
        tile.x = source_row(&r, 0, group, 0, 0)
        tile.accumulate = i % CK_CONV_CHUNKS > 0
        sum_chunk(&r, &tile, &grid, group, first, last, count[0], count[2], sums if i < CK_CONV_CHUNKS else more)
        if i >= CK_CONV_CHUNKS and (i + 1 == chunks or (i + 1) % CK_CONV_CHUNKS == 0):
            p.table.add(sums, more, elements, 0)
    store_box(&r, &tile, group, first, last, count, sums)


cdef void store_box(const round_t* r, ck_conv_tile* tile, ptrdiff_t group, ptrdiff_t first, ptrdiff_t last,
                    const ptrdiff_t* count, const char* sums) noexcept nogil:
    """The sums of some panels, [panel][slice][line][pixel][lane], into y."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t panel, z, filter0, lanes
    tile.finish = finish_early(&r.then)
    tile.y_pixel, tile.y_filter = 1, p.target[0] * p.target[1] * p.target[2]
    for panel in range(first, last):
        filter0, lanes = panel_lane(p, panel), panel_lane(p, panel + 1) - panel_lane(p, panel)
        tile.filters = min(lanes, p.group_filters - filter0)
        if r.bias != NULL:
            tile.bias = r.bias + (group * p.group_panels * p.panel_filters + filter0) * p.itemsize
        for z in range(count[0]):
            tile.y = target_row(r, 0, group, filter0, z, 0)
            store_grid(r, tile, sums, count[1], count[2])
            sums += count[1] * count[2] * lanes * p.itemsize
        if r.then.steps > r.then.late:
            finish_rows(r, (group * p.group_filters + filter0) * tile.y_filter, tile, 0, count)


cdef inline ptrdiff_t box_bytes(const direct_t* p) noexcept nogil:
    """The channels of a box that are there at a time."""
    return round_up(p.slots * p.channel_pitch * p.itemsize, 64)


cdef struct pack_t:
    const direct_t* plan
    const void* w
    void* packed
    ptrdiff_t w_group, w_filter, w_channel


cdef void pack_panels(real* dtype, const pack_t* a, const phase_t* f, const ptrdiff_t* tap, ptrdiff_t positions,
                      bint in_order) noexcept nogil:
    """Every panel of a phase."""
    cdef ptrdiff_t group, panel
    for group in range(a.plan.groups):
        for panel in range(a.plan.group_panels):
            if a.plan.by_chunk:
                pack_chunks(dtype, a, f, positions, group, panel)
            else:
                pack_panel(dtype, a, f, tap, positions, in_order, group, panel)


cdef void pack_chunks(real* _dtype, const pack_t* a, const phase_t* f, ptrdiff_t positions, ptrdiff_t group,
                      ptrdiff_t panel) noexcept nogil:
    """A panel of grids, whose packed weights are [group][chunk][panel][tap][lane], taps in the weight array's order."""
    cdef const direct_t* p = a.plan
    cdef ptrdiff_t all_lanes = round_up(p.group_filters, p.table.lanes), filter0 = panel_lane(p, panel)
    cdef ptrdiff_t lanes = panel_lane(p, panel + 1) - filter0, filters = min(lanes, p.group_filters - filter0)
    cdef ptrdiff_t chunks = grid_chunks(f.taps), i, tap, end, n
    cdef ptrdiff_t columns = f.taps if a.w_channel == positions else positions  # of the weight array side by side
    cdef const real* w = <const real*>a.w + group * a.w_group + filter0 * a.w_filter
    cdef real* out
    for i in range(chunks):
        tap, end = f.taps * i // chunks, f.taps * (i + 1) // chunks
        out = <real*>a.packed + all_lanes * (group * f.taps + tap) + filter0 * (end - tap)
        if a.w_filter == 1:  # filters follow each other, of a single kernel position
            p.table.pad(w + tap * a.w_channel, a.w_channel, out, end - tap, 0, filters, lanes - filters,
                        NULL)
            continue
        if filters < lanes:
            memset(out, 0, (end - tap) * lanes * sizeof(real))
        while tap < end:
            n = min(end, (tap // columns + 1) * columns) - tap
            p.table.transpose(w + tap // columns * a.w_channel + tap % columns, a.w_filter, out, lanes, filters, n)
            out += n * lanes
            tap += n


cdef void pack_panel(real* _dtype, const pack_t* a, const phase_t* f, const ptrdiff_t* tap, ptrdiff_t positions,
                     bint in_order, ptrdiff_t group, ptrdiff_t panel) noexcept nogil:
    """[filters][taps] of the weight array into [taps][panel lanes], zero past the last filter."""
    cdef const direct_t* p = a.plan
    cdef ptrdiff_t filter0 = panel_lane(p, panel), filters = min(p.group_filters, panel_lane(p, panel + 1)) - filter0
    cdef ptrdiff_t lanes = round_up(filters, p.table.lanes)
    cdef ptrdiff_t lane, c, t, columns = positions
    cdef ptrdiff_t channel_taps = 1 if p.by_position else positions
    cdef ptrdiff_t position_taps = p.group_channels if p.by_position else 1
    cdef real* out = <real*>a.packed + f.panels + (group * round_up(p.group_filters, p.table.lanes) + filter0) * f.taps
    cdef const real* w = <const real*>a.w + group * a.w_group + filter0 * a.w_filter
    if filters < lanes:
        memset(out, 0, f.taps * lanes * sizeof(real))
    if in_order and p.by_position:
        for c in range(p.group_channels):
            p.table.transpose(w + c * a.w_channel, a.w_filter, out + c * lanes, p.group_channels * lanes, filters,
                              positions)
        return
    if in_order:  # whole kernels: a transposition, and a single one where channels follow each other too
        if a.w_channel == positions:
            columns = f.taps
        for c in range(f.taps // columns):
            p.table.transpose(w + c * a.w_channel, a.w_filter, out + c * columns * lanes, lanes, filters, columns)
        return
    for c in range(p.group_channels):
        for t in range(positions):
            for lane in range(filters):
                out[(c * channel_taps + t * position_taps) * lanes + lane] = (
                    w[lane * a.w_filter + c * a.w_channel + tap[t]])


cdef class Direct:
    """A planned forward pass or input gradient.

    Built from plain tuples: ``source`` and ``target`` sizes, ``lo``, ``source_step``, ``block`` and ``box`` per axis,
    and per phase ``(start, step, count, kernel positions, offsets, reach)``, where ``reach`` has for each axis how far
    from target 0 its positions lie in the source. ``by_position`` orders the taps so that positions in the padding can
    be left out; with ``grids``, of stride 1 along rows, tiles are summed in those, and the last panels have one
    vector less rather than a single one; stride 2 is one too where boxes have even and odd columns ``apart``. In grids
    of one phase all panels may go through the taps together, ``by_chunk``: a box is small then, with all sums in L2.
    ``w_strides`` are the strides of the weight array, in elements, from group to group, filter to filter and channel to
    channel; ``kernel_size`` is the number of positions of the whole kernel.
    """

    cdef direct_t plan
    cdef object _keep        # the arrays that the C structs point into
    cdef object _dtype
    cdef object _positions   # kernel positions per phase
    cdef ptrdiff_t w_strides[3]
    cdef ptrdiff_t kernel_size  # positions of the whole kernel; a phase that has them all has them in order
    cdef readonly ptrdiff_t packed_size
    cdef readonly ptrdiff_t vectors, most_pixels, lanes
    cdef readonly ptrdiff_t images
    cdef readonly bint by_position, grids, by_chunk, in_place

    def __init__(self, dtype, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, lo,
                 source_step, block, box, ptrdiff_t channel_pitch, ptrdiff_t images, bint in_place,
                 bint by_position, bint grids, bint by_chunk, bint apart, ptrdiff_t vectors, ptrdiff_t macs, phases,
                 w_strides, ptrdiff_t kernel_size):
        cdef direct_t* p = &self.plan
        cdef ptrdiff_t i, elements = 0
        p.itemsize = dtype.itemsize
        p.table = tiles_of(isa, p.itemsize)
        p.vectors = vectors
        p.panel_filters = vectors * p.table.lanes
        p.most_pixels = p.table.most_pixels[vectors - 1]
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        p.group_panels = (p.group_filters + p.panel_filters - 1) // p.panel_filters
        for i in range(3):
            p.source[i], p.target[i], p.lo[i] = source[i], target[i], lo[i]
            p.source_step[i], p.block[i], p.box[i] = source_step[i], block[i], box[i]
            self.w_strides[i] = w_strides[i]
        p.channel_pitch = channel_pitch
        p.image_pitch = channel_pitch * channels
        p.images = images
        p.in_place, p.by_position, p.grids, p.by_chunk = in_place, by_position, grids, by_chunk
        p.apart, p.column_step = apart, 1 if apart else source_step[2]
        self.in_place, self.grids, self.by_chunk = in_place, grids, by_chunk
        p.wide = p.group_panels
        if grids:
            p.wide -= p.group_panels * vectors - (p.group_filters + p.table.lanes - 1) // p.table.lanes
        p.macs = macs
        p.n_phases = len(phases)
        table = np.zeros(max(1, p.n_phases) * sizeof(phase_t), np.uint8)
        p.phase = <phase_t*>writing(table, table.nbytes)
        self._keep = [table]
        self._positions = []
        for i, (start, step, count, positions, offsets, reach) in enumerate(phases):
            self._fill_phase(&p.phase[i], start, step, count, positions, offsets, reach)
            p.phase[i].panels = elements
            elements += groups * round_up(p.group_filters, p.table.lanes) * p.phase[i].taps
        self.packed_size, self.by_position = elements + by_position, by_position
        if by_chunk:  # all that a chunk meets, and no more than stay in L2
            i = p.phase.taps // p.group_channels
            p.slots = min(p.group_channels,
                          max((CK_CONV_CHUNK - 2 + i) // i + 1, BOX_BYTES // (channel_pitch * p.itemsize)))
        self.kernel_size = kernel_size
        self._dtype = dtype
        self.vectors, self.most_pixels, self.lanes = vectors, p.most_pixels, p.table.lanes
        self.images = images

    cdef _fill_phase(self, phase_t* f, start, step, count, positions, offsets, reach):
        cdef ptrdiff_t i
        for i in range(3):
            f.start[i], f.step[i], f.count[i], f.kernel[i] = start[i], step[i], count[i], len(reach[i])
        # taps are ordered (channel, kernel position), as the weight array has them, or by position
        channel = np.arange(self.plan.group_channels, dtype=np.intp)[:, None] * self.plan.channel_pitch
        places = channel + np.asarray(offsets, np.intp)[None, :]
        off = np.ascontiguousarray((places.T if self.plan.by_position else places).reshape(-1))
        tap = np.ascontiguousarray(positions, np.intp)
        reached = np.array([at for axis in reach for at in axis], np.intp)
        f.taps = off.size
        f.off, f.reach = <const ptrdiff_t*>reading(off, off.nbytes), <const ptrdiff_t*>reading(reached, reached.nbytes)
        self._keep.extend((off, reached))
        self._positions.append(tap)

    @property
    def workspace_bytes(self):
        """Scratch of one call with enough images to fill a round."""
        cdef round_t r
        cdef direct_t whole = self.plan
        if self.plan.by_chunk:
            if self.plan.in_place:
                self._share_grids(&r, self.plan.images, 1)
            else:
                self._share_boxes(&r, &whole, 1, 1)
            return r.own_bytes + self._bias_elements() * self.plan.itemsize
        return self._scratch_bytes(self.plan.images, True) + (2 * grid_bytes(&self.plan) if self.plan.grids else 0)

    cdef ptrdiff_t _share_grids(self, round_t* r, ptrdiff_t n, int threads):
        """How blocks and panels are shared out as tasks; returns how many."""
        cdef direct_t* p = &self.plan
        cdef ptrdiff_t places = p.phase.count[2], pixels, tasks
        r.plan, r.phase, r.images = p, p.phase, n
        r.blocks = max(<ptrdiff_t>1, (places + GRID_PIXELS - 1) // GRID_PIXELS)
        r.together = max(<ptrdiff_t>1, min(n, GRID_PIXELS // max(<ptrdiff_t>1, places)))
        pixels = r.together * min(places, (places + r.blocks - 1) // r.blocks + 4)
        tasks = (n + r.together - 1) // r.together * r.blocks * p.groups
        r.parts = (pixels * p.panel_filters * p.group_panels * p.itemsize + GRID_SUMS - 1) // GRID_SUMS
        tasks = self._share_panels(r, tasks, threads)
        r.own_bytes = self._sum_bytes(pixels, r.parts)
        return tasks

    cdef ptrdiff_t _share_boxes(self, round_t* r, direct_t* smaller, ptrdiff_t n, int threads):
        """The same, of boxes: ``smaller`` ones than the plan has if they are too few."""
        r.plan, r.phase, r.images, r.parts = smaller, smaller.phase, n, 1
        count_boxes(r, smaller, 1 if threads == 1 else (2 * threads + n - 1) // n)
        r.own_bytes = box_bytes(smaller) + self._sum_bytes(
            smaller.block[0] * smaller.block[1] * smaller.block[2], 1)
        return self._share_panels(r, n * r.boxes[0] * r.boxes[1] * r.boxes[2] * smaller.groups, threads)

    cdef ptrdiff_t _share_panels(self, round_t* r, ptrdiff_t tasks, int threads):
        if threads > 1:  # a few tasks per thread even out their ends; more only cost
            r.parts = max(r.parts, ((4 if self.plan.in_place else 2) * threads + tasks - 1) // tasks)
        r.parts = max(<ptrdiff_t>1, min(r.parts, self.plan.group_panels))
        return tasks * r.parts

    cdef ptrdiff_t _sum_bytes(self, ptrdiff_t pixels, ptrdiff_t parts):
        """A task's sums: a vector's pixels more, which the store reads."""
        cdef direct_t* p = &self.plan
        cdef ptrdiff_t own = round_up((p.group_panels + parts - 1) // parts * p.panel_filters
                                      * (pixels + p.table.lanes) * p.itemsize, 64) + 64
        return 2 * own if grid_chunks(p.phase.taps) > CK_CONV_CHUNKS else own

    cdef ptrdiff_t _bias_elements(self):
        return self.plan.groups * self.plan.group_panels * self.plan.panel_filters

    cdef ptrdiff_t _scratch_bytes(self, ptrdiff_t images, bint bias):
        return (self._padded_elements(images) + (self._bias_elements() if bias else 0)) * self.plan.itemsize

    cdef ptrdiff_t _padded_elements(self, ptrdiff_t images):
        return 0 if self.plan.in_place or self.plan.by_chunk else images * self.plan.image_pitch

    def pack(self, w not None):
        """The weight array, C-contiguous, as panels; an array to pass to ``run``."""
        packed = aligned_empty(self.packed_size, self._dtype)
        cdef pack_t a
        cdef ptrdiff_t i, positions
        cdef bint in_order
        cdef const ptrdiff_t* tap
        cdef direct_t* p = &self.plan
        a.plan = p
        a.w = reading(w, p.filters * p.group_channels * self.kernel_size * p.itemsize)
        a.packed = writing(packed, self.packed_size * p.itemsize)
        a.w_group, a.w_filter, a.w_channel = self.w_strides[0], self.w_strides[1], self.w_strides[2]
        for i in range(p.n_phases):
            positions = self._positions[i].size
            tap = <const ptrdiff_t*>reading(self._positions[i], positions * <ptrdiff_t>sizeof(ptrdiff_t))
            with nogil:
                in_order = positions == self.kernel_size
                if p.itemsize == 4:
                    pack_panels(<float*>NULL, &a, &p.phase[i], tap, positions, in_order)
                else:
                    pack_panels(<double*>NULL, &a, &p.phase[i], tap, positions, in_order)
        if p.by_position:  # 1 if a weight is not finite: infinity times padding is NaN and must stay it
            i = self.packed_size - 1
            if p.itemsize == 4:
                (<float*>a.packed)[i] = not p.table.all_finite(a.packed, i)
            else:
                (<double*>a.packed)[i] = not p.table.all_finite(a.packed, i)
        return packed

    def run(self, x not None, packed not None, bias, y not None, ptrdiff_t n, int threads, Finish then=None):
        """Compute ``n`` images: x and y C-contiguous, ``packed`` from ``pack``, ``bias`` one per filter or None;
        ``then`` is applied to y.
        """
        cdef direct_t* p = &self.plan
        cdef direct_t smaller = p[0]
        cdef round_t r
        if p.macs * n < MIN_MACS:
            threads = 1
        cdef bint alone = (threads > 1 and not p.in_place and not p.by_position and not p.by_chunk
                           and self.packed_size * p.itemsize <= OWN_WEIGHTS)
        cdef ptrdiff_t images = threads if alone else min(n, p.images)
        cdef ptrdiff_t source_bytes = p.channels * p.source[0] * p.source[1] * p.source[2] * p.itemsize
        cdef ptrdiff_t target_bytes = p.filters * p.target[0] * p.target[1] * p.target[2] * p.itemsize
        cdef ptrdiff_t first
        cdef const char* source = <const char*>reading(x, n * source_bytes)
        cdef char* target = <char*>writing(y, n * target_bytes)
        cdef const void* given = reading(bias, p.filters * p.itemsize)
        cdef ptrdiff_t tasks = 0
        r.own_bytes = 2 * grid_bytes(p) if p.grids else 0
        r.plan = p
        if p.by_chunk and p.in_place:
            tasks = self._share_grids(&r, n, threads)
        elif p.by_chunk:
            tasks = self._share_boxes(&r, &smaller, n, threads)
        r.w = <const char*>reading(packed, self.packed_size * p.itemsize)
        r.skip = p.by_position and is_zero(r.w, self.packed_size - 1, p.itemsize)
        set_finish(&r.then, then, target, n * target_bytes)
        r.bias = NULL
        r.own = <char*>scratch(threads * r.own_bytes + self._scratch_bytes(images, bias is not None))
        cdef char* memory = r.own + threads * r.own_bytes
        r.padded = memory
        if given != NULL:
            r.bias = memory + self._padded_elements(images) * p.itemsize
            if p.itemsize == 4:
                spread_bias(p, <const float*>given, <float*>r.bias)
            else:
                spread_bias(p, <const double*>given, <double*>r.bias)
        r.x, r.y = source, target
        with nogil:
            first = n
            if p.by_chunk:
                parallel_for(sum_block if p.in_place else sum_box_by_chunk, &r, tasks, threads)
            elif alone:
                count_boxes(&r, &smaller, (2 * threads + n - 1) // n)
                parallel_for(sum_box, &r, n * r.boxes[0] * r.boxes[1] * r.boxes[2], threads)
            else:
                first = 0
            while first < n:
                r.images = min(images, n - first)
                r.x = source + first * source_bytes
                r.y = target + first * target_bytes
                move_finish(&r.then, r.y)
                run_boxes(&r, threads)
                first += r.images
            scratch_done()


cdef inline bint is_zero(const void* a, ptrdiff_t i, int itemsize) noexcept:
    return (<const float*>a)[i] == 0 if itemsize == 4 else (<const double*>a)[i] == 0


cdef void spread_bias(const direct_t* p, const real* bias, real* panels) noexcept nogil:
    """One value per filter into whole panels, so that a tile loads vectors."""
    cdef ptrdiff_t g, f, lanes = p.group_panels * p.panel_filters
    for g in range(p.groups):
        for f in range(lanes):
            panels[g * lanes + f] = bias[g * p.group_filters + f] if f < p.group_filters else 0


cdef void count_boxes(round_t* r, direct_t* p, ptrdiff_t fewest) noexcept nogil:
    """The boxes of an image; ``p`` gets smaller ones if they are too few: whatever the box, a sum is the same."""
    cdef ptrdiff_t i, j, last, outer = 0 if p.box[0] > 1 else 1, block
    r.plan = p
    for i in range(3):
        last = 0
        for j in range(p.n_phases):
            last = max(last, p.phase[j].count[i])
        if i == outer:
            block = min(p.block[i], (last + fewest - 1) // fewest)
            p.box[i] -= (p.block[i] - block) * p.source_step[i]
            p.block[i] = block
        r.boxes[i] = (last + p.block[i] - 1) // p.block[i]


cdef void begin_box(round_t* r, ptrdiff_t task) noexcept nogil:
    """``r`` is now about the box that this task of all images is."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t image = task // (r.boxes[0] * r.boxes[1] * r.boxes[2])
    r.x += image * p.channels * p.source[0] * p.source[1] * p.source[2] * p.itemsize
    r.y += image * p.filters * p.target[0] * p.target[1] * p.target[2] * p.itemsize
    move_finish(&r.then, r.y)
    r.origin[2] = task % r.boxes[2] * p.block[2]
    r.origin[1] = task // r.boxes[2] % r.boxes[1] * p.block[1]
    r.origin[0] = task // r.boxes[2] // r.boxes[1] % r.boxes[0] * p.block[0]
    r.images = r.parts = 1


cdef void sum_box(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One box of one image: pad it, then sum every phase and panel over it."""
    cdef round_t r = (<const round_t*>job)[0]
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t i, j
    begin_box(&r, task)
    r.padded += worker * p.image_pitch * p.itemsize
    r.source = r.padded
    for i in range(p.channels):
        pad_plane(&r, i, worker)
    for i in range(p.n_phases):
        r.phase = &p.phase[i]
        for j in range(p.groups * p.group_panels):
            sum_panel(&r, j, worker)


cdef int run_boxes(round_t* r, int threads) except -1 nogil:
    """Every box of the round's images: pad, then sum each phase over it."""
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t last[3]
    cdef ptrdiff_t i, z, y, x, tasks
    for i in range(3):
        last[i] = 0
    for i in range(p.n_phases):
        for z in range(3):
            last[z] = max(last[z], p.phase[i].count[z])
    tasks = p.groups * p.group_panels * r.images
    # a few tasks per thread even out their ends; more only cost
    r.parts = 1 if threads == 1 else max(1, min(p.block[0] * p.block[1], (4 * threads + tasks - 1) // tasks))
    z = 0
    while z < last[0]:
        y = 0
        while y < last[1]:
            x = 0
            while x < last[2]:
                r.origin[0], r.origin[1], r.origin[2] = z, y, x
                if p.in_place:
                    r.source = r.x + x * p.source_step[2] * p.itemsize  # one row per channel
                else:
                    r.source = r.padded
                    parallel_for(pad_plane, r, r.images * p.channels, threads)
                for i in range(p.n_phases):
                    r.phase = &p.phase[i]
                    parallel_for(sum_panel, r, tasks * r.parts, threads)
                x += p.block[2]
            y += p.block[1]
        z += p.block[0]
    return 0


cdef struct gradient_t:
    int itemsize
    const ck_conv_table* table
    ptrdiff_t vectors, most_pixels, panel_filters
    ptrdiff_t groups, channels, group_channels, channel_lanes, filters, group_filters, group_panels, group_lanes
    ptrdiff_t source[3]
    ptrdiff_t target[3]
    ptrdiff_t lo[3]
    ptrdiff_t stride[3]
    ptrdiff_t block[3]       # output pixels of a box
    ptrdiff_t box[3]         # padded input pixels of a box
    bint in_place            # the channels of x as they lie, and not transposed
    bint turned              # x is dy, and dy is x
    ptrdiff_t image_pitch    # elements of one image's transposed box, all groups; or of an image
    ptrdiff_t row_step       # elements of it between neighbouring rows of a run,
    ptrdiff_t step[3]        # and neighbouring output pixels
    ptrdiff_t images         # per round
    ptrdiff_t run            # rows of one sum: neighbouring (kernel column, channel) pairs
    ptrdiff_t near_rows      # in place in grids: so many of them meet all panels
    ptrdiff_t n_bases
    const ptrdiff_t* base    # offset of each run in a transposed box
    ptrdiff_t beside         # of them equally far from each other
    const ptrdiff_t* inside  # of each run: first and last + 1 of the targets that meet the source, along each axis
    ptrdiff_t macs


cdef struct gradient_round_t:
    const gradient_t* plan
    const char* x
    const char* dy
    char* columns            # x of the box, [image][group][pixel][channel lanes]
    char* panels             # dy of the box, [group][panel][pixel of every image][panel filters]
    char* sums               # [group][base][panel][run][panel filters]
    char* dw
    const ptrdiff_t* taps    # kernel position of each column of each run
    char* own                # of each worker: sums of a part of the pixels, or rows of sums in the order of the weights
    ptrdiff_t columns_of_run, positions, own_bytes
    ptrdiff_t beside         # runs that are summed together
    ptrdiff_t* off           # of every output pixel of the round in `columns`
    ptrdiff_t lines          # of dy that are transposed together
    ptrdiff_t image_step, pixel_step  # in numbers of pixels: images one after the other, or in turns
    bint skip                # pixels where a run meets only padding are left out
    bint last                # round: then sums become weights
    bint straight            # sums of whole panels are rows of dw, and go there
    ptrdiff_t images
    ptrdiff_t pixels         # output pixels of a round, all images
    ptrdiff_t origin[3]
    ptrdiff_t count[3]
    ptrdiff_t parts
    bint first


cdef void transpose_x(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One row of pixels of one group's box: channels become neighbours."""
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, lanes = p.channel_lanes
    cdef ptrdiff_t y = task % p.box[1]
    cdef ptrdiff_t z = (task // p.box[1]) % p.box[0]
    cdef ptrdiff_t group = (task // (p.box[1] * p.box[0])) % p.groups
    cdef ptrdiff_t image = task // (p.box[1] * p.box[0] * p.groups)
    cdef ptrdiff_t zz = r.origin[0] * p.stride[0] - p.lo[0] + z
    cdef ptrdiff_t yy = r.origin[1] * p.stride[1] - p.lo[1] + y
    cdef ptrdiff_t xx = r.origin[2] * p.stride[2] - p.lo[2]
    cdef ptrdiff_t plane = p.source[0] * p.source[1] * p.source[2]
    cdef ptrdiff_t skip = min(max(-xx, 0), p.box[2])
    cdef ptrdiff_t stop = max(min(p.source[2] - xx, p.box[2]), skip)
    cdef char* row = r.columns + (image * p.image_pitch
                                  + ((group * p.box[0] + z) * p.box[1] + y) * p.box[2] * lanes) * size
    if zz < 0 or zz >= p.source[0] or yy < 0 or yy >= p.source[1]:
        skip = stop = p.box[2]
    elif lanes > p.group_channels and r.columns_of_run > 1:
        memset(row + skip * lanes * size, 0, (stop - skip) * lanes * size)
    memset(row, 0, skip * lanes * size)
    memset(row + stop * lanes * size, 0, (p.box[2] - stop) * lanes * size)
    if stop == skip:
        return
    # Every channel lies in a page of its own: of a long row a few at a time, so that it can be fetched ahead.
    cdef ptrdiff_t step = p.table.lanes if stop - skip > LONG_ROW else p.group_channels, c = 0
    while c < p.group_channels:
        p.table.transpose(
            r.x + ((image * p.channels + group * p.group_channels + c) * plane
                   + (zz * p.source[1] + yy) * p.source[2] + xx + skip) * size,
            plane, row + (skip * lanes + c) * size, lanes, min(step, p.group_channels - c), stop - skip)
        c += step


cdef void transpose_dy(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some rows of output pixels of one panel: filters become lanes, and a pixel number is made for each."""
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, parts = (r.count[1] + r.lines - 1) // r.lines, tasks = r.count[0] * parts
    cdef ptrdiff_t z = task % tasks // parts, y = task % parts * r.lines, x, i
    cdef ptrdiff_t image = (task // tasks) % r.images
    cdef ptrdiff_t panel = task // (tasks * r.images)
    cdef ptrdiff_t lines = min(r.lines, r.count[1] - y), columns = lines * r.count[2]
    cdef ptrdiff_t group = panel // p.group_panels
    cdef ptrdiff_t filter0 = (panel % p.group_panels) * p.panel_filters
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters)
    cdef ptrdiff_t lanes = round_up(filters, p.table.lanes)
    cdef ptrdiff_t plane = p.target[0] * p.target[1] * p.target[2]
    cdef ptrdiff_t pixel = image * r.image_step + (z * r.count[1] + y) * r.count[2] * r.pixel_step
    cdef ptrdiff_t together = columns if r.pixel_step == 1 else 1  # pixels that follow each other
    cdef char* out = r.panels + ((group * p.group_lanes + filter0) * r.pixels + pixel * lanes) * size
    if filters < lanes:
        for x in range(columns // together):
            memset(out + x * r.pixel_step * lanes * size, 0, together * lanes * size)
    p.table.transpose(
        r.dy + ((image * p.filters + group * p.group_filters + filter0) * plane
                + ((r.origin[0] + z) * p.target[1] + r.origin[1] + y) * p.target[2] + r.origin[2]) * size,
        plane, out, r.pixel_step * lanes, filters, columns)
    if panel == 0:
        for i in range(lines):
            for x in range(r.count[2]):
                r.off[pixel] = image * p.image_pitch + z * p.step[0] + (y + i) * p.step[1] + x * p.step[2]
                pixel += r.pixel_step


cdef void sum_run(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """The sums of one panel against neighbouring runs of (kernel column, channel) rows, or a part of each of them."""
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize
    cdef ptrdiff_t part = task % r.parts
    cdef ptrdiff_t base = (task // r.parts) % (p.n_bases // r.beside) * r.beside
    cdef ptrdiff_t panel = task // r.parts // (p.n_bases // r.beside)
    cdef ptrdiff_t group = panel // p.group_panels
    cdef ptrdiff_t filter0 = (panel % p.group_panels) * p.panel_filters
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters)
    cdef ptrdiff_t lanes = round_up(filters, p.table.lanes)
    cdef ptrdiff_t row = p.run * part // r.parts, rows = p.run * (part + 1) // r.parts - row
    cdef const char* source = r.columns + (
        group * p.box[0] * p.box[1] * p.box[2] * p.channel_lanes + p.base[base]) * size
    if p.in_place:
        source = r.x + (group * p.group_channels * p.row_step
                        + r.origin[0] * p.step[0] + r.origin[1] * p.step[1] + r.origin[2] * p.step[2]) * size
    cdef ck_conv_tile tile
    if rows == 0:
        return
    tile.x = source + row * p.row_step * size
    tile.y = r.sums + (((group * p.n_bases + base) * p.group_lanes + filter0) * p.run + row * lanes) * size
    tile.off = r.off
    tile.taps = r.pixels
    tile.x_step = p.row_step
    tile.x_half = 0
    tile.w = tile.ahead = r.panels + (group * p.group_lanes + filter0) * r.pixels * size
    tile.ahead_step = 0
    tile.bias = tile.row_bias = tile.ahead_end = NULL
    tile.finish = NULL
    tile.y_pixel = tile.filters = lanes
    tile.y_filter = 1
    tile.accumulate = not r.first
    if r.skip:
        sum_tiles(r, &tile, base, rows)
    else:
        sum_segments(r, &tile, base, rows, r.own + worker * r.own_bytes)


cdef void sum_in_place(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some rows of one group as they lie, by all panels: a segment of the pixels of those rows stays near while the
    panels pass. Sums of a single block of pixels that are rows of dw go there at once.
    """
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t group = task // r.parts, row = part_row(r, task % r.parts)
    cdef ptrdiff_t rows = part_row(r, task % r.parts + 1) - row, whole = p.group_filters // p.panel_filters
    cdef ptrdiff_t blocks = gradient_blocks(r), block, first, pixels, i, size = p.itemsize
    cdef ptrdiff_t last_lanes = p.group_lanes - whole * p.panel_filters
    cdef char* own = r.own + worker * r.own_bytes
    cdef char* sums = r.sums + (group * p.group_lanes * p.run + row * p.panel_filters) * size
    cdef char* last = r.sums + ((group * p.group_lanes + whole * p.panel_filters) * p.run + row * last_lanes) * size
    cdef bint apart, add
    cdef ck_conv_tile tile
    cdef ck_conv_grid grid
    if rows == 0:
        return
    tile.x = r.x + ((group * p.group_channels + row) * p.row_step
                    + r.origin[0] * p.step[0] + r.origin[1] * p.step[1] + r.origin[2] * p.step[2]) * size
    tile.x_step, tile.x_half = p.row_step, 0
    tile.bias = tile.row_bias = tile.finish = NULL
    tile.y_filter = 1
    grid.rows, grid.x_row, grid.y_row, grid.by_chunk = 1, 0, 0, 0
    for block in range(blocks):
        first, pixels = r.pixels * block // blocks, r.pixels * (block + 1) // blocks - r.pixels * block // blocks
        apart = blocks > 1 and (block > 0 or not r.first)
        add = not (apart or r.first)
        tile.w = r.panels + group * p.group_lanes * r.pixels * size
        tile.filters = tile.y_pixel = p.panel_filters
        grid.panels, grid.w_panel = whole, r.pixels * p.panel_filters
        tile.y, grid.y_panel = sums, p.run * p.panel_filters
        if r.straight:
            tile.y, tile.y_pixel = r.dw + (group * p.group_channels + row) * p.group_filters * size, p.group_filters
            grid.y_panel = p.panel_filters
        elif apart:
            tile.y, grid.y_panel = own, rows * p.panel_filters
        sum_rows_by_panels(r, &tile, &grid, rows, first, pixels, add)
        if last_lanes:
            tile.w = <const char*>tile.w + whole * grid.w_panel * size
            tile.filters = tile.y_pixel = last_lanes
            grid.panels, grid.w_panel, grid.y_panel = 1, r.pixels * last_lanes, 0
            tile.y = own + whole * rows * p.panel_filters * size if apart else last
            sum_rows_by_panels(r, &tile, &grid, rows, first, pixels, add)
        if apart:
            for i in range(whole):
                p.table.add(sums + i * p.run * p.panel_filters * size, own + i * rows * p.panel_filters * size,
                            rows * p.panel_filters, 0)
            p.table.add(last, own + whole * rows * p.panel_filters * size, rows * last_lanes, 0)


cdef inline ptrdiff_t part_row(const gradient_round_t* r, ptrdiff_t part) noexcept nogil:
    """The first row of a part in place: whole tiles lie before it."""
    cdef ptrdiff_t most = r.plan.most_pixels, tiles = (r.plan.run + most - 1) // most
    return min(r.plan.run, tiles * part // r.parts * most)


cdef void sum_rows_by_panels(const gradient_round_t* r, const ck_conv_tile* all, ck_conv_grid* grid, ptrdiff_t rows,
                             ptrdiff_t first, ptrdiff_t pixels, bint add) noexcept nogil:
    """So many rows by the panels of ``grid``, some of the pixels, a segment at a time."""
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, vectors = all.filters // p.table.lanes, most = p.table.most_pixels[vectors - 1]
    cdef ptrdiff_t segments = (pixels + SEGMENT_PIXELS - 1) // SEGMENT_PIXELS, runs = (rows + most - 1) // most
    cdef ptrdiff_t length = rows // runs, longer = rows - length * runs, i, j, begin, at, ahead_row
    cdef ck_conv_tile tile = all[0]
    for i in range(segments if grid.panels else 0):
        begin = first + pixels * i // segments
        tile.off = r.off + begin
        tile.taps = first + pixels * (i + 1) // segments - begin
        tile.accumulate = add or i > 0
        tile.w = <const char*>all.w + begin * all.filters * size
        at = 0
        for j in range(2):  # tiles of both lengths
            grid.runs = longer if j else runs - longer
            if grid.runs:
                tile.x = <const char*>all.x + at * p.row_step * size
                tile.y = <char*>all.y + at * all.y_pixel * size
                if segments > 1:  # each fetches the rows of the next,
                    ahead_row, grid.ahead_panel = p.row_step, 0
                    tile.ahead = <const char*>tile.x + ((length + j) * p.row_step + tile.off[0]) * size
                else:  # or the lines that the next rows' sums will go to
                    ahead_row, grid.ahead_panel = all.y_pixel, grid.y_panel
                    tile.ahead = <const char*>tile.y + rows * all.y_pixel * size
                tile.ahead_step, grid.ahead_run = ahead_row * size, (length + j) * ahead_row
                tile.ahead_end = <const char*>tile.ahead + grid.ahead_run * size
                p.table.run_grid(&tile, <int>(length + j), <int>vectors, grid)
                at += grid.runs * length


cdef inline ptrdiff_t gradient_blocks(const gradient_round_t* r) noexcept nogil:
    """Blocks of pixels whose sums are closed before the next ones, as in a tile."""
    return (r.pixels + CK_CONV_CHUNK * CK_CONV_CHUNKS - 1) // (CK_CONV_CHUNK * CK_CONV_CHUNKS)


cdef void sum_segments(const gradient_round_t* r, ck_conv_tile* tile, ptrdiff_t base, ptrdiff_t rows, char* own
                       ) noexcept nogil:
    """All pixels of the round, a segment at a time, whose part of the panel stays in L1 while all rows meet it.

    Sums of 16 chunks of pixels are closed before the next ones are added to them, as in a tile.
    """
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, lanes = tile.filters, most = p.table.most_pixels[lanes // p.table.lanes - 1]
    cdef ptrdiff_t blocks = 1, segments = 1, block, i, j, first, pixels, begin
    cdef const char* w = <const char*>tile.w
    cdef char* sums = <char*>tile.y
    cdef bint apart
    cdef ck_conv_grid grid
    grid.panels, grid.rows = 1, r.beside
    grid.w_panel = grid.y_panel = grid.ahead_panel = grid.by_chunk = 0
    grid.x_row = p.base[base + 1] - p.base[base] if r.beside > 1 else 0
    if p.table.grids and lanes > p.table.lanes:
        blocks = gradient_blocks(r)
        segments = (r.pixels + blocks * SEGMENT_PIXELS - 1) // (blocks * SEGMENT_PIXELS)
    for block in range(blocks):
        first, pixels = r.pixels * block // blocks, r.pixels * (block + 1) // blocks - r.pixels * block // blocks
        apart = blocks > 1 and (block > 0 or not r.first)
        tile.y = own if apart else sums
        grid.y_row = rows * lanes if apart else p.group_lanes * p.run
        for i in range(segments):
            begin = first + pixels * i // segments
            tile.off = r.off + begin
            tile.w = w + begin * lanes * size
            tile.taps = first + pixels * (i + 1) // segments - begin
            tile.ahead = <const char*>tile.w + (tile.taps * lanes * size if segments > 1 else 0)
            tile.accumulate = i > 0 or not (apart or r.first)
            if p.in_place:
                sum_tiles(r, tile, base, rows)
            else:
                run_rows(p.table, size, tile, &grid, rows, (rows + most - 1) // most, 1)
        for j in range(r.beside if apart else 0):
            p.table.add(sums + j * p.group_lanes * p.run * size, own + j * grid.y_row * size, grid.y_row, 0)


cdef void sum_tiles(const gradient_round_t* r, const ck_conv_tile* run, ptrdiff_t base, ptrdiff_t rows) noexcept nogil:
    """The tiles of a run, without the pixels that it takes to the padding; or of x as it lies: each fetches the rows of
    the next, a line of each and then the next ones.
    """
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t vectors = run.filters // p.table.lanes, most = p.table.most_pixels[vectors - 1]
    cdef ptrdiff_t tiles = (rows + most - 1) // most, i, first, m, row = p.row_step * p.itemsize
    cdef ck_conv_tile tile
    for i in range(tiles):
        first = rows * i // tiles
        m = rows * (i + 1) // tiles - first
        if i == 0 or r.skip:  # which changes it
            tile = run[0]
        tile.x = <const char*>run.x + first * row
        tile.y = <char*>run.y + first * run.filters * p.itemsize
        if r.skip:
            sum_pixels_inside(r, &tile, p.inside + 6 * base, <int>m, <int>vectors)
        else:
            tile.ahead_step = row
            tile.ahead = <const char*>tile.x + m * row + tile.off[0] * p.itemsize
            tile.ahead_end = <const char*>tile.ahead + m * row
            p.table.run(&tile, <int>m, <int>vectors)


cdef void sum_pixels_inside(const gradient_round_t* r, ck_conv_tile* tile, const ptrdiff_t* inside, int rows,
                            int vectors) noexcept nogil:
    """The tile over the pixels whose kernel position lies in the source: runs of them, all images in turns."""
    cdef ptrdiff_t first[3]
    cdef ptrdiff_t count[3]
    cdef ptrdiff_t i, z, y, at
    cdef const ptrdiff_t* off = tile.off
    cdef const char* w = <const char*>tile.w
    for i in range(3):
        first[i] = max(inside[2 * i] - r.origin[i], 0)
        count[i] = min(inside[2 * i + 1] - r.origin[i], r.count[i]) - first[i]
    if count[0] <= 0 or count[1] <= 0 or count[2] <= 0:
        if not tile.accumulate:
            memset(tile.y, 0, rows * tile.y_pixel * r.plan.itemsize)
        return
    tile.taps = count[2] * r.images
    if count[2] == r.count[2]:  # whole lines follow each other
        tile.taps *= count[1]
        if count[1] == r.count[1]:
            tile.taps *= count[0]
            count[0] = 1
        count[1] = 1
    for z in range(first[0], first[0] + count[0]):
        for y in range(first[1], first[1] + count[1]):
            at = ((z * r.count[1] + y) * r.count[2] + first[2]) * r.images
            tile.off = off + at
            tile.w = tile.ahead = w + at * tile.filters * r.plan.itemsize
            r.plan.table.run(tile, rows, vectors)
            tile.accumulate = 1


cdef void sum_whole_panel(void* job, ptrdiff_t panel, int worker) noexcept nogil:
    """All the sums of a panel, and the weights that they are while they are in this core's cache."""
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef ptrdiff_t base
    for base in range(r.plan.n_bases // r.beside):
        sum_run(job, panel * (r.plan.n_bases // r.beside) + base, worker)
    unpack_panel(job, panel, worker)


cdef void unpack_panel(void* job, ptrdiff_t panel, int worker) noexcept nogil:
    """The sums of a panel, [base][column, channel][filter], into the weight array's [filter][channel][position].

    The rows of a few channels are put in the order of the weights first, then filters and weights change places:
    written where it belongs, each number would meet a cache line of its own.
    """
    cdef const gradient_round_t* r = <const gradient_round_t*>job
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t group = panel // p.group_panels, filter0 = panel % p.group_panels * p.panel_filters
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters), size = p.itemsize
    cdef ptrdiff_t bytes = round_up(filters, p.table.lanes) * size, first = 0, count, base, column, c
    cdef char* block = r.own + worker * r.own_bytes
    cdef const char* rows
    if r.straight and filters == p.panel_filters:
        return
    if p.turned:
        rows = r.sums + (group * p.group_lanes + filter0) * p.run * size
        for c in range(p.group_channels):
            copy_row(r.dw + ((group * p.group_channels + c) * p.group_filters + filter0) * size, rows + c * bytes,
                     filters * size)
        return
    while first < p.group_channels:
        count = min(<ptrdiff_t>UNPACKED, p.group_channels - first)
        for base in range(p.n_bases):
            rows = r.sums + ((group * p.n_bases + base) * p.group_lanes + filter0) * p.run * size + first * bytes
            for column in range(r.columns_of_run):
                for c in range(count):
                    copy_row(block + (c * r.positions + r.taps[base * r.columns_of_run + column]) * bytes,
                             rows + (column * p.channel_lanes + c) * bytes, bytes)
        p.table.transpose(
            block, bytes // size,
            r.dw + ((group * p.group_filters + filter0) * p.group_channels + first) * r.positions * size,
            p.group_channels * r.positions, count * r.positions, filters)
        first += count


cdef inline void copy_row(char* to, const char* source, ptrdiff_t bytes) noexcept nogil:
    """One or a few vectors, without a call, and numbers behind them."""
    cdef ptrdiff_t i, whole = bytes // 16 * 16
    for i in range(0, whole, 16):
        memcpy(to + i, source + i, 16)
    for i in range(whole, bytes, 4):
        memcpy(to + i, source + i, 4)


cdef class WeightGradient:
    """A planned weight gradient: k of the tile runs over output pixels, m over (kernel column, channel) pairs.

    Both operands are transposed once per box, x to ``[pixel][channel]`` and dy to ``[pixel][filter]``; ``bases`` are
    the offsets of the runs in the transposed box and ``taps[b]`` the kernel position of each column of run b. With
    ``in_place``, for a kernel of one position that meets no padding, x is read as it lies; ``turned``, x and dy have
    changed places, and ``channels`` are those of dy: sums are rows of dw then.
    The sums of all images and boxes are added up in their order.
    """

    cdef gradient_t plan
    cdef object _keep
    cdef object _taps
    cdef ptrdiff_t columns, positions
    cdef readonly bint in_place, turned
    cdef readonly ptrdiff_t vectors, most_pixels, lanes, images

    def __init__(self, dtype, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, lo,
                 stride, block, box, ptrdiff_t channel_lanes, ptrdiff_t images, ptrdiff_t vectors, ptrdiff_t macs,
                 bases, taps, inside=None, bint in_place=False, bint turned=False):
        cdef gradient_t* p = &self.plan
        cdef ptrdiff_t i
        p.itemsize = dtype.itemsize
        p.table = tiles_of(isa, p.itemsize)
        p.vectors = vectors
        p.panel_filters = vectors * p.table.lanes
        p.most_pixels = p.table.most_pixels[vectors - 1]
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        p.channel_lanes = channel_lanes
        p.group_panels = (p.group_filters + p.panel_filters - 1) // p.panel_filters
        p.group_lanes = round_up(p.group_filters, p.table.lanes)
        for i in range(3):
            p.source[i], p.target[i], p.lo[i] = source[i], target[i], lo[i]
            p.stride[i], p.block[i], p.box[i] = stride[i], block[i], box[i]
        p.in_place = self.in_place = in_place
        p.turned = self.turned = turned
        p.row_step = 1
        p.image_pitch = groups * p.box[0] * p.box[1] * p.box[2] * channel_lanes
        if in_place:
            p.row_step = p.source[0] * p.source[1] * p.source[2]
            p.image_pitch = channels * p.row_step
        p.step[2] = p.stride[2] * (1 if in_place else channel_lanes)
        p.step[1] = p.stride[1] * (p.source[2] if in_place else p.box[2] * channel_lanes)
        p.step[0] = p.stride[0] * (p.source[1] * p.source[2] if in_place else p.box[1] * p.box[2] * channel_lanes)
        p.images = images
        p.macs = macs
        base = np.ascontiguousarray(bases, np.intp)
        self._taps = np.ascontiguousarray(taps, np.intp)
        p.base = <const ptrdiff_t*>reading(base, base.nbytes)
        p.n_bases = base.size
        apart = np.diff(base)
        p.beside = 1 + int(np.argmin(np.append(apart == apart[:1], False)))
        reached = None if inside is None else np.ascontiguousarray(inside, np.intp)
        p.inside = NULL
        if reached is not None:
            p.inside = <const ptrdiff_t*>reading(reached, reached.nbytes)
        self._keep = base, reached
        self.columns = self._taps.shape[1]
        self.positions = self._taps.size
        p.run = (self.columns - 1) * channel_lanes + p.group_channels
        p.near_rows = 0
        if in_place and p.table.grids and vectors == CK_CONV_STEPPED:
            p.near_rows = p.most_pixels * max(<ptrdiff_t>1, min(
                NEAR_SUMS // (p.group_lanes * p.itemsize * p.most_pixels),
                NEAR_ROWS // (SEGMENT_PIXELS * p.itemsize * p.most_pixels)))
        self.vectors, self.most_pixels, self.lanes, self.images = vectors, p.most_pixels, p.table.lanes, images

    cdef ptrdiff_t _pixels(self, ptrdiff_t images):
        return images * self.plan.block[0] * self.plan.block[1] * self.plan.block[2]

    cdef ptrdiff_t _sums(self):
        return self.plan.groups * self.plan.n_bases * self.plan.group_lanes * self.plan.run

    cdef ptrdiff_t _scratch_bytes(self, ptrdiff_t images, int threads):
        cdef gradient_t* p = &self.plan
        return self._pixels(images) * <ptrdiff_t>sizeof(ptrdiff_t) + p.itemsize * (
            self._copied(images) + self._pixels(images) * p.groups * p.group_lanes + self._sums()
            ) + threads * self._own_bytes() + 4 * 64

    cdef ptrdiff_t _copied(self, ptrdiff_t images):
        return 0 if self.plan.in_place else images * self.plan.image_pitch

    cdef ptrdiff_t _own_bytes(self):
        cdef ptrdiff_t rows = self.plan.beside * self.plan.run if self.plan.table.grids else 0
        if self.plan.near_rows:
            rows = self.plan.near_rows * ((self.plan.group_lanes - 1) // self.plan.panel_filters + 1)
        return round_up(max(UNPACKED * self.positions, rows) * self.plan.panel_filters * self.plan.itemsize, 64)

    @property
    def workspace_bytes(self):
        """Scratch of one call with enough images to fill a round."""
        return self._scratch_bytes(self.plan.images, 1)

    def run(self, dy not None, x not None, dw not None, ptrdiff_t n, int threads, bint skip=False):
        """Fill dw from ``n`` images of dy and x, all C-contiguous; ``skip`` leaves out what meets only padding."""
        cdef gradient_t* p = &self.plan
        cdef gradient_round_t r
        cdef ptrdiff_t images = min(n, p.images), first = 0
        cdef ptrdiff_t x_bytes = p.channels * p.source[0] * p.source[1] * p.source[2] * p.itemsize
        cdef ptrdiff_t dy_bytes = p.filters * p.target[0] * p.target[1] * p.target[2] * p.itemsize
        cdef const char* xs = <const char*>reading(x, n * x_bytes)
        cdef const char* dys = <const char*>reading(dy, n * dy_bytes)
        if p.macs * n < MIN_MACS:
            threads = 1
        cdef char* memory = <char*>scratch(self._scratch_bytes(images, threads))
        r.plan = p
        r.dw = <char*>writing(dw, p.filters * p.group_channels * self.positions * p.itemsize)
        r.taps = <const ptrdiff_t*>reading(self._taps, self._taps.nbytes)
        r.columns_of_run, r.positions, r.own_bytes = self.columns, self.positions, self._own_bytes()
        r.skip = skip
        r.sums = memory
        r.panels = r.sums + round_up(self._sums() * p.itemsize, 64)
        r.columns = r.panels + round_up(self._pixels(images) * p.groups * p.group_lanes * p.itemsize, 64)
        r.own = r.columns + round_up(self._copied(images) * p.itemsize, 64)
        r.off = <ptrdiff_t*>(r.own + threads * r.own_bytes)
        r.first = True
        r.straight = p.near_rows and p.turned and self._pixels(images) <= CK_CONV_CHUNK * CK_CONV_CHUNKS
        with nogil:
            while first < n:
                r.images = min(images, n - first)
                r.x = xs + first * x_bytes
                r.dy = dys + first * dy_bytes
                first += r.images
                r.last = first == n
                gradient_boxes(&r, threads)
            scratch_done()


cdef int gradient_boxes(gradient_round_t* r, int threads) except -1 nogil:
    """Every box of the round's images: transpose both operands, then add its sums."""
    cdef const gradient_t* p = r.plan
    cdef ptrdiff_t z = 0, y, x, panels = p.groups * p.group_panels, tasks
    cdef bint last
    r.beside = p.beside if threads == 1 and not r.skip else 1
    tasks = p.n_bases // r.beside * panels
    r.parts = 1 if threads == 1 else max(1, (4 * threads + tasks - 1) // tasks)
    if p.near_rows:
        r.parts = (p.run + p.near_rows - 1) // p.near_rows
        if threads > 1:
            r.parts = max(r.parts, (4 * threads + p.groups - 1) // p.groups)
    while z < p.target[0]:
        y = 0
        while y < p.target[1]:
            x = 0
            while x < p.target[2]:
                r.origin[0], r.origin[1], r.origin[2] = z, y, x
                r.count[0] = min(p.block[0], p.target[0] - z)
                r.count[1] = min(p.block[1], p.target[1] - y)
                r.count[2] = min(p.block[2], p.target[2] - x)
                r.image_step, r.pixel_step = r.count[0] * r.count[1] * r.count[2], 1
                r.pixels = r.images * r.image_step
                r.lines = 1
                if r.skip:
                    r.image_step, r.pixel_step = 1, r.images
                elif r.count[2] == p.target[2]:  # they follow each other
                    r.lines = max(<ptrdiff_t>1, min(r.count[1], LONG_ROW * 8 // r.count[2]))
                if not p.in_place:
                    parallel_for(transpose_x, r, r.images * p.groups * p.box[0] * p.box[1], threads)
                parallel_for(transpose_dy, r, panels * r.images * r.count[0] * ((r.count[1] + r.lines - 1) // r.lines),
                             threads)
                x += p.block[2]
                last = r.last and x >= p.target[2] and y + p.block[1] >= p.target[1] and z + p.block[0] >= p.target[0]
                if p.near_rows:
                    parallel_for(sum_in_place, r, p.groups * r.parts, threads)
                    if last:
                        parallel_for(unpack_panel, r, panels, threads)
                elif last and r.parts == 1 and (threads == 1 or panels >= 2 * threads):
                    parallel_for(sum_whole_panel, r, panels, threads)
                else:
                    parallel_for(sum_run, r, tasks * r.parts, threads)
                    if last:
                        parallel_for(unpack_panel, r, panels, threads)
                r.first = False
            y += p.block[1]
        z += p.block[0]
    return 0
