"""Every layer that PyTorch has, in training twice and then in prediction mode, with its own random state: outputs,
gradients and running statistics in float64.
"""

from itertools import product

import numpy as np
import pytest

from convkit import nn

torch = pytest.importorskip("torch")

SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 7)}
INTERPOLATE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def rows():
    """(layer, arguments, options, shape of x): with a batch axis, and here and there without one."""
    for rank, size in SIZES.items():
        d, x = f"{rank}d", (3, 4, *size)
        for mode in ("zeros", "reflect", "replicate", "circular"):
            yield f"Conv{d}", (4, 6, 3, 2, 1, 1, 2, True, mode), {}, x
        yield f"Conv{d}", (4, 8, 2), {"padding": "same", "groups": 4, "dilation": 2}, x[1:]
        yield f"ConvTranspose{d}", (4, 6, 3, 2, 1, 1, 2, False), {}, x
        yield f"ConvTranspose{d}", (4, 6, 3), {"stride": 3, "dilation": 2, "output_padding": 1}, x[1:]
        yield f"MaxPool{d}", (3, 2, 1, 1, True, True), {}, x
        yield f"AvgPool{d}", (3, 2, 1, True, False), {}, x[1:]
        yield f"AdaptiveMaxPool{d}", (2, True), {}, x
        yield f"AdaptiveAvgPool{d}", (3,), {}, x
        for affine, tracked, momentum in product((True, False), (True, False), (0.2, None)):
            yield f"BatchNorm{d}", (4, 1e-3, momentum, affine, tracked), {}, x
            if momentum:
                yield f"InstanceNorm{d}", (4, 1e-3, momentum, affine, tracked), {}, x[not affine:]
        for norm, args in (("BatchNorm", (4,)), ("InstanceNorm", (4, 1e-3, 0.2, True, True))):
            yield f"{norm}{d}", args, {"bias": False}, x
        yield "GroupNorm", (2, 4, 1e-3), {}, x
        yield "GroupNorm", (2, 4), {"bias": False}, x
        yield "LayerNorm", (size, 1e-3, True, False), {}, x
        yield "LocalResponseNorm", (3, 0.3, 0.6, 1.2), {}, x
        yield "PReLU", (4, 0.3), {}, x
        yield f"ConstantPad{d}", ((1, -1) * rank, 2.5), {}, x
        for mode in ("Reflection", "Replication", "Circular"):
            yield f"{mode}Pad{d}", ((1, 2) * rank,), {}, x
        yield "Upsample", (), {"scale_factor": 2.5}, x
        for align in (True, False):
            yield "Upsample", (), {"scale_factor": 1.7, "mode": INTERPOLATE[rank], "align_corners": align}, x
    yield "Upsample", (), {"scale_factor": (0.6, 1.3), "mode": "bilinear", "recompute_scale_factor": True}, (3, 4, 9, 8)
    yield "Upsample", (), {"scale_factor": 1.7, "mode": "nearest-exact"}, (3, 4, 9, 8)
    yield "Linear", (8, 3), {}, (3, 4, 8)
    yield "BatchNorm1d", (4,), {}, (5, 4)
    yield "Unfold", ((2, 3), 2, 1, (2, 1)), {}, (3, 4, 9, 8)
    yield "Fold", ((5, 6), (2, 3)), {}, (2, 24, 16)
    yield "PixelShuffle", (2,), {}, (8, 3, 3)
    yield "Flatten", (0, 1), {}, (3, 4, 9)
    for dim, name in product((0, 2), ("Softmax", "LogSoftmax")):
        yield name, (dim,), {}, (3, 4, 9)


def near(got, want, what):
    want = want.detach().numpy()
    assert np.shape(got) == want.shape, what
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("name, args, options, shape", list(rows()))
def test_a_layer_does_what_that_of_torch_does(name, args, options, shape):
    rng = np.random.default_rng(0)
    theirs = getattr(torch.nn, name)(*args, **options).double()
    for p in theirs.parameters():
        p.data = torch.tensor(rng.standard_normal(p.shape))
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    ours = getattr(nn, name)(*args, **options, **({"dtype": np.float64} if state else {}))
    ours.load_state_dict(state)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = rng.standard_normal(shape)
        leaf = torch.tensor(x, requires_grad=True)
        want, (y, backward) = theirs(leaf), ours.forward(x)
        if isinstance(want, tuple):
            (y, indices), (want, places) = y, want
            np.testing.assert_array_equal(indices, places)
        near(y, want, "y")
        dy = rng.standard_normal(y.shape)
        ours.zero_grad()
        theirs.zero_grad()
        want.backward(torch.tensor(dy))
        near(backward(dy), leaf.grad, "dx")
        for (key, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            near(mine.grad, other.grad, key)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for key, value in theirs.state_dict().items():
            near(ours.state_dict()[key], value, key)
    got = ours(x)
    near(got[0] if isinstance(got, tuple) else got, want, "in prediction")
