"""Clipped gradients: torch's numbers, and what is refused."""

import math

import numpy as np
import pytest

from convkit import DtypeError, ShapeError, nn
from convkit.nn import Parameter
from convkit.nn.utils import clip_grad_norm_, clip_grad_value_

SHAPES = ((4, 3, 2), (5,), (130, 129), ())


def _parameters(dtype=np.float64, scale=1.0):
    """Parameters with gradients, one of which lies in another order, and one without."""
    rng = np.random.default_rng(0)
    parameters = [Parameter(np.zeros(shape, dtype)) for shape in (*SHAPES, (3, 7), (2,))]
    for p in parameters[:-1]:
        p.grad = np.array(scale * rng.standard_normal(p.shape), dtype)
    parameters[4].grad = np.asfortranarray(parameters[4].grad)
    return parameters


def _norm(parameters, exponent=2.0):
    flat = np.concatenate([p.grad.ravel() for p in parameters if p.grad is not None]).astype(np.float64)
    return np.linalg.norm(flat, exponent)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 1e-6), (np.float16, 1e-3)])
@pytest.mark.parametrize("exponent", [2.0, 1.0, 3.5, math.inf])
@pytest.mark.parametrize("most", [0.1, 1e9])
def test_the_norm_is_at_most_what_is_asked_for(dtype, tolerance, exponent, most):
    parameters = _parameters(dtype)
    before, total = [p.grad for p in parameters], _norm(parameters, exponent)
    want = [None if g is None else g.astype(np.float64) * min(1, most / total) for g in before]
    assert clip_grad_norm_(iter(parameters), most, exponent) == pytest.approx(total, rel=1e-12)
    for p, g, right in zip(parameters, before, want, strict=True):
        assert p.grad is g  # where it lay
        if g is not None:
            np.testing.assert_allclose(g, right, rtol=max(tolerance, 2e-6 / total), atol=np.finfo(dtype).smallest_subnormal)
            assert g.dtype == dtype


@pytest.mark.parametrize("exponent", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("special", [None, np.nan, np.inf])
def test_norms_follow_torch(exponent, special):
    torch = pytest.importorskip("torch")
    parameters = _parameters()
    if special is not None:
        parameters[1].grad[2] = special
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in parameters]
    for p, t in zip(parameters, theirs, strict=True):
        t.grad = None if p.grad is None else torch.tensor(p.grad)
    want = torch.nn.utils.clip_grad_norm_(theirs, 0.7, exponent)
    assert clip_grad_norm_(parameters, 0.7, exponent) == pytest.approx(want.item(), rel=1e-12, nan_ok=True)
    for p, t in zip(parameters[:-1], theirs, strict=False):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_values_are_limited(dtype):
    parameters = _parameters(dtype)
    parameters[1].grad[:3] = np.nan, np.inf, -np.inf
    before = [None if p.grad is None else p.grad.copy() for p in parameters]
    clip_grad_value_(parameters, 0.5)
    for p, g in zip(parameters, before, strict=True):
        if g is not None:
            np.testing.assert_array_equal(p.grad, np.clip(g, -0.5, 0.5))
    clip_grad_value_(parameters[0], 0.25)
    assert np.abs(parameters[0].grad).max() == 0.25 and np.abs(parameters[2].grad).max() == 0.5


def test_large_and_small_numbers_have_their_norm():
    p = Parameter(np.zeros(2, np.float32))
    for size in (1e30, 1e-30):
        p.grad = np.array([3, 4], np.float32) * np.float32(size)
        assert clip_grad_norm_(p, 1e-3) == pytest.approx(5 * size)


def test_a_gradient_that_cannot_be_written_to_is_replaced():
    p = Parameter(np.zeros(3))
    p.grad = np.broadcast_to(2.0, 3)
    assert clip_grad_norm_([p, p], 1.0) == pytest.approx(math.sqrt(12))  # and counted once
    np.testing.assert_allclose(p.grad, [1 / math.sqrt(3)] * 3, rtol=1e-5)
    assert clip_grad_norm_([Parameter(np.zeros(3))], 1.0) == 0.0 == clip_grad_norm_([], 1.0, math.inf)


@pytest.mark.parametrize("args, error, message", [
    ((3, 1.0), DtypeError, "parameters must be a Parameter or an iterable of them"),
    (([np.ones(3)], 1.0), DtypeError, "parameters must be Parameters, as model.parameters.. gives, got ndarray"),
    (([], -1.0), ShapeError, "max_norm must be not negative, got max_norm=-1.0"),
    (([], "1"), DtypeError, "max_norm must be a number"),
    (([], 1.0, 0), ShapeError, "norm_type must be above 0"),
    (([], 1.0, 2.0, 1), DtypeError, "error_if_nonfinite must be True or False"),
])
def test_bad_arguments_are_refused(args, error, message):
    with pytest.raises(error, match=message):
        clip_grad_norm_(*args)


def test_a_norm_that_is_not_finite_may_be_refused():
    p = Parameter(np.zeros(2))
    p.grad = np.array([1.0, np.nan])
    with pytest.raises(ShapeError, match="must be finite with error_if_nonfinite=True, got nan"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad[0] == 1
    with pytest.raises(ShapeError, match="clip_value must be not negative"):
        nn.utils.clip_grad_value_(p, -1.0)
