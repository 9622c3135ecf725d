"""Matrix products for linear layers, on the tiles of convolution: a linear layer is a 1x1 convolution of one pixel.

    c[i][j] = bias[j] + sum over k of a[i][k] * b[k][j]

A tile reads ``b`` in panels ``[panel][k][panel lanes]``, which a prediction packs once for all calls. A training step
meets every weight once: small ones are packed for it; of large ones ``a`` becomes the panels, and the tiles go along
rows of weights as memory has them; for a gradient the task packs what it needs where it stays near. Rows of ``a`` are
read as they lie. Where csrc/linear has a kernel for a chunk of a panel, a batch takes that, and where it has tiles for
weights that come from memory, those. A single row, which waits for nothing but packed panels, has a kernel that reads
several at a time, and the gradient of a few rows one that takes the weights as they lie (csrc/linear).
"""

from libc.string cimport memcpy, memset

from convkit.kernels.conv cimport tiles_of
from convkit.kernels.operands cimport length_of, nbytes_of, reading, writing
from convkit.kernels.runtime cimport level_of, parallel_for, scratch, scratch_done
from convkit.kernels.tiles cimport (
    CK_CONV_CHUNK, CK_CONV_CHUNKS, CK_CONV_PIXELS, CK_CONV_TOGETHER, ck_conv_table, ck_conv_tile, real, round_up,
)

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
    ctypedef struct ck_linear_tiles:
        const void* x
        ptrdiff_t tap_step, taps, tiles
        void* w
        const void* source
        ptrdiff_t source_step, columns
        const void* sum
        const void* total
        void* to
        const char* ahead
        ptrdiff_t ahead_rows, ahead_lines, ahead_step
    ctypedef void (*ck_linear_tiles_kernel)(const ck_linear_tiles* job) noexcept nogil
    ck_linear_tiles_kernel ck_linear_tiles_for(int level, int itemsize)
    ctypedef struct ck_linear_panel:
        const void* a
        const void* w
        const void* bias
        void* c
        ptrdiff_t a_row, a_tap, w_tap
        ptrdiff_t c_row, rows, columns, taps
        int vectors, add
    ctypedef void (*ck_linear_panel_kernel)(const ck_linear_panel* job) noexcept nogil
    enum: CK_LINEAR_PAIR
    ck_linear_panel_kernel ck_linear_panel_for(int level, int itemsize)
    int CK_LINEAR_STREAMS, CK_LINEAR_ROWS, CK_LINEAR_SUMS, CK_LINEAR_HIGH, CK_LINEAR_WIDE
    ck_linear_kernel ck_linear_for(int level, int itemsize)
    ck_linear_rows_kernel ck_linear_rows_for(int level, int itemsize)

cdef extern from *:
    void __builtin_prefetch(const void* address, int written, int level) noexcept nogil

cdef enum:
    MIN_MACS = 1_000_000
    SMALL = 1 << 18   # bytes of weights that are packed for one use: so they stay in L2,
    MEDIUM = 1 << 21  # or the kernel of a chunk is that much faster
    NEAR = 1 << 19    # bytes of neighbouring panels that one task packs: long rows of weights and of c
    TRANSPOSED = 64   # elements of a row at a time
    COPIED = 8        # rows at a time
    TOGETHER = 16     # panels that a chunk of the depth meets before the next chunk
    SHORT_RUN = 8192  # bytes of sums of a few rows, where longer runs of weights were not measured (16-byte vectors)
    MOST_STREAMS = 8  # rows that a tile reads side by side where each takes a register, or they meet in a set of L1
    ROWS_NEAR = 96    # rows that a panel is taken through before the next one
    AS_THEY_LIE = 24  # rows, at most, for which panels of columns are not copied
    MEETING = 256     # bytes: rows a multiple of them apart share so few sets of L1 that a chunk of them does not stay

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
    ptrdiff_t first, taps    # of the depth, the part that is being added to c
    ptrdiff_t first_chunk
    const char* a            # a[row * row_step + k * tap_step]
    ptrdiff_t row_step, tap_step
    const ptrdiff_t* off
    const char* b
    char* packed             # room for a group of panels for each thread
    ptrdiff_t packed_bytes
    const char* bias         # panels, or NULL
    char* c
    ptrdiff_t y_row, y_column
    ck_linear_tiles_kernel tiles
    ck_linear_panel_kernel panel_kernel  # or NULL: the tiles of csrc/conv


cdef inline void fetch(const char* rows, ptrdiff_t pitch, ptrdiff_t n, ptrdiff_t bytes) noexcept nogil:
    """The lines of some rows of weights, which memory would bring one page after the other."""
    cdef ptrdiff_t i, j
    for i in range(n):
        for j in range((bytes + 63) // 64):
            __builtin_prefetch(rows + i * pitch + 64 * j, 0, 2)


cdef void transpose_rows(const product_t* p, const char* rows, ptrdiff_t n, ptrdiff_t length, char* to,
                         ptrdiff_t pitch) noexcept nogil:
    """The first ``length`` elements of ``n`` rows of the depth become neighbours: a few rows and cache lines at a time,
    because rows a power of two apart share a set of L1, which holds eight."""
    cdef ptrdiff_t size = p.itemsize, i, count, last, k = 0
    while k < length:
        i = 0
        while i < n:
            count, last = min(n - i, p.table.lanes), min(<ptrdiff_t>TRANSPOSED, length - k)
            fetch(rows + (i * p.depth + k + 2 * TRANSPOSED) * size, p.depth * size, count, last * size)
            p.table.transpose(rows + (i * p.depth + k) * size, p.depth, to + (k * pitch + i) * size, pitch, count, last)
            i += count
        k += TRANSPOSED


cdef void transpose_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A block of the depth of a."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t first = task * 256, depth = min(<ptrdiff_t>256, p.depth - task * 256)
    transpose_rows(p, p.a + first * p.itemsize, p.rows, depth, p.packed + first * p.tap_step * p.itemsize, p.tap_step)


cdef inline ptrdiff_t width_of(const product_t* p, ptrdiff_t panel) noexcept nogil:
    """Lanes of a panel, whole vectors."""
    return round_up(min(p.columns - panel * p.panel_lanes, p.panel_lanes), p.table.lanes)


cdef void pack_panel(const product_t* p, ptrdiff_t panel, char* to) noexcept nogil:
    """One panel of rows of b; lanes past the last column are zero."""
    cdef ptrdiff_t size = p.itemsize, first = panel * p.panel_lanes
    cdef ptrdiff_t n = min(p.columns - first, p.panel_lanes), width = width_of(p, panel)
    if width > n:
        memset(to, 0, p.depth * width * size)
    transpose_rows(p, p.b + first * p.depth * size, n, p.depth, to, width)


cdef void pack_columns(const product_t* p, ptrdiff_t first, ptrdiff_t last, char* to) noexcept nogil:
    """Some panels of columns of b, the taps of p: a few rows at a time, as long as the panels are wide together."""
    cdef ptrdiff_t size = p.itemsize, each = p.panel_lanes * p.taps * size, panel, n, width, rows, k = 0
    cdef ptrdiff_t bytes = (min(last * p.panel_lanes, p.columns) - first * p.panel_lanes) * size
    cdef const char* source = p.b + (p.first * p.columns + first * p.panel_lanes) * size
    while k < p.taps:
        rows = min(<ptrdiff_t>COPIED, p.taps - k)
        fetch(source + (k + COPIED) * p.columns * size, p.columns * size, rows, bytes)
        for panel in range(first, last):
            n, width = min(p.columns - panel * p.panel_lanes, p.panel_lanes), width_of(p, panel)
            p.table.pad(source + (k * p.columns + (panel - first) * p.panel_lanes) * size, p.columns,
                        to + (panel - first) * each + k * width * size, rows, 0, n, width - n, NULL)
        k += rows


cdef void pack_task(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A panel in its place among all."""
    cdef const product_t* p = <const product_t*>job
    pack_panel(p, task, p.packed + task * p.panel_lanes * p.depth * p.itemsize)


cdef ptrdiff_t blocks_of(ptrdiff_t depth) noexcept nogil:
    """Parts of the depth that are added to c one after the other: rows of a and a panel of b stay near for as long as
    one is taken through the other. A part is what the tile closes together, so that c gets the same bits."""
    cdef ptrdiff_t chunks = (depth + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK
    if CK_CONV_CHUNKS * (CK_CONV_CHUNK - depth // chunks) >= CK_CONV_CHUNK:
        return 1  # a part of so short chunks would be cut into others
    return (chunks + CK_CONV_CHUNKS - 1) // CK_CONV_CHUNKS


cdef ptrdiff_t chunk_start(ptrdiff_t depth, ptrdiff_t chunk) noexcept nogil:
    """First tap of a chunk; they are as even as they can be, the longer ones last."""
    cdef ptrdiff_t chunks = (depth + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK
    return chunk * (depth // chunks) + max(<ptrdiff_t>0, chunk - chunks + depth % chunks)


cdef ptrdiff_t block_start(ptrdiff_t depth, ptrdiff_t block) noexcept nogil:
    """First tap of a part."""
    cdef ptrdiff_t chunks = (depth + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK
    return chunk_start(depth, min(block * CK_CONV_CHUNKS, chunks) if block < blocks_of(depth) else chunks)


cdef void multiply_panels(const product_t* p, const char* b, ptrdiff_t first, ptrdiff_t last, ptrdiff_t row,
                          ptrdiff_t end) noexcept nogil:
    """Panels of one width, the first of which is at ``b``, by some rows: many tiles with a panel before the next."""
    cdef ptrdiff_t size = p.itemsize, width = width_of(p, first), lanes = p.panel_lanes
    cdef ptrdiff_t each = lanes * size * (p.depth if p.layout == IS_PACKED else p.taps)
    cdef ptrdiff_t tiles, short, many, i, n, panel, at
    cdef int vectors = <int>(width // p.table.lanes), least
    cdef ck_conv_tile tile
    cdef ck_conv_tile together[CK_CONV_TOGETHER]
    cdef int rows[CK_CONV_TOGETHER]
    i = min(p.table.most_pixels[vectors - 1], p.most_rows)
    tiles = (end - row + i - 1) // i
    least = <int>((end - row) // tiles)
    short = tiles * (least + 1) - (end - row)  # of the tiles, those of the fewest rows
    tile.off = p.off
    tile.taps = p.taps
    tile.x_step = p.row_step
    tile.x_half = 0
    tile.bias = NULL
    tile.ahead_end = NULL
    tile.y_pixel = p.y_row
    tile.y_filter = p.y_column
    tile.accumulate = p.first > 0
    tile.row_bias = NULL
    tile.finish = NULL
    many, at = CK_CONV_TOGETHER if p.depth > SHORT else 1, row
    while tiles:
        n = min(many, tiles)
        for panel in range(first, last):
            tile.w = tile.ahead = b + (panel - first) * each
            tile.ahead_step = 0
            if p.layout == IS_PACKED:  # the next panel, each tile a share of it
                tile.w = <const char*>tile.w + p.first * width * size
                tile.ahead = <const char*>tile.w + p.depth * width * size
                tile.ahead_step = min(<ptrdiff_t>64, width * size // n + 1)
            if p.bias != NULL:
                tile.bias = p.bias + panel * lanes * size
            tile.filters = min(p.columns - panel * lanes, lanes)
            at = row
            for i in range(n):
                tile.x = p.a + (p.first * p.tap_step + at * p.row_step) * size
                tile.y = p.c + (at * p.y_row + panel * lanes * p.y_column) * size
                rows[i] = least + (tiles - i > short)
                at += rows[i]
                if many == 1:
                    p.table.run(&tile, rows[i], vectors)
                    break
                together[i] = tile
                tile.ahead = <const char*>tile.ahead + p.taps * tile.ahead_step
            if many > 1:
                p.table.run_together(together, rows, n, vectors)
        row, tiles = at, tiles - n


cdef void add_rows(real* c, const real* part, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t pitch,
                   ptrdiff_t part_pitch) noexcept nogil:
    cdef ptrdiff_t i, j
    for i in range(rows):
        for j in range(columns):
            c[i * pitch + j] += part[i * part_pitch + j]


cdef void add_part(char* c, const char* part, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t pitch, ptrdiff_t part_pitch,
                   int itemsize) noexcept nogil:
    if itemsize == 4:
        add_rows(<float*>c, <const float*>part, rows, columns, pitch, part_pitch)
    else:
        add_rows(<double*>c, <const double*>part, rows, columns, pitch, part_pitch)


cdef void multiply_chunks(const product_t* p, const char* b, ptrdiff_t step, ptrdiff_t first, ptrdiff_t last,
                          ptrdiff_t row, ptrdiff_t end) noexcept nogil:
    """As above by the kernel of a chunk; rows of the panels are ``step`` elements apart. What the tile closes together
    is summed up in c, and after the first of it in a place of its own, which is then added to c."""
    cdef char[ROWS_NEAR * CK_LINEAR_PAIR * 32] part
    cdef ptrdiff_t size = p.itemsize, lanes = p.panel_lanes, each = lanes, width = width_of(p, first), i, k, panel
    cdef ptrdiff_t chunks = (p.depth + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK
    cdef char* c
    cdef ck_linear_panel job
    if step == width:
        each = lanes * (p.depth if p.layout == IS_PACKED else p.taps)
    if p.layout == IS_PACKED:
        b += p.first * step * size
    job.a_row, job.a_tap, job.w_tap = p.row_step * size, p.tap_step * size, step * size
    job.vectors = <int>(width // p.table.lanes)
    while row < end:
        job.rows = min(<ptrdiff_t>ROWS_NEAR, end - row)
        for panel in range(first, last):
            job.columns = min(p.columns - panel * lanes, lanes)
            c = p.c + (row * p.columns + panel * lanes) * size
            job.c, job.c_row = c, p.columns
            k = p.first
            i = p.first_chunk
            while k < p.first + p.taps:
                job.taps = chunk_start(p.depth, i + 1) - k
                job.a = p.a + (k * p.tap_step + row * p.row_step) * size
                job.w = b + ((panel - first) * each + (k - p.first) * step) * size
                job.add = i % CK_CONV_CHUNKS > 0
                job.bias = NULL
                if i >= CK_CONV_CHUNKS:
                    job.c, job.c_row = part, width
                elif p.bias != NULL and i + 1 == chunks:
                    job.bias = p.bias + panel * lanes * size
                p.panel_kernel(&job)
                k += job.taps
                i += 1
                if job.c == part and (i == chunks or i % CK_CONV_CHUNKS == 0):
                    add_part(c, part, job.rows, job.columns, p.columns, width, p.itemsize)
        row += job.rows


cdef void multiply_block(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """A group of panels by one block of rows; a last panel that is narrower has tiles of its own."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t first = task // p.row_blocks * p.group, block = task % p.row_blocks
    cdef ptrdiff_t last = min(first + p.group, p.panels), narrow = last - (width_of(p, last - 1) < p.panel_lanes)
    cdef ptrdiff_t row = p.rows * block // p.row_blocks, end = p.rows * (block + 1) // p.row_blocks
    cdef ptrdiff_t each = p.panel_lanes * p.itemsize * (p.depth if p.layout == IS_PACKED else p.taps), whole = first
    cdef const char* b = p.b + first * each
    if p.layout != IS_PACKED:
        b = p.packed + worker * p.packed_bytes
        if p.panel_kernel != NULL and end - row <= AS_THEY_LIE:
            whole = max(first, min(last, p.columns // p.panel_lanes))
            multiply_chunks(p, p.b + (p.first * p.columns + first * p.panel_lanes) * p.itemsize, p.columns, first,
                            whole, row, end)
        pack_columns(p, whole, last, <char*>b)
    if p.panel_kernel != NULL:
        if whole < narrow:
            multiply_chunks(p, b, p.panel_lanes, whole, narrow, row, end)
        if narrow < last:
            multiply_chunks(p, b + (narrow - whole) * each, width_of(p, narrow), narrow, last, row, end)
        return
    if first < narrow:
        multiply_panels(p, b, first, narrow, row, end)
    if narrow < last:
        multiply_panels(p, b + (narrow - first) * each, narrow, last, row, end)


cdef void multiply_group(void* job, ptrdiff_t task, int worker) noexcept nogil:
    """Some neighbouring panels by one block of rows, a chunk of the depth at a time: the chunk's numbers and a panel's
    stay in L1, the sums in L2, and the weights of what comes next are fetched meanwhile."""
    cdef const product_t* p = <const product_t*>job
    cdef ptrdiff_t size = p.itemsize, lanes = p.panel_lanes, all_tiles = (p.rows + CK_LINEAR_HIGH - 1) // CK_LINEAR_HIGH
    cdef ptrdiff_t first = task // p.row_blocks * p.group, block = task % p.row_blocks
    cdef ptrdiff_t n = min(p.group, p.panels - first), tile = all_tiles * block // p.row_blocks
    cdef ptrdiff_t chunks = (p.depth + CK_CONV_CHUNK - 1) // CK_CONV_CHUNK, i, j, k
    cdef ck_linear_tiles t
    t.tiles = all_tiles * (block + 1) // p.row_blocks - tile
    cdef ptrdiff_t each = t.tiles * CK_LINEAR_HIGH * lanes * size, copied = CK_CONV_CHUNK * lanes * size
    cdef char* panel = p.packed + worker * p.packed_bytes
    cdef char* sums = panel + copied
    cdef char* totals = sums + n * each
    t.tap_step = p.tap_step
    for i in range(chunks):
        k = chunk_start(p.depth, i)
        t.taps = chunk_start(p.depth, i + 1) - k
        t.x = p.a + (k * p.tap_step + tile * CK_LINEAR_HIGH) * size
        for j in range(n):
            set_weights(p, &t, first, n, j, k, panel)
            t.sum = sums + j * each if i % CK_CONV_CHUNKS else NULL
            t.total, t.to = NULL, sums + j * each
            if chunks > CK_CONV_CHUNKS and (i + 1 == chunks or (i + 1) % CK_CONV_CHUNKS == 0):
                t.to = totals + j * each
                t.total = t.to if i >= CK_CONV_CHUNKS else NULL
            p.tiles(&t)
    if chunks > CK_CONV_CHUNKS:
        sums = totals
    tile *= CK_LINEAR_HIGH
    for i in range(tile, min(p.rows, tile + t.tiles * CK_LINEAR_HIGH)):
        for j in range(n):
            memcpy(p.c + (i * p.columns + (first + j) * lanes) * size, sums + j * each + (i - tile) * lanes * size,
                   min(lanes, p.columns - (first + j) * lanes) * size)


cdef void set_weights(const product_t* p, ck_linear_tiles* t, ptrdiff_t first, ptrdiff_t n, ptrdiff_t j, ptrdiff_t k,
                      char* panel) noexcept nogil:
    """Those of panel ``first + j`` of a group of n, from tap k on, and of what is fetched beside them: of packed ones
    the next panel's, of rows as they lie a share of the next chunk's rows."""
    cdef ptrdiff_t size = p.itemsize, lanes = p.panel_lanes, column = (first + j) * lanes
    t.columns = min(lanes, p.columns - column)
    if p.layout == IS_PACKED:
        t.source_step = width_of(p, first + j)
        t.source = p.b + (column * p.depth + k * t.source_step) * size
        t.ahead_rows, t.ahead_step, t.ahead_lines = 1, 0, (t.taps * lanes * size + 63) // 64
        t.ahead = p.b + (((first + j + 1) * p.depth + k if j + 1 < n else first * p.depth + k + t.taps) * lanes) * size
    else:
        t.source_step, t.source = p.columns, p.b + (k * p.columns + column) * size
        t.ahead_step, t.ahead_lines = p.columns * size, (n * lanes * size + 63) // 64
        t.ahead_rows = t.taps * (j + 1) // n - t.taps * j // n
        t.ahead = p.b + ((k + t.taps + t.taps * j // n) * p.columns + first * lanes) * size
    t.w = panel
    if p.layout == IS_PACKED and t.source_step == lanes:  # as the kernel reads it
        t.w, t.source = <void*>t.source, NULL


cdef void add_blocks(product_t* p, int threads) noexcept nogil:
    """All of the depth, a part at a time."""
    cdef ptrdiff_t i
    for i in range(blocks_of(p.depth)):
        p.first = block_start(p.depth, i)
        p.taps = block_start(p.depth, i + 1) - p.first
        p.first_chunk = i * CK_CONV_CHUNKS
        parallel_for(multiply_block, p, (p.panels + p.group - 1) // p.group * p.row_blocks, threads)


cdef void add_bias(char* c, const char* bias, ptrdiff_t rows, ptrdiff_t columns, int itemsize) noexcept nogil:
    """If there is one, after the sums, as tiles and the kernel of a row do it."""
    if bias != NULL:
        add_part(c, bias, rows, columns, columns, 0, itemsize)


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


def most_vectors(isa, int itemsize):
    """Vectors of a panel up to which a level has the kernel of a chunk; 0 where it has none."""
    return CK_LINEAR_PAIR if ck_linear_panel_for(level_of(isa), itemsize) != NULL else 0


cdef class Product:
    """Products at one level and dtype, in panels of ``vectors`` vectors; where weights are rows that the tiles take as
    they lie, of ``row_vectors`` vectors of rows of ``a``."""

    cdef const ck_conv_table* table
    cdef object dtype
    cdef int itemsize
    cdef ck_linear_kernel row_kernel
    cdef ck_linear_rows_kernel rows_kernel
    cdef ck_linear_tiles_kernel tiles
    cdef ck_linear_panel_kernel panel_kernel
    cdef ptrdiff_t vectors, row_vectors

    def __init__(self, isa, dtype, ptrdiff_t vectors, ptrdiff_t row_vectors=1):
        cdef int level = level_of(isa)
        self.dtype, self.itemsize, self.vectors, self.row_vectors = dtype, dtype.itemsize, vectors, row_vectors
        self.table = tiles_of(isa, self.itemsize)
        self.row_kernel = ck_linear_for(level, self.itemsize)
        self.rows_kernel = ck_linear_rows_for(level, self.itemsize)
        self.tiles = ck_linear_tiles_for(level, self.itemsize) if vectors == CK_LINEAR_WIDE else NULL
        self.panel_kernel = ck_linear_panel_for(level, self.itemsize) if vectors <= CK_LINEAR_PAIR else NULL

    cdef void shape(self, product_t* p, ptrdiff_t depth, ptrdiff_t columns, ptrdiff_t vectors):
        p.itemsize, p.table = self.itemsize, self.table
        p.panel_lanes, p.most_rows = vectors * self.table.lanes, CK_CONV_PIXELS
        p.depth, p.columns = depth, columns
        p.first, p.taps, p.first_chunk, p.panel_kernel = 0, depth, 0, NULL
        p.panels = (columns + p.panel_lanes - 1) // p.panel_lanes

    def pack_rows(self, b not None, int threads):
        """The panels of ``b (columns, depth)``, for ``multiply`` with ``PACKED``."""
        cdef product_t p
        self.shape(&p, b.shape[1], b.shape[0], self.vectors)
        out = aligned_empty(p.depth * round_up(p.columns, self.table.lanes), self.dtype)
        p.layout, p.b, p.packed = IS_ROWS, <const char*>reading(b, b.nbytes), <char*>writing(out, out.nbytes)
        with nogil:
            parallel_for(pack_task, &p, p.panels, threads)
        return out

    def multiply(self, a not None, b not None, int layout, bias, c not None, bint a_is_transposed, int threads):
        """Fill ``c`` with ``a b + bias``; ``a`` is (rows, depth), or (depth, rows) with ``a_is_transposed``."""
        cdef product_t p
        cdef ptrdiff_t i, tiles, blocks, each, rows = length_of(c, 0), a_bytes, bias_bytes
        cdef bint as_it_is
        if layout == IS_ROWS:
            if nbytes_of(b) > (SMALL if self.panel_kernel == NULL else MEDIUM):
                self._multiply_weights(a, b, bias, c, threads)
                return
            b, layout = self.pack_rows(b, threads), IS_PACKED
        if rows <= CK_LINEAR_ROWS and layout == IS_COLUMNS and not a_is_transposed:
            self._multiply_rows(a, b, c, threads)
            return
        if rows > CK_LINEAR_ROWS and self.tiles != NULL and not a_is_transposed:
            self._multiply_tiles(a, b, layout, bias, c, threads)
            return
        self.shape(&p, length_of(a, 0) if a_is_transposed else length_of(a, 1), length_of(c, 1), self.vectors)
        p.rows, p.layout = rows, layout
        p.row_step, p.tap_step, as_it_is = 1, rows, rows * p.itemsize % MEETING != 0
        if not as_it_is:
            p.tap_step += 64 // p.itemsize  # a cache line more
        if not a_is_transposed:
            p.row_step, p.tap_step, as_it_is = p.depth, 1, True
            if p.depth * p.itemsize % 2048 == 0:
                p.most_rows = MOST_STREAMS
        p.y_row, p.y_column = p.columns, 1
        if rows * p.depth * p.columns < MIN_MACS:
            threads = 1
        tiles = (rows + self.table.most_pixels[self.vectors - 1] - 1) // self.table.most_pixels[self.vectors - 1]
        blocks = blocks_of(p.depth)
        each = (p.depth if blocks == 1 else CK_CONV_CHUNK * CK_CONV_CHUNKS) * p.panel_lanes * p.itemsize
        p.panel_kernel = self.panel_kernel
        p.group, p.row_blocks, p.packed_bytes = 1, 1, 0
        if layout != IS_PACKED:
            p.group = max(<ptrdiff_t>1, min(NEAR // each, p.panels // (4 * threads)))
            p.packed_bytes = round_up(p.group * each, 64)
        elif threads > 1:
            p.row_blocks = min(tiles, max(<ptrdiff_t>1, (4 * threads + p.panels - 1) // p.panels))

        bias_bytes = round_up(p.panels * p.panel_lanes * p.itemsize, 64)
        a_bytes = 0 if as_it_is else round_up(p.depth * p.tap_step * p.itemsize, 64)
        cdef const char* given = <const char*>reading(bias, p.columns * p.itemsize)
        cdef char* memory = <char*>scratch(a_bytes + bias_bytes + p.packed_bytes * threads
                                           + p.depth * <ptrdiff_t>sizeof(ptrdiff_t))
        cdef ptrdiff_t* off = <ptrdiff_t*>(memory + a_bytes + bias_bytes + p.packed_bytes * threads)
        p.a, p.packed, p.off = <const char*>reading(a, nbytes_of(a)), memory, off
        p.b, p.c = <const char*>reading(b, nbytes_of(b)), <char*>writing(c, nbytes_of(c))
        p.bias = NULL
        if given != NULL and (rows == 1 or blocks == 1 and (
                p.panel_kernel == NULL or p.depth <= CK_CONV_CHUNK * CK_CONV_CHUNKS)):
            p.bias = memory + a_bytes
            memset(memory + a_bytes, 0, bias_bytes)
            memcpy(memory + a_bytes, given, p.columns * p.itemsize)
        if rows == 1 and layout == IS_PACKED:
            self._multiply_row(&p, threads)
            return
        with nogil:
            for i in range(p.depth):
                off[i] = i * p.tap_step
            if not as_it_is:
                p.table.pad(p.a, rows, memory, p.depth, 0, rows, p.tap_step - rows, NULL)
                p.a = memory
            p.packed = memory + a_bytes + bias_bytes
            add_blocks(&p, threads)
            if p.bias == NULL:
                add_bias(p.c, given, rows, p.columns, p.itemsize)
            scratch_done()

    cdef int _multiply_tiles(self, a, b, int layout, bias, c, int threads) except -1:
        """A batch by packed weights or by rows of them as they lie, on tiles of their own."""
        cdef product_t p
        cdef ptrdiff_t k, tiles, a_bytes, spare
        self.shape(&p, length_of(a, 1), length_of(c, 1), self.vectors)
        p.rows, p.layout, p.tiles = length_of(c, 0), layout, self.tiles
        p.tap_step = round_up(p.rows, 64 // p.itemsize)
        if p.tap_step * p.itemsize % 2048 == 0:
            p.tap_step += 64 // p.itemsize
        if p.rows * p.depth * p.columns < MIN_MACS:
            threads = 1
        tiles = (p.rows + CK_LINEAR_HIGH - 1) // CK_LINEAR_HIGH
        spare = CK_LINEAR_HIGH * tiles - p.rows
        p.packed_bytes = tiles * CK_LINEAR_HIGH * p.panel_lanes * p.itemsize  # the sums of a panel
        p.group = max(<ptrdiff_t>1, min(min(<ptrdiff_t>TOGETHER, NEAR // p.packed_bytes), p.panels // threads))
        p.row_blocks = min(tiles, (threads * p.group + p.panels - 1) // p.panels)
        p.packed_bytes = round_up(2 * p.group * p.packed_bytes + CK_CONV_CHUNK * p.panel_lanes * p.itemsize, 64)
        a_bytes = round_up(p.depth * p.tap_step * p.itemsize, 64)
        cdef char* memory = <char*>scratch(a_bytes + p.packed_bytes * threads)
        cdef const char* given = <const char*>reading(bias, p.columns * p.itemsize)
        p.a, p.packed = <const char*>reading(a, nbytes_of(a)), memory
        p.b, p.c = <const char*>reading(b, nbytes_of(b)), <char*>writing(c, nbytes_of(c))
        with nogil:
            parallel_for(transpose_block, &p, (p.depth + 255) // 256, threads)
            for k in range(p.depth if spare else 0):
                memset(memory + (k * p.tap_step + p.rows) * p.itemsize, 0, spare * p.itemsize)
            p.a, p.packed = memory, memory + a_bytes
            parallel_for(multiply_group, &p, (p.panels + p.group - 1) // p.group * p.row_blocks, threads)
            add_bias(p.c, given, p.rows, p.columns, p.itemsize)
            scratch_done()
        return 0

    cdef int _multiply_weights(self, a, b, bias, c, int threads) except -1:
        """Fill ``c`` with ``a b' + bias`` by weights (columns, depth) as they lie: ``a`` is in the lanes, and a tile
        goes along some rows of weights, which memory has side by side."""
        cdef product_t p
        cdef ptrdiff_t i, tiles, rows = length_of(c, 0), packed_bytes
        self.shape(&p, length_of(b, 1), rows, min(self.row_vectors, (rows + self.table.lanes - 1) // self.table.lanes))
        p.rows, p.layout, p.bias = length_of(c, 1), IS_ROWS, NULL
        p.most_rows = MOST_STREAMS
        p.row_step, p.tap_step, p.y_row, p.y_column = p.depth, 1, 1, p.rows
        if rows * p.depth * p.rows < MIN_MACS:
            threads = 1
        tiles = (p.rows + MOST_STREAMS - 1) // MOST_STREAMS
        p.group, p.row_blocks = p.panels, (tiles + CK_CONV_TOGETHER - 1) // CK_CONV_TOGETHER
        packed_bytes = round_up(p.depth * round_up(rows, self.table.lanes) * p.itemsize, 64)
        cdef char* memory = <char*>scratch(packed_bytes + p.depth * <ptrdiff_t>sizeof(ptrdiff_t))
        cdef ptrdiff_t* off = <ptrdiff_t*>(memory + packed_bytes)
        p.a, p.b, p.packed = <const char*>reading(b, nbytes_of(b)), <const char*>reading(a, nbytes_of(a)), memory
        p.c, p.off = <char*>writing(c, nbytes_of(c)), off
        cdef const char* given = <const char*>reading(bias, p.rows * p.itemsize)
        with nogil:
            for i in range(p.depth):
                off[i] = i
            parallel_for(pack_task, &p, p.panels, threads)
            p.layout, p.b = IS_PACKED, memory
            add_blocks(&p, threads)
            add_bias(p.c, given, rows, p.rows, p.itemsize)
            scratch_done()
        return 0

    cdef int _multiply_rows(self, a, b, c, int threads) except -1:
        """A few rows by weights that are read once, as they lie."""
        cdef rows_t r
        r.rows.rows, r.rows.depth, r.rows.columns = length_of(a, 0), length_of(a, 1), length_of(c, 1)
        r.rows.x, r.rows.w, r.rows.y = reading(a, nbytes_of(a)), reading(b, nbytes_of(b)), writing(c, nbytes_of(c))
        r.kernel = self.rows_kernel
        cdef ptrdiff_t row = r.rows.rows * self.itemsize, lanes = self.table.lanes
        cdef ptrdiff_t most = CK_LINEAR_SUMS if lanes * self.itemsize >= 32 else SHORT_RUN
        most = most // row // lanes * lanes
        if r.rows.rows * r.rows.depth * r.rows.columns < MIN_MACS:
            threads = 1
        cdef ptrdiff_t shares = max(<ptrdiff_t>threads, (r.rows.columns + most - 1) // most)
        r.share = round_up((r.rows.columns + shares - 1) // shares, lanes)
        with nogil:
            parallel_for(multiply_rows, &r, (r.rows.columns + r.share - 1) // r.share, threads)
        return 0

    cdef int _multiply_row(self, const product_t* p, int threads) except -1:
        cdef row_t r
        r.row.x, r.row.panels, r.row.bias, r.row.y = p.a, p.b, p.bias, p.c
        r.row.depth, r.row.columns, r.row.vectors = p.depth, p.columns, <int>self.vectors
        r.kernel, r.panels = self.row_kernel, p.panels
        with nogil:
            parallel_for(multiply_row, &r, (p.panels + CK_LINEAR_STREAMS - 1) // CK_LINEAR_STREAMS, threads)
            scratch_done()
        return 0
