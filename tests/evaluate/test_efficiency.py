"""Costs of a program by a clock and a counter of our own."""

import resource

import jax
import jax.numpy as jnp
import pytest

from jaxgen.evaluate import efficiency, peak_memory, program_cost
from jaxgen.evaluate.energy import Counter


class Machine:
    """The first run takes 100 s, the others what `seconds` says; 3 joules a second, and 7 s for the compiler."""

    def __init__(self, seconds):
        self.now, self.durations, self.runs = 0.0, iter([100.0, *seconds]), 0
        self.program = jax.jit(lambda x: x @ x)
        self.x = jnp.ones((8, 8))

    def run(self):
        self.now, self.runs = self.now + next(self.durations), self.runs + 1
        return self.program(self.x)

    def lower(self):
        self.now += 7
        return self.program.lower(self.x)


@pytest.fixture
def machine(monkeypatch):
    machine = Machine([4.0, 90.0, 2.0, 6.0, 8.0])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: machine.now)
    return machine


def test_seconds_are_medians_and_joules_means_of_the_rounds_for_one_of_the_batch(machine):
    counters = [Counter("a", lambda: machine.now * 2), Counter("b", lambda: machine.now)]
    result = program_cost(machine.run, machine.lower, of="sample", batch=4, rounds=5, counters=counters)
    planned = result.pop("program_bytes_sample")
    assert result == {"seconds_per_sample": 6 / 4, "seconds_to_compile_sample": 7, "joules_per_sample": 3 * 110 / 5 / 4}
    assert machine.runs == 6 and planned >= 2 * 4 * 64


def test_joules_of_short_runs_are_counted_over_a_second(machine):
    """By a counter of 2 watts that moves on every eighth of a second, as NVML's does: most runs show it standing."""
    machine.durations = iter([100.0] + [1 / 64] * 64 + [1000.0])
    counters = [Counter("a", lambda: machine.now * 16 // 2 / 4), Counter("b", lambda: 0.0)]
    result = program_cost(machine.run, machine.lower, of="sample", batch=2, rounds=3, counters=counters)
    assert result["joules_per_sample"] == pytest.approx(2 / 64 / 2) and machine.runs == 65
    assert result["seconds_per_sample"] == 1 / 64 / 2


def test_without_counters_there_are_no_joules(machine):
    result = program_cost(machine.run, machine.lower, of="image", batch=1, rounds=1)
    assert set(result) == {"seconds_per_image", "seconds_to_compile_image", "program_bytes_image"}


@pytest.mark.parametrize("wrong", ["batch", "rounds"])
def test_nothing_cannot_be_timed(machine, wrong):
    with pytest.raises(ValueError, match=f"{wrong}.*0"):
        program_cost(machine.run, machine.lower, of="image", **{"batch": 1, "rounds": 1, wrong: 0})


def test_peaks_are_bytes(monkeypatch):
    assert 2**20 < peak_memory()["peak_process_bytes"] < 2**40
    monkeypatch.setattr(efficiency.sys, "platform", "darwin")
    assert peak_memory()["peak_process_bytes"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
