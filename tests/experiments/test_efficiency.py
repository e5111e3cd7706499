"""`experiments.evaluate --efficiency` as a user starts it."""

import json
import shutil

import pytest

from experiments.common import results


def test_the_cost_of_a_reconstruction_is_printed_and_written(scripts, codes, tmp_path):
    workdir = shutil.copytree(codes, tmp_path / "codes")
    out = scripts.run("evaluate", f"--workdir={workdir}", "--efficiency", "--batch=3")
    found = json.loads((workdir / "efficiency-step00000004.json").read_text())
    assert (found["step"], found["batch"], found["rounds"]) == (4, 3, 5)
    names = {"seconds_per_reconstruction", "seconds_to_compile_reconstruction", "program_bytes_reconstruction",
             "flops_per_reconstruction", "peak_process_bytes"}
    assert names <= set(found) and all(found[name] > 0 for name in names)
    assert not [name for name in found if "sample" in name] and all(f"{name} " in out for name in names)
    assert ("joules_per_reconstruction" in found) != ("energy of the processor is left out" in out)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--samples=9"], "--samples changes nothing that --efficiency measures: leave it out"),
    (["--split=train"], "--split changes nothing that --efficiency measures"),
    (["--steps=3"], "trained a 'vqvae', which has no samples of its own"),
])
def test_options_that_do_not_apply_are_refused(scripts, codes, arguments, message):
    assert message in scripts.run("evaluate", f"--workdir={codes}", "--efficiency", *arguments, fails=True)


def test_costs_are_recorded_under_their_command(monkeypatch, tmp_path):
    """Next to the numbers of quality of the same configuration, which tables are made of."""
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    run = type("Run", (), {"config": {"configuration": "a"}})
    monkeypatch.setattr(results.sys, "argv", ["evaluate", "--efficiency", "--record"])
    results.record(run, {"batch": 4}, {"seconds_per_sample": 0.5})
    [record] = results.read()
    assert record["values"] == {"seconds_per_sample": 0.5} and record["batch"] == 4
    assert record["command"] == "python -m experiments.evaluate --efficiency"
