"""Direct convolution with channels in the lanes: the loops over images, boxes, panels of filters and pixel runs.

``Direct`` computes a forward pass or an input gradient, ``WeightGradient`` a weight gradient; both are made once
per plan by ``convkit.plan`` from the tables of ``convkit.plan.geometry`` and hold no data. The sums are done by
the tiles of csrc/conv. A round copies some images, or a box of one image, into zero-padded planes, then its
tasks run over that copy: one task is one panel of filters on one image, so no two tasks write the same output
and no sum depends on how many threads there are.
"""

from libc.string cimport memcpy, memset
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done, level_of

import numpy as np

from convkit.kernels.runtime import aligned_empty

cdef extern from "conv/conv.h" nogil:
    ctypedef struct ck_conv_tile:
        const void* x
        const ptrdiff_t* off
        ptrdiff_t taps
        ptrdiff_t x_step
        const void* w
        const void* bias
        void* y
        ptrdiff_t y_pixel
        ptrdiff_t y_filter
        ptrdiff_t filters
        const void* ahead
        int accumulate
    ctypedef void (*ck_conv_kernel)(const ck_conv_tile* tile) noexcept nogil
    int CK_CONV_VECTORS, CK_CONV_PIXELS
    ctypedef struct ck_conv_table:
        ptrdiff_t lanes
        ck_conv_kernel kernel[4][16]
    const ck_conv_table* ck_conv_table_for(int level, int itemsize)

ctypedef fused real:
    float
    double

# Work below this many multiply-adds stays on the calling thread: waking another costs more than it gains.

cdef ptrdiff_t MIN_MACS = 1_000_000


def tile_limits(isa, int itemsize):
    """(lanes, longest pixel run per number of vectors) of a level's tiles."""
    cdef const ck_conv_table* table = ck_conv_table_for(level_of(isa), itemsize)
    limits = []
    for v in range(CK_CONV_VECTORS):
        limits.append(max([m + 1 for m in range(CK_CONV_PIXELS) if table.kernel[v][m] != NULL], default=0))
    return table.lanes, tuple(limits)


cdef struct phase_t:
    ptrdiff_t start[3]       # target of j = 0
    ptrdiff_t step[3]        # targets between neighbouring j
    ptrdiff_t count[3]
    ptrdiff_t taps           # channels of a group times kernel positions
    const ptrdiff_t* off     # offset of each into the padded box
    ptrdiff_t panels         # first element of the phase's packed weights


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
    ptrdiff_t macs
    phase_t* phase
    ptrdiff_t n_phases


cdef struct round_t:
    const direct_t* plan
    const phase_t* phase
    const char* x            # first image of the round
    const char* w
    const char* bias         # panels, or NULL
    char* y
    char* padded             # scratch for the padded copy
    const char* source       # what the tiles read: the copy, or x at the box
    ptrdiff_t images
    ptrdiff_t origin[3]      # first j of the box
    ptrdiff_t parts          # tasks that share the rows of a box


cdef void pad_plane(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Copy the box of one channel of one image, zeros where it overhangs the source."""
    cdef const round_t* r = <const round_t*>job
    cdef const direct_t* p = r.plan
    cdef ptrdiff_t image = task // p.channels, c = task % p.channels, size = p.itemsize
    cdef ptrdiff_t first[3]
    cdef ptrdiff_t i, z, y, zz, yy, skip, stop
    for i in range(3):
        first[i] = r.origin[i] * p.source_step[i] - p.lo[i]
    cdef const char* source = r.x + (image * p.channels + c) * p.source[0] * p.source[1] * p.source[2] * size
    cdef char* row = r.padded + (image * p.image_pitch + c * p.channel_pitch) * size
    # the part of every row that lies inside the source
    skip = min(max(-first[2], 0), p.box[2])
    stop = max(min(p.source[2] - first[2], p.box[2]), skip)
    for z in range(p.box[0]):
        zz = first[0] + z
        for y in range(p.box[1]):
            yy = first[1] + y
            if zz < 0 or zz >= p.source[0] or yy < 0 or yy >= p.source[1]:
                memset(row, 0, p.box[2] * size)
            else:
                memset(row, 0, skip * size)
                memcpy(row + skip * size,
                       source + ((zz * p.source[1] + yy) * p.source[2] + first[2] + skip) * size,
                       (stop - skip) * size)
                memset(row + stop * size, 0, (p.box[2] - stop) * size)
            row += p.box[2] * size


cdef void sum_panel(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One panel of filters on a part of the rows of one image's box."""
    cdef const round_t* r = <const round_t*>job
    cdef const direct_t* p = r.plan
    cdef const phase_t* f = r.phase
    cdef ptrdiff_t part = task % r.parts
    cdef ptrdiff_t image = (task // r.parts) % r.images
    cdef ptrdiff_t panel = (task // r.parts) // r.images
    cdef ptrdiff_t group = panel // p.group_panels
    cdef ptrdiff_t filter0 = (panel % p.group_panels) * p.panel_filters
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters)
    cdef ptrdiff_t vectors = (filters + p.table.lanes - 1) // p.table.lanes
    cdef ptrdiff_t size = p.itemsize, z, y, x, i, m, row, rows, runs
    cdef ptrdiff_t count[3]
    cdef ptrdiff_t plane = p.target[0] * p.target[1] * p.target[2]
    cdef const char* source
    cdef const char* ahead_end
    cdef char* target
    cdef ck_conv_tile tile
    for i in range(3):
        count[i] = min(p.block[i], f.count[i] - r.origin[i])
        if count[i] <= 0:
            return
    tile.off = f.off
    tile.taps = f.taps
    tile.x_step = p.source_step[2]
    tile.w = r.w + (f.panels + (group * round_up(p.group_filters, p.table.lanes) + filter0) * f.taps) * size
    tile.bias = NULL if r.bias == NULL else r.bias + (group * p.group_panels * p.panel_filters + filter0) * size
    tile.y_pixel = f.step[2]
    tile.y_filter = plane
    tile.filters = filters
    tile.accumulate = 0
    runs = (count[2] + p.most_pixels - 1) // p.most_pixels
    rows = count[0] * count[1]
    # The first tiles fetch the panel that follows, one line per tap each, while this one is in L2.
    tile.ahead = <const char*>tile.w + f.taps * vectors * p.table.lanes * size
    ahead_end = <const char*>tile.ahead + f.taps * vectors * 64
    for row in range(rows * part // r.parts, rows * (part + 1) // r.parts):
        z = row // count[1]
        y = row % count[1]
        source = r.source + (image * p.image_pitch + group * p.group_channels * p.channel_pitch
                             + (z * p.source_step[0] * p.box[1] + y * p.source_step[1]) * p.box[2]) * size
        target = r.y + ((image * p.filters + group * p.group_filters + filter0) * plane
                        + ((f.start[0] + (r.origin[0] + z) * f.step[0]) * p.target[1]
                           + f.start[1] + (r.origin[1] + y) * f.step[1]) * p.target[2]
                        + f.start[2] + r.origin[2] * f.step[2]) * size
        x = 0
        for i in range(runs):
            m = count[2] * (i + 1) // runs - x
            tile.x = source + x * p.source_step[2] * size
            tile.y = target + x * f.step[2] * size
            p.table.kernel[vectors - 1][m - 1](&tile)
            x += m
            if tile.ahead < ahead_end:
                tile.ahead = <const char*>tile.ahead + f.taps * 64


cdef inline ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef struct pack_t:
    const direct_t* plan
    const void* w
    void* packed
    const ptrdiff_t* tap     # kernel positions of the phases, one after another
    ptrdiff_t w_filter, w_channel
    ptrdiff_t w_group


cdef void pack_panel(real* tag, const pack_t* a, const phase_t* f, const ptrdiff_t* tap, ptrdiff_t positions,
                     ptrdiff_t group, ptrdiff_t filter0) noexcept nogil:
    """[filters][taps] of the weight array into [taps][panel lanes], zero past the last filter."""
    cdef const direct_t* p = a.plan
    cdef ptrdiff_t filters = min(p.group_filters - filter0, p.panel_filters)
    cdef ptrdiff_t lanes = round_up(filters, p.table.lanes)
    cdef ptrdiff_t lane, c, t
    cdef real* out = <real*>a.packed + f.panels + (group * round_up(p.group_filters, p.table.lanes) + filter0) * f.taps
    cdef const real* w
    for lane in range(lanes):
        if lane >= filters:
            for t in range(f.taps):
                out[t * lanes + lane] = 0
            continue
        for c in range(p.group_channels):
            w = <const real*>a.w + group * a.w_group + (filter0 + lane) * a.w_filter + c * a.w_channel
            for t in range(positions):
                out[(c * positions + t) * lanes + lane] = w[tap[t]]


cdef class Direct:
    """A planned forward pass or input gradient.

    Built from plain tuples: ``source`` and ``target`` sizes, ``lo``, ``source_step``, ``block`` and ``box`` per axis,
    and per phase ``(start, step, count, kernel positions, offsets)``. ``w_strides`` are the strides of the weight
    array, in elements, from group to group, filter to filter and channel to channel.
    """

    cdef direct_t plan
    cdef object _keep        # the arrays that the C structs point into
    cdef object _dtype
    cdef object _positions   # kernel positions per phase
    cdef ptrdiff_t w_strides[3]
    cdef bint zero_first
    cdef readonly ptrdiff_t packed_size
    cdef readonly ptrdiff_t vectors, most_pixels, lanes
    cdef readonly ptrdiff_t images

    def __init__(self, dtype, isa, ptrdiff_t groups, ptrdiff_t channels, ptrdiff_t filters, source, target, lo,
                 source_step, block, box, ptrdiff_t channel_pitch, ptrdiff_t images, bint in_place,
                 ptrdiff_t vectors, ptrdiff_t macs, phases, w_strides, bint zero_first):
        cdef direct_t* p = &self.plan
        cdef ptrdiff_t i, elements = 0
        p.itemsize = dtype.itemsize
        p.table = ck_conv_table_for(level_of(isa), p.itemsize)
        p.vectors = vectors
        p.panel_filters = vectors * p.table.lanes
        p.most_pixels = tile_limits(isa, p.itemsize)[1][vectors - 1]
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
        p.in_place = in_place
        p.macs = macs
        p.n_phases = len(phases)
        table = np.zeros(max(1, p.n_phases) * sizeof(phase_t), np.uint8)
        cdef unsigned char[::1] memory = table
        p.phase = <phase_t*>&memory[0]
        self._keep = [table]
        self._positions = []
        for i, (start, step, count, positions, offsets) in enumerate(phases):
            self._fill_phase(&p.phase[i], start, step, count, positions, offsets)
            p.phase[i].panels = elements
            elements += groups * round_up(p.group_filters, p.table.lanes) * p.phase[i].taps
        self.packed_size = elements
        self.zero_first = zero_first
        self._dtype = dtype
        self.vectors, self.most_pixels, self.lanes = vectors, p.most_pixels, p.table.lanes
        self.images = images

    cdef _fill_phase(self, phase_t* f, start, step, count, positions, offsets):
        cdef ptrdiff_t i
        for i in range(3):
            f.start[i], f.step[i], f.count[i] = start[i], step[i], count[i]
        # taps are ordered (channel, kernel position), as the weight array has them
        channel = np.arange(self.plan.group_channels, dtype=np.intp)[:, None] * self.plan.channel_pitch
        off = np.ascontiguousarray((channel + np.asarray(offsets, np.intp)[None, :]).reshape(-1))
        tap = np.ascontiguousarray(positions, np.intp)
        cdef ptrdiff_t[::1] off_view = off
        f.taps = off.size
        f.off = &off_view[0]
        self._keep.append(off)
        self._positions.append(tap)

    @property
    def workspace_bytes(self):
        """Scratch of one call with enough images to fill a round."""
        return self._scratch_bytes(self.plan.images, True)

    cdef ptrdiff_t _bias_elements(self):
        return self.plan.groups * self.plan.group_panels * self.plan.panel_filters

    cdef ptrdiff_t _scratch_bytes(self, ptrdiff_t images, bint bias):
        return (self._padded_elements(images) + (self._bias_elements() if bias else 0)) * self.plan.itemsize

    cdef ptrdiff_t _padded_elements(self, ptrdiff_t images):
        return 0 if self.plan.in_place else images * self.plan.image_pitch

    def pack(self, const real[::1] w not None):
        """The weight array (flat, C order) as panels; an array to pass to ``run``."""
        packed = aligned_empty(self.packed_size, self._dtype)
        cdef real[::1] out = packed
        cdef pack_t a
        cdef ptrdiff_t i, group, panel, positions
        cdef ptrdiff_t[::1] tap
        cdef direct_t* p = &self.plan
        a.plan = p
        a.w = &w[0]
        a.packed = &out[0]
        a.w_group, a.w_filter, a.w_channel = self.w_strides[0], self.w_strides[1], self.w_strides[2]
        for i in range(p.n_phases):
            tap = self._positions[i]
            positions = tap.shape[0]
            with nogil:
                for group in range(p.groups):
                    for panel in range(p.group_panels):
                        pack_panel(<real*>NULL, &a, &p.phase[i], &tap[0], positions, group, panel * p.panel_filters)
        return packed

    def run(self, const real[::1] x not None, const real[::1] packed not None, const real[::1] bias,
            real[::1] y not None, ptrdiff_t n, int threads):
        """Compute ``n`` images: x and y flat in C order, ``packed`` from ``pack``, ``bias`` one per filter or None."""
        cdef direct_t* p = &self.plan
        cdef round_t r
        cdef ptrdiff_t images = min(n, p.images)
        cdef char* memory = <char*>scratch(self._scratch_bytes(images, bias is not None))
        cdef ptrdiff_t source_bytes = p.channels * p.source[0] * p.source[1] * p.source[2] * p.itemsize
        cdef ptrdiff_t target_bytes = p.filters * p.target[0] * p.target[1] * p.target[2] * p.itemsize
        cdef ptrdiff_t first
        if p.macs * n < MIN_MACS:
            threads = 1
        r.plan = p
        r.w = <const char*>&packed[0]
        r.padded = memory
        r.bias = NULL
        if bias is not None:
            r.bias = memory + self._padded_elements(images) * p.itemsize
            spread_bias(p, &bias[0], <real*>r.bias)
        with nogil:
            if self.zero_first:
                memset(&y[0], 0, n * target_bytes)
            first = 0
            while first < n:
                r.images = min(images, n - first)
                r.x = <const char*>&x[0] + first * source_bytes
                r.y = <char*>&y[0] + first * target_bytes
                run_boxes(&r, threads)
                first += r.images
            scratch_done()


cdef void spread_bias(const direct_t* p, const real* bias, real* panels) noexcept nogil:
    """One value per filter into whole panels, so that a tile loads vectors."""
    cdef ptrdiff_t g, f, lanes = p.group_panels * p.panel_filters
    for g in range(p.groups):
        for f in range(lanes):
            panels[g * lanes + f] = bias[g * p.group_filters + f] if f < p.group_filters else 0


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
                    r.source = r.x + ((z * p.source[1] + y) * p.source[2] + x) * p.itemsize
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
