"""The command: what it prints, its exit statuses, and that its checks can fail."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import convkit
import convkit.functional
from convkit import cases
from convkit.cases import Case
from convkit.cli import common, main, measure, peers
from convkit.kernels import native
from convkit.plan import common as plans
from convkit.plan.explain import OPERATIONS as EXPLAINED
from convkit.spec.conv import conv_spec, transposed_spec
from convkit.verification import OPERATIONS, Fuzz, verify


def run(capsys, *argv):
    """Exit status, standard output and standard error of one command."""
    try:
        status = main(argv)
    except SystemExit as exc:
        status = exc.code
    out, err = capsys.readouterr()
    return status, out, err


# ---- the table of layers


def test_every_layer_has_its_own_name():
    for table in (cases.LAYERS, cases.TRAINING, cases.SMALL):
        ids = [case.id for case in table]
        assert len(set(ids)) == len(ids)


def test_every_layer_has_its_gradients_measured_once():
    def layer(case):
        return case.network, case.op, case.x[1:], case.weight, tuple(case.options.items())

    measured = [(layer(case), direction) for case, direction in cases.GRADIENTS]
    assert len(set(measured)) == len(measured)
    of_all = {(layer(case), direction) for case in cases.LAYERS if case.op != "batch_norm"
              for direction in case.gradients}
    assert of_all <= set(measured)
    assert "batch_norm" in {case.op for case, _ in cases.GRADIENTS}


@pytest.mark.parametrize("case", [c for c in cases.LAYERS + cases.TRAINING + cases.SMALL if c.op.startswith("conv")],
                         ids=lambda c: c.id)
def test_every_convolution_of_the_table_is_valid(case):
    dtype = np.dtype(np.float32)
    make = transposed_spec if "transpose" in case.op else conv_spec
    spec, n, _ = make(case.x, dtype, case.weight, dtype, None, None, **case.options, rank=len(case.x) - 2)
    assert n == case.x[0] and min(spec.size + spec.out_size) > 0


# ---- main, info, explain


@pytest.mark.parametrize("command", ["demo", "bench", "verify", "explain", "info"])
def test_help_tells_what_a_command_does(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0 and f"usage: convkit {command}" in out and len(out.splitlines()) > 6


@pytest.mark.parametrize(("argv", "sentence"), [
    (["explain", "conv2d", "--x", "1,64,9,9", "--weight", "8,3,3,3"],
     "weight has 3 input channels per group but x has 64 channels and groups=1"),
    (["explain", "conv2d", "--x", "1,3,9,9", "--weight", "8,3,3,3", "--stride", "0"],
     "stride must be at least 1, got stride=0"),
    (["explain", "conv2d", "--x", "1,3,9,9"],
     "the arguments do not fit conv2d: missing a required argument: 'weight'"),
    (["explain", "relu", "--x", "4", "--option", "axis=1"], "the arguments do not fit relu: got an unexpected"),
    (["explain", "interpolate", "--x", "1,2,4", "--option", "scale_factor=two"],
     "scale_factor must be a number, got scale_factor='two'"),
    (["explain", "convolve", "--x", "1"], "the operation must be one of conv1d, "),
    (["verify", "convolve"], "an operation must be one of conv1d, "),
    (["verify", "--seed", "-1"], "--seed must not be negative, got -1"),
    (["verify", "relu", "--cases", "1", "--json", "/nowhere/x"],
     "cannot write /nowhere/x: No such file or directory"),
    (["bench", "--filter", "no such layer"], "no layer matches --filter no such layer"),
    (["bench", "--train", "--filter", "no such net"], "no network matches --filter no such net"),
    (["bench", "--train", "--plot", "x.png"], "--twin and --plot are for layers"),
    (["bench", "--predict", "--filter", "no such net"], "no network matches --filter no such net"),
    (["bench", "--predict", "--twin"], "--twin and --plot are for layers, not for --predict"),
    (["bench", "--peers", "excel"], "--peers must name engines that are installed here"),
])
def test_a_wrong_request_is_one_sentence_and_status_2(capsys, argv, sentence):
    status, _, err = run(capsys, *argv)
    assert status == 2
    assert len(err.splitlines()) == 1 and err.startswith(f"convkit {argv[0]}: {sentence}")


@pytest.mark.parametrize("argv", [["verify", "--cases", "0"], ["bench", "--threads", "two"],
                                  ["bench", "--seconds", "nan"], ["explain", "conv2d", "--x", "1,a"],
                                  ["explain", "relu", "--x", "4", "--option", "axis"],
                                  ["explain", "relu", "--x", "4", "--option", "dtype=float64"], ["fly"], []])
def test_an_option_that_cannot_be_read_is_status_2(capsys, argv):
    assert run(capsys, *argv)[0] == 2


def test_python_m_convkit_is_the_command():
    command = [sys.executable, "-m", "convkit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"convkit {convkit.__version__}"


def test_info_names_version_isa_and_threads(capsys):
    status, out, _ = run(capsys, "info", "--json", "-")
    facts = json.loads(out)
    assert status == 0 and facts["convkit"] == convkit.__version__
    assert facts["threads"].startswith(str(convkit.get_threads()))
    assert facts["kernels"].startswith("native" if native.available else "none")
    assert run(capsys, "info")[1].count("\n") == len(facts)


def explained_pooling(operation):
    """The same for a pooling, of which verify knows how to draw a call."""
    forward = operation.removesuffix("_backward")
    call = next(op for op in OPERATIONS if op.name == forward).draw(Fuzz(0, np.dtype(np.float32)))
    x, *rest = call.args
    options = {k: v for k, v in call.options.items() if k != "return_indices"}
    names = ("kernel_size", "stride") if "unpool" in operation else ("output_size",)[:len(rest)]
    told = convkit.explain(operation, x.shape, **options, **dict(zip(names, rest[-len(names):], strict=True)))
    with plans.recording() as taken:
        y = getattr(convkit.functional, forward)(*call.args, **options)
    if forward != operation:
        if "unpool" in operation:
            args, options = (y, rest[0]), {}
        elif "lp" in operation:
            args = (y, x, y)
        elif "avg" in operation:
            args = (y, x.shape)
        else:
            args, options = (y, np.zeros(y.shape, np.int64), x.shape), {}
        with plans.recording() as taken:
            getattr(convkit.functional, operation)(*args, **options)
    assert [(s.algorithm, s.isa) for s in told.steps] == [(p.algorithm, p.isa) for p in taken]


@pytest.mark.parametrize("operation", EXPLAINED)
def test_explain_names_the_algorithm_that_a_call_takes(operation):
    rng = np.random.default_rng(0)
    rank = int((re.search(r"(\d)d", operation) or "22")[1])
    x, options = rng.standard_normal((2, 4, *(9,) * rank), np.float32), {}
    weight = None
    if "conv" in operation:
        weight, options = rng.standard_normal((4, 4, *(3,) * rank), np.float32), {"padding": 1}
    elif "linear" in operation:
        weight = rng.standard_normal((5, 9), np.float32)
    elif "pool" in operation:
        return explained_pooling(operation)
    elif "interpolate" in operation:
        options = {"scale_factor": 2}
    elif operation == "pad":
        options = {"padding": (1, 2, 0, 1)}
    elif "unfold" in operation:
        options = {"kernel_size": 3}
    elif "fold" in operation:
        x, options = rng.standard_normal((2, 4 * 9, 7 * 7), np.float32), {"output_size": 9, "kernel_size": 3}
    told = convkit.explain(operation, x.shape, None if weight is None else weight.shape, **options)
    forward = operation.removesuffix("_backward")
    operands = (x,) if weight is None else (x, weight)
    if operation == forward:
        call = [(forward, operands, options)]
    else:
        dy = getattr(convkit.functional, forward)(*operands, **options)
        if forward in ("interpolate", "unfold"):
            operands = (x.shape,)
        elif forward == "fold":
            operands, options = (), {"kernel_size": 3}
        call = [(operation, (dy, *operands), options)]
    with plans.recording() as taken:
        for name, args, named in call:
            getattr(convkit.functional, name)(*args, **named)
    assert [(s.algorithm, s.isa) for s in told.steps] == [(p.algorithm, p.isa) for p in taken]
    for step in told.steps:
        assert step.candidates[-1] == ("reference", None)
        assert f"taken       {step.algorithm}" in str(step)


@pytest.mark.parametrize("argv, shapes", [
    (["interpolate", "--x", "1,2,4,4", "--option", "scale_factor=2", "--option", "mode=bilinear"], "y (1, 2, 8, 8)"),
    (["lp_pool2d", "--x", "1,2,4,4", "--kernel-size", "2", "--option", "norm_type=2.0"], "y (1, 2, 2, 2)"),
    (["adaptive_avg_pool2d", "--x", "1,2,4,4", "--option", "output_size=(1,None)"], "y (1, 2, 1, 4)"),
    (["conv_transpose1d", "--x", "1,2,4", "--weight", "2,3,3", "--stride", "2", "--option", "output_padding=1"],
     "y (1, 3, 10)"),
])
def test_explain_takes_any_argument(capsys, argv, shapes):
    status, out, err = run(capsys, "explain", *argv)
    assert status == 0, err
    assert f"-> {shapes}" in out.splitlines()[1]


def test_explain_counts_arithmetic_and_bytes():
    step, = convkit.explain("conv2d", (2, 3, 8, 8), (4, 3, 3, 3), dtype=np.float64).steps
    assert step.flops == 2 * (2 * 4 * 6 * 6) * 27
    assert step.bytes_read == 8 * (2 * 3 * 64 + 4 * 27) and step.bytes_written == 8 * 2 * 4 * 36


@pytest.mark.parametrize("operation, error, message", [
    ("conv4d", convkit.ShapeError, "must be one that explain knows, such as conv[^']*, got operation='conv4d'$"),
    ("?", convkit.ShapeError, "must be one that explain knows, such as conv1d, [^']*, got operation='\\?'$"),
    (7, convkit.DtypeError, "must be a network or the name of a function, such as 'conv2d', got int$"),
])
def test_explain_names_a_few_operations(operation, error, message):
    with pytest.raises(error, match=f"^operation {message}") as caught:
        convkit.explain(operation, (1, 3, 8, 8))
    assert len(str(caught.value)) < 150


def test_explain_says_when_the_algorithm_is_forced():
    with convkit.use(algorithm="reference"):
        told = convkit.explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3), padding=1)
    assert told.steps[0].algorithm == "reference" and "because it is forced" in str(told)


# ---- verify


def test_verify_passes_and_says_so(capsys):
    status, out, _ = run(capsys, "verify", "--cases", "1", "--seed", "7")
    assert status == 0 and out.splitlines()[-1].startswith("PASS: ")
    for op in OPERATIONS:
        assert sum(line.startswith(f"{op.name} ") for line in out.splitlines()) >= 2, op.name


@pytest.mark.skipif(not native.available, reason="needs the compiled kernels")
def test_verify_reaches_every_level_of_a_native_operation():
    rows = verify(3, operations=["max_pool2d"]).rows
    assert {row.isa for row in rows} == {None, *native.ISA_LEVELS}


def _spoiled(how):
    right = convkit.functional.relu

    def relu(x):
        return how(right(x))
    return relu


@pytest.mark.parametrize("how", [
    lambda y: y * y.dtype.type(1 + 1e-6),  # one part in a million
    lambda y: np.append(y.ravel()[:-1], y.dtype.type(9)).reshape(y.shape),  # the last element
    lambda y: y + y.dtype.type(convkit.get_threads() == 2),  # only with two threads
    lambda y: y * np.nan,
    lambda y: y[:-1],
    lambda y: y.astype(np.float16),
], ids=["scaled", "last element", "threads", "NaN", "shape", "dtype"])
def test_verify_fails_on_a_wrong_result(monkeypatch, capsys, how):
    monkeypatch.setattr(convkit.functional, "relu", _spoiled(how))
    status, out, _ = run(capsys, "verify", "relu", "relu_backward", "--cases", "5")
    assert status == 1 and "FAIL: case" in out and out.splitlines()[-1].startswith("FAIL: ")
    assert not any("FAIL" in line for line in out.splitlines() if line.startswith("relu_backward"))


def test_verify_finds_one_missing_tap(monkeypatch):
    right = convkit.functional.conv2d

    def conv2d(x, weight, *args, **options):
        weight = weight.copy()
        weight[-1, -1, -1, -1] = 0
        return right(x, weight, *args, **options)

    monkeypatch.setattr(convkit.functional, "conv2d", conv2d)
    assert not verify(4, operations=["conv2d"]).passed


@pytest.mark.parametrize("arguments, error, message", [
    ({"cases": 0}, convkit.ShapeError, "cases must be at least 1, got cases=0"),  # nothing was wrong with no call
    ({"cases": "relu"}, convkit.DtypeError, "cases must be an integer, got cases='relu'"),
    ({"seed": -1}, convkit.ShapeError, "seed must not be negative"),
    ({"operations": "conv"}, ValueError, "operations must be among conv1d, .*, got conv$"),
])
def test_verify_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        verify(**arguments)
    assert {row.operation for row in verify(1, operations="relu").rows} == {"relu"}


# ---- bench


FAST = ("--peers", "none", "--seconds", "0.001", "--repeat", "1")


def test_bench_writes_rows_and_means(capsys, tmp_path):
    status, out, _ = run(capsys, "bench", "--filter", "max 2x2s2", "--filter", "avg 2x2s2", *FAST, "--twin",
                         "--json", str(tmp_path / "b.json"))
    assert status == 0 and "VGG-16: max 2x2s2 64 @112" in out and "geometric means" in out
    result = json.loads((tmp_path / "b.json").read_text())
    assert [row["operation"] for row in result["rows"]] == ["max_pool2d", "avg_pool2d"]
    row = result["rows"][0]
    assert row["microseconds"] > 0 and row["ratios"].keys() == {"twin"} and not row["wrong"]
    assert (row["share"] is None) == (not native.available)


def test_bench_times_gradients(capsys):
    status, out, _ = run(capsys, "bench", "--backward", "--filter", "LeNet-5: 5x5 6-16", *FAST)
    assert status == 0 and "b64 dx" in out and "b64 dw" in out
    status, out, _ = run(capsys, "bench", "--backward", "--filter", "global avg", *FAST)
    assert status == 0 and "global avg 1280 @7 grad" in out


def test_bench_trains_whole_steps(capsys, tmp_path):
    status, out, _ = run(capsys, "bench", "--train", "--filter", "lenet", *FAST, "--json", str(tmp_path / "t.json"))
    assert status == 0 and "images/s" in out and "share of convkit's time" in out
    row, = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert row["net"].startswith("LeNet") and not row["wrong"] and row["losses"]["convkit"][2] < row["losses"]["convkit"][0]
    assert row["shares"]["Conv"][1] > 0 and sum(map(sum, row["shares"].values())) == pytest.approx(1, abs=0.1)


def test_bench_predicts_with_whole_networks(capsys, tmp_path):
    status, out, _ = run(capsys, "bench", "--predict", "--filter", "lenet @28", *FAST, "--json", str(tmp_path / "p.json"))
    assert status == 0 and "whole networks that predict" in out
    rows = json.loads((tmp_path / "p.json").read_text())["rows"]
    assert [row["net"] for row in rows] == ["LeNet @28 b1", "LeNet @28 b64"]
    assert all(row["milliseconds"]["convkit"] > 0 and not row["wrong"] for row in rows)


@pytest.mark.parametrize("name", ["torch", "torch_cl", "onnxruntime", "openvino"])
def test_networks_that_predict_are_the_same_in_every_engine(name):
    pytest.importorskip("torch")
    if name not in [peer.name for peer in peers.installed()]:
        pytest.skip(f"needs {name}")
    from convkit.cli import nets, predict

    chosen = [net for net in nets.PREDICTORS if net.x[-1] <= 32]
    if name == "torch":
        chosen = [replace(net, x=(2, *net.x[1:])) for net in nets.PREDICTORS if net.name.split()[0] not in ("VGG-16",)]
    for net in chosen:
        x = np.random.default_rng(0).standard_normal(net.x, dtype=np.float32)
        model = predict.seen(net.build(convkit.nn), x)
        runner = predict.runner_of(name, next(p for p in peers.PEERS if p.name == name), net, model.state_dict(), x, 1)
        if runner is None:
            assert name == "torch_cl" and x.ndim != 4
            continue
        y = model(x)
        assert np.abs(y).max() > 0.01 and measure.agree(runner.to_numpy(runner.run()), y), net.name


def test_networks_to_train_are_the_same_in_torch():
    pytest.importorskip("torch")
    from convkit import nn
    from convkit.cli import nets, steps

    for net in nets.NETS:
        small = replace(net, x=(2, *net.x[1:]))
        rng = np.random.default_rng(0)
        x, target, model = rng.standard_normal(small.x, dtype=np.float32), np.array([1, 2]), small.build(nn)
        theirs = steps.torch_step(small, model.state_dict(), x, target, 1, "contiguous_format")
        ours = steps.make_step(small, model, x, target)
        assert ours() == pytest.approx(theirs(), rel=1e-4), net.name


def test_bench_refuses_to_hide_a_wrong_result(monkeypatch, capsys):
    right = convkit.functional.max_pool2d
    monkeypatch.setattr(convkit.functional, "max_pool2d", lambda *args, **named: right(*args, **named) + 1)
    status, out, _ = run(capsys, "bench", "--filter", "max 2x2", *FAST)
    assert status == 1 and "convkit differs from its NumPy twin" in out


def test_geometric_means():
    def row(group, **times):
        case = Case("net", group, group, "relu", (1,))
        return measure.Row(case, "forward", "-", 0, 0, times={"convkit": 1.0, **times})

    rows = [row("a", torch=2.0, ncnn=8.0), row("a", torch=8.0), row("b", torch=4.0, twin=0.1)]
    means = measure.geometric_means(rows)
    assert means["a"] == pytest.approx({"torch": 4, "ncnn": 8, "best peer": 4})
    assert means["b"] == pytest.approx({"torch": 4, "twin": 0.1, "best peer": 4})
    assert means["all"]["torch"] == pytest.approx(4)


NAMED = (*cases.OTHER_POOLINGS, *cases.OTHERS[3:4], *cases.NORMS, *cases.ACTIVATIONS,
         *cases.DROPOUTS, *cases.RESAMPLINGS, *cases.MERGES, *cases.LOSSES)
SMALL_LAYERS = (
    Case("t", "3x3", "3x3", "conv2d", (2, 8, 9, 10), (12, 8, 3, 3), padding=1),
    Case("t", "strided", "3x3", "conv2d", (1, 8, 11, 10), (12, 8, 3, 2), stride=(2, 3), padding=(1, 0)),
    Case("t", "grouped", "grouped", "conv2d", (2, 8, 9, 9), (8, 2, 3, 3), padding=1, groups=4),
    Case("t", "depthwise", "dw", "conv2d", (1, 8, 9, 9), (8, 1, 3, 3), padding=2, dilation=2, groups=8),
    Case("t", "signal", "1d", "conv1d", (2, 8, 30), (12, 4, 5), stride=2, padding=2, groups=2),
    Case("t", "volume", "3d", "conv3d", (1, 8, 4, 5, 6), (12, 8, 3, 1, 3), padding=(1, 0, 1)),
    Case("t", "up", "transposed", "conv_transpose2d", (2, 8, 5, 6), (8, 12, 4, 3), stride=2, padding=1),
    Case("t", "max", "pooling", "max_pool2d", (1, 4, 9, 9), kernel=(3, 3), stride=2, padding=1),
    Case("t", "min", "pooling", "min_pool2d", (1, 4, 9, 9), kernel=(3, 3), stride=2, padding=1),
    Case("t", "avg", "pooling", "avg_pool2d", (2, 4, 9, 9), kernel=(3, 3), stride=2, padding=1),
    Case("t", "global", "pooling", "avg_pool2d", (2, 4, 9, 9), kernel=(9, 9), stride=9),
    Case("t", "max 3-d", "pooling", "max_pool3d", (1, 4, 5, 6, 7), kernel=(2, 2, 2), stride=2),
    Case("t", "avg 1-d", "pooling", "avg_pool1d", (2, 4, 30), kernel=(3,), stride=2, padding=1),
    Case("t", "linear", "linear", "linear", (3, 20), (7, 20)),
    Case("t", "relu", "elementwise", "relu", (1, 4, 5, 5)),
    Case("t", "softmax", "elementwise", "softmax", (3, 10)),
    Case("t", "log_softmax", "elementwise", "log_softmax", (3, 10)),
    Case("t", "embedding", "elementwise", "embedding", (2, 9), (7, 5)),
    *(replace(case, x=(min(case.x[0], 8), case.x[1], *(6,) * len(case.x[2:]))) for case in NAMED if case.op not in ("layer_norm", "fold", "lp_pool1d")),
    Case("t", "L2", "other pooling", "lp_pool1d", (2, 4, 6), kernel=(2,), stride=2, more=(("norm_type", 2),)),
    Case("t", "fold", "resampling", "fold", (2, 27, 16), more=(("output_size", 6), ("kernel_size", 3))),
    Case("t", "layer_norm", "norms", "layer_norm", (2, 3, 20), arrays=("weight", "bias"),
         more=(("normalized_shape", (20,)),)),
)
OFFERED = {"torch": 74, "torch_cl": 29, "onnxruntime": 36, "openvino": 36, "ncnn": 11}


def _learning(case):
    """The case as gradients are measured: a batch norm normalises by the batch."""
    return replace(case, more=(*case.more, ("training", True))) if case.op == "batch_norm" else case


def _problems(peer):
    for case in SMALL_LAYERS:
        yield case, "forward"
        # torch 2.13 computes the gradient of its instance norm wrongly where dy is in channels_last
        if peer.package == "torch" and (peer.name, case.op) != ("torch_cl", "instance_norm"):
            yield from ((_learning(case), direction) for direction in case.gradients)


@pytest.mark.parametrize("case", NAMED, ids=lambda c: c.id)
def test_a_layer_with_options_of_its_own_agrees_with_its_twin(case):
    small = replace(case, x=(min(case.x[0], 8), *case.x[1:]))
    assert measure.agree(*measure._first_image_both_ways(measure.make_problem(small, "forward")))


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda p: p.name)
def test_an_installed_peer_computes_what_convkit_does(peer):
    if peer not in peers.installed():
        pytest.skip(f"{peer.name} is not installed")
    offered = 0
    for case, direction in _problems(peer):
        problem = measure.make_problem(case, direction)
        runner = peer.prepare(problem, 1)
        if runner is None:
            continue
        offered += direction == "forward"
        want = measure.our_call(problem, convkit.reference)()
        got = runner.to_numpy(runner.run())
        assert measure.agree(*measure.comparable(problem, got, want)), (case.name, direction)
    assert offered == OFFERED[peer.name]


@pytest.mark.parametrize(("case", "direction"), [(_learning(case), d) for case in SMALL_LAYERS for d in case.gradients],
                         ids=lambda v: v if isinstance(v, str) else f"{v.op} {v.name}")
def test_gradients_that_are_timed_agree_with_their_twins(case, direction):
    problem = measure.make_problem(case, direction)
    got, want = (measure.our_call(problem, module)() for module in (None, convkit.reference))
    assert measure.agree(got, want) and np.abs(got[0]).max() > 0


def test_what_another_engine_drops_is_not_compared():
    problem = measure.make_problem(Case("t", "drop", "dropout", "dropout", (3, 40), more=(("p", 0.5),)), "forward")
    ours, x = measure.our_call(problem)(), problem.x
    theirs = np.where(np.random.default_rng(5).random(x.shape) < 0.5, 0, 2 * x)
    assert measure.agree(*measure.comparable(problem, theirs, ours))
    for wrong in (theirs * 1.01, np.zeros_like(x), x):
        assert not measure.agree(*measure.comparable(problem, wrong, ours))


# ---- demo


needs_demo = pytest.mark.skipif(not all(map(importlib.util.find_spec, ("sklearn", "matplotlib"))),
                                reason='needs the extra "demo"')


@needs_demo
def test_demo_trains_and_draws(monkeypatch, capsys, tmp_path):
    from convkit.cli import demo

    monkeypatch.setattr(demo.Digits, "moved", lambda self: (self.train_x[:200], self.train_y[:200]))
    status, out, err = run(capsys, "demo", "--epochs", "2", "--output", str(tmp_path / "new" / "folder"),
                           "--json", str(tmp_path / "d.json"))
    assert status == 0 and "digits that it never saw are read correctly" in out and "epoch 2/2" in err
    facts = json.loads((tmp_path / "d.json").read_text())
    assert facts.keys() >= {"test_accuracy", "train_seconds", "images_per_second"} and facts["epochs"] == 2
    assert round(360 * (1 - facts["test_accuracy"])) == len(facts["mistakes"])
    drawn = sorted(p.stem for p in (tmp_path / "new" / "folder").iterdir())
    assert drawn == ["confusion", "feature_maps", "filters", "mistakes", "patterns", "training"]


@needs_demo
def test_the_demo_data_are_split_the_same_way_each_time():
    from convkit.cli.demo import Digits

    one, two = Digits(), Digits()
    assert len(one.test_x) == 360 and np.array_equal(one.test_x, two.test_x)
    assert np.bincount(one.test_y).min() >= 34  # as many of each digit
    x, y = one.moved()
    assert x.shape == (5 * 1437, 1, 8, 8) and np.array_equal(y[:1437], y[1437:2874])
    assert np.array_equal(x[0, 0], one.train_x[0, 0])
    assert np.array_equal(x[1437, 0, 1:], one.train_x[0, 0, :-1])  # one pixel down


def test_without_scikit_learn_the_demo_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda name: None)
    status, _, err = run(capsys, "demo")
    assert status == 2
    assert err == 'convkit demo: the demo needs sklearn; install it with: pip install "convkit[demo]"\n'
