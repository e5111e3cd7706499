"""A run's directory: configuration and environment, and what is refused there."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen.runs import check_run, open_run

CONFIG = {"num_steps": 10, "optimizer": {"name": "adam", "learning_rate": 0.1}, "shape": (2, 3), "empty": {}}


def test_a_new_run_writes_its_configuration_and_environment(tmp_path):
    run = open_run(tmp_path / "a" / "b", CONFIG)
    assert not run.started_before and run.images.is_dir()
    written = json.loads((run.path / "config.json").read_text())
    assert {name: written[name] for name in CONFIG} == json.loads(json.dumps(CONFIG))
    assert set(written) == {*CONFIG, "checksum"}
    (environment,) = json.loads((run.path / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert len(environment["devices"]) == 8


def test_the_same_configuration_resumes(tmp_path):
    open_run(tmp_path, CONFIG)
    assert open_run(tmp_path, CONFIG).started_before
    assert len(json.loads((tmp_path / "environment.json").read_text())) == 2


def test_each_differing_key_is_named_with_both_values(tmp_path):
    open_run(tmp_path, CONFIG)
    new = {**CONFIG, "optimizer": {"learning_rate": 0.2, "b1": 0.5, "name": "adam"}, "shape": [2, 4]}
    del new["empty"]
    with pytest.raises(ValueError) as caught:
        open_run(tmp_path, new)
    message = str(caught.value)
    assert "optimizer.learning_rate: 0.1 before, 0.2 now" in message
    assert "optimizer.b1: nothing before, 0.5 now" in message
    assert "shape: [2, 3] before, [2, 4] now" in message
    assert "empty: {} before, nothing now" in message
    assert "optimizer.name" not in message and "num_steps" not in message
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 0.1


@pytest.mark.parametrize(("old", "new"), [({}, {"optimizer": {**CONFIG["optimizer"], "b1": 0.9}})])
def test_a_key_that_was_not_there_before_is_another_configuration(tmp_path, old, new):
    open_run(tmp_path, CONFIG | old)
    with pytest.raises(ValueError, match="optimizer.b1: nothing before, 0.9 now"):
        open_run(tmp_path, CONFIG | new)


def test_a_run_that_was_begun_before_an_option_was_there_goes_on_with_what_it_was(tmp_path):
    options = {"robust": {"epsilon": 0.0, "steps": 1}}
    open_run(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="robust.epsilon: 0.0 before, 0.1 now"):
        open_run(tmp_path, CONFIG | {"robust": {"epsilon": 0.1, "steps": 1}}, before=options)
    open_run(tmp_path, CONFIG, before=options)  # of a model without the option
    assert open_run(tmp_path, CONFIG | options, before=options).started_before
    assert json.loads((tmp_path / "config.json").read_text())["robust"] == options["robust"]
    with pytest.raises(ValueError, match="robust.steps: 1 before, 2 now"):  # what the file has counts
        open_run(tmp_path, CONFIG | {"robust": {"epsilon": 0.0, "steps": 2}},
                 before={"robust": {"epsilon": 0.0, "steps": 2}})


def test_a_check_raises_what_a_start_would_and_writes_nothing(tmp_path):
    assert not check_run(tmp_path / "new", CONFIG)
    assert not (tmp_path / "new").exists()
    open_run(tmp_path / "new", CONFIG)
    before = {path: path.read_bytes() for path in (tmp_path / "new").glob("*.json")}
    assert check_run(tmp_path / "new", {**CONFIG, "num_steps": 20})
    with pytest.raises(ValueError, match="num_steps: 10 before, 20 now"):
        check_run(tmp_path / "new", {**CONFIG, "num_steps": 20}, may_change=())
    assert before == {path: path.read_bytes() for path in (tmp_path / "new").glob("*.json")}


def test_a_configuration_without_checksum_is_said_to_be_another_version_s(tmp_path):
    open_run(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text(json.dumps({"num_steps": 10}))
    with pytest.raises(ValueError, match=r"config\.json has no checksum, so this version of jaxgen did not write it: "):
        open_run(tmp_path, CONFIG)


def test_the_command_is_what_was_typed(tmp_path):
    """`python -m package.module` and its words; sys.argv has the module's file in place of the first three."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "script.py").write_text("from jaxgen.runs import check_run, open_run\nopen_run('run', {})\n")
    command = [sys.executable, "-X", "utf8", "-m", "pack.script", "--config.name=two words", "--n=1"]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    (start,) = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert shlex.split(start["command"]) == command


def test_keys_that_may_change_change(tmp_path):
    open_run(tmp_path, CONFIG)
    assert open_run(tmp_path, {**CONFIG, "num_steps": 20}).started_before
    assert json.loads((tmp_path / "config.json").read_text())["num_steps"] == 20
    open_run(tmp_path, {**CONFIG, "optimizer": {"name": "sgd"}}, may_change=["num_steps", "optimizer"])
    with pytest.raises(ValueError, match="num_steps: 10 before, 30 now"):
        open_run(tmp_path, {**CONFIG, "optimizer": {"name": "sgd"}, "num_steps": 30}, may_change=[])


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        open_run(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="is a file: give another directory"):
        open_run(tmp_path / "thesis.tex", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_died_before_it_wrote_its_configuration_can_start_again(tmp_path):
    (tmp_path / ".config.json.tmp").write_text('{"num_')
    assert not open_run(tmp_path, CONFIG).started_before


def test_a_damaged_or_edited_configuration_is_an_error(tmp_path):
    """Keys that may change too: they are changed where the run is started."""
    open_run(tmp_path, CONFIG)
    written = (tmp_path / "config.json").read_text()
    for content in ('{"num_steps":', "", "[1]", written.replace('"num_steps": 10', '"num_steps": 20'),
                    written.replace("{", '{"num_steps": 9, ', 1)):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config\.json is damaged or was edited: .*Restore it from a copy"):
            open_run(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_text() == content


def test_damaged_notes_of_earlier_starts_are_not_written_over(tmp_path):
    open_run(tmp_path, CONFIG)
    for content in ("[{", "", '{"time": 1}', "3"):
        (tmp_path / "environment.json").write_text(content)
        with pytest.raises(ValueError, match=r"environment\.json is damaged: .*or delete it and the run goes on"):
            open_run(tmp_path, CONFIG)
        assert (tmp_path / "environment.json").read_text() == content
    (tmp_path / "environment.json").unlink()
    assert open_run(tmp_path, CONFIG).started_before


def test_numpy_s_whole_numbers_are_whole_numbers(tmp_path):
    open_run(tmp_path, {**CONFIG, "num_steps": np.int64(10), "shape": (np.int32(2), 3)})
    assert open_run(tmp_path, CONFIG, may_change=[]).started_before


def test_a_key_that_the_file_needs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the key 'checksum' is taken"):
        open_run(tmp_path / "new", {**CONFIG, "checksum": 1})
    assert not (tmp_path / "new").exists()


def test_what_json_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="cannot be written to config.json"):
        open_run(tmp_path, {"key": object()})
