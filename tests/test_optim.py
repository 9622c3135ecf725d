"""The optimisers against PyTorch step by step, their state, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest

from convkit import optim
from convkit.errors import DtypeError, ShapeError
from convkit.nn import Linear, Parameter

CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.05, "centered": True, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.05, "centered": True, "eps": 1e-2, "momentum": 0.5, "weight_decay": 0.1}),
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
    assert other.state[parameters[0]]["step"] == 2


def test_settings_come_back_as_they_were_saved():
    parameters = [Parameter(np.zeros(2))]
    optimizer, other = optim.SGD(parameters, lr=0.25, momentum=0.5), optim.SGD(parameters)
    scheduler = optim.StepLR(optimizer, 1)
    other.lr = 1  # an int
    late = optim.StepLR(other, 1)
    late.load_state_dict(scheduler.state_dict())
    other.load_state_dict(optimizer.state_dict())
    assert (other.lr, other.momentum, late.base_lrs[0]) == (0.25, 0.5, 0.25)


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
    ("lr", np.nan, ShapeError, "lr must be finite, got lr=nan"),
    ("lr", "fast", DtypeError, "lr must be a number, got lr='fast'"),
    ("betas", [0.9, 2.0], ShapeError, "betas must be at least 0 and less than 1, got betas=2.0"),
    ("0.step", 0, ShapeError, r"state\['0.step'\] must be at least 1"),
    ("0.step", 1.5, DtypeError, r"state\['0.step'\] must be an integer"),
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


# -- groups of parameters ------------------------------------------------------------------------------------


def _groups(parameters, **second):
    return [{"params": parameters[:1]}, {"params": parameters[1], **second}]


@pytest.mark.parametrize("name, first, second", [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1}, {"momentum": 0.5, "nesterov": True}),
    ("Adam", {"lr": 0.1}, {"betas": (0.5, 0.6), "eps": 1e-3}),
    ("AdamW", {}, {"lr": 0.1, "weight_decay": 0.0}),
    ("RMSprop", {}, {"alpha": 0.5, "centered": True, "eps": 0.01}),
])
def test_groups_follow_torch(name, first, second):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    parameters = _parameters(rng)
    copies = [torch.nn.Parameter(torch.tensor(p.data)) for p in parameters]
    ours = getattr(optim, name)(_groups(parameters, **second), **first)
    theirs = getattr(torch.optim, name)(_groups(copies, **second), **first)
    schedulers = optim.StepLR(ours, 2, 0.5), torch.optim.lr_scheduler.StepLR(theirs, 2, 0.5)
    for step in _gradients(rng, 6, np.float64):
        _run(ours, parameters, [step])
        for t, g in zip(copies, step, strict=True):
            t.grad = None if g is None else torch.tensor(g)
        theirs.step()
        for scheduler in schedulers:
            scheduler.step()
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            for key in set(mine) - {"params"}:
                assert mine[key] == pytest.approx(other[key], rel=1e-12), key
        assert schedulers[0].get_last_lr() == pytest.approx(schedulers[1].get_last_lr(), rel=1e-12)
        for p, t in zip(parameters, copies, strict=True):
            np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-13, atol=1e-13)


def test_groups_resume_from_their_state(tmp_path):
    from convkit import load, save
    rng = np.random.default_rng(6)
    parameters = _parameters(rng)
    copies = [Parameter(p.data) for p in parameters]
    gradients = _gradients(rng, 6, np.float64)
    optimizer = optim.Adam(_groups(parameters, lr=0.1, betas=(0.5, 0.6)))
    _run(optimizer, parameters, gradients[:3])
    save(tmp_path / "adam.safetensors", optimizer.state_dict())
    for p, q in zip(parameters, copies, strict=True):
        q.data = p.data
    resumed = optim.Adam(_groups(copies))
    resumed.load_state_dict(load(tmp_path / "adam.safetensors"))
    assert [group["betas"] for group in resumed.param_groups] == [(0.9, 0.999), (0.5, 0.6)]
    _run(optimizer, parameters, gradients[3:])
    _run(resumed, copies, gradients[3:])
    for p, q in zip(parameters, copies, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    with pytest.raises(ShapeError, match=r"of 2 parameters: missing \[\], unexpected or of another shape \['lr', 'betas'"):
        optim.Adam(copies).load_state_dict(optimizer.state_dict())
    with pytest.raises(ShapeError, match="of 2 parameters in 2 groups: missing"):
        resumed.load_state_dict(optim.Adam(copies).state_dict())


def test_a_setting_of_the_optimizer_is_that_of_its_groups():
    parameters = _parameters(np.random.default_rng(7))
    optimizer = optim.SGD(_groups(parameters, lr=0.5), lr=1.0, momentum=0.9)
    assert optimizer.momentum == 0.9 and [group["lr"] for group in optimizer.param_groups] == [1.0, 0.5]
    with pytest.raises(ShapeError, match=r"differ in lr: \[1.0, 0.5\]; those of each are in optimizer.param_groups"):
        optimizer.lr *= 0.1
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    optimizer.lr = 0.125
    assert optimizer.lr == 0.125 == optimizer.param_groups[1]["lr"]
    assert optimizer.parameters == parameters and optimizer.defaults["lr"] == 1.0
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'beta'"):
        optimizer.beta  # noqa: B018
    assert repr(optimizer).startswith("SGD(1 parameters, lr=0.125, momentum=0.9")


def test_a_group_that_comes_later_learns_and_is_scheduled():
    a, b, c = (Parameter(np.ones(2)) for _ in range(3))
    optimizer = optim.SGD([a], lr=1.0)
    scheduler = optim.StepLR(optimizer, 1, 0.5)
    scheduler.step()
    optimizer.add_param_group({"params": b, "lr": 0.5})
    assert scheduler.get_last_lr() == [0.5, 0.5]
    scheduler.step()
    assert scheduler.get_last_lr() == [0.25, 0.125]
    optimizer.add_param_group({"params": [c]})
    for p in (a, b, c):
        p.grad = np.ones(2)
    optimizer.step()
    assert [p.data[0] for p in (a, b, c)] == [0.75, 0.875, 0.0]


@pytest.mark.parametrize("group, error, message", [
    ({"lr": 1.0}, ShapeError, "param_group must have \"params\", got 'lr'"),
    ([1], DtypeError, 'param_group must be a dict with "params" and settings'),
    ({"params": 3}, DtypeError, "parameters must be Parameters.*got int"),
    ({"params": "twice"}, DtypeError, "parameters must be Parameters.*got str"),
    ({"params": [], "weigth_decay": 0.1}, ShapeError, "SGD has no setting 'weigth_decay'; did you mean 'weight_decay'"),
    ({"params": [], "alpha": 0.1}, ShapeError, "SGD has no setting 'alpha', but lr, momentum"),
    ({"params": [], "lr": -1.0}, ShapeError, "lr must be finite and not negative"),
    ({"params": [], "nesterov": True}, ShapeError, "nesterov needs momentum above 0"),
])
def test_bad_groups_are_refused(group, error, message):
    p = Parameter(np.zeros(2))
    optimizer = optim.SGD([p])
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group)
    with pytest.raises(error, match=message):
        optim.SGD([{"params": [Parameter(np.zeros(2))]}, group])
    with pytest.raises(ShapeError, match="hold each Parameter once"):
        optimizer.add_param_group({"params": p})
    assert len(optimizer.param_groups) == 1


def test_a_group_is_checked_and_complete():
    group = optim.SGD([Parameter(np.zeros(2))]).param_groups[0]
    for name, value, error, message in (("lr", "fast", DtypeError, "lr must be a number"),
                                        ("beta", 1, ShapeError, "SGD has no setting 'beta'"),
                                        ("params", [], ShapeError, "params of a group stay as they are")):
        with pytest.raises(error, match=message):
            group[name] = value
    with pytest.raises(ShapeError, match="must keep its settings"):
        del group["lr"]
    assert dict(group)["lr"] == 1e-3 and len(group) == 6


def test_an_optimizer_survives_pickle_and_copy_with_its_parameters():
    p = Parameter(np.ones(3))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    p.grad = np.ones(3)
    optimizer.step()
    for q, other in (copy.deepcopy((p, optimizer)), pickle.loads(pickle.dumps((p, optimizer)))):
        other.step()
        np.testing.assert_allclose(q.data, [1 - 0.1 - 0.19] * 3)
    np.testing.assert_allclose(p.data, [0.9] * 3)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_a_network_that_changes_its_dtype_goes_on_learning(name):
    layer = Linear(3, 2, rng=np.random.default_rng(0))
    optimizer = getattr(optim, name)(layer.parameters(), lr=0.1, **({"momentum": 0.9} if name != "Adam" else {}))
    for convert, dtype in ((layer.float, np.float32), (layer.double, np.float64), (layer.half, np.float16)):
        convert()
        before = layer.weight.data.copy()
        y, backward = layer.forward(np.ones((4, 3), dtype))
        layer.zero_grad()
        backward(np.ones_like(y))
        optimizer.step()
        assert layer.weight.dtype == dtype and (layer.weight.data < before).all()


def test_a_rate_below_zero_comes_back():
    """One cycle's last rates may lie a rounding below 0."""
    parameters = _parameters(np.random.default_rng(8))
    optimizer, other = optim.SGD(parameters), optim.SGD(parameters)
    optimizer.lr = -1e-9
    other.load_state_dict(optimizer.state_dict())
    assert other.lr == -1e-9


def test_zero_grad_may_keep_the_arrays():
    p, q = Parameter(np.zeros(2)), Parameter(np.zeros(2))
    p.grad = np.ones(2)
    optimizer = optim.SGD([p, q])
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad, [0, 0])
    assert q.grad is None
    optimizer.zero_grad()
    assert p.grad is None
