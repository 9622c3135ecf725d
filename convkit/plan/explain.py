"""How an operation would be computed and why: ``convkit.explain``.

No operand is needed, only shapes. The answer comes from the same spec, the same list of candidates and the same cache
as a real call, so it cannot differ from what a call does. Printing it measures the machine's limits, once for a process
and a size, in a tenth of a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from math import log, prod
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convkit import reference, settings
from convkit.errors import DtypeError, ShapeError
from convkit.plan import activation, conv, cost, fold, linear, pad, pool, resample, softmax
from convkit.plan.common import choose, predictions, reason, timing
from convkit.spec import common
from convkit.spec.activation import ACTIVATIONS, activation_spec
from convkit.spec.adaptive import adaptive_spec
from convkit.spec.conv import conv_spec, transposed_spec
from convkit.spec.fold import fold_spec, unfold_spec
from convkit.spec.linear import linear_spec
from convkit.spec.pad import check_pad, pad_spec
from convkit.spec.pool import ScatterSpec, check_global, check_lp, pool_spec
from convkit.spec.resample import resample_spec
from convkit.spec.softmax import softmax_spec
from convkit.spec.unpool import unpool_spec


@dataclass(frozen=True)
class Step:
    """One kernel call of an operation.

    Attributes
    ----------
    name : str
        The operation, or the gradient that this step computes.
    algorithm : str
        The candidate taken.
    isa : str or None
        The instruction set level it runs at; None for the NumPy twin.
    candidates : tuple of (str, str or None)
        Every candidate in order of preference, with the reason why it cannot or should not be taken, or None.
    predicted, measured : dict of str to float
        Microseconds of this call by candidate: those that the cost model knows, and those that ``tune`` has timed.
    flops, bytes_read, bytes_written : int
        Arithmetic (a multiply-add counts twice), and the sizes of the operands.
    workspace_bytes : int or None
        Scratch memory of a call; None where the candidate does not say.
    forced : bool
        Whether the user's setting, not the order of preference, decided.
    itemsize : int
        Bytes of an element.
    shapes : tuple of (str, tuple)
        Operands and result by name.
    """

    name: str
    algorithm: str
    isa: str | None
    candidates: tuple
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    flops: int
    bytes_read: int
    bytes_written: int
    workspace_bytes: int | None
    forced: bool
    itemsize: int
    shapes: tuple

    def __str__(self):
        operands = ", ".join(f"{name} {shape}" for name, shape in self.shapes[:-1])
        lines = [f"{self.name}: {operands} -> {self.shapes[-1][0]} {self.shapes[-1][1]}"]
        level = f" at {self.isa}" if self.isa else ""
        because = ", because it is forced" if self.forced else ", measured as the fastest" if self.measured else ""
        if not because and len(self.predicted) > 1:
            because = ", predicted to be the fastest"
        lines.append(f"  taken       {self.algorithm}{level}{because}")
        for name, why in self.candidates:
            times = self._times(name)
            otherwise = "another one is forced" if self.forced else "is slower" if times else "comes later"
            text = "taken" if name == self.algorithm else why or f"could, but {otherwise}"
            lines.append(f"    {name:12}{text}{times}")
        lines.append(f"  arithmetic  {_flops(self.flops)}")
        lines.append(f"  memory      reads {_bytes(self.bytes_read)}, writes {_bytes(self.bytes_written)}: "
                     f"{self.flops / max(1, self.bytes_read + self.bytes_written):.1f} FLOP for each byte")
        if self.isa:
            lines.append(f"  limits      {self._shares()}")
        workspace = "not known" if self.workspace_bytes is None else _bytes(self.workspace_bytes)
        lines.append(f"  workspace   {workspace}")
        return "\n".join(lines)

    def _times(self, name):
        known = (("predicted", self.predicted), ("measured", self.measured))
        return "".join(f", {how} {times[name]:,.1f} us" for how, times in known if name in times)

    def _shares(self):
        """What one core needs at least, and how much of what this step takes that is."""
        arithmetic, copy = cost.limits(self.flops, self.bytes_read + self.bytes_written, self.isa, self.itemsize)
        text = f"{arithmetic:,.1f} us of multiply-adds at the peak of one core, {copy:,.1f} us to copy as many bytes"
        for how, times in (("measured", self.measured), ("predicted", self.predicted)):
            if self.algorithm in times:
                return f"{text}: {max(arithmetic, copy) / times[self.algorithm]:.0%} of what is {how}"
        return text


@dataclass(frozen=True)
class Explanation:
    """What ``explain`` found: one ``Step`` per kernel call. Printing it gives a report."""

    operation: str
    dtype: str
    steps: tuple[Step, ...]

    def __str__(self):
        return "\n".join([f"{self.operation}, {self.dtype}", *map(str, self.steps)])

    __repr__ = __str__


Found = TypeVar("Found", covariant=True)


class Explains(Protocol[Found]):
    """What explains itself: a network, which this floor does not know."""

    def explain(self, input_shape: Sequence[int]) -> Found: ...


@overload
def explain(operation: str, x: NDArray[Any] | Sequence[int], weight: NDArray[Any] | Sequence[int] | None = None, *,
            dtype: DTypeLike = np.float32, **options: Any) -> Explanation: ...


@overload
def explain(operation: Explains[Found], x: NDArray[Any] | Sequence[int]) -> Found: ...


def explain(operation: Any, x: NDArray[Any] | Sequence[int], weight: NDArray[Any] | Sequence[int] | None = None, *,
            dtype: DTypeLike = np.float32, **options: Any) -> Any:
    """Say how an operation would be computed under the settings in force, and why.

    Parameters
    ----------
    operation : str or Module
        A function of ``convkit.functional``, such as ``"conv2d"`` or ``"max_pool2d_backward"``. Of a network
        ``explain(net, x)`` is ``net.explain(x.shape)``: the layers that are computed together, and by what.
    x, weight : ndarray or tuple of int
        The operands or their shapes. For a backward pass, those of the forward pass.
    dtype : dtype
        Of the operands, where shapes are given; float16 is computed in float32, and explained as that.
    **options
        As the forward pass takes them: ``stride=2, padding=1``.

    Returns
    -------
    Explanation
        Or what ``Module.explain`` returns.

    Examples
    --------
    >>> print(convkit.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1))
    """
    if hasattr(operation, "explain"):
        if weight is not None or options:
            raise DtypeError(f"of a network explain takes x alone, got {', '.join(options) or 'weight'} too")
        return operation.explain(getattr(x, "shape", x))
    if not isinstance(operation, str):
        raise DtypeError("operation must be a network or the name of a function, such as 'conv2d', got "
                         f"{type(operation).__name__}")
    if operation not in OPERATIONS:
        near = get_close_matches(operation, OPERATIONS, 5, 0.3) or list(OPERATIONS)[:5]
        raise ShapeError(f"operation must be one that explain knows, such as {', '.join(near)}, "
                         f"got operation={common.shown(operation)}")
    x, weight = _stand_in("x", x, dtype), None if weight is None else _stand_in("weight", weight, dtype)
    title = x.dtype.name
    if x.dtype == common.FLOAT16:
        title += " computed in float32"
        x, weight = (None if a is None else _stand_in("x", a.shape, np.float32) for a in (x, weight))
    operands = (x,) if weight is None else (x, weight)
    steps = OPERATIONS[operation]
    call = _bound(steps, operation, operation, *operands, **options)
    return Explanation(operation, title, tuple(steps(*call.args, **call.kwargs)))


def _bound(function, operation, *args, **options):
    """The arguments as ``function`` takes them."""
    try:
        return signature(function).bind(*args, **options)
    except TypeError as exc:
        raise DtypeError(f"the arguments do not fit {operation}: {exc}") from exc


def _stand_in(name, value, dtype):
    """An array of the shape asked for that takes no memory, or the array given."""
    if isinstance(value, np.ndarray):
        return value
    zero = np.zeros((), common.float_dtype("dtype", dtype))
    return np.broadcast_to(zero, common.shape_of(name, value))


def _step(name, spec, candidates, flops, *shapes, index_bytes=0, images=1):
    """``shapes`` are (name, shape) of the operands and, last, of the result."""
    plan = choose(spec, candidates)
    isa, forced, _ = settings.choice()
    timed = timing(spec, isa)
    considered = tuple((c.name, reason(c, spec, isa) or (None if c.name in timed.microseconds else c.loses(spec, isa)))
                       for c in candidates)
    possible = {c.name: c for c, (_, why) in zip(candidates, considered, strict=True) if why is None}
    predicted = {name: t * images for name, t in predictions(possible.values(), spec, isa).items()}
    measured = {name: t / timed.images * images for name, t in timed.microseconds.items() if name in possible}
    sizes = [prod(shape) * spec.dtype.itemsize for _, shape in shapes]
    return Step(name, plan.algorithm, plan.isa, considered, predicted, measured, flops, sum(sizes[:-1]) + index_bytes,
                sizes[-1], getattr(plan.run, "workspace_bytes", None), plan.algorithm == forced, spec.dtype.itemsize,
                shapes)


def _amount(value, base, first, *units):
    """``value`` in the unit that leaves it below ``base``, or in the last one."""
    if value < base:
        return f"{value:,} {first}"
    power = min(len(units), int(log(value, base)))
    return f"{value / base**power:,.1f} {units[power - 1]}"


def _flops(value):
    return _amount(value, 1000, "FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP")


def _bytes(value):
    return _amount(value, 1024, "B", "KiB", "MiB", "GiB", "TiB")


# ---- operations


def _conv(rank, *directions):
    def steps(operation, x, weight, stride=1, padding=0, dilation=1, groups=1):
        for direction in directions:
            spec, n, _ = conv_spec(x.shape, x.dtype, weight.shape, weight.dtype, None, None, stride, padding,
                                   dilation, groups, rank=rank, direction=direction)
            shapes = {"x": spec.x_shape(n), "weight": spec.weight_shape, "y": spec.y_shape(n)}
            flops = prod(spec.y_shape(n)) if direction == "bias_gradient" else 2 * n * spec.macs
            yield _directed(operation, spec, conv.CANDIDATES[direction], flops, shapes)
    return steps


def _transposed(rank, *directions):
    """Of a transposed convolution ``x`` is what its convolution puts out, and forward is the input gradient."""
    roles = {"input_gradient": "forward", "forward": "input_gradient"}

    def steps(operation, x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        for direction in directions:
            spec, n, _ = transposed_spec(x.shape, x.dtype, weight.shape, weight.dtype, None, None, stride, padding,
                                         output_padding, groups, dilation, rank=rank, direction=direction)
            shapes = {"x": spec.y_shape(n), "weight": spec.weight_shape, "y": spec.x_shape(n)}
            flops = prod(spec.x_shape(n)) if direction == "bias_gradient" else 2 * n * spec.macs
            yield _directed(operation, spec, conv.CANDIDATES[direction], flops, shapes, roles.get(direction, direction))
    return steps


def _linear(*directions):
    def steps(operation, x, weight):
        forward, y_shape = linear_spec(x, weight)
        shapes = {"x": x.shape, "weight": weight.shape, "y": y_shape}
        for direction in directions:
            spec = forward.towards(direction)
            flops = prod(y_shape) * (1 if direction == "bias_gradient" else 2 * spec.in_features)
            yield _directed(operation, spec, linear.CANDIDATES[direction], flops, shapes)
    return steps


def _directed(operation, spec, candidates, flops, shapes, role=None):
    """A step of a linear operation: its directions read two of x, weight, y and write the third, or sum dy. ``role`` is
    the direction in the operation's eyes, by default the spec's.
    """
    x, weight, y = shapes.items()
    dx, dw, dy = ((f"d{name[0]}", shape) for name, shape in (x, weight, y))
    name, operands = {"forward": (operation, (x, weight, y)),
                      "input_gradient": ("input gradient", (dy, weight, dx)),
                      "weight_gradient": ("weight gradient", (dy, x, dw)),
                      "bias_gradient": ("bias gradient", (dy, ("db", y[1][1:2])))}[role or spec.direction]
    return _step(name, spec, candidates, flops, *operands, images=x[1][0])


def _pool(rank, kind, backward=False):
    def steps(operation, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
              count_include_pad=True, divisor_override=None):
        spec, lead = pool_spec(x.shape, x.dtype, kernel_size, stride, padding, dilation, ceil_mode,
                               count_include_pad, divisor_override, kind=kind, rank=rank)
        y_shape = lead + spec.out_size
        work = prod(y_shape) * prod(spec.kernel)
        gradient = ("dy", y_shape), ("dx", x.shape)
        if not backward:
            yield _step(operation, spec, pool.CANDIDATES[kind], work, ("x", x.shape), ("y", y_shape))
        elif kind == "avg":
            yield _step(operation, spec, pool.GRADIENT_CANDIDATES[kind], work, *gradient)
        else:
            yield _scatter(operation, spec, *gradient)
    return steps


def _lp_pool(rank, backward=False):
    def steps(operation, x, norm_type, kernel_size, stride=None, ceil_mode=False):
        spec, lead = check_lp(x, norm_type, kernel_size, stride, ceil_mode, rank=rank)
        y_shape = lead + spec.out_size
        work = 2 * prod(y_shape) * prod(spec.kernel)
        if backward:
            yield _step(operation, spec, pool.GRADIENT_CANDIDATES["lp"], work, ("dy", y_shape), ("x", x.shape),
                        ("y", y_shape), ("dx", x.shape))
        else:
            yield _step(operation, spec, pool.CANDIDATES["lp"], work, ("x", x.shape), ("y", y_shape))
    return steps


def _adaptive_pool(rank, kind, backward=False):
    def steps(operation, x, output_size):
        spec, lead = adaptive_spec(x.shape, x.dtype, output_size, kind=f"adaptive_{kind}", rank=rank)
        y_shape = lead + spec.out_size
        gradient = ("dy", y_shape), ("dx", x.shape)
        if not backward:
            yield _step(operation, spec, pool.CANDIDATES[spec.kind], x.size, ("x", x.shape), ("y", y_shape))
        elif kind == "avg":
            yield _step(operation, spec, pool.GRADIENT_CANDIDATES[spec.kind], x.size, *gradient)
        else:
            yield _scatter(operation, spec, *gradient)
    return steps


def _global_pool(kind, backward=False):
    def steps(operation, x):
        rank = check_global(x, kind)[0].rank
        yield from _pool(rank, kind, backward)(operation, x, x.shape[2:])
    return steps


def _scatter(operation, spec, dy, dx):
    scatter = ScatterSpec(spec.size, spec.out_size, spec.dtype)
    results = prod(dy[1])
    return _step(operation, scatter, pool.SCATTER_CANDIDATES, results, dy, dx, index_bytes=8 * results)


def _unpool(rank, backward=False):
    def steps(operation, x, kernel_size, stride=None, padding=0, output_size=None):
        indices = np.broadcast_to(np.int64(0), x.shape)
        spec = unpool_spec(x, indices, kernel_size, stride, padding, output_size, rank=rank)
        y_shape = x.shape[:-rank] + spec.size
        candidates = (pool.GRADIENT_CANDIDATES if backward else pool.CANDIDATES)["unpool"]
        shapes = (("dy", y_shape), ("dx", x.shape)) if backward else (("x", x.shape), ("y", y_shape))
        yield _step(operation, spec, candidates, x.size, *shapes, index_bytes=8 * x.size)
    return steps


def _activation(operation, x, **options):
    name = operation.removesuffix("_backward")
    call = _bound(getattr(reference, name), operation, x, **options)
    call.apply_defaults()
    spec = activation_spec(name, *call.args)
    if operation == name:
        yield _step(operation, spec, activation.CANDIDATES, x.size, ("x", x.shape), ("y", x.shape))
    else:
        yield _step(operation, spec, activation.BACKWARD_CANDIDATES, x.size, ("dy", x.shape), ("x", x.shape),
                    ("dx", x.shape))


def _softmax(operation, x, axis=-1):
    spec = softmax_spec(x, axis, log=operation == "log_softmax")[0]
    yield _step(operation, spec, softmax.CANDIDATES, 4 * x.size, ("x", x.shape), ("y", x.shape))


def _resample(backward=False):
    def steps(operation, x, size=None, scale_factor=None, mode="nearest", align_corners=None,
              recompute_scale_factor=None):
        spec, lead = resample_spec(x.shape, x.dtype, size, scale_factor, mode, align_corners, recompute_scale_factor)
        y_shape = lead + spec.out_size
        terms = prod(y_shape) * (4 * spec.rank if spec.kind == "linear" else 1)
        if backward:
            yield _step(operation, spec, resample.BACKWARD_CANDIDATES, terms, ("dy", y_shape), ("dx", x.shape))
        else:
            yield _step(operation, spec, resample.CANDIDATES, terms, ("x", x.shape), ("y", y_shape))
    return steps


def _pad(operation, x, padding, mode="constant", value=0.0):
    spec, _ = pad_spec(x, check_pad(x, padding, mode, value), mode)
    y_shape = (*x.shape[:x.ndim - len(spec.size)], *spec.out_size)
    yield _step(operation, spec, pad.CANDIDATES, 0, ("x", x.shape), ("y", y_shape))


def _unfold(backward=False):
    def steps(operation, x, kernel_size, dilation=1, padding=0, stride=1):
        spec, lead, channels = unfold_spec(x.shape, x.dtype, kernel_size, dilation, padding, stride)
        columns = (*lead, channels * spec.taps, prod(spec.out_size))
        if backward:
            yield _step(operation, spec, fold.FOLD_CANDIDATES, prod(columns), ("dy", columns), ("dx", x.shape))
        else:
            yield _step(operation, spec, fold.UNFOLD_CANDIDATES, 0, ("x", x.shape), ("y", columns))
    return steps


def _fold(backward=False):
    def steps(operation, x, output_size, kernel_size, dilation=1, padding=0, stride=1):
        spec, lead, channels = fold_spec(x.shape, x.dtype, output_size, kernel_size, dilation, padding, stride)
        image = (*lead, channels, *spec.size)
        if backward:
            yield _step(operation, spec, fold.UNFOLD_CANDIDATES, 0, ("dy", image), ("dx", x.shape))
        else:
            yield _step(operation, spec, fold.FOLD_CANDIDATES, x.size, ("x", x.shape), ("y", image))
    return steps


GRADIENTS = ("input_gradient", "weight_gradient")
OPERATIONS = {
    **{f"conv{rank}d": _conv(rank, "forward") for rank in (1, 2, 3)},
    **{f"conv{rank}d_backward": _conv(rank, *GRADIENTS, "bias_gradient") for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _transposed(rank, "input_gradient") for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d_backward": _transposed(rank, "forward", "weight_gradient", "bias_gradient")
       for rank in (1, 2, 3)},
    **{f"{kind}_pool{rank}d{'_backward' * back}": _pool(rank, kind, back)
       for kind in ("max", "min", "avg") for rank in (1, 2, 3) for back in (False, True)},
    **{f"lp_pool{rank}d{'_backward' * back}": _lp_pool(rank, back) for rank in (1, 2, 3) for back in (False, True)},
    **{f"adaptive_{kind}_pool{rank}d{'_backward' * back}": _adaptive_pool(rank, kind, back)
       for kind in ("max", "avg") for rank in (1, 2, 3) for back in (False, True)},
    **{f"global_{kind}_pool{'_backward' * back}": _global_pool(kind, back)
       for kind in ("max", "min", "avg") for back in (False, True)},
    **{f"max_unpool{rank}d{'_backward' * back}": _unpool(rank, back) for rank in (1, 2, 3) for back in (False, True)},
    **{f"{name}{'_backward' * back}": make(back) for name, make in (("interpolate", _resample), ("unfold", _unfold),
                                                                    ("fold", _fold)) for back in (False, True)},
    "linear": _linear("forward"),
    "linear_backward": _linear(*GRADIENTS, "bias_gradient"),
    **dict.fromkeys((name + suffix for name in ACTIVATIONS for suffix in ("", "_backward")), _activation),
    "pad": _pad,
    "softmax": _softmax,
    "log_softmax": _softmax,
}
