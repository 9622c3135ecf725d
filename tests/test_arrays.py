"""Arrays as users have them: every layout of the museum through every function gives the bits of a plain copy."""

import fuzz
import numpy as np
import pytest
from guards import guarded, hostile_memory
from museum import LAYOUTS

import convkit
from convkit import functional as F
from convkit.kernels import native
from convkit.verification import DTYPES, same_bits

OPERATIONS = tuple(fuzz.OPERATIONS)
SEEDS = range(4)
STATISTICS = {"batch_norm": (1, 2)}  # written in place, so they are kept as they are


def drawn(name, seed):
    """Arguments and options of a call with numbers that differ."""
    draw = fuzz.Draw([seed, 77], DTYPES[seed % len(DTYPES)])
    draw.large = False
    call = fuzz.OPERATIONS[name].draw(draw)
    first = call.args[0]
    assert first.size < 4 or len(np.unique(first)) > 1, "constant data shows nothing"
    return call.args, call.options


def changed(name, args, how):
    """``args`` with ``how`` applied to every array."""
    return tuple(how(a) if isinstance(a, np.ndarray) and i not in STATISTICS.get(name, ()) else a
                 for i, a in enumerate(args))


def test_the_museum_is_what_it_says():
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4)
    b = {name: layout(a) for name, layout in LAYOUTS.items()}
    assert all(np.array_equal(v, a) and v.shape == a.shape for v in b.values())
    assert b["fortran"].flags.f_contiguous
    assert not b["fortran"].flags.c_contiguous
    assert not b["sliced"].flags.c_contiguous
    assert np.isnan(b["sliced"].base).any()
    assert min(b["backwards"].strides[:2]) < 0
    assert b["channels_last"].strides[1] == 4
    assert not b["read_only"].flags.writeable
    assert not b["unaligned"].flags.aligned
    assert not b["swapped"].dtype.isnative
    assert b["odd_strides"].strides[2] == 12345
    assert b["field"].strides[-1] == 5
    assert type(b["subclass"]) is not np.ndarray


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_layout_gives_the_same_bits_and_is_not_written(name):
    for seed in SEEDS:
        args, options = drawn(name, seed)
        want = fuzz.outputs(F, name, args, options)
        for layout, how in LAYOUTS.items():
            laid = changed(name, args, how)
            before = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in laid)
            got = fuzz.outputs(F, name, laid, options)
            assert same_bits(want, got), (layout, seed)
            for a, b in zip(laid, before, strict=True):
                assert not isinstance(a, np.ndarray) or a.tobytes() == b.tobytes(), f"{layout} was written to"
            for y in got:
                assert y is None or type(y) is np.ndarray or np.isscalar(y)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_outside_an_operand_is_touched(name, at_end):
    """Operands and results between forbidden pages, results and scratch full of NaN, inputs that cannot be written."""
    for seed in SEEDS:
        args, options = drawn(name, seed)
        for isa in native.ISA_LEVELS or (None,):
            with convkit.use(isa=isa):
                want = fuzz.outputs(F, name, args, options)
                with hostile_memory(at_end):
                    got = fuzz.outputs(F, name, changed(name, args, lambda a: guarded(a, at_end=at_end)), options)
            assert same_bits(want, got), (isa, seed)


def test_broadcast_and_overlapping_views():
    rng = np.random.default_rng(0)
    line = rng.normal(size=200).astype(np.float32)
    same = np.broadcast_to(line[:7], (2, 4, 9, 7))
    windows = np.lib.stride_tricks.as_strided(line, (2, 4, 9, 7), (12, 8, 4, 20))
    w = np.broadcast_to(np.array([2, -1, 3], np.float32), (6, 4, 3, 3))
    for x in (same, windows):
        plain, plain_w = x.copy(), w.copy()
        assert same_bits(F.conv2d(x, w, padding=1), F.conv2d(plain, plain_w, padding=1))
        dy = np.broadcast_to(np.float32(0.5), (2, 6, 9, 7))
        assert same_bits(F.conv2d_backward(dy, x, w, padding=1),
                         F.conv2d_backward(dy.copy(), plain, plain_w, padding=1))
        assert same_bits(F.max_pool2d(x, 2, return_indices=True), F.max_pool2d(plain, 2, return_indices=True))
        assert same_bits(F.avg_pool2d(x, 3, 1, 1), F.avg_pool2d(plain, 3, 1, 1))
        assert same_bits(F.softmax(x, 1), F.softmax(plain, 1))
        assert same_bits(F.relu(x), F.relu(plain))


def test_one_array_in_two_places():
    a = np.random.default_rng(1).normal(size=(4, 4, 3, 3)).astype(np.float32)
    assert same_bits(F.conv2d(a, a, padding=1), F.conv2d(a, a.copy(), padding=1))
    dy = F.conv2d(a, a, padding=1)
    assert same_bits(F.conv2d_backward(dy, a, a, padding=1), F.conv2d_backward(dy, a.copy(), a.copy(), padding=1))
    assert same_bits(F.linear(a[:, 0, 0], a[0, 0]), F.linear(a[:, 0, 0].copy(), a[0, 0].copy()))
    assert same_bits(F.relu_backward(a, a), F.relu_backward(a, a.copy()))


@pytest.mark.parametrize("how", ["itself", "shifted", "bias", "backwards", "unaligned", "fortran", "sliced"])
def test_out_in_any_memory_even_that_of_an_input(how):
    """``out`` may be the input itself, a view that overlaps it, or any layout."""
    rng = np.random.default_rng(2)
    memory = rng.normal(size=3 * 4 * 6 * 6 + 50).astype(np.float32)
    x = memory[:432].reshape(3, 4, 6, 6)
    w, bias = rng.normal(size=(4, 4, 3, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    want = F.conv2d(x.copy(), w, bias.copy(), padding=1)
    out = {"itself": lambda: x, "shifted": lambda: memory[7:439].reshape(3, 4, 6, 6),
           "bias": lambda: memory[20:452].reshape(3, 4, 6, 6), "backwards": lambda: x[::-1, ::-1],
           "unaligned": lambda: LAYOUTS["unaligned"](x), "fortran": lambda: np.asfortranarray(x),
           "sliced": lambda: LAYOUTS["sliced"](x)}[how]()
    if how == "bias":
        memory[440:444] = bias
        bias = memory[440:444]
    got = F.conv2d(x, w, bias, padding=1, out=out)
    assert got is out
    assert np.array_equal(got, want)


def test_arrays_without_elements():
    x = np.ones((0, 3, 5, 5), np.float32)
    w = np.ones((4, 3, 3, 3), np.float32)
    assert F.conv2d(x, w).shape == (0, 4, 3, 3)
    dx, dw, db = F.conv2d_backward(np.ones((0, 4, 3, 3), np.float32), x, w)
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert db.shape == (4,)
    assert not dw.any()
    assert not db.any()
    assert F.linear(np.ones((0, 3)), np.ones((2, 3))).shape == (0, 2)
    assert F.max_pool2d(np.ones((0, 2, 4, 4)), 2).shape == (0, 2, 2, 2)
