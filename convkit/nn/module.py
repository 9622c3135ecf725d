"""Module: what every layer and every network of layers is.

A module computes in two ways. ``y = module(x)`` predicts and keeps nothing. ``y, backward = module.forward(x)``
trains: ``backward(dy)`` adds into the ``grad`` of each parameter and returns ``dx``. What backward needs lives in
the closure, never on the module, so one module may be used twice in a network or by two threads at a time.

A layer of your own needs one method, ``forward``:

>>> class Residual(Module):
...     def __init__(self, body):
...         self.body = body
...     def forward(self, x):
...         y, backward = self.body.forward(x)
...         return x + y, lambda dy: dy + backward(dy)

Parameters and modules assigned to attributes are found there, in the order of their assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, ShapeError
from convkit.nn.changes import changed
from convkit.nn.parameter import Parameter, forget
from convkit.spec import common
from convkit.typing import Backward, Floats

if TYPE_CHECKING:
    from convkit.nn.explain import NetworkExplanation
    from convkit.nn.summary import Summary


_MADE = {"_kept", "_compute"}  # by a module for itself, out of all else: a copy makes its own


class KeyDifference(NamedTuple):
    """What ``load_state_dict(strict=False)`` found no partner for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers.

    Attributes
    ----------
    training : bool
        True in training mode; dropout and batch norm ask for it.
    """

    training = True
    # Whether this module's backward takes `need_dx=False` and then returns None: the first layer of a network
    # has nobody to hand its dx to.
    can_skip_dx = False
    _buffer_names = ()

    def __call__(self, x: Floats) -> Floats:
        return self.predict(x)

    def predict(self, x: Floats) -> Floats:
        """The output alone; layers override it where that is cheaper than ``forward``."""
        return forward_of(self, x)[0]

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        """The output, and the function that turns its gradient into that of ``x``."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __setattr__(self, name, value):
        if isinstance(vars(self).get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise DtypeError(f"{name} is a Parameter and cannot become {type(value).__name__}; "
                             f"to change its values write .{name}.data = array")
        if vars(self).get(name, self) is not value:
            super().__setattr__(name, value)
            self._changed()

    def __delattr__(self, name):
        super().__delattr__(name)
        self._changed()

    def _changed(self):
        vars(self).pop("_compute", None)
        changed()

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in _MADE}

    def register_buffer(self, name: str, array: NDArray[Any] | None) -> None:
        """Set an attribute that is no parameter but belongs to the state, such as a running mean."""
        self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, array)

    # -- walking ---------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield ``(name, module)`` for the modules directly inside."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield the modules directly inside."""
        for _, child in self.named_children():
            yield child

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield ``(dotted name, module)`` for this module, named ``prefix``, and all inside, outermost first."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all inside."""
        for _, module in self.named_modules():
            yield module

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield ``(dotted name, Parameter)``; one that several modules share comes once."""
        seen = set()
        for key, module, name in self._entries():
            value = getattr(module, name)
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield key, value

    def parameters(self) -> Iterator[Parameter]:
        """Yield every Parameter once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def _entries(self):
        """Yield ``(key, module, attribute)`` for all parameters and buffers, in PyTorch's order."""
        for prefix, module in self.named_modules():
            names = [name for name, value in vars(module).items() if isinstance(value, Parameter)]
            names += [name for name in module._buffer_names if getattr(module, name) is not None]
            for name in names:
                yield f"{prefix}.{name}" if prefix else name, module, name

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call ``fn(module)`` for all modules inside, and then for this one; returns it.

        >>> def first_weights(layer):
        ...     if isinstance(layer, nn.Conv2d):
        ...         nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        >>> net.apply(first_weights)
        """
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- modes and gradients ---------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Put this module and all inside into training mode; returns it."""
        mode = common.flag("mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all inside into prediction mode; returns it."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say for all parameters inside whether they learn, False to freeze them; returns the module.

        What is frozen costs no gradients of its own. ``backward(dy, need_dx=False)``, as ``fit`` calls it, ends at the
        first layer that learns: the frozen layers before it are not gone through. A batch norm in training mode goes on
        moving its running statistics; ``eval()`` stops that.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or, with ``set_to_none=False``, fill them with 0."""
        forget(self.parameters(), set_to_none)

    # -- dtype -----------------------------------------------------------------------------------------

    def half(self) -> Self:
        """Turn all parameters and buffers of floating point into float16; returns the module."""
        return self._convert(common.FLOAT16)

    def float(self) -> Self:
        """Turn all parameters and buffers of floating point into float32; returns the module."""
        return self._convert(common.FLOAT32)

    def double(self) -> Self:
        """Turn all parameters and buffers of floating point into float64; returns the module."""
        return self._convert(common.FLOAT64)

    def _convert(self, dtype):
        with np.errstate(over="ignore"):  # a number too large for float16 becomes infinite
            for _, module, name in list(self._entries()):
                value = getattr(module, name)
                if isinstance(value, Parameter):
                    value.convert(dtype)
                elif value.dtype.kind == "f":
                    setattr(module, name, value.astype(dtype))
        return self

    # -- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Parameters and buffers by dotted name, copied: later training does not change them."""
        return {key: np.array(_array_of(getattr(module, name))) for key, module, name in self._entries()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]], strict: bool = True) -> KeyDifference:
        """Copy arrays into the parameters and buffers of the same names.

        Floating-point values are converted to the dtype that the parameter has. Nothing is changed unless
        everything fits.

        Parameters
        ----------
        state : dict of str to ndarray
            As from ``state_dict``, ``convkit.load``, or PyTorch's with ``.numpy()`` on each tensor.
        strict : bool
            Whether a missing or an unexpected name is an error.

        Returns
        -------
        KeyDifference
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        ShapeError
            If an array has another shape than its parameter, or, when strict, if names differ.
        DtypeError
            If a value is no array of numbers of the same kind.
        """
        common.mapping("state", state)
        entries = {key: (module, name) for key, module, name in self._entries()}
        difference = KeyDifference([k for k in entries if k not in state], [k for k in state if k not in entries])
        problems = []
        if strict:
            problems += [f"{what} {', '.join(map(repr, keys))}"
                         for what, keys in zip(("missing", "unexpected"), difference, strict=True) if keys]
        new = {}
        for key, (module, name) in entries.items():
            if key in state:
                have = _array_of(getattr(module, name))
                new[key] = _converted(key, state[key], have.dtype)
                if new[key].shape != have.shape:
                    problems.append(f"{key!r} has shape {new[key].shape} but the module has {have.shape}")
        if problems:
            raise ShapeError(f"the state does not fit {type(self).__name__}: {'; '.join(problems)}")
        for key, array in new.items():
            _store(*entries[key], array)
        return difference

    # -- showing ---------------------------------------------------------------------------------------

    def macs(self, x_shape: Sequence[int]) -> int:
        """Multiply-adds of this module's own (not its children's) for an input of this shape."""
        return 0

    def summary(self, input_shape: Sequence[int]) -> Summary:
        """Table of the layers: output shapes, parameters, multiply-adds, bytes (see ``nn.summary``)."""
        from convkit.nn.summary import summarize
        return summarize(self, input_shape)

    def explain(self, input_shape: Sequence[int]) -> NetworkExplanation:
        """Table of what predicts: layers that are computed together, and by what (see ``nn.explain``)."""
        from convkit.nn.explain import explained
        return explained(self, input_shape)

    def extra_repr(self) -> str:
        """The configuration that ``repr`` shows."""
        return ""

    def __repr__(self):
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def forward_of(module, x):
    """``module.forward(x)``; of one that returns the output alone, as in PyTorch, the first image must not be taken."""
    result = module.forward(x)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise DtypeError(f"{type(module).__name__}.forward must return the output and the function that turns its "
                         f"gradient into that of x, got {common.shown(result)}")
    return result


def learns(module):
    """Whether any of its parameters takes a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def backward_of(module, step, dy, need_dx):
    """``step(dy)``; if nobody wants dx, telling the module's backward where it can make use of that, and not at all
    where the module learns nothing either."""
    if need_dx:
        return step(dy)
    if not learns(module):
        return None
    return step(dy, need_dx=False) if module.can_skip_dx else step(dy)


def _array_of(value):
    return value._data if isinstance(value, Parameter) else value


def _converted(key, value, dtype):
    # NumPy makes a scalar of an array without axes at the first sum, such as the batches that a norm has seen.
    array = np.asarray(value) if isinstance(value, np.generic) else common.array(f"state[{key!r}]", value)
    if array.dtype.kind != dtype.kind:
        raise DtypeError(f"state[{key!r}] must be of a dtype like {dtype}, got {array.dtype}")
    return array.astype(dtype)


def _store(module, name, array):
    if isinstance(getattr(module, name), Parameter):
        getattr(module, name).data = array
    else:
        setattr(module, name, array)
