"""Quantizers and schedules from plain values, by the names of fixed tables."""

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from jaxgen import diffusion, quantize
from jaxgen.core.checks import choose
from jaxgen.core.types import AxisName
from jaxgen.models.description import call, check_description
from jaxgen.quantize import Quantizer

QUANTIZERS = {
    "vq": quantize.vq, "fsq": quantize.fsq, "lfq": quantize.lfq, "gumbel": quantize.gumbel, "simvq": quantize.simvq,
    "residual": quantize.residual, "grouped": quantize.grouped, "projected": quantize.projected,
}
SCHEDULES = {
    "linear": diffusion.linear, "scaled_linear": diffusion.scaled_linear, "cosine": diffusion.cosine,
    "sigmoid": diffusion.sigmoid, "trigonometric": diffusion.trigonometric, "flow": diffusion.flow,
}


def build_quantizer(name: str, *, axis_name: AxisName = None, **arguments: Any) -> Quantizer:
    """A quantizer by name; combinators take another one's description under "quantizer".

    Args:
        name: a key of `QUANTIZERS`.
        axis_name: mapped axis of devices, passed to those that reduce over the batch.
        **arguments: the function's own keyword arguments, for example `num_codes=512`.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.

    Example:
        >>> build_quantizer("residual", quantizer={"name": "vq", "num_codes": 16}, depth=2).num_codes
        16
    """
    function = choose("quantizer", name, QUANTIZERS)
    if "quantizer" in arguments:
        arguments["quantizer"] = make_quantizer("quantizer", arguments["quantizer"], axis_name)
    if axis_name is not None and "axis_name" in inspect.signature(function).parameters:
        arguments["axis_name"] = axis_name
    return call(f"quantizer {name!r}", function, arguments)


def parse_quantizer(text: str) -> dict[str, Any]:
    """The description of a quantizer that is written as a call; nothing is run.

    Args:
        text: calls of `QUANTIZERS`, nested, with literal arguments.

    Raises:
        ValueError: it is no such call; says what is wrong.

    Example:
        >>> parse_quantizer("residual(vq(512, ema_decay=0.99), depth=2)")
        {'name': 'residual', 'quantizer': {'name': 'vq', 'num_codes': 512, 'ema_decay': 0.99}, 'depth': 2}
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"quantizer {text!r} must be a call such as 'residual(vq(512), depth=2)': "
                         f"{error.msg}") from error
    return _described(tree, text)


def _described(node: ast.expr, text: str) -> Any:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise ValueError(f"quantizer {text!r}: {ast.unparse(node)} must be a number, a name in quotes, a list, or "
                             f"a call of one of {', '.join(QUANTIZERS)}") from error
    parameters = list(inspect.signature(choose("quantizer", node.func.id, QUANTIZERS)).parameters)
    if len(node.args) > len(parameters) or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"quantizer {text!r}: {node.func.id} takes {', '.join(parameters)}")
    passed = dict(zip(parameters, node.args)) | {keyword.arg: keyword.value for keyword in node.keywords}
    return {"name": node.func.id, **{name: _described(value, text) for name, value in passed.items()}}


def make_quantizer(argument: str, description: Any, axis_name: AxisName) -> Quantizer:
    """The quantizer of a description that is called `argument`."""
    return build_quantizer(axis_name=axis_name, **check_description(argument, description))


def build_schedule(name: str, *, zero_terminal_snr: bool = False, **arguments: Any) -> diffusion.Schedule:
    """A noise schedule by name, for example `build_schedule("linear", steps=1000)`.

    Args:
        name: a key of `SCHEDULES`.
        zero_terminal_snr: rescale a discrete schedule so that no signal is left at its end.
        **arguments: the function's own keyword arguments.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    schedule = call(f"schedule {name!r}", choose("schedule", name, SCHEDULES), arguments)
    return diffusion.rescale_zero_terminal_snr(schedule) if zero_terminal_snr else schedule


def make_schedule(description: Mapping | None) -> diffusion.Schedule | None:
    """The schedule of a description; None of none."""
    return build_schedule(**check_description("schedule", description)) if description else None
