"""Unfolding and folding: PyTorch's columns, any rank by plain loops, and the adjoint identity to the bit."""

from itertools import product

import numpy as np
import oracle
import pytest
from guards import guarded, hostile_memory

import convkit
from convkit import functional as F
from convkit import reference
from convkit.kernels import native
from convkit.verification import same_bits

every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))
# size, kernel, dilation, padding, stride
GEOMETRIES = [((7, 6), 3, 1, 0, 1), ((7, 6), 2, 2, 1, 2), ((5, 40), (3, 4), (1, 3), (2, 0), (2, 3)),
              ((3, 3), 3, 1, 5, 1), ((1, 33), (1, 2), 1, (0, 1), 1), ((9, 9), 1, 1, 0, 4)]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("batched", [True, False])
def test_like_torch(geometry, batched):
    torch = pytest.importorskip("torch")
    size, *window = geometry
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size) if batched else (3, *size))
    leaf = torch.tensor(x, requires_grad=True)
    columns = torch.nn.functional.unfold(leaf, *window)
    dy = rng.normal(size=columns.shape)
    columns.backward(torch.tensor(dy))
    image = torch.nn.functional.fold(torch.tensor(dy), size, *window).numpy()
    for floor in (F, reference):
        np.testing.assert_array_equal(floor.unfold(x, *window), columns.detach().numpy())
        np.testing.assert_allclose(floor.unfold_backward(dy, x.shape, *window), leaf.grad.numpy(), rtol=1e-13)
        np.testing.assert_allclose(floor.fold(dy, size, *window), image, rtol=1e-13)
        np.testing.assert_array_equal(floor.fold_backward(x, *window), columns.detach().numpy())


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(40,), (7, 19), (3, 4, 5)], ids=str)
def test_any_rank_by_plain_loops_and_adjoint_to_the_bit(isa, dtype, size):
    rank = len(size)
    rng = np.random.default_rng(rank)
    for _ in range(8):
        kernel, dilation, stride = (tuple(int(v) for v in rng.integers(1, 4, rank)) for _ in range(3))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 8 if rank == 1 else 4, (rank, 2)))
        window = (kernel, dilation, pads, stride)
        if any((k - 1) * d + 1 > n + sum(p) for n, k, d, p in zip(size, kernel, dilation, pads, strict=True)):
            continue
        x = rng.integers(-9, 10, (2, 2, *size)).astype(dtype)
        with convkit.use(isa=isa):
            y = F.unfold(x, *window)
            dy = rng.integers(-9, 10, y.shape).astype(dtype)
            dx = F.unfold_backward(dy, x.shape, *window)
            np.testing.assert_array_equal(F.fold(dy, size, *window), dx)
        outs = oracle.out_size(size, kernel, stride, pads, dilation)
        want = np.zeros((2, 2, *kernel, *outs))
        for p in np.ndindex(*outs):
            for k, q in oracle.window(p, size, kernel, stride, pads, dilation):
                want[(slice(None), slice(None), *k, *p)] = x[(slice(None), slice(None), *q)]
        np.testing.assert_array_equal(y, want.reshape(y.shape))
        assert (y.astype(float) * dy).sum() == (x.astype(float) * dx).sum()


def test_an_empty_batch():
    assert F.unfold(np.ones((0, 3, 5, 5)), 2).shape == reference.unfold(np.ones((0, 3, 5, 5)), 2).shape == (0, 12, 16)
    assert F.fold(np.ones((0, 12, 16)), 5, 2).shape == reference.fold(np.ones((0, 12, 16)), 5, 2).shape == (0, 3, 5, 5)


@pytest.mark.parametrize("call, message", [
    (lambda: F.unfold(np.ones((1, 1, 4, 4)), 5), r"the window must fit into the padded x, got a window of \(5, 5\) in"),
    (lambda: F.fold(np.ones((1, 10, 9)), 4, 2), r"x must have shape \(\.\.\., C \* 4, 9\) for the windows of output_size"),
    (lambda: F.unfold(np.ones((1, 1, 4, 4)), (1,) * 4), "kernel_size must be an integer or a tuple of 1 to 3 integers"),
])
def test_refusals_say_why(call, message):
    with pytest.raises(convkit.ShapeError, match=message):
        call()


def test_explain_says_what_is_read_and_written():
    for name, x, options, written in [
        ("unfold", (2, 3, 5, 5), {"kernel_size": 3}, 4 * 2 * 27 * 9),
        ("unfold_backward", (2, 3, 5, 5), {"kernel_size": 3}, 4 * 150),
        ("fold", (2, 27, 9), {"output_size": 5, "kernel_size": 3}, 4 * 150),
        ("fold_backward", (2, 27, 9), {"output_size": 5, "kernel_size": 3}, 4 * 2 * 27 * 9),
        ("interpolate", (2, 3, 5, 5), {"scale_factor": 2.0, "mode": "bilinear"}, 4 * 600),
        ("interpolate_backward", (2, 3, 5, 5), {"size": 10}, 4 * 150),
    ]:
        step, = convkit.explain(name, x, **options).steps
        assert step.bytes_written == written
        assert step.algorithm == ("direct" if native.available else "reference")


@every_isa
@pytest.mark.skipif(not native.available, reason="the twin adds to zeros, which takes the sign of -0.0")
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "start"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_windows_that_tile_the_image_only_move_elements(isa, dtype, at_end):
    """Widths around the vectors, in forbidden surroundings; every number with all its bits."""
    rng = np.random.default_rng(0)
    for r, width in product((1, 2, 3, 4, 5), (1, 2, 7, 8, 9, 16, 17, 35)):
        x = rng.standard_normal((2, 2 * r * r, 3, width)).astype(dtype)
        x[0, 0, 0, 0], x[1, -1, -1, -1] = np.nan, -0.0
        want = np.empty((2, 2, 3 * r, width * r), dtype)
        for i, j in np.ndindex(r, r):
            want[:, :, i::r, j::r] = x.reshape(2, 2, r, r, 3, width)[:, :, i, j]
        with convkit.use(isa=isa), hostile_memory(at_end):
            y = F.pixel_shuffle(guarded(x, at_end=at_end), r)
            back = F.pixel_unshuffle(guarded(want, at_end=at_end), r)
            columns = F.unfold(guarded(want, at_end=at_end), r, stride=r)
        assert same_bits(y, want) and same_bits(back, x) and same_bits(columns.reshape(x.shape), x)
        assert np.signbit(y[1, -1, -1, -1]) and np.signbit(back[1, -1, -1, -1])


@every_isa
def test_windows_that_tile_along_three_axes_or_only_along_some(isa):
    x = np.random.default_rng(1).integers(-9, 10, (2, 3, 4, 6, 10)).astype(np.float32)
    for kernel, stride in (((2, 3, 2), (2, 3, 2)), ((1, 2, 5), (1, 2, 5)), ((2, 3, 2), (2, 3, 1)), ((2, 2, 3), (2, 2, 3)),
                           ((1, 1, 3), (1, 1, 2))):  # the last three leave a column over, or are no tiling
        with convkit.use(isa=isa):
            columns = F.unfold(x, kernel, stride=stride)
            back = F.fold(columns, x.shape[2:], kernel, stride=stride)
        np.testing.assert_array_equal(columns, reference.unfold(x, kernel, stride=stride))
        np.testing.assert_array_equal(back, reference.fold(columns, x.shape[2:], kernel, stride=stride))
