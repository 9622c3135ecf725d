"""Choosing by measurement: ``tune`` times every algorithm that can compute a layer, and plans take the fastest.

What was measured holds for one CPU and one instruction set, and can be kept as a JSON file that people can read. A
forced algorithm goes before it, and so does ``precision="strict"``; the batch that was measured is only written down,
so results stay the same for a batch and its items.
"""

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convkit import settings
from convkit.errors import DtypeError, FormatError
from convkit.kernels import native
from convkit.nn.module import Module
from convkit.plan import common as plans
from convkit.plan.common import Timing
from convkit.plan.conv import CANDIDATES
from convkit.serialization import replace_file
from convkit.spec import common
from convkit.spec.common import shown
from convkit.spec.conv import ConvSpec

FORMAT, VERSION = "convkit tuning", 1
TURN = 0.01  # seconds that one way keeps the core before the next one has it
LONGEST_FILE = 100_000_000  # bytes

# Only these have several native candidates.
_DIRECTIONS = ("forward", "input_gradient", "weight_gradient")
_SPEC_FIELDS = tuple(f.name for f in fields(ConvSpec) if f.init)
_FIELDS = {"isa", "images", "microseconds", *_SPEC_FIELDS}


@dataclass(frozen=True)
class Tuning:
    """What was measured; printing it gives a table.

    Attributes
    ----------
    cpu : str
        The CPU's name. Measurements of another one are shown and saved, but no plan follows them.
    layers : dict
        ``{(spec, isa): Timing}``, where a Timing has the number of ``images`` in a call and its best ``microseconds``
        by algorithm.
    """

    cpu: str
    layers: Mapping[tuple[ConvSpec, str], Timing]

    @property
    def in_use(self) -> bool:
        """Whether it was measured on this CPU, so that plans follow it."""
        return self.cpu == settings.cpu_name()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file that ``load_tuning`` reads; the old one stays until the new one is complete."""
        head = {"format": FORMAT, "version": VERSION, "cpu": self.cpu}
        rows = ",\n".join("  " + json.dumps(_row(*key, timing)) for key, timing in self.layers.items())
        text = json.dumps(head, indent=1)[:-2] + f',\n "layers": [\n{rows}\n ]\n}}\n'
        replace_file(os.path.realpath(path), [text.encode()])

    def __str__(self):
        used = "" if self.in_use else f"; not used, because this is {settings.cpu_name()}"
        lines = [f"measured on {self.cpu}{used}"]
        lines += [described(*key, timing) for key, timing in self.layers.items()]
        return "\n".join(lines if self.layers else [*lines, "no layer can be computed in several ways"])

    __repr__ = __str__


def described(spec, isa, timing):
    """One layer in a line: what it is, and the microseconds of every algorithm, best first."""
    def by(values):
        return "x".join(map(str, values))

    words = [spec.direction.replace("_", " "), f"{spec.c_in}-{spec.c_out}", by(spec.kernel)]
    words += [f"stride {by(spec.stride)}"] if max(spec.stride) > 1 else []
    words += [f"dilation {by(spec.dilation)}"] if max(spec.dilation) > 1 else []
    words += [f"groups {spec.groups}"] if spec.groups > 1 else []
    words += [f"@{by(spec.size)}", f"b{timing.images}", spec.dtype.name, isa]
    times = sorted(timing.microseconds.items(), key=lambda item: item[1])
    return f"{' '.join(words)}: " + ", ".join(f"{name} {microseconds:,.0f}" for name, microseconds in times) + " us"


def tune(model: Module, input_shape: Sequence[int] | NDArray[Any], *, backward: bool = False, seconds: float = 0.05,
         path: str | os.PathLike[str] | None = None, progress: bool = False) -> Tuning:
    """Time every algorithm that can compute a convolution of ``model``, and take the fastest from now on.

    The model is run once on random numbers, in prediction mode; its parameters, gradients, modes and running statistics
    stay as they are. Results may change in their last digits where another algorithm is taken.

    Parameters
    ----------
    model : Module
        A network or a single layer.
    input_shape : tuple of int or ndarray
        Shape of the input, or an input for models that do not take random numbers.
    backward : bool
        Whether to run the backward pass too, and to time its gradients.
    seconds : float
        How long to time each algorithm of each layer. Layers that have been timed with as many images are not timed
        again.
    path : str or PathLike, optional
        Where to save the result.
    progress : bool
        Show each layer on standard error once it has been timed.

    Returns
    -------
    Tuning
        The layers of this model: it prints as a table and has ``save(path)``.

    Raises
    ------
    ShapeError, DtypeError
        If an argument is wrong, or the model does not take such an input.

    Examples
    --------
    >>> print(convkit.tune(model, (1, 3, 224, 224), path="model.tuning.json"))
    """
    if not isinstance(model, Module):
        raise DtypeError(f"model must be a Module, got {type(model).__name__}")
    seconds = common.real("seconds", seconds, sys.float_info.min, sys.float_info.max, "positive and finite")
    common.flag("backward", backward), common.flag("progress", progress)
    x = input_shape if isinstance(input_shape, np.ndarray) else _random_input(model, input_shape)
    isa = settings.choice()[0]
    layers = {}
    for spec, keeps_weight in _convolutions(model, x, backward).items():
        images = x.shape[0] if x.ndim == spec.rank + 2 else 1
        timing = plans.timing(spec, isa)
        if timing.images != images:
            timing = Timing(images, time_candidates(spec, isa, images, keeps_weight, seconds))
        if len(timing.microseconds) > 1:
            layers[spec, isa] = timing
            if progress:
                print(described(spec, isa, timing), file=sys.stderr, flush=True)
    plans.add_timings(layers)
    result = Tuning(settings.cpu_name(), layers)
    if path is not None:
        result.save(path)
    return result


def clear_tuning() -> None:
    """Forget what ``tune`` measured and ``load_tuning`` read: plans are made as if there had been neither."""
    plans.clear_timings()


# ---- measuring


def _random_input(model, shape):
    dtype = next((p.dtype for p in model.parameters()), common.FLOAT32)
    shape = common.shape_of("input_shape", shape)
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


def _convolutions(model, x, backward):
    """The specs of the model's convolutions, and whether each belongs to a layer that keeps its weight packed."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    model.eval()
    try:
        with plans.recording() as predicting:
            model(x)
        with plans.recording() as learning:
            if backward:
                y, gradient = model.forward(x)
                model.zero_grad()  # what is there must not be added to
                gradient(y)
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in gradients:
            parameter.grad = grad
    found = {plan.spec: True for plan in predicting}
    found.update((plan.spec, False) for plan in learning if plan.spec not in found)
    return {spec: keeps for spec, keeps in found.items()
            if isinstance(spec, ConvSpec) and spec.direction in _DIRECTIONS}


def time_candidates(spec, isa, images, keeps_weight, seconds):
    """Best microseconds of every native algorithm that can compute ``spec``, by its name; none if only one can."""
    operands = _operands(spec, images)
    with settings.use(precision="fast"):  # what strict forbids is timed too, and left out when a plan is made
        runs = {c.name: _call(c.build(spec, isa), spec.direction, operands, keeps_weight)
                for c in CANDIDATES[spec.direction] if c.native and plans.reason(c, spec, isa) is None}
    if len(runs) < 2:
        return {}
    return {name: round(min(turns) * 1e6, 3) for name, turns in take_turns(runs, seconds, 3).items()}


def _operands(spec, images):
    rng = np.random.default_rng(0)
    x, y = spec.x_shape(images), spec.y_shape(images)
    shapes = {"forward": (x, spec.weight_shape, y), "input_gradient": (y, spec.weight_shape, x),
              "weight_gradient": (y, x, spec.weight_shape)}[spec.direction]
    return [rng.standard_normal(shape, np.float32).astype(spec.dtype) for shape in shapes]


def _call(run, direction, operands, keeps_weight):
    """A call of ``run`` as a function without arguments."""
    if direction == "weight_gradient":
        return lambda: run(*operands)
    source, weight, target = operands
    if not (keeps_weight and hasattr(run, "pack")):
        return lambda: run(source, weight, None, target)
    packed = run.pack(weight)
    return lambda: run.with_packed(source, packed, None, target)


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


# ---- files


def _row(spec, isa, timing):
    values = {name: getattr(spec, name) for name in _SPEC_FIELDS} | {"dtype": spec.dtype.name}
    return {"isa": isa, **values, "images": timing.images, "microseconds": timing.microseconds}


def load_tuning(path: str | os.PathLike[str]) -> Tuning:
    """Read what ``tune`` saved, and let plans follow it if it was measured on this CPU.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    Tuning
        What the file holds; its ``in_use`` says whether plans follow it.

    Raises
    ------
    FormatError
        If the file is none of ``tune``'s, or breaks a rule.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        text = file.read(LONGEST_FILE + 1)
    result = _parsed(text, f"the tuning file {path}")
    if result.in_use:
        plans.add_timings(result.layers)
    return result


def _parsed(text, file):
    if len(text) > LONGEST_FILE:
        raise FormatError(f"{file} must have at most {LONGEST_FILE} bytes")
    try:
        data = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{file} is not valid JSON in UTF-8: {exc}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FormatError(f'{file} must be a JSON object with "format": "{FORMAT}"')
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise FormatError(f"{file} has version {shown(data.get('version'))}, and this convkit reads {VERSION}")
    if set(data) != {"format", "version", "cpu", "layers"}:
        raise FormatError(f"{file} must have format, version, cpu and layers, and nothing else")
    if not isinstance(data["cpu"], str) or not isinstance(data["layers"], list):
        raise FormatError(f"{file} must have a string as cpu and a list as layers")
    layers = (_entry(row, f"layer {i} of {file}") for i, row in enumerate(data["layers"]))
    return Tuning(data["cpu"], dict(layers))


def _entry(row, where):
    if not isinstance(row, dict) or set(row) != _FIELDS:
        raise FormatError(f"{where} must have {', '.join(sorted(_FIELDS))}, and nothing else")
    isa, times = row["isa"], row["microseconds"]
    if isa not in native.KNOWN_ISAS:
        raise FormatError(f"{where} has isa {shown(isa)}; known are {', '.join(native.KNOWN_ISAS)}")
    if not isinstance(times, dict) or not times or not all(map(_positive, times.values())):
        raise FormatError(f"{where} must have the microseconds of at least one algorithm, each a positive number")
    known = [name for name in settings.ALGORITHMS if name != "reference"]
    for name in times:
        if name not in known:
            raise FormatError(f"{where} has the algorithm {shown(name)}; known are {', '.join(known)}")
    _check_whole(row["images"], "images", where)
    return (_spec(row, where), isa), Timing(row["images"], times)


def _spec(row, where):
    for name in ("c_in", "c_out", "groups"):
        _check_whole(row[name], name, where)
    axes = [row[name] for name in ("size", "kernel", "stride", "dilation")]
    rank = len(row["size"]) if isinstance(row["size"], list) else 0
    if not 1 <= rank <= 3 or not all(isinstance(a, list) and len(a) == rank for a in axes):
        raise FormatError(f"{where} must have size, kernel, stride and dilation as lists of 1 to 3 numbers each")
    for name, values in zip(("size", "kernel", "stride", "dilation"), axes, strict=True):
        for value in values:
            _check_whole(value, name, where)
    padding = row["padding"]
    if not isinstance(padding, list) or len(padding) != rank or not all(map(_is_pair, padding)):
        raise FormatError(f"{where} must have as padding two whole numbers for each axis")
    if row["dtype"] not in ("float32", "float64") or row["direction"] not in _DIRECTIONS:
        raise FormatError(f"{where} must have dtype float32 or float64 and a direction of {', '.join(_DIRECTIONS)}")
    size, kernel, stride, dilation = map(tuple, axes)
    spec = ConvSpec(row["c_in"], row["c_out"], size, kernel, stride, tuple(map(tuple, padding)), dilation,
                    row["groups"], np.dtype(row["dtype"]), row["direction"])
    if spec.c_in % spec.groups or spec.c_out % spec.groups or min(spec.out_size) < 1:
        raise FormatError(f"{where} is no convolution: its groups or its kernel do not fit its input")
    return spec


def _check_whole(value, name, where):
    if type(value) is not int or not 1 <= value <= common.MAX_INT:
        raise FormatError(f"{where} must have whole numbers of at least 1 as {name}, not {shown(value)}")


def _positive(value):
    return type(value) in (int, float) and 0 < value < math.inf


def _is_pair(value):
    whole = isinstance(value, list) and all(type(v) is int and abs(v) <= common.MAX_INT for v in value)
    return whole and len(value) == 2
