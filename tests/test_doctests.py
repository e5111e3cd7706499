"""The examples in the docstrings of each room print what they say."""

import doctest
import importlib
import pkgutil

import pytest

ROOMS = ("attention", "conv", "core", "data", "diffusion", "evaluate", "generate", "interop", "losses", "metrics",
         "models", "quantize", "show", "tokens")


def modules(room):
    """The room and all its files."""
    package = importlib.import_module(f"jaxgen.{room}")
    names = [package.__name__, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))]
    return [importlib.import_module(name) for name in names]


@pytest.mark.parametrize("room", ROOMS)
def test_examples_print_what_they_say(room):
    results = [doctest.testmod(module) for module in modules(room)]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0
