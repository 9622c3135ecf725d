"""Measuring layers: the machine's limits, convkit's and the peers' runs of one layer, turns, ratios.

Used by ``convkit bench`` and by ``benchmarks/``.
"""

import math
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from inspect import signature
from statistics import median
from threading import Thread

import numpy as np

import convkit
from convkit import cases, settings
from convkit.cli import peers as engines
from convkit.kernels import native
from convkit.plan import common as plans
from convkit.tuning import take_turns

PAUSE = 0.03  # seconds between turns of several threads: idle OpenMP threads spin for up to 20 ms
TOLERANCE = 1e-4  # of the largest output; 16-bit arithmetic fails it, fast algorithms in 32 bits do not


@contextmanager
def pinned(threads):
    """Keep a one-thread run on one core; threads that the engines start inside inherit it."""
    if threads != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# ---- the machine


class Machine:
    """The two limits that a layer can hit, measured here and now; None without the compiled kernels."""

    def __init__(self, threads):
        self.threads = threads
        self.isa = settings.choice()[0]
        self.peak = None
        if native.available:
            self.peak = self._sum_over_threads(lambda: native.runtime.fma_peak(self.isa, 0.5))

    @cache  # noqa: B019 - one machine per run
    def _copy(self, log2_bytes):
        share = max(4096, 2**log2_bytes // (2 * self.threads))  # half of the bytes are read, half are written
        return self._sum_over_threads(lambda: native.runtime.copy_bandwidth(share, 0.1))

    def copy_bandwidth(self, nbytes):
        """GB/s, read and written, of a plain copy that touches no more than ``nbytes``: larger ones are slower."""
        return self._copy(int(math.log2(max(nbytes, 2**13)))) if native.available else None

    def _sum_over_threads(self, probe):
        if self.threads == 1:
            return probe()
        results = []
        workers = [Thread(target=lambda: results.append(probe())) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(results)


# ---- one layer


@dataclass
class Row:
    """One layer's result; ``times`` are the best microseconds by engine, ``medians`` those of the turns."""

    case: cases.Case
    direction: str
    algorithm: str
    flops: int
    nbytes: int
    times: dict = field(default_factory=dict)
    medians: dict = field(default_factory=dict)
    share: float | None = None
    limit: str | None = None
    wrong: dict = field(default_factory=dict)

    @property
    def name(self):
        """The layer, with the gradient that is computed, if one is."""
        return self.case.id if self.direction == "forward" else f"{self.case.id} {self.direction}"

    @property
    def ratios(self):
        """Each other engine's time over convkit's."""
        return {name: t / self.times["convkit"] for name, t in self.times.items() if name != "convkit"}

    @property
    def best_ratio(self):
        """The fastest other engine's time over convkit's, the NumPy twin not counted; None without one."""
        return min((r for name, r in self.ratios.items() if name != "twin"), default=None)


def make_problem(case, direction, seed=0):
    """Random numbers for a case; weights are scaled so that outputs are about as large as inputs."""
    rng = np.random.default_rng(seed)

    def normal(shape, scale=1.0):
        return np.asarray(rng.standard_normal(shape, dtype=np.float32) * np.float32(scale))  # also of no axes

    x, given = normal(case.x), {}
    if case.op == "embedding":
        x, given = rng.integers(0, case.weight[0], case.x), {"weight": normal(case.weight)}
    elif case.weight is not None:
        scale = math.prod(case.weight[1:]) ** -0.5
        filters = case.weight[1] * case.groups if "transpose" in case.op else case.weight[0]
        given = {"weight": normal(case.weight, scale), "bias": normal(filters)}
    arrays = {name: _array(case, name, rng) for name in case.arrays}
    problem = engines.Problem(case, "forward", x, **given, arrays=arrays)
    if direction == "forward":
        return problem
    y = our_call(problem)()
    return replace(problem, direction=direction, dy=normal((y[0] if isinstance(y, tuple) else y).shape))


def _array(case, name, rng):
    """An operand that only some operations have."""
    if name == "indices":
        planes = rng.standard_normal((*case.x[:2], *(n * k for n, k in zip(case.x[2:], case.kernel, strict=True))))
        pool = getattr(convkit.functional, f"max_pool{len(case.kernel)}d")
        return pool(planes, case.kernel, return_indices=True)[1]
    if name == "other":  # of 32 channels beside others, or to be added
        return rng.standard_normal((case.x[0], 32, *case.x[2:]) if case.op == "concat" else case.x, np.float32)
    if name == "target" and case.op in ("cross_entropy", "nll_loss"):
        return rng.integers(0, case.x[1], (case.x[0], *case.x[2:]))
    if name == "target":
        return rng.random(case.x, np.float32)
    shape = dict(case.more).get("normalized_shape", case.x[1:2])
    return rng.uniform(0.5, 2, shape).astype(np.float32)  # a variance must be positive, the others may be


def our_call(problem, module=None):
    """convkit's side, as a function without arguments: a layer with its weights packed where there are any.

    With ``module=convkit.reference`` it is the same call on the NumPy twin.
    """
    case, x = problem.case, problem.x
    functions = module or convkit.functional
    if problem.direction != "forward":
        return _our_gradients(problem, functions)
    if problem.weight is None:
        return _function(problem, functions)
    if module is not None:
        return partial(getattr(functions, case.op), x, problem.weight, problem.bias, **case.options)
    layer = _layer(problem)
    return lambda: layer(x)


def _function(problem, functions):
    """The call of an operation that has no weight to pack."""
    case = problem.case
    function = partial(getattr(functions, case.op), problem.x)
    if case.op == "concat":  # as many arrays as one likes: they have no names
        return partial(function, *problem.arrays.values(), **case.options)
    if case.op in engines.RANDOM:
        function = partial(function, rng=np.random.default_rng(0))
    return partial(function, **problem.arrays, **case.options)


def _layer(problem):
    from convkit import nn

    case = problem.case
    if case.op.startswith("conv"):
        name = case.op.replace("conv_transpose", "ConvTranspose").replace("conv", "Conv")
        layer = getattr(nn, name)(case.x[1], problem.bias.size, case.weight[2:], **case.options)
    else:
        layer = _LAYERS[case.op](nn, case)
    state = layer.state_dict()
    values = {"weight": problem.weight, "bias": problem.bias, **problem.arrays}
    layer.load_state_dict({name: values.get(name, first) for name, first in state.items()})
    return layer


_NORMS = {
    "batch_norm": lambda nn, case: nn.BatchNorm2d(case.x[1]),
    "layer_norm": lambda nn, case: nn.LayerNorm(case.options["normalized_shape"]),
    "group_norm": lambda nn, case: nn.GroupNorm(case.options["num_groups"], case.x[1]),
    "instance_norm": lambda nn, case: nn.InstanceNorm2d(case.x[1]),
}
_LAYERS = _NORMS | {
    "linear": lambda nn, case: nn.Linear(case.weight[1], case.weight[0]),
    "embedding": lambda nn, case: nn.Embedding(*case.weight),
}


def _our_gradients(problem, functions):
    """By the function, but for norms by the layer, which keeps statistics of its forward pass as other engines do."""
    case = problem.case
    if case.op in _NORMS and functions is convkit.functional:
        return _gradients_of_layer(problem)
    backward = partial(getattr(functions, f"{case.op}_backward"), **_gradient_arguments(problem))
    if case.op in _NORMS:  # the function returns those of a weight and a bias also where there are none
        learned = 1 + sum(name in ("weight", "bias") for name in case.arrays)
        return lambda: backward()[:learned]
    if problem.direction == "grad":
        return backward
    dx = problem.direction == "dx"
    needs, wanted = (dx, not dx, not dx), slice(0, 1) if dx else slice(1, 3)
    return lambda: backward(needs=needs)[wanted]


def _gradients_of_layer(problem):
    layer = _layer(problem)
    _, backward = layer.forward(problem.x)

    def run():
        layer.zero_grad()
        return backward(problem.dy), *(parameter.grad for parameter in layer.parameters())

    return run


def _gradient_arguments(problem):
    """A gradient function says by the names of its arguments what it wants of the forward pass."""
    case, x, dy = problem.case, problem.x, problem.dy
    forward = _function(problem, convkit.functional)
    made = {"y": forward, "indices": lambda: forward(return_indices=True)[1], "mask": lambda: forward()[1],
            "sizes": lambda: tuple(a.shape[1] for a in (x, *problem.arrays.values()))}
    given = {"dy": dy, "dloss": dy, "x": x, "logits": x, "input_shape": x.shape, "weight": problem.weight,
             **problem.arrays, **case.options}
    if case.op == "embedding":
        given |= {"indices": x, "num_embeddings": case.weight[0]}
    wanted = signature(getattr(convkit.functional, f"{case.op}_backward")).parameters
    return {name: given[name] if name in given else made[name]()
            for name in wanted if name in given or name in made}


def bench_one(case, direction, peers, machine, args):
    """Prepare every engine, compare the results, time them in turns."""
    problem = make_problem(case, direction)
    ours = our_call(problem)
    with plans.recording() as taken:
        y = ours()
    outputs = y if isinstance(y, tuple) else (y,)
    algorithm = "+".join(dict.fromkeys(p.algorithm for p in taken)) or "-"
    row = Row(case, direction, algorithm, *_work(problem, outputs))
    if not agree(*_first_image_both_ways(problem)):
        row.wrong["convkit"] = "differs from its NumPy twin"
    runs = {"convkit": ours}
    for peer in peers:
        run = _checked_peer(peer, problem, machine.threads, outputs, row)
        if run is not None:
            runs[peer.name] = run
    pause = PAUSE if machine.threads > 1 else 0
    for name, turns in take_turns(runs, args.seconds, args.repeat, pause).items():
        row.times[name], row.medians[name] = min(turns) * 1e6, median(turns) * 1e6
    if args.twin:
        start = time.perf_counter()
        our_call(problem, convkit.reference)()
        row.times["twin"] = (time.perf_counter() - start) * 1e6
    _set_share(row, machine)
    return row


def _first_image_both_ways(problem):
    arrays = {name: a[:1] if name in ("target", "indices", "other") else a for name, a in problem.arrays.items()}
    dy = problem.dy[:1] if problem.dy is not None and problem.dy.ndim else problem.dy
    first = replace(problem, x=problem.x[:1], dy=dy, arrays=arrays)
    return [our_call(first, module)() for module in (None, convkit.reference)]


def agree(got, want):
    """Whether two results, arrays or tuples of arrays, are the same but for rounding."""
    got, want = (r if isinstance(r, tuple) else (r,) for r in (got, want))
    return all(g.shape == w.shape and np.abs(1 * g - w).max(initial=0) <= TOLERANCE * np.abs(w).max(initial=0)
               for g, w in zip(got, want, strict=True))


def _checked_peer(peer, problem, threads, outputs, row):
    """What to time for a peer; None if it lacks the operation, fails or computes something else."""
    try:
        runner = peer.prepare(problem, threads)
        if runner is None:
            return None
        result = runner.to_numpy(runner.run())
    except Exception as exc:  # noqa: BLE001 - another engine's failure is a finding, not a reason to stop
        row.wrong[peer.name] = f"failed: {exc}"
        return None
    if agree(*comparable(problem, result, outputs)):
        return runner.run
    row.wrong[peer.name] = "computes something else"
    return None


def comparable(problem, theirs, ours):
    """Two results as far as they can be compared: every engine drops other elements, so those that both have kept."""
    if problem.case.op not in engines.RANDOM:
        return theirs, ours
    theirs, ours = (r[0] if isinstance(r, tuple) else r for r in (theirs, ours))
    kept = (theirs != 0) & (ours != 0)
    return (theirs * kept, ours * kept) if kept.any() else (theirs, ours)


def _work(problem, outputs):
    """Multiply-adds times 2, and bytes that must be read or written once."""
    case = problem.case
    if problem.direction == "grad":
        arrays = _gradient_arguments(problem).values()
    else:
        taken = {"dx": ("dy", "weight"), "dw": ("x", "dy")}.get(problem.direction, ("x", "weight", "bias"))
        arrays = [*(getattr(problem, name) for name in taken), *problem.arrays.values()]
    nbytes = sum(a.nbytes for a in (*arrays, *outputs) if isinstance(a, (np.ndarray, np.floating)))
    if case.op == "embedding":  # only the rows that are looked up are touched
        nbytes = sum(a.nbytes for a in (problem.x, *outputs, outputs[0] if problem.dy is None else problem.dy))
    if case.weight is None or case.op == "embedding":
        return 0, nbytes
    results = outputs[0].size if problem.direction == "forward" else problem.dy.size
    if "transpose" in case.op:
        results = problem.x.size  # each element of x meets all taps
    return 2 * results * math.prod(case.weight[1:]), nbytes


def _set_share(row, machine):
    if machine.peak is None:
        return
    spent = row.times["convkit"] * 1e-6
    bandwidth = machine.copy_bandwidth(row.nbytes)
    floors = {"fma": row.flops / (machine.peak * 1e9), "copy": row.nbytes / (bandwidth * 1e9)}
    row.limit = max(floors, key=floors.get)
    row.share = floors[row.limit] / spent


def geometric_means(rows):
    """Ratios over all rows of a group, and over all rows at the end: {group: {engine: ratio}}."""
    members = {}
    for row in rows:
        members.setdefault(row.case.group, []).append(row)
    if len(members) > 1:
        members["all"] = rows
    means = {}
    for group, its in members.items():
        collected = {}
        for row in its:
            for name, ratio in row.ratios.items():
                collected.setdefault(name, []).append(ratio)
            if row.best_ratio is not None:
                collected.setdefault("best peer", []).append(row.best_ratio)
        means[group] = {name: math.exp(sum(map(math.log, r)) / len(r)) for name, r in collected.items()}
    return means
