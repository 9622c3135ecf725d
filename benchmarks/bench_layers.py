"""Every layer of the table in ``convkit.cases``, forward and backward."""

import pytest

from convkit import cases
from convkit.cli.measure import make_problem, our_call
from convkit.plan import common

PROBLEMS = [*((case, "forward") for case in cases.LAYERS), *cases.GRADIENTS]


@pytest.mark.parametrize(("case", "direction"), PROBLEMS,
                         ids=[f"{case.op} {case.id} {direction}" for case, direction in PROBLEMS])
def test_layer(benchmark, case, direction):
    """convkit's time for one call, weights packed; the algorithm is kept in ``extra_info``."""
    benchmark.group = f"{case.op}: {case.group}" if direction == "forward" else f"{case.op} {direction}"
    run = our_call(make_problem(case, direction))
    with common.recording() as plans:
        run()
    benchmark.extra_info["algorithm"] = "+".join(dict.fromkeys(plan.algorithm for plan in plans))
    benchmark(run)
