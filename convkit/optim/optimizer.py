"""What all optimisers share: groups of parameters, their settings and state, saving and loading them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, ShapeError
from convkit.functional.common import contiguous, deliver
from convkit.nn.parameter import Parameter, forget
from convkit.plan.optim import plan
from convkit.spec import common
from convkit.spec.optim import OptimSpec


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that move by the same settings, as a dict: ``"params"``, and each setting by its name.

    ``group["lr"] *= 0.1`` changes a setting between steps; a value is checked as one given to the optimiser.
    ``"initial_lr"`` is there once a scheduler is: the rate that it begins with.
    """

    def __init__(self, kind: type["Optimizer"], parameters: Sequence[Parameter], settings: Mapping[str, Any]) -> None:
        self._kind = kind
        self._values: dict[str, Any] = {"params": tuple(parameters)}
        self.update(settings)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ShapeError("params of a group stay as they are; optimizer.add_param_group takes more of them")
        check = finite if name == "initial_lr" else self._kind.settings.get(name)
        if check is None:
            close = get_close_matches(str(name), self._kind.settings, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f", but {', '.join(self._kind.settings)}"
            raise ShapeError(f"{self._kind.__name__} has no setting {common.shown(name)}{hint}")
        self._values[name] = check(name, value)

    def __delitem__(self, name: str) -> None:
        raise ShapeError(f"a group must keep its settings, but {common.shown(name)} was to be taken out")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self):
        settings = "".join(f", {name}={value!r}" for name, value in self.items() if name != "params")
        return f"{len(self['params'])} parameters{settings}"


class Optimizer:
    """Base of the optimisers; a subclass names the ``kind`` of step and its ``settings``, each with what checks it, and
    defines ``_rule(group)``, the numbers that all parameters of a group share, and ``_remembered(group, data, state)``,
    the arrays and numbers of one parameter.

    ``parameters`` is an iterable of Parameters, or of dicts that each hold some of them, ``"params"``, and settings
    that differ from those of the optimiser: ``SGD([{"params": body.parameters(), "lr": 1e-4}, {"params":
    head.parameters()}], lr=1e-2)``.

    A float16 parameter is moved in float32, with a float32 state, and rounded once; of a step of less than half of its
    last digit nothing is left.

    Attributes
    ----------
    param_groups : list of ParamGroup
        The groups with their settings, which may be changed between steps: ``group["lr"] *= 0.1``. Every setting is an
        attribute of the optimiser, too: setting ``optimizer.lr`` sets it in all groups, and reading it is for groups
        that agree.
    parameters : list of Parameter
        Those of all groups.
    state : dict of Parameter to dict
        What is remembered of the gradients.
    defaults : dict
        The settings of a group that gives none.
    """

    settings: Mapping[str, Callable[[str, Any], Any]] = {}
    kind = ""
    state_names: tuple[str, ...] = ()
    optional_state: tuple[str, ...] = ()  # those of them that hang on the settings
    lr: float

    def __init__(self, parameters: Iterable[Parameter] | Iterable[Mapping[str, Any]],
                 defaults: Mapping[str, Any]) -> None:
        if not isinstance(parameters, Iterable):
            raise DtypeError("parameters must be an iterable of Parameters, as model.parameters() gives, got "
                             f"{type(parameters).__name__}")
        self.defaults = {name: self.settings[name](name, value) for name, value in defaults.items()}
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        given: list[Any] = list(parameters)
        for group in given if given and isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)
        if not self.parameters:
            raise ShapeError("parameters must hold at least 1 Parameter, got none")

    @property
    def parameters(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Move more parameters from now on, such as those of a layer that is no longer frozen.

        Parameters
        ----------
        param_group : dict
            ``"params"``, a Parameter or an iterable of them, and settings other than ``defaults``.
        """
        if "params" not in common.mapping("param_group", param_group, 'a dict with "params" and settings'):
            raise ShapeError(f'param_group must have "params", got {", ".join(map(repr, param_group)) or "nothing"}')
        params, settings = param_group["params"], {name: v for name, v in param_group.items() if name != "params"}
        params = list(params) if isinstance(params, Iterable) and not isinstance(params, Parameter) else [params]
        for p in params:
            if not isinstance(p, Parameter):
                raise DtypeError(f"parameters must be Parameters, as model.parameters() gives, got {type(p).__name__}")
        if len({*params, *self.parameters}) < len(params) + len(self.parameters):  # two threads would move it at once
            raise ShapeError("parameters must hold each Parameter once, got one of them several times")
        group = ParamGroup(type(self), params, {**self.defaults, **settings})
        non_negative("lr", group["lr"])
        self._check_together(group)
        self.param_groups.append(group)

    def _check_together(self, group):
        """Refuse settings that do not go together."""

    def __getattr__(self, name):
        if name not in type(self).settings:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        first, *others = [group[name] for group in self.param_groups]
        if any(other != first for other in others):
            raise ShapeError(f"the groups of parameters differ in {name}: {[first, *others]}; "
                             f'those of each are in optimizer.param_groups[i]["{name}"]')
        return first

    def __setattr__(self, name, value):
        if name not in self.settings:
            super().__setattr__(name, value)
            return
        for group in self.param_groups:
            group[name] = value

    def __repr__(self):
        return f"{type(self).__name__}({'; '.join(map(repr, self.param_groups))})"

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            self._step(group)

    def _step(self, group):
        group, moving, by_dtype = dict(group), [], {}  # a plain dict is read faster
        for p in group["params"]:
            grad = p.grad
            if grad is not None:
                dtype = _computing(p)
                data, grad, state = contiguous(p._data, dtype), contiguous(grad, dtype), self._state_of(p, dtype)
                by_dtype.setdefault(dtype, []).append((data, grad, *self._remembered(group, data, state)))
                moving.append((p, data))
        try:
            for dtype, parameters in by_dtype.items():
                plan(OptimSpec(self.kind, dtype)).run(parameters, self._rule(group))
        finally:  # also when Ctrl-C comes in the middle: a packing of the old values must not be used again
            for p, data in moving:
                deliver(data, p._data)
                p.version += 1

    def _state_of(self, parameter, dtype):
        """The state of a parameter, in the dtype that it is moved in: it may have become another one."""
        state = self.state.setdefault(parameter, {})
        for name, value in state.items():
            if name != "step" and value.dtype != dtype:
                state[name] = value.astype(dtype)
        return state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or, with ``set_to_none=False``, fill them with 0."""
        forget(self.parameters, set_to_none)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Settings and state as a flat dict of arrays, so that ``convkit.save`` can write it.

        Keys are the settings' names, with an entry for each group where there are several, and
        ``"<number of the parameter>.<name>"``.
        """
        flat = {name: np.array([group[name] for group in self.param_groups]) for name in self.settings}
        if len(self.param_groups) == 1:
            flat = {name: np.array(values[0]) for name, values in flat.items()}
        for i, p in enumerate(self.parameters):
            flat.update({f"{i}.{name}": np.array(value) for name, value in self.state.get(p, {}).items()})
        return flat

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take settings and state from ``state_dict()`` of an optimiser of the same class over the same parameters."""
        common.mapping("state", state)
        first, count = self.param_groups[0], len(self.param_groups)
        rows = () if count == 1 else (count,)
        wanted = {name: rows + np.shape(first[name]) for name in self.settings}
        for i, p in enumerate(self.parameters):
            names = [name for name in self.state_names if f"{i}.{name}" in state]
            if names:
                names += [name for name in self.state_names if name not in self.optional_state]
            wanted.update({f"{i}.{name}": () if name == "step" else p.shape for name in names})
        missing = [key for key in wanted if key not in state]
        wrong = [key for key in state if common.array(f"state[{key!r}]", state[key]).shape != wanted.get(key)]
        if missing or wrong:
            raise ShapeError(f"the state does not fit this {type(self).__name__} of {len(self.parameters)} parameters"
                             f"{'' if count == 1 else f' in {count} groups'}: missing {missing}, unexpected or of "
                             f"another shape {wrong}")
        settings = [{name: check(name, (state[name] if count == 1 else state[name][i]).tolist())
                     for name, check in self.settings.items()} for i in range(count)]
        self.state = {p: {name: self._loaded(state, f"{i}.{name}", p) for name in self.state_names
                          if f"{i}.{name}" in state} for i, p in enumerate(self.parameters)}
        for group, values in zip(self.param_groups, settings, strict=True):
            group.update(values)

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
