"""What all optimisers share: the list of parameters, their state, saving and loading it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, ShapeError
from convkit.functional.common import contiguous, deliver
from convkit.nn.parameter import Parameter
from convkit.plan.optim import plan
from convkit.spec import common
from convkit.spec.optim import OptimSpec


class Optimizer:
    """Base of the optimisers; a subclass names the ``kind`` of step and its ``settings``, each with what checks it, and
    defines ``_rule()``, the numbers that all parameters share, and ``_remembered(data, state)``, its arrays and numbers
    of one parameter.

    A float16 parameter is moved in float32, with a float32 state, and rounded once; of a step of less than half of its
    last digit nothing is left.

    Every setting is an attribute that may be changed between steps, such as ``optimizer.lr *= 0.1``.
    """

    settings: Mapping[str, Callable[[str, Any], Any]] = {}
    kind = ""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        if not isinstance(parameters, Iterable):
            raise DtypeError("parameters must be an iterable of Parameters, as model.parameters() gives, got "
                             f"{type(parameters).__name__}")
        self.parameters = list(parameters)
        if not self.parameters:
            raise ShapeError("parameters must hold at least 1 Parameter, got none")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise DtypeError(f"parameters must be Parameters, as model.parameters() gives, got {type(p).__name__}")
        if len(set(map(id, self.parameters))) < len(self.parameters):  # two threads would move it at once
            raise ShapeError("parameters must hold each Parameter once, got one of them several times")
        self._states = [{} for _ in self.parameters]

    def __setattr__(self, name, value):
        check = self.settings.get(name)
        super().__setattr__(name, check(name, value) if check else value)

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moving, by_dtype = [], {}
        for p, state in zip(self.parameters, self._states, strict=True):
            if p.grad is not None:
                dtype = _computing(p)
                data, grad = contiguous(p._data, dtype), contiguous(p.grad, dtype)
                by_dtype.setdefault(dtype, []).append((data, grad, *self._remembered(data, state)))
                moving.append((p, data))
        try:
            for dtype, parameters in by_dtype.items():
                plan(OptimSpec(self.kind, dtype)).run(parameters, self._rule())
        finally:  # also when Ctrl-C comes in the middle: a packing of the old values must not be used again
            for p, data in moving:
                deliver(data, p._data)
                p.version += 1

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Settings and state as a flat dict of arrays, so that ``convkit.save`` can write it.

        Keys are the settings' names and ``"<number of the parameter>.<name>"``.
        """
        flat = {name: np.array(getattr(self, name)) for name in self.settings}
        for i, state in enumerate(self._states):
            flat.update({f"{i}.{name}": np.array(value) for name, value in state.items()})
        return flat

    def load_state_dict(self, flat: Mapping[str, NDArray[Any]]) -> None:
        """Take settings and state from ``state_dict()`` of an optimiser of the same class over the same parameters."""
        common.mapping("state", flat)
        wanted = {name: np.shape(getattr(self, name)) for name in self.settings}
        for i, p in enumerate(self.parameters):
            if any(f"{i}.{name}" in flat for name in self.state_names):
                wanted.update({f"{i}.{name}": () if name == "step" else p.shape for name in self.state_names})
        missing = [key for key in wanted if key not in flat]
        wrong = [key for key in flat if common.array(f"state[{key!r}]", flat[key]).shape != wanted.get(key)]
        if missing or wrong:
            raise ShapeError(f"the state does not fit this {type(self).__name__} of {len(self.parameters)} parameters"
                             f": missing {missing}, unexpected or of another shape {wrong}")
        settings = {name: flat[name].tolist() for name in self.settings}
        made = type(self)(self.parameters, **settings)  # refuses what it would not be made with
        self._states = [{name: self._loaded(flat, f"{i}.{name}", p) for name in self.state_names
                         if f"{i}.{name}" in flat} for i, p in enumerate(self.parameters)]
        for name in self.settings:
            setattr(self, name, getattr(made, name))

    @staticmethod
    def _loaded(flat, key, parameter):
        name, value = f"state[{key!r}]", flat[key]
        if key.endswith(".step"):
            return common.integer(name, value.item(), 1)
        return common.float_array(name, value).astype(_computing(parameter), order="C")


def _computing(parameter):
    """The dtype that a parameter is moved in."""
    return common.FLOAT32 if parameter.dtype == common.FLOAT16 else parameter.dtype


def finite(name, value):
    """Any finite number: a learning rate between steps, which one cycle takes below 0, as PyTorch's does."""
    return common.real(name, value, -np.finfo(np.float64).max, np.finfo(np.float64).max, "finite")


def non_negative(name, value):
    """A finite number of at least 0."""
    return common.real(name, value, 0.0, np.finfo(np.float64).max, "finite and not negative")


def fraction(name, value):
    """A number of at least 0 and less than 1."""
    return common.real(name, value, 0.0, np.nextafter(1.0, 0.0), "at least 0 and less than 1")
