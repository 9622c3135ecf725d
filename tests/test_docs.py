"""The pages of docs show what the library prints, and their pictures can be drawn."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def _blocks():
    return re.findall(r"```pycon\n(.*?)```", (DOCS / "semantics.md").read_text(encoding="utf-8"), re.S)


def test_the_grids_are_what_the_library_prints():
    names, runner, said = {}, doctest.DocTestRunner(), []
    for number, block in enumerate(_blocks()):
        test = doctest.DocTestParser().get_doctest(block, names, f"semantics.md, block {number}", None, 0)
        test.globs = names  # the blocks are one session
        runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
    assert runner.tries > 40


def test_one_picture_for_each_grid(tmp_path):
    pytest.importorskip("matplotlib")
    subprocess.run([sys.executable, DOCS / "semantics.py", tmp_path], check=True, stdout=subprocess.DEVNULL)
    pictures = sorted(tmp_path.iterdir())
    assert len(pictures) == "".join(_blocks()).count(">>> show(")
    assert all(picture.read_text(encoding="utf-8").count("<text") > 5 for picture in pictures)
