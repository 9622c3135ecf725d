# The tiles of csrc/conv as every module that sums with them declares them.

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
    ctypedef void (*ck_conv_transpose)(const void* src, ptrdiff_t src_row, void* dst, ptrdiff_t dst_row,
                                       ptrdiff_t rows, ptrdiff_t columns) noexcept nogil
    int CK_CONV_VECTORS, CK_CONV_PIXELS
    ctypedef struct ck_conv_table:
        ptrdiff_t lanes
        ck_conv_transpose transpose
        ck_conv_kernel kernel[4][16]
    const ck_conv_table* ck_conv_table_for(int level, int itemsize)

ctypedef fused real:
    float
    double


cdef inline ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t to) noexcept nogil:
    return (n + to - 1) // to * to
