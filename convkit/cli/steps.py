"""Whole steps of training (forward, loss, backward, optimiser) against torch: ``convkit bench --train``.

Both train the same network from the same weights on the same batch, and the losses of the first steps must agree
before anything is timed.
"""

import math
import time
from functools import partial
from statistics import median
from types import SimpleNamespace

import numpy as np

import convkit
from convkit import nn, optim, settings
from convkit.cli.common import CommandError, print_table, write_json
from convkit.cli.measure import PAUSE, pinned
from convkit.cli.nets import NETS, torch_nn
from convkit.tuning import take_turns

CHECKED = 3  # steps whose losses must agree
TOLERANCE = 1e-3  # relative; each step magnifies the roundings of the one before
PROFILED = 5  # steps that are timed layer by layer; the median counts


def run(args, peers):
    """Train every chosen network with every engine; print a row for each, then where convkit's time goes."""
    chosen = chosen_of(NETS, args, "--train")
    peers = [name for name in peers if name in TORCH_LAYOUTS]
    with pinned(args.threads), settings.threads(args.threads):
        rows = [_measure(net, peers, args) for net in chosen]
    if args.json != "-":
        print_rows("whole training steps", rows, peers, args.threads, {"optimiser": "optimizer"})
        _print_shares(rows)
    return write_rows(rows, args)


def chosen_of(nets, args, option):
    """The networks that ``--filter`` leaves."""
    chosen = [net for net in nets if not args.filter or any(w.lower() in net.name.lower() for w in args.filter)]
    if not chosen:
        raise CommandError(f"no network matches --filter {' '.join(args.filter)}; leave it out to see them all")
    if args.twin or args.plot:
        raise CommandError(f"--twin and --plot are for layers, not for {option}")
    return chosen


def write_rows(rows, args):
    """The rows into the file of ``--json``; returns the exit status."""
    if args.json:
        write_json(args.json, {"convkit": convkit.__version__, "cpu": settings.cpu_name(), "isa": settings.choice()[0],
                               "threads": args.threads, "rows": rows})
    return 1 if any(row["wrong"] for row in rows) else 0


def _measure(net, peers, args):
    """One row: images per second of each engine, the ratios, and the share of convkit's time by layer kind."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(net.x, dtype=np.float32)
    target = rng.integers(0, net.classes, len(x))
    model = net.build(nn)
    steps = {}
    for name in peers:
        if len(net.x) == 4 or name == "torch":
            steps[name] = torch_step(net, model.state_dict(), x, target, args.threads, TORCH_LAYOUTS[name])
    steps = {"convkit": make_step(net, model, x, target), **steps}
    losses = {name: [step() for _ in range(CHECKED)] for name, step in steps.items()}
    wrong = [name for name, own in losses.items() if not np.allclose(own, losses["convkit"], rtol=TOLERANCE, atol=0)]
    runs = {name: step for name, step in steps.items() if name not in wrong}
    turns = take_turns(runs, args.seconds, args.repeat, PAUSE if args.threads > 1 else 0)
    return {"net": net.name, "optimizer": net.optimizer, "losses": losses, "wrong": wrong, **rates(turns, len(x)),
            "shares": _shares(net, model, x, target)}


def rates(turns, images):
    """What a row says of the seconds of each engine's turns with a batch of so many images."""
    best = {name: min(its) for name, its in turns.items()}
    return {"milliseconds": {name: 1e3 * seconds for name, seconds in best.items()},
            "images_per_second": {name: images / seconds for name, seconds in best.items()},
            "ratios": {name: seconds / best["convkit"] for name, seconds in best.items() if name != "convkit"}}


def make_step(net, model, x, target):
    """convkit's step, as a function that returns the loss."""
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(optim, net.optimizer)(model.parameters(), **net.options)

    def step():
        optimizer.zero_grad()
        scores, backward = model.forward(x)
        loss, to_scores = criterion.forward(scores, target)
        backward(to_scores(), need_dx=False)
        optimizer.step()
        return float(loss)

    return step


# ---- torch

TORCH_LAYOUTS = {"torch": "contiguous_format", "torch_cl": "channels_last"}


def torch_step(net, state, x, target, threads, layout):
    """The same in torch, with its fused optimiser and the weights and images in ``layout``."""
    import torch

    torch.set_num_threads(threads)
    model, layout = torch_model(net, state, layout)
    optimizer = getattr(torch.optim, net.optimizer)(model.parameters(), **net.options, fused=True)
    x, target = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(target)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_model(net, state, layout):
    """The network in torch with the weights of a ``state_dict`` of convkit's, and torch's object for the layout."""
    import torch

    layout = getattr(torch, layout)
    model = net.build(torch_nn())
    model.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return (model if len(net.x) != 4 else model.to(memory_format=layout)), layout


# ---- where the time goes


def _shares(net, model, x, target):
    """Share of a step by kind of layer, forward and backward: ``{kind: (share, share)}``, largest first.

    The optimiser counts as backward; what belongs to no layer (Python, sums of branches) is "rest".
    """
    runs = []
    clock = _Clock()
    chains = [module for module in model.modules() if isinstance(module, nn.Sequential)]
    for chain in chains:
        vars(chain)["_passes"] = partial(clock.passes, chain._passes)
    criterion, optimizer = nn.CrossEntropyLoss(), getattr(optim, net.optimizer)(model.parameters(), **net.options)
    for _ in range(PROFILED + 1):
        clock.spent, start = {}, time.perf_counter()
        scores, backward = model.forward(x)
        _, to_scores = clock.around("loss", criterion.forward)(scores, target)
        backward(to_scores(), need_dx=False)
        clock.timed("optimiser", 1, optimizer.step)
        model.zero_grad()
        runs.append((clock.spent, time.perf_counter() - start))
    for chain in chains:
        del vars(chain)["_passes"]
    whole = median(seconds for _, seconds in runs[1:])  # the first one allocates
    shares = {kind: [median(spent[kind][i] for spent, _ in runs[1:]) / whole for i in (0, 1)] for kind in runs[0][0]}
    shares["rest"] = [max(0.0, 1 - sum(map(sum, shares.values()))), 0.0]
    return dict(sorted(shares.items(), key=lambda item: -sum(item[1])))


def _kind(layer):
    return type(getattr(layer, "layer", layer)).__name__.rstrip("123d")


class _Clock:
    """Adds up what is spent by kind, forward and backward: ``spent[kind] = [seconds, seconds]``."""

    def __init__(self):
        self.spent = {}

    def timed(self, kind, direction, function, *args, **named):
        """Call ``function``, its time to the account of ``kind``."""
        start = time.perf_counter()
        result = function(*args, **named)
        self.spent.setdefault(kind, [0.0, 0.0])[direction] += time.perf_counter() - start
        return result

    def passes(self, original):
        """The passes of a Sequential, those that are layers with their time to the account of their kind."""
        return [each if isinstance(each, nn.Module) and any(each.named_children()) else
                SimpleNamespace(forward=self.around(_kind(each), each.forward), can_skip_dx=each.can_skip_dx,
                                parameters=each.parameters)
                for each in original()]

    def around(self, kind, forward):
        """``forward`` with its time, and that of the backward function that it returns, to the account of ``kind``."""
        def timed_forward(*args):
            y, backward = self.timed(kind, 0, forward, *args)
            return y, lambda *args, **named: self.timed(kind, 1, backward, *args, **named)
        return timed_forward


# ---- output


def print_rows(what, rows, peers, threads, more=None):
    """A table of networks; ``more`` names columns after the first and where a row has them."""
    more = more or {}
    print(f"convkit {convkit.__version__} on {settings.cpu_name()}, {threads} thread{'s' if threads > 1 else ''}, "
          f"float32, {what}\n")
    table = [[row["net"], *(row[key] for key in more.values()), f"{row['milliseconds']['convkit']:.2f}",
              f"{row['images_per_second']['convkit']:,.0f}", *(_cell(row, name) for name in peers)] for row in rows]
    if len(rows) > 1 and peers:
        means = [_mean([row["ratios"][name] for row in rows if name in row["ratios"]]) for name in peers]
        table.append(["geometric mean", *("" for _ in more), "", "", *means])
    print_table(["network", *more, "ms", "images/s", *peers], table)


def _mean(ratios):
    return f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}x" if ratios else "-"


def _print_shares(rows):
    print("\nshare of convkit's time, forward + backward, in %")
    for row in rows:
        parts = [f"{kind} {100 * there:.0f} + {100 * back:.0f}" for kind, (there, back) in row["shares"].items()]
        print(f"{row['net']}: {', '.join(parts)}")


def _cell(row, name):
    return "wrong" if name in row["wrong"] else f"{row['ratios'][name]:.2f}x" if name in row["ratios"] else "-"
