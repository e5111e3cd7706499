"""--dry_run and --profile of the training scripts."""

import json

from jaxgen import runs
from tests.experiments.conftest import VQVAE


def test_a_dry_run_tells_what_the_training_needs_and_leaves_nothing_behind(scripts, tmp_path):
    out = scripts.run("train_vqvae", f"--workdir={tmp_path / 'run'}", *VQVAE, "--dry_run")
    total = next(line.split() for line in out.splitlines() if line.startswith("total"))
    assert total[1] == "48" and "for 4 steps" in out and "for temporary arrays" in out
    assert not any(path.name == "run" for path in tmp_path.iterdir())


def test_a_wrong_profile_is_refused_before_anything_is_written(scripts, tmp_path):
    for window, reason in (("10-15", "must be FIRST:LAST"), ("5:6", "begins behind the last step, num_steps=4")):
        err = scripts.run("train_vqvae", f"--workdir={tmp_path / 'run'}", *VQVAE, f"--profile={window}", fails=True)
        assert f"profile='{window}' {reason}" in err
    assert not (tmp_path / "run").exists()


def test_a_profile_lies_in_the_runs_directory_and_the_table_next_to_the_records(scripts, tmp_path):
    run = tmp_path / "run"
    scripts.run("train_vqvae", f"--workdir={run}", *VQVAE, "--profile=3:9", "--config.logging.tensorboard=False")
    assert list((run / "profile").rglob("*.trace.json.gz"))
    assert not list(run.glob("events.out.tfevents*"))
    table, records = ((run / f"metrics.{kind}").read_text().splitlines() for kind in ("csv", "jsonl"))
    assert len(table) == 1 + len(records)
    assert json.loads((run / "config.json").read_text())["logging"]["tensorboard"] is False
    assert runs.load(run).step == 4
