"""The shape of the house: which floor may import which, and that what the design names is there."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

import convkit
from convkit import functional, reference

HOUSE = Path(convkit.__file__).parent
SOURCES = Path(__file__).parents[1]  # C and Cython are not installed
CSRC = SOURCES / "csrc"

# What a floor may import besides itself, Python and NumPy. Nothing points upward.
ARROWS = {
    "errors": set(),
    "typing": set(),
    "kernels": {"errors"},
    "settings": {"kernels.native"},
    "spec": {"errors"},
    "reference": {"spec", "errors"},
    "plan": {"kernels", "reference", "spec", "settings", "errors"},
    "functional": {"plan", "spec", "errors"},
    "nn": {"functional", "spec", "errors"},
    "cases": set(),
    "serialization": {"nn", "spec", "errors"},
    "optim": {"nn", "functional", "plan", "errors", "spec"},
    "tuning": {"nn", "plan", "serialization", "settings", "kernels", "errors", "spec"},
    "training": {"nn", "optim", "functional", "errors", "spec"},
    "verification": {"functional", "reference", "settings", "kernels", "plan", "spec"},
}
TOP = {"__init__", "__main__", "cli"}  # may import every floor
ALLOWED_OUTSIDE = {"numpy", "cython"} | set(sys.stdlib_module_names)
EXTRAS = {"cli": {"sklearn", "matplotlib", "tqdm", "rich", "torch", "onnxruntime", "onnx", "openvino", "ncnn"},
          "training": {"tqdm"}}


def floor(path):
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path):
    """Every module that a Python file imports, with the names taken from packages."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = HOUSE.parent.joinpath(*node.module.split("."))
                is_module = (node.module.startswith("convkit") and (inner / alias.name).with_suffix(".py").exists()) \
                    or (inner / alias.name).is_dir()
                yield f"{node.module}.{alias.name}" if is_module or node.module == "convkit" else node.module


PYTHON = sorted(p for p in HOUSE.rglob("*.py"))
CYTHON = sorted(SOURCES.glob("convkit/kernels/*.px[yd]"))


def test_there_is_something_to_walk():
    assert len(PYTHON) > 50
    found = {m for p in PYTHON for m in imports(p)}
    assert {"numpy", "convkit.spec.conv", "convkit.kernels.native"} <= found
    assert {floor(p) for p in PYTHON} - TOP <= set(ARROWS), "a new floor needs its arrows"


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(HOUSE)))
def test_no_import_points_upward(path):
    here = floor(path)
    for module in imports(path):
        outside = module.partition(".")[0]
        if outside != "convkit":
            assert outside in ALLOWED_OUTSIDE | EXTRAS.get(here, set()), f"{module} is no dependency"
            continue
        to = module.removeprefix("convkit").lstrip(".")
        if here in TOP or not to or to.partition(".")[0] == here:
            continue
        allowed = ARROWS[here] | {"typing"}
        names = {to.partition(".")[0], to}
        if to in ("use", "threads", "get_threads", "set_threads", "ShapeError", "DtypeError"):
            pytest.fail(f"{here} imports {to} from the top")
        assert names & allowed, f"{here} must not import convkit.{to}"


@pytest.mark.parametrize("path", CYTHON, ids=lambda p: p.name)
def test_kernels_know_only_kernels_and_csrc(path):
    for module in re.findall(r"^\s*(?:from|import)\s+(convkit[\w.]*)", path.read_text(), re.M):
        assert module.startswith("convkit.kernels"), module


@pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not here")
def test_csrc_knows_no_python_and_keeps_no_state():
    files = sorted(CSRC.rglob("*.[ch]"))
    assert len(files) > 10
    for path in files:
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
        assert "Python.h" not in text, path
        assert "omp.h" not in text, path
        if path.parent.name == "base":
            continue
        for call in ("malloc", "calloc", "posix_memalign", "free", "printf", "pthread_create", "abort", "exit"):
            assert not re.search(rf"\b{call}\s*\(", text), f"{path.name} calls {call}"


@pytest.mark.skipif(not CSRC.is_dir(), reason="the sources are not here")
def test_every_family_has_its_table_and_its_page():
    families = [d for d in CSRC.iterdir() if d.is_dir() and d.name != "base"]
    assert {"conv", "pool"} <= {d.name for d in families}
    for family in families:
        assert list(family.glob("*.kernel.c")), f"{family.name} has no kernels"
        assert list(family.glob("*.h")), f"{family.name} has no contract"


# ---- the public face


def public():
    for name in functional.__all__:
        yield f"functional.{name}", getattr(functional, name)
    for name in ("use", "threads", "set_threads", "get_threads", "explain", "verify", "fit", "predict", "save", "load",
                 "tune", "load_tuning", "clear_tuning"):
        yield name, getattr(convkit, name)


PUBLIC = list(public())


@pytest.mark.parametrize(("name", "function"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_public_functions_say_what_they_take_and_give(name, function):
    """A docstring with numpydoc sections, or a pointer to the function that has them."""
    doc = inspect.getdoc(function)
    assert doc, name
    first = doc.splitlines()[0]
    assert first.endswith((".", ":", "`")) or "``" in first, first
    signature = inspect.signature(function)
    sections = set(re.findall(r"^(\w+)\n-{3,}$", doc, re.M))
    pointer = re.search(r"as in ``(\w+)``|see ``(\w+)``|\(see |[Gg]radient of ``(\w+)``", doc)
    assert "Parameters" in sections or pointer or len(signature.parameters) <= 1, f"{name} has no Parameters"
    if "Parameters" in sections:
        text = doc[doc.index("Parameters\n"):]
        for parameter in signature.parameters:
            assert re.search(rf"\b{parameter}\b", text), f"{name} says nothing of {parameter}"


def test_twins_say_something_too():
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name)), name


def test_the_top_has_what_the_design_names():
    for name in ("explain", "verify", "use", "threads", "set_threads", "optim", "functional", "nn", "reference", "fit",
                 "save", "load", "tune", "load_tuning", "clear_tuning", "ShapeError", "DtypeError", "__version__"):
        assert hasattr(convkit, name), name
        assert name in dir(convkit)
    assert issubclass(convkit.ShapeError, ValueError)
    assert issubclass(convkit.DtypeError, TypeError)
    assert issubclass(convkit.NativeUnavailable, ImportError)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        convkit.nonsense  # noqa: B018
