"""Choosing by measurement: ``tune``, the files it keeps, and what plans and ``explain`` make of them."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

import convkit
from convkit import functional as F
from convkit import nn, settings, tuning
from convkit.kernels import native
from convkit.plan import common, cost, geometry
from convkit.plan import conv as conv_plan
from convkit.plan.common import Timing
from convkit.spec.conv import conv_spec, towards

F32 = np.dtype(np.float32)
pytestmark = pytest.mark.skipif(not native.available, reason=f"no compiled kernels: {native.reason}")


@pytest.fixture(autouse=True)
def forget():
    convkit.clear_tuning()
    yield
    convkit.clear_tuning()


def spec_of(c_in=32, c_out=32, size=(16, 16), kernel=(3, 3), **options):
    x, w = (1, c_in, *size), (c_out, c_in, *kernel)
    return conv_spec(x, F32, w, F32, rank=len(size), **{"padding": 1, **options})[0]


def pretend(spec, images=1, **microseconds):
    """As if these times had been measured at the level in force."""
    common.add_timings({(spec, settings.choice()[0]): Timing(images, microseconds)})


def network():
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, rng=rng), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 16, 3, padding=1, rng=rng), nn.Dropout(0.5, rng=rng), nn.Flatten(),
                         nn.Linear(16 * 64, 4, rng=rng))


def measured_network(backward=True):
    return convkit.tune(network(), (2, 3, 8, 8), backward=backward, seconds=1e-4)


# ---- what a plan makes of it


def test_the_fastest_is_taken():
    spec = spec_of()
    for fastest in ("direct", "gemm", "winograd"):
        pretend(spec, **{name: 1 if name == fastest else 2 for name in ("direct", "gemm", "winograd")})
        assert conv_plan.plan(spec).algorithm == fastest  # and plans of before are forgotten
    convkit.clear_tuning()
    assert conv_plan.plan(spec).algorithm == "winograd"


def test_a_call_takes_it_and_explain_shows_it():
    x, w = np.ones((2, 32, 16, 16), F32), np.ones((32, 32, 3, 3), F32)
    pretend(spec_of(), images=2, gemm=10.0, direct=11.0)
    with common.recording() as plans:
        F.conv2d(x, w, padding=1)
    assert plans[0].algorithm == "gemm"
    step, = convkit.explain("conv2d", x, w, padding=1).steps
    assert step.measured == {"gemm": 10.0, "direct": 11.0}
    assert "taken       gemm at" in str(step) and "measured as the fastest" in str(step)
    assert step.predicted.keys() == {"depthwise", "winograd", "gemm", "direct"}
    assert re.search(r"gemm +taken, predicted [\d.,]+ us, measured 10.0 us", str(step))
    assert re.search(r"direct +could, .*, predicted [\d.,]+ us, measured 11.0 us", str(step))
    assert re.search(r"limits .* us of multiply-adds at the peak of one core, .* us to copy .*: \d+% of what is measured",
                     str(step))


def test_a_forced_algorithm_goes_first():
    pretend(spec_of(), gemm=1, direct=2)
    with convkit.use(algorithm="direct"):
        assert conv_plan.plan(spec_of()).algorithm == "direct"


def test_strict_precision_takes_the_fastest_that_it_allows():
    pretend(spec_of(), winograd=1, gemm=2, direct=3)
    with convkit.use(precision="strict"):
        assert conv_plan.plan(spec_of()).algorithm == "gemm"
    convkit.clear_tuning()
    pretend(spec_of(), winograd=1)
    with convkit.use(precision="strict"):
        assert conv_plan.plan(spec_of()).algorithm in ("direct", "depthwise")


def test_it_holds_for_its_level_and_its_direction_only():
    pretend(spec_of(), gemm=1)
    assert conv_plan.plan(towards(spec_of(), "input_gradient")).algorithm == "winograd"
    for isa in native.ISA_LEVELS[:-1]:
        with convkit.use(isa=isa):
            assert conv_plan.plan(spec_of()).algorithm == "winograd"


@pytest.mark.parametrize("algorithm", ["winograd", "gemm", "direct"])
def test_a_batch_and_its_images_have_the_same_bits(algorithm):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((3, 32, 16, 16), F32), rng.standard_normal((32, 32, 3, 3), F32)
    pretend(spec_of(), images=3, **{algorithm: 1})
    whole = F.conv2d(x, w, padding=1)
    for threads in (1, 2):
        with convkit.threads(threads):
            assert all(F.conv2d(x[i:i + 1], w, padding=1).tobytes() == whole[i:i + 1].tobytes() for i in range(3))


def test_a_plan_made_while_the_timings_change_is_not_kept():
    spec = spec_of()

    def build(_spec, _isa):
        pretend(spec, gemm=1)
        return "run"

    candidates = (common.Candidate("gemm", common.never, build, native=False),)
    common.choose(spec, candidates)
    assert not common._plans


# ---- what is predicted where nothing was measured


def random_specs(count):
    rng = np.random.default_rng(2)
    while count:
        rank, kernel, stride = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
        groups = int(rng.choice([1, 2, 5]))
        c_in, c_out = (groups * int(rng.integers(1, 40)) for _ in range(2))
        size, padding, dilation = int(rng.integers(1, 30)), int(rng.integers(0, 4)), int(rng.integers(1, 3))
        if (kernel - 1) * dilation < size + 2 * padding:
            count -= 1
            yield conv_spec((1, c_in, *(size,) * rank), F32, (c_out, c_in // groups, *(kernel,) * rank), F32,
                            stride=stride, padding=padding, dilation=dilation, groups=groups, rank=rank,
                            direction=str(rng.choice(["forward", "input_gradient"])))[0]


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
def test_every_way_that_can_has_a_prediction_and_the_least_is_taken(isa):
    with convkit.use(isa=isa):
        for spec in random_specs(150):
            ways = [c for c in conv_plan.CANDIDATES[spec.direction]
                    if common.reason(c, spec, isa) is None and c.loses(spec, isa) is None]
            times = common.predictions(ways, spec, isa)
            if any(cost.by_rule(c.name, spec) for c in ways if c.native):
                ruled = next(c.name for c in ways if c.native and cost.by_rule(c.name, spec))
                assert not times and conv_plan.plan(spec).algorithm == ruled
            else:
                assert times.keys() == {c.name for c in ways} - {"reference"}
                assert all(0 <= t < 1e7 for t in times.values())
                assert times[conv_plan.plan(spec).algorithm] == min(times.values())


def test_every_level_has_coefficients_for_every_amount():
    shape = cost.Shape(spec_of(), native.ISA_LEVELS[-1])
    for isa in native.KNOWN_ISAS:
        assert cost.COEFFICIENTS[isa].keys() - {"grids"} == cost.AMOUNTS.keys() - {"grids"}
        for name, coefficients in cost.COEFFICIENTS[isa].items():
            assert len(coefficients) == len(cost.AMOUNTS[name](shape))
            assert all(c >= 0 for c in coefficients)


@pytest.mark.parametrize("isa", native.ISA_LEVELS)
@pytest.mark.parametrize(("size", "c_out", "grids"), [((7, 7), 32, True), ((7, 7), 8, False), ((64, 64), 64, False)])
def test_direct_convolution_has_the_coefficients_of_its_way(isa, size, c_out, grids):
    spec = spec_of(64, c_out, size, (1, 1), padding=0)
    assert cost.row("direct", spec, isa) == ("grids" if grids and isa in ("avx2", "avx512") else "direct")
    assert cost.row("gemm", spec, isa) == "gemm"
    assert cost.microseconds("direct", spec, isa) > 0


@pytest.mark.skipif("avx512" not in native.ISA_LEVELS, reason="choices of AVX-512")
@pytest.mark.parametrize(("algorithm", "c_in", "c_out", "size", "kernel", "options"), [
    ("winograd", 64, 64, (56, 56), (3, 3), {}), ("winograd", 128, 128, (28, 28), (3, 3), {}),
    ("gemm", 64, 128, (56, 56), (1, 1), {"stride": 2, "padding": 0}), ("depthwise", 1, 512, (16000,), (10,), {"stride": 5}),
    ("depthwise", 3, 64, (224, 224), (3, 3), {}), ("depthwise", 24, 144, (56, 56), (1, 1), {"padding": 0}),
    ("direct", 64, 64, (14, 14), (1, 1), {"padding": 0}),
    ("winograd", 512, 512, (7, 7), (3, 3), {}), ("depthwise", 6, 1, (56, 56), (5, 5), {}),
])
def test_what_is_clear_is_chosen(algorithm, c_in, c_out, size, kernel, options):
    with convkit.use(isa="avx512"):
        assert conv_plan.plan(spec_of(c_in, c_out, size, kernel, **options)).algorithm == algorithm


def test_a_first_plan_is_not_slowed_much():
    spec = spec_of()
    cost._shape.cache_clear()
    geometry.axes.cache_clear()
    start = time.perf_counter()
    for name in ("winograd", "gemm", "direct"):
        cost.microseconds(name, spec, native.ISA_LEVELS[-1])
    assert time.perf_counter() - start < 0.01


# ---- measuring


def test_tune_measures_every_way_and_plans_follow():
    result = measured_network()
    isa = settings.choice()[0]
    directions = [spec.direction for spec, _ in result.layers]
    assert {"forward", "input_gradient"} <= set(directions)
    for (spec, level), timing in result.layers.items():
        assert level == isa and timing.images == 2 and len(timing.microseconds) > 1
        possible = {c.name for c in conv_plan.CANDIDATES[spec.direction] if common.reason(c, spec, isa) is None}
        assert set(timing.microseconds) == possible - {"reference"}
        fastest = min(timing.microseconds, key=timing.microseconds.get)
        assert conv_plan.plan(spec).algorithm == fastest
        assert f"{spec.c_in}-{spec.c_out} 3x3" in str(result)
    assert str(result).startswith(f"measured on {settings.cpu_name()}")


def test_strict_layers_know_what_winograd_would_have_taken():
    with convkit.use(precision="strict"):
        result = convkit.tune(nn.Conv2d(16, 16, 3), (1, 16, 12, 12), seconds=1e-4)
    timing, = result.layers.values()
    assert "winograd" in timing.microseconds


def test_what_was_measured_is_not_measured_again(monkeypatch):
    first = measured_network()
    monkeypatch.setattr(tuning, "take_turns", lambda *a: pytest.fail("measured again"))
    assert measured_network() == first
    with pytest.raises(pytest.fail.Exception):
        convkit.tune(network(), (3, 3, 8, 8), seconds=1e-4)


def test_the_model_stays_as_it_is():
    model = network()
    model[3].eval()
    before, gradient = model.state_dict(), np.ones_like(model[0].weight.data)
    model[0].weight.grad = gradient
    convkit.tune(model, (2, 3, 8, 8), backward=True, seconds=1e-4)
    assert model.training and model[4].training and not model[3].training
    assert all((before[key] == value).all() for key, value in model.state_dict().items())
    assert model[0].weight.grad is gradient and (gradient == 1).all()
    assert model[0].bias.grad is None


def test_a_model_with_nothing_to_choose(capsys):
    result = convkit.tune(nn.ReLU(), (2, 3), progress=True)
    assert not result.layers and "no layer can be computed in several ways" in str(result)
    assert capsys.readouterr().err == ""


def test_float16_and_a_given_input_and_progress(capsys):
    layer = nn.Conv2d(4, 8, 3, dtype=np.float16)
    result = convkit.tune(layer, np.zeros((4, 9, 9), np.float16), seconds=1e-4, progress=True)
    (spec, _), timing = *result.layers, *result.layers.values()
    assert spec.dtype == F32 and timing.images == 1
    assert "forward 4-8 3x3 @9x9 b1 float32" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ((3, (1, 3, 8, 8)), {}, "model must be a Module, got int"),
    ((nn.ReLU(), "12"), {}, "input_shape"),
    ((nn.ReLU(), (2, -3)), {}, "input_shape"),
    ((nn.Conv2d(3, 4, 3), (1, 4, 8, 8)), {}, "channels"),
    ((nn.ReLU(), (2, 3)), {"seconds": "1"}, "seconds must be a number, got seconds='1'"),
    ((nn.ReLU(), (2, 3)), {"backward": 1.5}, "backward"),
    ((nn.ReLU(), (2, 3)), {"progress": "x"}, "progress"),
])
def test_wrong_arguments(arguments, options, message):
    with pytest.raises((convkit.ShapeError, convkit.DtypeError), match=message):
        convkit.tune(*arguments, **options)


@pytest.mark.parametrize("seconds", [0, -1, np.inf, np.nan])
def test_a_time_of_no_length_is_a_wrong_value(seconds):
    with pytest.raises(convkit.ShapeError, match=f"seconds must be positive and finite, got seconds={seconds}"):
        convkit.tune(nn.ReLU(), (2, 3), seconds=seconds)


# ---- files


def test_a_file_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "tuning.json"
    path.write_text("old")
    saved = convkit.tune(network(), (2, 3, 8, 8), backward=True, seconds=1e-4, path=path)
    again = tmp_path / "again.json"
    saved.save(again)
    assert again.read_bytes() == path.read_bytes() and sorted(tmp_path.iterdir()) == [again, path]
    spec = next(iter(saved.layers))[0]
    convkit.clear_tuning()
    assert common.timing(spec, settings.choice()[0]) is common.NOT_TIMED
    loaded = convkit.load_tuning(path)
    assert loaded == saved and loaded.in_use
    assert common.timing(spec, settings.choice()[0]).images == 2
    assert str(loaded) == str(saved)


def test_transposed_and_1d_and_3d_specs_survive(tmp_path):
    model = nn.Sequential(nn.ConvTranspose2d(4, 8, 3, stride=2, output_padding=1), nn.Conv2d(8, 8, 2))
    saved = convkit.tune(model, (1, 4, 5, 5), backward=True, seconds=1e-4, path=tmp_path / "a")
    assert any(hi < 0 for spec, _ in saved.layers for _, hi in spec.padding)
    assert convkit.load_tuning(tmp_path / "a") == saved
    for layer, shape in ((nn.Conv1d(3, 9, 5), (2, 3, 30)), (nn.Conv3d(2, 9, 3), (1, 2, 6, 7, 8))):
        saved = convkit.tune(layer, shape, seconds=1e-4, path=tmp_path / "b")
        assert saved.layers and convkit.load_tuning(tmp_path / "b") == saved


def test_another_cpu_is_shown_but_not_used(tmp_path):
    path = tmp_path / "tuning.json"
    convkit.tune(nn.Conv2d(32, 32, 3), (1, 32, 16, 16), seconds=1e-4, path=path)
    path.write_text(path.read_text().replace(settings.cpu_name(), "Another CPU"))
    convkit.clear_tuning()
    loaded = convkit.load_tuning(path)
    assert not loaded.in_use and f"not used, because this is {settings.cpu_name()}" in str(loaded)
    assert not common.timings()


def a_file():
    return {"format": "convkit tuning", "version": 1, "cpu": "A CPU", "layers": [
        {"isa": "avx2", "c_in": 4, "c_out": 8, "size": [9, 9], "kernel": [3, 3], "stride": [1, 1],
         "padding": [[1, 1], [1, 1]], "dilation": [1, 1], "groups": 1, "dtype": "float32", "direction": "forward",
         "images": 2, "microseconds": {"direct": 3.5, "gemm": 4}}]}


def test_the_file_of_these_tests_is_right(tmp_path):
    (tmp_path / "a").write_text(json.dumps(a_file()))
    assert len(convkit.load_tuning(tmp_path / "a").layers) == 1


REFUSED_LAYERS = [
    ({"isa": "sse"}, "isa 'sse'; known are"), ({"isa": None}, "isa None; known are"), ({"isa": []}, "known are"),
    ({"c_in": 0}, "whole numbers of at least 1 as c_in, not 0"), ({"c_out": 2.0}, "as c_out, not 2.0"),
    ({"groups": True}, "as groups, not True"), ({"images": "2"}, "as images, not '2'"), ({"c_in": 10**40}, "as c_in"),
    ({"size": 9}, "as lists of 1 to 3 numbers"), ({"size": []}, "as lists of 1 to 3 numbers"),
    ({"stride": [1]}, "as lists of 1 to 3 numbers"), ({"kernel": [3, None]}, "as kernel, not None"),
    ({"padding": [1, 1]}, "as padding two whole numbers"), ({"padding": [[1, 1]]}, "as padding two whole numbers"),
    ({"padding": [[1, 1], [1, 0.5]]}, "as padding two whole numbers"), ({"groups": 3}, "is no convolution"),
    ({"c_in": 6, "groups": 3}, "is no convolution"), ({"c_out": 6, "c_in": 4, "groups": 3}, "is no convolution"),
    ({"kernel": [30, 3]}, "is no convolution"), ({"dtype": "float16"}, "dtype float32 or float64"),
    ({"dtype": ["float32"]}, "dtype float32 or float64"), ({"direction": "bias_gradient"}, "a direction of forward, "),
    ({"microseconds": {}}, "at least one algorithm"), ({"microseconds": [1]}, "at least one algorithm"),
    ({"microseconds": {"direct": -1}}, "a positive number"), ({"microseconds": {"direct": float("nan")}}, "a positive"),
    ({"microseconds": {"fft": 1}}, "has the algorithm 'fft'; known are direct, "),
    ({"microseconds": {"reference": 1}}, "has the algorithm 'reference'"), ({"extra": 1}, "and nothing else"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED_LAYERS, ids=[str(change) for change, _ in REFUSED_LAYERS])
def test_a_wrong_layer_is_refused(tmp_path, change, message):
    data = a_file()
    data["layers"].append({**data["layers"][0], **change})
    (tmp_path / "a").write_text(json.dumps(data))
    with pytest.raises(convkit.FormatError, match=message) as caught:
        convkit.load_tuning(tmp_path / "a")
    assert f"layer 1 of the tuning file {tmp_path / 'a'} " in str(caught.value)
    assert not common.timings()


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "other"}, 'with "format": "convkit tuning"'), ({"version": 2}, "version 2, and this convkit reads 1"),
    ({"version": "1"}, "version '1'"), ({"version": True}, "version True"), ({"cpu": 1}, "a string as cpu"),
    ({"layers": {}}, "a list as layers"), ({"more": 1}, "nothing else"), ({"layers": [1]}, "layer 0 of the tuning file"),
])
def test_a_wrong_head_is_refused(tmp_path, change, message):
    (tmp_path / "a").write_text(json.dumps(a_file() | change))
    with pytest.raises(convkit.FormatError, match=message) as caught:
        convkit.load_tuning(tmp_path / "a")
    assert f"the tuning file {tmp_path / 'a'} " in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"\xff", b"{", b"[]", b"1", b"[" * 100_000])
def test_what_is_no_tuning_file_is_refused(tmp_path, text):
    (tmp_path / "a").write_bytes(text)
    with pytest.raises(convkit.FormatError, match="the tuning file .*a (is not|must be)"):
        convkit.load_tuning(tmp_path / "a")


def test_a_file_that_is_too_long_is_refused(tmp_path, monkeypatch):
    text = json.dumps(a_file())
    (tmp_path / "a").write_text(text)
    monkeypatch.setattr("convkit.tuning.LONGEST_FILE", len(text) - 1)
    with pytest.raises(convkit.FormatError, match=f"the tuning file .*a must have at most {len(text) - 1} bytes"):
        convkit.load_tuning(tmp_path / "a")
    monkeypatch.setattr("convkit.tuning.LONGEST_FILE", len(text))
    assert convkit.load_tuning(tmp_path / "a").layers


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        convkit.load_tuning(tmp_path / "a")


def test_the_environment_names_a_file_to_load(tmp_path):
    path = tmp_path / "tuning.json"
    saved = convkit.tune(nn.Conv2d(32, 32, 3), (1, 32, 16, 16), seconds=1e-4, path=path)
    code = "from convkit.plan import common; print(len(common.timings()))"

    def imported(file):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                              env={**os.environ, "CONVKIT_TUNING": str(file)})

    assert imported(path).stdout.split() == [str(len(saved.layers))]
    path.write_text("{}")
    assert f"FormatError: the tuning file {path} must" in imported(path).stderr


def test_info_says_what_was_loaded(monkeypatch):
    from convkit.cli.info import gather

    assert "tuning" not in gather()
    pretend(spec_of(), gemm=1)
    monkeypatch.setenv("CONVKIT_TUNING", "some.json")
    assert gather()["tuning"] == "1 layers measured on this CPU, from CONVKIT_TUNING=some.json"
