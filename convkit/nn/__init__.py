"""Layers: parameters, forward and backward, Sequential. Names, arguments and state keys are those of ``torch.nn``."""

from convkit.nn import init
from convkit.nn.activation import LogSoftmax, ReLU, Softmax
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

__all__ = ["AvgPool2d", "BatchNorm2d", "ChannelShuffle", "Concat", "Conv2d", "CrossEntropyLoss", "Dropout", "Flatten",
           "Identity", "Linear", "LogSoftmax", "MaxPool2d", "MinPool2d", "Module", "Parameter", "PixelShuffle",
           "PixelUnshuffle", "ReLU", "Residual", "Sequential", "Softmax", "init"]
