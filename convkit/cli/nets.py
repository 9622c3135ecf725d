"""Networks to train and to predict with, built alike from ``convkit.nn`` and ``torch_nn()``, which name all alike."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class Net:
    """A network: ``build(nn)``, the shape of its batch, and for training its classes and the optimiser."""

    name: str
    build: Callable[[Any], Any]
    x: tuple
    classes: int = 0
    optimizer: str = ""
    options: dict = field(default_factory=dict)


def torch_nn():
    """``torch.nn`` with a ``Residual``."""
    import torch

    class Residual(torch.nn.Module):
        def __init__(self, block, shortcut):
            super().__init__()
            self.block, self.shortcut = block, shortcut

        def forward(self, x):
            return self.block(x) + self.shortcut(x)

    return SimpleNamespace(**{**vars(torch.nn), "Residual": Residual})


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


def _normed(nn, channels, filters, size, stride=1, groups=1, act=None):
    layers = [nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(filters)]
    return layers + ([act()] if act else [])


def _resnet(nn, blocks, narrow, last, classes):
    """ResNet (He et al., 2016, arXiv 1512.03385): so many blocks of each width, of two 3x3 or with ``narrow`` of one
    between 1x1; ``last`` is the side of the last maps."""
    layers = [*_normed(nn, 3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        for i in range(count):
            stride, wide = 2 if i == 0 and width > 64 else 1, 4 * width if narrow else width
            if narrow:
                body = [*_normed(nn, channels, width, 1, act=nn.ReLU),
                        *_normed(nn, width, width, 3, stride, act=nn.ReLU), *_normed(nn, width, wide, 1)]
            else:
                body = [*_normed(nn, channels, width, 3, stride, act=nn.ReLU), *_normed(nn, width, width, 3)]
            same = stride == 1 and channels == wide
            past = nn.Identity() if same else nn.Sequential(*_normed(nn, channels, wide, 1, stride))
            layers += [nn.Residual(nn.Sequential(*body), past), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers, nn.AvgPool2d(last), nn.Flatten(), nn.Linear(channels, classes))


def _mobilenet(nn):
    """MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381)."""
    layers, channels = _normed(nn, 3, 32, 3, 2, act=nn.ReLU6), 32
    for times, filters, count, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                         (6, 160, 3, 2), (6, 320, 1, 1)):
        for stride in (first, *[1] * (count - 1)):
            wide = times * channels
            body = _normed(nn, channels, wide, 1, act=nn.ReLU6) if times > 1 else []
            body += [*_normed(nn, wide, wide, 3, stride, wide, act=nn.ReLU6), *_normed(nn, wide, filters, 1)]
            same = stride == 1 and channels == filters
            layers += [nn.Residual(nn.Sequential(*body), nn.Identity())] if same else body
            channels = filters
    return nn.Sequential(*layers, *_normed(nn, 320, 1280, 1, act=nn.ReLU6), nn.AvgPool2d(7), nn.Flatten(),
                         nn.Linear(1280, 1000))


def _vgg16(nn):
    """VGG-16 (Simonyan and Zisserman, 2015, arXiv 1409.1556)."""
    layers, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                         nn.Linear(4096, 1000))


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
    Net("ResNet-18 @64 b16", partial(_resnet, blocks=(2, 2, 2, 2), narrow=False, last=2, classes=200), (16, 3, 64, 64),
        200, "SGD", _DECAYING),
    Net("1-d net @8000 b16", _signal, (16, 1, 8000), 35, "Adam", {"lr": 1e-4}),
    Net("3-d net @8x32x32 b8", _volume, (8, 3, 8, 32, 32), 101, "SGD", _PLAIN),
)

PREDICTORS = (
    Net("demo's digits @8 b64", digits, (64, 1, 8, 8)),
    Net("LeNet @28 b1", _lenet, (1, 1, 28, 28)),
    Net("LeNet @28 b64", _lenet, (64, 1, 28, 28)),
    Net("MobileNetV2 @224 b1", _mobilenet, (1, 3, 224, 224)),
    Net("ResNet-18 @224 b1", partial(_resnet, blocks=(2, 2, 2, 2), narrow=False, last=7, classes=1000),
        (1, 3, 224, 224)),
    Net("ResNet-50 @224 b1", partial(_resnet, blocks=(3, 4, 6, 3), narrow=True, last=7, classes=1000),
        (1, 3, 224, 224)),
    Net("VGG-16 @224 b1", _vgg16, (1, 3, 224, 224)),
    Net("1-d net @8000 b16", _signal, (16, 1, 8000)),
    Net("3-d net @8x32x32 b8", _volume, (8, 3, 8, 32, 32)),
)
