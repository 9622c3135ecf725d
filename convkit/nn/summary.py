"""Summary of a network: what each layer puts out, learns, computes and keeps in memory."""

import copy
import tracemalloc
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convkit.errors import ShapeError
from convkit.nn.embedding import Embedding
from convkit.nn.module import backward_of
from convkit.nn.parameter import Parameter
from convkit.spec import common


class Row(NamedTuple):
    """One call of one layer."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int


class Summary:
    """Rows in the order of the calls, and totals; ``print`` shows the table.

    Attributes
    ----------
    rows : list of Row
    parameters, trainable : int
        Elements of all parameters, each counted once, and of those with ``requires_grad``.
    macs : int
        Multiply-adds of one prediction.
    parameter_bytes, activation_bytes : int
        Bytes of the parameters, and of all layers' outputs together.
    training_peak, prediction_peak : int
        Bytes of activations, and of their gradients, that are alive at a time, measured; the input and the kernels'
        workspace are not counted, but weights that a gradient packs for its call are: of few and small images they may
        be the most. There is no training_peak (None) where a norm cannot be trained on such a batch.
    """

    def __init__(self, rows: Sequence[Row], parameters: Sequence[Parameter], training_peak: int | None,
                 prediction_peak: int) -> None:
        self.rows = rows
        self.training_peak = training_peak
        self.prediction_peak = prediction_peak
        self.parameters = sum(p.size for p in parameters)
        self.trainable = sum(p.size for p in parameters if p.requires_grad)
        self.parameter_bytes = sum(p.size * p.dtype.itemsize for p in parameters)
        self.macs = sum(row.macs for row in rows)
        self.activation_bytes = sum(row.activation_bytes for row in rows)

    def __str__(self):
        table = [("layer", "type", "output shape", "parameters", "MACs", "activations")]
        table += [(r.name, r.kind, " x ".join(map(str, r.output_shape)), f"{r.parameters:,}", f"{r.macs:,}",
                   _bytes(r.activation_bytes)) for r in self.rows]
        table.append(("total", "", "", f"{self.parameters:,}", f"{self.macs:,}", _bytes(self.activation_bytes)))
        lines = as_table(table, 3)
        rule = "-" * max(map(len, lines))
        last = f"parameters {_bytes(self.parameter_bytes)}, {self.trainable:,} of {self.parameters:,} trainable"
        peaks = f"activations at the peak {_bytes(self.prediction_peak)} in prediction"
        if self.training_peak is not None:
            peaks += f", {_bytes(self.training_peak)} in training"
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], last, peaks])

    __repr__ = __str__


def summarize(model, input_shape):
    """Run ``model`` on zeros of ``input_shape`` (with its batch axis) and note what every layer does.

    The model is left as it is: copies run.

    Parameters
    ----------
    model : Module
    input_shape : tuple of int
        Shape of ``x``, batch axis included.

    Returns
    -------
    Summary
    """
    probe, x = probe_of(model, input_shape)
    prediction_peak = _peak(lambda: probe(x))
    rows = []
    for name, layer in probe.named_modules():
        if not any(layer.named_children()):
            _record(rows, name, layer)
    probe(x)
    return Summary(rows, list(model.parameters()), _training_peak(model, x), prediction_peak)


def probe_of(model, input_shape):
    """A copy of the model that shares its parameters, in eval mode, and zeros that it takes."""
    shape = common.shape_of("input_shape", input_shape)
    parameters = list(model.parameters())
    first = next(layer for layer in model.modules() if not any(layer.named_children()))
    dtype = common.INT64 if isinstance(first, Embedding) else parameters[0].dtype if parameters else common.FLOAT32
    common.check_bytes("x", shape, dtype)
    return copy.deepcopy(model, {id(p): p for p in parameters}).eval(), np.zeros(shape, dtype)


def as_table(rows, texts):
    """Lines of cells, the first ``texts`` columns to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) if i < texts else cell.rjust(w)
                      for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def _training_peak(model, x):
    """That of one step without the gradients of the parameters; None where the norms refuse the batch.

    A parameter of no elements stands for those that learn: the gradient must come as far as they are.
    """
    probe = copy.deepcopy(model).train()
    for module in list(probe.modules()):
        own = [value for value in vars(module).values() if isinstance(value, Parameter)]
        if any(p.requires_grad for p in own):
            module._learning = Parameter(np.empty(0, np.float32))
        for p in own:
            p.requires_grad = False

    def step():
        y, backward = probe.forward(x)
        while isinstance(y, tuple):
            y = y[0]
        backward_of(probe, backward, np.zeros_like(y), need_dx=False)

    try:
        return _peak(step)
    except ShapeError:
        return None


def _peak(run):
    """Bytes of new arrays that are alive at a time while ``run()`` runs for the second time; the first packs weights.

    NumPy tells tracemalloc of all of them.
    """
    run()
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _record(rows, name, layer):
    """Make this one layer object note its calls; the methods of its class stay as they are."""
    own = sum(value.size for value in vars(layer).values() if isinstance(value, Parameter))

    def noting(method):
        def call(x, *args):
            before = len(rows)
            result = y = method(x, *args)
            while isinstance(y, tuple):  # (y, backward), (y, indices) or both
                y = y[0]
            if len(rows) == before:  # else forward has called predict, or the other way round
                new_bytes = 0 if np.may_share_memory(x, y) else y.nbytes  # Flatten only gives its input another shape
                rows.append(Row(name, type(layer).__name__, y.shape, own, layer.macs(x.shape), new_bytes))
            return result
        return call

    layer.predict, layer.forward = noting(layer.predict), noting(layer.forward)


def _bytes(n):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
        n /= 1024
