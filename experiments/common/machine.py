"""The processor: times and compiled programs of one say little about another."""

import os
import platform
from pathlib import Path

# Of the instruction sets, those that change which of two programs is faster.
SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
CPUINFO = Path("/proc/cpuinfo")


def name() -> str:
    """What the system calls the processor."""
    return _fields().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """All that Linux names; none elsewhere."""
    fields = _fields()
    return fields.get("flags", fields.get("Features", "")).split()


def describe() -> str:
    """One line: the processor, its cores and vector instructions, the allocator, and the load of the last minute."""
    sets = [s for s in SETS if s in instruction_sets()]
    if preloaded := os.environ.get("LD_PRELOAD"):
        sets.append(Path(preloaded).name)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name()}, {os.cpu_count()} cores{''.join(f', {s}' for s in sets)}{load}"


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fields() -> dict[str, str]:
    """What Linux says of its last processor; empty elsewhere."""
    if not CPUINFO.exists():
        return {}
    lines = (line.partition(":") for line in CPUINFO.read_text(encoding="utf-8").splitlines())
    return {field.strip(): value.strip() for field, colon, value in lines if colon}
