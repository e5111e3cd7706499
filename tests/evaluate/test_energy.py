"""Joules from a powercap folder of our own, and from a driver of our own."""

import sys
from types import SimpleNamespace

import jax
import pytest

from jaxgen.evaluate import energy

RANGE = 262_143_328_850


def zone(folder, number, name, microjoules):
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


@pytest.fixture
def packages(tmp_path):
    """Two packages, the second near its end; a part of one, and the board, which would count twice."""
    for number, name in (("0:0", "core"), ("2", "psys")):
        zone(tmp_path, number, name, 7)
    return [zone(tmp_path, number, f"package-{number}", start)
            for number, start in (("0", 1_000_000), ("1", RANGE - 500_000))]


def test_packages_are_summed_and_a_counter_that_began_again_goes_on(packages, tmp_path):
    counters, lacking = energy.energy_counters(tmp_path)
    assert [counter.name for counter in counters] == ["package-0", "package-1"] and not lacking
    before = [counter.read() for counter in counters]
    packages[0].write_text("4000000\n")
    packages[1].write_text("1500000\n")
    assert energy.spent(counters, before, [counter.read() for counter in counters]) == pytest.approx(3 + 2)


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text(""),
                                   lambda file: (file.parent / "max_energy_range_uj").unlink()])
def test_one_package_that_cannot_be_read_leaves_all_out(packages, tmp_path, spoil):
    spoil(packages[1])
    counters, [reason] = energy.energy_counters(tmp_path)
    assert not counters and "energy of the processor is left out" in reason and "intel-rapl:1" in reason


def test_a_machine_that_counts_none_says_so(tmp_path):
    counters, [reason] = energy.energy_counters(tmp_path / "none")
    assert not counters and f"{tmp_path / 'none'} counts none" in reason


def test_gpus_count_millijoules(packages, tmp_path, monkeypatch):
    """Those that CUDA_VISIBLE_DEVICES=3,5 leaves, which CUDA numbers from 0, and NVML does not."""
    energies, visible = {3: 2000, 5: 10_000}, (3, 5)
    driver = SimpleNamespace(nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: index,
                             nvmlDeviceGetHandleByPciBusId=lambda place: int(place.split(":")[1], 16),
                             nvmlDeviceGetTotalEnergyConsumption=energies.get)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(jax, "local_devices", lambda: [
        SimpleNamespace(device_kind="NVIDIA H100", local_hardware_id=number) for number in range(len(visible))])

    def get(handle, number):
        handle._obj.value = 100 + visible[number]
        return 0

    def get_place(text, length, handle):
        text.value = f"0000:{handle.value - 100:02X}:00.0".encode()
        return int(length < 13)

    cuda = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGet=get, cuDeviceGetPCIBusId=get_place)
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: cuda)
    counters, lacking = energy.energy_counters(tmp_path)
    assert [counter.name for counter in counters] == ["package-0", "package-1", "gpu-0000:03:00.0",
                                                      "gpu-0000:05:00.0"] and not lacking
    before = [counter.read() for counter in counters]
    energies |= {3: 2500, 5: 11_000}
    assert energy.spent(counters, before, [counter.read() for counter in counters]) == pytest.approx(0.5 + 1)
    cuda.cuInit = lambda flags: 100
    assert "does not say where GPU 0 is (error 100)" in energy.energy_counters(tmp_path)[1][0]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    counters, [reason] = energy.energy_counters(tmp_path)
    assert len(counters) == 2 and "energy of the GPU is left out" in reason and "nvidia-ml-py" in reason
