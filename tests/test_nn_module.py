"""Parameters and their packings, modules, containers, state, summary, first weights."""

import copy
import math
import pickle
import threading
from collections import OrderedDict

import numpy as np
import pytest

from convkit import fit, load, nn, optim, save
from convkit.errors import DtypeError, ShapeError
from convkit.kernels import native


def _rng():
    return np.random.default_rng(3)


def _net():
    rng = _rng()
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3, rng=rng), norm=nn.BatchNorm2d(2), act=nn.ReLU(),
                                     flat=nn.Flatten(), head=nn.Linear(8, 3, rng=rng)))


# -- Parameter ---------------------------------------------------------------------------------------------


def _packed(p):
    """What a kernel would compute with, and whether it came from the cache."""
    made = []

    def make(a):
        made.append(True)
        return a * 2.0

    return p.packed("twice", make), not made


def test_packing_is_made_once_while_nothing_changes():
    p = nn.Parameter(np.ones(3))
    assert [_packed(p)[1] for _ in range(3)] == [False, True, True]
    assert p.packed("other", lambda a: "other") == "other" and _packed(p)[1]
    inside = p._data  # as a kernel holds it, in this or another thread
    assert _packed(p)[1] and inside is p._data


def test_numpy_takes_a_parameter_for_its_values():
    p = nn.Parameter(np.ones(3, np.float32))
    assert np.asarray(p).dtype == np.float32 and np.sum(p, dtype=np.float64) == 3
    np.asarray(p)[0] = 2
    copied = np.array(p, np.float64)
    copied[:] = 5
    np.testing.assert_array_equal(p.data, [2, 1, 1])


HOLD = {
    "view": lambda p: p.data,
    "slice": lambda p: p.data[1:],
    "slice of a slice": lambda p: p.data[1:][:1],
    "reshaped": lambda p: p.data.reshape(3, 1),
    "transposed": lambda p: p.data.reshape(3, 1).T,
    "other dtype": lambda p: p.data.view(np.int64),
    "subclass": lambda p: p.data.view(np.recarray),
    "memoryview": lambda p: memoryview(p.data).cast("B").cast("d"),
    "asarray": lambda p: np.asarray(p.data),
    "asarray of itself": lambda p: np.asarray(p),
    "stride trick": lambda p: np.lib.stride_tricks.as_strided(p.data, (3,), (8,)),
    "from buffer": lambda p: np.frombuffer(memoryview(p.data), np.float64),
}


@pytest.mark.parametrize("hold", HOLD)
@pytest.mark.parametrize("packed_first", [False, True])
def test_an_edit_through_any_held_view_is_never_missed(hold, packed_first):
    p = nn.Parameter(np.ones(3))
    if packed_first:
        _packed(p)
    held = HOLD[hold](p)
    for value in (2, 3):  # packed before and after each edit, while the view is held
        packed, cached = _packed(p)
        assert not cached
        np.testing.assert_array_equal(packed, p._data * 2)
        np.asarray(held)[...] = value
        np.testing.assert_array_equal(_packed(p)[0], p._data * 2)
    np.asarray(held)[...] = 7
    want = p._data * 2
    del held
    packed, cached = _packed(p)
    assert not cached
    np.testing.assert_array_equal(packed, want)
    assert _packed(p)[1]


def test_edits_of_every_other_kind_are_seen():
    p = nn.Parameter(np.ones(3))
    _packed(p)
    p.data[0] = 5
    np.testing.assert_array_equal(_packed(p)[0], [10, 2, 2])
    p.data += 1
    np.testing.assert_array_equal(_packed(p)[0], [12, 4, 4])
    p.data = np.zeros(3)
    np.testing.assert_array_equal(_packed(p)[0], 0)
    view = p.data
    p.data = np.ones(3)  # a new buffer: the old view no longer reaches the parameter
    view[...] = 9
    np.testing.assert_array_equal(_packed(p)[0], 2)
    assert _packed(p)[1]


def test_packing_keeps_up_with_another_thread():
    p = nn.Parameter(np.zeros(64))
    stop = threading.Event()

    def edit():
        value = 0
        while not stop.is_set():
            value += 1
            p.data[...] = value

    thread = threading.Thread(target=edit)
    thread.start()
    for _ in range(300):
        _packed(p)
    stop.set()
    thread.join()
    np.testing.assert_array_equal(_packed(p)[0], p.data * 2)


def test_copies_share_nothing():
    p = nn.Parameter(np.ones(3), requires_grad=False)
    p.grad = np.full(3, 4.0)
    _packed(p)
    for q in (copy.deepcopy(p), copy.copy(p)):
        assert not q.requires_grad and q.grad[0] == 4 and not np.shares_memory(q.data, p.data)
        q.data[...] = 3
        np.testing.assert_array_equal(_packed(q)[0], 6)
        assert p.data[0] == 1
        assert _packed(q)[1]


def test_parameter_copies_into_native_c_order():
    source = np.asfortranarray(np.arange(6.0).reshape(2, 3)).astype(">f8")
    p = nn.Parameter(source)
    source[...] = -1
    assert p.dtype.isnative and p.data.flags.c_contiguous and p.data.base is p._buffer and p.size == 6
    np.testing.assert_array_equal(p.data, np.arange(6.0).reshape(2, 3))
    assert repr(p) == "Parameter(shape=(2, 3), dtype=float64)"


@pytest.mark.parametrize("act, error, message", [
    (lambda p: nn.Parameter([1.0]), DtypeError, "data must be a NumPy array, got list"),
    (lambda p: nn.Parameter(np.ones(2, int)), DtypeError, "data must be float16, float32 or float64"),
    (lambda p: setattr(p, "data", np.ones((3, 1))), ShapeError, r"data must have shape \(3,\)"),
    (lambda p: setattr(p, "grad", np.ones(1)), ShapeError, r"grad must have shape \(3,\)"),
    (lambda p: setattr(p, "grad", np.ones(3, np.float32)), DtypeError, "grad is float32 but data is float64"),
    (lambda p: p.add_grad(np.ones((1, 3))), ShapeError, r"grad must have shape \(3,\)"),
])
def test_parameter_refuses(act, error, message):
    with pytest.raises(error, match=message):
        act(nn.Parameter(np.ones(3)))


# -- Module ------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter(np.full(1, 3.0))
        self.inner = nn.Linear(2, 2, rng=_rng(), dtype=np.float64)
        self.again = self.inner
        self.register_buffer("count", np.zeros((), np.int64))

    def forward(self, x):
        y, backward = self.inner.forward(x)
        return y, backward


class LikeTorch(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(2, 2, rng=_rng())

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_a_forward_without_backward_is_refused(images):
    net, x = LikeTorch(), np.ones((images, 2), np.float32)
    calls = (lambda: net(x), lambda: net.summary(x.shape), lambda: nn.Sequential(net)(x),
             lambda: fit(net, nn.MSELoss(), optim.SGD(net.parameters()), x, x, epochs=1, batch_size=5, progress=False))
    for call in calls:
        with pytest.raises(DtypeError, match=r"^LikeTorch.forward must return the output and the function .* got array"):
            call()


def test_walking_finds_everything_in_order_and_shared_parameters_once():
    net = Twice()
    assert [k for k, _ in net.named_parameters()] == ["scale", "inner.weight", "inner.bias"]
    assert list(net.state_dict()) == ["scale", "count", "inner.weight", "inner.bias", "again.weight", "again.bias"]
    assert [k for k, _ in net.named_modules()] == ["", "inner", "again"]
    assert len(list(net.parameters())) == 3


def test_modes_reach_every_module():
    net = nn.Sequential(_net(), nn.Dropout())
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_zero_grad():
    net = _net()
    y, backward = net.forward(np.ones((2, 1, 4, 4), np.float32))
    backward(y)
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_parameter_is_not_overwritten_by_accident():
    conv = nn.Conv2d(1, 1, 1)
    with pytest.raises(DtypeError, match=r"weight is a Parameter and cannot become ndarray.*\.weight\.data = array"):
        conv.weight = np.zeros((1, 1, 1, 1), np.float32)
    conv.bias = None
    assert list(conv.state_dict()) == ["weight"]
    conv.weight = nn.Parameter(np.ones((1, 1, 1, 1), np.float32))
    assert conv(np.ones((1, 1, 2, 2), np.float32)).sum() == 4


def test_base_module_names_what_is_missing():
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(np.zeros(1))


def test_repr_of_a_tree():
    net = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), flat=nn.Flatten()))
    assert repr(net) == ("Sequential(\n"
                         "  (body): Sequential(\n"
                         "    (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))\n"
                         "    (1): ReLU()\n"
                         "  )\n"
                         "  (flat): Flatten(start_dim=1, end_dim=-1)\n"
                         ")")
    assert repr(nn.BatchNorm2d(4)) == ("BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, "
                                       "track_running_stats=True)")
    assert repr(nn.Conv2d(2, 2, 3, padding=((0, 1), 1))).endswith("padding=((0, 1), (1, 1)))")


# -- Sequential --------------------------------------------------------------------------------------------


def test_sequential_is_indexed_sliced_and_appended():
    net = _net()
    assert len(net) == 5 and net[0] is net.conv and net[-1] is net.head
    tail = net[3:]
    assert [name for name, _ in tail.named_children()] == ["flat", "head"] and tail.head.weight is net.head.weight
    features = net[:2](np.ones((1, 1, 4, 4), np.float32))
    assert features.shape == (1, 2, 2, 2)
    assert len(net[5:]) == len(nn.Sequential({})) == len(net[:0].extend(net[5:])) == 0
    plain = nn.Sequential(nn.ReLU()).append(nn.Flatten())
    assert list(plain) == [plain[0], plain[1]] and isinstance(plain[1], nn.Flatten)
    with pytest.raises(IndexError, match="index must be between -5 and 4, got 5"):
        net[5]
    with pytest.raises(DtypeError, match="index must be an integer"):
        net["head"]


# -- state -------------------------------------------------------------------------------------------------


def test_state_is_a_snapshot_and_comes_back_through_a_file(tmp_path):
    net = _net()
    x = _rng().normal(size=(2, 1, 4, 4)).astype(np.float32)
    net(x)
    state = net.state_dict()
    want = net.eval()(x)
    save(tmp_path / "net.safetensors", net)
    for p in net.parameters():
        p.data[...] = 0
    assert all(np.any(state[k]) for k in ("conv.weight", "head.weight"))
    other = _net()
    assert other.load_state_dict(load(tmp_path / "net.safetensors")) == ([], [])
    np.testing.assert_array_equal(other.eval()(x), want)
    net.load_state_dict(state)
    np.testing.assert_array_equal(net(x), want)


def test_a_network_out_of_a_pickle_learns():
    net = _net()
    other = pickle.loads(pickle.dumps(net))  # its arrays have dtypes of their own, equal to NumPy's
    x = _rng().normal(size=(2, 1, 4, 4)).astype(np.float32)
    for each in (net, other):
        for _ in range(2):
            y, backward = each.forward(x)
            backward(np.ones_like(y))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
    p = nn.Parameter(pickle.loads(pickle.dumps(np.zeros(3, np.float32))))
    p.grad = np.ones(3, np.float32)


def test_loading_converts_precision():
    net = nn.Linear(2, 2, rng=_rng())
    net.load_state_dict({"weight": np.full((2, 2), 0.5), "bias": np.ones(2, np.float16)})
    assert net.weight.dtype == np.float32 and net.weight.data[0, 0] == 0.5 and net.bias.data[0] == 1


@pytest.mark.parametrize("change, error, message", [
    (lambda s: s.pop("conv.bias"), ShapeError, "does not fit Sequential: missing 'conv.bias'"),
    (lambda s: s.update(extra=np.ones(1)), ShapeError, "unexpected 'extra'"),
    (lambda s: s.update({"head.bias": np.ones(4, np.float32)}), ShapeError,
     r"'head.bias' has shape \(4,\) but the module has \(3,\)"),
    (lambda s: s.update({"head.bias": [1.0, 2.0, 3.0]}), DtypeError, r"state\['head.bias'\] must be a NumPy array"),
    (lambda s: s.update({"head.bias": np.ones(3, int)}), DtypeError, "must be of a dtype like float32, got int64"),
    (lambda s: (s.pop("conv.bias"), s.update(extra=np.ones(1), other=np.ones(1))), ShapeError,
     "missing 'conv.bias'; unexpected 'extra', 'other'"),
])
def test_state_that_does_not_fit_is_named_and_changes_nothing(change, error, message):
    net = _net()
    state = {key: value + 1 for key, value in net.state_dict().items()}
    before = net.state_dict()
    change(state)
    with pytest.raises(error, match=message):
        net.load_state_dict(state)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("state", ["net.safetensors", None, [("weight", np.zeros(2))]])
def test_a_state_is_a_dict(state):
    net = nn.Linear(1, 1)
    optimizer = optim.SGD(net.parameters())
    for each in (net, optimizer, optim.StepLR(optimizer, 1)):
        with pytest.raises(DtypeError, match="state must be a dict of arrays, got state="):
            each.load_state_dict(state)


def test_loading_in_parts():
    net = _net()
    difference = net.load_state_dict({"head.bias": np.full(3, 9.0, np.float32), "extra": np.ones(1)}, strict=False)
    assert difference.unexpected_keys == ["extra"] and "conv.weight" in difference.missing_keys
    assert net.head.bias.data[0] == 9
    with pytest.raises(ShapeError, match="has shape"):
        net.load_state_dict({"head.bias": np.ones(4, np.float32)}, strict=False)


# -- walking and converting --------------------------------------------------------------------------------


def test_apply_comes_to_the_inner_modules_first():
    net, seen = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), nn.Flatten()), []
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["ReLU", "Linear", "Sequential", "Flatten", "Sequential"]
    assert [type(child).__name__ for child in net.children()] == ["Sequential", "Flatten"]


def test_freezing():
    net = _net()
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())
    net.head.requires_grad_()
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert net.conv.weight.requires_grad_(True).requires_grad
    with pytest.raises(DtypeError, match="requires_grad must be True or False, got requires_grad=1"):
        net.requires_grad_(1)
    assert net.conv.weight.requires_grad


def test_a_network_in_another_dtype():
    rng = np.random.default_rng(0)
    net, x = nn.Sequential(_net(), nn.Softmax()), rng.standard_normal((3, 1, 4, 4)).astype(np.float32)
    net.forward(x)[1](np.ones((3, 3), np.float32))
    net.eval()
    before, want = net.state_dict(), net(x)
    for convert, dtype, near in ((net.double, np.float64, 1e-6), (net.half, np.float16, 1e-2), (net.float, np.float32, 1e-2)):
        assert convert() is net
        assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()} == {np.dtype(dtype)}
        assert net[0].norm.running_var.dtype == dtype and net[0].norm.num_batches_tracked.dtype == np.int64
        y = net(x.astype(dtype))
        assert y.dtype == dtype
        np.testing.assert_allclose(y, want, atol=near)
    for key, value in net.state_dict().items():
        np.testing.assert_allclose(value, before[key], rtol=1e-3, atol=1e-6)
    net.conv = nn.Conv2d(1, 1, 1)
    net[0].norm.weight.data = np.full(2, 1e9, np.float32)
    assert np.isinf(net.half()[0].norm.weight.data).all()


# -- summary -----------------------------------------------------------------------------------------------


def test_summary():
    net = nn.Sequential(_net(), nn.Softmax())
    net[0].head.bias.requires_grad = False
    before = net.state_dict()
    summary = net.summary((2, 1, 4, 4))
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == ["0.conv", "0.norm", "0.act", "0.flat", "0.head", "1"]
    assert rows["0.conv"][1:] == ("Conv2d", (2, 2, 2, 2), 20, 2 * 2 * 4 * 9, 64)
    assert rows["0.head"].macs == 2 * 8 * 3 and rows["0.head"].parameters == 27
    assert (summary.parameters, summary.trainable, summary.macs) == (51, 48, 144 + 48)
    assert summary.parameter_bytes == 204 and summary.activation_bytes == 3 * 64 + 24 + 24
    lines = str(summary).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "shape", "parameters", "MACs", "activations"]
    assert "2 x 2 x 2 x 2" in lines[2] and "51" in lines[-3]
    assert lines[-2] == "parameters 204 B, 48 of 51 trainable"
    assert lines[-1].startswith("activations at the peak ") and lines[-1].endswith(" in training")
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    assert net.training and "predict" not in vars(net[1])


@pytest.mark.skipif(not native.available, reason="the NumPy definitions compute in float64")
def test_the_peak_of_activation_memory():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(8, 8, 3, padding=1))
    one = 8 * 100 * 100 * 4  # an activation
    summary = net.summary((1, 1, 100, 100))
    assert 2 * one <= summary.prediction_peak < 2.2 * one
    assert 6 * one <= summary.training_peak < 6.2 * one  # three outputs, and at most three of their gradients
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    net[:4].requires_grad_(False)
    assert net.summary((1, 1, 100, 100)).training_peak < 4.2 * one  # no gradient of the first two outputs
    norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert norm.summary((1, 3, 3, 3)).training_peak is None and "training" not in str(norm.summary((1, 3, 3, 3)))
    assert norm.summary((2, 3, 3, 3)).training_peak > 0


def test_summary_of_a_module_of_ones_own_and_of_indices():
    assert [r.output_shape for r in Twice().summary((5, 2)).rows] == [(5, 2)]
    assert nn.MaxPool2d(2, return_indices=True).summary((1, 1, 4, 4)).rows[0].output_shape == (1, 1, 2, 2)
    with pytest.raises(ShapeError, match="input_shape must not be negative"):
        _net().summary((-1, 1, 4, 4))


# -- first weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, kwargs, std, uniform", [
    ("kaiming_uniform_", {"nonlinearity": "relu"}, math.sqrt(2 / 540), True),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2 / 360), False),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, math.sqrt(1 / 3 / 540), True),
    ("xavier_uniform_", {"gain": 2.0}, 2 * math.sqrt(2 / 900), True),
    ("xavier_normal_", {}, math.sqrt(2 / 900), False),
    ("uniform_", {"low": -3.0, "high": 3.0}, math.sqrt(3), True),
    ("normal_", {"std": 0.7}, 0.7, False),
])
def test_first_weights_have_the_spread_of_their_formula(name, kwargs, std, uniform):
    p = nn.Parameter(np.zeros((40, 60, 3, 3), np.float32))
    assert getattr(nn.init, name)(p, rng=_rng(), **kwargs) is p
    values = p.data
    assert abs(values.std() / std - 1) < 0.02 and abs(values.mean()) < 0.02 * std
    widest = abs(values).max() / std
    assert (1.7 < widest <= math.sqrt(3) + 1e-6) if uniform else widest > 3.5


def test_constants_and_gains():
    p = nn.Parameter(np.zeros(3))
    assert nn.init.ones_(p).data.sum() == 3 and nn.init.zeros_(p).data.sum() == 0
    assert nn.init.constant_(p, 2.5).data.sum() == 7.5
    assert nn.init.calculate_gain("leaky_relu", 2.0) == math.sqrt(2 / 5)
    with pytest.raises(DtypeError, match="parameter must be a Parameter, got ndarray"):
        nn.init.zeros_(np.ones(3))
    square = nn.Parameter(np.zeros((2, 2)))
    for act, message in [(lambda: nn.init.calculate_gain("what"), "nonlinearity must be one of"),
                         (lambda: nn.init.fans(p), "at least 2 axes"),
                         (lambda: nn.init.kaiming_normal_(square, mode="in", rng=_rng()), "mode must be 'fan_in' or")]:
        with pytest.raises(ShapeError, match=message):
            act()


def test_gains_are_those_of_torch():
    torch = pytest.importorskip("torch")
    names = ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu",
             *(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3))]
    for name in names:
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


def test_layers_start_as_those_of_torch_and_repeat_with_their_generator():
    conv, linear = nn.Conv2d(4, 300, 3, groups=2, rng=_rng()), nn.Linear(50, 400, rng=_rng())
    for p, bound in [(conv.weight, 18 ** -0.5), (conv.bias, 18 ** -0.5), (linear.weight, 50 ** -0.5),
                     (linear.bias, 50 ** -0.5)]:
        assert 0.97 * bound < abs(p.data).max() <= bound * (1 + 1e-6)
        assert abs(p.data.std() / (bound / math.sqrt(3)) - 1) < 0.1
    np.testing.assert_array_equal(conv.weight.data, nn.Conv2d(4, 300, 3, groups=2, rng=_rng()).weight.data)
    assert not np.array_equal(nn.Linear(5, 5).weight.data, nn.Linear(5, 5).weight.data)
