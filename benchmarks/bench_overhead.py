"""What a call costs before any arithmetic: the smallest operands that each operation takes."""

import numpy as np
import pytest

import convkit.functional as F
from convkit import nn

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((1, 1, 8, 8), np.float32), RNG.standard_normal((1, 1, 3, 3), np.float32)
LAYER = nn.Conv2d(1, 1, 3, rng=RNG)

CALLS = {
    "conv2d": lambda: F.conv2d(X, W),
    "nn.Conv2d": lambda: LAYER(X),
    "max_pool2d": lambda: F.max_pool2d(X, 2),
    "relu": lambda: F.relu(X),
    "linear": lambda: F.linear(X[0, 0], X[0, 0]),
    "softmax": lambda: F.softmax(X),
}


@pytest.mark.parametrize("name", CALLS)
def test_call(benchmark, name):
    """Time of one tiny call."""
    benchmark.group = "overhead of a call"
    benchmark(CALLS[name])
