"""What a program costs each time that it runs: seconds, memory, energy; compilation stands for itself."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgen.core.checks import check_count
from jaxgen.core.cost import planned_bytes
from jaxgen.evaluate.energy import Counter, spent

ROUNDS = 5
COUNTED = 1.0  # seconds at least for joules: NVML's counter moves on every 20 to 100 ms


def program_cost(
    run: Callable[[], Any], lower: Callable[[], jax.stages.Lowered], *, of: str, batch: int, rounds: int = ROUNDS,
    counters: Sequence[Counter] = (),
) -> dict[str, float]:
    """What a compiled function takes for a batch.

    Args:
        run: computes a batch; what it returns is waited for.
        lower: the program that `run` runs, which is compiled here.
        of: what a batch has, for the names: "sample".
        batch: how many of them.
        rounds: timed runs, after one that is not.
        counters: of `jaxgen.evaluate.energy_counters`.

    Returns:
        "seconds_per_SAMPLE", the median of the rounds; "seconds_to_compile_SAMPLE", which is short where compiled
        programs are kept; "program_bytes_SAMPLE", see `jaxgen.core.cost.planned_bytes`; with counters
        "joules_per_SAMPLE", the mean of the rounds and, where these are short, of more runs, `COUNTED` seconds in all.

    Raises:
        ValueError: fewer than one round, or an empty batch.
    """
    batch, rounds = check_count("batch", batch), check_count("rounds", rounds)
    start = time.perf_counter()
    planned = planned_bytes(lower().compile())
    result = {f"seconds_to_compile_{of}": time.perf_counter() - start}
    jax.block_until_ready(run())
    seconds, joules, before = [], 0.0, [counter.read() for counter in counters]
    while len(seconds) < rounds or (counters and sum(seconds) < COUNTED):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
        after = [counter.read() for counter in counters]
        joules, before = joules + spent(counters, before, after), after
    result = {f"seconds_per_{of}": statistics.median(seconds[:rounds]) / batch, **result}
    if planned is not None:
        result[f"program_bytes_{of}"] = planned
    return result | ({f"joules_per_{of}": joules / len(seconds) / batch} if counters else {})


def peak_memory() -> dict[str, int]:
    """{"peak_process_bytes": resident at most since the process began, "peak_device_bytes": of an accelerator}."""
    unit = 1 if sys.platform == "darwin" else 1024
    result = {"peak_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    peaks = [peak for peak in peaks if peak is not None]
    return result | ({"peak_device_bytes": max(peaks)} if peaks else {})
