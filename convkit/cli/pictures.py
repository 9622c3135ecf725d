"""The demo's pictures, each from plain arrays. matplotlib only, imported with this file."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

INK, FRAME, ACCENT, WARM = "#1f2933", "#b8c0c8", "#2563a8", "#c2410c"
SIDE, GAP = 48, 8  # pixels of a tile and between tiles
plt.rcParams.update({"font.size": 10, "axes.edgecolor": INK, "axes.spines.top": False,
                     "axes.spines.right": False, "savefig.dpi": 130, "figure.facecolor": "white"})


def _tiles(axes, rows, cmap, low, high, space=GAP):
    """Show rows of small images as one, which is much faster than axes for each of them.

    Returns the (left, top) of every tile in data coordinates, in rows.
    """
    columns = max(map(len, rows))
    canvas = np.full((len(rows) * (SIDE + space) - space, columns * (SIDE + GAP) - GAP), np.nan)
    corners = [[(j * (SIDE + GAP), i * (SIDE + space)) for j in range(len(row))]
               for i, row in enumerate(rows)]
    for row, places in zip(rows, corners, strict=True):
        for tile, (left, top) in zip(row, places, strict=True):
            y, x = (np.arange(SIDE) * n // SIDE for n in tile.shape)
            canvas[top:top + SIDE, left:left + SIDE] = tile[y[:, None], x]
    axes.axis("off")
    axes.imshow(canvas, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    for left, top in sum(corners, []):
        frame = plt.Rectangle((left - 0.5, top - 0.5), SIDE, SIDE, fill=False, color=FRAME, linewidth=0.6)
        axes.add_patch(frame).set_clip_on(False)
    return corners


def _row_titles(axes, corners, titles):
    for places, title in zip(corners, titles, strict=True):
        axes.text(-3 * GAP, places[0][1] + SIDE / 2, title, ha="right", va="center", color=INK)


def _save(figure, path):
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def filters(path, weight):
    """First-layer filters (F, 1, h, w) on one scale: red wants ink, blue wants none."""
    figure, axes = plt.subplots(figsize=(8.4, 2.8), layout="constrained")
    high = np.abs(weight).max()
    kernels = weight[:, 0]
    _tiles(axes, [kernels[i:i + 8] for i in range(0, len(kernels), 8)], "RdBu_r", -high, high)
    axes.set_title("What the first layer looks for: red wants ink, blue wants none")
    _save(figure, path)


def feature_maps(path, digit, label, stages, probabilities):
    """One digit on its way through the network: a row per stage, its liveliest maps in it.

    ``stages`` is a list of (name, maps (C, h, w)); ``probabilities`` are the ten outputs.
    """
    figure = plt.figure(figsize=(12.5, 0.7 * len(stages) + 2.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.7 * len(stages) + 0.4, 2])
    rows, titles = [], []
    for name, maps in stages:
        liveliest = np.sort(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:16])
        rows.append(maps[liveliest] / max(float(maps.max()), 1e-6))
        titles.append(f"{name}\n{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]}")
    axes = above.subplots()
    _row_titles(axes, _tiles(axes, rows, "magma", 0, 1), titles)
    axes.set_title("From strokes to a digit: the same image at every layer")
    left, right = below.subplots(1, 2, width_ratios=[1, 4])
    _tiles(left, [[digit]], "gray_r", 0, 1)
    left.set_title("the digit", fontsize=10)
    right.bar(range(10), 100 * probabilities, color=[WARM if i == label else ACCENT for i in range(10)])
    right.set_xticks(range(10))
    right.set_ylim(0, 100)
    right.set_title("what the network takes it for, % (the truth in orange)", fontsize=10)
    _save(figure, path)


def patterns(path, stages):
    """Average of the image patches that excite a channel most: a row per layer, from small to large patches.

    ``stages`` is a list of (name, patches (channels, h, w)).
    """
    figure, axes = plt.subplots(figsize=(12.5, 0.95 * len(stages) + 0.6), layout="constrained")
    corners = _tiles(axes, [patches for _, patches in stages], "gray_r", 0, 1)
    _row_titles(axes, corners, [f"{name}\nsees {p.shape[1]} x {p.shape[2]} pixels" for name, p in stages])
    axes.set_title("A hierarchy of patterns: what excites a channel most (mean of its 25 strongest patches)")
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
    diagonal = np.eye(len(matrix), dtype=bool)
    shade = np.where(diagonal, 0.35, np.minimum(matrix, 3) / -3.0)
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
    """The digits that were read wrongly, worst first, then those that were closest to it: 15 in all."""
    guess = probabilities.argmax(axis=1)
    certainty = probabilities[np.arange(len(truth)), truth]
    wrong = guess != truth
    chosen = np.lexsort((certainty, ~wrong))[:15]
    figure, axes = plt.subplots(figsize=(7.2, 5.3), layout="constrained")
    corners = _tiles(axes, [images[chosen[i:i + 5]] for i in (0, 5, 10)], "gray_r", 0, 1, space=2 * GAP)
    for i, (left, top) in zip(chosen, sum(corners, []), strict=True):
        what = f"{truth[i]} read as {guess[i]}" if wrong[i] else f"{truth[i]}"
        axes.text(left + SIDE / 2, top - 2, f"{what}, {probabilities[i].max():.0%} sure",
                  ha="center", va="bottom", fontsize=9, color=WARM if wrong[i] else INK)
    axes.set_title(f"{wrong.sum()} mistakes (orange), then the closest calls that were right", pad=20)
    _save(figure, path)
