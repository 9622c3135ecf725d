"""Losses: PyTorch's values and gradients with every option, the twin, the smallest numbers, and the layers."""

from itertools import product

import numpy as np
import pytest

import convkit
from convkit import ShapeError, nn, reference
from convkit import functional as F
from convkit.kernels import native

every_isa = pytest.mark.parametrize("isa", native.ISA_LEVELS or (None,))
REDUCTIONS = ("mean", "sum", "none")
SHAPES = [(6, 5), (3, 17, 4), (2, 3, 5, 7), (5,), (2, 300), (1, 1, 9), (2, 4, 1, 1)]


def class_call(shape, seed, *, soft=False):
    """Logits, target and options of a loss over classes; one target in four is ignored."""
    rng = np.random.default_rng([seed, *shape])
    axis = min(1, len(shape) - 1)
    classes, without = shape[axis], shape[:axis] + shape[axis + 1:]
    logits = 2 * rng.normal(size=shape)
    ignore = (-100, classes // 2, 255)[seed % 3]
    target = rng.integers(0, classes, without)
    target = np.where(rng.random(without) < 0.25, ignore, target)
    if soft:
        target = reference.softmax(rng.normal(size=shape), axis)
    weight = rng.uniform(0.2, 2, classes) if rng.random() < 0.5 else None
    return logits, target, weight, {} if soft else {"ignore_index": ignore}


def torch_loss(name, x, target, dloss, **options):
    """PyTorch's loss and gradient."""
    torch = pytest.importorskip("torch")
    leaf = torch.tensor(x, requires_grad=True)
    options = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(torch.nn.functional, name)(leaf, torch.tensor(target), **options)
    loss.backward(torch.tensor(dloss))
    return loss.detach().numpy(), leaf.grad.numpy()


def agree(name, x, target, **options):
    """Value and gradient of both floors at every level, in both precisions, against PyTorch's in float64."""
    pytest.importorskip("torch")
    shape = np.shape(getattr(reference, name)(x, target, **options))
    dloss = np.random.default_rng(1).normal(size=shape)
    want, gradient = torch_loss(name, x, target, dloss, **options)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 4e-6)):
        x, target, *more = (a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
                            for a in (x, target, *options.values()))
        options = dict(zip(options, more, strict=True))
        for isa in (*native.ISA_LEVELS, "reference"):
            floor = reference if isa == "reference" else F
            with convkit.use(isa=None if floor is reference else isa):
                got = getattr(floor, name)(x, target, **options)
                dx = getattr(floor, f"{name}_backward")(x, target, **options, dloss=dloss.astype(dtype))
            assert got.dtype == dx.dtype == dtype
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1, np.abs(want).max(initial=0)))
            np.testing.assert_allclose(dx, gradient, rtol=tolerance, atol=tolerance * max(1, np.abs(gradient).max()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["numbers", "probabilities"])
def test_cross_entropy(shape, soft):
    for seed, (reduction, smoothing) in enumerate(product(REDUCTIONS, (0.0, 0.1))):
        logits, target, weight, options = class_call(shape, seed, soft=soft)
        agree("cross_entropy", logits, target, weight=weight, reduction=reduction, label_smoothing=smoothing, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nll(shape):
    for seed, reduction in enumerate(REDUCTIONS):
        logits, target, weight, options = class_call(shape, seed)
        x = reference.log_softmax(logits, min(1, len(shape) - 1))
        agree("nll_loss", x, target, weight=weight, reduction=reduction, **options)


PAIRS = [("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.3}),
         ("smooth_l1_loss", {"beta": 0.0}), ("binary_cross_entropy_with_logits", {})]


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (16, 3), (2, 3, 5, 7), (1023,), (1024,), (1025,), (3, 700)], ids=str)
def test_pairs(name, options, shape):
    for seed, reduction in enumerate(REDUCTIONS):
        rng = np.random.default_rng(seed)
        x, target = (np.asarray(2 * rng.normal(size=shape)) for _ in range(2))
        if shape:
            target[..., ::5] = x[..., ::5]  # equal
        if name.startswith("binary"):
            target = np.asarray(rng.random(shape))
            options = {k: rng.uniform(0.2, 3, shape[-1:]) for k in ("weight", "pos_weight") if rng.random() < 0.5}
        agree(name, x, target, reduction=reduction, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice(reduction, smooth):
    rng = np.random.default_rng(0)
    x, target = rng.random((3, 4, 5, 6)), (rng.random((3, 4, 5, 6)) < 0.3).astype(float)
    want = [[1 - (2 * (a * b).sum() + smooth) / (a.sum() + b.sum() + smooth) for a, b in zip(p, t, strict=True)]
            for p, t in zip(x, target, strict=True)]
    want = {"none": np.array(want), "mean": np.mean(want), "sum": np.sum(want)}[reduction]
    dloss = rng.normal(size=np.shape(want))
    for floor in (F, reference):
        np.testing.assert_allclose(floor.dice_loss(x, target, smooth, reduction), want, rtol=1e-12)
        assert floor.dice_loss(x.astype("f4"), target.astype("f4"), smooth, reduction).dtype == np.float32
        dx = floor.dice_loss_backward(x, target, smooth, reduction, dloss)
        along = rng.normal(size=x.shape)
        high, low = (floor.dice_loss(x + h * along, target, smooth, reduction) for h in (1e-6, -1e-6))
        assert ((high - low) / 2e-6 * dloss).sum() == pytest.approx((dx * along).sum(), rel=1e-7)
        empty = np.zeros((1, 1, 4))
        assert floor.dice_loss(empty, empty) == 0
        assert floor.dice_loss(np.ones((1, 1, 4)), np.ones((1, 1, 4)), 0.0) == 0


@pytest.mark.parametrize("floor", [F, reference])
def test_when_nothing_counts(floor):
    """As PyTorch: a mean over nothing is NaN, and its gradient 0."""
    x, target = np.ones((3, 4, 2)), np.full((3, 2), -100)
    for name in ("cross_entropy", "nll_loss"):
        loss, backward = getattr(floor, name), getattr(floor, f"{name}_backward")
        for options in ({}, {"label_smoothing": 0.1}) if name == "cross_entropy" else ({},):
            assert np.isnan(loss(x, target, **options))
            assert loss(x, target, **options, reduction="sum") == 0
            assert not backward(x, target, **options).any()
            assert np.isnan(loss(x[:0], target[:0], **options))
        assert backward(x[:0], target[:0]).shape == (0, 4, 2)
    empty = np.ones((0, 3))
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits", "dice_loss"):
        assert np.isnan(getattr(floor, name)(empty, empty))
        assert getattr(floor, name)(empty, empty, reduction="sum") == 0
        assert getattr(floor, f"{name}_backward")(empty, empty).shape == (0, 3)


@pytest.mark.parametrize("floor", [F, reference])
def test_what_has_no_weight_adds_nothing(floor):
    """Not even where the logit is -inf, on both paths of the kernel."""
    for inner in (1, 5):
        x = np.zeros((2, 3, inner))
        x[:, 0] = -np.inf
        q = np.zeros(x.shape)
        q[:, 1:] = 0.5
        np.testing.assert_allclose(floor.cross_entropy(x, q), np.log(2))
        zero = np.zeros((2, inner), int)
        assert floor.cross_entropy(x, zero, np.array([0.0, 1, 1]), reduction="sum") == 0
        assert floor.cross_entropy(x, zero, ignore_index=0, reduction="sum") == 0
        assert floor.cross_entropy(x, zero + 1, ignore_index=0) == pytest.approx(np.log(2))


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_impossible_and_true_is_infinitely_wrong(isa, dtype):
    for inner in (1, 5):
        x = np.zeros((2, 3, inner), dtype)
        x[:, 0] = -np.inf
        with convkit.use(isa=isa):
            for target in (np.zeros((2, inner), int), np.full(x.shape, 1 / 3, dtype)):
                assert np.isposinf(F.cross_entropy(x, target, reduction="none")).all()
            assert np.isposinf(F.cross_entropy(x, np.ones((2, inner), int), label_smoothing=0.1))


@every_isa
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sure_answers_keep_their_digits(isa, dtype):
    x = np.array([-300, -80, -40, -20, -5, -1e-3, 0, 1e-3, 5, 20, 40, 80, 300], dtype)
    eps = np.finfo(dtype).eps
    with convkit.use(isa=isa), np.errstate(over="ignore", under="ignore"):
        for t in (0, 1):
            target = np.full_like(x, t)
            got = F.binary_cross_entropy_with_logits(x, target, reduction="none")
            want = np.logaddexp(np.longdouble(0), (1 - 2 * t) * x.astype(np.longdouble))
            assert np.all(np.abs(got - want) <= 3 * eps * want + np.finfo(dtype).smallest_subnormal)
            slope = F.binary_cross_entropy_with_logits_backward(x, target, reduction="none")
            p = 1 / (1 + np.exp(-x.astype(np.longdouble))) if t == 0 else -1 / (1 + np.exp(x.astype(np.longdouble)))
            assert np.all(np.abs(slope - p) <= 4 * eps * np.abs(p) + np.finfo(dtype).smallest_subnormal)


@every_isa
def test_nan_and_infinity_go_where_they_belong(isa):
    x = np.array([np.nan, 1, np.inf, -np.inf, 3, 1e30] * 7, np.float32)
    target = np.array([0, np.nan, 0, 0, np.inf, 0] * 7, np.float32)
    with convkit.use(isa=isa), np.errstate(all="ignore"):
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss"):
            got = getattr(F, name)(x, target, reduction="none")
            np.testing.assert_array_equal(np.isnan(got), np.isnan(x) | np.isnan(target))
            np.testing.assert_array_equal(got, getattr(reference, name)(x, target, reduction="none"))
            assert np.isnan(getattr(F, name)(x, target))
            np.testing.assert_array_equal(getattr(F, f"{name}_backward")(x, target, reduction="none"),
                                          getattr(reference, f"{name}_backward")(x, target, reduction="none"))


def layers():
    rng = np.random.default_rng(5)
    w, v = rng.uniform(0.5, 2, 4), rng.uniform(0.5, 2, 5)
    logits, target = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, (3, 5))
    other = rng.random((3, 4, 5))
    return [
        ("CrossEntropyLoss", (w,), {"ignore_index": 1, "label_smoothing": 0.2}, logits, target),
        ("CrossEntropyLoss", (), {}, logits, reference.softmax(other, 1)),
        ("NLLLoss", (w,), {"ignore_index": 2, "reduction": "sum"}, logits, target),
        ("BCEWithLogitsLoss", (v,), {"pos_weight": v + 1, "reduction": "none"}, logits, other),
        ("MSELoss", (), {"reduction": "sum"}, logits, other),
        ("L1Loss", (), {}, logits, other),
        ("SmoothL1Loss", (), {"beta": 0.5}, logits, other),
    ]


@pytest.mark.parametrize(("name", "args", "options", "x", "target"), layers())
def test_layers_are_those_of_torch(name, args, options, x, target):
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(*args, **options)
    tensors = [torch.tensor(a) for a in args]
    theirs = getattr(torch.nn, name)(*tensors, **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v
                                                  for k, v in options.items()})
    leaf = torch.tensor(x, requires_grad=True)
    want = theirs(leaf, torch.tensor(target))
    loss, backward = ours.forward(x, target)
    np.testing.assert_allclose(loss, want.detach().numpy(), rtol=1e-12)
    np.testing.assert_array_equal(ours(x, target), loss)
    dloss = np.random.default_rng(6).normal(size=loss.shape)
    want.backward(torch.tensor(dloss))
    np.testing.assert_allclose(backward(dloss), leaf.grad.numpy(), rtol=1e-10, atol=1e-14)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    for attribute in ours._options:
        if not isinstance(getattr(ours, attribute), np.ndarray):
            assert getattr(ours, attribute) == getattr(theirs, attribute)


def test_dice_layer():
    rng = np.random.default_rng(1)
    x, target = rng.random((2, 3, 4)), rng.random((2, 3, 4))
    loss, backward = nn.DiceLoss(0.5, "sum").forward(x, target)
    assert loss == F.dice_loss(x, target, 0.5, "sum")
    np.testing.assert_array_equal(backward(2.0), F.dice_loss_backward(x, target, 0.5, "sum", 2.0))


@pytest.mark.parametrize("make, message", [
    (lambda: nn.MSELoss("max"), "reduction must be one of mean, sum, none, got reduction='max'"),
    (lambda: nn.SmoothL1Loss(beta=-1), "beta must be finite and not negative, got beta=-1"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), "label_smoothing must be between 0 and 1"),
    (lambda: nn.DiceLoss(np.nan), "smooth must be finite and not negative, got smooth=nan"),
])
def test_constructors_refuse(make, message):
    with pytest.raises(ShapeError, match=message):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3, 16, 17, 63, 64, 65, 1023, 1024, 1025, 3000])
def test_dice_around_vectors_and_chunks(size, dtype):
    rng = np.random.default_rng(size)
    x, target = rng.random((2, 3, size)).astype(dtype), rng.integers(0, 2, (2, 3, size)).astype(dtype)
    close = {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}
    for isa in native.ISA_LEVELS or (None,):
        with convkit.use(isa=isa):
            bits = []
            for threads in (1, 2, 3):
                with convkit.threads(threads):
                    bits.append((F.dice_loss(x, target, reduction="none"), F.dice_loss_backward(x, target)))
            for got in zip(*bits, strict=True):
                for other in got[1:]:
                    np.testing.assert_array_equal(other, got[0])
            loss, dx = bits[0]
            np.testing.assert_allclose(loss, reference.dice_loss(x, target, reduction="none"), **close)
            np.testing.assert_allclose(dx, reference.dice_loss_backward(x, target), **close)
            np.testing.assert_array_equal(F.dice_loss(x[1:], target[1:], reduction="none"), loss[1:])


def test_dice_keeps_nan_in_its_row():
    x, target = np.full((2, 3, 1030), 0.5, np.float32), np.ones((2, 3, 1030), np.float32)
    x[1, 2, 1029] = np.nan
    assert np.isnan(F.dice_loss(x, target, reduction="none")).tolist() == [[False] * 3, [False, False, True]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5,), (7, 5), (30000, 3), (2, 5, 3), (3, 4, 5000)])
def test_picked_losses_of_many_tasks(shape, dtype):
    rng = np.random.default_rng(0)
    axis = min(1, len(shape) - 1)
    x, weight = rng.normal(size=shape).astype(dtype), rng.random(shape[axis]).astype(dtype)
    weight[0] = 0
    target = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1:])
    target[...] = np.where(rng.random(target.shape) < 0.3, -100, target)
    x[(0,) * len(shape)] = -np.inf
    for options in ({}, {"weight": weight}, {"reduction": "sum"}, {"weight": weight, "reduction": "none"}):
        with convkit.threads(1):
            once = F.nll_loss(x, target, **options), F.nll_loss_backward(x, target, **options)
        with convkit.threads(3):
            np.testing.assert_array_equal(F.nll_loss(x, target, **options), once[0])
            np.testing.assert_array_equal(F.nll_loss_backward(x, target, **options), once[1])
        close = {"rtol": 8 * np.finfo(dtype).eps, "atol": 1e-12}
        np.testing.assert_allclose(once[0], reference.nll_loss(x, target, **options), **close)
        np.testing.assert_allclose(once[1], reference.nll_loss_backward(x, target, **options), **close)


@pytest.mark.parametrize("function", [F.nll_loss, F.nll_loss_backward, F.cross_entropy, reference.nll_loss,
                                      reference.cross_entropy_backward])
def test_class_numbers_are_looked_at_every_time(function):
    x, target = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 2])
    function(x, target)
    for wrong in (3, -1, -101, 2**62):
        target[1] = wrong
        with pytest.raises(convkit.ShapeError, match="target must be at least 0 and less than the 3 classes"):
            function(x, target)
    unsigned = np.array([0, 1, 2, 2**64 - 100], np.uint64)  # as a signed number the one to ignore
    with pytest.raises(convkit.ShapeError, match="target must be at least 0 and less than the 3 classes"):
        function(x, unsigned)
    for low in (-2**63, -2**70):
        with pytest.raises(convkit.ShapeError, match="ignore_index must be at least"):
            function(x, target, ignore_index=low)
