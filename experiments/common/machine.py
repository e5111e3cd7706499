"""What a benchmark ran on: times of one processor say little about another."""

import os
import platform
from pathlib import Path

# Of the instruction sets, those that change which of two programs is faster.
SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def describe() -> str:
    """One line: the processor, its cores and vector instructions, the allocator, and the load of the last minute."""
    fields = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        fields = {name.strip(): value.strip() for name, colon, value in lines if colon}
    flags = fields.get("flags", fields.get("Features", "")).split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    sets = [s for s in SETS if s in flags]
    if preloaded := os.environ.get("LD_PRELOAD"):
        sets.append(Path(preloaded).name)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores{''.join(f', {s}' for s in sets)}{load}"
