"""A few hundred calls of the fuzzer (tests/fuzz.py runs for as long as one likes), and that it can see a mistake."""

import fuzz
import numpy as np
import pytest

from convkit import functional


@pytest.mark.parametrize("name", fuzz.OPERATIONS)
def test_fuzzed_calls_agree_with_their_twin(name):
    compared = sum(fuzz.check((0, i), name) for i in range(16 if name.startswith("conv") else 8))
    assert compared >= 8


def test_doubtful_geometries_are_refused_where_pytorch_refuses_them():
    refusals = pytest.importorskip("fuzz_refusals", reason="needs PyTorch")
    taken = sum(refusals.check((0, i)) for i in range(600))
    assert 150 < taken < 450


def test_fuzzed_calls_in_many_boxes(small_source):
    small_source(600)
    for i in range(6):
        fuzz.check((1, i), "conv2d")
        fuzz.check((1, i), "conv2d_backward")


@pytest.mark.parametrize("change", [lambda y: y * (1 + 4e-5), lambda y: np.where(y == y.max(), np.nan, y),
                                    lambda y: y[..., ::-1].copy(), lambda y: y + y.dtype.type(1)], ids=str)
def test_the_fuzzer_sees_a_mistake(monkeypatch, change):
    right = functional.conv2d

    def wrong(*args, **options):
        return change(right(*args, **options))

    monkeypatch.setattr(functional, "conv2d", wrong)
    with pytest.raises(fuzz.Wrong):
        for i in range(10):
            fuzz.check((2, i), "conv2d")


def test_the_fuzzer_sees_bits_that_depend_on_threads(monkeypatch):
    from convkit import get_threads

    right = functional.conv2d

    def wrong(*args, **options):
        y = right(*args, **options)
        return np.nextafter(y, y.dtype.type(np.inf)) if get_threads() > 1 else y

    monkeypatch.setattr(functional, "conv2d", wrong)
    with pytest.raises(fuzz.Wrong, match="bits"):
        for i in range(10):
            fuzz.check((3, i), "conv2d")
