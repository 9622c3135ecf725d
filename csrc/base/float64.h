/* The short names of the SIMD vocabulary for double. No include guard: a kernel file includes this, then its
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

#define T double
#define V ck_f64v
#define TI int64_t
#define VI ck_i64v
#define L CK_F64_LANES
#define CK_TYPED(name) name##_f64
#define CK_KERNEL(name) CK_FN(name##_f64)
#define vload ck_load_f64
#define vstore ck_store_f64
#define vload_part ck_load_part_f64
#define vstore_part ck_store_part_f64
#define VL ck_f64lanes
#define vlanes ck_lanes_f64
#define vload_lanes ck_load_lanes_f64
#define vset1 ck_set1_f64
#define vselect ck_select_f64
#define vfma ck_fma_f64
#define vmax ck_max_f64
#define vmin ck_min_f64
#define vsum ck_sum_f64
#define veven ck_even_f64
#define vodd ck_odd_f64
#define vquick_even ck_quick_even_f64
#define vquick_odd ck_quick_odd_f64
#define vordered ck_ordered_f64
#define vziplo ck_ziplo_f64
#define vziphi ck_ziphi_f64
#define vtranspose ck_transpose_f64
#define WIDE CK_F64_WIDE
#define vwiden ck_widen_f64
