"""What several subcommands need: their one kind of error, tables, whole numbers, JSON files."""

import argparse
import importlib
import importlib.util
import json


class CommandError(Exception):
    """A request that cannot be met; its message is one sentence for the user."""


def positive(text):
    """A command-line value that must be a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seconds(text):
    """A command-line value that must be a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, got {text!r}")
    return value


def require(module, what, extra="demo"):
    """Import an optional package, or say in one sentence how to get it."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        package = module.partition(".")[0]
        raise CommandError(f'{what} needs {package}; install it with: pip install "convkit[{extra}]"')
    return importlib.import_module(module)


def write_json(path, data):
    """Write ``data`` to the file ``path``, or to standard output where it is ``-``."""
    text = json.dumps(data, indent=2)
    if path == "-":
        print(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text + "\n")
    except OSError as exc:
        raise CommandError(f"cannot write {path}: {exc.strerror}") from exc


def print_table(header, rows, left=1):
    """Print rows of strings in aligned columns, the first ``left`` of them to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [cell.ljust(width) if i < left else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())

