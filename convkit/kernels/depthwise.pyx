"""Convolution with pixels in the lanes: units of work over images, groups and blocks, shared among threads.

A ``Depthwise`` is made once per plan from the tables of ``convkit.plan.geometry`` and holds no data. A unit is one
block of one group of one image: it copies what it reads into scratch of its own and writes its own outputs, so no
result depends on how many threads there are. The kernels are those of csrc/depthwise.
"""

from cython cimport floating
from convkit.kernels.elementwise cimport Finish, ck_finish, finish_early, finish_from, finish_t, set_finish
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done, level_of

import numpy as np

from convkit.kernels.operands import aligned_empty

cdef extern from "depthwise/depthwise.h" nogil:
    enum:
        CK_DEPTHWISE_FILTERS
    ctypedef struct ck_depthwise_phase:
        ptrdiff_t start[3]
        ptrdiff_t step[3]
        ptrdiff_t count[3]
        ptrdiff_t taps
        const ptrdiff_t* offset
        const ptrdiff_t* weight
        ptrdiff_t across
        const ptrdiff_t* row
    ctypedef struct ck_depthwise:
        ptrdiff_t groups, planes, filters, lanes
        ptrdiff_t source[3]
        ptrdiff_t target[3]
        ptrdiff_t lo[3]
        ptrdiff_t source_step[3]
        ptrdiff_t dilation[3]
        ptrdiff_t block[3]
        ptrdiff_t blocks[3]
        ptrdiff_t box[3]
        ptrdiff_t plane_pitch
        int in_place, flat
        ptrdiff_t w_group, w_filter, w_plane, w_packed
        ptrdiff_t first_filter, end_filter, copied
        const ck_finish* finish
        ptrdiff_t reversed
        const ptrdiff_t* place
        const ptrdiff_t* place_tap
        const ptrdiff_t* dense
        ptrdiff_t slab
        ptrdiff_t sums
        ptrdiff_t phases
        const ck_depthwise_phase* phase
    ctypedef void (*ck_depthwise_sum)(const ck_depthwise* g, const void* source, const void* w, const void* bias,
                                      void* target, ptrdiff_t first, ptrdiff_t last, void* memory) noexcept nogil
    ctypedef void (*ck_depthwise_dot)(const ck_depthwise* g, const void* dy, const void* x, void* dw, ptrdiff_t begin,
                                      ptrdiff_t end, ptrdiff_t first, ptrdiff_t last, void* memory) noexcept nogil
    ctypedef void (*ck_depthwise_pack)(const ck_depthwise* g, const void* w, void* packed) noexcept nogil
    ctypedef struct ck_depthwise_row:
        const char* name
        int kernel, stride, lanes, filters, finishes
        ck_depthwise_pack pack
        ck_depthwise_sum sum
        ck_depthwise_dot dot
    const ck_depthwise_row* ck_depthwise_rows_for(int level, int itemsize)
    size_t ck_depthwise_scratch(const ck_depthwise* g, int itemsize)

# A unit is worth its multiply-adds and the elements that it moves. A call of less than SERIAL stays on its thread,
# a task is worth about TASK: tens of microseconds, so that the threads end together.
cdef double SERIAL = 1e6, TASK = 2.5e5, LONGEST = 1e9
cdef ptrdiff_t FILTERS = CK_DEPTHWISE_FILTERS, LEAST_FILTERS = 16
# What is written between two passes of what follows: of many filters it stays in L2, of small units in L1.
cdef ptrdiff_t STEP_BYTES = 512 * 1024, NEAR_BYTES = 12 * 1024


def variants(isa, int itemsize):
    """The registry of one level, best first: ``(name, kernel, stride, lanes, has a sum, has a dot product, filters
    of a unit of it)``.
    """
    cdef const ck_depthwise_row* row = ck_depthwise_rows_for(level_of(isa), itemsize)
    found = []
    while row.name != NULL:
        found.append((row.name.decode(), row.kernel, row.stride, row.lanes, row.sum != NULL, row.dot != NULL,
                      row.filters))
        row += 1
    return found


cdef struct job_t:
    const ck_depthwise* plan
    const ck_depthwise_row* kernel
    const void* source
    const void* w
    const void* bias
    void* target
    ptrdiff_t units, share
    # of a sum: what follows on so many units, or filters of one, at a time; and the parts of the filters that are tasks
    # of their own
    finish_t then
    ptrdiff_t near, step, parts
    # of a weight gradient: blocks of images, and the parts of them that are summed apart
    ptrdiff_t items, chunks, chunk_bytes
    char* memory
    size_t memory_bytes


cdef void sum_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some units, or a part of the filters of one; in steps if something follows on what was written."""
    cdef const job_t* j = <const job_t*>job
    cdef ck_depthwise plan = j.plan[0]
    cdef ptrdiff_t unit = task // j.parts * j.share, end = min(j.units, unit + j.share)
    cdef ptrdiff_t blocks = (plan.filters + FILTERS - 1) // FILTERS, part = task % j.parts
    cdef ptrdiff_t first = blocks * part // j.parts * FILTERS
    cdef ptrdiff_t last = min(plan.filters, blocks * (part + 1) // j.parts * FILTERS)
    cdef char* memory = j.memory + worker * j.memory_bytes
    cdef ptrdiff_t near
    cdef int late = 0
    if j.kernel.finishes and finish_early(&j.then) != NULL and not j.then.early.past:
        plan.finish, late = &j.then.early, j.then.late
    plan.first_filter, plan.end_filter = first, last
    if j.then.steps == late:
        j.kernel.sum(&plan, j.source, j.w, j.bias, j.target, unit, end, memory)
        return
    while unit < end:
        plan.first_filter, plan.copied = first, False
        near = min(end, unit + j.near)
        while plan.first_filter < last:
            plan.end_filter = min(last, plan.first_filter + j.step)
            j.kernel.sum(&plan, j.source, j.w, j.bias, j.target, unit, near, memory)
            finish_units(j, late, unit, near, plan.first_filter, plan.end_filter)
            plan.first_filter, plan.copied = plan.end_filter, True
        unit = near


cdef inline ptrdiff_t first_plane(const ck_depthwise* p, ptrdiff_t unit) noexcept nogil:
    """Where a unit of whole planes begins."""
    cdef ptrdiff_t parts = (p.groups + p.lanes - 1) // p.lanes
    return (unit // parts * p.groups + unit % parts * p.lanes) * p.filters


cdef void finish_units(const job_t* j, int late, ptrdiff_t unit, ptrdiff_t end, ptrdiff_t first, ptrdiff_t last
                       ) noexcept nogil:
    """Steps from ``late`` on, of what follows, on the targets that filters of units wrote."""
    cdef const ck_depthwise* p = j.plan
    cdef ptrdiff_t volume = p.target[0] * p.target[1] * p.target[2], at = first_plane(p, unit) * volume
    if p.blocks[0] * p.blocks[1] * p.blocks[2] == 1 and last - first == p.filters:
        finish_from(&j.then, late, j.then.steps, at, first_plane(p, end) * volume - at)
        return
    while unit < end:
        finish_unit(j, late, unit, first, last)
        unit += 1


cdef void finish_unit(const job_t* j, int late, ptrdiff_t unit, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """The same for one unit, which may be a block of its planes."""
    cdef const ck_depthwise* p = j.plan
    cdef ptrdiff_t origin[3]
    cdef ptrdiff_t count[3]
    cdef ptrdiff_t parts = (p.groups + p.lanes - 1) // p.lanes, group, plane, end, z, y, at
    cdef int a
    for a in range(2, -1, -1):
        origin[a] = unit % p.blocks[a] * p.block[a]
        count[a] = min(p.block[a], p.target[a] - origin[a])
        unit //= p.blocks[a]
    group = unit % parts * p.lanes
    plane = (unit // parts * p.groups + group) * p.filters + first
    end = plane + (last - first if p.lanes == 1 else min(p.lanes, p.groups - group))
    while plane < end:
        for z in range(count[0]):
            at = ((plane * p.target[0] + origin[0] + z) * p.target[1] + origin[1]) * p.target[2] + origin[2]
            if count[2] == p.target[2]:
                finish_from(&j.then, late, j.then.steps, at, count[1] * count[2])
            else:
                for y in range(count[1]):
                    finish_from(&j.then, late, j.then.steps, at + y * p.target[2], count[2])
        plane += 1


cdef void dot_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    cdef const job_t* j = <const job_t*>job
    cdef ptrdiff_t shares = (j.units + j.share - 1) // j.share, chunk = task // shares, first = task % shares * j.share
    j.kernel.dot(j.plan, j.source, j.w, <char*>j.target + chunk * j.chunk_bytes, j.items * chunk // j.chunks,
                 j.items * (chunk + 1) // j.chunks, first, min(j.units, first + j.share),
                 j.memory + worker * j.memory_bytes)


cdef void add_chunks(floating* target, const floating* parts, ptrdiff_t n, ptrdiff_t chunks) noexcept nogil:
    """target = the sum of ``chunks`` arrays of n elements, one after the other."""
    cdef ptrdiff_t c, i
    for i in range(n):
        target[i] = parts[i]
    for c in range(1, chunks):
        for i in range(n):
            target[i] += parts[c * n + i]


cdef class Depthwise:
    """A planned forward pass, input gradient (``sum``) or weight gradient (``dot``).

    ``variant`` names a row of the registry. Sizes and steps are three per name, as in depthwise.h; ``phases`` are
    ``(start, step, count, offsets, weights)``; ``work`` is what one image costs, for sharing among threads.
    """

    cdef ck_depthwise plan
    cdef const ck_depthwise_row* kernel
    cdef object _keep        # the arrays that the C structs point into
    cdef int itemsize
    cdef object dtype
    cdef double work
    cdef readonly str variant

    def __init__(self, dtype, isa, str variant, ptrdiff_t groups, ptrdiff_t planes, ptrdiff_t filters, source, target,
                 lo, source_step, dilation, block, blocks, box, ptrdiff_t plane_pitch, bint in_place, bint flat,
                 w_steps, bint reversed, phases, ptrdiff_t slab, double work):
        cdef ck_depthwise* p = &self.plan
        cdef ptrdiff_t i
        self.itemsize, self.dtype = dtype.itemsize, dtype
        self.kernel = ck_depthwise_rows_for(level_of(isa), self.itemsize)
        while self.kernel.name != NULL and self.kernel.name.decode() != variant:
            self.kernel += 1
        if self.kernel.name == NULL:
            raise ValueError(f"there is no depthwise kernel {variant!r} at level {isa}")
        self.variant = variant
        p.groups, p.planes, p.filters, p.lanes = groups, planes, filters, self.kernel.lanes
        for i in range(3):
            p.source[i], p.target[i], p.lo[i], p.source_step[i] = source[i], target[i], lo[i], source_step[i]
            p.dilation[i], p.block[i], p.blocks[i], p.box[i] = dilation[i], block[i], blocks[i], box[i]
        p.plane_pitch, p.in_place, p.flat = plane_pitch, in_place, flat
        p.w_group, p.w_filter, p.w_plane = w_steps
        p.reversed = reversed
        p.slab = slab
        self.work = work
        p.phases = len(phases)
        self._fill_phases(phases)
        p.end_filter = filters
        p.w_packed = filters * sum([len(taps) for *_, taps, _ in phases])
        p.sums = max([len(taps) for *_, taps, _ in phases], default=0) * (filters if self.kernel.filters > 1 else 1)
        if p.lanes > 1:
            p.w_packed = (p.w_group + 1) * p.lanes
            self._fill_places()

    cdef _fill_phases(self, phases):
        cdef ptrdiff_t i, a
        table = np.zeros(max(1, len(phases)) * sizeof(ck_depthwise_phase), np.uint8)
        cdef unsigned char[::1] memory = table
        cdef ck_depthwise_phase* f = <ck_depthwise_phase*>&memory[0]
        cdef ptrdiff_t[::1] offset, weight, row
        self.plan.phase = f
        self._keep = [table]
        for i, (start, step, count, across, offsets, weights, rows) in enumerate(phases):
            for a in range(3):
                f[i].start[a], f[i].step[a], f[i].count[a] = start[a], step[a], count[a]
            offset, weight = np.array(offsets, np.intp) * self.plan.lanes, np.array(weights, np.intp)
            row = np.array(rows, np.intp)
            f[i].taps, f[i].across, f[i].offset, f[i].weight = offset.shape[0], across, &offset[0], &weight[0]
            f[i].row = &row[0]
            self._keep.append((offset, weight, row))

    cdef _fill_places(self):
        """Where pixels of the source go in the box, whose rows have zeros on both sides, and pixels side by side."""
        cdef ck_depthwise* p = &self.plan
        cdef ptrdiff_t i, k
        rows, columns = np.divmod(np.arange(p.box[1] * p.source[2]), p.source[2])
        cdef ptrdiff_t[::1] place = (rows * p.box[2] + columns + max(0, p.lo[2])) * p.lanes
        cdef ptrdiff_t[::1] dense = np.arange(max(p.phase.taps, p.block[1] * p.target[2], p.w_group)) * p.lanes
        # weights in the order of the phases' tables; those of no phase come last
        order = [p.phase[i].weight[k] for i in range(p.phases) for k in range(p.phase[i].taps)]
        order += sorted(set(range(p.w_group)) - set(order))
        cdef ptrdiff_t[::1] place_tap = np.argsort(order).astype(np.intp) * p.lanes
        p.place, p.place_tap, p.dense = &place[0], &place_tap[0], &dense[0]
        self._keep.append((place, place_tap, dense))

    @property
    def workspace_bytes(self):
        """Scratch that each thread of a call uses."""
        return ck_depthwise_scratch(&self.plan, self.itemsize)

    cdef ptrdiff_t _parts(self):
        """Units of one image and block."""
        return (self.plan.groups + self.plan.lanes - 1) // self.plan.lanes

    cdef ptrdiff_t _volume(self, ptrdiff_t* size):
        return size[0] * size[1] * size[2] * self.plan.groups * self.itemsize

    cdef int _start(self, job_t* j, double work, int threads) except -1:
        """Share out j.units; returns the number of threads."""
        cdef double tasks = min(<double>j.units, max(1.0, work / TASK / j.chunks))
        j.plan = &self.plan
        j.kernel = self.kernel
        if j.kernel.filters > 1:  # each task copies the source again
            tasks = min(tasks, max(1.0, work / j.chunks / LONGEST, 4.0 * (threads - 1) / j.chunks))
        if work < SERIAL:
            tasks = 1
        j.share = max(1, <ptrdiff_t>(j.units / max(tasks, 1.0)))
        if threads > tasks * j.chunks * j.parts:
            threads = <int>(tasks * j.chunks * j.parts)
        # whole cache lines, so that threads do not share any
        j.memory_bytes = (ck_depthwise_scratch(&self.plan, self.itemsize) + 127) // 64 * 64
        j.memory = <char*>scratch(j.memory_bytes * threads + j.chunks * j.chunk_bytes)
        return threads

    @property
    def packs(self):
        """Whether ``sum`` reads its weights in an order of its own, made by ``pack``."""
        return self.kernel.pack != NULL

    cdef ptrdiff_t _packed_bytes(self):
        return self._parts() * self.plan.w_packed * self.itemsize

    def pack(self, w not None):
        """The weight array, C-contiguous, for ``sum(..., packed=True)``."""
        packed = aligned_empty(self._packed_bytes() // self.itemsize, self.dtype)
        cdef void* to = writing(packed, self._packed_bytes())
        cdef const void* given = reading(w, self.plan.groups * self.plan.w_group * self.itemsize)
        with nogil:
            self.kernel.pack(&self.plan, given, to)
        return packed

    cdef ptrdiff_t _filter_parts(self, ptrdiff_t n, ptrdiff_t units, int threads):
        """Parts of the filters, each with its own copy of the source, where there are few units for the threads."""
        if threads == 1 or n * self.work < SERIAL or self.plan.lanes > 1:
            return 1
        return max(1, min(self.plan.filters // LEAST_FILTERS, 4 * threads // units))

    cdef int _set_steps(self, job_t* j, ptrdiff_t units) except -1:
        """After how many of the units of an image, and of the filters of one, what follows takes its turn."""
        cdef ptrdiff_t written = max(1, self._volume(self.plan.target) // units)
        j.step = max(1, STEP_BYTES // (FILTERS * written)) * FILTERS
        j.near = max(1, NEAR_BYTES // (self.plan.filters * written))

    def sum(self, source not None, w not None, bias, target not None, ptrdiff_t n, int threads, bint packed=False,
            Finish then=None):
        """Convolve ``n`` images: C-contiguous arrays, ``bias`` one per filter or None, ``w`` made by ``pack``;
        ``then`` is applied to the target of a forward pass.
        """
        if self.kernel.pack != NULL and not packed:
            w, packed = self.pack(w), True
        cdef ck_depthwise* p = &self.plan
        cdef job_t j
        cdef ptrdiff_t target_bytes = n * p.filters * self._volume(p.target)
        j.source = reading(source, n * p.planes * self._volume(p.source))
        j.w = reading(w, self._packed_bytes() if packed else p.groups * p.w_group * self.itemsize)
        j.bias = reading(bias, p.groups * p.filters * self.itemsize)
        j.target = writing(target, target_bytes)
        set_finish(&j.then, then, j.target, target_bytes)
        j.chunks, j.chunk_bytes = 1, 0
        j.units = n * self._parts() * p.blocks[0] * p.blocks[1] * p.blocks[2]
        j.parts = self._filter_parts(n, j.units, threads)
        self._set_steps(&j, j.units // n)
        threads = self._start(&j, n * self.work, threads)
        with nogil:
            parallel_for(sum_task, &j, (j.units + j.share - 1) // j.share * j.parts, threads)
            scratch_done()

    def dot(self, dy not None, x not None, dw not None, ptrdiff_t n, int threads):
        """The weight gradient over ``n`` images: C-contiguous arrays."""
        cdef ck_depthwise* p = &self.plan
        cdef job_t j
        cdef ptrdiff_t shares, elements = p.groups * p.w_group
        cdef void* sums = writing(dw, elements * self.itemsize)
        j.source = reading(dy, n * p.filters * self._volume(p.target))
        j.w = reading(x, n * p.planes * self._volume(p.source))
        j.units = self._parts() * (p.filters * p.planes if self.kernel.filters == 1 else
                                   (p.filters + self.kernel.filters - 1) // self.kernel.filters)
        j.items = n * p.blocks[0] * p.blocks[1] * p.blocks[2]
        j.chunks, j.parts = self._chunks(&j, n * self.work), 1
        j.chunk_bytes = elements * self.itemsize if j.chunks > 1 else 0
        threads = self._start(&j, n * self.work, threads)
        j.target = j.memory + threads * j.memory_bytes if j.chunks > 1 else sums
        shares = (j.units + j.share - 1) // j.share
        with nogil:
            parallel_for(dot_task, &j, shares * j.chunks, threads)
            if j.chunks > 1 and self.itemsize == 4:
                add_chunks(<float*>sums, <float*>j.target, elements, j.chunks)
            elif j.chunks > 1:
                add_chunks(<double*>sums, <double*>j.target, elements, j.chunks)
            scratch_done()

    cdef ptrdiff_t _chunks(self, job_t* j, double work):
        """Parts of the items, by shape alone: tasks enough for many threads, none too long to be interrupted."""
        cdef double wanted = max(64.0 / j.units, work / j.units / LONGEST)
        return max(1, min(j.items, <ptrdiff_t>min(wanted, work / j.units / TASK)))
