"""Learning-rate schedulers: torch's rates step by step, their state, what they refuse, and `fit` with them."""

import numpy as np
import pytest

from convkit import DtypeError, ShapeError, fit, load, nn, optim, save


def sgd(**options):
    return optim.SGD([nn.Parameter(np.zeros(2))], **{"lr": 0.3, "momentum": 0.9, **options})


CASES = [
    ("StepLR", (3,), {}),
    ("StepLR", (1, 0.7), {}),
    ("MultiStepLR", ([2, 2, 5], 0.5), {}),
    ("CosineAnnealingLR", (7,), {"eta_min": 0.01}),
    ("CosineAnnealingLR", (30,), {}),
    ("LinearLR", (), {}),
    ("LinearLR", (0.01, 0.8, 9), {}),
    ("OneCycleLR", (0.5, 20), {}),
    ("OneCycleLR", (0.5,), {"epochs": 4, "steps_per_epoch": 5, "anneal_strategy": "linear", "pct_start": 0.45}),
    ("OneCycleLR", (0.5, 20), {"three_phase": True, "cycle_momentum": False}),
    ("OneCycleLR", (0.5, 23, None, None, 0.2), {"three_phase": True, "div_factor": 10.0, "final_div_factor": 50.0}),
    ("OneCycleLR", (0.5, 25), {"base_momentum": 0.6, "max_momentum": 0.7}),
]


@pytest.mark.parametrize("name, args, options", CASES)
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_follows_torch_step_by_step(name, args, options, optimizer):
    torch = pytest.importorskip("torch")
    ours = getattr(optim, optimizer)([nn.Parameter(np.zeros(2))], lr=0.3)
    theirs = getattr(torch.optim, optimizer)([torch.nn.Parameter(torch.zeros(2))], lr=0.3)
    a = getattr(optim, name)(ours, *args, **options)
    b = getattr(torch.optim.lr_scheduler, name)(theirs, *args, **options)
    for step in range(20):
        group = theirs.param_groups[0]
        assert ours.lr == pytest.approx(group["lr"], rel=1e-12, abs=1e-15), step
        assert ours.lr == a.lr_at(step)
        if optimizer == "SGD":
            assert ours.momentum == pytest.approx(group["momentum"], rel=1e-12)
        else:
            assert ours.betas == pytest.approx(group["betas"], rel=1e-12)
        a.step()
        theirs.step()
        b.step()


GROUPS = [
    ("StepLR", (3,), {}), ("MultiStepLR", ([2, 5], 0.5), {}), ("CosineAnnealingLR", (7,), {"eta_min": 0.01}),
    ("LinearLR", (0.01, 0.8, 9), {}), ("OneCycleLR", ([0.5, 0.1], 20), {}), ("OneCycleLR", (0.5, 20), {"three_phase": True}),
    ("ReduceLROnPlateau", (), {"patience": 1, "min_lr": [0.02, 0.01]}), ("ReduceLROnPlateau", (), {"patience": 0}),
]


@pytest.mark.parametrize("name, args, options", GROUPS)
def test_every_group_follows_torch(name, args, options):
    torch = pytest.importorskip("torch")
    ours = optim.SGD([{"params": nn.Parameter(np.zeros(2))}, {"params": nn.Parameter(np.zeros(2)), "lr": 0.05,
                                                              "momentum": 0.5}], lr=0.3)
    theirs = torch.optim.SGD([{"params": torch.nn.Parameter(torch.zeros(2))},
                              {"params": torch.nn.Parameter(torch.zeros(2)), "lr": 0.05, "momentum": 0.5}], lr=0.3)
    a = getattr(optim, name)(ours, *args, **options)
    b = getattr(torch.optim.lr_scheduler, name)(theirs, *args, **options)
    for step in range(20):
        for setting in ("lr", "momentum"):
            assert [group[setting] for group in ours.param_groups] == pytest.approx(
                [group[setting] for group in theirs.param_groups], rel=1e-12, abs=1e-15), step
        if name == "ReduceLROnPlateau":
            a.step(1.0)
            b.step(1.0)
            continue
        assert a.get_last_lr() == pytest.approx(b.get_last_lr()) == [a.lr_at(step, 0), a.lr_at(step, 1)]
        a.step()
        theirs.step()
        b.step()


def test_a_sequence_follows_torch():
    torch = pytest.importorskip("torch")
    schedulers = torch.optim.lr_scheduler
    ours, theirs = sgd(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.3)
    a = optim.SequentialLR(ours, [optim.LinearLR(ours, 0.1, 1.0, 4), optim.CosineAnnealingLR(ours, 8, interval="batch"),
                                  optim.StepLR(ours, 2, interval="batch")], [4, 12])
    b = schedulers.SequentialLR(theirs, [schedulers.LinearLR(theirs, 0.1, 1.0, 4), schedulers.CosineAnnealingLR(theirs, 8),
                                schedulers.StepLR(theirs, 2)], [4, 12])
    assert a.interval == "batch"
    for step in range(18):
        assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12, abs=1e-15), step
        a.step()
        theirs.step()
        b.step()


PLATEAUS = [{}, {"patience": 2, "factor": 0.5}, {"patience": 1, "cooldown": 2, "min_lr": 0.02},
            {"mode": "max", "patience": 1, "threshold": 0.1}, {"threshold_mode": "abs", "patience": 1, "threshold": 0.2},
            {"mode": "max", "threshold_mode": "abs", "patience": 0, "threshold": 0.3}, {"patience": 0, "eps": 0.01}]


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_plateau_follows_torch(options):
    torch = pytest.importorskip("torch")
    ours, theirs = sgd(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.3)
    a = optim.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    rng = np.random.default_rng(3)
    for step in range(40):
        value = float(np.round(3 / (1 + step) + rng.normal() * 0.3, 1))
        a.step(value)
        b.step(value)
        assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12), step
    assert ours.lr < 0.3


@pytest.mark.parametrize("make", [lambda o: optim.OneCycleLR(o, 1.0, 30), lambda o: optim.StepLR(o, 3),
                                  lambda o: optim.ReduceLROnPlateau(o, patience=1)])
def test_goes_on_from_its_state(make, tmp_path):
    def run(scheduler, steps):
        rates = []
        for step in steps:
            scheduler.step(*[1.0 + step] * isinstance(scheduler, optim.ReduceLROnPlateau))
            rates.append(scheduler.optimizer.lr)
        return rates

    first, second = sgd(), sgd()
    a, b = make(first), make(second)
    run(a, range(7))
    save(tmp_path / "s.safetensors", a.state_dict())
    save(tmp_path / "o.safetensors", first.state_dict())
    b.load_state_dict(load(tmp_path / "s.safetensors"))
    second.load_state_dict(load(tmp_path / "o.safetensors"))
    assert run(a, range(7, 14)) == run(b, range(7, 14))
    assert type(b.last_epoch) is int


@pytest.mark.parametrize("make, error, message", [
    (lambda o: optim.StepLR(None, 3), DtypeError, "optimizer must be an Optimizer, got NoneType"),
    (lambda o: optim.StepLR(o, 0), ShapeError, "step_size must be at least 1, got step_size=0"),
    (lambda o: optim.StepLR(o, 3, interval="step"), ShapeError, "interval must be one of epoch, batch"),
    (lambda o: optim.MultiStepLR(o, [3, 1]), ShapeError, "milestones must not descend"),
    (lambda o: optim.MultiStepLR(o, 3), DtypeError, "milestones must be a list of integers"),
    (lambda o: optim.CosineAnnealingLR(o, 2.5), DtypeError, "T_max must be an integer, got T_max=2.5"),
    (lambda o: optim.LinearLR(o, 0.0), ShapeError, "start_factor must be above 0 and at most 1"),
    (lambda o: optim.OneCycleLR(o, 0.1), ShapeError, "needs total_steps, or epochs and steps_per_epoch"),
    (lambda o: optim.OneCycleLR(o, 0.1, 9, pct_start=2), ShapeError, "pct_start must be between 0 and 1"),
    (lambda o: optim.OneCycleLR(o, [0.1, 0.2], 9), ShapeError, "max_lr must be a number or a list .* of the 1 groups"),
    (lambda o: optim.StepLR(o, 1).load_state_dict({"base_lrs": np.ones(2), "last_epoch": np.array(1)}), ShapeError,
     r"state\['base_lrs'\] must have shape \(1,\)"),
    (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), ShapeError, "factor must be at least 0 and less than 1"),
    (lambda o: optim.ReduceLROnPlateau(o, "least"), ShapeError, "mode must be one of min, max, got mode='least'"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)], [3]), ShapeError, "one fewer than the schedulers"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.LinearLR(o)], [3]), ShapeError, "share .* interval"),
    (lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []), DtypeError, "follow a formula"),
    (lambda o: optim.StepLR(o, 1).load_state_dict({}), ShapeError, "must hold base_lrs, last_epoch"),
])
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(sgd())


def test_one_cycle_ends():
    scheduler = optim.OneCycleLR(sgd(), 1.0, 3)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ShapeError, match="total_steps=3 and has been asked for step 4"):
        scheduler.step()


@pytest.mark.parametrize("make, rates", [
    (lambda o: optim.StepLR(o, 2), [0.4, 0.04, 0.04, 0.004]),
    (lambda o: optim.LinearLR(o, 0.5, 1.0, 16), [0.25, 0.3, 0.35, 0.4]),
    (lambda o: optim.ReduceLROnPlateau(o, threshold=10.0, patience=0), [0.04, 0.004, 0.0004, 0.00004]),
], ids=["epoch", "batch", "plateau"])
def test_fit_steps_after_epochs_or_batches(make, rates):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)), rng.integers(0, 2, 32)
    model = nn.Linear(3, 2, rng=rng, dtype=np.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.4)
    seen = []
    fit(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=4, batch_size=8, progress=False, rng=rng,
        scheduler=make(optimizer), callbacks=[lambda history: seen.append(optimizer.lr)])
    assert seen == pytest.approx(rates)
    with pytest.raises(ShapeError, match="scheduler must be a Scheduler of this optimizer"):
        fit(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=1, batch_size=8, scheduler=make(sgd()))


def test_a_plateau_wants_a_number():
    scheduler = optim.ReduceLROnPlateau(sgd(lr=1.0), patience=0)
    for bad in ("a", None, True, [1.0], np.ones(2), 1j):
        with pytest.raises(DtypeError, match="^metrics must be a number, got metrics="):
            scheduler.step(bad)
    assert scheduler.last_epoch == 0
    for figure in (np.float32(3), np.array([2.0]), np.array(1), 0.5):
        scheduler.step(figure)
        assert scheduler.best == figure
    scheduler.step(float("nan"))
    assert scheduler.best == 0.5 and scheduler.optimizer.lr == 0.1
