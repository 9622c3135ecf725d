"""The twins, called through the public floor, against PyTorch in float64."""

from itertools import product

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit.spec.activation import ACTIVATIONS, FROM_OUTPUT

torch = pytest.importorskip("torch")
T = torch.nn.functional


def leaf(a):
    return torch.tensor(a, requires_grad=True)


def near(got, want, tolerance=1e-10):
    want = want.detach().numpy() if isinstance(want, torch.Tensor) else want
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def data(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "args", [((2, 1), (2, 1), (1, 2), 2), (1, 0, 1, 1), (1, "same", 2, 1), (3, 2, (2, 1), 4)]
)
def test_conv2d(args, batched):
    x, w, b = data((2, 4, 9, 8), (8, 4 // args[3], 3, 2), 8)
    x = x if batched else x[0]
    xt, wt, bt = leaf(x), leaf(w), leaf(b)
    y = T.conv2d(xt, wt, bt, *args)
    near(F.conv2d(x, w, b, *args), y)
    dy, = data(y.shape, seed=1)
    y.backward(torch.tensor(dy))
    for got, want in zip(F.conv2d_backward(dy, x, w, *args), (xt, wt, bt), strict=True):
        near(got, want.grad)
    dx, dw, db = F.conv2d_backward(dy, x, w, *args, needs=(False, True, False))
    assert dx is None
    assert db is None
    near(dw, wt.grad)


@pytest.mark.parametrize(("mode", "name"), [("reflect", "reflect"), ("replicate", "replicate"),
                                            ("circular", "circular"), ("zeros", "constant")])
def test_padding_modes(mode, name):
    x, w = data((2, 4, 9, 8), (6, 4, 3, 3))
    near(F.conv2d(x, w, padding=((1, 2), (0, 3)), stride=2, padding_mode=mode),
         T.conv2d(T.pad(torch.tensor(x), (0, 3, 1, 2), name), torch.tensor(w), stride=2))


POOLS = [dict(zip(("kernel_size", "stride", "padding", "ceil_mode"), values, strict=True))
         for values in product((1, 2, 3, (3, 2)), (None, 1, 2, (3, 4)), (0, 1), (False, True))
         if values[0] != 1 or values[2] == 0]


@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pools(options):
    x, = data((2, 3, 7, 6))
    x[0, 0, 1:4, 2] = np.nan
    x[1] = np.round(x[1])
    for dilation in (1, (2, 1)) if options["kernel_size"] != 1 else (1,):
        xt = leaf(x)
        y, index = T.max_pool2d(xt, **options, dilation=dilation, return_indices=True)
        got, got_index = F.max_pool2d(x, **options, dilation=dilation, return_indices=True)
        near(got, y)
        np.testing.assert_array_equal(got_index, index.numpy())
        dy, = data(y.shape, seed=1)
        y.backward(torch.tensor(dy))
        near(F.max_pool2d_backward(dy, got_index, x.shape), xt.grad)
        low, low_index = F.min_pool2d(-x, **options, dilation=dilation, return_indices=True)
        np.testing.assert_array_equal(low, -got)
        np.testing.assert_array_equal(low_index, got_index)
        near(F.max_pool2d(x[0], **options, dilation=dilation), y[0])
    for include, divisor in product((True, False), (None, 7)):
        xt = leaf(x)
        more = {**options, "count_include_pad": include, "divisor_override": divisor}
        y = T.avg_pool2d(xt, **more)
        near(F.avg_pool2d(x, **more), y)
        dy, = data(y.shape, seed=1)
        y.backward(torch.tensor(dy))
        near(F.avg_pool2d_backward(dy, x.shape, **more), xt.grad)
        near(F.avg_pool2d_backward(dy[0], x.shape[1:], **more), xt.grad[0])


@pytest.mark.parametrize(
    ("ours", "backward", "theirs"),
    [(F.softmax, F.softmax_backward, T.softmax), (F.log_softmax, F.log_softmax_backward, T.log_softmax)],
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(ours, backward, theirs, axis):
    x, dy = data((3, 5, 4), (3, 5, 4))
    xt = leaf(x)
    yt = theirs(xt, axis)
    y = ours(x, axis)
    near(y, yt)
    yt.backward(torch.tensor(dy))
    near(backward(dy, y, axis), xt.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2, 3)])
def test_cross_entropy(reduction, shape):
    logits, = data(shape)
    target = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    for dtype in (np.int64, np.uint8, np.dtype(">i4")):
        lt = leaf(logits)
        loss = T.cross_entropy(lt, torch.tensor(target), reduction=reduction)
        got = F.cross_entropy(logits, target.astype(dtype), reduction=reduction)
        near(got, loss)
        assert got.dtype == np.float64
        dloss, = data(loss.shape, seed=2)
        loss.backward(torch.tensor(dloss))
        near(F.cross_entropy_backward(logits, target.astype(dtype), reduction=reduction, dloss=dloss), lt.grad)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 5), (3, 4, 2, 5)])
def test_batch_norm(training, shape):
    x, w, b, mean, dy = data(shape, 4, 4, 4, shape)
    var = np.random.default_rng(1).uniform(0.5, 2, 4)
    xt, wt, bt = leaf(x), leaf(w), leaf(b)
    mean_t, var_t = torch.tensor(mean), torch.tensor(var)
    y = T.batch_norm(xt, mean_t, var_t, wt, bt, training, 0.3, 1e-3)
    statistics = {} if training else {"mean": mean.copy(), "var": var.copy()}
    near(F.batch_norm(x, mean, var, w, b, training, 0.3, 1e-3), y)
    near(mean, mean_t)
    near(var, var_t)
    y.backward(torch.tensor(dy))
    for got, want in zip(F.batch_norm_backward(dy, x, w, 1e-3, training=training, **statistics), (xt, wt, bt),
                         strict=True):
        near(got, want.grad)
    if training:
        axes = (0, *range(2, x.ndim))
        again = F.batch_norm_backward(dy, x, w, 1e-3, mean=x.mean(axes), var=x.var(axes))
        near(again[0], xt.grad)
        near(F.batch_norm(x, None, None, training=True), T.batch_norm(xt, None, None, training=True))


@pytest.mark.parametrize("shape", [(5,), (6, 5), (2, 3, 5)])
def test_linear(shape):
    x, w, b = data(shape, (4, 5), 4)
    xt, wt, bt = leaf(x), leaf(w), leaf(b)
    y = T.linear(xt, wt, bt)
    near(F.linear(x, w, b), y)
    near(F.linear(x, w), T.linear(xt, wt))
    dy, = data(y.shape, seed=1)
    y.backward(torch.tensor(dy))
    for got, want in zip(F.linear_backward(dy, x, w), (xt, wt, bt), strict=True):
        near(got, want.grad)


@pytest.mark.parametrize("name, shape, n", [("pixel_shuffle", (18, 4, 2), 3), ("pixel_shuffle", (2, 1, 8, 3, 5), 2),
                                            ("pixel_unshuffle", (2, 3, 6, 9), 3), ("channel_shuffle", (2, 6, 5), 3),
                                            ("channel_shuffle", (2, 8, 3, 5, 2), 2)])
def test_shuffles(name, shape, n):
    x, = data(shape)
    xt = leaf(x)
    yt = getattr(T, name)(xt, n)
    dy, = data(yt.shape, seed=1)
    yt.backward(torch.tensor(dy))
    for floor in (F, convkit.reference):
        near(getattr(floor, name)(x, n), yt)
        near(getattr(floor, f"{name}_backward")(dy, n), xt.grad)


OPTIONS = {"leaky_relu": ({}, {"negative_slope": -0.3}), "elu": ({}, {"alpha": 1.7}),
           "gelu": ({}, {"approximate": "tanh"}), "softplus": ({}, {"beta": 2.0, "threshold": 5.0})}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x, = data((500,))
    x = np.concatenate([x * 4, [-2.0, -0.0, 0.0, 3.0, -3.0, 6.0, 30.0, -30.0, np.inf]])
    dy, = data(x.shape, seed=1)
    for options in OPTIONS.get(name, ({},)):
        xt = leaf(x)
        yt = getattr(T, name)(xt, **options)
        y = getattr(F, name)(x, **options)
        near(y, yt)
        yt.backward(torch.tensor(dy))
        other = y if name in FROM_OUTPUT else x
        got, want = getattr(F, f"{name}_backward")(dy, other, **options), xt.grad.numpy()
        tolerance = 1e-7 if name == "hardsigmoid" else 1e-10  # its 1 / 6 is that of float32 in PyTorch
        near(np.where(np.isinf(x), 0, got), np.where(np.isinf(x), 0, want), tolerance)
    special = np.array([np.nan, -np.inf])
    np.testing.assert_array_equal(getattr(F, name)(special), getattr(T, name)(torch.tensor(special)).numpy())


def _gradients(got, *leaves):
    for gradient, of in zip(got, leaves, strict=True):
        if of is not None:
            near(gradient, of.grad)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("shape", "last"), [((5, 7), (7,)), ((2, 3, 4, 5), (4, 5)), ((2, 3), (2, 3)), ((3, 4, 90), (90,))])
def test_layer_norm(shape, last, affine):
    x, dy, w, b = data(shape, shape, last, last)
    w, b = (w, b) if affine else (None, None)
    xt, wt, bt = leaf(x), *(None if a is None else leaf(a) for a in (w, b))
    y = T.layer_norm(xt, last, wt, bt, 1e-3)
    near(F.layer_norm(x, last, w, b, 1e-3), y)
    y.backward(torch.tensor(dy))
    _gradients(F.layer_norm_backward(dy, x, last, w, 1e-3), xt, wt, bt)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(5, 12), (3, 6, 5), (2, 6, 4, 17), (2, 6, 2, 3, 4)])
def test_group_norm(shape, groups):
    x, dy, w, b = data(shape, shape, shape[1], shape[1])
    xt, wt, bt = leaf(x), leaf(w), leaf(b)
    y = T.group_norm(xt, groups, wt, bt, 1e-3)
    near(F.group_norm(x, groups, w, b, 1e-3), y)
    y.backward(torch.tensor(dy))
    _gradients(F.group_norm_backward(dy, x, groups, w, 1e-3), xt, wt, bt)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 6, 4, 17), (2, 6, 2, 3, 4)])
def test_instance_norm(shape, own):
    x, dy, w, b, mean = data(shape, shape, 6, 6, 6)
    var = np.random.default_rng(1).uniform(0.5, 2, 6)
    xt, wt, bt = leaf(x), leaf(w), leaf(b)
    mean_t, var_t = torch.tensor(mean), torch.tensor(var)
    y = T.instance_norm(xt, mean_t, var_t, wt, bt, own, 0.3, 1e-3)
    twin_mean, twin_var = mean.copy(), var.copy()
    near(convkit.reference.instance_norm(x, twin_mean, twin_var, w, b, own, 0.3, 1e-3), y)
    statistics = {} if own else {"mean": mean.copy(), "var": var.copy()}
    near(F.instance_norm(x, mean, var, w, b, own, 0.3, 1e-3), y)
    for a, t in ((mean, mean_t), (var, var_t), (twin_mean, mean_t), (twin_var, var_t)):
        near(a, t)
    y.backward(torch.tensor(dy))
    _gradients(F.instance_norm_backward(dy, x, w, 1e-3, use_input_stats=own, **statistics), xt, wt, bt)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (3, 4, 7), (2, 4, 3, 5)])
def test_prelu(shape):
    x, dy, slopes = data(shape, shape, 4)
    for w in (slopes[:1], slopes) if len(shape) > 1 else (slopes[:1],):
        xt, wt = leaf(x), leaf(w)
        y = T.prelu(xt, wt)
        near(F.prelu(x, w), y)
        y.backward(torch.tensor(dy))
        _gradients(F.prelu_backward(dy, x, w), xt, wt)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 6, 4, 5), (1, 3, 2, 3, 4)])
def test_local_response_norm(shape, size):
    x, dy = data(shape, shape)
    xt = leaf(x)
    y = T.local_response_norm(xt, size, 0.7, 0.6, 1.5)
    near(F.local_response_norm(x, size, 0.7, 0.6, 1.5), y)
    y.backward(torch.tensor(dy))
    near(F.local_response_norm_backward(dy, x, size, 0.7, 0.6, 1.5), xt.grad)
