/* 12 chains hide the latency of two multiply-add pipes at 4-6 cycles, and fit 16 registers. */
double CK_KERNEL(ck_probe_fma)(ptrdiff_t rounds, double *sink);
double CK_KERNEL(ck_probe_fma)(ptrdiff_t rounds, double *sink)
{
    enum { CHAINS = 12 };
    V acc[CHAINS], x = vset1((T)0.999), y = vset1((T)1e-6);
    CK_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vset1((T)i);
    for (ptrdiff_t r = 0; r < rounds; r++) {
        CK_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vfma(acc[i], x, y);
        CK_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vfma(acc[i], x, y);
    }
    CK_UNROLL for (int i = 0; i < CHAINS; i++) *sink += (double)vsum(acc[i]);
    return 2.0 * 2.0 * CHAINS * (double)L * (double)rounds;
}
