"""Learning rates that change while a network learns; names, arguments and formulas as in ``torch.optim.lr_scheduler``.

A scheduler sets the learning rate of every group of the optimiser when it is made, and again after each ``step()``.
``lr_at(step)`` is the formula, so a schedule can be looked at before it is used. ``fit(scheduler=...)`` calls ``step``
itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import cos, inf, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, ShapeError
from convkit.optim.optimizer import Optimizer, fraction, non_negative
from convkit.spec import common

INTERVALS = ("epoch", "batch")
LARGEST = np.finfo(np.float64).max


class Scheduler:
    """Base of the schedulers; a subclass defines ``lr_at``.

    Attributes
    ----------
    optimizer : Optimizer
    base_lrs : list of float
        The learning rate of each group before any scheduler changed it.
    last_epoch : int
        Steps taken.
    interval : {"epoch", "batch"}
        After what ``fit`` calls ``step``.
    """

    interval = "epoch"
    state_names: tuple[str, ...] = ("base_lrs", "last_epoch")

    def __init__(self, optimizer: Optimizer, *, interval: str | None = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"optimizer must be an Optimizer, got {type(optimizer).__name__}")
        if interval is not None:
            self.interval = _one_of("interval", interval, INTERVALS)
        self.optimizer = optimizer
        self.base_lrs: list[float] = []
        self._meet_groups()
        self.last_epoch = 0

    def _meet_groups(self):
        """Note the rates of groups that the optimiser has got meanwhile."""
        for group in self.optimizer.param_groups[len(self.base_lrs):]:
            # schedulers that follow each other start from the same rate
            self.base_lrs.append(group.setdefault("initial_lr", group["lr"]))

    def lr_at(self, step: int, group: int = 0) -> float:
        """The learning rate of a group, by its number, after ``step`` calls of ``step()``."""
        raise NotImplementedError(f"{type(self).__name__} does not define lr_at")

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups as they are now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Move on by one and set the learning rate of every group."""
        self.last_epoch += 1
        self._apply(self.last_epoch)

    def _apply(self, step):
        self._meet_groups()
        for i, group in enumerate(self.optimizer.param_groups):
            group["lr"] = self.lr_at(step, i)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What changes over time, as arrays, so that ``convkit.save`` can write it."""
        return {name: np.array(getattr(self, name)) for name in self.state_names}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from ``state_dict()`` of a scheduler made with the same arguments."""
        if set(common.mapping("state", state)) != set(self.state_names):
            raise ShapeError(f"the state of {type(self).__name__} must hold {', '.join(self.state_names)}, "
                             f"got {', '.join(map(str, state))}")
        values = {name: common.array(f"state[{name!r}]", state[name]) for name in self.state_names}
        for name, value in values.items():
            common.check_shape(f"state[{name!r}]", value.shape, np.shape(getattr(self, name)), "as in this scheduler")
        for name, value in values.items():
            setattr(self, name, value.tolist())


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ShapeError(f"{name} must be one of {', '.join(allowed)}, got {name}={common.shown(value)}")
    return value


def _by_group(name, value, optimizer):
    """A rate for all groups, or a list of one for each, as a list."""
    if not isinstance(value, (tuple, list)):
        return [non_negative(name, value)]
    if len(value) != len(optimizer.param_groups):
        raise ShapeError(f"{name} must be a number or a list of one for each of the {len(optimizer.param_groups)} "
                         f"groups, got {name}={common.shown(value)}")
    return [non_negative(name, v) for v in value]


def _figure(metrics):
    """A number of any kind, or an array of one, as a float."""
    value = metrics.item() if isinstance(metrics, np.ndarray) and metrics.size == 1 else metrics
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DtypeError(f"metrics must be a number, got metrics={common.shown(metrics)}")
    return float(value)


class StepLR(Scheduler):
    """``initial_lr * gamma ** (step // step_size)``.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
    gamma : float
    interval : {"epoch", "batch"}
        What a step is.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, *, interval: str = "epoch") -> None:
        super().__init__(optimizer, interval=interval)
        self.step_size = common.integer("step_size", step_size, 1)
        self.gamma = non_negative("gamma", gamma)
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        return self.base_lrs[group] * self.gamma ** (step // self.step_size)


class MultiStepLR(Scheduler):
    """``initial_lr * gamma ** (number of milestones reached)``.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : sequence of int
        Steps, not descending.
    gamma : float
    interval : {"epoch", "batch"}
        What a step is.
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, *,
                 interval: str = "epoch") -> None:
        super().__init__(optimizer, interval=interval)
        self.milestones = _ascending("milestones", milestones)
        self.gamma = non_negative("gamma", gamma)
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        return self.base_lrs[group] * self.gamma ** bisect_right(self.milestones, step)


def _ascending(name, value):
    if not isinstance(value, (tuple, list)):
        raise DtypeError(f"{name} must be a list of integers, got {name}={common.shown(value)}")
    items = [common.integer(name, v, 0) for v in value]
    if items != sorted(items):
        raise ShapeError(f"{name} must not descend, got {name}={common.shown(value)}")
    return items


class CosineAnnealingLR(Scheduler):
    """``eta_min + (initial_lr - eta_min) * (1 + cos(pi * step / T_max)) / 2`` (arXiv 1608.03983, without restarts).

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        Steps down to ``eta_min``.
    eta_min : float
    interval : {"epoch", "batch"}
        What a step is.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, *,  # noqa: N803 - torch's name
                 interval: str = "epoch") -> None:
        super().__init__(optimizer, interval=interval)
        self.T_max = common.integer("T_max", T_max, 1)
        self.eta_min = non_negative("eta_min", eta_min)
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        return self.eta_min + (self.base_lrs[group] - self.eta_min) * (1 + cos(pi * step / self.T_max)) / 2


class LinearLR(Scheduler):
    """Warm-up: from ``initial_lr * start_factor`` in a straight line to ``initial_lr * end_factor``, where it stays.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor, end_factor : float
        Between 0 and 1, the first above 0.
    total_iters : int
        Steps of the line.
    interval : {"epoch", "batch"}
        What a step is; ``"batch"`` unless told otherwise.
    """

    interval = "batch"

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, *, interval: str = "batch") -> None:
        super().__init__(optimizer, interval=interval)
        self.start_factor = common.real("start_factor", start_factor, np.nextafter(0.0, 1.0), 1.0,
                                        "above 0 and at most 1")
        self.end_factor = common.real("end_factor", end_factor, 0.0, 1.0, "between 0 and 1")
        self.total_iters = common.integer("total_iters", total_iters, 1)
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return self.base_lrs[group] * (self.start_factor + (self.end_factor - self.start_factor) * done)


class OneCycleLR(Scheduler):
    """Up to ``max_lr`` and down again over all of the training, momentum the other way round (arXiv 1708.07120).

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float or list of float
        The top, or that of each group; the optimiser's own rate is not used.
    total_steps : int, optional
        Batches of the whole training; or else ``epochs`` and ``steps_per_epoch``.
    epochs, steps_per_epoch : int, optional
    pct_start : float
        Share of the steps that go up.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Whether to move ``momentum`` or the first of ``betas`` from ``max_momentum`` to ``base_momentum`` and back.
    base_momentum, max_momentum : float
    div_factor, final_div_factor : float
        The first rate is ``max_lr / div_factor``, the last one that over ``final_div_factor``.
    three_phase : bool
        Go down as steeply as up, and then to the last rate.
    interval : {"epoch", "batch"}
        What a step is; ``"batch"`` unless told otherwise.
    """

    interval = "batch"

    def __init__(self, optimizer: Optimizer, max_lr: float | Sequence[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True, base_momentum: float = 0.85,
                 max_momentum: float = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
                 three_phase: bool = False, *, interval: str = "batch") -> None:
        super().__init__(optimizer, interval=interval)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ShapeError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = common.integer("epochs", epochs, 1) * common.integer("steps_per_epoch", steps_per_epoch, 1)
        self.total_steps = common.integer("total_steps", total_steps, 1)
        self.anneal_strategy = _one_of("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self._tops = _by_group("max_lr", max_lr, optimizer)
        share = common.real("pct_start", pct_start, 0.0, 1.0, "between 0 and 1")
        first = 1 / common.real("div_factor", div_factor, 1e-300, LARGEST, "above 0")
        last = first / common.real("final_div_factor", final_div_factor, 1e-300, LARGEST, "above 0")
        low, high = fraction("base_momentum", base_momentum), fraction("max_momentum", max_momentum)
        up, end = share * self.total_steps - 1, self.total_steps - 1
        # (last step, share of the top from and to, momentum from and to)
        self._phases = [(up, (first, 1.0), (high, low)), (end, (1.0, last), (low, high))]
        if common.flag("three_phase", three_phase):
            self._phases[1:] = [(2 * up, (1.0, first), (low, high)), (end, (first, last), (high, high))]
        self._momentum = None
        if common.flag("cycle_momentum", cycle_momentum):
            self._momentum = next((name for name in ("momentum", "betas") if name in optimizer.settings), None)
            if self._momentum is None:
                raise ShapeError("cycle_momentum needs an optimiser with momentum or betas")
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        # a group that came later has the top of the last one
        return self._tops[min(group, len(self._tops) - 1)] * self._between(step, 1)

    def _apply(self, step):
        super()._apply(step)
        for group in self.optimizer.param_groups if self._momentum else ():
            momentum = self._between(step, 2)
            group[self._momentum] = momentum if self._momentum == "momentum" else (momentum, *group["betas"][1:])

    def _between(self, step, column):
        if step > self.total_steps:
            raise ShapeError(f"OneCycleLR was made for total_steps={self.total_steps} and has been asked for "
                             f"step {step}")
        begin = 0.0
        for phase in self._phases:
            if step <= phase[0]:
                break
            if phase is not self._phases[-1]:
                begin = phase[0]
        end, (start, stop) = phase[0], phase[column]
        done = (step - begin) / (end - begin) if end > begin else 1.0
        if self.anneal_strategy == "cos":
            return stop + (start - stop) / 2 * (cos(pi * done) + 1)
        return (stop - start) * done + start


class SequentialLR(Scheduler):
    """One scheduler after the other, such as a warm-up and then a cosine.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : sequence of Scheduler
        Of this optimiser and all of one ``interval``; each begins with its step 0.
    milestones : sequence of int
        The steps at which the second, third, ... takes over.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Scheduler], milestones: Sequence[int]) -> None:
        super().__init__(optimizer)
        self.schedulers, self.milestones = list(schedulers), _ascending("milestones", milestones)
        if len(self.schedulers) != len(self.milestones) + 1:
            raise ShapeError(f"milestones must be one fewer than the schedulers, got {len(self.milestones)} and "
                             f"{len(self.schedulers)}")
        for s in self.schedulers:
            if not isinstance(s, Scheduler) or isinstance(s, ReduceLROnPlateau):
                raise DtypeError(f"schedulers must follow a formula of the step, got {type(s).__name__}")
            if s.optimizer is not optimizer or s.interval != self.schedulers[0].interval:
                raise ShapeError(f"schedulers must share the optimizer and the interval, "
                                 f"got {[s.interval for s in self.schedulers]}")
        self.interval = self.schedulers[0].interval
        self._apply(0)

    def lr_at(self, step: int, group: int = 0) -> float:
        scheduler, begin = self._running(step)
        return scheduler.lr_at(step - begin, group)

    def _apply(self, step):
        scheduler, begin = self._running(step)
        scheduler._apply(step - begin)

    def _running(self, step):
        i = bisect_right(self.milestones, step)
        return self.schedulers[i], self.milestones[i - 1] if i else 0


class ReduceLROnPlateau(Scheduler):
    """Multiply the learning rate by ``factor`` when a figure has not become better for ``patience`` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        Whether less or more is better.
    factor : float
        Below 1.
    patience : int
        Steps without a better figure that are let pass.
    threshold : float
    threshold_mode : {"rel", "abs"}
        Better means by ``threshold`` times the best figure, or by ``threshold`` itself.
    cooldown : int
        Steps after a reduction in which nothing is counted.
    min_lr : float or list of float
        The least rate, or that of each group.
    eps : float
        The least change that is made.
    """

    state_names = ("base_lrs", "last_epoch", "best", "num_bad_epochs", "cooldown_counter")

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0,
                 min_lr: float | Sequence[float] = 0.0, eps: float = 1e-8) -> None:
        super().__init__(optimizer)
        self.mode = _one_of("mode", mode, ("min", "max"))
        self.threshold_mode = _one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        self.factor = fraction("factor", factor)
        self.patience, self.cooldown = common.integer("patience", patience, 0), common.integer("cooldown", cooldown, 0)
        self.threshold, self.min_lrs = non_negative("threshold", threshold), _by_group("min_lr", min_lr, optimizer)
        self.eps = non_negative("eps", eps)
        self.best = inf if mode == "min" else -inf
        self.num_bad_epochs = self.cooldown_counter = 0

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Take note of the newest figure and reduce the rate if it is time.

        Parameters
        ----------
        metrics : float
            Such as the validation loss; NaN is never better.
        """
        value = _figure(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for i, group in enumerate(self.optimizer.param_groups):
                rate = max(group["lr"] * self.factor, self.min_lrs[min(i, len(self.min_lrs) - 1)])
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, value):
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold
