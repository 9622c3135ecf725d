"""csrc/optim: steps of optimisers at every level and dtype, against the definition and against each other."""

import numpy as np
import pytest
from dense import LENGTHS, every_dtype, every_isa, pytestmark  # noqa: F401
from guards import guarded, guarded_empty

import convkit
from convkit import optim
from convkit.kernels import native
from convkit.nn import Parameter
from convkit.plan.optim import plan
from convkit.spec.optim import OptimSpec, Rule

if native.available:
    from convkit.kernels.optim import KERNELS

STEPS = {  # what is remembered ("b": first, "v": second, "m": third), and the rule
    "sgd": ("", Rule(0.1, 0.0, 0.0)),
    "sgd, decay": ("", Rule(0.1, 0.02, 0.0)),
    "sgd, momentum": ("b", Rule(0.1, 0.0, 0.9)),
    "sgd, nesterov": ("b", Rule(0.1, 0.02, 0.9, nesterov=True)),
    "adam": ("bv", Rule(0.1, 0.0, 0.9, 0.99, 1e-8)),
    "adam, decay": ("bv", Rule(0.1, 0.02, 0.9, 0.99, 1e-8)),
    "adamw": ("bv", Rule(0.1, 0.0, 0.9, 0.99, 1e-8, shrink=0.9)),
    "rmsprop": ("v", Rule(0.1, 0.0, 0.0, 0.99, 1e-8)),
    "rmsprop, momentum": ("bv", Rule(0.1, 0.02, 0.9, 0.99, 1e-8)),
    "rmsprop, centered": ("vm", Rule(0.1, 0.02, 0.0, 0.99, 1e-2)),
    "rmsprop, both": ("bvm", Rule(0.1, 0.0, 0.9, 0.99, 1e-2)),
}


def kind(name):
    return "adam" if name == "adamw" else name.partition(",")[0]


def test_the_registry_is_covered():
    assert set(KERNELS) == set(map(kind, STEPS))


def _network(remembered, dtype, seed=0):
    """Parameters of every length, with gradients, and what is remembered of earlier ones."""
    rng = np.random.default_rng(seed)
    network = [[rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype),
                *(np.abs(rng.standard_normal(n)).astype(dtype) if array in remembered else None for array in "bvm"), 0.7, 0.4]
               for n in (*LENGTHS, 40_000)]
    for parameter in network if "m" in remembered else ():
        parameter[3] += 20  # a mean square is no less than the square of the mean, whose difference is taken
    return network


@every_isa
@every_dtype
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_the_definition_to_a_few_eps(isa, dtype, name):
    remembered, rule = STEPS[name]
    spec = OptimSpec(kind(name), np.dtype(dtype))
    got, want = _network(remembered, dtype), _network(remembered, dtype)
    with convkit.use(isa=isa):
        plan(spec).run(got, rule)
    with convkit.use(algorithm="reference"):
        plan(spec).run(want, rule)
    for ours, theirs in zip(got, want, strict=True):
        for a, b in zip(ours[:5], theirs[:5], strict=True):
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=16 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).eps)


@every_dtype
@pytest.mark.parametrize("name", STEPS)
def test_every_level_and_number_of_threads_gives_the_same_bits(dtype, name):
    remembered, rule = STEPS[name]
    spec, results = OptimSpec(kind(name), np.dtype(dtype)), []
    for isa in native.ISA_LEVELS:
        for threads in (1, 3):
            network = _network(remembered, dtype)
            with convkit.use(isa=isa), convkit.threads(threads):
                plan(spec).run(network + [_large(remembered, dtype)], rule)
            results.append(network)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            assert all(a is None or np.array_equal(a, b) for a, b in zip(ours[:5], theirs[:5], strict=True))


def _large(remembered, dtype):
    """Enough elements for several threads."""
    return [np.ones(200_000, dtype), np.ones(200_000, dtype),
            *(np.ones(200_000, dtype) if array in remembered else None for array in "bvm"), 0.7, 0.4]


@every_isa
@every_dtype
def test_nothing_outside_the_arrays_is_touched(isa, dtype):
    def own(n):
        a = guarded_empty(n, dtype)
        a[...] = 1
        return a

    for name, (remembered, rule) in STEPS.items():
        parameters = [[own(n), guarded(np.ones(n, dtype)), *(own(n) if array in remembered else None for array in "bvm"), 1.0, 1.0]
                      for n in (1, 7, 33)]
        with convkit.use(isa=isa):
            plan(OptimSpec(kind(name), np.dtype(dtype))).run(parameters, rule)


@every_isa
@every_dtype
def test_a_variance_that_rounding_leaves_below_zero_is_zero(isa, dtype):
    """With the same gradient again and again the mean square comes to the square of the mean; a NaN stays one."""
    mean = np.array([1.0, 3.0, np.nan, 7.0] * 5, dtype)
    square = (mean * mean * (1 - 4 * np.finfo(dtype).eps)).astype(dtype)
    data = np.ones(20, dtype)
    with convkit.use(isa=isa):
        plan(OptimSpec("rmsprop", np.dtype(dtype))).run(
            [(data, mean.copy(), None, square, mean.copy(), 0.0, 0.0)], Rule(0.5, 0.0, 0.0, 0.99, 2.0))
    np.testing.assert_array_equal(np.isnan(data), np.isnan(mean))
    np.testing.assert_allclose(data[~np.isnan(mean)], 1 - 0.25 * mean[~np.isnan(mean)], rtol=1e-5)


def test_parameters_of_both_dtypes_and_gradients_of_any_layout():
    a, b = Parameter(np.zeros((3, 4), np.float32)), Parameter(np.zeros((2, 5)))
    optimizer = optim.SGD([a, b], lr=1.0)
    a.grad, b.grad = np.arange(12, dtype=np.float32).reshape(4, 3).T, np.arange(20.0).reshape(2, 10)[:, ::2]
    optimizer.step()
    assert np.array_equal(a.data, -a.grad) and np.array_equal(b.data, -b.grad)
