"""Every public operation has all that an operation needs: a gradient, a twin, a layer, rows in ``verify`` and in the tables of
the benchmarks. (Refusals: ``test_public_api``; docstrings: ``test_architecture``.)
"""

import inspect

import pytest

from convkit import cases, functional, nn, reference
from convkit.verification import OPERATIONS

FORWARD = [name for name in functional.__all__ if not name.endswith("_backward")]
VERIFIED = {op.name for op in OPERATIONS}
MEASURED, MEASURED_BACKWARD = {case.op for case in cases.LAYERS}, {case.op for case, _ in cases.GRADIENTS}

# Layers that PyTorch has called something else than the function, or that are more than it.
LAYERS = {"add": "residual", "interpolate": "upsample", "pad": "zeropad", "cross_entropy": "crossentropyloss",
          "binary_cross_entropy_with_logits": "bcewithlogitsloss"}


def test_there_is_something_to_look_at():
    assert len(FORWARD) > 70
    assert len(FORWARD) == len(functional.__all__) - len(FORWARD)


@pytest.mark.parametrize("name", FORWARD)
def test_a_public_operation_is_complete(name):
    for each in (name, f"{name}_backward"):
        assert each in functional.__all__
        assert inspect.signature(getattr(reference, each)) == inspect.signature(getattr(functional, each))
        assert each in VERIFIED, "a row in convkit/verification.py"
    assert name in MEASURED and name in MEASURED_BACKWARD, "a case in convkit/cases.py"
    layers = {layer.lower() for layer in nn.__all__}
    wanted = LAYERS.get(name, name.replace("_", ""))
    assert {wanted, f"{wanted}1d"} & layers, "a layer in convkit/nn"
    if wanted not in layers:  # one for each rank
        assert {f"{wanted}2d", f"{wanted}3d"} <= layers


def test_no_row_is_for_something_that_is_not_there():
    assert set(functional.__all__) >= VERIFIED | MEASURED | MEASURED_BACKWARD
