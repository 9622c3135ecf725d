/* Compiled once per dtype by fold.kernel.c. */
#ifndef CK_FOLD_RANGE
#define CK_FOLD_RANGE
/* Positions lo .. hi - 1 of an axis whose tap lies inside the image, which it meets from `at` on: p stride + at. */
typedef struct {
    ptrdiff_t lo, hi, at;
} ck_fold_range;

CK_INLINE ck_fold_range ck_fold_inside(const ck_fold *f, int axis, ptrdiff_t tap)
{
    const ptrdiff_t s = f->stride[axis], out = f->out[axis], at = tap * f->dilation[axis] - f->pad[axis];
    ptrdiff_t lo = at < 0 ? (s - 1 - at) / s : 0, last = f->size[axis] - 1 - at, hi = last < 0 ? 0 : last / s + 1;
    if (hi > out) hi = out;
    if (lo > hi) lo = hi;
    return (ck_fold_range){lo, hi, at};
}

/* Whether the windows tile the image: every element is in one of them. */
CK_INLINE int ck_fold_tiles(const ck_fold *f)
{
    int tiles = 1;
    for (int i = 0; i < 3; i++)
        tiles &= f->pad[i] == 0 && f->stride[i] == f->kernel[i] && (f->dilation[i] == 1 || f->kernel[i] == 1) &&
                 f->out[i] * f->stride[i] == f->size[i];
    return tiles;
}
#endif

CK_INLINE void CK_TYPED(unfold_row)(const T *x, T *y, ck_fold_range r, ptrdiff_t out, ptrdiff_t stride)
{
    memset(y, 0, (size_t)r.lo * sizeof(T));
    if (stride == 1 && r.hi > r.lo)
        memcpy(y + r.lo, x + r.lo + r.at, (size_t)(r.hi - r.lo) * sizeof(T));
    else
        for (ptrdiff_t p = r.lo; p < r.hi; p++) y[p] = x[p * stride + r.at];
    memset(y + r.hi, 0, (size_t)(out - r.hi) * sizeof(T));
}

CK_INLINE void CK_TYPED(fold_row)(const T *y, T *x, ck_fold_range r, ptrdiff_t out, ptrdiff_t stride)
{
    (void)out;
    if (stride == 1)
        for (ptrdiff_t p = r.lo; p < r.hi; p++) x[p + r.at] += y[p];
    else
        for (ptrdiff_t p = r.lo; p < r.hi; p++) x[p * stride + r.at] += y[p];
}

/* One tap of one plane of columns, row by row. */
CK_INLINE void CK_TYPED(unfold_tap)(const ck_fold *f, const T *x, T *y, const ck_fold_range r[3])
{
    const ptrdiff_t out = f->out[2];
    for (ptrdiff_t d = 0; d < f->out[0]; d++)
        for (ptrdiff_t h = 0; h < f->out[1]; h++, y += out) {
            if (d < r[0].lo || d >= r[0].hi || h < r[1].lo || h >= r[1].hi)
                memset(y, 0, (size_t)out * sizeof(T));
            else {
                ptrdiff_t line = (d * f->stride[0] + r[0].at) * f->size[1] + h * f->stride[1] + r[1].at;
                CK_TYPED(unfold_row)(x + line * f->size[2], y, r[2], out, f->stride[2]);
            }
        }
}

CK_INLINE void CK_TYPED(fold_tap)(const ck_fold *f, const T *y, T *x, const ck_fold_range r[3])
{
    for (ptrdiff_t d = r[0].lo; d < r[0].hi; d++)
        for (ptrdiff_t h = r[1].lo; h < r[1].hi; h++) {
            ptrdiff_t line = (d * f->stride[0] + r[0].at) * f->size[1] + h * f->stride[1] + r[1].at;
            CK_TYPED(fold_row)(y + (d * f->out[1] + h) * f->out[2], x + line * f->size[2], r[2], f->out[2],
                               f->stride[2]);
        }
}

/* A row of an image, r elements of each of n windows, and the r rows of columns, `apart`, that they stand in. Whatever else
 * compilers would make of r known in advance takes up to 28 KB. */
CK_INLINE void CK_TYPED(weave)(T *x, const T *y, ptrdiff_t apart, ptrdiff_t n, ptrdiff_t r)
{
    ptrdiff_t p = 0;
    for (; r == 2 && n - p >= L; p += L, x += 2 * L) {
        const V even = vload(y + p), odd = vload(y + apart + p);
        vstore(x, vziplo(even, odd));
        vstore(x + L, vziphi(even, odd));
    }
    for (; r == 3 && p < n; p++, x += 3) {
        const T first = y[p], second = y[apart + p], third = y[2 * apart + p];
        x[0] = first, x[1] = second, x[2] = third;
        __asm__ volatile("");
    }
    for (; p < n; p++)
        for (ptrdiff_t c = 0; c < r; c++) *x++ = y[c * apart + p];
}

CK_INLINE void CK_TYPED(take_apart)(const T *x, T *y, ptrdiff_t apart, ptrdiff_t n, ptrdiff_t r)
{
    ptrdiff_t p = 0;
    for (; r == 2 && n - p >= L; p += L, x += 2 * L) {
        const V low = vload(x), high = vload(x + L);
        vstore(y + p, veven(low, high));
        vstore(y + apart + p, vodd(low, high));
    }
    for (; r == 3 && p < n; p++, x += 3) {
        const T first = x[0], second = x[1], third = x[2];
        y[p] = first, y[apart + p] = second, y[2 * apart + p] = third;
        __asm__ volatile("");
    }
    for (; p < n; p++)
        for (ptrdiff_t c = 0; c < r; c++) y[c * apart + p] = *x++;
}

/* Whole planes whose windows tile them: x is read or written once, row after row. */
#define CK_TILES(name, row, X, Y)                                                                                      \
    CK_NOINLINE void CK_TYPED(name)(const ck_fold *f, X *x, Y *y, ptrdiff_t planes)                                    \
    {                                                                                                                  \
        const ptrdiff_t *k = f->kernel, *out = f->out, apart = out[0] * out[1] * out[2];                               \
        for (; planes > 0; planes--, y += k[0] * k[1] * k[2] * apart)                                                  \
            for (ptrdiff_t d = 0; d < f->size[0]; d++)                                                                 \
                for (ptrdiff_t h = 0; h < f->size[1]; h++, x += f->size[2]) {                                          \
                    const ptrdiff_t tap = (d % k[0] * k[1] + h % k[1]) * k[2], line = d / k[0] * out[1] + h / k[1];    \
                    CK_TYPED(row)(x, y + tap * apart + line * out[2], apart, out[2], k[2]);                            \
                }                                                                                                      \
    }
CK_TILES(unfold_tiles, take_apart, const T, T)
CK_TILES(fold_tiles, weave, T, const T)
#undef CK_TILES

#define CK_EACH_TAP(f)                                                                                                 \
    for (ptrdiff_t a = 0; a < (f)->kernel[0]; a++)                                                                     \
        for (ptrdiff_t b = 0; b < (f)->kernel[1]; b++)                                                                 \
            for (ptrdiff_t c = 0; c < (f)->kernel[2]; c++)

CK_INLINE ptrdiff_t CK_TYPED(product)(const ptrdiff_t n[3]) { return n[0] * n[1] * n[2]; }

static void CK_TYPED(unfold)(const ck_fold *f, const void *from, void *to, ptrdiff_t plane, ptrdiff_t planes)
{
    const ptrdiff_t pixels = CK_TYPED(product)(f->size), windows = CK_TYPED(product)(f->out);
    T *y = (T *)to + plane * CK_TYPED(product)(f->kernel) * windows;
    const T *x = (const T *)from + plane * pixels;
    if (ck_fold_tiles(f)) {
        CK_TYPED(unfold_tiles)(f, x, y, planes);
        return;
    }
    for (; planes > 0; planes--, x += pixels) CK_EACH_TAP(f)
        {
            const ck_fold_range r[3] = {ck_fold_inside(f, 0, a), ck_fold_inside(f, 1, b), ck_fold_inside(f, 2, c)};
            CK_TYPED(unfold_tap)(f, x, y, r);
            y += windows;
        }
}

static void CK_TYPED(fold)(const ck_fold *f, const void *from, void *to, ptrdiff_t plane, ptrdiff_t planes)
{
    const ptrdiff_t pixels = CK_TYPED(product)(f->size), windows = CK_TYPED(product)(f->out);
    const T *y = (const T *)from + plane * CK_TYPED(product)(f->kernel) * windows;
    T *x = (T *)to + plane * pixels;
    if (ck_fold_tiles(f)) {
        CK_TYPED(fold_tiles)(f, x, y, planes);
        return;
    }
    for (; planes > 0; planes--, x += pixels) {
        memset(x, 0, (size_t)pixels * sizeof(T));
        CK_EACH_TAP(f)
        {
            const ck_fold_range r[3] = {ck_fold_inside(f, 0, a), ck_fold_inside(f, 1, b), ck_fold_inside(f, 2, c)};
            CK_TYPED(fold_tap)(f, y, x, r);
            y += windows;
        }
    }
}
#undef CK_EACH_TAP

#define CK_FOLD_ROW(name) CK_TYPED(name),
extern const ck_fold_kernel CK_KERNEL(ck_fold)[];
const ck_fold_kernel CK_KERNEL(ck_fold)[] = {
#include "fold/kernels.def"
};
#undef CK_FOLD_ROW
