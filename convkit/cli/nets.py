"""Small networks to train, built alike from ``convkit.nn`` and ``torch.nn``, whose names are the same.

``build(nn)`` takes either; ``nn.Residual`` must be there.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Net:
    """A network, the shape of its batch, its classes and the optimiser that trains it."""

    name: str
    build: Any
    x: tuple
    classes: int
    optimizer: str
    options: dict


def _lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def digits(nn, dropout=0.0, **rng):
    """The demo's network: three convolutions, two poolings, one linear layer, about 26,000 parameters.

    It drops out nothing when it is timed, because two engines do not draw the same numbers.
    """
    return nn.Sequential(OrderedDict({
        "conv1": nn.Conv2d(1, 16, 3, padding=1, **rng), "norm1": nn.BatchNorm2d(16), "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(16, 32, 3, padding=1, **rng), "norm2": nn.BatchNorm2d(32), "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "conv3": nn.Conv2d(32, 64, 3, padding=1, **rng), "norm3": nn.BatchNorm2d(64), "relu3": nn.ReLU(),
        "pool3": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "dropout": nn.Dropout(dropout, **rng), "linear": nn.Linear(256, 10, **rng),
    }))


def _vgg(nn):
    layers, channels = [], 3
    for width in (64, 128, 256):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
                   nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 10))


def _batch_norm(nn):
    layers, channels = [], 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


def _resnet18(nn):
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width in (64, 128, 256, 512):
        for stride in (1 if width == 64 else 2, 1):
            body = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
            past = nn.Identity() if stride == 1 else nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            layers += [nn.Residual(body, past), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, 200))


def _signal(nn):
    layers, channels = [nn.Conv1d(1, 64, 80, 4, 38), nn.BatchNorm1d(64), nn.ReLU(), nn.MaxPool1d(4)], 64
    for width in (64, 128, 256):
        layers += [nn.Conv1d(channels, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(4)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1792, 35))


def _volume(nn):
    layers, channels = [], 3
    for width, window in ((32, (1, 2, 2)), (64, 2), (128, 2)):
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool3d(window)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 101))


_PLAIN = {"lr": 1e-3, "momentum": 0.9}
_DECAYING = {**_PLAIN, "weight_decay": 5e-4, "nesterov": True}

NETS = (
    Net("demo's digits @8 b64", digits, (64, 1, 8, 8), 10, "AdamW", {"lr": 3e-3, "weight_decay": 0.1}),
    Net("LeNet @28 b64", _lenet, (64, 1, 28, 28), 10, "SGD", _PLAIN),
    Net("VGG-like @32 b16", _vgg, (16, 3, 32, 32), 10, "SGD", _DECAYING),
    Net("batch-norm net @32 b32", _batch_norm, (32, 3, 32, 32), 10, "AdamW", {"lr": 1e-4}),
    Net("ResNet-18 @64 b16", _resnet18, (16, 3, 64, 64), 200, "SGD", _DECAYING),
    Net("1-d net @8000 b16", _signal, (16, 1, 8000), 35, "Adam", {"lr": 1e-4}),
    Net("3-d net @8x32x32 b8", _volume, (8, 3, 8, 32, 32), 101, "SGD", _PLAIN),
)
