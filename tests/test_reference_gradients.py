"""Every backward function against central differences of its forward function, in float64, on both floors."""

import numpy as np
import pytest

from convkit import functional, reference
from convkit.spec.activation import ACTIVATIONS, FROM_OUTPUT

EPS, ATOL, RTOL = 1e-6, 1e-6, 1e-4


def slope(f, a):
    """Gradient of the scalar ``f(a)`` by central differences."""
    g = np.empty(a.shape)
    for i in np.ndindex(*a.shape):
        keep = a[i]
        a[i] = keep + EPS
        high = f(a)
        a[i] = keep - EPS
        low = f(a)
        a[i] = keep
        g[i] = (high - low) / (2 * EPS)
    return g


def agree(got, f, a):
    np.testing.assert_allclose(got, slope(f, a), rtol=RTOL, atol=ATOL)


def draw(*shapes):
    rng = np.random.default_rng(11)
    return [rng.normal(size=shape) for shape in shapes]


OTHER_ARGUMENTS = {"leaky_relu": ((0.3,),), "elu": ((0.7,),), "gelu": (("tanh",),), "softplus": ((2.0, 1.0),)}
both = pytest.mark.parametrize("floor", [functional, reference], ids=["functional", "reference"])


@both
@pytest.mark.parametrize("args", [(1, 0, 1, 1), (2, ((1, 0), (2, 1)), (1, 2), 2), ((3, 2), 1, 1, 4)], ids=str)
def test_conv2d(floor, args):
    x, w, b = draw((2, 4, 6, 5), (4, 4 // args[3], 3, 2), 4)
    dy, = draw(floor.conv2d(x, w, b, *args).shape)
    dx, dw, db = floor.conv2d_backward(dy, x, w, *args)
    agree(dx, lambda a: (dy * floor.conv2d(a, w, b, *args)).sum(), x)
    agree(dw, lambda a: (dy * floor.conv2d(x, a, b, *args)).sum(), w)
    agree(db, lambda a: (dy * floor.conv2d(x, w, a, *args)).sum(), b)


OTHER_CONVOLUTIONS = [
    ("conv1d", (2, 4, 7), (6, 2, 3), 6, {"stride": 2, "padding": ((2, 1),), "groups": 2}),
    ("conv1d", (2, 2, 5), (3, 2, 3), 3, {"padding": 3, "padding_mode": "reflect"}),
    ("conv2d", (1, 2, 4, 3), (2, 2, 3, 2), 2, {"padding": (2, 1), "padding_mode": "circular", "stride": 2}),
    ("conv3d", (1, 2, 3, 3, 2), (2, 1, 2, 2, 1), 2, {"padding": 1, "groups": 2, "padding_mode": "replicate"}),
    ("conv_transpose1d", (2, 4, 5), (4, 3, 3), 6, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    ("conv_transpose2d", (2, 2, 3, 2), (2, 3, 2, 3), 3, {"stride": (1, 3), "dilation": (2, 1), "output_padding": (1, 0)}),
    ("conv_transpose3d", (1, 2, 2, 2, 3), (2, 2, 1, 2, 2), 2, {"stride": (2, 1, 2), "padding": ((0, 1), 0, (1, 0))}),
]


@both
@pytest.mark.parametrize(("name", "x_shape", "w_shape", "filters", "options"), OTHER_CONVOLUTIONS,
                         ids=[row[0] + str(i) for i, row in enumerate(OTHER_CONVOLUTIONS)])
def test_other_convolutions(floor, name, x_shape, w_shape, filters, options):
    conv = getattr(floor, name)
    x, w, b = draw(x_shape, w_shape, filters)
    dy, = draw(conv(x, w, b, **options).shape)
    dx, dw, db = getattr(floor, f"{name}_backward")(dy, x, w, **options)
    agree(dx, lambda a: (dy * conv(a, w, b, **options)).sum(), x)
    agree(dw, lambda a: (dy * conv(x, a, b, **options)).sum(), w)
    agree(db, lambda a: (dy * conv(x, w, a, **options)).sum(), b)


@both
@pytest.mark.parametrize(("padding", "mode"), [((1, 2, 0, -2, -1, 3), "constant"), ((1, 2, 3, 0), "reflect"),
                                               ((4, 1), "replicate"), ((3, 2, 1, 4, 0, 1), "circular")], ids=str)
def test_padding(floor, padding, mode):
    x, = draw((2, 1, 3, 4, 3))
    x = x[:, 0] if len(padding) < 6 else x
    x = x[0] if len(padding) < 4 else x
    dy, = draw(floor.pad(x, padding, mode).shape)
    agree(floor.pad_backward(dy, padding, mode), lambda a: (dy * floor.pad(a, padding, mode)).sum(), x)


@both
@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("args", [(2,), (3, 1, 1), (3, 2, 1, 1, True), ((2, 3), 1, 0, (2, 1))], ids=str)
def test_extreme_pools(floor, kind, args):
    pool = getattr(floor, f"{kind}_pool2d")
    x = np.random.default_rng(12).permutation(2 * 2 * 6 * 5).reshape(2, 2, 6, 5) / 8.0  # no ties within EPS
    padded = (*args, *(None, 0, 1, False)[len(args) - 1:])
    y, indices = pool(x, *padded, return_indices=True)
    dy, = draw(y.shape)
    agree(
        getattr(floor, f"{kind}_pool2d_backward")(dy, indices, x.shape),
        lambda a: (dy * pool(a, *args)).sum(),
        x,
    )


@both
@pytest.mark.parametrize(
    "args", [(2,), (3, 1, 1), (3, 2, 1, True), (3, 2, 1, True, False), (2, 3, 0, True, True, 3)], ids=str
)
def test_average_pools(floor, args):
    x, = draw((2, 2, 6, 5))
    dy, = draw(floor.avg_pool2d(x, *args).shape)
    agree(floor.avg_pool2d_backward(dy, x.shape, *args), lambda a: (dy * floor.avg_pool2d(a, *args)).sum(), x)


@both
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)], ids=str)
def test_linear(floor, shape):
    x, w, b = draw(shape, (4, 5), 4)
    dy, = draw((*shape[:-1], 4))
    dx, dw, db = floor.linear_backward(dy, x, w)
    agree(dx, lambda a: (dy * floor.linear(a, w, b)).sum(), x)
    agree(dw, lambda a: (dy * floor.linear(x, a, b)).sum(), w)
    agree(db, lambda a: (dy * floor.linear(x, w, a)).sum(), b)


@both
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(floor, name, axis):
    forward, backward = getattr(floor, name), getattr(floor, f"{name}_backward")
    x, dy = draw((3, 4, 2), (3, 4, 2))
    agree(backward(dy, forward(x, axis), axis), lambda a: (dy * forward(a, axis)).sum(), x)


@both
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 3)], ids=str)
def test_cross_entropy(floor, reduction, shape):
    x, = draw(shape)
    target = np.random.default_rng(13).integers(0, 4, (shape[0], *shape[2:]))
    dloss = draw(target.shape)[0] if reduction == "none" else 0.7
    got = floor.cross_entropy_backward(x, target, reduction=reduction, dloss=dloss)
    agree(got, lambda a: (dloss * floor.cross_entropy(a, target, reduction=reduction)).sum(), x)


@both
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4)], ids=str)
def test_batch_norm(floor, training, shape):
    x, w, b, dy = draw(shape, 3, 3, shape)
    mean, var = None, None
    if not training:
        mean, var = np.array([0.1, -0.2, 0.3]), np.array([0.5, 1.5, 2.5])

    def forward(x, w, b):
        return (dy * floor.batch_norm(x, mean, var, w, b, training)).sum()

    dx, dw, db = floor.batch_norm_backward(dy, x, w, mean=mean, var=var, training=training)
    agree(dx, lambda a: forward(a, w, b), x)
    agree(dw, lambda a: forward(x, a, b), w)
    agree(db, lambda a: forward(x, w, a), b)
    bare, _, _ = floor.batch_norm_backward(dy, x, mean=mean, var=var, training=training)
    agree(bare, lambda a: forward(a, None, None), x)


@both
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(floor, name):
    x, dy = draw((4, 6), (4, 6))
    forward, backward = getattr(floor, name), getattr(floor, f"{name}_backward")
    for arguments in ((), *OTHER_ARGUMENTS.get(name, ())):
        other = forward(x, *arguments) if name in FROM_OUTPUT else x
        agree(backward(dy, other, *arguments), lambda a, more=arguments: (dy * forward(a, *more)).sum(), x)


@both
def test_dropout(floor):
    x, dy = draw((4, 6), (4, 6))
    _, mask = floor.dropout(x, 0.3, rng=np.random.default_rng(3))
    agree(floor.dropout_backward(dy, mask, 0.3),
          lambda a: (dy * floor.dropout(a, 0.3, rng=np.random.default_rng(3))[0]).sum(), x)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_gradients_are_adjoint_exactly_on_integers(floor, dtype):
    rng = np.random.default_rng(14)

    def whole(*shape):
        return rng.integers(-4, 5, shape).astype(dtype)

    x, w = whole(2, 6, 9, 8), whole(4, 3, 3, 2)
    args = (2, ((1, 2), (0, 1)), (1, 2), 2)
    y = floor.conv2d(x, w, None, *args)
    dy = whole(*y.shape)
    dx, dw, db = floor.conv2d_backward(dy, x, w, *args)
    assert (y * dy).sum() == (x * dx).sum() == (w * dw).sum()
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 2, 3)))


@both
def test_layer_and_group_and_instance_norm(floor):
    for name, by, shape in (("layer_norm", ((2, 5),), (3, 2, 5)), ("group_norm", (2,), (3, 4, 5)),
                            ("group_norm", (2,), (3, 6)), ("instance_norm", None, (3, 4, 5))):
        forward, backward = getattr(floor, name), getattr(floor, f"{name}_backward")
        weights = by[0] if name == "layer_norm" else shape[1]
        x, dy, w, b = draw(shape, shape, weights, weights)

        def value(x, w, b, forward=forward, by=by, dy=dy):
            return (dy * forward(x, *((None, None) if by is None else by), w, b)).sum()

        dx, dw, db = backward(dy, x, *(by or ()), w)
        agree(dx, lambda a, w=w, b=b, f=value: f(a, w, b), x)
        agree(dw, lambda a, x=x, b=b, f=value: f(x, a, b), w)
        agree(db, lambda a, x=x, w=w, f=value: f(x, w, a), b)


@both
def test_prelu(floor):
    x, dy, w = draw((3, 4, 5), (3, 4, 5), 4)
    dx, dw = floor.prelu_backward(dy, x, w)
    agree(dx, lambda a: (dy * floor.prelu(a, w)).sum(), x)
    agree(dw, lambda a: (dy * floor.prelu(x, a)).sum(), w)


@both
@pytest.mark.parametrize("size", [1, 3, 4])
def test_local_response_norm(floor, size):
    x, dy = draw((2, 5, 3), (2, 5, 3))
    agree(floor.local_response_norm_backward(dy, x, size, 0.5, 0.75, 2.0),
          lambda a: (dy * floor.local_response_norm(a, size, 0.5, 0.75, 2.0)).sum(), x)
