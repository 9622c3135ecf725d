"""Calls that repeat.

Most calls are like one before: a layer meets images of one size again and again. What the checks of such a call say,
and which plan it takes, depends on the shapes and dtypes of its arrays and on the values of all else, never on what is
in the arrays. ``remembered(function)`` keeps what a function of that kind returned, for each geometry and each value,
where True, 1 and 1.0 are three. A call with anything that may be another the next time (a list, a subclass of an array,
one of NumPy's numbers) goes to the function itself, as all calls do where there are no kernels: there nobody counts
microseconds.

``planned(function)`` does so for a function that makes what runs such a call: the plan included, which depends on the
settings in force, and short ways for operands that lie as kernels want them, so both are part of the kind of call.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

import numpy as np

from convkit import settings
from convkit.kernels import native

MAX_CALLS = 1024  # of each function; the oldest goes first
MAX_OF_A_LAYER = 64  # where each layer has a function of its own

if native.available:
    from convkit.kernels.operands import Remembered, apart, empty, holds, plain
else:
    empty = np.empty

    class Remembered:  # type: ignore[no-redef]
        def __init__(self, function: Callable[..., Any], by_identity: bool, most: int, choice: Any = None,
                     record: Any = None) -> None:
            self.function = function

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return self.function(*arguments, **options)

        def clear(self) -> None:
            pass

    def plain(a: Any, dtype: np.dtype[Any]) -> bool:
        flags = getattr(a, "flags", None)
        return type(a) is np.ndarray and flags.c_contiguous and flags.aligned and a.dtype == dtype

    def apart(a: np.ndarray, b: np.ndarray) -> bool:
        return not np.may_share_memory(a, b)

    def holds(kept: tuple[bytes | None, ...], arrays: tuple[np.ndarray | None, ...]) -> bool:
        return kept == tuple(None if a is None else a.tobytes() for a in arrays)

__all__ = ("Remembered", "apart", "empty", "forget_plans", "holds", "plain", "planned", "record", "remembered",
           "remembered_of_same", "running")

record: ContextVar[list[Any] | None] = ContextVar("convkit_plan_record", default=None)  # of the plans of all calls
_planned: WeakSet[Remembered] = WeakSet()


def remembered(function: Callable[..., Any]) -> Remembered:
    """``function(*arrays_and_arguments)``, asked once for each kind of call."""
    return Remembered(function, False, MAX_CALLS)


def remembered_of_same(function: Callable[..., Any]) -> Remembered:
    """The same for a function of objects that never change, such as specs: two are alike if they are the same one."""
    return Remembered(function, True, MAX_CALLS)


def planned(function: Callable[..., Any], most: int = MAX_CALLS) -> Remembered:
    """``function(*arrays_and_arguments)``, which may choose plans, asked once for each kind of call under the same
    settings, and by every call whose plans are recorded.
    """
    each = Remembered(function, False, most, settings.chosen, record)
    _planned.add(each)
    return each


def running(check: Callable[..., Any], make: Callable[..., Any]) -> Remembered:
    """``f(x, *arguments)``: what ``make(*check(x, *arguments), x)`` makes, the function that runs such calls."""
    return planned(lambda x, *arguments, **options: make(*check(x, *arguments, **options), x))


def forget_plans() -> None:
    """Let every ``planned`` function be asked again."""
    for each in _planned:
        each.clear()
