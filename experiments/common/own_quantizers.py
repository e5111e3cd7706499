"""Quantizers of one's own in a training: functions of a module that the command line names."""

import ast
import importlib
from collections.abc import Callable

from jaxgen.core.errors import unknown_name


def own_quantizers(text: str | None) -> dict[str, Callable]:
    """The functions that a quantizer's text calls as module.function, by these names.

    Their modules are imported, which runs them: this is for the text of a user's own command line or configuration
    file, never for what a run's config.json holds.

    Args:
        text: such as "residual(my_module.ternary(4), depth=2)"; None for none.

    Raises:
        ValueError: there is no such module, or no such function in it.
    """
    try:
        tree = ast.parse(text or "None", mode="eval")
    except SyntaxError:  # of which `parse_quantizer` says what is wrong
        return {}
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {name: _find(name) for name in (ast.unparse(f) for f in called if isinstance(f, ast.Attribute))}


def _find(name: str) -> Callable:
    module, _, function = name.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"config.quantizer names {name}, but {module} cannot be imported: {error}. Start in the "
                         "folder that holds it, or install it") from error
    if not callable(getattr(found, function, None)):
        raise unknown_name(f"function of {module}", function, [key for key in vars(found) if not key.startswith("_")])
    return getattr(found, function)
