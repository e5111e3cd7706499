"""What a benchmark ran on: times of one processor say little about another."""

import os
import platform
from pathlib import Path

from experiments.common.startup import TUNABLE

# Of the instruction sets, those that change which of two programs is faster.
SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def describe() -> str:
    """One line: the processor, its cores and vector instructions, huge pages, and the load of the last minute."""
    fields = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        fields = {name.strip(): value.strip() for name, colon, value in lines if colon}
    flags = fields.get("flags", fields.get("Features", "")).split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    sets = [s for s in SETS if s in flags]
    if f"{TUNABLE}=1" in os.environ.get("GLIBC_TUNABLES", ""):
        sets.append("huge pages")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores{''.join(f', {s}' for s in sets)}{load}"
