"""Optimisers with PyTorch's formulas and defaults."""

from convkit.optim.adam import Adam, AdamW
from convkit.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW"]
