"""Convolution as a matrix product that is never written out, pixels in the lanes: the loops over panels and filters.

    y[f][p] = bias[f] + sum over k of w[f][k] * x at (tap k of pixel p)

A panel is some neighbouring output pixels of all images: for every tap (channel, kernel position) the inputs that they
meet, side by side, zeros where a tap lies in the padding. One task fills a few panels and multiplies them with every
block of filters; the tile of csrc/conv has the filters where a direct convolution has its pixels, and the pixels in its
lanes, so that its sums go straight into the rows of y. A pixel's sum does not depend on the panel it lies in.
"""

from libc.string cimport memcpy
from convkit.kernels.conv cimport tiles_of
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport ck_conv_fill, ck_conv_piece, ck_conv_table, ck_conv_tile, real, round_up

import numpy as np

from convkit.kernels.runtime import aligned_empty

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.
cdef ptrdiff_t MIN_MACS = 1_000_000


cdef struct gemm_t:
    int itemsize
    const ck_conv_table* table
    ptrdiff_t width              # pixels of a panel
    ptrdiff_t blocks             # of filters, in each group
    ptrdiff_t groups, channels, group_channels, filters, group_filters
    ptrdiff_t source[3]
    ptrdiff_t target[3]
    ptrdiff_t step[3]            # source elements between neighbouring targets
    ptrdiff_t source_plane, pixels
    ptrdiff_t positions, taps
    const ptrdiff_t* shift       # of each kernel position, along each axis
    const ptrdiff_t* off         # of the taps in a block of the fewest filters, then in one of one filter more
    ptrdiff_t panels             # of one task
    ptrdiff_t most_pieces        # of one panel
    ptrdiff_t macs


cdef struct round_t:
    const gemm_t* plan
    const char* x
    const char* w
    const char* bias             # one per filter, or NULL
    char* y
    char* own                    # of each worker: panels, pieces and sums
    ptrdiff_t own_bytes
    ptrdiff_t pixels             # of all images
    ptrdiff_t batches            # tasks that cover them
    ptrdiff_t parts              # tasks that share the filters


cdef inline ptrdiff_t first_filter(const gemm_t* p, ptrdiff_t block) noexcept nogil:
    return p.group_filters * block // p.blocks


cdef ptrdiff_t add_pieces(const gemm_t* p, ptrdiff_t pixel, ptrdiff_t n, ptrdiff_t to, ptrdiff_t width,
                          ck_conv_piece* piece) noexcept nogil:
    """The pieces of ``n`` pixels in one row of y, at every kernel position; returns how many."""
    cdef ptrdiff_t at = pixel % p.pixels, count = 0, k, z, y, x, before, inside
    cdef ptrdiff_t image = pixel // p.pixels * p.channels * p.source_plane
    cdef ptrdiff_t column = at % p.target[2] * p.step[2]
    cdef ptrdiff_t line = at // p.target[2] % p.target[1] * p.step[1]
    cdef ptrdiff_t slice = at // p.target[2] // p.target[1] * p.step[0]
    cdef bint there
    for k in range(p.positions):
        z, y, x = slice + p.shift[3 * k], line + p.shift[3 * k + 1], column + p.shift[3 * k + 2]
        there = 0 <= z < p.source[0] and 0 <= y < p.source[1]
        # pixels whose column lies before the source, and inside
        before = min(n, (max(<ptrdiff_t>0, -x) + p.step[2] - 1) // p.step[2]) if there else n
        inside = min(n - before, max(<ptrdiff_t>0, (p.source[2] - x + p.step[2] - 1) // p.step[2] - before))
        if before > 0:
            piece[count].to, piece[count].source, piece[count].n = to, -1, before
            count += 1
        if inside > 0:
            piece[count].to = to + before
            piece[count].source = image + (z * p.source[1] + y) * p.source[2] + x + before * p.step[2]
            piece[count].n = inside
            count += 1
        if before + inside < n:
            piece[count].to, piece[count].source, piece[count].n = to + before + inside, -1, n - before - inside
            count += 1
        to += width
    return count


cdef void fill_panels(const round_t* r, ptrdiff_t group, ptrdiff_t first, ptrdiff_t last, ptrdiff_t width, char* panels,
                      ck_conv_piece* piece) noexcept nogil:
    """Pixels ``first`` to ``last`` into panels of ``width``."""
    cdef const gemm_t* p = r.plan
    cdef ptrdiff_t pixel = first, n, lane, to
    cdef ck_conv_fill job
    job.pieces = 0
    while pixel < last:
        lane = (pixel - first) % width
        to = (pixel - first) // width * p.taps * width + lane
        n = min(p.target[2] - pixel % p.target[2], min(width - lane, last - pixel))
        job.pieces += add_pieces(p, pixel, n, to, width, piece + job.pieces)
        pixel += n
    job.x = r.x + group * p.group_channels * p.source_plane * p.itemsize
    job.plane = p.source_plane
    job.step = p.step[2]
    job.panels = panels
    job.channel_step = p.positions * width
    job.channels = p.group_channels
    job.piece = piece
    p.table.fill(&job)


cdef void sum_panels(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some panels of one group, a part of its filters."""
    cdef const round_t* r = <const round_t*>job
    cdef const gemm_t* p = r.plan
    cdef ptrdiff_t part = task % r.parts, group = task // r.parts % p.groups, batch = task // r.parts // p.groups
    cdef ptrdiff_t all_panels = (r.pixels + p.width - 1) // p.width
    cdef ptrdiff_t first = all_panels * batch // r.batches * p.width
    cdef ptrdiff_t last = min(all_panels * (batch + 1) // r.batches * p.width, r.pixels)
    cdef ptrdiff_t size = p.itemsize, block, filter, filters, pixel
    cdef char* panels = r.own + worker * r.own_bytes
    cdef char* sums = panels + p.panels * p.taps * p.width * size
    cdef ck_conv_piece* piece = <ck_conv_piece*>(sums + p.table.most_pixels[0] * p.width * size)
    # The last panel is only as wide as it must be.
    cdef ptrdiff_t whole = last - (last - first) % p.width, narrow = round_up(last - whole, p.table.lanes)
    cdef ck_conv_tile tile
    if whole > first:
        fill_panels(r, group, first, whole, p.width, panels, piece)
    if last > whole:
        fill_panels(r, group, whole, last, narrow, panels + (whole - first) * p.taps * size, piece)
    tile.taps = p.taps
    tile.x_step = 1
    tile.x_half = 0
    tile.bias = NULL
    tile.y_filter = 1
    tile.ahead_step = 0
    tile.ahead_end = NULL
    tile.accumulate = 0
    tile.row_bias = NULL
    for block in range(p.blocks * part // r.parts, p.blocks * (part + 1) // r.parts):
        filter = first_filter(p, block)
        filters = first_filter(p, block + 1) - filter
        tile.off = p.off + (p.taps if filters > p.group_filters // p.blocks else 0)
        filter += group * p.group_filters
        tile.x = r.w + filter * p.taps * size
        if r.bias != NULL:
            tile.row_bias = r.bias + filter * size
        pixel = first
        while pixel < last:
            tile.w = panels + (pixel - first) * p.taps * size
            tile.ahead = tile.w
            sum_panel(r, &tile, filter, filters, pixel, p.width if pixel < whole else narrow,
                      min(p.width, last - pixel), sums)
            pixel += p.width


cdef void sum_panel(const round_t* r, ck_conv_tile* tile, ptrdiff_t filter, ptrdiff_t filters, ptrdiff_t pixel,
                    ptrdiff_t width, ptrdiff_t n, char* sums) noexcept nogil:
    """One tile: into y where its pixels are those of one image, else by way of ``sums``."""
    cdef const gemm_t* p = r.plan
    cdef ptrdiff_t size = p.itemsize, image = pixel // p.pixels, at = pixel % p.pixels, i = 0, piece, m
    cdef int vectors = <int>(width // p.table.lanes)
    cdef char* y = r.y + ((image * p.filters + filter) * p.pixels + at) * size
    tile.filters = n
    if at + n <= p.pixels:
        tile.y, tile.y_pixel = y, p.pixels
        p.table.run(tile, <int>filters, vectors)
        return
    tile.y, tile.y_pixel = sums, width
    p.table.run(tile, <int>filters, vectors)
    while i < n:
        piece = min(p.pixels - at, n - i)
        for m in range(filters):
            memcpy(y + m * p.pixels * size, sums + (m * width + i) * size, piece * size)
        i += piece
        image += 1
        at = 0
        y = r.y + (image * p.filters + filter) * p.pixels * size


cdef class Gemm:
    """A planned convolution whose targets all share one set of taps: forward, or an input gradient of stride 1.

    ``source`` and ``target`` sizes and ``step`` per axis; ``positions`` are the kernel positions in the order of the
    taps and ``shift`` where each lies, (z, y, x) from the place of the target. ``w_strides`` are the strides of the
    weight array, in elements, from group to group, filter to filter and channel to channel. A panel has ``vectors``
    vectors, a task takes at most ``panels`` of them.
    """

    cdef gemm_t plan
    cdef object _keep, _dtype, _positions
    cdef ptrdiff_t w_strides[3]
    cdef readonly ptrdiff_t packed_size, vectors, panels

    def __init__(self, dtype, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, step,
                 positions, shift, ptrdiff_t vectors, ptrdiff_t panels, ptrdiff_t macs, w_strides):
        cdef gemm_t* p = &self.plan
        cdef ptrdiff_t i, most
        p.itemsize = dtype.itemsize
        p.table = tiles_of(isa, p.itemsize)
        p.width = vectors * p.table.lanes
        p.groups, p.channels, p.filters = groups, channels, filters
        p.group_channels, p.group_filters = channels // groups, filters // groups
        most = p.table.most_pixels[vectors - 1]
        p.blocks = (p.group_filters + most - 1) // most
        p.source_plane = p.pixels = 1
        for i in range(3):
            p.source[i], p.target[i], p.step[i] = source[i], target[i], step[i]
            p.source_plane *= p.source[i]
            p.pixels *= p.target[i]
            self.w_strides[i] = w_strides[i]
        p.positions = len(positions)
        p.taps = p.positions * p.group_channels
        fewest = p.group_filters // p.blocks
        offsets = np.concatenate([np.arange(p.taps, dtype=np.intp) * m for m in (fewest, fewest + 1)])
        shifts = np.ascontiguousarray(shift, np.intp).reshape(-1)
        self._positions = np.ascontiguousarray(positions, np.intp)
        cdef ptrdiff_t[::1] off = offsets, flat = shifts
        p.off = &off[0]
        p.shift = &flat[0]
        self._keep = (offsets, shifts)
        p.panels = panels
        # a panel meets this many rows of y, each with zeros before and after at every kernel position
        p.most_pieces = 3 * p.positions * min(p.width, (p.width - 1) // p.target[2] + 2)
        p.macs = macs
        self.packed_size = filters * p.taps
        self._dtype = dtype
        self.vectors, self.panels = vectors, panels

    cdef ptrdiff_t _own_bytes(self):
        """Panels, the sums of a tile, and the table of pieces."""
        cdef gemm_t* p = &self.plan
        return round_up((p.panels * p.taps + p.table.most_pixels[0]) * p.width * p.itemsize
                        + p.panels * p.most_pieces * <ptrdiff_t>sizeof(ck_conv_piece), 64)

    @property
    def workspace_bytes(self):
        """Scratch of a call on one thread."""
        return self._own_bytes()

    def pack(self, const real[::1] w not None):
        """The weight array (flat, C order) as [group][block][tap][filters of the block]."""
        cdef gemm_t* p = &self.plan
        packed = aligned_empty(self.packed_size, self._dtype)
        cdef real[::1] out = packed
        cdef ptrdiff_t[::1] tap = self._positions
        cdef ptrdiff_t group, block, filter, filters, c, t, m
        cdef const real* origin
        cdef real* to
        cdef bint in_order = self.w_strides[2] == p.positions and (self._positions == np.arange(p.positions)).all()
        with nogil:
            for group in range(p.groups):
                for block in range(p.blocks):
                    filter = first_filter(p, block)
                    filters = first_filter(p, block + 1) - filter
                    origin = &w[0] + group * self.w_strides[0] + filter * self.w_strides[1]
                    to = &out[0] + (group * p.group_filters + filter) * p.taps
                    if in_order:
                        p.table.transpose(origin, self.w_strides[1], to, filters, filters, p.taps)
                        continue
                    for c in range(p.group_channels):
                        for t in range(p.positions):
                            for m in range(filters):
                                to[(c * p.positions + t) * filters + m] = (
                                    origin[m * self.w_strides[1] + c * self.w_strides[2] + tap[t]])
        return packed

    def run(self, const real[::1] x not None, const real[::1] packed not None, const real[::1] bias,
            real[::1] y not None, ptrdiff_t n, int threads):
        """Compute ``n`` images: x and y flat in C order, ``packed`` from ``pack``, ``bias`` one per filter or None."""
        cdef gemm_t* p = &self.plan
        cdef round_t r
        cdef ptrdiff_t panels
        if p.macs * n < MIN_MACS:
            threads = 1
        r.plan = p
        r.x, r.w, r.y = <const char*>&x[0], <const char*>&packed[0], <char*>&y[0]
        r.bias = NULL
        if bias is not None:
            r.bias = <const char*>&bias[0]
        r.pixels = n * p.pixels
        panels = (r.pixels + p.width - 1) // p.width
        r.batches = (panels + p.panels - 1) // p.panels
        r.parts = 1
        if threads > 1:  # a few tasks per thread even out their ends; more only cost
            r.batches = max(r.batches, min(panels, 4 * threads // p.groups))
            r.parts = min(p.blocks, max(<ptrdiff_t>1, 4 * threads // (r.batches * p.groups)))
        r.own_bytes = self._own_bytes()
        r.own = <char*>scratch(threads * r.own_bytes)
        with nogil:
            parallel_for(sum_panels, &r, r.batches * p.groups * r.parts, threads)
            scratch_done()
