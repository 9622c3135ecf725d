# Linear layers sum with the same tiles; the kernels are linked into this module alone.
from convkit.kernels.tiles cimport ck_conv_table

cdef const ck_conv_table* tiles_of(isa, int itemsize) except NULL
