"""The demo's pictures, each from plain arrays. matplotlib only, imported with this file."""

import matplotlib

matplotlib.use("Agg")

import numpy as np  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402

INK, ACCENT, WARM = "#1f2933", "#2563a8", "#c2410c"
plt.rcParams.update({"font.size": 10, "axes.edgecolor": INK, "axes.spines.top": False,
                     "axes.spines.right": False, "savefig.dpi": 130, "figure.facecolor": "white"})


def _image(axes, picture, cmap="gray_r", low=None, high=None):
    axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#b8c0c8")
        spine.set_linewidth(0.6)


def _row_title(axes, first, second):
    axes.axis("off")
    axes.text(0, 0.5, f"{first}\n{second}", va="center", color=INK)


def _save(figure, path):
    figure.savefig(path)
    plt.close(figure)


def filters(path, weight):
    """First-layer filters (F, 1, h, w) on one scale: red adds brightness, blue takes it away."""
    count, columns = len(weight), 8
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(8.4, 1.1 * rows + 0.5), layout="constrained",
                                squeeze=False)
    high = np.abs(weight).max()
    for axes in grid.flat:
        axes.axis("off")
    for axes, kernel in zip(grid.flat, weight[:, 0], strict=False):
        axes.axis("on")
        _image(axes, kernel, "RdBu_r", -high, high)
    figure.suptitle("What the first layer looks for: red wants ink, blue wants none")
    _save(figure, path)


def feature_maps(path, digit, label, stages, probabilities):
    """One digit on its way through the network: a row per stage, its liveliest maps in it.

    ``stages`` is a list of (name, maps (C, h, w)); ``probabilities`` are the ten outputs.
    """
    columns = 16
    figure = plt.figure(figsize=(12.5, 0.8 * len(stages) + 2.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.8 * len(stages), 2])
    grid = above.add_gridspec(len(stages), columns + 3)
    for row, (name, maps) in enumerate(stages):
        _row_title(above.add_subplot(grid[row, :3]), name,
                   f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]}")
        liveliest = np.sort(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:columns])
        for column, m in enumerate(maps[liveliest]):
            _image(above.add_subplot(grid[row, 3 + column]), m, "magma", 0, max(float(maps.max()), 1e-6))
    left, axes = below.subplots(1, 2, width_ratios=[1, 4])
    _image(left, digit)
    left.set_title("the digit", fontsize=9)
    axes.bar(range(10), probabilities, color=[WARM if i == label else ACCENT for i in range(10)])
    axes.set_xticks(range(10))
    axes.set_ylim(0, 1)
    axes.set_title("what the network says it is (the truth in orange)", fontsize=9)
    figure.suptitle("From strokes to a digit: the same image at every layer")
    _save(figure, path)


def patterns(path, stages):
    """Average of the image patches that excite a channel most: a row per layer, from small to large patches.

    ``stages`` is a list of (name, patches (channels, h, w)).
    """
    columns = max(len(patches) for _, patches in stages)
    figure = plt.figure(figsize=(12.5, 0.9 * len(stages) + 0.6), layout="constrained")
    grid = figure.add_gridspec(len(stages), columns + 3)
    for row, (name, patches) in enumerate(stages):
        _row_title(figure.add_subplot(grid[row, :3]), name,
                   f"sees {patches.shape[1]} x {patches.shape[2]} pixels")
        for column, patch in enumerate(patches):
            _image(figure.add_subplot(grid[row, 3 + column]), patch)
    figure.suptitle("A hierarchy of patterns: what excites a channel most (mean of the 25 strongest patches)")
    _save(figure, path)


def training_curve(path, loss, train_accuracy, test_accuracy):
    """Loss and accuracy after each epoch."""
    epochs = np.arange(1, len(loss) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    left.plot(epochs, loss, "o-", color=ACCENT, markersize=4)
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("")
    left.set(title="training loss", xlabel="epoch")
    right.plot(epochs, 100 * np.asarray(train_accuracy), "o-", color=ACCENT, markersize=4, label="training")
    right.plot(epochs, 100 * np.asarray(test_accuracy), "o-", color=WARM, markersize=4, label="test")
    right.axhline(98.5, color=INK, linewidth=0.8, linestyle=":", label="98.5 %")
    lowest = 100 * min(*test_accuracy, *train_accuracy)
    right.set(title="accuracy, %", xlabel="epoch", ylim=(min(95, lowest - 0.5), 100.3))
    right.legend(loc="lower right", frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def confusion(path, matrix):
    """How often each digit (row) was read as each digit (column)."""
    figure, axes = plt.subplots(figsize=(5.4, 5.2), layout="constrained")
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    shade = np.where(np.eye(len(matrix), dtype=bool), 0.35, np.minimum(wrong, 3) / -3.0)
    axes.imshow(shade, cmap="RdBu", vmin=-1.3, vmax=1.3)
    for (i, j), n in np.ndenumerate(matrix):
        if n:
            axes.text(j, i, str(n), ha="center", va="center", color=INK)
    axes.set_xticks(range(len(matrix)))
    axes.set_yticks(range(len(matrix)))
    axes.set(xlabel="read as", ylabel="written as")
    axes.set_title(f"{int(np.trace(matrix))} of {int(matrix.sum())} test digits read correctly")
    _save(figure, path)


def mistakes(path, images, truth, probabilities):
    """All digits that were read wrongly, then those that were closest to it, at least 15 in all."""
    guess = probabilities.argmax(axis=1)
    certainty = probabilities[np.arange(len(truth)), truth]
    wrong = np.flatnonzero(guess != truth)
    order = np.argsort(certainty, kind="stable")
    close = [i for i in order if guess[i] == truth[i]][:max(15 - len(wrong), 5 - len(wrong) % 5)]
    chosen = [*wrong[np.argsort(certainty[wrong], kind="stable")], *close]
    rows = -(-len(chosen) // 5)
    figure, grid = plt.subplots(rows, 5, figsize=(7.2, 1.6 * rows + 0.5), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, i in zip(grid.flat, chosen, strict=False):
        axes.axis("on")
        _image(axes, images[i])
        right = guess[i] == truth[i]
        what = f"{truth[i]}" if right else f"{truth[i]} read as {guess[i]}"
        axes.set_title(f"{what}, {probabilities[i].max():.0%} sure", fontsize=9, color=INK if right else WARM)
    figure.suptitle(f"{len(wrong)} mistakes (orange), then the closest calls that were right")
    _save(figure, path)
