"""Whole networks that predict, against the engines that run them: ``convkit bench --predict``.

All run the same network with the same weights on the same batch: torch as its users call it, the engines that read ONNX
from what torch exports, which folds every batch norm into the convolution before it. The outputs must agree before
anything is timed.
"""

import io
import warnings

import numpy as np

from convkit import nn, settings
from convkit.cli.common import require
from convkit.cli.measure import PAUSE, agree, pinned
from convkit.cli.nets import PREDICTORS
from convkit.cli.peers import NEEDS_ONNX, Runner
from convkit.cli.steps import TORCH_LAYOUTS, chosen_of, print_rows, rates, torch_model, write_rows
from convkit.tuning import take_turns


def run(args, peers):
    """Time every chosen network with every engine that takes whole networks; print a row for each."""
    chosen = chosen_of(PREDICTORS, args, "--predict")
    peers = {p.name: p for p in peers if p.name in (*TORCH_LAYOUTS, *NEEDS_ONNX)}
    if peers:
        require("torch", "comparing whole networks", "bench")
    with pinned(args.threads), settings.threads(args.threads):
        rows = [_measure(net, peers, args) for net in chosen]
    if args.json != "-":
        print_rows("whole networks that predict", rows, list(peers), args.threads)
    return write_rows(rows, args)


def _measure(net, peers, args):
    """One row: images per second of each engine and the ratios."""
    x = np.random.default_rng(0).standard_normal(net.x, dtype=np.float32)
    model = seen(net.build(nn), x)
    y, state = model(x), model.state_dict()
    runs, wrong = {"convkit": lambda: model(x)}, {}
    for name, peer in peers.items():
        runner = runner_of(name, peer, net, state, x, args.threads)
        if runner is None:
            continue
        if agree(runner.to_numpy(runner.run()), y):
            runs[name] = runner.run
        else:
            wrong[name] = "computes something else"
    turns = take_turns(runs, args.seconds, args.repeat, PAUSE if args.threads > 1 else 0)
    return {"net": net.name, "wrong": wrong, **rates(turns, len(x))}


def seen(model, x):
    """The model in eval mode, its norms having seen this batch: without that a deep network's output fades away."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.forward(x)
    return model.eval()


def runner_of(name, peer, net, state, x, threads):
    """The network in another engine; None where it has no such layout."""
    if name not in TORCH_LAYOUTS:
        return peer.load(_exported(net, state, x), x, threads)
    return _torch_runner(net, state, x, threads, TORCH_LAYOUTS[name]) if name == "torch" or x.ndim == 4 else None


def _torch_runner(net, state, x, threads, layout):
    import torch

    torch.set_num_threads(threads)
    model, layout = torch_model(net, state, layout)
    model.eval()
    batch = torch.from_numpy(x)
    batch = batch.contiguous(memory_format=layout) if x.ndim == 4 else batch

    def run():
        with torch.inference_mode():
            return model(batch)

    return Runner(run, lambda y: y.numpy())


def _exported(net, state, x):
    """The serialised ONNX model."""
    import torch

    model, _ = torch_model(net, state, "contiguous_format")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs one more package
        torch.onnx.export(model.eval(), (torch.from_numpy(x),), file, dynamo=False, opset_version=17,
                          input_names=["x"], output_names=["y"])
    return file.getvalue()
