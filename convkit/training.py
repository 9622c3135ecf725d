"""Training a network: epochs over shuffled batches, with progress and a history; and predicting in batches."""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, ShapeError
from convkit.nn.module import Module, backward_of, forward_of, learns
from convkit.optim.optimizer import Optimizer
from convkit.optim.scheduler import ReduceLROnPlateau, Scheduler
from convkit.spec import common
from convkit.typing import Floats


class Epoch(NamedTuple):
    """What one epoch gave; None where there is no validation, or no classes to be right about."""

    loss: float
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images_per_second: float


def _column(name):
    return property(lambda self: [getattr(epoch, name) for epoch in self.epochs])


class History:
    """What ``fit`` returns.

    Attributes
    ----------
    epochs : list of Epoch
        One entry per finished epoch.
    loss, accuracy, val_loss, val_accuracy, seconds, images_per_second : list
        The columns of ``epochs``. Loss and accuracy of the training images are means over the epoch, taken while
        the network learned; seconds include the validation, images per second do not.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    loss = _column("loss")
    accuracy = _column("accuracy")
    val_loss = _column("val_loss")
    val_accuracy = _column("val_accuracy")
    seconds = _column("seconds")
    images_per_second = _column("images_per_second")

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.interrupted = False

    def __repr__(self):
        last = f", {_figures(self.epochs[-1])}" if self.epochs else ""
        return f"History({len(self.epochs)} epochs{last}{', interrupted' if self.interrupted else ''})"


def fit(model: Module, loss: Module, optimizer: Optimizer, x: Floats, y: NDArray[Any], *, epochs: int, batch_size: int,
        validation: tuple[Floats, NDArray[Any]] | float | None = None, progress: bool = True,
        rng: np.random.Generator | None = None, shuffle: bool = True, drop_last: bool = False,
        scheduler: Scheduler | None = None, callbacks: Iterable[Callable[[History], object]] = ()) -> History:
    """Train ``model`` and leave it in prediction mode.

    With the same ``rng`` (and seeded layers) the result is the same to the bit. Ctrl-C ends the training after the
    running operation: the model stays usable, and the history of the finished epochs is returned.

    Parameters
    ----------
    model : Module
    loss : Module
        ``value, backward = loss.forward(output, target)`` with the mean over the batch, such as CrossEntropyLoss.
    optimizer : Optimizer
        Over the model's parameters.
    x : ndarray, shape (N, ...)
    y : ndarray, shape (N, ...)
        Targets; whole numbers are taken for classes, and the accuracy is counted.
    epochs, batch_size : int
    validation : (x, y) or float, optional
        Other images to measure on after each epoch; a number is the share of ``x`` to hold back, drawn by ``rng``.
    progress : bool
        Show loss, accuracy, images per second and the time left: a bar in a terminal where tqdm is installed, else
        one line per epoch; on standard error.
    rng : numpy.random.Generator, optional
        Source of the order of the images.
    shuffle : bool
        A new order in every epoch.
    drop_last : bool
        Leave out a last batch that is not full, of other images in every epoch: a batch norm may refuse one of a
        single image.
    scheduler : Scheduler, optional
        Changes the learning rate, after each epoch or batch as its ``interval`` says. ReduceLROnPlateau gets the
        validation loss, or the loss without validation.
    callbacks : iterable of callable
        Each is called with the history after each epoch, for instance to change ``optimizer.lr``.

    Returns
    -------
    History
    """
    epochs, batch_size = common.integer("epochs", epochs, 1), common.integer("batch_size", batch_size, 1)
    _check_parts(model, loss, optimizer, scheduler)
    rng = np.random.default_rng() if rng is None else common.generator("rng", rng)
    shuffle, callbacks = common.flag("shuffle", shuffle), _functions(callbacks)
    _check_pairs("x", x, "y", y)
    (x, y), held_back = _split(x, y, validation, rng)
    images = len(x) - (len(x) % batch_size if common.flag("drop_last", drop_last) else 0)
    if not images:
        raise ShapeError(f"batch_size must be at most the number of images with drop_last=True, "
                         f"got batch_size={batch_size} and {len(x)} images")
    history = History()
    show = _reporter(common.flag("progress", progress), epochs, images)
    try:
        for _ in range(epochs):
            start = time.perf_counter()
            order = rng.permutation(len(x)) if shuffle else np.arange(len(x))
            mean, accuracy = _train_epoch(model, loss, optimizer, x, y, order[:images], batch_size, show,
                                          scheduler if _after(scheduler, "batch") else None)
            trained = time.perf_counter()
            measured = evaluate(model, loss, *held_back, batch_size=batch_size) if held_back else (None, None)
            history.epochs.append(Epoch(mean, accuracy, *measured, time.perf_counter() - start,
                                        images / (trained - start)))
            show.epoch(history)
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(mean if measured[0] is None else measured[0])
            elif _after(scheduler, "epoch"):
                scheduler.step()
            for callback in callbacks:
                callback(history)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        show.close()
        model.eval()
    return history


def evaluate(model: Module, loss: Module, x: Floats, y: NDArray[Any], *,
             batch_size: int = 256) -> tuple[float, float | None]:
    """Mean loss and accuracy of the model on images that it has not seen, in prediction mode and in batches.

    Parameters
    ----------
    model : Module
    loss : Module
        As in ``fit``.
    x : ndarray, shape (N, ...)
    y : ndarray, shape (N, ...)
        Targets; whole numbers are taken for classes.
    batch_size : int

    Returns
    -------
    (float, float or None)
        The loss, and the share of right classes, or None where the targets are no classes.
    """
    _check_model(model)
    _check_loss(loss)
    _check_pairs("x", x, "y", y)
    batch_size = common.integer("batch_size", batch_size, 1)
    score = _Score(loss)
    with _prediction_mode(model):
        for i in range(0, len(x), batch_size):
            target = y[i:i + batch_size]
            output = model(x[i:i + batch_size])
            score.add(loss.forward(output, target)[0], output, target)
    return score.mean(), score.accuracy()


def predict(model: Module, x: Floats, *, batch_size: int = 256) -> Floats:
    """The model's outputs for all of ``x`` in prediction mode, computed in batches.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, ...)
    batch_size : int

    Returns
    -------
    ndarray, shape (N, ...)
    """
    _check_model(model)
    if common.array("x", x).ndim < 1:
        raise ShapeError("x must have at least 1 axis, that of the images, got x.shape=()")
    batch_size = common.integer("batch_size", batch_size, 1)
    with _prediction_mode(model):
        return np.concatenate([model(x[i:i + batch_size]) for i in range(0, max(len(x), 1), batch_size)])


def _after(scheduler, interval):
    return scheduler is not None and scheduler.interval == interval


def _train_epoch(model, loss, optimizer, x, y, order, batch_size, show, scheduler):
    model.train()
    score = _Score(loss)
    for i in range(0, len(order), batch_size):
        batch = order[i:i + batch_size]
        target = y[batch]
        model.zero_grad()
        output, backward = forward_of(model, x[batch])
        value, dloss = loss.forward(output, target)
        backward_of(model, backward, dloss(), need_dx=False)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        score.add(value, output, target)
        show.batch(len(batch), score)
    return score.mean(), score.accuracy()


class _Score:
    """Running means over images; targets that the loss ignores are neither right nor wrong."""

    def __init__(self, loss):
        self._ignored = getattr(loss, "ignore_index", None)
        self._images = self._positions = self._right = 0
        self._loss = 0.0

    def add(self, mean_loss, output, target):
        self._images += len(target)
        self._loss += float(mean_loss) * len(target)
        if target.dtype.kind in "iu":
            ignored = 0 if self._ignored is None else int(np.count_nonzero(target == self._ignored))
            self._positions += target.size - ignored
            right = output.argmax(1) == target  # a class that is ignored may still be the highest
            self._right += int(np.count_nonzero(right if not ignored else right & (target != self._ignored)))

    def mean(self):
        return self._loss / self._images

    def accuracy(self):
        return self._right / self._positions if self._positions else None


def _check_parts(model, loss, optimizer, scheduler):
    _check_model(model)
    _check_loss(loss)
    if not isinstance(optimizer, Optimizer):
        raise DtypeError(f"optimizer must be an Optimizer, got optimizer={common.shown(optimizer)}")
    moved = set(map(id, optimizer.parameters))
    if not any(id(p) in moved for p in model.parameters()):
        raise ShapeError("optimizer must be made of parameters of this model, got those of another one")
    if not learns(model):
        raise ShapeError("model must have a parameter that learns, but all of them are frozen (requires_grad=False)")
    if scheduler is not None and getattr(scheduler, "optimizer", None) is not optimizer:
        raise ShapeError(f"scheduler must be a Scheduler of this optimizer, got {type(scheduler).__name__}")


def _check_model(model):
    if not isinstance(model, Module):
        raise DtypeError(f"model must be a Module, got model={common.shown(model)}")


def _check_loss(loss):
    if isinstance(loss, type) or not callable(getattr(loss, "forward", None)):
        raise DtypeError(f"loss must have a forward of output and target, as CrossEntropyLoss() has, "
                         f"got loss={common.shown(loss)}")


def _functions(callbacks):
    functions = list(callbacks) if isinstance(callbacks, Iterable) else [None]
    if not all(map(callable, functions)):
        raise DtypeError("callbacks must be a list of functions of the history, "
                         f"got callbacks={common.shown(callbacks)}")
    return functions


def _check_pairs(x_name, x, y_name, y):
    if common.array(x_name, x).ndim < 1 or common.array(y_name, y).ndim < 1 or len(x) != len(y) or not len(x):
        raise ShapeError(f"{x_name} and {y_name} must have the same number of images, at least 1, "
                         f"got {x_name}.shape={x.shape} and {y_name}.shape={y.shape}")


def _split(x, y, validation, rng):
    """The pair to train on, and the pair to measure on or None."""
    if validation is None:
        return (x, y), None
    if isinstance(validation, (tuple, list)):
        if len(validation) != 2:
            raise ShapeError(f"validation must be a pair (x, y), got {len(validation)} items")
        _check_pairs("validation[0]", validation[0], "validation[1]", validation[1])
        return (x, y), tuple(validation)
    if not isinstance(validation, (float, np.floating)):
        raise DtypeError(f"validation must be a pair (x, y), a fraction or None, got {common.shown(validation)}")
    count = round(common.real("validation", validation, 0.0, 1.0, "between 0 and 1") * len(x))
    if not 0 < count < len(x):
        raise ShapeError(f"validation={validation} of {len(x)} images leaves none to measure on or none to train on")
    order = rng.permutation(len(x))
    return (x[order[count:]], y[order[count:]]), (x[order[:count]], y[order[:count]])


@contextmanager
def _prediction_mode(model):
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


# -- progress ----------------------------------------------------------------------------------------------


class _Silent:
    def batch(self, images, score):
        """After each batch."""

    def epoch(self, history):
        """After each epoch."""

    def close(self):
        """At the end."""


class _Lines(_Silent):
    """One line per epoch."""

    def __init__(self, epochs):
        self._epochs = epochs

    def epoch(self, history):
        done = len(history.epochs)
        left = sum(history.seconds) / done * (self._epochs - done)
        number = f"{done:{len(str(self._epochs))}}/{self._epochs}"
        self._write(f"epoch {number}  {_figures(history.epochs[-1])}  {_clock(left)} left")

    def _write(self, line):
        print(line, file=sys.stderr, flush=True)


class _Bar(_Lines):
    """A bar over all images of all epochs that shows the running means; the lines scroll above it."""

    def __init__(self, tqdm, epochs, images):
        super().__init__(epochs)
        self._bar = tqdm(total=epochs * images, unit=" images", desc=f"epoch 1/{epochs}", dynamic_ncols=True,
                         leave=False)

    def batch(self, images, score):
        text = f"loss {score.mean():.4f}"
        if score.accuracy() is not None:
            text += f", accuracy {score.accuracy():.2%}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(images)

    def epoch(self, history):
        super().epoch(history)
        self._bar.set_description(f"epoch {min(len(history.epochs) + 1, self._epochs)}/{self._epochs}")

    def _write(self, line):
        self._bar.write(line, file=sys.stderr)

    def close(self):
        self._bar.close()


def _reporter(wanted, epochs, images):
    if not wanted:
        return _Silent()
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:  # tqdm is an extra, not a dependency
            pass
        else:
            return _Bar(tqdm, epochs, images)
    return _Lines(epochs)


def _figures(epoch):
    parts = [f"loss {epoch.loss:.4f}"]
    if epoch.accuracy is not None:
        parts.append(f"accuracy {epoch.accuracy:.2%}")
    if epoch.val_loss is not None:
        parts.append(f"val_loss {epoch.val_loss:.4f}")
    if epoch.val_accuracy is not None:
        parts.append(f"val_accuracy {epoch.val_accuracy:.2%}")
    return "  ".join([*parts, f"{epoch.images_per_second:,.0f} images/s"])


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
