#include "base/float32.h"
#include "base/probe.body.h"
#include "base/float64.h"
#include "base/probe.body.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

void CK_FN(ck_probe_copy)(float *to, const float *from, ptrdiff_t n, int past_caches);
void CK_FN(ck_probe_copy)(float *to, const float *from, ptrdiff_t n, int past_caches)
{
#if defined(__SSE__)
    if (past_caches) { /* vectors of any length fill the same buffers of a cache line */
        for (ptrdiff_t i = 0; i < n; i += 16)
            CK_UNROLL for (int j = 0; j < 16; j += 4) _mm_stream_ps(to + i + j, _mm_load_ps(from + i + j));
        _mm_sfence();
        return;
    }
#endif
    (void)past_caches;
    for (ptrdiff_t i = 0; i < n; i += 4 * CK_F32_LANES) {
        ck_f32v v[4];
        CK_UNROLL for (int j = 0; j < 4; j++) v[j] = ck_load_f32(from + i + j * CK_F32_LANES);
        CK_UNROLL for (int j = 0; j < 4; j++) ck_store_f32(to + i + j * CK_F32_LANES, v[j]);
    }
}
