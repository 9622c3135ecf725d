"""The training loop: it learns, repeats, reports, and survives Ctrl-C."""

import signal
import sys

import numpy as np
import pytest

from convkit import evaluate, fit, nn, optim, predict
from convkit.errors import DtypeError, ShapeError


def _data(n=60, seed=0):
    """Bright on the left or on the right half of a noisy 4 x 4 image."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.normal(0, 0.3, (n, 1, 4, 4)).astype(np.float32)
    x[y == 0, :, :, :2] += 1
    x[y == 1, :, :, 2:] += 1
    return x, y


def _net(seed=1):
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, rng=rng), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Dropout(0.1, rng=rng), nn.Linear(16, 2, rng=rng))


def _fit(net, x, y, **changes):
    options = {"epochs": 3, "batch_size": 16, "progress": False, "rng": np.random.default_rng(2)} | changes
    loss = options.pop("loss", None) or nn.CrossEntropyLoss()
    optimizer = options.pop("optimizer", None) or optim.Adam(net.parameters(), lr=0.01)
    return fit(options.pop("model", net), loss, optimizer, x, y, **options)


def test_learns_and_keeps_a_history():
    x, y = _data()
    net = _net()
    history = _fit(net, x, y, epochs=6, validation=_data(seed=5))
    assert len(history.epochs) == 6 and not history.interrupted
    assert history.loss[-1] < history.loss[0] / 2 and history.val_accuracy[-1] == 1.0
    assert all(s > 0 for s in history.seconds + history.images_per_second)
    assert not any(m.training for m in net.modules())
    loss, accuracy = evaluate(net, nn.CrossEntropyLoss(), *_data(seed=5), batch_size=7)
    assert accuracy == 1.0 and type(accuracy) is type(loss) is float and np.isclose(loss, history.val_loss[-1], rtol=1e-5)
    assert "6 epochs, loss" in repr(history)


def test_repeats_to_the_bit_with_its_generator():
    x, y = _data()
    nets = [_net(), _net(), _net()]
    a, b, c = (_fit(net, x, y, validation=0.25, rng=np.random.default_rng(seed))
               for net, seed in zip(nets, (2, 2, 3), strict=True))
    assert a.loss == b.loss != c.loss and a.val_loss == b.val_loss
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_ignored_targets_are_neither_right_nor_wrong():
    class Table(nn.Module):
        def forward(self, x):
            return x, lambda dy: dy

    scores = np.zeros((1, 2, 4), np.float32)
    scores[0, 1] = [1, 1, -1, 1]
    target = np.array([[1, 1, 1, 255]])
    loss, accuracy = evaluate(Table(), nn.CrossEntropyLoss(ignore_index=255), scores, target)
    assert accuracy == 2 / 3
    assert evaluate(Table(), nn.CrossEntropyLoss(ignore_index=1), scores, np.array([[1, 0, 0, 0]]))[1] == 1 / 3


def test_sees_every_image_once_per_epoch_in_a_new_order():
    class Spy(nn.Identity):
        seen = []

        def forward(self, x):
            self.seen.extend(x[:, 0].tolist())
            return super().forward(x)

    x, y = np.arange(10, dtype=np.float32).reshape(10, 1), np.zeros(10, int)
    net = nn.Sequential(Spy(), nn.Linear(1, 2))
    _fit(net, x, y, epochs=2, batch_size=4)
    first, second = Spy.seen[:10], Spy.seen[10:]
    assert sorted(first) == sorted(second) == x[:, 0].tolist() and first != second != x[:, 0].tolist()
    Spy.seen.clear()
    _fit(net, x, y, epochs=1, shuffle=False)
    assert Spy.seen == x[:, 0].tolist()
    Spy.seen.clear()
    _fit(net, x, y, epochs=1, validation=0.3)
    assert len(Spy.seen) == 10 and sorted(Spy.seen) == x[:, 0].tolist()


def test_a_last_batch_that_is_not_full_can_be_left_out():
    class Spy(nn.Identity):
        seen = []

        def forward(self, x):
            self.seen.append(len(x))
            return super().forward(x)

    x, y = _data(41)
    for options, want in (({}, [20, 20, 1]), ({"drop_last": True}, [20, 20]), ({"drop_last": True, "validation": 0.1}, [20])):
        net = nn.Sequential(Spy(), _net()[:4], nn.Flatten(), nn.Linear(16, 2))
        Spy.seen = []
        history = _fit(net, x, y, batch_size=20, epochs=1, **options)
        assert Spy.seen[:len(want)] == want
        assert len(history.epochs) == 1
    with pytest.raises(ShapeError, match=r"batch_size must be at most .* drop_last=True, got batch_size=42 and 41 images"):
        _fit(_net(), x, y, batch_size=42, drop_last=True)
    with pytest.raises(DtypeError, match="drop_last must be True or False, got drop_last=1"):
        _fit(_net(), x, y, drop_last=1)


def test_targets_that_are_no_classes_have_no_accuracy():
    class Squares(nn.Module):
        def __call__(self, output, target):
            return np.mean((output - target) ** 2)

        def forward(self, output, target):
            return self(output, target), lambda: 2 * (output - target) / output.size

    x = np.random.default_rng(0).normal(size=(20, 3))
    net = nn.Linear(3, 1, rng=np.random.default_rng(1), dtype=np.float64)
    history = fit(net, Squares(), optim.SGD(net.parameters(), lr=0.3), x, x.sum(1, keepdims=True), epochs=40,
                  batch_size=5, progress=False, validation=0.2)
    assert history.accuracy[-1] is None and history.val_accuracy[-1] is None and history.val_loss[-1] < 1e-3
    np.testing.assert_allclose(net.weight.data, 1, atol=0.05)


def test_a_loss_of_ones_own_needs_a_forward_and_no_more():
    class Half:
        def forward(self, x, target):
            return 0.5 * criterion(x, target), lambda: 0.5 * criterion.forward(x, target)[1]()

    criterion = nn.CrossEntropyLoss()
    x, y = _data()
    own, usual = (_fit(_net(), x, y, loss=loss, validation=(x, y)) for loss in (Half(), criterion))
    assert own.val_loss[0] == pytest.approx(0.5 * usual.val_loss[0], rel=0.05)


def test_callbacks_may_change_the_learning_rate():
    x, y = _data()
    net = _net()
    optimizer = optim.SGD(net.parameters(), lr=1.0)

    def decay(history):
        optimizer.lr = 0.1 ** len(history.epochs)

    fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=3, batch_size=20, progress=False, callbacks=[decay])
    assert np.isclose(optimizer.lr, 1e-3)


@pytest.mark.parametrize("epoch", [1, 2])
def test_ctrl_c_leaves_a_usable_model(epoch):
    class Pressed(nn.Identity):
        batches = 0

        def forward(self, x):
            self.batches += 1
            if self.batches == 4 * epoch - 1:  # four batches per epoch
                signal.raise_signal(signal.SIGINT)
            return super().forward(x)

    x, y = _data()
    net = nn.Sequential(*_net(), Pressed())
    history = _fit(net, x, y, epochs=5)
    assert history.interrupted and "interrupted" in repr(history)
    assert len(history.epochs) == len(history.loss) == epoch - 1
    assert not any(m.training for m in net.modules())
    net[-1].batches = 100
    out = net(x)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, predict(net, x, batch_size=len(x)))


def test_predict_works_in_batches_and_restores_the_modes():
    x, _ = _data(10)
    net = _net()
    net[1].eval()
    modes = [m.training for m in net.modules()]
    out = predict(net, x, batch_size=3)
    assert [m.training for m in net.modules()] == modes and out.shape == (10, 2)
    np.testing.assert_allclose(out, net.eval()(x), rtol=1e-5, atol=1e-6)
    assert predict(net, x[:0]).shape == (0, 2)


# -- progress ----------------------------------------------------------------------------------------------


def test_plain_lines(capsys):
    x, y = _data()
    _fit(_net(), x, y, progress=True, epochs=10, validation=0.2)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 10
    for part in ("epoch  1/10", "loss ", "accuracy ", "val_loss ", "val_accuracy ", " images/s", " left"):
        assert part in lines[0]
    assert lines[-1].endswith("0:00 left")


@pytest.mark.parametrize("installed", [True, False])
def test_bar_in_a_terminal(capsys, monkeypatch, installed):
    if installed:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    x, y = _data()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _fit(_net(), x, y, progress=True)
    err = capsys.readouterr().err
    assert "epoch 3/3  loss" in err
    assert ("images/s, loss " in err) == installed


def test_silence(capsys):
    _fit(_net(), *_data())
    assert capsys.readouterr() == ("", "")


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, error, message", [
    ({"epochs": 0}, ShapeError, "epochs must be at least 1"),
    ({"batch_size": 2.5}, DtypeError, "batch_size must be an integer"),
    ({"y": np.zeros(3, int)}, ShapeError, r"x and y must have the same number of images.*got x.shape=\(60, 1, 4, 4\)"),
    ({"y": [0] * 60}, DtypeError, "y must be a NumPy array, got list"),
    ({"validation": (1, 2, 3)}, ShapeError, r"validation must be a pair \(x, y\), got 3 items"),
    ({"validation": (np.zeros(3), np.zeros(2))}, ShapeError, r"validation\[0\] and validation\[1\] must have the same"),
    ({"validation": 0.001}, ShapeError, "leaves none to measure on"),
    ({"validation": 1.5}, ShapeError, "validation must be between 0 and 1"),
    ({"validation": np.zeros((9, 3))}, DtypeError, r"a fraction or None, got array\(\[\[0., 0., 0.\], \[0., 0., .*\.\.\.$"),
    ({"validation": True}, DtypeError, "validation must be a pair"),
    ({"progress": 1}, DtypeError, "progress must be True or False"),
    ({"shuffle": "no"}, DtypeError, "shuffle must be True or False"),
    ({"rng": 0}, DtypeError, "rng must be a numpy.random.Generator, such as .*, got rng=0"),
    ({"model": nn.Sequential}, DtypeError, "model must be a Module, got model=<class"),
    ({"loss": nn.CrossEntropyLoss}, DtypeError, "loss must have a forward of output and target.*, got loss=<class"),
    ({"loss": "mse"}, DtypeError, "loss must have a forward of output and target.*, got loss='mse'"),
    ({"optimizer": "sgd"}, DtypeError, "optimizer must be an Optimizer, got optimizer='sgd'"),
    ({"optimizer": optim.SGD(nn.Linear(1, 1).parameters())}, ShapeError, "optimizer must be made of parameters of this"),
    ({"scheduler": optim.StepLR}, ShapeError, "scheduler must be a Scheduler of this optimizer, got type"),
    ({"callbacks": print}, DtypeError, "callbacks must be a list of functions of the history, got"),
    ({"callbacks": ["print"]}, DtypeError, r"callbacks must be a list of functions of the history, got .*\['print'\]"),
])
def test_bad_arguments_are_refused(change, error, message):
    x, y = _data()
    with pytest.raises(error, match=message):
        _fit(_net(), change.pop("x", x), change.pop("y", y), **change)


def test_a_network_that_is_frozen_learns_in_part_or_is_refused():
    (x, y), net = _data(), _net()
    body = net.state_dict()
    net[:-1].requires_grad_(False)
    _fit(net, x, y)
    for key, value in net.state_dict().items():
        frozen = not key.startswith(f"{len(net) - 1}.") and "running" not in key and "num_batches" not in key
        assert np.array_equal(value, body[key]) == frozen, key
    with pytest.raises(ShapeError, match="model must have a parameter that learns, but all of them are frozen"):
        _fit(net.requires_grad_(False), x, y)


def test_predict_and_evaluate_refuse_what_they_cannot_use():
    x, y = _data(4)
    for call in (lambda: predict("net", x), lambda: evaluate(nn.Linear, nn.MSELoss(), x, y)):
        with pytest.raises(DtypeError, match="model must be a Module, got model="):
            call()
    with pytest.raises(ShapeError, match="batch_size must be at least 1"):
        evaluate(nn.Linear(16, 2), nn.CrossEntropyLoss(), x.reshape(4, 16), y, batch_size=0)
    with pytest.raises(ShapeError, match=r"x must have at least 1 axis, that of the images, got x.shape=\(\)"):
        predict(nn.ReLU(), np.array(1.0))
    with pytest.raises(DtypeError, match="loss must have a forward of output and target, .*, got loss=<class"):
        evaluate(nn.Linear(16, 2), nn.CrossEntropyLoss, x.reshape(4, 16), y)
