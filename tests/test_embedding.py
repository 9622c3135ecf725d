"""Embedding: rows of a table and the sums that come back, against PyTorch, exact, and in one order."""

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit import nn, optim, reference
from convkit.kernels import native

every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))


@every_isa
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_like_torch(isa, padding):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for rows, width, shape in ((5, 1, (9,)), (7, 16, (3, 4)), (40, 33, (2, 3, 5)), (9, 8, ()), (3, 100, (300,))):
        weight, indices = rng.normal(size=(rows, width)), np.asarray(rng.integers(0, rows, shape))
        leaf = torch.tensor(weight, requires_grad=True)
        want = torch.nn.functional.embedding(torch.tensor(indices), leaf, padding)
        dy = rng.normal(size=want.shape)
        want.backward(torch.tensor(dy))
        for floor in (F, reference):
            with convkit.use(isa=isa):
                np.testing.assert_array_equal(floor.embedding(indices, weight, padding), want.detach().numpy())
                got = floor.embedding_backward(dy, indices, rows, padding)
            np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-12, atol=1e-13)


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_on_integers_and_adjoint(isa, dtype):
    rng = np.random.default_rng(1)
    for width in (1, 3, 4, 15, 16, 17, 64, 70):
        weight = rng.integers(-9, 10, (11, width)).astype(dtype)
        indices = rng.integers(0, 11, 200).astype((np.uint8, np.int32, ">i8")[width % 3])
        dy = rng.integers(-9, 10, (200, width)).astype(dtype)
        with convkit.use(isa=isa):
            y, dw = F.embedding(indices, weight), F.embedding_backward(dy, indices, 11)
        np.testing.assert_array_equal(dw, reference.embedding_backward(dy, indices, 11))
        assert (y.astype(float) * dy).sum() == (weight.astype(float) * dw).sum()


@every_isa
def test_long_sums_keep_their_digits(isa):
    dy = np.random.default_rng(2).random((100_000, 5)).astype(np.float32)
    with convkit.use(isa=isa):
        dw = F.embedding_backward(dy, np.zeros(100_000, np.int64), 2)
    np.testing.assert_allclose(dw[0], dy.sum(0, dtype=np.float64), rtol=1e-7)
    assert not dw[1].any()


def test_nothing_to_pick():
    none = np.zeros((0, 3), np.int64)
    assert F.embedding(none, np.ones((4, 2))).shape == (0, 3, 2)
    np.testing.assert_array_equal(F.embedding_backward(np.ones((0, 3, 2)), none, 4), np.zeros((4, 2)))
    assert F.embedding_backward(np.ones((0, 3, 2)), none, 0).shape == (0, 2)


def test_layer_learns_all_but_the_padding():
    rng = np.random.default_rng(3)
    net = nn.Sequential(nn.Embedding(6, 4, padding_idx=0, rng=rng, dtype=np.float64), nn.Flatten(),
                        nn.Linear(12, 2, rng=rng, dtype=np.float64))
    table = net[0].weight
    assert not table.data[0].any()
    assert net.state_dict()["0.weight"].shape == (6, 4)
    indices = rng.integers(0, 6, (50, 3))
    indices[0] = 0
    target = (indices[:, 0] > 2).astype(np.int64)
    y, backward = net.forward(indices)
    dy = rng.normal(size=y.shape)
    assert backward(dy) is None
    step, along = 1e-6, rng.normal(size=(6, 4))
    along[0] = 0
    want = (table.grad * along).sum()
    values = []
    for sign in (1, -1):
        table.data[...] += sign * step * along
        values.append((net(indices) * dy).sum())
        table.data[...] -= sign * step * along
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(want, rel=1e-6)
    assert not table.grad[0].any()
    history = convkit.fit(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.05), indices, target, epochs=30,
                          batch_size=10, progress=False, rng=rng)
    assert history.loss[-1] < history.loss[0] / 2
    assert not table.data[0].any()
    table = net.summary((5, 3))
    assert [row.output_shape for row in table.rows] == [(5, 3, 4), (5, 12), (5, 2)]


def test_a_frozen_table_gets_no_gradient():
    layer = nn.Embedding(5, 3)
    layer.weight.requires_grad = False
    y, backward = layer.forward(np.array([1, 2]))
    assert backward(y, need_dx=False) is None
    assert layer.weight.grad is None


@every_isa
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_every_width_at_any_thread_count(isa, dtype):
    rng = np.random.default_rng(0)
    with convkit.use(isa=isa):
        for width in (*range(70), 300):
            weight, indices = rng.standard_normal((9, width)).astype(dtype), rng.integers(0, 9, (4, 200))
            for threads in (1, 2, 3):
                with convkit.threads(threads):
                    np.testing.assert_array_equal(F.embedding(indices, weight), weight[indices])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_number_that_is_no_row_is_found_in_every_call(dtype):
    weight, good = np.ones((7, 200), dtype), np.zeros(2000, np.int64)
    for at, bad in ((0, 7), (1999, -1), (1000, -(2**63)), (1, 2**62)):
        F.embedding(good, weight)
        wrong = good.copy()
        wrong[at] = bad
        with pytest.raises(convkit.ShapeError, match="less than the 7 rows"):
            F.embedding(wrong, weight)
        with pytest.raises(convkit.ShapeError):
            F.embedding(wrong, weight[:, :0])
