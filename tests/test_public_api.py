"""Bad input through the public functions and the layers: refused at once, with a sentence, before memory is taken.

The rows are those of the table of field notes on how trusted systems failed: each has crashed, hung or been answered
wrongly somewhere. (``test_spec_*`` check every sentence; here the whole call is made, timed and weighed.)
"""

import time
import tracemalloc

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit import nn
from convkit.spec.activation import ACTIVATIONS

X = np.ones((2, 4, 8, 8), np.float32)
W = np.ones((6, 4, 3, 3), np.float32)
Y = np.ones((2, 6, 6, 6), np.float32)
B = np.ones(6, np.float32)
V = np.ones(4, np.float32)
INDEX = np.zeros((2, 4, 4, 4), np.int64)
P = np.ones((2, 4, 4, 4), np.float32)
RNG = np.random.default_rng(0)
HUGE = (2**31 - 1, 2**31, 2**32 + 3, 2**61, 2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**70, 10**400)

Shape, Dtype = convkit.ShapeError, convkit.DtypeError


def rows_of_the_other_poolings(row):
    """Every rank of every pooling, and the rules that only these have."""
    for rank in (1, 2, 3):
        d = f"{rank}d"
        x = np.ones((2, 4, *(8,) * rank), np.float32)
        small, index = x[(..., *(slice(4),) * rank)], np.zeros((2, 4, *(4,) * rank), np.int64)
        wrong = index.copy()
        wrong[(1, 3, *(3,) * rank)] = 8**rank
        if rank != 2:
            for kind in ("max", "min", "avg"):
                for bad in (0, -2, (2,) * (rank + 1), 9, 2**62, True, 1.5):
                    yield row(f"{kind}_pool{d} {bad}", (Shape, Dtype), getattr(F, f"{kind}_pool{d}"), x, bad)
                yield row(f"{kind}_pool{d} axes", Shape, getattr(F, f"{kind}_pool{d}"), x[0, 0], 2)
            for kind in ("max", "min"):
                yield row(f"{kind}_pool{d}_backward", Shape, getattr(F, f"{kind}_pool{d}_backward"), small, wrong, x.shape)
            yield row(f"avg_pool{d}_backward", Shape, getattr(F, f"avg_pool{d}_backward"), x, x.shape, 2)
        lp, lp_backward = getattr(F, f"lp_pool{d}"), getattr(F, f"lp_pool{d}_backward")
        for bad in (0, 0.99, -1, -np.inf, np.nan):
            yield row(f"lp_pool{d} norm {bad}", Shape, lp, x, bad, 2)
        for bad in (None, True, "2", 2j):
            yield row(f"lp_pool{d} norm {bad}", Dtype, lp, x, bad, 2)
        yield row(f"lp_pool{d} kernel", Shape, lp, x, 2, 9)
        yield row(f"lp_pool{d}_backward y", Shape, lp_backward, small, x, x, 2, 2)
        yield row(f"lp_pool{d}_backward dy", Shape, lp_backward, x, x, small, 2, 2)
        yield row(f"lp_pool{d}_backward float64", Dtype, lp_backward, small.astype(float), x, small, 2, 2)
        for kind in ("max", "avg"):
            adaptive = getattr(F, f"adaptive_{kind}_pool{d}")
            for bad in (0, -1, (2,) * (rank + 1), (), 2**40 * 2**40, 10**400, 2**61):
                yield row(f"adaptive_{kind}_pool{d} {str(bad)[:20]}", Shape, adaptive, x, bad)
            for bad in (1.5, True, "2", (2.0,) * rank):
                yield row(f"adaptive_{kind}_pool{d} {bad}", Dtype, adaptive, x, bad)
        yield row(f"adaptive_max_pool{d}_backward", Shape, getattr(F, f"adaptive_max_pool{d}_backward"), small, wrong, x.shape)
        for bad in ((2, 3, *(8,) * rank), (2, 4), None):
            yield row(f"adaptive_avg_pool{d}_backward {bad}", (Shape, Dtype),
                      getattr(F, f"adaptive_avg_pool{d}_backward"), small, bad)
        unpool, unpool_backward = getattr(F, f"max_unpool{d}"), getattr(F, f"max_unpool{d}_backward")
        for bad in (8**rank, -1, 2**32 + 3, -2**63, 2**63 - 1):
            wrong = index.copy()
            wrong[(1, 3, *(3,) * rank)] = bad
            yield row(f"max_unpool{d} index {bad}", Shape, unpool, small, wrong, 2)
            yield row(f"max_unpool{d}_backward index {bad}", Shape, unpool_backward, x, wrong)
        for bad in ((6,) * rank, (10,) * rank, (8,) * (rank + 3), (-8,) * rank, (2**62,) * rank, (8.0,) * rank, 8):
            yield row(f"max_unpool{d} output_size {bad}", (Shape, Dtype), unpool, small, index, 2, output_size=bad)
        yield row(f"max_unpool{d} float indices", Dtype, unpool, small, index.astype(float), 2)
        yield row(f"max_unpool{d} indices", Shape, unpool, small, index[:1], 2)
        yield row(f"max_unpool{d} padding", Shape, unpool, small, index, 2, padding=4)
        yield row(f"max_unpool{d}_backward planes", Shape, unpool_backward, x, index[:1])
        yield row(f"max_unpool{d}_backward float indices", Dtype, unpool_backward, x, index.astype(float))
    for kind in ("max", "min", "avg"):
        for shape in ((4, 8), (2,) * 6, (2, 0, 4), (2, 4, 0)):
            yield row(f"global_{kind}_pool {shape}", Shape, getattr(F, f"global_{kind}_pool"), np.ones(shape, np.float32))
        args = (P,) if kind == "avg" else (P, INDEX)
        for shape in ((2, 4, 8, 8), (2, 4), None, (2, 4, 2**62)):
            yield row(f"global_{kind}_pool_backward {shape}", (Shape, Dtype), getattr(F, f"global_{kind}_pool_backward"),
                      *args, shape if kind == "avg" else shape and (3, *shape[1:]))


def rows():
    """(id, error, call)."""
    def row(name, error, function, *args, **options):
        return name, error, function, args, options

    # convolution: strides, dilation, padding, groups
    for bad in (0, -1, (1, 0), (0, 1), -2**63, (), (1,), (1, 1, 1)):
        yield row(f"stride {bad}", Shape, F.conv2d, X, W, stride=bad)
        yield row(f"dilation {bad}", Shape, F.conv2d, X, W, dilation=bad)
    for bad in (-1, (0, -1), ((0, -1), (0, 0)), (), (1,), (1, 1, 1), ((1,), (1,)), "full", "SAME", ""):
        yield row(f"padding {bad}", Shape, F.conv2d, X, W, padding=bad)
    for bad in (0, -1, 3, 5, 8, 2**63):
        yield row(f"groups {bad}", Shape, F.conv2d, X, W, groups=bad)
    for bad in (1.0, 1.5, float("nan"), None, True, np.float32(1), object(), [1.0, 1], (1, None), 1j, b"1"):
        for name in ("stride", "dilation", "padding", "groups"):
            yield row(f"{name} {bad!r}", (Shape, Dtype), F.conv2d, X, W, **{name: bad})
    for bad in HUGE:
        yield row(f"dilation {bad:.0e}" if bad < 1e300 else "dilation vast", Shape, F.conv2d, X, W, dilation=bad)
        yield row(f"padding {bad:.0e}" if bad < 1e300 else "padding vast", Shape, F.conv2d, X, W, padding=bad)
    yield row("padding 2**24", Shape, F.conv2d, X, W, padding=2**24)
    yield row("stride 2**63", Shape, F.conv2d, X, W, stride=2**63)
    yield row("transposed sizes", Shape, F.conv2d, W, X)
    # operands
    for shape in ((), (8,), (8, 8), (1, 2, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8), (2, 3, 8, 8), (2, 4, 2, 8)):
        yield row(f"x {shape}", Shape, F.conv2d, np.ones(shape, np.float32), W)
    for shape in ((), (6,), (6, 4, 3), (6, 4, 3, 3, 3), (6, 3, 3, 3), (0, 4, 3, 3), (6, 4, 0, 3), (6, 4, 9, 3)):
        yield row(f"weight {shape}", Shape, F.conv2d, X, np.ones(shape, np.float32))
    for shape in ((), (1,), (4,), (5,), (7,), (6, 1), (1, 6), (0,)):
        yield row(f"bias {shape}", Shape, F.conv2d, X, W, np.ones(shape, np.float32))
    for dtype in ("f2", "f8", "i4", "u1", "?", "c8", "O", "U3", "M8[s]", [("a", "f4")], "g"):
        x = np.zeros(X.shape, dtype)
        yield row(f"x of {dtype}", Dtype, F.conv2d, x, W)
        yield row(f"weight of {dtype}", Dtype, F.conv2d, X, np.zeros(W.shape, dtype))
        yield row(f"bias of {dtype}", Dtype, F.conv2d, X, W, np.zeros(6, dtype))
    for bad in (None, 1.0, "x", [[[[1.0]]]], X.tolist(), memoryview(X), object()):
        yield row(f"x a {type(bad).__name__}", Dtype, F.conv2d, bad, W)
        yield row(f"weight a {type(bad).__name__}", Dtype, F.conv2d, X, bad)
    yield row("bias a list", Dtype, F.conv2d, X, W, [1.0] * 6)
    for out in (np.empty((2, 6, 6, 5), np.float32), np.empty(Y.shape), np.empty((6, 6, 6), np.float32), Y.tolist()):
        yield row(f"out {getattr(out, 'shape', type(out))}", (Shape, Dtype), F.conv2d, X, W, out=out)
    read_only = Y.copy()
    read_only.flags.writeable = False
    yield row("out read-only", (Shape, Dtype), F.conv2d, X, W, out=read_only)
    yield row("padding_mode", Shape, F.conv2d, X, W, padding_mode="mirror")
    yield row("reflect too far", Shape, F.conv2d, X, W, padding=8, padding_mode="reflect")
    # its gradients
    for shape in ((2, 6, 6, 5), (1, 6, 6, 6), (2, 5, 6, 6), (6, 6, 6), (2, 6, 36), ()):
        yield row(f"dy {shape}", Shape, F.conv2d_backward, np.ones(shape, np.float32), X, W)
    yield row("dy float64", Dtype, F.conv2d_backward, Y.astype(float), X, W)
    yield row("dy None", Dtype, F.conv2d_backward, None, X, W)
    yield row("needs two", (Shape, Dtype), F.conv2d_backward, Y, X, W, needs=(True, True))
    yield row("padding_mode backward", Shape, F.conv2d_backward, Y, X, W, padding_mode="edge")
    # the other ranks: the checks are the same, so one of each kind
    for rank in (1, 3):
        conv, backward = getattr(F, f"conv{rank}d"), getattr(F, f"conv{rank}d_backward")
        x, w = np.ones((2, 4, *(5,) * rank), np.float32), np.ones((6, 4, *(3,) * rank), np.float32)
        y = np.ones((2, 6, *(3,) * rank), np.float32)
        for bad in (0, -1, (1, 1), (0,) * rank, 2**63):
            yield row(f"conv{rank}d stride {bad}", Shape, conv, x, w, stride=bad)
            yield row(f"conv{rank}d_backward dilation {bad}", Shape, backward, y, x, w, dilation=bad)
        for bad in (X, x[0, 0], x[:, :3]):
            yield row(f"conv{rank}d x {bad.shape}", Shape, conv, bad, w)
        yield row(f"conv{rank}d mixed", Dtype, conv, x, w.astype(float))
        yield row(f"conv{rank}d out", Shape, conv, x, w, out=y[:1])
        yield row(f"conv{rank}d_backward dy", Shape, backward, y[:1], x, w)
    # transposed convolution
    for rank in (1, 2, 3):
        name = f"conv_transpose{rank}d"
        conv, backward = getattr(F, name), getattr(F, f"{name}_backward")
        x, w = np.ones((2, 4, *(5,) * rank), np.float32), np.ones((4, 6, *(3,) * rank), np.float32)
        y = np.ones((2, 6, *(7,) * rank), np.float32)
        for bad in (0, -1, (1,) * (rank + 1), 2**63, 2**62, 0x5555555555555556):
            yield row(f"{name} stride {bad}", Shape, conv, x, w, stride=bad)
            yield row(f"{name} dilation {bad}", Shape, conv, x, w, dilation=bad)
            yield row(f"{name}_backward stride {bad}", Shape, backward, y, x, w, stride=bad)
        for bad in (-1, 4, 2**63, (1,) * (rank + 1), "same", ((9, 0),) * rank):
            yield row(f"{name} padding {bad}", Shape, conv, x, w, padding=bad)
        for bad in (-1, 1, 2**62, (0,) * (rank + 1)):
            yield row(f"{name} output_padding {bad}", Shape, conv, x, w, output_padding=bad)
        for bad in (1.0, None, "1", True):
            for what in ("stride", "padding", "output_padding", "groups", "dilation"):
                yield row(f"{name} {what} {bad!r}", (Shape, Dtype), conv, x, w, **{what: bad})
        for bad in (0, 3, 8):
            yield row(f"{name} groups {bad}", Shape, conv, x, w, groups=bad)
        yield row(f"{name} channels", Shape, conv, x, w[:3])
        yield row(f"{name} bias of c_in", Shape, conv, x, w, np.ones(4, np.float32))
        yield row(f"{name} mixed", Dtype, conv, x, w.astype(float))
        yield row(f"{name} axes", Shape, conv, x[0, 0], w)
        yield row(f"{name} out", Shape, conv, x, w, out=y[:1])
        yield row(f"{name}_backward dy", Shape, backward, y[:, :4], x, w)
        yield row(f"{name}_backward dy float64", Dtype, backward, y.astype(float), x, w)
        yield row(f"{name}_backward needs", (Shape, Dtype), backward, y, x, w, needs=(True,))
    # padding
    for bad in (1, "same", None, (1.0, 1), (True, 1)):
        yield row(f"pad {bad!r}", (Shape, Dtype), F.pad, X, bad)
    for bad in ((1,), (1, 1, 1), (1,) * 10, (-9, 0), (-5, -4), (2**62, 0), (2**63, 0), (0, 2**40)):
        yield row(f"pad by {bad}", Shape, F.pad, X, bad)
    for mode in ("reflect", "replicate", "circular"):
        for bad in ((), (-1, 0), (1,) * 8):
            yield row(f"pad {mode} by {bad}", Shape, F.pad, X, bad, mode)
            yield row(f"pad_backward {mode} by {bad}", Shape, F.pad_backward, X, bad, mode)
    for bad in ("edge", "zeros", None, 3):
        yield row(f"pad mode {bad}", Shape, F.pad, X, (1, 1), bad)
    yield row("pad reflect too far", Shape, F.pad, X, (8, 0), "reflect")
    yield row("pad circular too far", Shape, F.pad, X, (0, 9), "circular")
    yield row("pad value", Shape, F.pad, X, (1, 1), "constant", float("nan"))
    yield row("pad value text", Dtype, F.pad, X, (1, 1), "constant", "1")
    yield row("pad integers", Dtype, F.pad, np.ones((2, 3, 4), int), (1, 1))
    yield row("pad_backward of less than the padding", Shape, F.pad_backward, X, (5, 5))
    yield row("pad_backward reflect", Shape, F.pad_backward, X, (4, 1), "reflect")
    yield row("pad_backward list", Dtype, F.pad_backward, X.tolist(), (1, 1))
    # pooling
    for pool in (F.max_pool2d, F.min_pool2d, F.avg_pool2d):
        name = pool.__name__
        for bad in (0, -2, (), (2, 0), (2,), (2, 2, 2), 9, (8, 9), *HUGE):
            yield row(f"{name} kernel {str(bad)[:30]}", Shape, pool, X, bad)
        for bad in (0, -1, (0, 1), (), (1, 1, 1), 2**63):
            yield row(f"{name} stride {bad}", Shape, pool, X, 2, bad)
        for bad in (-1, 2, (1, 2), 4, 2**31, 2**62, 2**70, "full"):
            yield row(f"{name} padding {bad}", Shape, pool, X, 2, 1, bad)
        for bad in (1.5, None, "2", True, [2.0, 2]):
            yield row(f"{name} kernel {bad!r}", (Shape, Dtype), pool, X, bad)
        for shape in ((8, 8), (1, 2, 4, 8, 8), (2, 4, 0, 8), (2, 0, 8, 8)):
            yield row(f"{name} x {shape}", Shape, pool, np.ones(shape, np.float32), 2)
        for dtype in ("i4", "O", "c16", "?"):
            yield row(f"{name} of {dtype}", Dtype, pool, np.zeros(X.shape, dtype), 2)
        yield row(f"{name} of None", Dtype, pool, None, 2)
    for bad in (0, -1, (-3, 1), 8, 2**31 - 1, 2**61, 1250999896764):
        yield row(f"max_pool2d dilation {bad}", Shape, F.max_pool2d, X, 2, 1, 0, bad)
    yield row("kernel times dilation", Shape, F.max_pool2d, X, 2**29, 1, 0, 1879048192)
    yield row("kernel 2**61, ceil", Shape, F.max_pool2d, X, 2**61, 1, 0, 1, True)
    for bad in (0, -1, 2**63, 2**70):
        yield row(f"divisor {bad}", Shape, F.avg_pool2d, X, 2, divisor_override=bad)
    for bad in (1.5, True, "2"):
        yield row(f"divisor {bad!r}", Dtype, F.avg_pool2d, X, 2, divisor_override=bad)
    for backward in (F.max_pool2d_backward, F.min_pool2d_backward):
        name = backward.__name__
        for bad in (64, 99, -1, 2**32 + 3, -2**63, 2**63 - 1):
            index = INDEX.copy()
            index[1, 3, 3, 3] = bad
            yield row(f"{name} index {bad}", Shape, backward, P, index, X.shape)
        yield row(f"{name} float index", Dtype, backward, P, INDEX.astype(float), X.shape)
        yield row(f"{name} fewer indices", Shape, backward, P, INDEX[:1], X.shape)
        for shape in ((2, 4), (2, 4, 8, -8), (2, 5, 8, 8), (3, 4, 8, 8), (2, 4, 2**40, 2**40), (2, 4, 8.0, 8), 8, ()):
            yield row(f"{name} input_shape {shape}", (Shape, Dtype), backward, P, INDEX, shape)
    for shape in ((2, 4, 10, 8), (2, 4, 8), (1, 4, 8, 8), (2, 4, -8, 8), (2, 4, 2**62, 8), None):
        yield row(f"avg_pool2d_backward input_shape {shape}", (Shape, Dtype), F.avg_pool2d_backward, P, shape, 2)
    yield row("avg_pool2d_backward dy", Shape, F.avg_pool2d_backward, P[:, :, :3], X.shape, 2)
    yield from rows_of_the_other_poolings(row)
    # the rest
    for shape in ((), (5,), (4, 5), (4, 0)):
        yield row(f"linear x {shape}", Shape, F.linear, np.ones(shape, np.float32), np.ones((3, 4), np.float32))
    for shape in ((), (4,), (3, 5), (3, 4, 1)):
        yield row(f"linear weight {shape}", Shape, F.linear, np.ones((2, 4), np.float32), np.ones(shape, np.float32))
    for shape in ((), (1,), (4,), (3, 1)):
        yield row(f"linear bias {shape}", Shape, F.linear, np.ones((2, 4), np.float32), np.ones((3, 4), np.float32),
                  np.ones(shape, np.float32))
    yield row("linear mixed", Dtype, F.linear, np.ones((2, 4)), np.ones((3, 4), np.float32))
    yield row("linear dy", Shape, F.linear_backward, np.ones((3, 3)), np.ones((2, 4)), np.ones((3, 4)))
    for axis in (4, -5, 2**63):
        yield row(f"softmax axis {axis}", Shape, F.softmax, X, axis)
    for axis in (1.0, None, "1", True):
        yield row(f"softmax axis {axis!r}", (Shape, Dtype), F.softmax, X, axis)
    yield row("softmax 0-d", Shape, F.softmax, np.array(1.0))
    yield row("log_softmax axis", Shape, F.log_softmax, X, 4)
    yield row("softmax_backward", Shape, F.softmax_backward, X, X[:1])
    yield row("log_softmax_backward", Dtype, F.log_softmax_backward, X, X.astype(float))
    logits, target = np.ones((5, 3), np.float32), np.zeros(5, np.int64)
    for bad in (3, -1, -99, 2**40):
        yield row(f"target {bad}", Shape, F.cross_entropy, logits, np.array([0, 1, 2, bad, 0]))
        yield row(f"target {bad} backward", Shape, F.cross_entropy_backward, logits, np.array([0, 1, 2, bad, 0]))
    yield row("target float", Dtype, F.cross_entropy, logits, target.astype(float))
    yield row("target probabilities", Shape, F.cross_entropy, logits, logits[:, :2])
    yield row("target list", Dtype, F.cross_entropy, logits, [0] * 5)
    yield row("target shape", Shape, F.cross_entropy, logits, target[:4])
    yield row("target 2-d", Shape, F.cross_entropy, logits, target[:, None])
    yield row("logits 1-d", Shape, F.cross_entropy, logits[0], target[:1])
    for loss in (F.cross_entropy, F.cross_entropy_backward, F.nll_loss, F.nll_loss_backward):
        name = loss.__name__
        yield row(f"{name} reduction", Shape, loss, logits, target, reduction="avg")
        yield row(f"{name} weight", Shape, loss, logits, target, np.ones(4, np.float32))
        yield row(f"{name} weight float64", Dtype, loss, logits, target, np.ones(3))
        yield row(f"{name} weight as reduction", Dtype, loss, logits, target, "none")
        yield row(f"{name} target", Shape, loss, logits, target + 3)
        yield row(f"{name} ignore_index", Dtype, loss, logits, target, ignore_index=1.5)
        yield row(f"{name} 0-d", Shape, loss, np.ones((), np.float32), target)
        if name.endswith("_backward"):
            yield row(f"{name} dloss", (Shape, Dtype), loss, logits, target, reduction="none",
                      dloss=np.ones(4, np.float32))
    for bad in (-0.1, 1.1, float("nan"), "0", None, True):
        yield row(f"label_smoothing {bad}", (Shape, Dtype), F.cross_entropy, logits, target, label_smoothing=bad)
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits, F.dice_loss):
        for function in (loss, getattr(F, f"{loss.__name__}_backward")):
            name = function.__name__
            yield row(f"{name} shape", Shape, function, X, X[:1])
            yield row(f"{name} broadcast", Shape, function, X, X[:, :1])
            yield row(f"{name} mixed", Dtype, function, X, X.astype(float))
            yield row(f"{name} int", Dtype, function, X.astype(int), X)
            yield row(f"{name} labels", Dtype, function, X, X.astype(int))
            yield row(f"{name} list", Dtype, function, X.tolist(), X)
            yield row(f"{name} reduction", Shape, function, X, X, reduction="batchmean")
        yield row(f"{name} dloss", Shape, function, X, X, reduction="none", dloss=np.ones(4, np.float32))
    for bad in (-1.0, float("nan"), float("inf")):
        yield row(f"beta {bad}", Shape, F.smooth_l1_loss, X, X, beta=bad)
        yield row(f"smooth {bad}", Shape, F.dice_loss, X, X, smooth=bad)
    yield row("dice 1-d", Shape, F.dice_loss, V, V)
    for bad in (np.ones(5, np.float32), np.ones((1, *X.shape), np.float32), np.ones(8), [1.0]):
        for name in ("weight", "pos_weight"):
            yield row(f"bce {name}", (Shape, Dtype), F.binary_cross_entropy_with_logits, X, X, **{name: bad})
    for k, name in ((1, "running_mean"), (2, "running_var"), (3, "weight"), (4, "bias")):
        args = [X, V.copy(), V.copy(), V, V]
        for bad, error in ((np.ones(5, np.float32), Shape), (np.ones((4, 1), np.float32), Shape), (np.ones(4), Dtype),
                           ([1.0] * 4, Dtype)):
            yield row(f"batch_norm {name} {type(bad).__name__}{getattr(bad, 'shape', '')}", error, F.batch_norm,
                      *args[:k], bad, *args[k + 1:], training=True)
    yield row("batch_norm without statistics", (Shape, Dtype), F.batch_norm, X, None, None)
    yield row("batch_norm of one value", Shape, F.batch_norm, X[:1, :, :1, :1], V.copy(), V.copy(), training=True)
    yield row("batch_norm 1-d", Shape, F.batch_norm, V, V, V)
    frozen = V.copy()
    frozen.flags.writeable = False
    yield row("batch_norm read-only statistics", (Shape, Dtype), F.batch_norm, X, frozen, V.copy(), training=True)
    for bad in (X[:1], X[:, :3], np.ones((2, 4, 64), np.float32)):
        yield row(f"batch_norm_backward dy {bad.shape}", Shape, F.batch_norm_backward, bad, X)
    yield row("batch_norm_backward weight", Shape, F.batch_norm_backward, X, X, np.ones(3, np.float32))
    yield row("batch_norm_backward mixed", Dtype, F.batch_norm_backward, X.astype(float), X)
    yield row("batch_norm_backward statistics", Shape, F.batch_norm_backward, X, X, training=False)
    for shape in ((7,), (8, 7), (2, 2, 4, 8, 8), (4,), ()):
        yield row(f"layer_norm {shape}", Shape, F.layer_norm, X, shape)
        yield row(f"layer_norm_backward {shape}", Shape, F.layer_norm_backward, X, X, shape)
    for bad in (0, -1, 3, 8):
        yield row(f"group_norm {bad}", Shape, F.group_norm, X, bad)
        yield row(f"group_norm_backward {bad}", Shape, F.group_norm_backward, X, X, bad)
    for bad in (1.0, "8", None, (8.0,), True):
        yield row(f"layer_norm {bad!r}", Dtype, F.layer_norm, X, bad)
    for bad in (np.ones(5, np.float32), np.ones((4, 1), np.float32), np.ones(4), [1.0] * 4):
        what = f"{type(bad).__name__}{getattr(bad, 'shape', '')}"
        yield row(f"group_norm weight {what}", (Shape, Dtype), F.group_norm, X, 2, bad)
        yield row(f"instance_norm bias {what}", (Shape, Dtype), F.instance_norm, X, None, None, V, bad)
        yield row(f"layer_norm weight {what}", (Shape, Dtype), F.layer_norm, X[..., :4], 4, bad)
        yield row(f"prelu weight {what}", (Shape, Dtype), F.prelu, X, bad)
        yield row(f"prelu_backward weight {what}", (Shape, Dtype), F.prelu_backward, X, X, bad)
    for bad in (0, -1, 1.5, None, 2**63):
        yield row(f"local_response_norm {bad}", (Shape, Dtype), F.local_response_norm, X, bad)
    for bad in (np.nan, np.inf, "1", None):
        yield row(f"local_response_norm alpha {bad}", (Shape, Dtype), F.local_response_norm, X, 5, bad)
        yield row(f"local_response_norm k {bad}", (Shape, Dtype), F.local_response_norm_backward, X, X, 5, 1.0, 1.0, bad)
    yield row("local_response_norm 2-d", Shape, F.local_response_norm, X[:, :, 0, 0], 5)
    yield row("local_response_norm_backward", Shape, F.local_response_norm_backward, X[:1], X, 5)
    yield row("prelu_backward dy", Shape, F.prelu_backward, X[:1], X, V)
    yield row("instance_norm of one value", Shape, F.instance_norm, X[:, :, :1, :1])
    yield row("instance_norm 2-d", Shape, F.instance_norm, X[:, :, 0, 0])
    yield row("instance_norm half statistics", Shape, F.instance_norm, X, V.copy())
    yield row("instance_norm without statistics", Shape, F.instance_norm, X, use_input_stats=False)
    yield row("instance_norm read-only statistics", Shape, F.instance_norm, X, frozen, frozen)
    yield row("instance_norm_backward", Shape, F.instance_norm_backward, X[:1], X)
    yield row("instance_norm_backward statistics", Shape, F.instance_norm_backward, X, X, use_input_stats=False)
    for rank, x in ((1, X), (2, X[0, 0]), (3, X[0])):
        yield row(f"dropout{rank}d axes", Shape, getattr(F, f"dropout{rank}d"), x, rng=RNG)
        backward = getattr(F, f"dropout{rank}d_backward")
        yield row(f"dropout{rank}d_backward axes", Shape, backward, x, None)
    yield row("dropout2d_backward mask", Shape, F.dropout2d_backward, X, np.ones(X.shape, bool))
    for p in (-0.1, 1.1, float("nan"), float("inf"), "half", None):
        yield row(f"dropout {p}", (Shape, Dtype), F.dropout, X, p, rng=RNG)
    for rng in (None, 0, np.random, np.random.RandomState(0)):
        yield row(f"dropout rng {rng.__class__.__name__}", (Shape, Dtype), F.dropout, X, rng=rng)
    yield row("dropout mask", (Shape, Dtype), F.dropout_backward, X, np.ones((2, 4), bool))
    for name in ACTIVATIONS:
        function, backward = getattr(F, name), getattr(F, f"{name}_backward")
        yield row(f"{name} int", Dtype, function, np.ones(3, int))
        yield row(f"{name} list", Dtype, function, [1.0])
        yield row(f"{name}_backward", Shape, backward, X, X[:1])
        yield row(f"{name}_backward mixed", Dtype, backward, X, X.astype(float))
    for bad in (np.inf, np.nan, "1", None, True):
        yield row(f"leaky_relu {bad}", (Shape, Dtype), F.leaky_relu, X, bad)
        yield row(f"elu {bad}", (Shape, Dtype), F.elu, X, bad)
        yield row(f"softplus threshold {bad}", (Shape, Dtype), F.softplus, X, 1.0, bad)
    for bad in (0, -1.0, np.inf, np.nan, None):
        yield row(f"softplus beta {bad}", (Shape, Dtype), F.softplus_backward, X, X, bad)
    for bad in ("erf", None, 1):
        yield row(f"gelu {bad}", Shape, F.gelu, X, bad)
    for dims in ((4, -1), (2, 1), (0, 9), (-9, 0)):
        yield row(f"flatten {dims}", Shape, F.flatten, X, *dims)
    for dims in ((4, -1), (2, 1), (0, 9), (-9, 0), (1.0, 2), (1, None)):
        yield row(f"flatten_backward {dims}", (Shape, Dtype), F.flatten_backward, X.reshape(2, -1), X.shape, *dims)
    for shape in ((2, 4, 8), (2, 5, 8, 8), (2, 4, 8, -8), (2, 4, 2**40, 2**40), (2, 4, 8.0, 8), 256, None, ()):
        yield row(f"flatten_backward {shape}", (Shape, Dtype), F.flatten_backward, X.reshape(2, -1), shape)
    yield row("flatten_backward list", Dtype, F.flatten_backward, [1.0], (1, 1))
    # merging
    yield row("concat of nothing", Shape, F.concat)
    yield row("concat of a list", Dtype, F.concat, [X, X])
    yield row("concat of two dtypes", Dtype, F.concat, X, X.astype(float))
    yield row("concat of integers", Dtype, F.concat, X.astype(int), X)
    yield row("concat of two shapes", Shape, F.concat, X, X[:, :, :4])
    yield row("concat of other axes", Shape, F.concat, X, X[0])
    yield row("concat of more than there is", Shape, F.concat, *[np.broadcast_to(X[:1, :1, :1, :1], (1, 2**40, 1, 1))] * 99)
    for bad in (4, -5, 2**63):
        yield row(f"concat axis {bad}", Shape, F.concat, X, X, axis=bad)
        yield row(f"concat_backward axis {bad}", Shape, F.concat_backward, X, (4,), bad)
    for bad in (1.0, None, "1", True):
        yield row(f"concat axis {bad!r}", Dtype, F.concat, X, X, axis=bad)
        yield row(f"concat_backward axis {bad!r}", Dtype, F.concat_backward, X, (4,), bad)
    for bad in ((), (3,), (2, 3), (5, -1), (2**63, 4), (2.0, 2), 4, None):
        yield row(f"concat_backward sizes {bad}", (Shape, Dtype), F.concat_backward, X, bad)
    yield row("concat_backward list", Dtype, F.concat_backward, X.tolist(), (4,))
    yield row("concat_backward integers", Dtype, F.concat_backward, X.astype(int), (4,))
    yield row("add shapes", Shape, F.add, X, X[:1])
    yield row("add broadcast", Shape, F.add, X, X[:, :1])
    yield row("add dtypes", Dtype, F.add, X, X.astype(float))
    yield row("add integers", Dtype, F.add, X.astype(int), X.astype(int))
    yield row("add a number", Dtype, F.add, X, 1.0)
    yield row("add_backward list", Dtype, F.add_backward, X.tolist())
    yield row("add_backward integers", Dtype, F.add_backward, X.astype(int))
    for shuffle in (F.pixel_shuffle, F.pixel_shuffle_backward, F.pixel_unshuffle, F.pixel_unshuffle_backward,
                    F.channel_shuffle, F.channel_shuffle_backward):
        for bad in (0, -2, 3, 2**62, 2**64, 1.0, None, True, "2"):
            yield row(f"{shuffle.__name__} {bad}", (Shape, Dtype), shuffle, X, bad)
        yield row(f"{shuffle.__name__} 2-d", Shape, shuffle, X[0, 0], 1)
        yield row(f"{shuffle.__name__} int", Dtype, shuffle, X.astype(int), 2)
    for function, args in ((F.interpolate, (X,)), (F.interpolate_backward, (X, X.shape))):
        name = function.__name__
        for bad in (0, -1, (), (8,), (8, 0), (8, 8, 8), 2**31, 2**63, 1.5, "8", True):
            yield row(f"{name} size {bad}", (Shape, Dtype), function, *args, bad)
        for bad in (0, -1.0, 0.1, (), (1.0,), (1.0, 0.0), (1.0,) * 3, float("nan"), float("inf"), 1e12, 1e300, "2", True):
            yield row(f"{name} scale_factor {bad}", (Shape, Dtype), function, *args, scale_factor=bad)
        yield row(f"{name} neither", Shape, function, *args)
        yield row(f"{name} both", Shape, function, *args, 8, 1.0)
        yield row(f"{name} huge", Shape, function, *args, 2**30)
        for mode in ("cubic", "linear", "trilinear", None, 3):
            yield row(f"{name} mode {mode}", Shape, function, *args, 8, mode=mode)
        yield row(f"{name} align", Shape, function, *args, 8, align_corners=True)
        yield row(f"{name} align int", Dtype, function, *args, 8, mode="bilinear", align_corners=1)
        yield row(f"{name} recompute", Shape, function, *args, 8, recompute_scale_factor=True)
        yield row(f"{name} int", Dtype, function, args[0].astype(int), *args[1:], 8)
    for shape in ((2, 4), (2, 4, 0), (8, 8), (1, 1, 2, 2, 2, 2)):
        yield row(f"interpolate {shape}", Shape, F.interpolate, np.ones(shape, np.float32), 3)
    for shape in ((2, 4, 8), (2, 4, 0, 8), (2, 4, 8.0, 8), (2, 4, 2**40, 2**40), None, 8):
        yield row(f"interpolate_backward {shape}", (Shape, Dtype), F.interpolate_backward, X, shape, 8)
    yield row("interpolate_backward dy", Shape, F.interpolate_backward, X, X.shape, 4)
    yield row("Upsample", Shape, nn.Upsample)
    columns = np.ones((2, 36, 36), np.float32)
    for function, args in ((F.unfold, (X,)), (F.unfold_backward, (columns, X.shape)), (F.fold, (columns, 8)),
                           (F.fold_backward, (X,))):
        name = function.__name__
        for bad in (0, -1, 9, (3,), (9, 9, 9), (), (1,) * 4, (3, 0), 2**62, 2**64, 3.0, None, "3"):
            yield row(f"{name} kernel {bad}", (Shape, Dtype), function, *args, bad)
        for bad in (0, -1, (1,), (1, 0), 4, 2**62, 2**64, 1.5, None):
            yield row(f"{name} dilation {bad}", (Shape, Dtype), function, *args, 3, dilation=bad)
        for bad in (0, -1, (1,), 2**64, 1.5, None):
            yield row(f"{name} stride {bad}", (Shape, Dtype), function, *args, 3, stride=bad)
        for bad in (-1, (1,), 2**40, 2**62, 2**64, 1.5, None, "full"):
            yield row(f"{name} padding {bad}", (Shape, Dtype), function, *args, 3, padding=bad)
        yield row(f"{name} int", Dtype, function, args[0].astype(int), *args[1:], 3)
        yield row(f"{name} 1-d", Shape, function, V, *args[1:], 3)
    for bad in (7, (8,), (8, 8, 8), 0, (8, -8), 2**40, 8.0, None):
        yield row(f"fold output_size {bad}", (Shape, Dtype), F.fold, columns, bad, 3)
    yield row("fold rows", Shape, F.fold, columns[:, :35], 8, 3)
    yield row("unfold_backward dy", Shape, F.unfold_backward, columns[:, :, 1:], X.shape, 3)
    table, numbers = np.ones((7, 5), np.float32), np.zeros((2, 3), np.int64)
    rows_of = np.ones((2, 3, 5), np.float32)
    for bad in (7, -1, 2**40):
        yield row(f"embedding {bad}", Shape, F.embedding, numbers + bad, table)
        yield row(f"embedding_backward {bad}", Shape, F.embedding_backward, rows_of, numbers + bad, 7)
    for bad in (7, -8, 1.0, True, "0"):
        yield row(f"embedding padding {bad}", (Shape, Dtype), F.embedding, numbers, table, bad)
        yield row(f"embedding_backward padding {bad}", (Shape, Dtype), F.embedding_backward, rows_of, numbers, 7, bad)
        yield row(f"Embedding padding {bad}", (Shape, Dtype), nn.Embedding, 7, 5, bad)
    for bad in (table[0], table.astype(int), table.tolist(), None):
        yield row(f"embedding of {type(bad).__name__}", (Shape, Dtype), F.embedding, numbers, bad)
    for bad in (numbers.astype(float), numbers.tolist(), 3, numbers > 0):
        yield row(f"embedding at {type(bad).__name__}", Dtype, F.embedding, bad, table)
        yield row(f"embedding_backward at {type(bad).__name__}", Dtype, F.embedding_backward, rows_of, bad, 7)
    for bad in (-1, 2**60, 2.0, None):
        yield row(f"num_embeddings {bad}", (Shape, Dtype), F.embedding_backward, rows_of, numbers, bad)
    yield row("embedding_backward dy", Shape, F.embedding_backward, rows_of[0], numbers, 7)
    yield row("Embedding huge", Shape, nn.Embedding, 2**31, 2**31)
    # layers
    for args in ((0, 4, 3), (4, 0, 3), (4, 4, 0), (4, 4, -3), (4, 4, (3,)), (4, 4, 3, 0), (4, 4, 3, 1, -1),
                 (4, 4, 3, 1, 0, 0), (4, 6, 3, 1, 0, 1, 3), (4, 6, 3, 1, 0, 1, 4)):
        yield row(f"Conv2d{args}", Shape, nn.Conv2d, *args)
    for args in ((4.0, 4, 3), (4, 4, 3.0), (4, 4, 3, "1"), (None, 4, 3)):
        yield row(f"Conv2d{args}", (Shape, Dtype), nn.Conv2d, *args)
    yield row("Conv2d huge", Shape, nn.Conv2d, 2**31, 2**31, 3)
    for args in ((4, 6, 3, 2, 0, 2), (4, 6, 3, 0), (4, 6, 3, 1, -1), (4, 6, 3, 1, "same"), (4, 6, 3, 1, 0, 0, 4), (4, 6, 0),
                 (4, 6, 3, 1, 0, 0, 3), (4, 6, 3, 1, 0, 0, 1, True, 1, "reflect")):
        yield row(f"ConvTranspose2d{args}", Shape, nn.ConvTranspose2d, *args)
    up = nn.ConvTranspose2d(4, 6, 3, 2, rng=RNG)
    for bad in ((16, 17), (17, 19), (17,), (2, 6, 17), (2**62, 17)):
        yield row(f"output_size {bad}", Shape, up, X, bad)
        yield row(f"output_size {bad} forward", Shape, up.forward, X, bad)
    yield row("output_size 17.0", Dtype, up, X, (17.0, 17.0))
    yield row("output_size 17", Dtype, up, X, 17)
    for args in ((0, 4, 3), (4, 4, 3, 1, 0, 1, 0), (4, 4, 3, 0)):
        yield row(f"SeparableConv2d{args}", Shape, nn.SeparableConv2d, *args)
    for bad in ((1, 2), (1, 1, 1), -1, (2, 2, 2, 2, 2)):
        yield row(f"ReflectionPad2d {bad}", Shape, nn.ReflectionPad2d, bad)
    yield row("ReflectionPad2d on", Shape, nn.ReflectionPad2d(8), X)
    yield row("ZeroPad2d on 5 axes", Shape, nn.ZeroPad2d(1), X[None])
    yield row("ConstantPad1d value", Dtype, nn.ConstantPad1d, 1, "0")
    yield row("Linear huge", (Shape,), nn.Linear, 2**40, 2**40)
    yield row("Linear(0)", Shape, nn.Linear, -1, 3)
    yield row("BatchNorm2d(0)", Shape, nn.BatchNorm2d, 0)
    yield row("MaxPool2d(0)", Shape, nn.MaxPool2d, 0)
    yield row("MaxPool2d padding", Shape, nn.MaxPool2d, 2, padding=2)
    yield row("AvgPool2d stride", Shape, nn.AvgPool2d, 2, 0)
    yield row("Dropout", (Shape, Dtype), nn.Dropout, 1.5)
    conv = nn.Conv2d(4, 6, 3, rng=RNG)
    for bad in (X[:, :3], X[0, 0], np.ones((2, 4, 2, 8), np.float32)):
        yield row(f"layer on {bad.shape}", Shape, conv, bad)
        yield row(f"layer.forward on {bad.shape}", Shape, conv.forward, bad)
    for bad in (X.astype(float), X.astype(int), X.tolist(), None):
        yield row(f"layer on {type(bad).__name__}", Dtype, conv, bad)
        yield row(f"layer.forward on {type(bad).__name__}", Dtype, conv.forward, bad)
    yield row("backward on another shape", Shape, conv.forward(X)[1], Y[:1])
    yield row("Linear on", Shape, nn.Linear(4, 3, rng=RNG), X[..., :3])
    yield row("BatchNorm2d on", Shape, nn.BatchNorm2d(3), X)
    yield row("MaxPool2d on", Shape, nn.MaxPool2d(9), X)


ROWS = list(rows())


@pytest.mark.parametrize(("error", "function", "args", "options"), [row[1:] for row in ROWS],
                         ids=[row[0][:60] for row in ROWS])
def test_bad_input_is_refused_before_anything_is_allocated(error, function, args, options):
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(error) as caught:
            function(*args, **options)
        seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) in (Shape, Dtype), "a check of the library's own, not an accident further down"
    message = str(caught.value)
    assert 10 < len(message) < 600, message
    assert "\n" not in message
    assert seconds < 1
    assert peak < 1 << 20


def test_there_are_rows_for_every_function():
    called = {row[2].__name__ for row in ROWS if hasattr(row[2], "__name__")}
    assert not set(F.__all__) - called
    assert len(ROWS) > 300


# Refused nowhere in the table: unusual, but with a meaning.
FINE = [
    ("stride past the input", F.conv2d, (X, W), {"stride": 2**62}, (2, 6, 1, 1)),
    ("padding past the kernel", F.conv2d, (X[:, :, :1, :1], W), {"padding": 5}, (2, 6, 9, 9)),
    ("batch 0", F.conv2d, (X[:0], W), {}, (0, 6, 6, 6)),
    ("unbatched", F.conv2d, (X[0], W), {}, (6, 6, 6)),
    ("numpy integers", F.conv2d, (X, W), {"stride": np.int8(2), "padding": np.array(1)}, (2, 6, 4, 4)),
    ("lists", F.conv2d, (X, W), {"stride": [2, 1], "padding": [[1, 0], [0, 1]]}, (2, 6, 4, 7)),
    ("output_padding with dilation", F.conv_transpose1d, (X[..., 0], W[:4, ..., 0]),
     {"dilation": 3, "output_padding": 2, "padding": 3}, (2, 4, 10)),
    ("transposed stride past all", F.conv_transpose1d, (X[:, :, :1, 0], W[:4, :, 0]), {"stride": 2**62}, (2, 4, 3)),
    ("crop", F.pad, (X, (-3, 1, 0, -8)), {}, (2, 4, 0, 6)),
    ("pad of an empty batch", F.pad, (X[:0], (2, 2, 0, 0), "circular"), {}, (0, 4, 8, 12)),
    ("pool stride past the input", F.max_pool2d, (X, 2, 2**62), {}, (2, 4, 1, 1)),
    ("linear without features", F.linear, (np.ones((2, 0)), np.ones((3, 0))), {}, (2, 3)),
    ("softmax over nothing", F.softmax, (np.ones((2, 0)),), {}, (2, 0)),
]


@pytest.mark.parametrize(("name", "function", "args", "options", "shape"), FINE, ids=[row[0] for row in FINE])
def test_unusual_calls_with_a_meaning_are_answered(name, function, args, options, shape):
    start = time.perf_counter()
    y = function(*args, **options)
    assert y.shape == shape
    assert np.isfinite(y).all()
    assert time.perf_counter() - start < 1


def test_random_integers_never_crash_hang_or_pass_impossible_geometry():
    """A thousand calls with integers from the tables of failures: an error at once, or a small result."""
    rng = np.random.default_rng(1)
    values = [0, 1, 1, 1, 2, 2, 3, 4, 5, 8, -1, -2**63, *HUGE[:-1], (1, 2), (0, 0), ((1, 0), (2, 1)), (2**62, 1),
              "same", None, 1.5]
    refused = answered = 0

    def pick():
        return values[rng.integers(len(values))]

    for i in range(1000):
        kind = i % 4
        start = time.perf_counter()
        try:
            if kind == 0:
                y = F.conv2d(X, W, None, pick(), pick(), pick(), groups=int(rng.integers(1, 3)))
            elif kind == 1:
                y = F.conv2d_backward(Y, X, W, pick(), pick(), 1)[0]
            elif kind == 2:
                y = F.max_pool2d(X, pick(), pick(), pick(), pick(), bool(rng.integers(2)))
            else:
                y = F.avg_pool2d(X, pick(), pick(), pick(), bool(rng.integers(2)), bool(rng.integers(2)))
        except (Shape, Dtype):
            refused += 1
        else:
            answered += 1
            assert y.size < 10**6
            assert np.isfinite(y).all()
        assert time.perf_counter() - start < 1
    assert refused > 300
    assert answered > 20


def test_concat_says_how_a_list_of_arrays_is_joined():
    with pytest.raises(convkit.DtypeError, match=r"one by one.* got a list"):
        F.concat([X, X])
