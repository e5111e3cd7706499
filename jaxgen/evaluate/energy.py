"""Energy, where the machine counts it: processors by Linux's powercap (RAPL, of Intel and AMD), GPUs by NVIDIA's NVML.

    counters, lacking = energy_counters()
    before = [counter.read() for counter in counters]
    ...
    joules = spent(counters, before, [counter.read() for counter in counters])

A counter is of a whole package or GPU: what else runs there is counted too.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

POWERCAP = Path("/sys/class/powercap")


class Counter(NamedTuple):
    """A counter of joules."""

    name: str
    read: Callable[[], float]
    wraps_at: float = math.inf  # joules, beyond which it begins at 0 again


def energy_counters(powercap: Path = POWERCAP) -> tuple[list[Counter], list[str]]:
    """(counters that can be read, in words what cannot be measured and why).

    Args:
        powercap: Linux's folder.
    """
    counters, lacking = [], []
    for find in (lambda: _packages(powercap), _gpus):
        try:
            counters += find()
        except LookupError as error:
            lacking.append(str(error))
    return counters, lacking


def spent(counters: Sequence[Counter], before: Sequence[float], after: Sequence[float]) -> float:
    """Joules between two readings of all counters, which may lie one turn of a counter apart.

    Example:
        >>> spent([Counter("a", float), Counter("b", float, wraps_at=100.0)], [1.0, 90.0], [3.0, 15.0])
        27.0
    """
    return sum(end - start + (counter.wraps_at if end < start else 0)
               for counter, start, end in zip(counters, before, after))


def _packages(powercap: Path) -> list[Counter]:
    """All processors' packages, or none where one of them cannot be read: a part would pass for the whole."""
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            if not name.startswith("package"):  # "core" and "dram" are parts of one, "psys" is the board
                continue
            energy, largest = zone / "energy_uj", int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
            int(energy.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise LookupError(f"energy of the processor is left out: {zone} cannot be read ({error}); Linux keeps it "
                              "to root") from error
        counters.append(Counter(
            name, lambda energy=energy: int(energy.read_text(encoding="ascii")) * 1e-6, largest * 1e-6))
    if not counters:
        raise LookupError(f"energy of the processor is left out: {powercap} counts none")
    return counters


def _gpus() -> list[Counter]:
    """All NVIDIA GPUs that this process computes on."""
    devices = [device for device in jax.local_devices() if "nvidia" in device.device_kind.lower()]
    if not devices:
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        places = dict.fromkeys(_place_of(device.local_hardware_id) for device in devices)
        counters = [Counter(f"gpu-{place}",
                            lambda handle=handle: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3)
                    for place in places for handle in [pynvml.nvmlDeviceGetHandleByPciBusId(place)]]
        for counter in counters:
            counter.read()
    except Exception as error:  # NVML's own errors have no type without the package
        raise LookupError(f"energy of the GPU is left out: {error}; `pip install nvidia-ml-py` brings pynvml, and "
                          "GPUs before Volta count none") from error
    return counters


def _place_of(device: int) -> str:
    """The PCI bus id of a GPU by CUDA's number.

    NVML numbers all GPUs of the machine, CUDA those of CUDA_VISIBLE_DEVICES in the order of CUDA_DEVICE_ORDER.
    """
    cuda, handle, place = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.create_string_buffer(32)
    if error := (cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), device)
                 or cuda.cuDeviceGetPCIBusId(place, len(place), handle)):
        raise OSError(f"CUDA does not say where GPU {device} is (error {error})")
    return place.value.decode()
