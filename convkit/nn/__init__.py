"""Layers: parameters, forward and backward, Sequential. Names, arguments and state keys are those of ``torch.nn``."""

from convkit.nn import init
from convkit.nn.activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from convkit.nn.container import Concat, Residual, Sequential
from convkit.nn.conv import Conv2d
from convkit.nn.dropout import Dropout
from convkit.nn.linear import Identity, Linear
from convkit.nn.loss import CrossEntropyLoss
from convkit.nn.module import Module
from convkit.nn.norm import BatchNorm2d
from convkit.nn.parameter import Parameter
from convkit.nn.pool import AvgPool2d, MaxPool2d, MinPool2d
from convkit.nn.shape import ChannelShuffle, Flatten, PixelShuffle, PixelUnshuffle

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "AvgPool2d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Concat",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "MinPool2d",
    "Mish",
    "Module",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "init",
]
