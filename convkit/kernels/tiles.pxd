# The tiles of csrc/conv as every module that sums with them declares them.

from convkit.kernels.elementwise cimport ck_finish

cdef extern from "conv/conv.h" nogil:
    ctypedef struct ck_conv_tile:
        const void* x
        const ptrdiff_t* off
        ptrdiff_t taps
        ptrdiff_t x_step
        ptrdiff_t x_half
        ptrdiff_t y_half
        const void* w
        const void* bias
        void* y
        ptrdiff_t y_pixel
        ptrdiff_t y_filter
        ptrdiff_t filters
        const void* ahead
        const void* ahead_end
        ptrdiff_t ahead_step
        int accumulate
        const void* row_bias
        const ck_finish* finish
    ctypedef struct ck_conv_piece:
        ptrdiff_t to
        ptrdiff_t source
        ptrdiff_t n
    ctypedef struct ck_conv_fill:
        const void* x
        ptrdiff_t plane
        ptrdiff_t step
        void* panels
        ptrdiff_t channel_step
        ptrdiff_t channels
        const ck_conv_piece* piece
        ptrdiff_t pieces
    int CK_CONV_VECTORS
    enum: CK_CONV_STEPPED, CK_CONV_TOGETHER, CK_CONV_CHUNK, CK_CONV_CHUNKS, CK_CONV_PIXELS
    ctypedef struct ck_conv_grid:
        ptrdiff_t panels
        ptrdiff_t rows
        ptrdiff_t runs
        ptrdiff_t w_panel
        ptrdiff_t y_panel
        ptrdiff_t x_row
        ptrdiff_t y_row
        ptrdiff_t ahead_panel
        ptrdiff_t ahead_run
        int by_chunk
    ctypedef struct ck_conv_table:
        ptrdiff_t lanes
        int most_pixels[4]
        int grids
        void run(const ck_conv_tile* tile, int pixels, int vectors) noexcept nogil
        void run_together(const ck_conv_tile* tile, const int* pixels, ptrdiff_t n, int vectors) noexcept nogil
        void run_grid(const ck_conv_tile* tile, int pixels, int vectors, const ck_conv_grid* grid) noexcept nogil
        void add(void* to, const void* more, ptrdiff_t n, int start) noexcept nogil
        void store(const ck_conv_tile* tile, const void* sum, ptrdiff_t pixels, int vectors) noexcept nogil
        void transpose(const void* src, ptrdiff_t src_row, void* dst, ptrdiff_t dst_row, ptrdiff_t rows,
                       ptrdiff_t columns) noexcept nogil
        void fill(const ck_conv_fill* job) noexcept nogil
        void pad(const void* src, ptrdiff_t src_row, void* dst, ptrdiff_t rows, ptrdiff_t before, ptrdiff_t n,
                 ptrdiff_t after, const void* next) noexcept nogil
        void pad_apart(const void* src, ptrdiff_t src_row, void* dst, ptrdiff_t rows, ptrdiff_t before, ptrdiff_t n,
                       ptrdiff_t after, const void* next) noexcept nogil
        void weave(const void* sums, ptrdiff_t phase, ptrdiff_t row, void* y, ptrdiff_t y_filter, ptrdiff_t filters,
                   ptrdiff_t n) noexcept nogil
        bint all_finite(const void* a, ptrdiff_t n) noexcept nogil
        void spread(const void* sums, ptrdiff_t row, void* y, ptrdiff_t y_filter, ptrdiff_t step, ptrdiff_t filters,
                    ptrdiff_t n) noexcept nogil

ctypedef fused real:
    float
    double


cdef inline ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t to) noexcept nogil:
    return (n + to - 1) // to * to


cdef enum:
    FETCHED_TILES = 8  # of a grid: weights are fetched so many tiles before they are used, some 2,000 cycles


cdef inline void run_rows(const ck_conv_table* tiles, int itemsize, ck_conv_tile* tile, ck_conv_grid* grid,
                          ptrdiff_t columns, ptrdiff_t runs, int height) noexcept nogil:
    """A grid with rows of so many pixels, ``height`` at a time, in runs as even as they can be, first the length of
    which there are more."""
    cdef ptrdiff_t length = columns // runs, longer = columns - length * runs, i, at
    cdef const char* x = <const char*>tile.x
    cdef char* y = <char*>tile.y
    cdef bint more = 2 * longer > runs
    for i in range(2):
        grid.runs = longer if more else runs - longer
        at = 0 if more else longer * (length + 1)
        if grid.runs:
            tile.x, tile.y = x + at * itemsize, y + at * tile.filters * itemsize
            # a line of weights each few taps, all of them in the first grid
            tile.ahead_step = 0 if i else min(<ptrdiff_t>64, itemsize * tile.filters // (grid.rows * grid.runs) + 1)
            tiles.run_grid(tile, <int>(length + more) * height, <int>(tile.filters // tiles.lanes), grid)
        more = not more
    tile.x, tile.y = x, y
