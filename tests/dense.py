"""What the tests of the elementwise, normalisation and softmax kernels share."""

import numpy as np
import pytest

import convkit
from convkit.kernels import native

pytestmark = pytest.mark.skipif(not native.available, reason=str(native.reason))

DTYPES = (np.float32, np.float64)
Wide = np.longdouble  # the oracles' type: what they lose is far below an eps of float64

every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Around the vector widths (2 to 16 lanes), unrolled steps and a few whole blocks.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257)


def wide(a):
    """``a`` in extended precision."""
    return np.asarray(a, Wide)


def worst(got, want, scale):
    """Largest error in units of eps(got.dtype) * scale; 0 where both are equal, so that exact zeros pass."""
    error = np.abs(wide(got) - want)
    unit = (
        np.finfo(got.dtype).eps * wide(np.broadcast_to(scale, error.shape))
        + np.finfo(got.dtype).smallest_subnormal
    )
    return float(np.max(error / unit)) if error.size else 0.0


def layouts(a):
    """The same values as ``a``, each time laid out differently."""
    yield "Fortran", np.asfortranarray(a)
    strided = np.empty((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    strided[..., ::2] = a
    yield "strided", strided[..., ::2]
    yield "reversed", np.ascontiguousarray(a[::-1])[::-1]
    raw = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    yield "unaligned", raw
    yield "byte-swapped", a.astype(a.dtype.newbyteorder())
    frozen = a.copy()
    frozen.setflags(write=False)
    yield "read-only", frozen


def same_bits(compute, *arrays):
    """``compute(*arrays)``, a tuple, is the same at 1, 2 and 3 threads and for any layout of ``arrays``."""
    with convkit.threads(1):
        want = compute(*arrays)
    for n in (2, 3):
        with convkit.threads(n):
            _assert_bits(compute(*arrays), want, f"{n} threads")
    for i, a in enumerate(arrays):
        for name, other in layouts(a):
            _assert_bits(compute(*arrays[:i], other, *arrays[i + 1 :]), want, name)


def _assert_bits(got, want, what):
    for g, w in zip(got, want, strict=True):
        assert g.tobytes() == w.tobytes(), what


def check_gradient(value, gradient, x, rng, step=1e-5, rtol=1e-6):
    """``gradient(dy)`` of ``value(x)`` against central differences along random directions."""
    y = value(x)
    dy = rng.standard_normal(np.shape(y))
    dx = gradient(dy)
    for _ in range(3):
        along = rng.standard_normal(x.shape)
        slope = np.sum(dy * (value(x + step * along) - value(x - step * along))) / (2 * step)
        scale = np.sum(np.abs(dx * along)) + 1e-3
        assert abs(slope - np.sum(dx * along)) <= rtol * scale
