"""Time the layers of real networks against the machine's limits and other engines.

Every engine runs the same layer in turns, so that a noisy machine is noisy for all; the best time counts.
Weights are packed ahead of time on all sides, results are compared before anything is timed, and one
thread means one pinned core. Ratios are the other engine's time over convkit's: above 1, convkit is
faster. The share is of the fused multiply-add peak or of the speed of a plain copy of the same bytes,
whichever limits the layer; an algorithm that saves arithmetic can exceed 100 %.
"""

import platform

import numpy as np

import convkit
from convkit import cases, settings
from convkit.cli import peers as engines
from convkit.cli import predict, steps
from convkit.cli.common import CommandError, positive, print_table, require, seconds, write_json
from convkit.cli.measure import Machine, bench_one, geometric_means, pinned
from convkit.kernels import native


def add_arguments(parser):
    """Options of ``convkit bench``."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--backward", action="store_true",
                      help="gradients: dx of the input, dw of the weight, grad for all in one call")
    what.add_argument("--train", action="store_true",
                      help="whole training steps of small networks, against torch")
    what.add_argument("--predict", action="store_true",
                      help="whole networks that predict, against torch, onnxruntime and openvino")
    parser.add_argument("--threads", type=positive, default=1, metavar="N",
                        help="for every engine (default: %(default)s)")
    parser.add_argument("--filter", action="append", default=[], metavar="TEXT",
                        help="layers whose network, name, group or operation contains TEXT; may be repeated")
    known = ", ".join(p.name for p in engines.PEERS)
    parser.add_argument("--peers", metavar="A,B",
                        help=f"engines to compare with, or none (default: those installed of {known})")
    parser.add_argument("--twin", action="store_true", help="time the NumPy twin too, once (slow)")
    parser.add_argument("--seconds", type=seconds, default=0.3, metavar="S",
                        help="per engine and layer (default: %(default)s)")
    parser.add_argument("--repeat", type=positive, default=5, metavar="N",
                        help="turns per engine and layer, at least (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON (- for standard output)")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios (.png, .svg, .pdf)")


def run(args):
    """Measure the machine, then every chosen layer; print rows as they come, and geometric means."""
    peers = _chosen_peers(args)
    if args.train:
        return steps.run(args, [p.name for p in peers])
    if args.predict:
        return predict.run(args, peers)
    problems = _chosen(args)
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
    return 1 if any("convkit" in row.wrong for row in rows) else 0


def _chosen(args):
    table = cases.GRADIENTS if args.backward else [(c, "forward") for c in cases.LAYERS]
    wanted = [text.lower() for text in args.filter]
    chosen = [(c, d) for c, d in table
              if not wanted or any(w in f"{c.id} {c.group} {c.op} {d}".lower() for w in wanted)]
    if not chosen:
        raise CommandError(f"no layer matches --filter {' '.join(args.filter)}; leave it out to see them all")
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
        print(f"convkit {convkit.__version__} on {settings.cpu_name()}, {many}, float32")
        if machine.peak is None:
            print(f"no kernels, so the NumPy twins are measured: {native.reason}")
        else:
            sizes = ((2**18, "256 KB"), (2**23, "8 MB"), (2**28, "256 MB"))
            copies = ", ".join(f"{machine.copy_bandwidth(n):.0f} GB/s for {text}" for n, text in sizes)
            print(f"{machine.isa}: {machine.peak:.1f} GFLOP/s of fused multiply-adds; a copy moves {copies}")
        if peers:
            print("compared with " + ", ".join(f"{n} {v}" for n, v in engines.versions(peers).items()))
        print()
        print(f"{'layer':45} {'algorithm':>16} {'us':>9} {'rate':>12} {'share':>10}", end="")
        print("".join(f"{name:>13}" for name in self.engines), flush=True)

    def add(self, row):
        for name, what in row.wrong.items():
            self.notes.append(f"{row.name}: {name} {what}")
        if self.quiet:
            return
        us = row.times["convkit"]
        rate = f"{row.flops / us / 1e3:.1f} GF/s" if row.flops else f"{row.nbytes / us / 1e3:.1f} GB/s"
        share = "-" if row.share is None else f"{100 * row.share:.0f} % {row.limit}"
        print(f"{row.name:45} {row.algorithm:>16} {us:>9.1f} {rate:>12} {share:>10}", end="")
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
            rows = [[group, *(f"{means[n]:.2f}x" if n in means else "-" for n in names)]
                    for group, means in groups.items()]
            print_table(["group", *names], rows)
        for note in self.notes:
            print(note)


def _as_json(machine, peers, rows, groups):
    return {
        "convkit": convkit.__version__, "cpu": settings.cpu_name(), "python": platform.python_version(),
        "numpy": np.__version__, "isa": machine.isa, "threads": machine.threads,
        "fma_peak_gflops": machine.peak, "peers": engines.versions(peers),
        "rows": [{
            "network": row.case.network, "layer": row.case.name, "group": row.case.group,
            "operation": row.case.op, "direction": row.direction, "algorithm": row.algorithm,
            "microseconds": row.times["convkit"], "gflops": row.flops / row.times["convkit"] / 1e3,
            "bytes": row.nbytes, "share": row.share, "limit": row.limit, "best_us": row.times,
            "median_us": row.medians, "ratios": row.ratios, "wrong": row.wrong,
        } for row in rows],
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
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of the other engine / time of convkit (right of the line, convkit is faster)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(peers), frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as exc:
        raise CommandError(f"cannot write the plot: {exc}") from exc
    plt.close(figure)
