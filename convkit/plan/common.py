"""How a plan is chosen: an ordered list of candidates, each of which applies or says why not.

Of those that apply the fastest is taken: as ``tune`` measured it, else as a cost model predicts it, else the first: the
list is the library's order of preference. The NumPy twin is the last row of every list, so there is
always an answer and never a hidden fallback: ``considered`` keeps each candidate's reason for ``explain``.
"""

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from convkit import settings
from convkit.kernels import native
from convkit.plan.calls import forget_plans, record, remembered_of_same

MAX_PLANS = 1024


def never(_spec, _isa):
    """The ``rejects`` of a candidate that always applies."""
    return None


@dataclass(frozen=True, slots=True, eq=False)  # by identity: it is hashed on every call
class Candidate:
    """One way to compute an operation.

    ``rejects(spec, isa)`` returns the reason why it cannot, or None; ``build(spec, isa)`` returns the object
    that runs it. Where several can, what ``tune`` measured decides, and without that ``predict(spec, isa)``, the
    microseconds that an image would take, or None, with which a rule speaks for it. ``loses(spec, isa)`` says why it
    should not where nothing is measured, by a rule. A candidate with ``native=False`` needs no compiled kernels.
    """

    name: str
    rejects: Callable[[Any, str | None], str | None]
    build: Callable[[Any, str | None], Any]
    native: bool = True
    loses: Callable[[Any, str | None], str | None] = never
    predict: Callable[[Any, str], float | None] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The chosen candidate for one spec: ``run`` is what its ``build`` returned."""

    spec: Any
    algorithm: str
    isa: str | None
    run: Any
    considered: tuple[tuple[str, str | None], ...]


class Packing:
    """What runs ``(x, weight, bias, y)`` on a weight in its kernel's own order: a layer packs once and runs
    ``with_packed``. A subclass sets ``kernel`` and ``pack_key`` and defines ``with_packed(x, packed, bias, y)``; one
    that ``finishes`` takes a ``Finish``, too, and its tasks apply it to what they have just written; ``adds`` says
    whether it may add an array there.
    """

    finishes = adds = False

    def __call__(self, x, weight, bias, y):
        self.with_packed(x, self.pack(weight), bias, y)

    def pack(self, weight):
        return self.kernel.pack(weight.reshape(-1))

    @property
    def workspace_bytes(self):
        return self.kernel.workspace_bytes


class Timing(NamedTuple):
    """What each algorithm took on one spec: the best of many calls with this many images."""

    images: int
    microseconds: Mapping[str, float]


NOT_TIMED = Timing(0, {})


class AlgorithmRefused(ValueError):
    """The forced algorithm exists for this operation but cannot compute this call."""


def twin(compute):
    """The last row of every list, the NumPy twin: ``run(*inputs, out)`` stores ``compute(spec, *inputs)``."""
    return Candidate("reference", never, lambda spec, _isa: partial(_store, compute, spec), native=False)


@np.errstate(over="ignore")  # what is too large for out's dtype becomes infinite, as in any other kernel
def _store(compute, spec, *operands):
    *inputs, out = operands
    out[...] = compute(spec, *inputs)


_plans: dict = {}
_timings: dict = {}  # {(spec, isa): Timing}; replaced as a whole, never changed
_lock = threading.Lock()


@contextmanager
def recording():
    """Collect the plan of every operation called inside the ``with`` block, in the list that this yields."""
    plans = []
    token = record.set(plans)
    try:
        yield plans
    finally:
        record.reset(token)


def choose(spec, candidates):
    """The plan for ``spec`` under the settings in force, from the cache when it has been made before.

    ``candidates`` is the operation's ordered tuple; it is part of the cache key, so specs of different
    operations may be equal. The cache is bounded: the oldest plan goes first.
    """
    plan = _chosen(spec, settings.choice(), candidates)
    plans = record.get()
    if plans is not None:
        plans.append(plan)
    return plan


@remembered_of_same  # which finds a spec that a call has used before without comparing it
def _chosen(spec, choice, candidates):
    key = (spec, choice, candidates)
    plan = _plans.get(key)
    if plan is None:
        isa, forced, _ = choice
        table = _timings
        plan = _make(spec, isa, forced, candidates, table.get((spec, isa), NOT_TIMED).microseconds)
        with _lock:
            while len(_plans) >= MAX_PLANS:
                del _plans[next(iter(_plans))]
            if table is _timings:  # else the plan is of before
                _plans[key] = plan
    return plan


def reason(candidate, spec, isa):
    """Why ``candidate`` cannot compute ``spec`` at this ISA level, or None if it can."""
    if candidate.native and not native.available:
        return native.reason
    return candidate.rejects(spec, isa)


def _make(spec, isa, forced, candidates, times):
    if forced is not None and any(c.name == forced for c in candidates):
        candidate = next(c for c in candidates if c.name == forced)
        why = reason(candidate, spec, isa)
        if why is not None:
            raise AlgorithmRefused(f"algorithm={forced!r} was forced but cannot compute this call: {why}")
        return _built(candidate, spec, isa, ((forced, None),))
    considered = tuple((c.name, reason(c, spec, isa)) for c in candidates)
    timed = [c for c, (name, why) in zip(candidates, considered, strict=True) if why is None and name in times]
    if timed:
        return _built(min(timed, key=lambda c: times[c.name]), spec, isa, considered)
    considered = tuple((name, why or c.loses(spec, isa)) for c, (name, why) in zip(candidates, considered, strict=True))
    ways = [c for c, (_, why) in zip(candidates, considered, strict=True) if why is None]
    return _built(_best(ways, spec, isa), spec, isa, considered)


def _best(ways, spec, isa):
    """The one predicted fastest, or the first that a rule speaks for, else the first."""
    predicted = predictions(ways, spec, isa)
    if predicted:
        return min(ways, key=lambda c: predicted.get(c.name, math.inf))
    return next((c for c in ways if c.predict and c.predict(spec, isa) is None), ways[0])


def predictions(candidates, spec, isa):
    """Microseconds of the native ones of these candidates, by name; none where the order of the list decides."""
    ways = [c for c in candidates if c.native]
    times = {c.name: c.predict(spec, isa) for c in ways} if all(c.predict for c in ways) else {}
    return {} if None in times.values() else times


def _built(candidate, spec, isa, considered):
    return Plan(spec, candidate.name, isa if candidate.native else None, candidate.build(spec, isa), considered)


def clear():
    """Forget every plan (tests, and measuring what a first call costs)."""
    with _lock:
        _plans.clear()
        _chosen.clear()
        forget_plans()


def timings():
    """Everything that has been timed and is in use: ``{(spec, isa): Timing}``."""
    return _timings


def timing(spec, isa):
    """What ``spec`` took where it has been timed, else ``NOT_TIMED``."""
    return _timings.get((spec, isa), NOT_TIMED)


def add_timings(table):
    """Let plans follow ``{(spec, isa): Timing}`` from now on, beside what is known already."""
    _replace_timings(lambda known: {**known, **table})


def clear_timings():
    """Forget every timing."""
    _replace_timings(lambda known: {})


def _replace_timings(change):
    global _timings
    with _lock:
        _timings = change(_timings)
        _plans.clear()
        _chosen.clear()
        forget_plans()
