"""Every layer of the table in ``convkit.cases``: forward, and the gradients of the training batches."""

import pytest

from convkit import cases
from convkit.cli.measure import make_problem, our_call
from convkit.plan import common

FORWARD = [(case, "forward") for case in cases.LAYERS]
GRADIENTS = [(case, direction) for case in cases.TRAINING for direction in ("dx", "dw")]
GRADIENTS += [(case, "dx") for case in cases.POOLINGS]


@pytest.mark.parametrize(("case", "direction"), FORWARD + GRADIENTS,
                         ids=[f"{case.op} {case.id} {direction}" for case, direction in FORWARD + GRADIENTS])
def test_layer(benchmark, case, direction):
    """convkit's time for one call, weights packed; the algorithm is kept in ``extra_info``."""
    benchmark.group = f"{case.op}: {case.group}" if direction == "forward" else f"{case.op} {direction}"
    run = our_call(make_problem(case, direction))
    with common.recording() as plans:
        run()
    benchmark.extra_info["algorithm"] = "+".join(dict.fromkeys(plan.algorithm for plan in plans))
    benchmark(run)
