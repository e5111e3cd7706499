"""Runs in a folder: what is found, how they differ, which is the best, and the tables of the command."""

import json
import os
import shutil

import jax.numpy as jnp
import pytest

from experiments.runs import main
from jaxgen.runs import Checkpointer, best, compare, find_runs, lock_run, open_run, summarize

CONFIG = {"num_steps": 4, "seed": 0, "model": {"name": "vqvae", "channels": [8, 16]}, "data": {"name": "mnist_5k"}}


def write_run(path, config, records, steps=()):
    run = open_run(path, config)
    lines = [json.dumps({"step": step, "time": 0.0, **metrics}) + "\n" for step, metrics in records]
    (path / "metrics.jsonl").write_text("".join(lines))
    with Checkpointer(run.checkpoints) as checkpointer:
        for step in steps:
            checkpointer.save(step, {"w": jnp.ones(1)})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three runs: finished, stopped, and one that diverged and has other keys."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", CONFIG, [(2, {"loss": 0.5}), (4, {"loss": 0.25}), (4, {"eval/loss": 0.375})], [2, 4])
    write_run(folder / "deep" / "b", CONFIG | {"seed": 1, "model": {"name": "diffusion", "kind": "edm"}},
              [(1, {"loss": 2.0, "eval/loss": 1.0}), (3, {"loss": 0.125})], [2])
    write_run(folder / "c", CONFIG | {"extra": True}, [(1, {"loss": 0.0}), (2, {"loss": None})])
    (folder / "notes.txt").write_text("x")
    (folder / "empty").mkdir()
    shutil.copytree(folder / "a", folder / ".hidden")
    (folder / "linked").symlink_to(folder / "a")
    (folder / "a" / "images" / "b").mkdir()
    (folder / "a" / "images" / "b" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def copy(written, tmp_path):
    shutil.copytree(written, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs"


def test_every_run_is_found_once_in_the_order_of_paths(written):
    assert [run.path for run in find_runs(written)] == [written / "a", written / "c", written / "deep" / "b"]
    assert find_runs(written / "empty") == []
    assert [run.path for run in find_runs(written / "a")] == [written / "a"]


def test_runs_within_a_run_s_directory_are_found(copy):
    write_run(copy / "a" / "prior", CONFIG, [])
    assert copy / "a" / "prior" in [run.path for run in find_runs(copy)]


def test_a_summary_holds_model_data_and_where_the_run_stands(written):
    a, c, b = find_runs(written)
    assert [(run.model, run.data, run.steps, run.num_steps, run.finished) for run in (a, b, c)] == [
        ("vqvae", "mnist_5k", 4, 4, True), ("diffusion edm", "mnist_5k", 3, 4, False),
        ("vqvae", "mnist_5k", 2, 4, False)]
    assert {run.holder for run in (a, b, c)} == {run.problem for run in (a, b, c)} == {None}
    assert a.config == CONFIG


def test_metrics_are_the_last_values_and_none_where_the_last_is_not_finite(written):
    a, c, b = find_runs(written)
    assert (a.metrics, b.metrics) == ({"loss": 0.25, "eval/loss": 0.375}, {"loss": 0.125, "eval/loss": 1.0})
    assert c.metrics == {}


def test_a_run_in_training_is_named_with_its_process(copy):
    with lock_run(copy / "a"):
        assert summarize(copy / "a").holder.process == os.getpid()
    assert summarize(copy / "a").holder is None


def test_a_folder_that_is_none_is_an_error(written):
    for name in ("nothing", "notes.txt"):
        with pytest.raises(FileNotFoundError, match=f"{name} is no folder: give one that holds runs"):
            find_runs(written / name)


@pytest.mark.parametrize(("file", "message"), [
    ("config.json", "damaged or was edited"), ("metrics.jsonl", "line 1 is no record"), ("checkpoints/9", "has no jax"),
])
def test_a_damaged_run_is_listed_with_its_problem_among_the_others(copy, file, message):
    if file == "checkpoints/9":
        (copy / "a" / file).mkdir()
    else:
        (copy / "a" / file).write_text("{\n{\n")
    a, *others = find_runs(copy)
    assert message in a.problem and [run.problem for run in others] == [None, None]


def test_compare_names_the_values_that_differ_and_no_others(written):
    comparison = compare(find_runs(written))
    assert comparison.config == {
        "seed": [0, 0, 1], "model.name": ["vqvae", "vqvae", "diffusion"],
        "model.channels": [[8, 16], [8, 16], "nothing"], "extra": ["nothing", True, "nothing"],
        "model.kind": ["nothing", "nothing", "edm"]}
    assert comparison.metrics == {"loss": [0.25, None, 0.125], "eval/loss": [0.375, None, 1.0]}


def test_compare_of_equal_runs_and_of_none_is_empty(written):
    a = summarize(written / "a")
    assert (compare([a, a]).config, compare([])) == ({}, ({}, {}))


@pytest.mark.parametrize(("metric", "mode", "name"), [
    ("loss", "min", "b"), ("loss", "max", "a"), ("eval/loss", "min", "a"), ("eval/loss", "max", "b"),
])
def test_the_best_run_has_the_smallest_or_the_largest_last_value(written, metric, mode, name):
    assert best(find_runs(written), metric, mode).path.name == name


@pytest.mark.parametrize(("metric", "mode", "message"), [
    ("eval/los", "min", "unknown metric 'eval/los': .*Did you mean 'eval/loss'"),
    ("loss", "largest", "unknown mode 'largest': expected one of 'min', 'max'"),
])
def test_unknown_names_are_refused_by_best(written, metric, mode, message):
    with pytest.raises(ValueError, match=message):
        best(find_runs(written), metric, mode)


def test_best_of_runs_without_metrics_says_so(written):
    with pytest.raises(ValueError, match="'loss' cannot be compared: none of the 1 runs has any metrics"):
        best([summarize(written / "c")], "loss")


def test_the_command_lists_runs_in_aligned_columns(written, capsys):
    main(["list", str(written)])
    header, *lines = capsys.readouterr().out.splitlines()
    for column, cells in {"configuration": ("vqvae", "vqvae", "diffusion edm"), "step": ("4", "2", "3"),
                          "state": ("finished", "stopped", "stopped"), "eval/loss": ("0.375", "-", "1")}.items():
        at = header.index(f"  {column}") + 2
        assert [line[at:].split("  ")[0] for line in lines] == list(cells)


def test_the_command_compares_runs(written, capsys):
    main(["compare", str(written / "a"), str(written / "deep"), "--metric=loss"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == [str(written / "a"), str(written / "deep" / "b")]
    assert ["seed", "0", "1"] in rows and ["loss", "0.25", "0.125"] in rows and "eval/loss" not in str(rows)


def test_the_command_finds_the_best_run(written, capsys):
    main(["best", str(written), "--metric=eval/loss", "--mode=max", "--json"])
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["path"], run["metrics"]["eval/loss"], run["finished"]) == (str(written / "deep" / "b"), 1.0, False)


@pytest.mark.parametrize("action", [["list"], ["compare"], ["best", "--metric=loss"]])
def test_the_command_prints_json(written, capsys, action):
    main([*action, str(written), "--json"])
    assert "deep/b" in str(json.loads(capsys.readouterr().out))


def test_the_command_shows_who_trains_and_what_is_damaged(copy, capsys):
    (copy / "c" / "config.json").write_text("{")
    with lock_run(copy / "a"):
        main(["list", str(copy)])
    out = capsys.readouterr().out
    assert f"process {os.getpid()})" in out and f"{copy / 'c'} is damaged: " in out


def test_the_command_without_runs_says_where_it_looked(written):
    with pytest.raises(ValueError, match="no run in .*empty: a run's directory has a config.json"):
        main(["list", str(written / "empty")])
