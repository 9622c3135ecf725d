/* The short names of the SIMD vocabulary for float. No include guard: a kernel file includes this, then its
 * body, then the header of the other dtype and its body again. */
#include "base/simd.h"

#undef T
#undef V
#undef VI
#undef TI
#undef L
#undef CK_TYPED
#undef CK_KERNEL
#undef vload
#undef vstore
#undef vload_part
#undef vstore_part
#undef VL
#undef vlanes
#undef vload_lanes
#undef vset1
#undef vselect
#undef vfma
#undef vmax
#undef vmin
#undef vsum
#undef veven
#undef vodd
#undef vquick_even
#undef vquick_odd
#undef vordered
#undef vziplo
#undef vziphi
#undef vtranspose
#undef WIDE
#undef vwiden

#define T float
#define V ck_f32v
#define TI int32_t
#define VI ck_i32v
#define L CK_F32_LANES
#define CK_TYPED(name) name##_f32
#define CK_KERNEL(name) CK_FN(name##_f32)
#define vload ck_load_f32
#define vstore ck_store_f32
#define vload_part ck_load_part_f32
#define vstore_part ck_store_part_f32
#define VL ck_f32lanes
#define vlanes ck_lanes_f32
#define vload_lanes ck_load_lanes_f32
#define vset1 ck_set1_f32
#define vselect ck_select_f32
#define vfma ck_fma_f32
#define vmax ck_max_f32
#define vmin ck_min_f32
#define vsum ck_sum_f32
#define veven ck_even_f32
#define vodd ck_odd_f32
#define vquick_even ck_quick_even_f32
#define vquick_odd ck_quick_odd_f32
#define vordered ck_ordered_f32
#define vziplo ck_ziplo_f32
#define vziphi ck_ziphi_f32
#define vtranspose ck_transpose_f32
#define WIDE CK_F32_WIDE
#define vwiden ck_widen_f32
