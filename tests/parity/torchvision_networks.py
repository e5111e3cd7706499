"""What the lpips and torch-fidelity packages take from torchvision, for where torchvision is not installed.

Its wheels hold operators compiled for one build of PyTorch each; where they do not fit, the transformers package fails
too. lpips asks for the layers of `features` of two networks only; torch-fidelity imports more, none of which its
Inception network uses.
"""

import contextlib
import importlib.util
import sys
import types

from torch import nn

AVAILABLE = importlib.util.find_spec("torchvision") is not None


@contextlib.contextmanager
def provided():
    """Within it `import torchvision` succeeds. What looks for the package later finds what is installed, or nothing."""
    models = types.ModuleType("torchvision.models")
    models.vgg16, models.alexnet = _named(_vgg16), _named(_alexnet)
    datasets = types.ModuleType("torchvision.datasets")
    datasets.CIFAR10 = datasets.CIFAR100 = datasets.STL10 = type("Unused", (), {})
    transforms = types.ModuleType("torchvision.transforms")
    transforms.functional = types.ModuleType("torchvision.transforms.functional")
    package = types.ModuleType("torchvision")
    package.models, package.datasets, package.transforms = models, datasets, transforms
    own = {module.__name__: module for module in (package, models, datasets, transforms, transforms.functional)}
    own = {} if AVAILABLE else own
    sys.modules |= own
    try:
        yield
    finally:
        for name in own:
            del sys.modules[name]


def _named(features):
    return lambda **_: types.SimpleNamespace(features=features())


def _vgg16():
    """Simonyan & Zisserman, configuration D."""
    layers, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def _alexnet():
    """Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
    )
