"""The examples of the README run as they are printed, one after the other as a reader would try them."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parents[1] / "README.md"


def test_examples_run():
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 3
    names = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    assert np.isfinite(names["loss"])
    assert all(parameter.grad is not None for parameter in names["model"].parameters())
    assert names["pooled"].shape == names["indices"].shape == (1, 16, 14, 14)


def test_the_two_commands_are_there_and_in_ci():
    text = README.read_text(encoding="utf-8")
    assert 'pip install ".[demo]" && convkit demo' in text
    assert 'pip install ".[test]" && pytest' in text
