"""What a program costs: its floating-point operations, with all runs of its loops, and the memory that XLA plans."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

# On CPU this project's convolutions are Winograd's, in loops that XLA counts once.
PLATFORM = "tpu"


def flops(function: Callable, *args: Any) -> float:
    """Floating-point operations of one call, as XLA counts them; a multiplication and its addition are two.

    XLA counts the body of a loop once. Here that of a `lax.scan`, `lax.map` or `fori_loop` of known length counts as
    often as it runs; of branches the one with the most operations counts, and of a `while_loop` one run. Convolutions
    and attention are those of accelerators on every machine, without the detours by which CPUs are faster, so that
    numbers of different machines compare. Nothing is compiled.

    Args:
        function: pure, and not under `jax.jit` with compiler options.
        *args: trees of arrays, or of `jax.ShapeDtypeStruct`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.core.cost import flops
        >>> flops(lambda x, w: x @ w, jnp.ones((4, 3)), jnp.ones((3, 5)))  # 2 * 4 * 3 * 5
        120.0
    """
    return _of_all_runs(jax.make_jaxpr(function)(*args))


def planned_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Bytes of arguments, results and temporary arrays as XLA plans them for a device; None where it does not say."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    return (plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
            + plan.temp_size_in_bytes)


def _of_all_runs(program: ClosedJaxpr) -> float:
    return _counted_once(program) + _of_further_runs(program.jaxpr)


def _counted_once(program: ClosedJaxpr) -> float:
    """XLA's count."""
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in program.in_avals]
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        lowered = jax.jit(jaxpr_as_fun(program)).trace(*shapes).lower(lowering_platforms=(PLATFORM,))
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def _of_further_runs(program: Jaxpr) -> float:
    """What XLA's count lacks."""
    total = 0.0
    for equation in program.eqns:
        inner = list(_programs(equation.params))
        if equation.primitive.name == "scan":
            body, = inner
            total += equation.params["length"] * _of_all_runs(body) - _counted_once(body)
        elif equation.primitive.name == "cond" and any(_of_further_runs(branch.jaxpr) for branch in inner):
            platforms = equation.params.get("branches_platforms")
            if platforms is not None:  # of which one is lowered
                inner = [branch for branch, own in zip(inner, platforms) if own is None or PLATFORM in own][:1]
            total += max(map(_of_all_runs, inner)) - max(map(_counted_once, inner))
        else:
            total += sum(_of_further_runs(getattr(part, "jaxpr", part)) for part in inner)
    return total


def _programs(params: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, ClosedJaxpr | Jaxpr):
                yield part
