"""How a network predicts: which of its layers are computed together, and by which algorithms."""

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

from convkit.functional.common import computed_by
from convkit.nn.container import Sequential
from convkit.nn.fusion import function_of
from convkit.nn.summary import as_table, probe_of


class Stage(NamedTuple):
    """Layers that are computed together, and what computes them."""

    name: str
    layers: tuple[str, ...]
    output_shape: tuple[int, ...]
    algorithms: tuple[str, ...]


class NetworkExplanation:
    """What ``Module.explain`` found; ``print`` shows the table.

    Attributes
    ----------
    stages : list of Stage
        In the order of the calls. A batch norm or an activation that has no stage of its own is part of the one before
        it: folded into its weight, or computed on its output where that lies.
    """

    def __init__(self, stages: SequenceOf[Stage]) -> None:
        self.stages = list(stages)

    def __str__(self):
        rows = [("layers", "types", "output shape", "computed by")]
        rows += [(s.name, " + ".join(s.layers), " x ".join(map(str, s.output_shape)), ", ".join(s.algorithms) or "-")
                 for s in self.stages]
        head, *lines = as_table(rows, 4)
        return "\n".join([head, "-" * max(map(len, (head, *lines))), *lines])

    __repr__ = __str__


def explained(model, input_shape):
    """Predict with a copy of ``model``, in eval mode, on zeros of ``input_shape`` and note what computes it.

    Parameters
    ----------
    model : Module
    input_shape : tuple of int
        Shape of ``x``, batch axis included.

    Returns
    -------
    NetworkExplanation
    """
    probe, x = probe_of(model, input_shape)
    stages = []
    if _is_plain(probe):
        _follow(stages, "", probe, x)
    else:
        _compute(stages, type(model).__name__, [probe], x)
    return NetworkExplanation(stages)


def _is_plain(module):
    return type(module) is Sequential and "predict" not in vars(module)


def _follow(stages, prefix, net, x):
    """Stage after stage of a Sequential; those of one inside it are its own."""
    names = iter([prefix + name for name, _ in net.named_children()])
    for group in net.stages():
        together = [next(names) for _ in group]
        if len(group) == 1 and _is_plain(group[0]):
            x = _follow(stages, f"{together[0]}.", group[0], x)
        else:
            x = _compute(stages, together[0] if len(group) == 1 else f"{together[0]} to {together[-1]}", group, x)
    return x


def _compute(stages, name, group, x):
    y, algorithms = computed_by(function_of(group), x)
    first = y
    while isinstance(first, tuple):  # with indices
        first = first[0]
    stages.append(Stage(name, tuple(type(layer).__name__ for layer in group), first.shape, algorithms))
    return y
