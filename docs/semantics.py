"""``python docs/semantics.py FOLDER`` draws the grids of semantics.md, one picture for each."""

import re
import sys
from doctest import DocTestParser
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

PAGE = Path(__file__).with_name("semantics.md")
INK, FAINT, FRAME = "#1f2933", "#9aa5b1", "#b8c0c8"
CELL = 0.36  # inches
plt.rcParams["svg.fonttype"] = "none"  # letters stay letters, and the files small


def examples(page):
    """``(heading, source)`` of every example of the page, in order."""
    for section in re.split(r"^#+ ", page, flags=re.M)[1:]:
        for block in re.findall(r"```pycon\n(.*?)```", section, re.S):
            for example in DocTestParser().get_examples(block):
                yield section.partition("\n")[0], example.source


def draw(path, heading, source, grids):
    """One picture: the grids side by side, each under its name, above the code that made them."""
    grids = {name.replace("_", " "): grid.reshape(-1, grid.shape[-1]) for name, grid in grids.items()}
    # a name may be wider than its grid
    widths = [max(grid.shape[1], len(name) / 3.6) for name, grid in grids.items()]
    tallest = max(len(grid) for grid in grids.values())
    lines = source.count("\n")
    size = CELL * (sum(widths) + 1.5 * len(widths)), CELL * (tallest + 2.5) + 0.17 * lines
    figure = plt.figure(figsize=(max(size[0], 0.075 * max(map(len, source.split("\n")))), size[1]))
    left = CELL
    for (name, grid), width in zip(grids.items(), widths, strict=True):
        rows, columns = grid.shape
        box = [left, size[1] - CELL * (rows + 1.9), CELL * columns, CELL * rows]
        axes = figure.add_axes([box[0] / figure.get_figwidth(), box[1] / size[1],
                                box[2] / figure.get_figwidth(), box[3] / size[1]])
        _grid(axes, grid)
        axes.text(0, -0.35, name, color=INK, fontsize=9, weight="bold")
        left += CELL * (width + 1.5)
    figure.text(CELL / figure.get_figwidth(), 1 - 0.6 * CELL / size[1], heading, color=INK, fontsize=11)
    figure.text(CELL / figure.get_figwidth(), 0.08 / size[1], source.rstrip(), color=INK, fontsize=6.5,
                family="monospace")
    figure.savefig(path)
    plt.close(figure)


def _grid(axes, grid):
    """Cells with their numbers: blue above zero, red below, white at it."""
    limit = 1.8 * float(abs(grid).max()) or 1.0  # the darkest cell is light enough for its number
    axes.pcolormesh(grid, cmap="RdBu", vmin=-limit, vmax=limit, edgecolors=FRAME, linewidth=0.6, clip_on=False)
    axes.invert_yaxis()
    axes.axis("off")
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            color = INK if value else FAINT
            axes.text(j + 0.5, i + 0.54, f"{value:g}", ha="center", va="center", color=color, fontsize=8)


def main(folder):
    """Write one SVG for each call of ``show``."""
    folder.mkdir(parents=True, exist_ok=True)
    names, count = {}, 0
    for heading, source in examples(PAGE.read_text(encoding="utf-8")):
        if not source.startswith("show("):
            exec(compile(source, PAGE.name, "exec"), names)
            continue
        count += 1
        path = folder / f"{count:02} {heading.lower()}.svg".replace(" ", "-")
        grids = eval(source.replace("show(", "dict(", 1), names)  # the page's own text
        draw(path, heading, source, grids)
        print(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
