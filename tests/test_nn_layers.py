"""One table of all layers: output, gradients, batches, threads, both precisions; and the parity with torch."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convkit import functional as F
from convkit import nn
from convkit.errors import DtypeError, ShapeError


def _rng():
    return np.random.default_rng(7)


class Residual(nn.Module):
    """A module as a user writes it: no constructor of the base, no predict, no need_dx."""

    def __init__(self, body):
        self.body = body

    def forward(self, x):
        y, backward = self.body.forward(x)
        return x + y, lambda dy: dy + backward(dy)


def _conv(*args, **kwargs):
    return lambda dtype: nn.Conv2d(*args, rng=_rng(), dtype=dtype, **kwargs)


def _layer(name, *args, **kwargs):
    return lambda dtype: getattr(nn, name)(*args, rng=_rng(), dtype=dtype, **kwargs)


def _pad(name, *args):
    return lambda dtype: getattr(nn, name)(*args)


def _net(dtype):
    rng = _rng()
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, rng=rng, dtype=dtype), nn.BatchNorm2d(4, dtype=dtype), nn.ReLU(),
        Residual(nn.Conv2d(4, 4, 1, rng=rng, dtype=dtype)), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(12, 3, rng=rng, dtype=dtype))


# id: (make(dtype), shape of x, shape of y, whether a batch is its items one by one)
LAYERS = {
    "conv": (_conv(3, 4, 3), (2, 3, 5, 6), (2, 4, 3, 4), True),
    "conv-all": (_conv(4, 6, (3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2), 2), (2, 4, 6, 5), (2, 6, 3, 6), True),
    "conv-depthwise": (_conv(3, 3, 3, padding="same", groups=3, bias=False), (2, 3, 4, 5), (2, 3, 4, 5), True),
    "conv-same-stride": (_conv(2, 2, 3, 2, "same"), (1, 2, 5, 4), (1, 2, 3, 2), True),
    "conv-reflect": (_conv(2, 3, 3, padding=2, padding_mode="reflect"), (2, 2, 4, 3), (2, 3, 6, 5), True),
    "conv-replicate": (_conv(2, 3, 3, 2, ((1, 2), 0), padding_mode="replicate"), (2, 2, 4, 5), (2, 3, 3, 2), True),
    "conv-circular": (_conv(2, 3, 3, padding=(1, 3), padding_mode="circular"), (2, 2, 4, 3), (2, 3, 4, 7), True),
    "conv1d": (_layer("Conv1d", 4, 6, 3, 2, ((2, 0),), 2, 2), (2, 4, 9), (2, 6, 4), True),
    "conv1d-replicate": (_layer("Conv1d", 2, 3, 3, padding=2, padding_mode="replicate"), (2, 2, 4), (2, 3, 6), True),
    "conv3d": (_layer("Conv3d", 2, 4, (1, 2, 3), (1, 2, 1), (0, 1, 1)), (2, 2, 2, 3, 4), (2, 4, 2, 2, 4), True),
    "conv3d-circular": (_layer("Conv3d", 1, 2, 2, padding=1, padding_mode="circular"), (2, 1, 2, 3, 2), (2, 2, 3, 4, 3),
                        True),
    "conv-transpose1d": (_layer("ConvTranspose1d", 3, 2, 4, 3, 1, 2), (2, 3, 5), (2, 2, 16), True),
    "conv-transpose": (_layer("ConvTranspose2d", 3, 4, 4, 2, 1), (2, 3, 3, 4), (2, 4, 6, 8), True),
    "conv-transpose-all": (_layer("ConvTranspose2d", 4, 6, (3, 2), (2, 1), ((1, 0), (0, 1)), (1, 0), 2, False, (1, 3)),
                           (2, 4, 3, 4), (2, 6, 7, 6), True),
    "conv-transpose-sparse": (_layer("ConvTranspose2d", 2, 2, 1, 3, 0, (2, 1), 2), (2, 2, 2, 3), (2, 2, 6, 8), True),
    "conv-transpose3d": (_layer("ConvTranspose3d", 2, 3, 2, 2), (1, 2, 2, 1, 2), (1, 3, 4, 2, 4), True),
    "separable": (_layer("SeparableConv2d", 3, 4, 3, 2, 1, depth_multiplier=2), (2, 3, 5, 4), (2, 4, 3, 2), True),
    "separable1d": (_layer("SeparableConv1d", 3, 2, 5, padding="same", bias=False), (2, 3, 6), (2, 2, 6), True),
    "separable3d": (_layer("SeparableConv3d", 2, 3, (2, 1, 2)), (2, 2, 3, 2, 3), (2, 3, 2, 2, 2), True),
    "reflection-pad": (_pad("ReflectionPad2d", (1, 2, 0, 3)), (2, 2, 4, 3), (2, 2, 7, 6), True),
    "replication-pad": (_pad("ReplicationPad1d", (3, 1)), (2, 2, 2), (2, 2, 6), True),
    "circular-pad": (_pad("CircularPad3d", (1, 2, 0, 1, 1, 0)), (2, 1, 1, 2, 3), (2, 1, 2, 3, 6), True),
    "zero-pad": (_pad("ZeroPad2d", (-1, 2, 1, -1)), (2, 2, 3, 4), (2, 2, 3, 5), True),
    "constant-pad": (_pad("ConstantPad3d", 1, 2.5), (1, 2, 1, 2, 2), (1, 2, 3, 4, 4), True),
    "max-pool": (lambda dtype: nn.MaxPool2d(3, 2, 1), (2, 3, 6, 5), (2, 3, 3, 3), True),
    "max-pool-all": (lambda dtype: nn.MaxPool2d((2, 3), 2, (0, 1), (2, 1), ceil_mode=True), (2, 1, 6, 6), (2, 1, 3, 4),
                     True),
    "min-pool": (lambda dtype: nn.MinPool2d(2), (2, 3, 4, 5), (2, 3, 2, 2), True),
    "avg-pool": (lambda dtype: nn.AvgPool2d(3, 2, 1), (2, 3, 6, 5), (2, 3, 3, 3), True),
    "avg-pool-all": (lambda dtype: nn.AvgPool2d(3, 2, 1, True, False, 5), (2, 3, 6, 5), (2, 3, 4, 3), True),
    "max-pool-1d": (lambda dtype: nn.MaxPool1d(3, 2, 1), (2, 3, 9), (2, 3, 5), True),
    "max-pool-3d": (lambda dtype: nn.MaxPool3d((2, 3, 2), 1, (1, 1, 0)), (2, 2, 3, 4, 5), (2, 2, 4, 4, 4), True),
    "max-pool-far": (lambda dtype: nn.MaxPool2d(2, 3, ceil_mode=True), (2, 3, 5, 6), (2, 3, 2, 2), True),
    "max-pool-257": (lambda dtype: nn.MaxPool1d(257, 2), (1, 2, 300), (1, 2, 22), True),
    "min-pool-1d": (lambda dtype: nn.MinPool1d(2), (2, 3, 9), (2, 3, 4), True),
    "min-pool-3d": (lambda dtype: nn.MinPool3d(2, dilation=(1, 2, 1)), (2, 2, 3, 5, 5), (2, 2, 1, 2, 2), True),
    "avg-pool-1d": (lambda dtype: nn.AvgPool1d(3, 2, 1), (2, 3, 9), (2, 3, 5), True),
    "avg-pool-3d": (lambda dtype: nn.AvgPool3d(2), (2, 2, 3, 4, 5), (2, 2, 1, 2, 2), True),
    "lp-pool-1d": (lambda dtype: nn.LPPool1d(2, 3, 2), (2, 3, 9), (2, 3, 4), True),
    "lp-pool": (lambda dtype: nn.LPPool2d(4, (2, 3), 1, ceil_mode=True), (2, 3, 4, 5), (2, 3, 3, 3), True),
    "lp-pool-inf": (lambda dtype: nn.LPPool2d(float("inf"), 2), (2, 3, 4, 5), (2, 3, 2, 2), True),
    "lp-pool-3d": (lambda dtype: nn.LPPool3d(2, 2), (2, 2, 3, 4, 5), (2, 2, 1, 2, 2), True),
    "adaptive-max-1d": (lambda dtype: nn.AdaptiveMaxPool1d(4), (2, 3, 9), (2, 3, 4), True),
    "adaptive-max": (lambda dtype: nn.AdaptiveMaxPool2d((None, 2)), (2, 3, 4, 5), (2, 3, 4, 2), True),
    "adaptive-max-3d": (lambda dtype: nn.AdaptiveMaxPool3d(2), (2, 2, 3, 4, 5), (2, 2, 2, 2, 2), True),
    "adaptive-avg-1d": (lambda dtype: nn.AdaptiveAvgPool1d(4), (2, 3, 9), (2, 3, 4), True),
    "adaptive-avg": (lambda dtype: nn.AdaptiveAvgPool2d((3, 7)), (2, 3, 4, 5), (2, 3, 3, 7), True),
    "adaptive-avg-3d": (lambda dtype: nn.AdaptiveAvgPool3d((1, None, 2)), (2, 2, 3, 4, 5), (2, 2, 1, 4, 2), True),
    "global-max-1d": (lambda dtype: nn.GlobalMaxPool1d(), (2, 3, 9), (2, 3, 1), True),
    "global-max": (lambda dtype: nn.GlobalMaxPool2d(), (2, 3, 4, 5), (2, 3, 1, 1), True),
    "global-max-3d": (lambda dtype: nn.GlobalMaxPool3d(), (2, 2, 3, 4, 5), (2, 2, 1, 1, 1), True),
    "global-min-1d": (lambda dtype: nn.GlobalMinPool1d(), (2, 3, 9), (2, 3, 1), True),
    "global-min": (lambda dtype: nn.GlobalMinPool2d(), (2, 3, 4, 5), (2, 3, 1, 1), True),
    "global-min-3d": (lambda dtype: nn.GlobalMinPool3d(), (2, 2, 3, 4, 5), (2, 2, 1, 1, 1), True),
    "global-avg-1d": (lambda dtype: nn.GlobalAvgPool1d(), (2, 3, 9), (2, 3, 1), True),
    "global-avg": (lambda dtype: nn.GlobalAvgPool2d(), (2, 3, 4, 5), (2, 3, 1, 1), True),
    "global-avg-3d": (lambda dtype: nn.GlobalAvgPool3d(), (2, 2, 3, 4, 5), (2, 2, 1, 1, 1), True),
    "relu": (lambda dtype: nn.ReLU(inplace=True), (2, 3, 4, 5), (2, 3, 4, 5), True),
    **{name: (lambda dtype, make=make: make, (2, 3, 4), (2, 3, 4), True) for name, make in (
        ("relu6", nn.ReLU6()), ("leaky-relu", nn.LeakyReLU(0.3)), ("elu", nn.ELU(0.7)), ("selu", nn.SELU()),
        ("gelu", nn.GELU()), ("gelu-tanh", nn.GELU("tanh")), ("silu", nn.SiLU()), ("mish", nn.Mish()),
        ("sigmoid", nn.Sigmoid()), ("tanh", nn.Tanh()), ("hardsigmoid", nn.Hardsigmoid()),
        ("hardswish", nn.Hardswish()), ("softplus", nn.Softplus(2.0, 1.5)))},
    "linear": (lambda dtype: nn.Linear(5, 3, rng=_rng(), dtype=dtype), (4, 5), (4, 3), True),
    "linear-no-bias": (lambda dtype: nn.Linear(5, 3, False, rng=_rng(), dtype=dtype), (2, 4, 5), (2, 4, 3), True),
    "softmax": (lambda dtype: nn.Softmax(dim=-1), (3, 5), (3, 5), True),
    "log-softmax": (lambda dtype: nn.LogSoftmax(dim=-1), (3, 5), (3, 5), True),
    "batch-norm": (lambda dtype: nn.BatchNorm2d(3, dtype=dtype), (4, 3, 2, 3), (4, 3, 2, 3), False),
    "batch-norm-eval": (lambda dtype: _moved(nn.BatchNorm2d(3, dtype=dtype)).eval(), (4, 3, 2, 3), (4, 3, 2, 3), False),
    "batch-norm-bare": (lambda dtype: nn.BatchNorm2d(3, affine=False, track_running_stats=False, dtype=dtype).eval(),
                        (4, 3, 2, 3), (4, 3, 2, 3), False),
    "batch-norm-no-bias": (lambda dtype: nn.BatchNorm2d(3, bias=False, dtype=dtype), (4, 3, 2, 3), (4, 3, 2, 3), False),
    "batch-norm-1d": (lambda dtype: nn.BatchNorm1d(3, dtype=dtype), (4, 3), (4, 3), False),
    "batch-norm-1d-long": (lambda dtype: nn.BatchNorm1d(3, dtype=dtype), (4, 3, 5), (4, 3, 5), False),
    "batch-norm-3d": (lambda dtype: _moved(nn.BatchNorm3d(3, dtype=dtype)).eval(), (2, 3, 2, 2, 3), (2, 3, 2, 2, 3), False),
    "layer-norm": (lambda dtype: nn.LayerNorm((3, 4), dtype=dtype), (2, 3, 4), (2, 3, 4), True),
    "layer-norm-bare": (lambda dtype: nn.LayerNorm(4, elementwise_affine=False), (2, 3, 4), (2, 3, 4), True),
    "layer-norm-no-bias": (lambda dtype: nn.LayerNorm(4, bias=False, dtype=dtype), (2, 3, 4), (2, 3, 4), True),
    "group-norm": (lambda dtype: nn.GroupNorm(2, 6, dtype=dtype), (2, 6, 3), (2, 6, 3), False),
    "group-norm-no-bias": (lambda dtype: nn.GroupNorm(2, 6, bias=False, dtype=dtype), (2, 6, 3), (2, 6, 3), False),
    "group-norm-bare": (lambda dtype: nn.GroupNorm(3, 6, affine=False), (2, 6), (2, 6), False),
    "instance-norm": (lambda dtype: nn.InstanceNorm2d(3, affine=True, dtype=dtype), (2, 3, 3, 2), (2, 3, 3, 2), True),
    "instance-norm-no-bias": (lambda dtype: nn.InstanceNorm2d(3, affine=True, bias=False, dtype=dtype), (2, 3, 3, 2),
                              (2, 3, 3, 2), True),
    "instance-norm-one": (lambda dtype: nn.InstanceNorm1d(3), (3, 5), (3, 5), False),
    "instance-norm-eval": (lambda dtype: _moved(nn.InstanceNorm3d(3, affine=True, track_running_stats=True, dtype=dtype)
                                                ).eval(), (2, 3, 2, 1, 3), (2, 3, 2, 1, 3), False),
    "local-response": (lambda dtype: nn.LocalResponseNorm(3, 0.5), (2, 5, 3, 2), (2, 5, 3, 2), False),
    "prelu": (lambda dtype: nn.PReLU(dtype=dtype), (2, 3, 4), (2, 3, 4), True),
    "prelu-channels": (lambda dtype: nn.PReLU(3, 0.1, dtype=dtype), (2, 3, 4), (2, 3, 4), False),
    "dropout1d": (lambda dtype: nn.Dropout1d(0.3, rng=_rng()), (2, 3, 4), (2, 3, 4), False),
    "dropout2d": (lambda dtype: nn.Dropout2d(0.3, rng=_rng()), (2, 3, 4, 2), (2, 3, 4, 2), False),
    "dropout3d": (lambda dtype: nn.Dropout3d(0.3, rng=_rng()), (3, 2, 2, 2), (3, 2, 2, 2), False),
    "dropout": (lambda dtype: nn.Dropout(0.3, rng=_rng()), (4, 5), (4, 5), False),
    "dropout-eval": (lambda dtype: nn.Dropout(0.3).eval(), (4, 5), (4, 5), True),
    "flatten": (lambda dtype: nn.Flatten(), (2, 3, 4), (2, 12), False),
    "unfold": (lambda dtype: nn.Unfold(2, padding=1), (2, 3, 3, 2), (2, 12, 12), True),
    "unfold-3d": (lambda dtype: nn.Unfold((2, 1, 2), (1, 1, 2), 0, (1, 2, 1)), (2, 2, 3, 3, 4), (2, 8, 8), True),
    "fold": (lambda dtype: nn.Fold((3, 4), (2, 2), 1, 1, (2, 1)), (2, 8, 10), (2, 2, 3, 4), True),
    "upsample": (lambda dtype: nn.Upsample(scale_factor=2), (2, 3, 3, 2), (2, 3, 6, 4), False),
    "upsample-linear": (lambda dtype: nn.Upsample((4, 5), mode="bilinear", align_corners=True), (2, 3, 3, 7),
                        (2, 3, 4, 5), False),
    "pixel-shuffle": (lambda dtype: nn.PixelShuffle(2), (2, 8, 3, 2), (2, 2, 6, 4), True),
    "pixel-unshuffle": (lambda dtype: nn.PixelUnshuffle(3), (2, 2, 3, 6), (2, 18, 1, 2), True),
    "channel-shuffle": (lambda dtype: nn.ChannelShuffle(3), (2, 6, 4), (2, 6, 4), False),
    "concat": (lambda dtype: nn.Concat(nn.Linear(3, 4, rng=_rng(), dtype=dtype), nn.Identity(), nn.ReLU(), axis=-1),
               (2, 3), (2, 10), True),
    "concat-one": (lambda dtype: nn.Concat({"only": nn.ReLU()}), (2, 3), (2, 3), False),
    "residual": (lambda dtype: nn.Residual(nn.Sequential(nn.Linear(3, 3, rng=_rng(), dtype=dtype), nn.ReLU())),
                 (4, 3), (4, 3), True),
    "residual-shortcut": (lambda dtype: nn.Residual(nn.Linear(3, 2, rng=_rng(), dtype=dtype),
                                                    nn.Linear(3, 2, False, rng=_rng(), dtype=dtype)), (4, 3), (4, 2),
                          True),
    "identity": (lambda dtype: nn.Identity(3, any=4), (2, 3), (2, 3), True),
    "empty": (lambda dtype: nn.Sequential(), (2, 3), (2, 3), True),
    "network": (_net, (3, 2, 2, 6), (3, 3), False),
    "network-eval": (lambda dtype: _net(dtype).eval(), (3, 2, 2, 6), (3, 3), False),
}
ALL = pytest.mark.parametrize("name", LAYERS)


def _moved(norm):
    rng = _rng()
    norm.running_mean += rng.normal(size=3).astype(norm.running_mean.dtype)
    norm.running_var *= rng.uniform(0.5, 2, 3).astype(norm.running_var.dtype)
    norm.weight.data[...] = rng.normal(size=3)
    norm.bias.data[...] = rng.normal(size=3)
    return norm


def _values(rng, shape, dtype):
    """Values that are all 0.01 or more apart from each other and from 0: no kink within a finite difference."""
    n = int(np.prod(shape))
    steps = rng.permutation(n) - n // 2 + 0.5
    return (steps * 2.0 / n).reshape(shape).astype(dtype) if n else np.zeros(shape, dtype)


def _make(name, dtype=np.float64):
    make, x_shape, y_shape, _ = LAYERS[name]
    return make(dtype), _values(_rng(), x_shape, dtype), y_shape


@ALL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_and_predict_equals_forward(name, dtype):
    layer, x, y_shape = _make(name, dtype)
    twin = copy.deepcopy(layer)
    kept = x.copy()
    y, backward = layer.forward(x)
    assert y.shape == y_shape and y.dtype == dtype
    if name == "network-eval":  # batch norm becomes part of the convolution's weight
        np.testing.assert_allclose(twin(x), y, rtol=0, atol=64 * np.finfo(dtype).eps * np.abs(y).max())
    else:
        np.testing.assert_array_equal(twin(x), y)
    dx = backward(np.ones_like(y))
    assert dx.shape == x.shape and dx.dtype == dtype
    for p in layer.parameters():
        assert p.grad.shape == p.shape and p.grad.dtype == dtype
    np.testing.assert_array_equal(x, kept)


@ALL
def test_gradients_by_finite_differences(name):
    """The derivative of sum(y * dy) along random directions of x and of each parameter."""
    layer, x, _ = _make(name)
    rng = _rng()
    before = copy.deepcopy(layer)
    y, backward = layer.forward(x)
    dy = rng.normal(size=y.shape)
    dx = backward(dy)

    def value(x, key=None, change=0.0):
        moved = copy.deepcopy(before)
        for k, p in moved.named_parameters():
            if k == key:
                p.data = p.data + change
        return np.sum(moved(x) * dy)

    def check(gradient, along):
        for _ in range(3):
            d = rng.normal(size=gradient.shape)
            d /= np.linalg.norm(d)
            h = 1e-5
            numeric = (along(h * d) - along(-h * d)) / (2 * h)
            np.testing.assert_allclose(np.sum(gradient * d), numeric, rtol=1e-6, atol=1e-8)

    check(dx, lambda d: value(x + d))
    for key, p in layer.named_parameters():
        check(p.grad, lambda d, key=key: value(x, key, d))


@pytest.mark.parametrize("name", [k for k, row in LAYERS.items() if row[3]])
def test_a_batch_is_its_items(name):
    layer, x, _ = _make(name, np.float32)
    y, backward = layer.forward(x)
    dx = backward(y)
    for i in range(len(x)):
        y_i, backward_i = layer.forward(x[i])
        np.testing.assert_array_equal(y_i, y[i])
        np.testing.assert_array_equal(backward_i(y_i), dx[i])


@ALL
def test_used_twice_and_gradients_add_up(name):
    layer, x, _ = _make(name)
    twin = copy.deepcopy(layer)
    dy = _rng().normal(size=LAYERS[name][2])
    y1, back1 = layer.forward(x)
    y2, back2 = layer.forward(-x)
    dx2, dx1 = back2(dy), back1(dy)
    total = [p.grad for p in layer.parameters()]
    twin.zero_grad()
    for want_y, want_dx, x_i in ((y1, dx1, x), (y2, dx2, -x)):
        y, back = twin.forward(x_i)
        np.testing.assert_array_equal(y, want_y)
        np.testing.assert_array_equal(back(dy), want_dx)
    for p, g in zip(twin.parameters(), total, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-12, atol=1e-12)


def test_two_threads_train_one_network():
    net = _net(np.float64).eval()
    xs = [_values(np.random.default_rng(i), (3, 2, 2, 6), np.float64) for i in range(16)]

    def train(x):
        y, backward = net.forward(x)
        return y, backward(np.ones_like(y))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(train, xs))
    total = [p.grad for p in net.parameters()]
    net.zero_grad()
    for x, (y, dx) in zip(xs, together, strict=True):
        want_y, want_dx = train(x)
        np.testing.assert_array_equal(y, want_y)
        np.testing.assert_array_equal(dx, want_dx)
    for p, g in zip(net.parameters(), total, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-12, atol=1e-12)


def test_what_needs_no_gradient_is_not_computed():
    conv = nn.Conv2d(2, 3, 3, rng=_rng())
    conv.bias.requires_grad = False
    y, backward = conv.forward(np.ones((1, 2, 4, 4), np.float32))
    assert backward(y, need_dx=False) is None
    assert conv.weight.grad is not None and conv.bias.grad is None


def test_sequential_skips_the_first_dx_where_the_layer_can():
    x = _values(_rng(), (3, 2, 2, 6), np.float64)
    conv, = _net(np.float64)[:1]
    beside = nn.Sequential(nn.Concat(nn.Residual(conv, conv), conv, nn.ReLU()), nn.Conv2d(10, 2, 1, dtype=np.float64))
    for net in (_net(np.float64), nn.Sequential(Residual(nn.ReLU()), *_net(np.float64)), beside):
        twin = copy.deepcopy(net)
        y, backward = net.forward(x)
        dx = backward(y, need_dx=False)
        assert dx is None or isinstance(net[0], Residual)
        twin.forward(x)[1](y)
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad, q.grad)


class Counted(nn.Module):
    """A layer that counts the calls of its backward."""

    def __init__(self, layer):
        self.layer, self.calls = layer, 0

    def forward(self, x):
        y, backward = self.layer.forward(x)

        def counted(dy):
            self.calls += 1
            return backward(dy)

        return y, counted


def _counted_net(rng):
    body = nn.Sequential(Counted(nn.Conv2d(2, 3, 3, rng=rng)), nn.BatchNorm2d(3), nn.ReLU(),
                         nn.Residual(nn.Sequential(Counted(nn.Conv2d(3, 3, 1, rng=rng)), nn.ReLU()),
                                     Counted(nn.Conv2d(3, 3, 1, rng=rng))),
                         nn.Concat(Counted(nn.Conv2d(3, 2, 1, rng=rng)), nn.SeparableConv2d(3, 2, 1, rng=rng)))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(16, 4, rng=rng))


def _learning(net):
    return [name for name, p in net.named_parameters() if p.grad is not None]


@pytest.mark.parametrize("frozen, went, learning", [
    ("0", [0, 0, 0, 0], ["2.weight", "2.bias"]),
    ("0.0 0.1", [0, 1, 1, 1], None),
    ("0.0 0.1 0.3", [0, 0, 0, 1], None),  # a branch that learns, beside one that does not
    ("0.0 0.1 0.3 0.4.0", [0, 0, 0, 0], None),
    ("0.0 0.1 0.3.block", [0, 0, 1, 1], None),
    ("0.4 2", [1, 1, 1, 1], None),
    ("0 2", [0, 0, 0, 0], []),
    ("", [1, 1, 1, 1], None),
])
def test_backward_ends_at_the_first_layer_that_learns(frozen, went, learning):
    net, x = _counted_net(_rng()), _values(_rng(), (3, 2, 4, 4), np.float32)
    dy = _values(_rng(), (3, 4), np.float32)
    twin = copy.deepcopy(net)
    twin.forward(x)[1](dy)
    for name, module in net.named_modules():
        if name in frozen.split():
            assert module.requires_grad_(False) is module
    net.forward(x)[1](dy, need_dx=False)
    counted = [layer for layer in net.modules() if isinstance(layer, Counted)]
    assert [layer.calls for layer in counted] == went
    assert _learning(net) == (learning if learning is not None else
                              [name for name, p in net.named_parameters() if p.requires_grad])
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, q.grad)
    np.testing.assert_array_equal(net.forward(x)[1](dy), twin.forward(x)[1](dy))  # who asks for dx gets it
    assert [layer.calls for layer in counted] == [n + 1 for n in went]


def test_a_separable_layer_ends_at_its_half_that_learns():
    layer, x = nn.SeparableConv2d(2, 3, 3, rng=_rng()), _values(_rng(), (1, 2, 5, 5), np.float32)
    layer.depthwise.requires_grad_(False)
    y, backward = layer.forward(x)
    assert backward(y, need_dx=False) is None
    assert _learning(layer) == ["pointwise.weight", "pointwise.bias"]
    assert backward(y).shape == x.shape


def test_max_pool_can_return_indices():
    pool = nn.MaxPool2d(2, return_indices=True)
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    (y, indices), backward = pool.forward(x)
    np.testing.assert_array_equal(indices.ravel(), [5, 7, 13, 15])
    np.testing.assert_array_equal(pool(x)[1], indices)
    assert backward(np.ones_like(y)).sum() == 4


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling_and_unpooling_layers_fit_together(rank):
    d = f"{rank}d"
    x = _values(_rng(), (2, 3, *(5,) * rank), np.float64)
    for pool in (getattr(nn, f"MaxPool{d}")(2, return_indices=True),
                 getattr(nn, f"AdaptiveMaxPool{d}")(2, return_indices=True)):
        (y, indices), _ = pool.forward(x)
        unpool = getattr(nn, f"MaxUnpool{d}")(2)
        back, backward = unpool.forward(y, indices, x.shape)
        np.testing.assert_array_equal(back, np.where(np.isin(x, y), x, 0))
        np.testing.assert_array_equal(unpool(y, indices, x.shape), back)
        np.testing.assert_array_equal(backward(back), y)
        with pytest.raises(ShapeError, match="^output_size must be less than the stride"):
            unpool(y, indices, (9,) * rank)
    for kind, extreme in (("Max", np.max), ("Min", np.min)):
        (y, indices), backward = getattr(nn, f"Global{kind}Pool{d}")(return_indices=True).forward(x)
        np.testing.assert_array_equal(y.ravel(), extreme(x, axis=tuple(range(2, 2 + rank))).ravel())
        np.testing.assert_array_equal(np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, 1), 2).ravel(),
                                      y.ravel())
        assert backward(np.ones_like(y)).sum() == 6


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_a_layer_that_keeps_bytes_gives_the_bits_of_the_function_with_indices(kind):
    rng = np.random.default_rng(3)
    for rank, size in ((1, (70,)), (2, (21, 37)), (3, (5, 7, 19))):
        for arguments in ((2,), (3, 2, 1), (3, 1, 1), (2, 3), ((3, 2, 4)[:rank], (1, 2, 3)[:rank], 1, 1), (3, 2, 1, 2)):
            x = rng.integers(-3, 4, (2, 2, *size)).astype(np.float32)
            x[rng.random(x.shape) < 0.1] = rng.choice([np.nan, -np.inf, 0.5])
            name = f"{kind.lower()}_pool{rank}d"
            want, indices = getattr(F, name)(x, *arguments, return_indices=True)
            y, backward = getattr(nn, f"{kind}Pool{rank}d")(*arguments).forward(x)
            np.testing.assert_array_equal(y, want)
            dy = rng.normal(size=y.shape).astype(np.float32)
            np.testing.assert_array_equal(backward(dy), getattr(F, f"{name}_backward")(dy, indices, x.shape))
            with pytest.raises(ShapeError, match="must have shape"):
                backward(dy[:1])


def test_batch_norm_statistics():
    x = np.random.default_rng(0).normal(3, 2, (8, 2, 3, 3))
    norm = nn.BatchNorm2d(2, dtype=np.float64)
    norm(x)
    norm.forward(x)
    assert norm.num_batches_tracked == 2
    np.testing.assert_allclose(norm.running_mean, x.mean((0, 2, 3)) * 0.19)
    norm.eval()(x)
    assert norm.num_batches_tracked == 2
    mean = nn.BatchNorm2d(2, momentum=None, dtype=np.float64)
    mean(x)
    mean(x + 1)
    np.testing.assert_allclose(mean.running_mean, x.mean((0, 2, 3)) + 0.5)


def test_dropout_repeats_with_its_generator():
    x = np.ones((20, 20), np.float32)
    a, b = nn.Dropout(0.4, rng=_rng())(x), nn.Dropout(0.4, rng=_rng())(x)
    np.testing.assert_array_equal(a, b)
    assert 0.2 < (a == 0).mean() < 0.6


def test_branches_have_names_states_modes_and_a_summary():
    rng = _rng()
    net = nn.Sequential(
        nn.Concat({"a": nn.Conv2d(2, 3, 1, rng=rng), "b": nn.Sequential(nn.Conv2d(2, 1, 1, rng=rng), nn.Dropout())}),
        nn.Residual(nn.Conv2d(4, 4, 3, padding=1, rng=rng), nn.Conv2d(4, 4, 1, bias=False, rng=rng)))
    assert list(net.state_dict()) == ["0.a.weight", "0.a.bias", "0.b.0.weight", "0.b.0.bias", "1.block.weight",
                                      "1.block.bias", "1.shortcut.weight"]
    assert len(list(net.parameters())) == 7
    assert not net.eval()[0].b[1].training
    table = net.summary((1, 2, 5, 5))
    assert [row.name for row in table.rows] == ["0.a", "0.b.0", "0.b.1", "1.block", "1.shortcut"]
    assert table.macs == 25 * (6 + 2 + 144 + 16)
    x = rng.normal(size=(1, 2, 5, 5)).astype(np.float32)
    left = net[0].a(x)
    np.testing.assert_array_equal(net[0](x)[:, :3], left)
    np.testing.assert_array_equal(net(x), net[1].block(net[0](x)) + net[1].shortcut(net[0](x)))


def test_a_layer_of_a_sequential_can_be_replaced():
    rng = _rng()
    net = nn.Sequential({"conv": nn.Conv2d(2, 3, 1, rng=rng), "act": nn.ReLU()}).eval()
    x = rng.normal(size=(1, 2, 4, 4)).astype(np.float32)
    assert net(x).min() == 0
    net[-1] = nn.Identity()
    np.testing.assert_array_equal(net(x), net.conv(x))
    net[0] = nn.Conv2d(2, 5, 1, rng=rng)
    assert list(net.state_dict()) == ["conv.weight", "conv.bias"] and net(x).shape == (1, 5, 4, 4)
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.Identity]
    with pytest.raises(IndexError, match="index must be between -2 and 1, got 2"):
        net[2] = nn.ReLU()
    with pytest.raises(DtypeError, match="layer act must be a Module, got function"):
        net[1] = lambda x: x
    with pytest.raises(DtypeError, match="index must be an integer"):
        net["conv"] = nn.ReLU()


def test_layers_in_a_list_are_found():
    class Tower(nn.Module):
        def __init__(self, rng):
            self.layers = nn.ModuleList(nn.Linear(4, 4, rng=rng) for _ in range(3))

        def forward(self, x):
            steps = []
            for layer in self.layers:
                y, step = layer.forward(x)
                x = x + y
                steps.append(step)

            def backward(dy):
                for step in reversed(steps):
                    dy = dy + step(dy)
                return dy

            return x, backward

    net = Tower(_rng())
    assert list(net.state_dict()) == [f"layers.{i}.{name}" for i in range(3) for name in ("weight", "bias")]
    x = np.ones((2, 4))
    net.forward(x.astype(np.float32))[1](x.astype(np.float32))
    assert all(p.grad is not None for p in net.parameters()) and len(list(net.parameters())) == 6
    assert not any(layer.training for layer in net.eval().layers)
    part = net.layers[1:]
    assert type(part) is nn.ModuleList and next(iter(part.state_dict())) == "0.weight" and part[0] is net.layers[1]
    part.append(nn.ReLU()).extend([nn.Tanh(), nn.Identity()])
    assert len(part) == 5 and type(part[-2]) is nn.Tanh and len(net.layers) == 3
    part[0] = nn.ReLU()
    assert type(part[0]) is nn.ReLU and type(net.layers[1]) is nn.Linear
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        part(x)
    for bad, sentence in ((nn.ReLU, "layers must be a list of Modules, got type"), (3, "must be a list of Modules, got int"),
                          ([nn.ReLU], "layer 0 must be a Module, got type")):
        with pytest.raises(DtypeError, match=sentence):
            nn.ModuleList(bad)


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(2**20, 2**20, 3), lambda: nn.Linear(2**21, 2**21),
                                  lambda: nn.ConvTranspose1d(2**21, 2**21, 3), lambda: nn.Embedding(2**22, 2**22)])
def test_a_weight_larger_than_the_memory_is_one_sentence(monkeypatch, make):
    def none_left(*args, **options):
        raise MemoryError("Unable to allocate 36. TiB")

    class Memoryless(np.random.Generator):
        standard_normal = none_left

    monkeypatch.setattr(np.random, "default_rng", lambda: Memoryless(np.random.PCG64()))
    monkeypatch.setattr(np, "empty", none_left)  # a system that promises more than it has would grant it
    with pytest.raises(ShapeError, match=r"^the weight would have shape .* and take \d+ bytes, more than this machine can give$"):
        make()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_loss(reduction):
    rng = _rng()
    logits, target = rng.normal(size=(4, 3)), rng.integers(0, 3, 4)
    loss, backward = nn.CrossEntropyLoss(reduction=reduction).forward(logits, target)
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), target]
    np.testing.assert_allclose(loss, {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction])
    grad = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[target]
    np.testing.assert_allclose(backward(), grad / 4 if reduction == "mean" else grad)
    np.testing.assert_allclose(backward(2.0), 2 * backward())


# -- torch -------------------------------------------------------------------------------------------------


def test_a_torch_checkpoint_gives_the_same_outputs_and_gradients():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 6, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
        torch.nn.Conv2d(6, 8, (3, 1), 1, (2, 0), (2, 1), 2, padding_mode="circular"), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2, ceil_mode=True), torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        torch.nn.Flatten(), torch.nn.Linear(8 * 2 * 2, 5))
    ours = nn.Sequential(
        nn.Conv2d(2, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, (3, 1), 1, (2, 0), (2, 1), 2, padding_mode="circular"), nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Flatten(),
        nn.Linear(8 * 2 * 2, 5))
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    rng = _rng()
    x, target = rng.normal(size=(3, 2, 7, 7)).astype(np.float32), rng.integers(0, 5, 3)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        ours.zero_grad()
        theirs.zero_grad()
        x_torch = torch.tensor(x, requires_grad=True)
        want = theirs(x_torch)
        want_loss = torch.nn.functional.cross_entropy(want, torch.tensor(target))
        want_loss.backward()
        y, backward = ours.forward(x)
        loss, dloss = nn.CrossEntropyLoss().forward(y, target)
        dx = backward(dloss())
        np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(loss, want_loss.item(), rtol=1e-5)
        np.testing.assert_allclose(dx, x_torch.grad.numpy(), rtol=1e-3, atol=1e-5)
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-3, atol=1e-5, err_msg=key)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=key)


def test_checkpoints_of_every_rank_and_of_transposed_layers():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for name, args, shape in (
            ("Conv1d", (4, 6, 5, 2, 2, 1, 2, True, "reflect"), (2, 4, 11)), ("Conv3d", (2, 3, (1, 2, 3)), (2, 2, 3, 4, 5)),
            ("ConvTranspose1d", (4, 6, 5, 3, 2, 1, 2, True, 2), (2, 4, 7)), ("ConvTranspose2d", (3, 5, 4, 2, 1), (3, 4, 5)),
            ("ConvTranspose3d", (3, 2, 3, (1, 2, 2), 1, (0, 1, 0)), (2, 3, 2, 3, 4))):
        theirs, ours = getattr(torch.nn, name)(*args), getattr(nn, name)(*args)
        ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
        x = torch.randn(*shape, requires_grad=True)
        want = theirs(x)
        want.square().sum().backward()
        y, backward = ours.forward(x.detach().numpy())
        dx = backward(2 * y)
        for got, right in ((y, want.detach()), (dx, x.grad), (ours.weight.grad, theirs.weight.grad),
                           (ours.bias.grad, theirs.bias.grad)):
            np.testing.assert_allclose(got, right.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_transposed_layer_makes_the_size_asked_for():
    torch = pytest.importorskip("torch")
    theirs, ours = (made.ConvTranspose2d(2, 3, 3, (2, 3), 1) for made in (torch.nn, nn))
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 2, 4, 5)).astype(np.float32)
    for size in ((7, 13), (8, 15), (2, 3, 8, 14)):
        want = theirs(torch.tensor(x), output_size=size).detach().numpy()
        np.testing.assert_allclose(ours(x, size), want, rtol=1e-4, atol=1e-5)
        y, backward = ours.forward(x, output_size=size)
        np.testing.assert_array_equal(y, ours(x, size))
        assert backward(y).shape == x.shape
        assert ours(x[0], size[-2:]).shape == y.shape[1:]
    assert "ConvTranspose2d" in str(ours.summary(x.shape))


@pytest.mark.parametrize("name, args, kwargs", [
    ("Conv2d", (3, 8, 3), {}),
    ("Conv2d", (4, 8, (3, 1), (2, 1), (1, 0), (2, 1), 2, False, "reflect"), {}),
    ("Conv2d", (3, 8, 3), {"padding": "same"}),
    ("Conv1d", (4, 8, 3, 2, 1, 2, 4), {}),
    ("Conv3d", (3, 8, (1, 3, 3)), {"padding_mode": "circular"}),
    ("ConvTranspose1d", (3, 8, 4, 2, 1), {"bias": False}),
    ("ConvTranspose2d", (4, 8, (3, 2), 2, (1, 0), (0, 1), 2, True, (2, 1)), {}),
    ("ConvTranspose3d", (3, 8, 2), {}),
    ("ReflectionPad1d", (2,), {}),
    ("ReplicationPad3d", (1,), {}),
    ("ZeroPad2d", ((1, 2, -1, 0),), {}),
    ("ConstantPad2d", (3, 1.5), {}),
    ("CircularPad2d", ((1, 2, 3, 4),), {}),
    ("MaxPool2d", (2,), {}),
    ("MaxPool2d", ((3, 2), 1, (1, 0)), {"ceil_mode": True}),
    ("AvgPool2d", (3, 2, 1), {}),
    ("ReLU", (True,), {}),
    ("ReLU6", (True,), {}),
    ("LeakyReLU", (0.2, True), {}),
    ("ELU", (), {}),
    ("SELU", (), {}),
    ("GELU", ("tanh",), {}),
    ("SiLU", (), {"inplace": True}),
    ("Mish", (), {}),
    ("Sigmoid", (), {}),
    ("Tanh", (), {}),
    ("Hardsigmoid", (), {}),
    ("Hardswish", (True,), {}),
    ("Softplus", (2.0, 10.0), {}),
    ("Linear", (3, 4), {"bias": False}),
    ("Softmax", (1,), {}),
    ("BatchNorm2d", (3,), {"affine": False}),
    ("BatchNorm1d", (3,), {}),
    ("InstanceNorm2d", (3,), {"affine": True}),
    ("GroupNorm", (3, 6), {"eps": 1e-3}),
    ("LayerNorm", ((3, 6),), {"bias": False}),
    ("LocalResponseNorm", (5, 0.1), {"k": 2.0}),
    ("PReLU", (3, 0.5), {}),
    ("Dropout2d", (0.2,), {}),
    ("Dropout", (0.2,), {}),
    ("Flatten", (), {}),
    ("Unfold", ((2, 3),), {"stride": 2}),
    ("Fold", (8, 3), {"padding": 1}),
    ("Embedding", (7, 5), {"padding_idx": -2}),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}),
    ("Upsample", ((3, 4),), {}),
    ("Upsample", (), {"scale_factor": (2, 1.5), "recompute_scale_factor": True}),
    ("PixelShuffle", (2,), {}),
    ("PixelUnshuffle", (3,), {}),
    ("ChannelShuffle", (2,), {}),
    ("Identity", (), {}),
])
def test_repr_and_attributes_are_those_of_torch(name, args, kwargs):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    if "Norm" not in name:  # PyTorch's text differs between its versions
        assert repr(ours) == repr(theirs)
    for attribute, value in vars(ours).items():
        if not isinstance(value, (nn.Parameter, np.ndarray, np.random.Generator)) and not attribute.startswith("_"):
            assert getattr(theirs, attribute) == value, attribute


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, error, message", [
    (lambda: nn.Conv2d(0, 4, 3), ShapeError, "in_channels must be at least 1, got in_channels=0"),
    (lambda: nn.Conv2d(4, 4.0, 3), DtypeError, "out_channels must be an integer, got out_channels=4.0"),
    (lambda: nn.Conv2d(4, 4, (3, 3, 3)), ShapeError, "kernel_size must be .* a tuple of 2 integers"),
    (lambda: nn.Conv2d(4, 4, 3, stride=(0, 1)), ShapeError, r"stride must be at least 1, got stride=\(0, 1\)"),
    (lambda: nn.Conv2d(4, 4, 3, dilation=True), DtypeError, "dilation must be an integer or a tuple of 2 integers"),
    (lambda: nn.Conv2d(4, 4, 3, padding=-1), ShapeError, "padding must not be negative, got padding=-1"),
    (lambda: nn.Conv2d(4, 4, 3, padding="full"), ShapeError, "padding must be integers, 'valid' or 'same'"),
    (lambda: nn.Conv2d(4, 4, 3, groups=3), ShapeError, "groups must divide the channels of x, got groups=3 and 4"),
    (lambda: nn.Conv2d(2, 4, 3, groups=4), ShapeError, "groups must divide the channels of x"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), ShapeError, "groups must divide the output channels"),
    (lambda: nn.Conv2d(4, 4, 3, padding_mode="edge"), ShapeError, "padding_mode must be one of zeros, reflect"),
    (lambda: nn.Conv2d(4, 4, 3, dtype=np.int8), DtypeError, "dtype must be float16, float32 or float64"),
    (lambda: nn.Conv2d(4, 4, 3, dtype="float31"), DtypeError, "dtype must be .* float64, got dtype='float31'"),
    (lambda: nn.BatchNorm2d(4, dtype=None), DtypeError, "dtype must be .* float64, got dtype=None"),
    (lambda: nn.Conv2d(4, 4, 3, bias=np.ones(4)), DtypeError, "bias must be True or False, got bias=array"),
    (lambda: nn.ConvTranspose1d(4, 4, 3, bias="no"), DtypeError, "bias must be True or False, got bias='no'"),
    (lambda: nn.Linear(4, 4, bias=None), DtypeError, "bias must be True or False, got bias=None"),
    (lambda: nn.Conv2d(4, 4, 3, rng=0), DtypeError, "rng must be a numpy.random.Generator, such as .*, got rng=0"),
    (lambda: nn.ConvTranspose2d(4, 4, 3, rng=np.random), DtypeError, "rng must be a numpy.random.Generator"),
    (lambda: nn.SeparableConv2d(4, 4, 3, rng=0), DtypeError, "rng must be a numpy.random.Generator"),
    (lambda: nn.Dropout(rng=3), DtypeError, "rng must be a numpy.random.Generator, .*, got rng=3"),
    (lambda: nn.Linear(4, 4, rng=0), DtypeError, "rng must be a numpy.random.Generator"),
    (lambda: nn.Embedding(4, 4, rng=np.random.RandomState(0)), DtypeError, "rng must be a numpy.random.Generator"),
    (lambda: nn.init.normal_(nn.Linear(4, 4).weight, rng=None), DtypeError, "rng must be a numpy.random.Generator"),
    (lambda: nn.Conv2d(2**40, 2**40, 3), ShapeError, "more than the limit"),
    (lambda: nn.Linear(2**40, 2**40), ShapeError, "more than the limit"),
    (lambda: nn.MaxPool2d(0), ShapeError, "kernel_size must be at least 1"),
    (lambda: nn.MaxPool2d(2, padding=2), ShapeError, r"padding must be at most half of the \(dilated\) kernel"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), ShapeError, "divisor_override must be at least 1"),
    (lambda: nn.BatchNorm2d(3, eps=-1), ShapeError, "eps must be finite and not negative"),
    (lambda: nn.BatchNorm2d(3, momentum=2), ShapeError, "momentum must be between 0 and 1"),
    (lambda: nn.BatchNorm2d(2**60), ShapeError, "more than the limit"),
    (lambda: nn.GroupNorm(1, 2**60), ShapeError, "more than the limit"),
    (lambda: nn.PReLU(2**60), ShapeError, "more than the limit"),
    (lambda: nn.LayerNorm(()), ShapeError, "normalized_shape must name at least 1 axis"),
    (lambda: nn.LayerNorm(2**60), ShapeError, "more than the limit"),
    (lambda: nn.GroupNorm(4, 6), ShapeError, "num_groups must divide num_channels, got num_groups=4 and num_channels=6"),
    (lambda: nn.InstanceNorm2d(3, momentum=-1), ShapeError, "momentum must be between 0 and 1"),
    (lambda: nn.PReLU(0), ShapeError, "num_parameters must be at least 1"),
    (lambda: nn.LeakyReLU(float("nan")), ShapeError, "negative_slope must be finite, got negative_slope=nan"),
    (lambda: nn.ELU("1"), DtypeError, "alpha must be a number, got alpha='1'"),
    (lambda: nn.GELU("erf"), ShapeError, "approximate must be one of none, tanh, got 'erf'"),
    (lambda: nn.Softplus(0), ShapeError, "beta must be positive and finite, got beta=0"),
    (lambda: nn.Dropout(1.5), ShapeError, "p must be between 0 and 1, got p=1.5"),
    (lambda: nn.Softmax("last"), DtypeError, "dim must be an integer"),
    (lambda: nn.CrossEntropyLoss(reduction="max"), ShapeError, "reduction must be one of mean, sum, none"),
    (lambda: nn.Sequential(nn.ReLU(), "relu"), DtypeError, "layer 1 must be a Module, got str"),
    (lambda: nn.SmoothL1Loss(beta=np.inf), ShapeError, "beta must be finite and not negative, got beta=inf"),
    (lambda: nn.DiceLoss(smooth=np.inf), ShapeError, "smooth must be finite and not negative, got smooth=inf"),
    (lambda: nn.Upsample(scale_factor=0), ShapeError, "scale_factor must be between .*, got scale_factor=0"),
    (lambda: nn.Upsample(scale_factor=(2.0, -1)), ShapeError, "scale_factor must be between .*, got scale_factor=-1"),
    (lambda: nn.Upsample(scale_factor="2"), DtypeError, "scale_factor must be a number, got scale_factor='2'"),
    (lambda: nn.Upsample(2, 2.0), ShapeError, "exactly one of size and scale_factor must be given, got size=2 and"),
    (lambda: nn.Upsample((2.5, 2)), DtypeError, r"size must be made of integers, got size=\(2.5, 2\)"),
    (lambda: nn.Upsample(()), ShapeError, "size must be an integer or a tuple of"),
    (lambda: nn.Upsample((2, 2, 2), mode="bilinear"), ShapeError, "size must be an integer or a tuple of 2 integers"),
    (lambda: nn.Upsample(2, mode="cubic"), ShapeError, "mode must be one of nearest, .*, got mode='cubic'"),
    (lambda: nn.Unfold(0), ShapeError, "kernel_size must be at least 1, got kernel_size=0"),
    (lambda: nn.Unfold((2, 2), (1, 0)), ShapeError, r"dilation must be at least 1, got dilation=\(1, 0\)"),
    (lambda: nn.Unfold(2, padding="full"), ShapeError, "padding must be integers, 'valid' or 'same'"),
    (lambda: nn.Fold(4, 2, stride=0.5), DtypeError, "stride must be an integer or a tuple of 2 integers, got stride=0.5"),
    (lambda: nn.Fold(4, 5), ShapeError, r"the window must fit into the padded output_size, got a window of \(5, 5\)"),
    (lambda: nn.ReLU().train("no"), DtypeError, "mode must be True or False, got mode='no'"),
    (lambda: nn.PixelShuffle(0), ShapeError, "upscale_factor must be at least 1, got upscale_factor=0"),
    (lambda: nn.Concat(), ShapeError, "Concat needs at least 1 branch, got none"),
    (lambda: nn.Concat(nn.ReLU(), axis="c"), DtypeError, "axis must be an integer"),
    (lambda: nn.Residual(abs), DtypeError, "layer block must be a Module, got builtin_function_or_method"),
    (lambda: nn.Sequential({"a.b": nn.ReLU()}), ShapeError, "'a.b' cannot name a layer"),
    (lambda: nn.Sequential({"forward": nn.ReLU()}), ShapeError, "'forward' cannot name a layer"),
    (lambda: nn.Sequential({1: nn.ReLU()}), DtypeError, "the name of a layer must be a string, got 1"),
])
def test_bad_arguments_are_refused_by_the_constructor(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layer, x, error, message", [
    (nn.Conv2d(3, 4, 3), np.zeros((1, 2, 5, 5), np.float32), ShapeError, "3 input channels per group but x has 2"),
    (nn.Conv2d(3, 4, 3), np.zeros((1, 3, 5, 5)), DtypeError, "float32"),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), np.zeros((3, 5), np.float32), ShapeError,
     "x must have 4 axes"),
    (nn.BatchNorm2d(3), np.zeros((2, 3), np.float32), ShapeError, "x must have 4 axes"),
    (nn.BatchNorm1d(3), np.zeros((2, 3, 4, 4), np.float32), ShapeError,
     r"x must have 2 axes \(N, C\) or 3 axes \(N, C, L\), got"),
    (nn.InstanceNorm2d(3), np.zeros((2, 4, 3, 3), np.float32), ShapeError, "x must have num_features=3 channels"),
    (nn.BatchNorm2d(3), np.zeros((2, 4, 3, 3), np.float32), ShapeError, "x must have num_features=3 channels"),
    (nn.InstanceNorm1d(3), np.zeros((2, 4, 3, 3), np.float32), ShapeError, "x must have 3 axes"),
    (nn.GroupNorm(2, 4), np.zeros((2, 6, 3), np.float32), ShapeError, "x must have num_channels=4 channels"),
    (nn.LayerNorm(4), np.zeros((2, 5), np.float32), ShapeError, "normalized_shape must be the shape of the last axes"),
    (nn.Linear(3, 2), [1.0, 2.0, 3.0], DtypeError, "x must be a NumPy array, got list"),
    (nn.Concat(nn.MaxPool2d(2), nn.Identity()), np.zeros((1, 2, 4, 4)), ShapeError,
     r"arrays that are joined must have one shape but for axis 1, got \[\(1, 2, 2, 2\), \(1, 2, 4, 4\)\]"),
    (nn.Residual(nn.Linear(3, 4)), np.zeros((2, 3), np.float32), ShapeError, "the outputs of block and shortcut must have the same shape"),
    (nn.ChannelShuffle(2), np.zeros((1, 3, 4)), ShapeError, "groups must divide the channels of x"),
    (nn.MaxPool2d(2), np.zeros((3, 4, 4), np.int64), DtypeError, "x must be float16, float32 or float64"),
])
def test_bad_input_is_refused_by_both_ways_of_computing(layer, x, error, message):
    for compute in (layer, layer.forward):
        with pytest.raises(error, match=message):
            compute(x)


def test_flatten_refuses_the_gradient_of_another_output():
    _, backward = nn.Flatten().forward(np.zeros((2, 3, 4), np.float32))
    for dy in (np.zeros((2, 3, 4), np.float32), np.zeros((4, 6), np.float32)):
        with pytest.raises(ShapeError, match=r"dy must have shape \(2, 12\)"):
            backward(dy)


@pytest.mark.parametrize("cls", [nn.MaxPool2d, nn.MinPool2d])
def test_a_pool_that_has_been_called_follows_its_attributes(cls):
    """It keeps what ran its calls, which an attribute set later and another kind of array must replace."""
    pool = cls(2)
    x = np.random.default_rng(1).standard_normal((1, 2, 6, 6)).astype(np.float32)
    function = F.max_pool2d if cls is nn.MaxPool2d else F.min_pool2d
    assert pool(x).shape == (1, 2, 3, 3)
    pool.stride = 1
    np.testing.assert_array_equal(pool(x), function(x, 2, 1))
    np.testing.assert_array_equal(nn.Sequential(pool).eval()(x[..., 1:]), function(x[..., 1:], 2, 1))
    np.testing.assert_array_equal(pool(x.astype(np.float64)), function(x.astype(np.float64), 2, 1))
    np.testing.assert_array_equal(pool(x[0]), function(x[0], 2, 1))
    pool.return_indices = True
    for got, want in zip(pool(x), function(x, 2, 1, return_indices=True), strict=True):
        np.testing.assert_array_equal(got, want)
    with pytest.raises(ShapeError):
        pool(x[:, :, :1])
    again = copy.deepcopy(pool)
    again.kernel_size = 3
    assert again(x)[0].shape == (1, 2, 4, 4) and pool(x)[0].shape == (1, 2, 5, 5)
