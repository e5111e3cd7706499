"""Names of directories: `~`, glob characters, and what is not UTF-8."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.runs import Checkpointer, expand, find_runs, load, lock_run, open_run
from jaxgen.runs.checkpoint import read
from tests.runs.test_load import build

ODD = ["[br]acket*", "a?b", "{1,2}", "new\nline", "a%20b#c", "ü 東", "-x", "[!a]"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_tilde_is_the_home_directory(home, kind):
    assert expand(kind("~/runs/a")) == home / "runs" / "a"
    assert expand(kind("~")) == home


def test_what_has_no_tilde_in_front_stays_as_it_is(home):
    for name in ("runs/a", "/abs/~x", "a~", "runs/~"):
        assert str(expand(name)) == name


def test_a_directory_that_is_called_tilde_is_reached_by_a_dot(home):
    assert expand("./~/a") == home.parent / "elsewhere" / "~" / "a" == expand(expand("./~/a"))


@pytest.mark.parametrize(("name", "message"), [
    ("", "a path is empty: give the name"), ("~nobody-of-that-name/a", "'~nobody-of-that-name/a' begins with a home "),
])
def test_names_that_mean_nothing_are_refused(home, name, message):
    with pytest.raises(ValueError, match=message):
        expand(name)


def test_runs_and_checkpoints_lie_in_the_home_directory(home):
    with lock_run("~/runs/a"):
        run = open_run("~/runs/a", {"example_shape": [12], "model": {"name": "toy", "scale": 1}})
    assert run.path == home / "runs" / "a" and (run.path / "config.json").is_file()
    with Checkpointer("~/runs/a/checkpoints") as checkpointer:
        checkpointer.save(1, {"w": jnp.ones(2)})
    assert read("~/runs/a/checkpoints", {"w": jnp.zeros(2)}).step == 1
    assert [found.path for found in find_runs("~/runs")] == [run.path]
    with pytest.raises(ValueError, match="runs.a.checkpoints.1 does not fit: at "):  # it was read
        load("~/runs/a", build=build)
    assert not (home.parent / "elsewhere" / "~").exists()


@pytest.mark.parametrize("name", ODD)
def test_any_utf8_name_holds_a_run_that_is_read_again(tmp_path, name):
    path = tmp_path / name
    run = open_run(path, {"num_steps": 3})
    for saved in ([1, 2], [3]):
        with Checkpointer(run.checkpoints, keep=2) as checkpointer:
            for step in saved:
                checkpointer.save(step, {"w": jnp.full((3, 2), step), "b": jnp.zeros(())}, {"at": step})
            restored = checkpointer.restore({"w": jnp.zeros((3, 2), int), "b": jnp.ones(())})
        assert (restored.step, restored.data) == (saved[-1], {"at": saved[-1]})
        np.testing.assert_array_equal(restored.state["w"], saved[-1])
    assert [(found.path, found.steps) for found in find_runs(path)] == [(path, 3)]
    assert sorted(child.name for child in run.checkpoints.iterdir()) == ["2", "3"]


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    for use in (lambda: open_run(path, {}), lambda: Checkpointer(path / "c"), lambda: lock_run(path).__enter__()):
        with pytest.raises(ValueError, match=r"udcff.* is not UTF-8, which checkpoints need: rename it"):
            use()
    assert not path.exists()
