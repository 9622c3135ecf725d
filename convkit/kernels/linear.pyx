"""Matrix products for linear layers, on the tiles of convolution: a linear layer is a 1x1 convolution of one pixel.

    c[i][j] = bias[j] + sum over k of a[i][k] * b[k][j]

``b`` comes as panels ``[panel][k][panel lanes]`` from ``pack_rows`` or ``pack_columns``, ``a`` with k outermost,
because the tile reads neighbouring rows of one k. A task is one block of rows by one panel.
"""

from libc.string cimport memcpy, memset

from convkit.kernels.conv cimport tiles_of
from convkit.kernels.runtime cimport parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport ck_conv_table, ck_conv_tile, real, round_up

from convkit.kernels.runtime import aligned_empty

cdef ptrdiff_t MIN_MACS = 1_000_000


cdef struct product_t:
    int itemsize
    const ck_conv_table* table
    ptrdiff_t vectors, panel_lanes, most_rows
    ptrdiff_t rows, depth, columns, panels, row_blocks
    const char* a            # [row][depth], or [depth][row] when it needs no transposition
    const char* a_t          # [depth][row pitch]
    char* transposed
    ptrdiff_t row_pitch
    const ptrdiff_t* off
    const char* b
    const char* bias         # panels, or NULL
    char* c


cdef void transpose_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A block of the depth of a: rows become neighbours."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t first = task * 256, depth = min(<ptrdiff_t>256, p.depth - task * 256)
    p.table.transpose(p.a + first * p.itemsize, p.depth, p.transposed + first * p.row_pitch * p.itemsize, p.row_pitch,
                      p.rows, depth)


cdef void multiply_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """One panel of columns by one block of rows."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t size = p.itemsize, panel = task // p.row_blocks, block = task % p.row_blocks
    cdef ptrdiff_t column = panel * p.panel_lanes
    cdef ptrdiff_t columns = min(p.columns - column, p.panel_lanes)
    cdef ptrdiff_t vectors = (columns + p.table.lanes - 1) // p.table.lanes
    cdef ptrdiff_t tiles = (p.rows + p.most_rows - 1) // p.most_rows
    cdef ptrdiff_t i, row
    cdef ck_conv_tile tile
    tile.off = p.off
    tile.taps = p.depth
    tile.x_step = 1
    tile.x_half = 0
    tile.w = p.b + column * p.depth * size
    tile.ahead_end = NULL
    tile.ahead = <const char*>tile.w + p.depth * vectors * p.table.lanes * size
    tile.ahead_step = min(<ptrdiff_t>64, vectors * p.table.lanes * size // max(<ptrdiff_t>1, tiles // p.row_blocks) + 1)
    tile.bias = NULL
    if p.bias != NULL:
        tile.bias = p.bias + column * size
    tile.y_pixel = p.columns
    tile.y_filter = 1
    tile.filters = columns
    tile.accumulate = 0
    tile.row_bias = NULL
    for i in range(tiles * block // p.row_blocks, tiles * (block + 1) // p.row_blocks):
        row = p.rows * i // tiles
        tile.x = p.a_t + row * size
        tile.y = p.c + (row * p.columns + column) * size
        p.table.run(&tile, <int>(p.rows * (i + 1) // tiles - row), <int>vectors)


cdef class Panels:
    """The right operand of a product, packed once: ``depth`` by ``columns`` in panels of ``vectors`` vectors."""

    cdef readonly object data, dtype, isa
    cdef readonly ptrdiff_t depth, columns, vectors, lanes

    def __init__(self, dtype, isa, ptrdiff_t depth, ptrdiff_t columns, ptrdiff_t vectors):
        self.dtype, self.isa = dtype, isa
        self.depth, self.columns, self.vectors = depth, columns, vectors
        self.lanes = tiles_of(isa, dtype.itemsize).lanes
        self.data = aligned_empty(depth * round_up(columns, self.lanes), dtype)

    def pack_columns(self, const real[:, ::1] b not None):
        """From ``b[k][j]``: whole pieces of its rows."""
        cdef real[::1] out = self.data
        cdef ptrdiff_t i, first, k, n, width, panel = self.vectors * self.lanes
        cdef ptrdiff_t panels = (self.columns + panel - 1) // panel
        cdef real* to
        with nogil:
            for i in range(panels):
                first = i * panel
                n = min(panel, self.columns - first)
                width = round_up(n, self.lanes)
                to = &out[0] + first * self.depth
                for k in range(self.depth):
                    memcpy(to + k * width, &b[k, first], n * sizeof(real))
                    if width > n:
                        memset(to + k * width + n, 0, (width - n) * sizeof(real))
        return self

    def pack_rows(self, const real[:, ::1] b not None):
        """From ``b[j][k]``, a weight array as layers keep it: transposed."""
        cdef real[::1] out = self.data
        cdef const ck_conv_table* table = tiles_of(self.isa, sizeof(real))
        cdef ptrdiff_t i, first, n, width, panel = self.vectors * self.lanes
        cdef ptrdiff_t panels = (self.columns + panel - 1) // panel
        cdef real* to
        with nogil:
            for i in range(panels):
                first = i * panel
                n = min(panel, self.columns - first)
                width = round_up(n, self.lanes)
                to = &out[0] + first * self.depth
                if width > n:
                    memset(to, 0, self.depth * width * sizeof(real))
                table.transpose(&b[first, 0], self.depth, to, width, n, self.depth)
        return self


def multiply(const real[:, ::1] a not None, Panels b not None, const real[::1] bias, real[:, ::1] c not None,
             bint a_is_transposed, int threads):
    """Fill ``c`` with ``a b + bias``; ``a`` is (rows, depth), or (depth, rows) with ``a_is_transposed``."""
    cdef product_t p
    cdef const real[::1] panels = b.data
    cdef ptrdiff_t i, tiles, lanes = round_up(b.columns, b.lanes)
    p.itemsize = sizeof(real)
    p.table = tiles_of(b.isa, p.itemsize)
    p.vectors, p.panel_lanes = b.vectors, b.vectors * b.lanes
    p.rows, p.depth, p.columns = c.shape[0], b.depth, b.columns
    p.panels = (p.columns + p.panel_lanes - 1) // p.panel_lanes
    p.most_rows = p.table.most_pixels[p.vectors - 1]
    # one cache line more where rows of a power of two would meet in a few sets of the L1 cache
    p.row_pitch = p.rows if a_is_transposed else round_up(p.rows, 64 // <ptrdiff_t>sizeof(real))
    if not a_is_transposed and p.row_pitch * <ptrdiff_t>sizeof(real) % 2048 == 0:
        p.row_pitch += 64 // <ptrdiff_t>sizeof(real)
    if p.rows * p.depth * p.columns < MIN_MACS:
        threads = 1
    tiles = (p.rows + p.most_rows - 1) // p.most_rows
    p.row_blocks = min(tiles, max(<ptrdiff_t>1, (4 * threads + p.panels - 1) // p.panels)) if threads > 1 else 1

    cdef ptrdiff_t a_bytes = 0 if a_is_transposed else round_up(p.depth * p.row_pitch * p.itemsize, 64)
    cdef char* memory = <char*>scratch(a_bytes + lanes * p.itemsize + 64 + p.depth * <ptrdiff_t>sizeof(ptrdiff_t))
    cdef ptrdiff_t* off = <ptrdiff_t*>(memory + a_bytes + round_up(lanes * p.itemsize, 64))
    p.a = <const char*>&a[0, 0]
    p.transposed = memory
    p.a_t = p.a if a_is_transposed else memory
    p.b = <const char*>&panels[0]
    p.c = <char*>&c[0, 0]
    p.off = off
    p.bias = NULL
    if bias is not None:
        p.bias = memory + a_bytes
        memset(memory + a_bytes, 0, lanes * p.itemsize)
        memcpy(memory + a_bytes, <const void*>&bias[0], p.columns * p.itemsize)
    with nogil:
        for i in range(p.depth):
            off[i] = i * p.row_pitch
        if not a_is_transposed:
            parallel_for(transpose_block, &p, (p.depth + 255) // 256, threads)
        parallel_for(multiply_block, &p, p.panels * p.row_blocks, threads)
        scratch_done()
