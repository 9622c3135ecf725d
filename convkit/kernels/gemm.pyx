"""Convolution as a matrix product that is never written out, pixels in the lanes: the loops over panels and filters.

    y[f][p] = bias[f] + sum over k of w[f][k] * x at (tap k of pixel p)

A panel is some neighbouring output pixels of all images: for every tap (channel, kernel position) the inputs that they
meet, side by side, zeros where a tap lies in the padding. One task fills a few panels and multiplies them with every
block of filters; the tile of csrc/conv has the filters where a direct convolution has its pixels, and the pixels in its
lanes, so that its sums go straight into the rows of y. A pixel's sum does not depend on the panel it lies in.

Transposed layers and input gradients with a stride have phases: targets of one residue modulo the stride, which share
their taps. The phases that lie beside each other in a row of y read neighbouring inputs, so one panel holds the taps of
them all, those of each phase behind each other; their sums are woven into whole lines of y. Few filters do not fill a
tile: there phases that have the same taps are stacked, rows of one tile as filters are.

Of a plane that is little but padding every target may be a share of its own, whose taps are those that meet the source:
by place. Its panels are as many images, and the weights are read as they lie.
"""

from convkit.kernels.conv cimport tiles_of
from convkit.kernels.elementwise cimport Finish, finish_early, finish_from, finish_late, finish_t, set_finish
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport real, round_up
from convkit.kernels.tiles cimport ck_conv_fill, ck_conv_grid, ck_conv_piece, ck_conv_table, ck_conv_tile

import numpy as np

from convkit.kernels.operands import aligned_empty

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.
cdef ptrdiff_t MIN_MACS = 1_000_000
# Phases whose sums wait for each other: those of a block of filters and some panels stay in L1 or near it.
cdef ptrdiff_t MOST_AT_ONCE = 8


cdef struct phase_t:             # targets that share their taps
    ptrdiff_t start[3]           # the first of them
    ptrdiff_t columns            # how many in a row
    ptrdiff_t first, taps        # their taps in a panel
    ptrdiff_t weights            # first element of their packed weights
    const ptrdiff_t* off         # of their taps, where the weights are read as they lie


cdef struct share_t:             # phases that read the same panels
    ptrdiff_t count[3]           # places: a place is one target of each phase
    ptrdiff_t places, taps
    ptrdiff_t positions, channel_taps
    const ptrdiff_t* shift       # of each position, along each axis
    const ptrdiff_t* tap         # of each position, for the first channel
    ptrdiff_t rows, at_once      # how many of them are summed in one go
    bint same_taps               # of all phases
    const phase_t* phase         # [rows][beside]


cdef struct gemm_t:
    int itemsize
    const ck_conv_table* table
    ptrdiff_t width              # places of a panel
    ptrdiff_t blocks             # of filters, in each group
    ptrdiff_t groups, channels, group_channels, filters, group_filters
    ptrdiff_t source[3]
    ptrdiff_t target[3]
    ptrdiff_t step[3]            # source elements between neighbouring places
    ptrdiff_t target_step[3]     # target elements between them
    ptrdiff_t source_plane, target_plane
    ptrdiff_t beside             # phases of a row
    ptrdiff_t most_sums          # of a place that are summed in one go
    bint plain                   # a single phase: places are targets
    ptrdiff_t stacked            # phases whose filters are rows of the same tiles, or 1
    ptrdiff_t rows, row_blocks   # of them, in each group, and the tiles that share these
    bint by_place                # every share is one place, and the weights are read as they lie
    ptrdiff_t w_group, w_filter, w_channel  # elements of the weight array between neighbours of each kind
    const ptrdiff_t* off         # of the taps in a block of the fewest filters, then in one of one filter more
    ptrdiff_t most_taps
    ptrdiff_t panels             # of one task
    ptrdiff_t most_pieces        # of one panel
    ptrdiff_t macs
    const share_t* share
    ptrdiff_t shares


cdef struct round_t:
    const gemm_t* plan
    const share_t* share
    const char* x
    const char* w
    const char* bias             # one per filter, or NULL
    char* y
    char* own                    # of each worker: panels, pieces and sums
    ptrdiff_t own_bytes
    ptrdiff_t places             # of all images
    ptrdiff_t batches            # tasks that cover them
    ptrdiff_t parts              # tasks that share the filters
    finish_t then                # on what a task has written


cdef inline ptrdiff_t first_filter(const gemm_t* p, ptrdiff_t block) noexcept nogil:
    return p.group_filters * block // p.blocks


cdef ptrdiff_t add_pieces(const gemm_t* p, const share_t* s, ptrdiff_t place, ptrdiff_t n, ptrdiff_t to,
                          ptrdiff_t width, ck_conv_piece* piece) noexcept nogil:
    """The pieces of ``n`` places in one row, at every position; returns how many."""
    cdef ptrdiff_t at = place % s.places, count = 0, k, z, y, x, before, inside, here
    cdef ptrdiff_t image = place // s.places * p.channels * p.source_plane
    cdef ptrdiff_t column = at % s.count[2] * p.step[2]
    cdef ptrdiff_t line = at // s.count[2] % s.count[1] * p.step[1]
    cdef ptrdiff_t slice = at // s.count[2] // s.count[1] * p.step[0]
    cdef bint there
    for k in range(s.positions):
        z, y, x = slice + s.shift[3 * k], line + s.shift[3 * k + 1], column + s.shift[3 * k + 2]
        there = 0 <= z < p.source[0] and 0 <= y < p.source[1]
        # places whose column lies before the source, and inside
        before = min(n, (max(<ptrdiff_t>0, -x) + p.step[2] - 1) // p.step[2]) if there else n
        inside = min(n - before, max(<ptrdiff_t>0, (p.source[2] - x + p.step[2] - 1) // p.step[2] - before))
        here = to + s.tap[k] * width
        if before > 0:
            piece[count].to, piece[count].source, piece[count].n = here, -1, before
            count += 1
        if inside > 0:
            piece[count].to = here + before
            piece[count].source = image + (z * p.source[1] + y) * p.source[2] + x + before * p.step[2]
            piece[count].n = inside
            count += 1
        if before + inside < n:
            piece[count].to, piece[count].source, piece[count].n = here + before + inside, -1, n - before - inside
            count += 1
    return count


cdef void fill_panels(const round_t* r, ptrdiff_t group, ptrdiff_t first, ptrdiff_t last, ptrdiff_t width, char* panels,
                      ck_conv_piece* piece) noexcept nogil:
    """Places ``first`` to ``last`` into panels of ``width``."""
    cdef const gemm_t* p = r.plan
    cdef const share_t* s = r.share
    cdef ptrdiff_t place = first, n, lane, to
    cdef ck_conv_fill job
    job.pieces = 0
    while place < last:
        lane = (place - first) % width
        to = (place - first) // width * s.taps * width + lane
        n = min(s.count[2] - place % s.count[2], min(width - lane, last - place))
        job.pieces += add_pieces(p, s, place, n, to, width, piece + job.pieces)
        place += n
    job.x = r.x + group * p.group_channels * p.source_plane * p.itemsize
    job.plane = p.source_plane
    job.step = p.step[2]
    job.panels = panels
    job.channel_step = s.channel_taps * width
    job.channels = p.group_channels
    job.piece = piece
    p.table.fill(&job)


cdef void sum_panels(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some panels of one group, a part of its filters."""
    cdef const round_t* r = <const round_t*>job
    cdef const gemm_t* p = r.plan
    cdef const share_t* s = r.share
    cdef ptrdiff_t part = task % r.parts, group = task // r.parts % p.groups, batch = task // r.parts // p.groups
    cdef ptrdiff_t all_panels = (r.places + p.width - 1) // p.width
    cdef ptrdiff_t first = all_panels * batch // r.batches * p.width
    cdef ptrdiff_t last = min(all_panels * (batch + 1) // r.batches * p.width, r.places)
    cdef ptrdiff_t size = p.itemsize, row, block, filter, filters, place, width, along
    cdef char* panels = r.own + worker * r.own_bytes
    cdef char* sums = panels + p.panels * p.most_taps * p.width * size
    cdef ck_conv_piece* piece = <ck_conv_piece*>(sums + p.most_sums * p.panels * p.width * size)
    # The last panel is only as wide as it must be; but one vector takes as long as two and shares with the one before.
    cdef ptrdiff_t lanes = p.table.lanes, rest = (last - first) % p.width, narrow = round_up(rest, lanes)
    if narrow == lanes and p.width == 3 * lanes and last - first > p.width:
        rest, narrow = rest + p.width, 2 * lanes
    cdef ptrdiff_t whole = last - rest
    cdef ck_conv_tile tile
    if whole > first:
        fill_panels(r, group, first, whole, p.width, panels, piece)
    if last > whole:
        fill_panels(r, group, whole, last, narrow, panels + (whole - first) * s.taps * size, piece)
    tile.x_step = p.w_filter if p.by_place else 1
    tile.x_half = 0
    tile.bias = NULL
    tile.y_filter = 1
    tile.accumulate = 0
    tile.row_bias = NULL
    tile.finish = NULL
    for row in range(s.rows // s.at_once):
        for block in range(p.blocks * part // r.parts, p.blocks * (part + 1) // r.parts):
            filter = first_filter(p, block)
            filters = first_filter(p, block + 1) - filter
            tile.off = p.off + (p.most_taps if filters > p.group_filters // p.blocks else 0)
            if p.by_place:
                tile.x = r.w + (group * p.w_group + filter * p.w_filter) * size
            filter += group * p.group_filters
            if r.bias != NULL:
                tile.row_bias = r.bias + filter * p.stacked * size
            place = first
            while place < last:
                width = p.width if place < whole else narrow
                if p.by_place:
                    sum_images(r, &tile, panels + (place - first) * s.taps * size, filter, filters, place, width,
                               min(width, last - place))
                    place += width
                    continue
                along = panels_along(r, place, whole)
                if p.stacked > 1:
                    sum_stacked(r, tile, panels + (place - first) * s.taps * size, filter, filters, place, width,
                                min(width, last - place), along, sums)
                else:
                    sum_panel(r, &tile, s.phase + row * s.at_once * p.beside, panels + (place - first) * s.taps * size,
                              filter, filters, place, width, min(width, last - place), along, sums)
                place += max(<ptrdiff_t>1, along) * width
            if r.then.steps > r.then.late:
                finish_places(r, filter, filters, first, last)


cdef inline ptrdiff_t panels_along(const round_t* r, ptrdiff_t place, ptrdiff_t whole) noexcept nogil:
    """How many whole panels from ``place`` on are summed in one go: of targets, those side by side in one image."""
    cdef const gemm_t* p = r.plan
    if p.plain:
        whole = min(whole, (place // p.target_plane + 1) * p.target_plane)
    return (whole - place) // p.width


cdef void finish_places(const round_t* r, ptrdiff_t filter, ptrdiff_t filters, ptrdiff_t first, ptrdiff_t last
                        ) noexcept nogil:
    """What no tile can do to places that are targets, of one image after the other."""
    cdef const gemm_t* p = r.plan
    cdef ptrdiff_t m, n, image
    while first < last:
        image = first // p.target_plane
        n = min(last, (image + 1) * p.target_plane) - first
        for m in range(filters):
            finish_late(&r.then, (image * p.filters + filter + m) * p.target_plane + first - image * p.target_plane, n)
        first += n


cdef void sum_images(const round_t* r, ck_conv_tile* tile, const char* panel, ptrdiff_t filter, ptrdiff_t filters,
                     ptrdiff_t image, ptrdiff_t width, ptrdiff_t n) noexcept nogil:
    """The tile of one place of ``n`` images, straight into y."""
    cdef const gemm_t* p = r.plan
    cdef const phase_t* f = r.share.phase
    tile.off, tile.taps = f.off, f.taps
    tile.w = panel
    # The weights of the next filters, a line of each channel and then the next one of each.
    tile.ahead = <const char*>tile.x + filters * p.w_filter * p.itemsize
    tile.ahead_step = p.w_channel * p.itemsize
    tile.ahead_end = <const char*>tile.ahead + p.group_channels * tile.ahead_step
    if p.w_channel < p.w_filter:
        tile.ahead_step = filters * p.w_filter * p.itemsize // f.taps
        tile.ahead_end = NULL
    tile.y_pixel, tile.y_filter = p.target_plane, p.filters * p.target_plane
    tile.filters = n
    tile.y = r.y + ((image * p.filters + filter) * p.target_plane
                    + (f.start[0] * p.target[1] + f.start[1]) * p.target[2] + f.start[2]) * p.itemsize
    p.table.run(tile, <int>filters, <int>(width // p.table.lanes))


cdef void sum_panel(const round_t* r, ck_conv_tile* tile, const phase_t* phase, const char* panel, ptrdiff_t filter,
                    ptrdiff_t filters, ptrdiff_t place, ptrdiff_t width, ptrdiff_t n, ptrdiff_t along, char* sums
                    ) noexcept nogil:
    """One tile of each phase: into y where its targets are neighbours in one image, else by way of ``sums``; or a tile
    of each of some panels ``along`` the places, in one go, and of all phases that have the same taps.
    """
    cdef const gemm_t* p = r.plan
    cdef const share_t* s = r.share
    cdef ptrdiff_t size = p.itemsize, i, phases = p.beside * s.at_once
    cdef ptrdiff_t row = max(<ptrdiff_t>1, along) * width  # of sums, of one filter
    cdef int vectors = <int>(width // p.table.lanes)
    cdef bint straight = p.plain and (along > 0 or place % p.target_plane + n <= p.target_plane)
    cdef ck_conv_grid grid
    grid.panels, grid.rows, grid.runs = along, 1, 1
    grid.y_panel = grid.ahead_panel = width
    grid.x_row = p.filters * phase.taps
    grid.y_row = filters * row
    grid.by_chunk = not straight
    if along > 0 and s.same_taps:
        grid.rows, phases = phases, 1
    tile.finish = finish_early(&r.then) if straight else NULL
    for i in range(phases):
        tile.taps = phase[i].taps
        tile.x = r.w + (phase[i].weights + filter * phase[i].taps) * size
        tile.w = tile.ahead = panel + phase[i].first * width * size
        tile.ahead_step = 0
        tile.ahead_end = NULL
        if straight:
            tile.y = r.y + ((place // p.target_plane * p.filters + filter) * p.target_plane
                            + place % p.target_plane) * size
            tile.y_pixel, tile.filters = p.target_plane, n
            # The lines that the next panel's tile will write.
            tile.ahead = <const char*>tile.y + n * size
            tile.ahead_step = p.target_plane * size
            tile.ahead_end = <const char*>tile.ahead + filters * tile.ahead_step
        else:
            tile.y = sums + i * filters * row * size
            tile.y_pixel, tile.filters = row, width
        if along > 0:
            grid.w_panel = s.taps * width
            p.table.run_grid(tile, <int>filters, vectors, &grid)
        else:
            p.table.run(tile, <int>filters, vectors)
    if not straight:
        for i in range(s.at_once):
            store_rows(r, phase + i * p.beside, filter, filters, place, row, n if along == 0 else row,
                       sums + i * p.beside * filters * row * size)


cdef void sum_stacked(const round_t* r, ck_conv_tile tile, const char* panel, ptrdiff_t filter, ptrdiff_t filters,
                      ptrdiff_t place, ptrdiff_t width, ptrdiff_t n, ptrdiff_t along, char* sums) noexcept nogil:
    """The same for phases that are stacked, all of them in a few tiles."""
    cdef const gemm_t* p = r.plan
    cdef const phase_t* phase = r.share.phase
    cdef const char* row_bias = <const char*>tile.row_bias
    cdef ptrdiff_t size = p.itemsize, row = max(<ptrdiff_t>1, along) * width, i, at, rows
    cdef int vectors = <int>(width // p.table.lanes)
    cdef ck_conv_grid grid
    grid.panels, grid.rows, grid.runs = along, 1, 1
    grid.y_panel = grid.ahead_panel = width
    grid.x_row = grid.y_row = 0
    grid.by_chunk = 1
    grid.w_panel = r.share.taps * width
    tile.finish = NULL
    tile.taps = phase.taps
    tile.w = tile.ahead = panel + phase.first * width * size
    tile.ahead_step = 0
    tile.ahead_end = NULL
    tile.y_pixel, tile.filters = row, width
    for i in range(p.row_blocks):
        at = p.rows * i // p.row_blocks
        rows = p.rows * (i + 1) // p.row_blocks - at
        tile.off = p.off + (p.most_taps if rows > p.rows // p.row_blocks else 0)
        tile.x = r.w + (filter * p.stacked + at) * phase.taps * size
        tile.y = sums + at * row * size
        if row_bias != NULL:
            tile.row_bias = row_bias + at * size
        if along > 0:
            p.table.run_grid(&tile, <int>rows, vectors, &grid)
        else:
            p.table.run(&tile, <int>rows, vectors)
    for i in range(r.share.at_once):
        store_rows(r, phase + i * p.beside, filter, filters, place, row, n if along == 0 else row,
                   sums + i * p.beside * filters * row * size)


cdef void store_rows(const round_t* r, const phase_t* phase, ptrdiff_t filter, ptrdiff_t filters, ptrdiff_t place,
                     ptrdiff_t width, ptrdiff_t n, const char* sums) noexcept nogil:
    """The sums of ``n`` places, ``[phase][filter][width]``, a run of neighbours in y at a time."""
    cdef const gemm_t* p = r.plan
    cdef const share_t* s = r.share
    cdef ptrdiff_t size = p.itemsize, done = 0, at, run, column, line, slice, i, count
    cdef char* y
    # A run is the rest of a row; where places are targets, the rest of the image.
    cdef ptrdiff_t row = s.places if p.plain else s.count[2]
    while done < n:
        at = (place + done) % s.places
        run = min(row - at % row, n - done)
        column = at % s.count[2]
        line = at // s.count[2] % s.count[1] * p.target_step[1] + phase.start[1]
        slice = at // s.count[2] // s.count[1] * p.target_step[0] + phase.start[0]
        y = r.y + (((place + done) // s.places * p.filters + filter) * p.target_plane
                   + (slice * p.target[1] + line) * p.target[2] + column * p.target_step[2]) * size
        if p.beside == 2 and p.target_step[2] == 2:
            count = min(run, phase[0].columns - column) + min(run, phase[1].columns - column)
            p.table.weave(sums + done * size, filters * width, width, y, p.target_plane, filters, count)
        else:
            for i in range(p.beside):
                p.table.spread(sums + (i * filters * width + done) * size, width, y + phase[i].start[2] * size,
                               p.target_plane, p.target_step[2], filters,
                               run if p.plain else min(run, phase[i].columns - column))
            for i in range(filters if r.then.late > 0 else 0):
                finish_from(&r.then, 0, r.then.late, (y - r.y) // size + i * p.target_plane, run)
        done += run


cdef class Gemm:
    """A planned convolution: forward, or an input gradient.

    ``source`` and ``target`` sizes, ``step`` and ``target_step`` per axis. ``shares`` are ``(count, positions, channel
    taps, phases)``: places per axis; for every position of a panel the (z, y, x) from a place's source to its own and
    its tap for the first channel; how many taps follow each other in a channel; and rows of phases, each ``(start,
    columns, first tap, kernel positions in the order of its taps)``. ``w_strides`` are the strides of the weight array,
    in elements, from group to group, filter to filter and channel to channel. A panel has ``vectors`` vectors, a task
    takes at most ``panels`` of them; phases of few filters are stacked to at most ``most_stacked`` rows. ``by_place``
    says that every share is one place.
    """

    cdef gemm_t plan
    cdef object _keep, _dtype, _phases
    cdef ptrdiff_t w_strides[3]
    cdef readonly ptrdiff_t packed_size, vectors, panels
    cdef readonly bint plain

    def __init__(self, dtype, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, step,
                 target_step, shares, ptrdiff_t vectors, ptrdiff_t panels, ptrdiff_t most_stacked, ptrdiff_t macs,
                 w_strides, bint by_place):
        cdef gemm_t* p = &self.plan
        cdef ptrdiff_t i, most
        p.itemsize = dtype.itemsize
        p.table = tiles_of(isa, p.itemsize)
        p.width = vectors * p.table.lanes
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        most = p.table.most_pixels[vectors - 1]
        p.blocks = (p.group_filters + most - 1) // most
        p.source_plane = p.target_plane = 1
        for i in range(3):
            p.source[i], p.target[i], p.step[i], p.target_step[i] = source[i], target[i], step[i], target_step[i]
            p.source_plane *= p.source[i]
            p.target_plane *= p.target[i]
            self.w_strides[i] = w_strides[i]
        p.by_place = by_place
        p.w_group, p.w_filter, p.w_channel = w_strides
        self._dtype = dtype
        self._keep, self._phases = [], []
        p.stacked = stacked_phases(p.group_filters, most, most_stacked, shares)
        p.rows = p.stacked * p.group_filters
        p.row_blocks = (p.rows + most - 1) // most
        self._fill_shares(shares, most)
        fewest = p.rows // p.row_blocks
        offsets = np.concatenate([np.arange(p.most_taps, dtype=np.intp) * m for m in (fewest, fewest + 1)])
        p.off = <const ptrdiff_t*>reading(offsets, offsets.nbytes)
        self._keep.append(offsets)
        p.panels = panels
        p.macs = macs
        self.vectors, self.panels = vectors, panels

    cdef _fill_shares(self, shares, ptrdiff_t block_filters):
        cdef gemm_t* p = &self.plan
        cdef share_t* s
        cdef ptrdiff_t i, j
        p.share, p.shares = <share_t*>self._kept(np.zeros(len(shares) * sizeof(share_t), np.uint8)), len(shares)
        p.most_taps = p.most_pieces = p.most_sums = 0
        for i, (count, positions, channel_taps, rows) in enumerate(shares):
            s = <share_t*>p.share + i
            s.places = 1
            for j in range(3):
                s.count[j] = count[j]
                s.places *= s.count[j]
            s.shift = <const ptrdiff_t*>self._kept(np.array([at for at, _ in positions], np.intp).reshape(-1))
            s.tap = <const ptrdiff_t*>self._kept(np.array([first for _, first in positions], np.intp))
            s.positions, s.channel_taps, s.rows = len(positions), channel_taps, len(rows)
            s.taps = s.positions * p.group_channels
            p.most_taps = max(p.most_taps, s.taps)
            # a panel meets this many rows, each with zeros before and after at every position
            p.most_pieces = max(p.most_pieces, 3 * s.positions * min(p.width, (p.width - 1) // s.count[2] + 2))
            s.phase = self._fill_phases([phase for row in rows for phase in row], channel_taps)
            p.beside = len(rows[0])
            s.same_taps = same_taps(rows)
            s.at_once = (len(rows) if p.stacked > 1 or s.same_taps and len(rows) * p.beside <= MOST_AT_ONCE else 1)
            p.most_sums = max(p.most_sums, s.at_once * p.beside * min(block_filters, p.group_filters))
        if p.by_place:  # every weight once, as it lies
            self.packed_size = p.groups * p.w_group
        self.plain = len(shares) == len(rows) == p.beside == 1 and not p.by_place and target_steps_are_one(p)
        p.plain = self.plain

    cdef const phase_t* _fill_phases(self, phases, channel_taps) except NULL:
        cdef phase_t* f = <phase_t*>self._kept(np.zeros(len(phases) * sizeof(phase_t), np.uint8))
        cdef ptrdiff_t i, j
        for i, (start, columns, first, positions) in enumerate(phases):
            for j in range(3):
                f[i].start[j] = start[j]
            f[i].columns, f[i].first = columns, first
            f[i].taps = len(positions) * self.plan.group_channels
            order = np.array(positions, np.intp)
            if self.plan.by_place:
                f[i].off = <const ptrdiff_t*>self._kept(np.add.outer(
                    np.arange(self.plan.group_channels, dtype=np.intp) * self.w_strides[2], order).reshape(-1))
                continue
            f[i].weights = self.packed_size
            self.packed_size += self.plan.filters * f[i].taps
            self._phases.append((f[i].weights, channel_taps, order))
        return f

    cdef void* _kept(self, array) except NULL:
        """The memory of an array that lives as long as the plan."""
        self._keep.append(array)
        return writing(array, array.nbytes)

    cdef ptrdiff_t _own_bytes(self):
        """Panels, the sums of a block of filters (and a vector: weaving reads whole ones), and the table of pieces."""
        cdef gemm_t* p = &self.plan
        return round_up(p.panels * (p.most_taps + p.most_sums) * p.width * p.itemsize + 64
                        + p.panels * p.most_pieces * <ptrdiff_t>sizeof(ck_conv_piece), 64)

    @property
    def workspace_bytes(self):
        """Scratch of a call on one thread."""
        return self._own_bytes()

    def pack(self, w not None):
        """The weight array, C-contiguous, as [phase][group][block][tap][filters of the block]; with stacked phases as
        [group][block][tap][rows of the block]; by places, itself.
        """
        if self.plan.by_place:
            return w
        packed = aligned_empty(self.packed_size, self._dtype)
        cdef int size = self.plan.itemsize
        cdef const void* source = reading(w, w.nbytes)
        cdef char* out = <char*>writing(packed, self.packed_size * size)
        cdef const ptrdiff_t* position
        cdef ptrdiff_t weights, channel_taps, positions
        cdef bint in_order
        if self.plan.stacked > 1:
            self._pack_stacked(w.reshape(-1), packed)
            return packed
        for weights, channel_taps, order in self._phases:
            positions = order.size
            position = <const ptrdiff_t*>reading(order, order.nbytes)
            in_order = channel_taps == positions == self.w_strides[2] and (order == np.arange(positions)).all()
            with nogil:
                if size == 4:
                    pack_phase(&self.plan, self.w_strides, position, positions, channel_taps, in_order,
                               <const float*>source, <float*>out + weights)
                else:
                    pack_phase(&self.plan, self.w_strides, position, positions, channel_taps, in_order,
                               <const double*>source, <double*>out + weights)
        return packed

    def _pack_stacked(self, w, packed):
        cdef gemm_t* p = &self.plan
        cdef ptrdiff_t taps = p.share.phase.taps, group, block, at, rows
        _, channel_taps, orders = self._phases[0][0], self._phases[0][1], [order for *_, order in self._phases]
        group_step, filter_step, channel_step = self.w_strides
        # [phase][filter][tap], whose taps are [part][channel][positions that a channel has behind each other]
        position = np.stack(orders).reshape(p.stacked, 1, -1, 1, channel_taps)
        channel = np.arange(p.group_channels).reshape(-1, 1) * channel_step
        index = position + np.arange(p.group_filters).reshape(-1, 1, 1, 1) * filter_step + channel
        index = index.reshape(p.rows, taps)
        for group in range(p.groups):
            for block in range(p.row_blocks):
                at = p.rows * block // p.row_blocks
                rows = p.rows * (block + 1) // p.row_blocks - at
                to = (group * p.rows + at) * taps
                packed[to:to + rows * taps].reshape(taps, rows)[...] = w[index[at:at + rows].T + group * group_step]

    def run(self, x not None, packed not None, bias, y not None, ptrdiff_t n, int threads, Finish then=None):
        """Compute ``n`` images: x and y C-contiguous, ``packed`` from ``pack``, ``bias`` one per filter or None;
        ``then`` is applied to y, of a plain plan only.
        """
        cdef gemm_t* p = &self.plan
        cdef round_t r
        cdef ptrdiff_t panels, i
        if p.macs * n < MIN_MACS:
            threads = 1
        r.plan = p
        r.x = <const char*>reading(x, n * p.channels * p.source_plane * p.itemsize)
        r.w = <const char*>reading(packed, self.packed_size * p.itemsize)
        r.y = <char*>writing(y, n * p.filters * p.target_plane * p.itemsize)
        if bias is not None and p.stacked > 1:  # one per row
            bias = np.tile(np.reshape(bias, (p.groups, -1)), p.stacked).reshape(-1)
        r.bias = <const char*>reading(bias, p.filters * p.stacked * p.itemsize)
        set_finish(&r.then, then, r.y, n * p.filters * p.target_plane * p.itemsize)
        r.own_bytes = self._own_bytes()
        r.own = <char*>scratch(threads * r.own_bytes)
        with nogil:
            for i in range(p.shares):
                r.share = p.share + i
                r.places = n * r.share.places
                panels = (r.places + p.width - 1) // p.width
                r.batches = (panels + p.panels - 1) // p.panels
                r.parts = 1
                if threads > 1:  # a few tasks per thread even out their ends; more only cost
                    r.batches = max(r.batches, min(panels, 4 * threads // p.groups))
                    r.parts = min(p.blocks, max(<ptrdiff_t>1, 4 * threads // (r.batches * p.groups)))
                parallel_for(sum_panels, &r, r.batches * p.groups * r.parts, threads)
            scratch_done()


cdef bint same_taps(rows):
    """Whether all phases have the same part of a panel."""
    return len({(first, len(positions)) for row in rows for *_, first, positions in row}) == 1


cdef ptrdiff_t stacked_phases(ptrdiff_t filters, ptrdiff_t most, ptrdiff_t most_rows, shares):
    """Of one share, how many phases have the same taps and are stacked: of few filters, which do not fill a tile."""
    (*_, rows), *others = shares
    cdef ptrdiff_t phases = len(rows) * len(rows[0])
    if others or phases * filters > most_rows or filters >= most or not same_taps(rows):
        return 1
    return phases


cdef bint target_steps_are_one(const gemm_t* p) noexcept:
    return p.target_step[0] == p.target_step[1] == p.target_step[2] == 1


cdef void pack_phase(const gemm_t* p, const ptrdiff_t* strides, const ptrdiff_t* position, ptrdiff_t positions,
                     ptrdiff_t channel_taps, bint in_order, const real* w, real* out) noexcept nogil:
    """The weights of one phase: [group][block][tap][filters of the block]."""
    cdef ptrdiff_t group, block, filter, filters, c, i, m, begin, taps = positions * p.group_channels
    cdef const real* origin
    cdef const real* source
    cdef real* to
    cdef real* row
    for group in range(p.groups):
        for block in range(p.blocks):
            filter = first_filter(p, block)
            filters = first_filter(p, block + 1) - filter
            origin = w + group * strides[0] + filter * strides[1]
            to = out + (group * p.group_filters + filter) * taps
            if in_order:
                p.table.transpose(origin, strides[1], to, filters, filters, taps)
                continue
            for i in range(positions):
                begin = i // channel_taps * p.group_channels * channel_taps + i % channel_taps
                for c in range(p.group_channels):
                    row, source = to + (begin + c * channel_taps) * filters, origin + c * strides[2] + position[i]
                    for m in range(filters):
                        row[m] = source[m * strides[1]]
