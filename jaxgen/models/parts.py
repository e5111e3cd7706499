"""Quantizers and schedules from plain values, by the names of fixed tables."""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxgen import diffusion, quantize
from jaxgen.core.checks import choose
from jaxgen.core.types import AxisName
from jaxgen.models.description import call, check_description
from jaxgen.quantize import Quantizer

QUANTIZERS = {
    "vq": quantize.vq, "fsq": quantize.fsq, "lfq": quantize.lfq, "gumbel": quantize.gumbel, "simvq": quantize.simvq,
    "residual": quantize.residual, "grouped": quantize.grouped, "projected": quantize.projected,
    "noisy": quantize.noisy, "dropout": quantize.dropout,
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
    if name not in QUANTIZERS and "." in name:
        raise ValueError(
            f"quantizer {name!r} is not of this library, and no configuration that is read back imports a module: if "
            f"you trust it, import {name.rpartition('.')[0]} and pass the function, as in jaxgen.runs.load(directory, "
            f"build=functools.partial(jaxgen.models.build, quantizers={{{name!r}: {name}}}))")
    return _call_maker(name, choose("quantizer", name, QUANTIZERS), arguments, axis_name)


def with_own_quantizers(description: Any, quantizers: Mapping[str, Callable], axis_name: AxisName) -> Any:
    """A description with quantizers in place of what describes one of `quantizers`, functions by name."""
    if not isinstance(description, Mapping):
        return description
    made = {entry: with_own_quantizers(value, quantizers, axis_name) for entry, value in description.items()}
    function = quantizers.get(str(made.get("name")))
    return made if function is None else _call_maker(made.pop("name"), function, made, axis_name)


def _call_maker(name: str, function: Callable, arguments: dict[str, Any], axis_name: AxisName) -> Quantizer:
    if "quantizer" in arguments:
        arguments["quantizer"] = make_quantizer("quantizer", arguments["quantizer"], axis_name)
    if axis_name is not None and "axis_name" in inspect.signature(function).parameters:
        arguments["axis_name"] = axis_name
    quantizer = call(f"quantizer {name!r}", function, arguments)
    if not isinstance(quantizer, Quantizer):
        raise ValueError(f"quantizer {name!r} returned {type(quantizer).__name__}: it must return a Quantizer")
    return quantizer


def parse_quantizer(text: str, own: Mapping[str, Callable] | None = None) -> dict[str, Any]:
    """The description of a quantizer that is written as a call; nothing is run.

    Args:
        text: calls of `QUANTIZERS` or `own`, nested, with literal arguments.
        own: more functions that return quantizers, by names such as "my_module.ternary".

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
    return _described(tree, text, {**QUANTIZERS, **(own or {})})


def _described(node: ast.expr, text: str, table: Mapping[str, Callable]) -> Any:
    if not isinstance(node, ast.Call):
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise ValueError(f"quantizer {text!r}: {ast.unparse(node)} must be a number, a name in quotes, a list, or "
                             f"a call of one of {', '.join(table)}") from error
    function = ast.unparse(node.func)
    parameters = list(inspect.signature(choose("quantizer", function, table)).parameters)
    if len(node.args) > len(parameters) or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"quantizer {text!r}: {function} takes {', '.join(parameters)}")
    passed = dict(zip(parameters, node.args)) | {keyword.arg: keyword.value for keyword in node.keywords}
    return {"name": function, **{name: _described(value, text, table) for name, value in passed.items()}}


def make_quantizer(argument: str, description: Any, axis_name: AxisName) -> Quantizer:
    """The quantizer of a description that is called `argument`; one that is made already as it is."""
    if isinstance(description, Quantizer):
        return description
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
