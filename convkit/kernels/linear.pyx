"""Matrix products for linear layers, on the tiles of convolution: a linear layer is a 1x1 convolution of one pixel.

    c[i][j] = bias[j] + sum over k of a[i][k] * b[k][j]

A tile reads ``b`` in panels ``[panel][k][panel lanes]``, which a prediction packs once for all calls. A training step
meets every weight once: the task packs the panels that it needs where they stay in its core's cache. ``a`` has k
outermost, because the tile reads neighbouring rows of one k. A single row, which waits for nothing but packed panels,
has a kernel that reads several at a time, and the gradient of a few rows one that takes the weights as they lie
(csrc/linear).
"""

from libc.string cimport memcpy, memset

from convkit.kernels.conv cimport tiles_of
from convkit.kernels.operands cimport reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport CK_CONV_TOGETHER, ck_conv_table, ck_conv_tile, round_up

from convkit.kernels.operands import aligned_empty

cdef extern from "linear/linear.h" nogil:
    ctypedef struct ck_linear_row:
        const void* x
        const void* panels
        const void* bias
        void* y
        ptrdiff_t depth, columns
        int vectors
    ctypedef void (*ck_linear_kernel)(const ck_linear_row* row, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    ctypedef struct ck_linear_rows:
        const void* x
        const void* w
        void* y
        ptrdiff_t rows, depth, columns
    ctypedef void (*ck_linear_rows_kernel)(const ck_linear_rows* rows, ptrdiff_t first, ptrdiff_t count) noexcept nogil
    int CK_LINEAR_STREAMS, CK_LINEAR_ROWS, CK_LINEAR_SUMS
    ck_linear_kernel ck_linear_for(int level, int itemsize)
    ck_linear_rows_kernel ck_linear_rows_for(int level, int itemsize)

cdef enum:
    MIN_MACS = 1_000_000
    NEAR = 1 << 18  # bytes of neighbouring panels that one task packs: whole rows of c, and room in L2

cdef enum:
    IS_PACKED   # the right operand comes from pack_rows,
    IS_COLUMNS  # or is b[k][j],
    IS_ROWS     # or b[j][k], a weight as layers keep it

PACKED, COLUMNS, ROWS = IS_PACKED, IS_COLUMNS, IS_ROWS

# Panels of so few taps stay in L1 whatever the order: then rows are written one after the other.
cdef ptrdiff_t SHORT = 128


cdef struct product_t:
    int itemsize, layout
    const ck_conv_table* table
    ptrdiff_t panel_lanes, most_rows
    ptrdiff_t rows, depth, columns, panels, row_blocks, group
    const char* a            # [row][depth], or [depth][row] when it needs no transposition
    const char* a_t          # [depth][row pitch]
    char* transposed
    ptrdiff_t row_pitch
    const ptrdiff_t* off
    const char* b
    char* packed             # room for a group of panels for each thread
    ptrdiff_t packed_bytes
    const char* bias         # panels, or NULL
    char* c


cdef void transpose_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A block of the depth of a: rows become neighbours."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t first = task * 256, depth = min(<ptrdiff_t>256, p.depth - task * 256)
    p.table.transpose(p.a + first * p.itemsize, p.depth, p.transposed + first * p.row_pitch * p.itemsize, p.row_pitch,
                      p.rows, depth)


cdef inline ptrdiff_t width_of(const product_t* p, ptrdiff_t panel) noexcept nogil:
    """Lanes of a panel, whole vectors."""
    return round_up(min(p.columns - panel * p.panel_lanes, p.panel_lanes), p.table.lanes)


cdef inline void copy_row(char* to, const char* source, ptrdiff_t bytes) noexcept nogil:
    """A few vectors, without a call."""
    cdef ptrdiff_t whole = bytes // 16 * 16, i
    for i in range(0, whole, 16):
        memcpy(to + i, source + i, 16)
    if whole < bytes:
        memcpy(to + whole, source + whole, bytes - whole)


cdef void pack_panel(const product_t* p, ptrdiff_t panel, char* to) noexcept nogil:
    """One panel of b, of either layout; lanes past the last column are zero."""
    cdef ptrdiff_t size = p.itemsize, first = panel * p.panel_lanes, k
    cdef ptrdiff_t n = min(p.columns - first, p.panel_lanes), width = width_of(p, panel)
    if p.layout == IS_ROWS:
        if width > n:
            memset(to, 0, p.depth * width * size)
        p.table.transpose(p.b + first * p.depth * size, p.depth, to, width, n, p.depth)
        return
    for k in range(p.depth):
        copy_row(to + k * width * size, p.b + (k * p.columns + first) * size, n * size)
        if width > n:
            memset(to + (k * width + n) * size, 0, (width - n) * size)


cdef void pack_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A panel in its place among all."""
    cdef const product_t* p = <const product_t*>job
    pack_panel(p, task, p.packed + task * p.panel_lanes * p.depth * p.itemsize)


cdef void multiply_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A group of panels by one block of rows."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t size = p.itemsize, first = task // p.row_blocks * p.group, block = task % p.row_blocks
    cdef ptrdiff_t last = min(first + p.group, p.panels), each = p.panel_lanes * p.depth * size
    cdef ptrdiff_t tiles = (p.rows + p.most_rows - 1) // p.most_rows
    cdef ptrdiff_t i, j, n, end, many, row, panel, width
    cdef const char* b = p.b + first * each
    cdef ck_conv_tile tile
    cdef ck_conv_tile together[CK_CONV_TOGETHER]
    cdef int rows[CK_CONV_TOGETHER]
    if p.layout != IS_PACKED:
        b = p.packed + worker * p.packed_bytes
        for panel in range(first, last):
            pack_panel(p, panel, <char*>b + (panel - first) * each)
    tile.off = p.off
    tile.taps = p.depth
    tile.x_step = 1
    tile.x_half = 0
    tile.bias = NULL
    tile.ahead_end = NULL
    tile.y_pixel = p.columns
    tile.y_filter = 1
    tile.accumulate = 0
    tile.row_bias = NULL
    tile.finish = NULL
    end = tiles * (block + 1) // p.row_blocks
    i = tiles * block // p.row_blocks
    many = CK_CONV_TOGETHER if p.depth > SHORT else 1
    while i < end:
        n = min(many, end - i)
        for panel in range(first, last):
            width = width_of(p, panel)
            tile.w = b + (panel - first) * each
            tile.ahead = <const char*>tile.w + p.depth * width * size
            tile.ahead_step = 0
            if p.layout == IS_PACKED:  # the next panel, each tile a share of it
                tile.ahead_step = min(<ptrdiff_t>64, width * size // n + 1)
            if p.bias != NULL:
                tile.bias = p.bias + panel * p.panel_lanes * size
            tile.filters = min(p.columns - panel * p.panel_lanes, p.panel_lanes)
            for j in range(n):
                row = p.rows * (i + j) // tiles
                tile.x = p.a_t + row * size
                tile.y = p.c + (row * p.columns + panel * p.panel_lanes) * size
                rows[j] = <int>(p.rows * (i + j + 1) // tiles - row)
                if many == 1:
                    p.table.run(&tile, rows[j], <int>(width // p.table.lanes))
                    break
                together[j] = tile
                tile.ahead = <const char*>tile.ahead + p.depth * tile.ahead_step
            if many > 1:
                p.table.run_together(together, rows, n, <int>(width // p.table.lanes))
        i += n


cdef struct row_t:
    ck_linear_row row
    ck_linear_kernel kernel
    ptrdiff_t panels


cdef void multiply_row(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some panels of columns by the only row."""
    cdef const row_t* r = <const row_t*>job
    cdef ptrdiff_t first = task * CK_LINEAR_STREAMS
    r.kernel(&r.row, first, min(<ptrdiff_t>CK_LINEAR_STREAMS, r.panels - first))


cdef struct rows_t:
    ck_linear_rows rows
    ck_linear_rows_kernel kernel
    ptrdiff_t share


cdef void multiply_rows(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some columns by the few rows."""
    cdef const rows_t* r = <const rows_t*>job
    cdef ptrdiff_t first = task * r.share
    r.kernel(&r.rows, first, min(r.share, r.rows.columns - first))


cdef class Product:
    """Products at one level and dtype, in panels of ``vectors`` vectors."""

    cdef const ck_conv_table* table
    cdef object isa, dtype
    cdef ptrdiff_t vectors

    def __init__(self, isa, dtype, ptrdiff_t vectors):
        self.isa, self.dtype, self.vectors = isa, dtype, vectors
        self.table = tiles_of(isa, dtype.itemsize)

    cdef void shape(self, product_t* p, ptrdiff_t depth, ptrdiff_t columns):
        p.itemsize, p.table = self.dtype.itemsize, self.table
        p.panel_lanes = self.vectors * self.table.lanes
        p.depth, p.columns = depth, columns
        p.panels = (columns + p.panel_lanes - 1) // p.panel_lanes

    def pack_rows(self, b not None, int threads):
        """The panels of ``b (columns, depth)``, for ``multiply`` with ``PACKED``."""
        cdef product_t p
        self.shape(&p, b.shape[1], b.shape[0])
        out = aligned_empty(p.depth * round_up(p.columns, self.table.lanes), self.dtype)
        p.layout, p.b, p.packed = IS_ROWS, <const char*>reading(b, b.nbytes), <char*>writing(out, out.nbytes)
        with nogil:
            parallel_for(pack_task, &p, p.panels, threads)
        return out

    def multiply(self, a not None, b not None, int layout, bias, c not None, bint a_is_transposed, int threads):
        """Fill ``c`` with ``a b + bias``; ``a`` is (rows, depth), or (depth, rows) with ``a_is_transposed``."""
        cdef product_t p
        cdef ptrdiff_t i, tiles, each, rows = c.shape[0], a_bytes, bias_bytes
        if rows <= CK_LINEAR_ROWS and layout == IS_COLUMNS and not a_is_transposed:
            self._multiply_rows(a, b, c, threads)
            return
        self.shape(&p, a.shape[0] if a_is_transposed else a.shape[1], c.shape[1])
        p.rows, p.layout = rows, layout
        p.most_rows = p.table.most_pixels[self.vectors - 1]
        # one cache line more where rows of a power of two would meet in a few sets of the L1 cache
        p.row_pitch = rows if a_is_transposed else round_up(rows, 64 // p.itemsize)
        if not a_is_transposed and p.row_pitch * p.itemsize % 2048 == 0:
            p.row_pitch += 64 // p.itemsize
        if rows * p.depth * p.columns < MIN_MACS:
            threads = 1
        tiles = (rows + p.most_rows - 1) // p.most_rows
        each = p.depth * p.panel_lanes * p.itemsize
        p.group, p.row_blocks, p.packed_bytes = 1, 1, 0
        if layout != IS_PACKED:
            p.group = max(<ptrdiff_t>1, min(NEAR // each, p.panels // (4 * threads)))
            p.packed_bytes = round_up(p.group * each, 64)
        elif threads > 1:
            p.row_blocks = min(tiles, max(<ptrdiff_t>1, (4 * threads + p.panels - 1) // p.panels))

        bias_bytes = round_up(p.panels * p.panel_lanes * p.itemsize, 64)
        a_bytes = 0 if a_is_transposed else round_up(p.depth * p.row_pitch * p.itemsize, 64)
        p.a, p.b = <const char*>reading(a, a.nbytes), <const char*>reading(b, b.nbytes)
        p.c = <char*>writing(c, c.nbytes)
        cdef const char* given = <const char*>reading(bias, p.columns * p.itemsize)
        cdef char* memory = <char*>scratch(a_bytes + bias_bytes + p.packed_bytes * threads
                                           + p.depth * <ptrdiff_t>sizeof(ptrdiff_t))
        cdef ptrdiff_t* off = <ptrdiff_t*>(memory + a_bytes + bias_bytes + p.packed_bytes * threads)
        p.transposed = memory
        p.a_t = p.a if a_is_transposed else memory
        p.packed = memory + a_bytes + bias_bytes
        p.off = off
        p.bias = NULL
        if given != NULL:
            p.bias = memory + a_bytes
            memset(memory + a_bytes, 0, bias_bytes)
            memcpy(memory + a_bytes, given, p.columns * p.itemsize)
        if rows == 1 and layout == IS_PACKED:
            self._multiply_row(&p, threads)
            return
        with nogil:
            for i in range(p.depth):
                off[i] = i * p.row_pitch
            if not a_is_transposed:
                parallel_for(transpose_block, &p, (p.depth + 255) // 256, threads)
            parallel_for(multiply_block, &p, (p.panels + p.group - 1) // p.group * p.row_blocks, threads)
            scratch_done()

    cdef int _multiply_rows(self, a, b, c, int threads) except -1:
        """A few rows by weights that are read once, as they lie."""
        cdef rows_t r
        r.rows.rows, r.rows.depth, r.rows.columns = a.shape[0], a.shape[1], c.shape[1]
        r.rows.x, r.rows.w, r.rows.y = reading(a, a.nbytes), reading(b, b.nbytes), writing(c, c.nbytes)
        r.kernel = ck_linear_rows_for(level_of(self.isa), self.dtype.itemsize)
        r.share = CK_LINEAR_SUMS // (r.rows.rows * <int>self.dtype.itemsize) // self.table.lanes * self.table.lanes
        if r.rows.rows * r.rows.depth * r.rows.columns < MIN_MACS:
            threads = 1
        with nogil:
            parallel_for(multiply_rows, &r, (r.rows.columns + r.share - 1) // r.share, threads)
        return 0

    cdef int _multiply_row(self, const product_t* p, int threads) except -1:
        cdef row_t r
        r.row.x, r.row.panels, r.row.bias, r.row.y = p.a, p.b, p.bias, p.c
        r.row.depth, r.row.columns, r.row.vectors = p.depth, p.columns, <int>self.vectors
        r.kernel, r.panels = ck_linear_for(level_of(self.isa), p.itemsize), p.panels
        with nogil:
            parallel_for(multiply_row, &r, (p.panels + CK_LINEAR_STREAMS - 1) // CK_LINEAR_STREAMS, threads)
            scratch_done()
        return 0
