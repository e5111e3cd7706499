"""What a training will need, before its first step: parameters, memory and time."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.core.cost import planned_bytes
from jaxgen.train.progress import duration
from jaxgen.train.state import TrainState

PyTree = Any


class Memory(NamedTuple):
    """Bytes of a training's arrays, each counted once; `device` and `temporary` are what one device needs."""

    params: int
    optimizer: int
    average: int  # of the parameters
    model_state: int
    adversary: int
    batch: int
    device: int | None  # arguments, results and temporary arrays of a step, as XLA plans it; None where it does not say
    temporary: int | None  # of those, what lives within the step only


class StepTime(NamedTuple):
    """Seconds."""

    first: float  # with compilation
    each: float


def parameter_table(params: PyTree) -> str:
    """A line per module: its arrays' shapes, how many parameters they hold, their bytes and their share of all.

    Args:
        params: arrays, or `jax.ShapeDtypeStruct`; a module is what shares all of the path but its last name.

    Returns:
        Aligned lines, the first a header and the last the total.

    Example:
        >>> print(parameter_table({"dense": {"kernel": np.zeros((3, 5), np.float32), "bias": np.zeros(5, np.float32)}}))
        module  arrays              parameters  bytes   share
        dense   bias 5, kernel 3x5          20   80 B  100.0%
        total   2 arrays                    20   80 B  100.0%
    """
    leaves = list(_named_leaves(params))
    groups: dict[str, list] = {}
    for path, leaf in leaves:
        groups.setdefault("/".join(path[:-1]) or "-", []).append((path[-1] if path else "-", leaf))
    total = _count(leaf for _, leaf in leaves)
    rows = [("module", "arrays", "parameters", "bytes", "share")]
    for name, members in groups.items():
        arrays = ", ".join(f"{last} {'x'.join(map(str, leaf.shape)) or 'scalar'}" for last, leaf in members)
        rows.append((name, arrays, *_sizes([leaf for _, leaf in members], total)))
    rows.append(("total", f"{len(leaves)} arrays", *_sizes([leaf for _, leaf in leaves], total)))
    return _aligned(rows, left=2)


def largest_parts(params: PyTree, count: int = 3) -> str:
    """The parts with the most parameters and their shares: "decoder 52%, encoder 47%, quantizer 1%".

    Args:
        params: arrays, or `jax.ShapeDtypeStruct`; its parts are what the first name that branches tells apart.
        count: parts at most.
    """
    parts: dict[str, list] = {}
    leaves = list(_named_leaves(params))
    depth = 0
    while leaves and all(len(path) > depth + 1 for path, _ in leaves) and len({path[depth] for path, _ in leaves}) == 1:
        depth += 1
    for path, leaf in leaves:
        parts.setdefault("/".join(path[depth:depth + 1]) or "-", []).append(leaf)
    total = max(_count(leaf for _, leaf in leaves), 1)
    shares = sorted(((_count(members) / total, name) for name, members in parts.items()), key=lambda item: -item[0])
    return ", ".join(f"{name} {share:.0%}" for share, name in shares[:count])


def memory_estimate(step: Callable, state: TrainState, batch: PyTree) -> Memory:
    """Bytes that a training's state takes, and what XLA plans for a step.

    Args:
        step: of `compile_step` or `pmap_step`; compiled by this, and not again by its first call.
        state: in the form that `step` takes.
        batch: one batch.
    """
    compiled = step.lower(state, batch).compile()
    plan, device = compiled.memory_analysis(), planned_bytes(compiled)
    parts = (state.params, state.opt_state, state.ema_params, state.model_state, state.adversary, batch)
    return Memory(*map(tree_bytes, parts), device, None if plan is None else plan.temp_size_in_bytes)


def time_step(
    step: Callable, state: TrainState, batch: PyTree, *, at: int | None = None, repeats: int = 3,
    clock: Callable[[], float] = time.monotonic,
) -> StepTime:
    """Seconds of the first step, which compiles, and on average of some more.

    Args:
        step: of `compile_step` or `pmap_step`.
        state: of a run that is not gone on with: the step may overwrite it.
        batch: used for all of them.
        at: the step's number, where steps differ, such as those before a discriminator begins; None for the state's.
        repeats: timed steps after the first.
        clock: seconds from any beginning.
    """
    if at is not None:
        state = state._replace(step=state.step * 0 + at)
    times = [clock()]
    for _ in range(repeats + 1):
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        times.append(clock())
    return StepTime(times[1] - times[0], (times[-1] - times[1]) / repeats)


def dry_run(step: Callable, state: TrainState, batch: PyTree, *, num_steps: int, repeats: int = 3) -> str:
    """The table of parameters, and how much memory and time a training will need; it takes a few steps to tell.

    Args:
        step: of `compile_step` or `pmap_step`.
        state: a fresh one in the form that `step` takes, which may overwrite it.
        batch: one batch.
        num_steps: of the training in all. The last step is timed, as all parts of a model train there.
        repeats: timed steps.

    Returns:
        Lines for people. Evaluations and checkpoints are not in the time.
    """
    began = time.monotonic()
    memory = memory_estimate(step, state, batch)
    compiling = time.monotonic() - began
    mapped = np.ndim(state.step)  # under pmap each device has a copy: one is counted
    tables = [parameter_table(_shapes(state.params, mapped))]
    if state.adversary is not None:
        tables += ["", "discriminator:", parameter_table(_shapes(state.adversary.params, mapped))]
    seconds = time_step(step, state, batch, at=num_steps - 1, repeats=repeats)
    sizes = [(name.replace("_", " "), show_bytes(size)) for name, size in memory._asdict().items()
             if size and name not in ("device", "temporary")]
    title = "memory (the copies of all devices together):" if mapped else "memory:"
    lines = [*tables, "", title, _aligned(sizes, left=1)]
    if memory.device is not None:
        lines.append(f"a step needs {show_bytes(memory.device)} on each device, {show_bytes(memory.temporary)} of that "
                     "for temporary arrays")
    lines += ["", f"time: {compiling + seconds.first - seconds.each:.1f} s to compile, {seconds.each * 1e3:.4g} ms for "
              f"a step, {duration(num_steps * seconds.each)} for {num_steps} steps; evaluations and checkpoints come "
              "on top"]
    return "\n".join(lines)


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays of a tree.

    Example:
        >>> tree_bytes({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.uint8)})
        28
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def show_bytes(size: int) -> str:
    """Bytes in the unit that suits, a power of 1024.

    Example:
        >>> show_bytes(80), show_bytes(3 * 2**20)
        ('80 B', '3.0 MiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(max(size, 1)) // 10), len(units) - 1)
    return f"{size} B" if power == 0 else f"{size / 1024**power:.1f} {units[power]}"


def _shapes(params: PyTree, skip: int) -> PyTree:
    """The arrays' shapes without their first `skip` axes, and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[skip:], leaf.dtype), params)


def _named_leaves(params: PyTree) -> Iterator[tuple[tuple[str, ...], Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        yield tuple(jax.tree_util.keystr((key,), simple=True) for key in path), leaf


def _count(leaves: Iterable) -> int:
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _sizes(leaves: list, total: int) -> tuple[str, str, str]:
    count = _count(leaves)
    return f"{count:,}", show_bytes(tree_bytes(leaves)), f"{count / max(total, 1):.1%}"


def _aligned(rows: list[tuple[str, ...]], left: int) -> str:
    """The rows as lines, their first `left` columns aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) if i < left else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )
