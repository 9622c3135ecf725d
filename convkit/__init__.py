"""convkit: convolutions, pooling and the layers around them, on NumPy arrays, fast on the CPU."""

import importlib
import os

from convkit import settings
from convkit.errors import DtypeError, FormatError, NativeUnavailable, ShapeError
from convkit.settings import get_spare_memory, get_threads, set_spare_memory, set_threads, threads, use

__version__ = "0.1.0"

# Loaded on first use, so that `import convkit` costs milliseconds.
_LAZY_MODULES = ("functional", "nn", "optim", "reference", "typing")
_LAZY_NAMES = {
    "evaluate": "convkit.training",
    "fit": "convkit.training",
    "History": "convkit.training",
    "save": "convkit.serialization",
    "load": "convkit.serialization",
    "load_metadata": "convkit.serialization",
    "predict": "convkit.training",
    "explain": "convkit.plan.explain",
    "verify": "convkit.verification",
    "tune": "convkit.tuning",
    "load_tuning": "convkit.tuning",
    "clear_tuning": "convkit.tuning",
}

__all__ = ["DtypeError", "FormatError", "NativeUnavailable", "ShapeError", "__version__", "get_spare_memory",
           "get_threads", "set_spare_memory", "set_threads", "threads", "use", *_LAZY_MODULES, *_LAZY_NAMES]


def __getattr__(name):
    if name in _LAZY_MODULES:
        return importlib.import_module(f"convkit.{name}")
    if name in _LAZY_NAMES:
        value = getattr(importlib.import_module(_LAZY_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'convkit' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


if settings.TUNING_ENV in os.environ:
    __getattr__("load_tuning")(os.environ[settings.TUNING_ENV])
