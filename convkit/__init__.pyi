from convkit import functional as functional
from convkit import nn as nn
from convkit import optim as optim
from convkit import reference as reference
from convkit import typing as typing
from convkit.errors import DtypeError as DtypeError
from convkit.errors import FormatError as FormatError
from convkit.errors import NativeUnavailable as NativeUnavailable
from convkit.errors import ShapeError as ShapeError
from convkit.plan.explain import explain as explain
from convkit.serialization import load as load
from convkit.serialization import load_metadata as load_metadata
from convkit.serialization import save as save
from convkit.settings import get_threads as get_threads
from convkit.settings import set_threads as set_threads
from convkit.settings import threads as threads
from convkit.settings import use as use
from convkit.training import History as History
from convkit.training import evaluate as evaluate
from convkit.training import fit as fit
from convkit.training import predict as predict
from convkit.tuning import clear_tuning as clear_tuning
from convkit.tuning import load_tuning as load_tuning
from convkit.tuning import tune as tune
from convkit.verification import verify as verify

__version__: str
