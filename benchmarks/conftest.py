"""Fixtures of the benchmarks: threads, and one pinned core where there is one thread.

Environment: ``BENCH_THREADS`` (default 1). The instruction set is that of ``CONVKIT_ISA``.
"""

import os

import pytest

import convkit
from convkit.cli.info import gather
from convkit.cli.measure import pinned

THREADS = int(os.environ.get("BENCH_THREADS", "1"))


@pytest.fixture(autouse=True, scope="session")
def _one_core_per_thread():
    with pinned(THREADS), convkit.threads(THREADS):
        yield


def pytest_benchmark_update_machine_info(config, machine_info):
    """Keep what ``convkit info`` says beside the timings."""
    machine_info["convkit"] = {**gather(), "benchmark threads": THREADS}
