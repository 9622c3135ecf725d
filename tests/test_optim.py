"""The optimisers against PyTorch step by step, their state, and what they refuse."""

import numpy as np
import pytest

from convkit import optim
from convkit.errors import DtypeError, ShapeError
from convkit.nn import Parameter

CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
]
SHAPES = ((4, 3, 2), (5,))


def _gradients(rng, steps, dtype):
    """One list of gradients per step; the second parameter gets none in step 1, as an unused layer does."""
    return [[rng.normal(size=s).astype(dtype) if (i, step) != (1, 1) else None for i, s in enumerate(SHAPES)]
            for step in range(steps)]


def _run(optimizer, parameters, gradients):
    for step in gradients:
        for p, g in zip(parameters, step, strict=True):
            p.grad = None if g is None else g.copy()
        optimizer.step()


def _parameters(rng, dtype=np.float64):
    return [Parameter(rng.normal(size=s).astype(dtype)) for s in SHAPES]


@pytest.mark.parametrize("name, settings", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_follows_torch_step_by_step(name, settings, dtype, tolerance):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    parameters = _parameters(rng, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in parameters]
    ours, other = getattr(optim, name)(parameters, **settings), getattr(torch.optim, name)(theirs, **settings)
    for step in _gradients(rng, 7, dtype):
        _run(ours, parameters, [step])
        for t, g in zip(theirs, step, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        other.step()
        for p, t in zip(parameters, theirs, strict=True):
            assert p.dtype == dtype
            np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name, settings", CASES)
def test_resumes_from_its_state(name, settings):
    rng = np.random.default_rng(1)
    first = _parameters(rng)
    gradients = _gradients(rng, 6, np.float64)
    optimizer = getattr(optim, name)(first, **settings)
    _run(optimizer, first, gradients[:3])
    second = [Parameter(p.data) for p in first]
    resumed = getattr(optim, name)(second)
    resumed.load_state_dict(optimizer.state_dict())
    _run(optimizer, first, gradients[3:])
    _run(resumed, second, gradients[3:])
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_state_survives_a_file(tmp_path):
    from convkit import load, save
    rng = np.random.default_rng(2)
    parameters = _parameters(rng)
    optimizer = optim.Adam(parameters, betas=(0.5, 0.6))
    _run(optimizer, parameters, _gradients(rng, 2, np.float64))
    save(tmp_path / "adam.safetensors", optimizer.state_dict())
    other = optim.Adam(parameters)
    other.load_state_dict(load(tmp_path / "adam.safetensors"))
    assert tuple(other.betas) == (0.5, 0.6)
    assert other._states[0]["step"] == 2


def test_settings_come_back_as_they_were_saved():
    parameters = [Parameter(np.zeros(2))]
    optimizer, other = optim.SGD(parameters, lr=0.25, momentum=0.5), optim.SGD(parameters)
    scheduler = optim.StepLR(optimizer, 1)
    other.lr = 1  # an int
    late = optim.StepLR(other, 1)
    late.load_state_dict(scheduler.state_dict())
    other.load_state_dict(optimizer.state_dict())
    assert (other.lr, other.momentum, late.base_lr) == (0.25, 0.5, 0.25)


def test_state_of_another_network_is_refused():
    rng = np.random.default_rng(3)
    parameters = _parameters(rng)
    optimizer = optim.Adam(parameters)
    _run(optimizer, parameters, _gradients(rng, 1, np.float64))
    with pytest.raises(ShapeError, match=r"unexpected or of another shape \['1.step', '1.exp_avg'"):
        optim.Adam(parameters[:1]).load_state_dict(optimizer.state_dict())
    with pytest.raises(ShapeError, match=r"missing \['momentum', 'dampening', 'nesterov'\]"):
        optim.SGD(parameters).load_state_dict(optim.Adam(parameters).state_dict())


@pytest.mark.parametrize("key, value, error, message", [
    ("lr", np.nan, ShapeError, "lr must be finite and not negative, got lr=nan"),
    ("lr", "fast", DtypeError, "lr must be a number, got lr='fast'"),
    ("betas", [0.9, 2.0], ShapeError, "betas must be at least 0 and less than 1, got betas=2.0"),
    ("0.step", 0, ShapeError, r"state\['0.step'\] must be at least 1"),
    ("0.step", 1.5, DtypeError, r"state\['0.step'\] must be made of integers"),
    ("0.exp_avg", np.ones((4, 3, 2), int), DtypeError, r"state\['0.exp_avg'\] must be float16, float32 or float64"),
])
def test_state_that_no_optimizer_has_is_refused_before_anything_changes(key, value, error, message):
    rng = np.random.default_rng(4)
    parameters = _parameters(rng)
    optimizer = optim.Adam(parameters)
    _run(optimizer, parameters, _gradients(rng, 1, np.float64))
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict({**before, "eps": np.array(0.5), key: np.asarray(value)})
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_lr_may_change_between_steps():
    p = Parameter(np.zeros(2))
    optimizer = optim.SGD([p], lr=1.0)
    p.grad = np.ones(2)
    optimizer.step()
    optimizer.lr = 0.5
    optimizer.step()
    np.testing.assert_array_equal(p.data, [-1.5, -1.5])


@pytest.mark.parametrize("make, name, value, error, message", [
    (optim.SGD, "lr", float("nan"), ShapeError, "lr must be finite, got lr=nan"),
    (optim.SGD, "momentum", "a", DtypeError, "momentum must be a number"),
    (optim.Adam, "betas", (0.9, 3), ShapeError, "betas must be at least 0 and less than 1"),
    (optim.AdamW, "weight_decay", -1, ShapeError, "weight_decay must be finite and not negative"),
])
def test_a_changed_setting_is_checked_like_a_given_one(make, name, value, error, message):
    optimizer = make([Parameter(np.zeros(2))])
    before = getattr(optimizer, name)
    with pytest.raises(error, match=f"^{message}"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


def test_zero_grad_and_version():
    p = Parameter(np.zeros(2))
    optimizer = optim.SGD([p])
    p.grad = np.ones(2)
    before = p.version
    optimizer.step()
    assert p.version > before
    optimizer.zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("make, error, message", [
    (lambda p: optim.SGD([]), ShapeError, "parameters must hold at least 1 Parameter"),
    (lambda p: optim.SGD(p[0]), DtypeError, "parameters must be an iterable of Parameters, .*, got Parameter"),
    (lambda p: optim.SGD([np.zeros(3)]), DtypeError, "parameters must be Parameters.*got ndarray"),
    (lambda p: optim.SGD([*p, *p]), ShapeError, "parameters must hold each Parameter once"),
    (lambda p: optim.SGD(p, lr=-1.0), ShapeError, "lr must be finite and not negative, got lr=-1.0"),
    (lambda p: optim.SGD(p, lr="1"), DtypeError, "lr must be a number"),
    (lambda p: optim.SGD(p, nesterov=True), ShapeError, "nesterov needs momentum above 0"),
    (lambda p: optim.Adam(p, betas=(0.9, 1.0)), ShapeError, "betas must be at least 0 and less than 1"),
    (lambda p: optim.Adam(p, betas=0.9), ShapeError, "betas must be a pair of numbers"),
    (lambda p: optim.AdamW(p, eps=np.nan), ShapeError, "eps must be finite and not negative"),
])
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make([Parameter(np.zeros(2))])
