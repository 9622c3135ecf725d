"""Optimisers and learning-rate schedulers with PyTorch's formulas and defaults."""

from convkit.optim.adam import Adam, AdamW
from convkit.optim.optimizer import Optimizer, ParamGroup
from convkit.optim.rmsprop import RMSprop
from convkit.optim.scheduler import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Scheduler,
    SequentialLR,
    StepLR,
)
from convkit.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "LinearLR", "MultiStepLR", "OneCycleLR", "Optimizer",
           "ParamGroup", "RMSprop", "ReduceLROnPlateau", "Scheduler", "SequentialLR", "StepLR"]
