"""Train a small network on 1,797 handwritten digits and show what it learned.

The digits (8 x 8 pixels, written by 43 people) come with scikit-learn. A fifth of them, the same each
time, is kept for the test and decides nothing. Pictures go to a folder: the filters of the first layer,
one digit at every layer, the patterns that excite each layer, the training curve, the confusion matrix
and the mistakes.
"""

import statistics
import time
from pathlib import Path

import numpy as np

import convkit
from convkit import nn, optim, settings
from convkit.cli.common import CommandError, positive, require, write_json
from convkit.cli.nets import digits
from convkit.kernels import native

RATES = (3e-3, 1e-3, 3e-4)  # learning rates of the first half, the next quarter and the last quarter
BATCH = 64
SHOWN = 10  # mistakes that are printed


def add_arguments(parser):
    """Options of ``convkit demo``."""
    parser.add_argument("--output", metavar="DIR", default="demo_output",
                        help="folder for the pictures (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE",
                        help="write accuracy and speed as JSON (- for standard output)")
    parser.add_argument("--epochs", type=positive, default=8, metavar="N",
                        help="passes over the data (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="of the first weights and the order (default: %(default)s)")


def run(args):
    """Train, report, draw."""
    require("sklearn", "the demo")
    require("matplotlib", "the demo")
    if args.seed < 0:
        raise CommandError(f"--seed must not be negative, got {args.seed}")
    folder = Path(args.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise CommandError(f"cannot make the folder {args.output}: {exc.strerror}") from exc
    say = (lambda *words: None) if args.json == "-" else print

    data = Digits()
    rng = np.random.default_rng(args.seed)
    model = digits(nn, dropout=0.3, rng=rng)
    say(f"{len(data.train_x)} digits to learn from, each also moved by one pixel in four directions; "
        f"{len(data.test_x)} kept for the test\n")
    say(model.summary((1, 1, 8, 8)))
    say()
    if not native.available:
        say(f"this will take minutes, on the NumPy twins: {native.reason}")
    history = train(model, data, args.epochs, rng, progress=args.json != "-")
    facts = judge(model, data, history, args)
    tell(facts, say)
    draw(folder, model, data, history)
    say(f"pictures: {', '.join(sorted(p.name for p in folder.glob('*.png')))} in {folder}/")
    if args.json:
        write_json(args.json, facts)
    return 0


class Digits:
    """scikit-learn's digits scaled to 0..1, split 80/20 the same way each time, digit by digit."""

    def __init__(self):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = (digits.images / 16).astype(np.float32)[:, None]
        self.train_x, self.test_x, self.train_y, self.test_y = train_test_split(
            images, digits.target.astype(np.int64), test_size=0.2, stratify=digits.target, random_state=0)

    def moved(self):
        """The training images and their copies moved by one pixel: (5 N, 1, 8, 8), (5 N,)."""
        padded = np.pad(self.train_x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
        moved = [padded[:, :, i:i + 8, j:j + 8] for i, j in moves]
        return np.concatenate(moved), np.tile(self.train_y, len(moves))


def train(model, data, epochs, rng, progress):
    """Fit with a learning rate that falls in three steps; the history."""
    x, y = data.moved()
    optimizer = optim.AdamW(model.parameters(), lr=RATES[0], weight_decay=0.1)

    def lower_rate(history):
        done = len(history.epochs) / epochs
        optimizer.lr = RATES[0] if done < 0.5 else RATES[1] if done < 0.75 else RATES[2]

    history = convkit.fit(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=epochs, batch_size=BATCH,
                          validation=(data.test_x, data.test_y), progress=progress, rng=rng,
                          callbacks=[lower_rate])
    if not history.epochs:  # interrupted before there was anything to show
        raise KeyboardInterrupt
    return history


def judge(model, data, history, args):
    """Accuracy, speed and mistakes, as plain values."""
    model(data.test_x[:1])  # packs the weights
    start = time.perf_counter()
    guess = model(data.test_x).argmax(axis=1)
    predict_seconds = time.perf_counter() - start
    wrong = np.flatnonzero(guess != data.test_y)
    return {
        "test_accuracy": float(np.mean(guess == data.test_y)),
        "mistakes": [[int(data.test_y[i]), int(guess[i])] for i in wrong],
        "test_images": len(guess),
        "train_seconds": sum(history.seconds),
        "images_per_second": statistics.mean(history.images_per_second),
        "predicted_images_per_second": len(guess) / predict_seconds,
        "epochs": len(history.epochs),
        "seed": args.seed,
        "parameters": sum(p.size for p in model.parameters()),
        "isa": settings.choice()[0],
        "threads": convkit.get_threads(),
        "convkit": convkit.__version__,
    }


def tell(facts, say):
    """What came out, in words."""
    right = facts["test_images"] - len(facts["mistakes"])
    say(f"\n{right} of {facts['test_images']} digits that it never saw are read correctly: "
        f"{100 * facts['test_accuracy']:.2f} %")
    for truth, guess in facts["mistakes"][:SHOWN]:
        say(f"  a {truth} was read as a {guess}")
    if len(facts["mistakes"]) > SHOWN:
        say(f"  and {len(facts['mistakes']) - SHOWN} more mistakes")
    say(f"trained in {facts['train_seconds']:.1f} s at {facts['images_per_second']:,.0f} images/s, "
        f"reads {facts['predicted_images_per_second']:,.0f} images/s ({facts['isa'] or 'NumPy'}, "
        f"{facts['threads']} threads)")


# ---- looking inside


def stages(model, x):
    """(name, output) after each ReLU and pooling."""
    for name, layer in model.named_children():
        x = layer(x)
        if name.startswith(("relu", "pool")):
            yield name, x


def draw(folder, model, data, history):
    """Write all pictures into ``folder``."""
    from convkit.cli import pictures

    logits = model(data.test_x)
    probabilities = convkit.functional.softmax(logits, 1)
    eights = np.flatnonzero(data.test_y == 8)
    one = int(eights[probabilities[eights, 8].argmax()])
    names = {"relu1": "after layer 1", "relu2": "after layer 2", "pool2": "pooled 2 x 2",
             "relu3": "after layer 3", "pool3": "pooled 2 x 2"}
    maps = [(names[name], y[0]) for name, y in stages(model, data.test_x[one:one + 1])]

    pictures.filters(folder / "filters.png", model.conv1.weight.data)
    pictures.feature_maps(folder / "feature_maps.png", data.test_x[one, 0], int(data.test_y[one]), maps,
                          probabilities[one])
    pictures.patterns(folder / "patterns.png", favourite_patches(model, data.train_x))
    pictures.training_curve(folder / "training.png", history.loss, history.accuracy, history.val_accuracy)
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (data.test_y, logits.argmax(axis=1)), 1)
    pictures.confusion(folder / "confusion.png", matrix)
    pictures.mistakes(folder / "mistakes.png", data.test_x[:, 0], data.test_y, probabilities)


def favourite_patches(model, x, channels=14, best=25):
    """Per convolution, for its liveliest channels: the mean of the patches of ``x`` that excite it most."""
    found, outputs = [], dict(stages(model, x))
    reach, step, start = 1, 1, 0  # pixels that an output sees, from one output to the next, and the first
    for name, layer in model.named_children():
        if name.startswith("conv"):
            reach += (layer.kernel_size[0] - 1) * step
            start -= layer.padding[0] * step
            y = outputs[name.replace("conv", "relu")]
            chosen = np.sort(np.argsort(-y.std(axis=(0, 2, 3)), kind="stable")[:channels])
            patches = [_mean_patch(x, y[:, c], reach, step, start, best) for c in chosen]
            found.append((f"layer {name[-1]}", np.stack(patches)))
        elif name.startswith("pool"):
            reach += step
            step *= 2
    return found


def _mean_patch(x, response, reach, step, start, best):
    """Average of the ``reach`` x ``reach`` patches where ``response`` (N, h, w) is largest, one per image."""
    images = np.argsort(-response.reshape(len(x), -1).max(axis=1), kind="stable")[:best]
    margin = reach + 8
    padded = np.pad(x[images, 0], ((0, 0), (margin, margin), (margin, margin)))
    total = np.zeros((reach, reach))
    for image, r in zip(padded, response[images], strict=True):
        row, column = (margin + start + step * int(i) for i in np.unravel_index(r.argmax(), r.shape))
        total += image[row:row + reach, column:column + reach]
    return total / best
