"""What Sequential does by itself when it trains: the same numbers to the bit, nobody's array overwritten."""

import sys
import weakref

import numpy as np
import pytest

import convkit
from convkit import nn
from convkit.nn.passes import InPlace, passes


def one_by_one(net, x, dy):
    """Output, dx and gradients with every layer by itself."""
    net.zero_grad()
    steps = []
    for layer in net:
        x, step = layer.forward(x)
        steps.append(step)
    for step in reversed(steps):
        dy = step(dy)
    return [x, dy, *(p.grad for p in net.parameters())]


def as_a_whole(net, x, dy):
    net.zero_grad()
    y, backward = net.forward(x)
    return [y, backward(dy), *(p.grad for p in net.parameters())]


def same_bits(net, x, seed=0):
    dy = np.random.default_rng(seed).standard_normal(net.forward(x)[0].shape).astype(x.dtype)
    x_before, dy_before = x.copy(), dy.copy()
    want, got = one_by_one(net, x, dy), as_a_whole(net, x, dy)
    for a, b in zip(want, got, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert x.tobytes() == x_before.tobytes()
    assert dy.tobytes() == dy_before.tobytes()


def kinds(net):
    return [type(getattr(each, "layer", each)).__name__ for each in passes(net)]


POOLS = {1: [lambda: nn.MaxPool1d(2), lambda: nn.MinPool1d(3, 2, 1)],
         2: [lambda: nn.MaxPool2d(2), lambda: nn.MaxPool2d(3, 2, 1), lambda: nn.MinPool2d(2),
             lambda: nn.MaxPool2d(2, ceil_mode=True), lambda: nn.MaxPool2d(20, 20, 5), lambda: nn.MaxPool2d(3, 1)],
         3: [lambda: nn.MaxPool3d((1, 2, 2)), lambda: nn.MinPool3d(2)]}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rank,make", [(rank, make) for rank, makes in POOLS.items() for make in makes])
def test_relu_behind_max_pooling(rank, make, dtype):
    rng = np.random.default_rng(rank)
    net = nn.Sequential(getattr(nn, f"Conv{rank}d")(3, 6, 3, padding=1, rng=rng, dtype=dtype), nn.ReLU(), make(),
                        getattr(nn, f"Conv{rank}d")(6, 4, 1, rng=rng, dtype=dtype))
    assert kinds(net)[1:3] == [type(make()).__name__, "ReLU"]
    same_bits(net, rng.standard_normal((2, 3, *[11] * rank)).astype(dtype))


@pytest.mark.parametrize("make", POOLS[2])
def test_relu_behind_max_pooling_of_anything(make):
    rng = np.random.default_rng(3)
    net = nn.Sequential(nn.ReLU(), make())
    for special in ([np.nan], [-0.0, 0.0], [np.inf, -np.inf], [-1.0], [1.0, 1.0, -1.0, 0.0], [np.nan, -1.0, 1.0]):
        x = rng.choice(np.array(special, np.float32), (2, 2, 13, 12))
        same_bits(net, x)


def test_activations_where_their_input_lies():
    rng = np.random.default_rng(4)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, rng=rng), nn.ReLU(), nn.Sigmoid(), nn.ReLU(), nn.Conv2d(5, 4, 3, rng=rng),
                        nn.BatchNorm2d(4), nn.Tanh(), nn.AvgPool2d(2), nn.Sigmoid(), nn.Flatten(),
                        nn.Linear(16, 7, rng=rng), nn.ReLU(), nn.Linear(7, 3, rng=rng), nn.Tanh())
    in_place = [(each.over_x, each.over_dy) for each in passes(net) if isinstance(each, InPlace)]
    assert in_place == [(True, True), (False, True), (False, True), (True, True), (True, False), (True, True), (True, False)]
    net.eval()  # or the running statistics move on
    same_bits(net, rng.standard_normal((2, 3, 8, 8), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (4, 6, 9), (3, 5, 11, 13), (2, 3, 4, 5, 6), (6, 300, 3), (2, 3, 70, 70)])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_relu_in_the_passes_of_a_batch_norm(options, after, shape, dtype):
    rng = np.random.default_rng(len(shape))
    channels, rank = shape[1], max(1, len(shape) - 2)
    norm = getattr(nn, f"BatchNorm{rank}d")(channels, dtype=dtype, **options)
    if norm.affine:
        norm.weight.data = rng.standard_normal(channels).astype(dtype)
        norm.bias.data = rng.standard_normal(channels).astype(dtype)
    net = nn.Sequential(norm, nn.ReLU(), *[nn.ReLU()] * after)
    x = rng.standard_normal(shape).astype(dtype)
    assert kinds(net) == [type(norm).__name__, *["ReLU"] * after]
    same_bits(net, x)
    if x.size > 1000:  # the scalar of a channel may be the mean, where the line is exactly 0
        x.reshape(-1)[7] = np.nan
        same_bits(net, x)
        x[:, 0] = 2
        same_bits(net, x)
    same_bits(net.eval(), x)
    y, backward = net.train().forward(x)
    with convkit.use(algorithm="reference"):
        twin = backward(y)
    dx = backward(y)
    np.testing.assert_allclose(dx[:, 1:], twin[:, 1:], atol=np.finfo(dtype).eps * 100)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_same_bits_at_any_number_of_threads(threads):
    rng = np.random.default_rng(10)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, rng=rng), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, rng=rng), nn.ReLU(),
                        nn.MaxPool2d(2))
    x = rng.standard_normal((8, 3, 44, 44), np.float32)
    results = []
    for count in (1, threads):
        with convkit.threads(count):
            results.append(as_a_whole(net, x, np.ones((8, 8, 20, 20), np.float32)))
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_running_statistics_move_once():
    rng = np.random.default_rng(9)
    one, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    x = rng.standard_normal((2, 3, 6, 6), np.float32)
    nn.Sequential(one, nn.ReLU()).forward(x)
    other.forward(x)
    for key, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[key])


def test_backward_again_and_two_passes_at_a_time():
    rng = np.random.default_rng(5)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 1, rng=rng), nn.ReLU(),
                        nn.Conv2d(2, 2, 1, rng=rng))
    x, other = rng.standard_normal((2, 1, 2, 8, 8), np.float32)
    y, backward = net.forward(x)
    first = backward(np.ones_like(y))
    _, beside = net.forward(other)
    beside(np.ones_like(y))
    assert backward(np.ones_like(y)).tobytes() == first.tobytes()


def test_other_layouts_and_the_definition():
    rng = np.random.default_rng(6)
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1, rng=rng)).eval()
    x = rng.standard_normal((2, 6, 6, 4), np.float32).transpose(0, 3, 1, 2)
    same_bits(net, x)
    same_bits(net, x[:0])
    with convkit.use(algorithm="reference"):
        same_bits(net, x)


def test_what_stays_as_it_is():
    class Loud(nn.ReLU):
        def forward(self, x):
            seen.append(x.shape)
            return super().forward(x)

    seen = []
    replaced = nn.ReLU()
    replaced.forward = lambda x: seen.append(x.shape) or (x, lambda dy: dy)
    x = np.random.default_rng(7).standard_normal((1, 2, 4, 4), np.float32)
    for relu in Loud(), replaced:
        net = nn.Sequential(nn.Conv2d(2, 2, 1), relu, nn.MaxPool2d(2))
        assert passes(net) == list(net)
        net.forward(x)
    assert seen == [(1, 2, 4, 4)] * 2
    for layers in ([nn.Identity(), nn.ReLU(), nn.Identity()], [nn.Flatten(), nn.ReLU()], [nn.Dropout(), nn.Tanh()],
                   [nn.GELU(), nn.MaxPool2d(2)], [nn.ReLU()], [nn.ReLU(), nn.MaxPool2d(2, return_indices=True)],
                   [nn.Sequential(nn.Conv2d(2, 2, 1)), nn.ReLU()]):
        assert passes(nn.Sequential(*layers)) == layers


def test_the_large_array_is_not_kept():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4))
    x = np.ones((1, 1, 64, 64), np.float32)
    kept = []
    net[0].forward = lambda x, forward=net[0].forward: kept.append(forward(x)) or kept[0]
    _y, _backward = net.forward(x)
    gone = weakref.ref(kept.pop()[0])
    assert gone() is None


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_a_step_takes_no_memory_from_the_system():
    import resource

    rng = np.random.default_rng(8)
    net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(6 * 14 * 14, 10, rng=rng))
    x = rng.standard_normal((64, 1, 28, 28), np.float32)

    def step():
        y, backward = net.forward(x)
        backward(y, need_dx=False)
        net.zero_grad()

    for _ in range(5):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 200  # the first array alone has 300 pages
