"""Time the layers of real networks against the machine's limits and other engines.

Every engine runs the same layer in turns, so that a noisy machine is noisy for all; the best time counts. Weights are
packed ahead of time on all sides, results are compared before anything is timed, and one thread means one pinned core.
Ratios are the other engine's time over convkit's: above 1, convkit is faster. The share is of the fused multiply-add
peak or of the speed of a plain copy of the same bytes, whichever limits the layer; an algorithm that saves arithmetic
can exceed 100 %.
"""

import math
import os
import platform
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import median
from threading import Thread

import numpy as np

import convkit
from convkit import cases, settings
from convkit.cli import peers as engines
from convkit.cli.common import CommandError, positive, print_table, require, seconds, write_json
from convkit.cli.info import cpu_name
from convkit.kernels import native
from convkit.plan import common as plans

TURN = 0.01  # seconds that an engine keeps the core before the next one has it
PAUSE = 0.03  # seconds between turns of several threads: idle OpenMP threads spin for up to 20 ms after a call
TOLERANCE = 1e-4  # of the largest output; 16-bit arithmetic fails it, fast algorithms in 32 bits do not


def add_arguments(parser):
    """Options of ``convkit bench``."""
    parser.add_argument("--backward", action="store_true", help="gradients (dx: input, dw: weight) instead of forward")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="for every engine (default: 1)")
    parser.add_argument("--filter", action="append", default=[], metavar="TEXT",
                        help="only layers whose network, name, group or operation contains TEXT; may be repeated")
    parser.add_argument("--peers", metavar="A,B", help="engines to compare with, or none (default: all that are "
                        f"installed of {', '.join(p.name for p in engines.PEERS)})")
    parser.add_argument("--twin", action="store_true", help="time the NumPy twin too, once (slow)")
    parser.add_argument("--seconds", type=seconds, default=0.3, help="per engine and layer (default: %(default)s)")
    parser.add_argument("--repeat", type=positive, default=5, metavar="N",
                        help="turns per engine and layer, at least (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON to FILE (- for standard output)")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios (.png, .svg, .pdf)")


def run(args):
    """Measure the machine, then every chosen layer; print rows as they come and geometric means at the end."""
    problems = _chosen(args)
    peers = _chosen_peers(args)
    if args.plot:
        require("matplotlib", "--plot")
    quiet = args.json == "-"
    with pinned(args.threads), settings.threads(args.threads):
        machine = Machine(args.threads)
        table = _Table([p.name for p in peers], args.twin, quiet)
        table.begin(machine, peers)
        rows = []
        for case, direction in problems:
            rows.append(bench_one(case, direction, peers, machine, args))
            table.add(rows[-1])
    groups = geometric_means(rows)
    table.end(groups)
    if args.json:
        write_json(args.json, _as_json(machine, peers, rows, groups))
    if args.plot:
        _plot(args.plot, rows, peers)
    return 1 if any(row.wrong for row in rows) else 0


def _chosen(args):
    if args.backward:
        table = [(c, d) for c in cases.TRAINING for d in ("dx", "dw")]
        table += [(c, "dx") for c in cases.POOLINGS]
    else:
        table = [(c, "forward") for c in cases.LAYERS]
    wanted = [text.lower() for text in args.filter]
    chosen = [(c, d) for c, d in table
              if not wanted or any(w in f"{c.id} {c.group} {c.op} {d}".lower() for w in wanted)]
    if not chosen:
        raise CommandError(f"no layer matches --filter {' '.join(args.filter)}; leave it out to see all of them")
    return chosen


def _chosen_peers(args):
    there = engines.installed()
    if args.peers is None:
        return there
    names = [] if args.peers == "none" else args.peers.split(",")
    for name in names:
        if name not in [p.name for p in there]:
            have = ", ".join(p.name for p in there) or "none"
            raise CommandError(f"--peers must name engines that are installed here ({have}), got {name!r}")
    return tuple(p for p in there if p.name in names)


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
    """The two limits that a layer can hit, measured here and now; None where the kernels are not installed."""

    def __init__(self, threads):
        self.threads = threads
        self.isa = settings.choice()[0]
        self.peak = None
        if native.available:
            self.peak = self._sum_over_threads(lambda: native.runtime.fma_peak(self.isa, 0.5))

    @cache  # noqa: B019 - one machine per run
    def _copy(self, log2_bytes):
        share = max(4096, 2**log2_bytes // (2 * self.threads))  # half of the bytes are read, half are written
        return self._sum_over_threads(lambda: native.runtime.copy_bandwidth(share, 0.05))

    def copy_bandwidth(self, nbytes):
        """GB/s, read and written, of a plain copy that touches about ``nbytes``."""
        return self._copy(math.ceil(math.log2(max(nbytes, 2**13)))) if native.available else None

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
    """One layer's result; ``times`` are best microseconds by engine, ``medians`` the medians of the turns' bests."""

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
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    x, given = normal(case.x), {}
    if case.weight is not None:
        given = {"weight": normal(case.weight, math.prod(case.weight[1:]) ** -0.5), "bias": normal(case.weight[0])}
    if case.op == "batch_norm":
        given = {name: normal(case.x[1]) for name in ("weight", "bias", "mean")}
        given["var"] = rng.uniform(0.5, 2, case.x[1]).astype(np.float32)
    problem = engines.Problem(case, "forward", x, **given)
    if direction == "forward":
        return problem
    y = our_runner(problem).run()
    return replace(problem, direction=direction, dy=normal(y.shape))


def our_runner(problem, module=None):
    """convkit's side: a layer with its weights packed, or a function where there are none to pack.

    With ``module=convkit.reference`` the same call on the NumPy twin.
    """
    import convkit.nn as nn

    case, x, options = problem.case, problem.x, problem.case.options
    functions = module or convkit.functional
    if problem.direction != "forward":
        run = _our_backward(problem, functions)
    elif case.op == "batch_norm":
        constants = (problem.mean, problem.var, problem.weight, problem.bias)

        def run():
            return functions.batch_norm(x, *constants, eps=engines.BATCH_NORM_EPS)
    elif problem.weight is None or module is not None:
        weights = () if problem.weight is None else (problem.weight, problem.bias)
        function = getattr(functions, case.op)

        def run():
            return function(x, *weights, **options)
    else:
        layer = (nn.Conv2d(case.x[1], case.weight[0], case.weight[2:], **options) if case.op == "conv2d"
                 else nn.Linear(case.weight[1], case.weight[0]))
        layer.load_state_dict({"weight": problem.weight, "bias": problem.bias})

        def run():
            return layer(x)
    return engines.Runner(run, lambda y: y)


def _our_backward(problem, functions):
    case, x, dy, options = problem.case, problem.x, problem.dy, problem.case.options
    if case.op == "conv2d":
        dx = problem.direction == "dx"
        needs, wanted = (dx, not dx, not dx), slice(0, 1) if dx else slice(1, 3)
        return lambda: functions.conv2d_backward(dy, x, problem.weight, **options, needs=needs)[wanted]
    backward = getattr(functions, f"{case.op}_backward")
    if case.op == "avg_pool2d":
        return lambda: backward(dy, x.shape, **options)
    _, indices = getattr(convkit.functional, case.op)(x, **options, return_indices=True)
    return lambda: backward(dy, indices, x.shape)


def bench_one(case, direction, peers, machine, args):
    """Prepare every engine, compare the results, time them in turns."""
    problem = make_problem(case, direction)
    ours = our_runner(problem)
    with plans.recording() as taken:
        y = ours.run()
    outputs = y if isinstance(y, tuple) else (y,)
    algorithm = "+".join(dict.fromkeys(p.algorithm for p in taken)) or "-"
    row = Row(case, direction, algorithm, *_work(problem, outputs))
    if not _agree(*_first_image_both_ways(problem)):
        row.wrong["convkit"] = "differs from its NumPy twin"
    runs = {"convkit": ours.run}
    for peer in peers:
        run = _checked_peer(peer, problem, machine.threads, outputs, row)
        if run is not None:
            runs[peer.name] = run
    pause = PAUSE if machine.threads > 1 else 0
    for name, turns in take_turns(runs, args.seconds, args.repeat, pause).items():
        row.times[name], row.medians[name] = min(turns) * 1e6, median(turns) * 1e6
    if args.twin:
        start = time.perf_counter()
        our_runner(problem, convkit.reference).run()
        row.times["twin"] = (time.perf_counter() - start) * 1e6
    _set_share(row, machine)
    return row


def _first_image_both_ways(problem):
    first = replace(problem, x=problem.x[:1], dy=None if problem.dy is None else problem.dy[:1])
    return [our_runner(first, module).run() for module in (convkit.functional, convkit.reference)]


def _agree(got, want):
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else ((got, want),)
    return all(g.shape == w.shape and np.abs(g - w).max() <= TOLERANCE * np.abs(w).max() for g, w in pairs)


def _checked_peer(peer, problem, threads, outputs, row):
    """What to time for a peer; None if it lacks the operation, fails or computes something else."""
    try:
        runner = peer.prepare(problem, threads)
        if runner is None:
            return None
        result = runner.to_numpy(runner.run())
    except Exception as exc:  # another engine's failure is a finding, not a reason to stop
        row.wrong[peer.name] = f"failed: {exc}"
        return None
    if _agree(result if isinstance(result, tuple) else (result,), outputs):
        return runner.run
    row.wrong[peer.name] = "computes something else"
    return None


def _work(problem, outputs):
    """Multiply-adds times 2, and bytes that must be read or written once."""
    case = problem.case
    taken = {"dx": ("dy", "weight"), "dw": ("x", "dy")}.get(problem.direction, ("x", "weight", "bias"))
    arrays = [getattr(problem, name) for name in taken]
    nbytes = sum(a.nbytes for a in arrays if a is not None) + sum(o.nbytes for o in outputs)
    if case.weight is None:
        return 0, nbytes
    results = outputs[0].size if problem.direction == "forward" else problem.dy.size
    return 2 * results * math.prod(case.weight[1:]), nbytes


def take_turns(runs, total, repeat, pause=0):
    """Best seconds of each of many short turns, by engine; a turn begins with one call that is not timed."""
    turns = {name: [] for name in runs}
    end = time.perf_counter() + (total + total / TURN * pause) * len(runs)
    while time.perf_counter() < end or min(map(len, turns.values())) < repeat:
        for name, run in runs.items():
            time.sleep(pause)
            run()
            turns[name].append(_one_turn(run))
    return turns


def _one_turn(run):
    clock = time.perf_counter
    best, end = math.inf, clock() + TURN
    while True:
        start = clock()
        run()
        now = clock()
        best = min(best, now - start)
        if now >= end:
            return best


def _set_share(row, machine):
    if machine.peak is None:
        return
    spent = row.times["convkit"] * 1e-6
    floors = {"fma": row.flops / (machine.peak * 1e9), "copy": row.nbytes / (machine.copy_bandwidth(row.nbytes) * 1e9)}
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


# ---- output


class _Table:
    """Rows printed as they are measured."""

    def __init__(self, peers, twin, quiet):
        self.engines = [*peers, *(["twin"] if twin else [])]
        self.quiet = quiet
        self.notes = []

    def begin(self, machine, peers):
        if self.quiet:
            return
        many = f"{machine.threads} threads" if machine.threads > 1 else "1 thread"
        print(f"convkit {convkit.__version__} on {cpu_name()}, {many}, float32")
        if machine.peak is None:
            print(f"no kernels, so the NumPy twins are measured: {native.reason}")
        else:
            sizes = ((2**18, "256 KB"), (2**23, "8 MB"), (2**28, "256 MB"))
            copies = ", ".join(f"{machine.copy_bandwidth(n):.0f} GB/s for {text}" for n, text in sizes)
            print(f"{machine.isa}: {machine.peak:.1f} GFLOP/s of fused multiply-adds; a copy moves {copies}")
        if peers:
            print("compared with " + ", ".join(f"{n} {v}" for n, v in engines.versions(peers).items()))
        print()
        print(f"{'layer':40} {'algorithm':>16} {'us':>9} {'rate':>12} {'share':>10}", end="")
        print("".join(f"{name:>13}" for name in self.engines), flush=True)

    def add(self, row):
        for name, what in row.wrong.items():
            self.notes.append(f"{row.case.id} {row.direction}: {name} {what}")
        if self.quiet:
            return
        us = row.times["convkit"]
        rate = f"{row.flops / us / 1e3:.1f} GF/s" if row.flops else f"{row.nbytes / us / 1e3:.1f} GB/s"
        share = "-" if row.share is None else f"{100 * row.share:.0f} % {row.limit}"
        name = row.case.id if row.direction == "forward" else f"{row.case.id} {row.direction}"
        print(f"{name:40} {row.algorithm:>16} {us:>9.1f} {rate:>12} {share:>10}", end="")
        print("".join(f"{self._cell(row, name):>13}" for name in self.engines), flush=True)

    @staticmethod
    def _cell(row, name):
        if name in row.wrong:
            return "wrong"
        return f"{row.ratios[name]:.2f}x" if name in row.ratios else "-"

    def end(self, groups):
        if self.quiet:
            return
        names = [*self.engines, "best peer"]
        if any(groups.values()):
            print("\ngeometric means: time of the other engine over convkit's")
            print_table(["group", *names],
                        [[g, *(f"{m[n]:.2f}x" if n in m else "-" for n in names)] for g, m in groups.items()])
        for note in self.notes:
            print(note)


def _as_json(machine, peers, rows, groups):
    return {
        "convkit": convkit.__version__, "cpu": cpu_name(), "python": platform.python_version(),
        "numpy": np.__version__, "isa": machine.isa, "threads": machine.threads,
        "fma_peak_gflops": machine.peak, "peers": engines.versions(peers),
        "rows": [{
            "network": r.case.network, "layer": r.case.name, "group": r.case.group, "operation": r.case.op,
            "direction": r.direction, "algorithm": r.algorithm, "microseconds": r.times["convkit"],
            "gflops": r.flops / r.times["convkit"] / 1e3, "bytes": r.nbytes, "share": r.share, "limit": r.limit,
            "best_us": r.times, "median_us": r.medians, "ratios": r.ratios, "wrong": r.wrong,
        } for r in rows],
        "geometric_means": groups,
    }


def _plot(path, rows, peers):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.26 * len(rows)), layout="constrained")
    for peer in peers:
        points = [(row.ratios[peer.name], i) for i, row in enumerate(rows) if peer.name in row.ratios]
        if points:
            axes.plot(*zip(*points, strict=True), "o", label=peer.name, markersize=5, alpha=0.8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [f"{r.case.id} {'' if r.direction == 'forward' else r.direction}" for r in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of the other engine / time of convkit (right of the line, convkit is faster)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(peers), frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as exc:
        raise CommandError(f"cannot write the plot: {exc}") from exc
    plt.close(figure)
