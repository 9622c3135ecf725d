"""Which convkit the tests test, said in the header and never one without kernels by accident; shared fixtures."""

import os
import signal
from importlib import metadata
from pathlib import Path

import hypothesis
import pytest

import convkit
from convkit import settings
from convkit.kernels import native
from convkit.plan import common, direct, geometry

# `python -m convkit` in a test's child process must find the convkit that the test itself imported, not the folder
# that happens to be the current one.
os.environ["PYTHONSAFEPATH"] = "1"
# A shell starts what it puts in the background deaf to Ctrl-C, and so are the children of that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A machine that does other work, too, is no failure.
hypothesis.settings.register_profile("convkit", deadline=None)
hypothesis.settings.load_profile("convkit")


def pytest_report_header(config):
    kernels = f"isa {settings.choice()[0]} of {', '.join(native.ISA_LEVELS)}" if native.available else native.reason
    return f"convkit: {Path(convkit.__file__).parent}, {kernels}"


def pytest_configure(config):
    """`python -m pytest` puts the current folder first: in a checkout that hides the installed package."""
    here = Path(convkit.__file__).resolve().parent
    installed = [Path(d.locate_file("convkit")).resolve() for d in metadata.distributions(name="convkit")]
    if not native.available and any(path != here and path.is_dir() for path in installed):
        raise pytest.UsageError(f"these tests would run on {here}, which has no compiled kernels, and not on the "
                                f"installed {installed[0]}: call `pytest`, not `python -m pytest`")


@pytest.fixture
def small_source(monkeypatch):
    """Set the bytes of padded source that one round shares, and of sums by chunk, so that small images need many boxes and
    rounds.
    """
    def set_bytes(nbytes, near=None):
        monkeypatch.setattr(geometry, "SOURCE_BYTES", nbytes)
        monkeypatch.setattr(direct, "NEAR_BYTES", near or nbytes)
        common.clear()

    yield set_bytes
    monkeypatch.undo()
    common.clear()
