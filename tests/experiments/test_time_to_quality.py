"""What the study of time to quality gives both libraries, asked in the processes that it starts."""

import os
from types import SimpleNamespace

import pytest

from experiments.common import machine
from experiments.common.subcommands import run_subcommand
from experiments.studies import time_to_quality
from experiments.study import COMMANDS


def prepare(case):
    """A side that trains nothing and tells what it has."""
    import jax

    return {"evaluate": lambda: 0.0, "train": lambda: {
        "seconds": 1.0, "steps": sorted(os.sched_getaffinity(0)), "compile": jax.config.jax_enable_compilation_cache}}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not hold a process to some cores")
def test_both_libraries_have_the_same_cores_and_no_kept_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(time_to_quality, "sides", SimpleNamespace(__name__=__name__))
    monkeypatch.setattr(time_to_quality, "write_start", lambda directory, case: None)
    found = time_to_quality.compare(tmp_path, {"task": "unet", "threads": 1, "seconds": 0.0, "parts": 1})
    for library in time_to_quality.LIBRARIES:
        assert (found[library]["steps"], found[library]["compile"]) == ([min(os.sched_getaffinity(0))], False)


@pytest.mark.parametrize(("threads", "message"), [
    (0, "--threads must be an integer of at least 1, got 0"),
    (machine.cores() + 1, f"--threads={machine.cores() + 1} are more than the {machine.cores()} cores"),
])
def test_threads_without_a_core_are_refused(monkeypatch, threads, message):
    monkeypatch.setattr(time_to_quality.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match=message):
        run_subcommand("study", "", "experiments.studies", COMMANDS, ["time_to_quality", f"--threads={threads}"])
