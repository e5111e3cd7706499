"""Published checkpoints that name their first stage: they load as those that hold it, or say what is missing."""

import json
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jaxgen.core.types import Variables
from jaxgen.runs import DamagedCheckpointError, Run, card_of, load, publish
from tests.runs.test_published import assert_same, half_of

DATA = {"name": "digits", "options": {}}


class First(NamedTuple):
    """A model by itself."""

    def init(self, key, example_shape):
        return jax.tree.map(jnp.zeros_like, first_variables())


class Second(NamedTuple):
    """A model over it, whose variables are in its state."""

    def init(self, key, example_shape):
        return jax.tree.map(jnp.zeros_like, second_variables(first_variables()))

    def first_stage(self, variables):
        return First(), Variables(*variables.state["codes"])


def first_variables():
    rng = np.random.default_rng(0)
    return Variables({"kernel": jnp.asarray(rng.normal(size=(400, 30)), jnp.float32)},
                     {"counts": jnp.asarray(rng.normal(size=5) * 1e6, jnp.float32), "started": jnp.array(True)})


def second_variables(first):
    return Variables({"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(3, 6)), jnp.float32)},
                     {"codes": first, "std": jnp.float32(0.7)})


def build(name, **_):
    return {"first": First(), "second": Second()}[name]


def first_run(values=None):
    config = {"model": {"name": "first"}, "example_shape": [4], "data": DATA}
    return Run(Path("runs/codes"), config, First(), first_variables() if values is None else values, 5)


def second_run(first, tokenizer="codes"):
    config = {"model": {"name": "second", "tokenizer": {"name": "first"}}, "example_shape": [4], "data": DATA,
              "tokenizer": tokenizer}
    return Run(Path("runs/prior"), config, Second(), second_variables(first), 9)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A published first stage, and a second one that was trained over it by its name; nothing is shipped."""
    monkeypatch.setenv("JAXGEN_CHECKPOINTS", str(tmp_path / "shipped"))
    codes = publish(first_run(), tmp_path / "made" / "codes", evaluations=())
    publish(second_run(codes.variables), tmp_path / "made" / "prior", evaluations=())
    return tmp_path / "made"


def test_it_comes_back_to_the_last_bit_without_being_written_again(folder):
    published = second_run(load(folder / "codes", build=build).variables)
    prior = load(folder / "prior", build=build)
    whole = Variables(half_of(published.variables.params, np.float16), published.variables.state)
    assert_same(prior.variables, whole)
    file = folder / "prior" / "model.safetensors"
    assert set(load_file(file)) == {"params/kernel", "state/std"}
    assert file.stat().st_size < 2000 < 400 * 30 * 2 < (folder / "codes" / "model.safetensors").stat().st_size
    with safe_open(folder / "codes" / "model.safetensors", "numpy") as codes, safe_open(file, "numpy") as own:
        assert (own.metadata()["first_stage"], own.metadata()["first_stage_digest"]) == (
            "codes", codes.metadata()["digest"])
    card = (folder / "prior" / "README.md").read_text()
    assert card == card_of(prior) and "those of the checkpoint `codes`" in card
    # Published again, from the checkpoint and not from the run, it is the same.
    publish(prior, folder / "again", evaluations=())
    assert set(load_file(folder / "again" / "model.safetensors")) == {"params/kernel", "state/std"}
    assert_same(load(folder / "again", build=build).variables, whole)


def test_a_moved_folder_and_a_renamed_second_stage_load(folder):
    wanted = load(folder / "prior", build=build).variables
    folder.rename(folder.parent / "elsewhere")
    (folder.parent / "elsewhere" / "prior").rename(folder.parent / "elsewhere" / "mine")
    assert_same(load(folder.parent / "elsewhere" / "mine", build=build).variables, wanted)


def test_a_missing_first_stage_is_named_with_the_places_where_it_may_be(folder, tmp_path):
    wanted = load(folder / "prior", build=build).variables
    (folder / "codes").rename(folder / "other_name")
    with pytest.raises(FileNotFoundError, match="prior needs its first stage, the published checkpoint 'codes', which "
                                                "is not at .*made/codes or .*shipped/codes: put it there, or set JAXG"):
        load(folder / "prior", build=build)
    shutil.copytree(folder / "other_name", tmp_path / "shipped" / "codes")
    assert_same(load(folder / "prior", build=build).variables, wanted)


def test_another_first_stage_of_that_name_is_refused(folder, tmp_path):
    wanted = load(folder / "prior", build=build).variables
    shutil.copytree(folder / "codes", tmp_path / "codes")
    other = first_variables()
    with pytest.warns(UserWarning, match="prior"):
        publish(first_run(other._replace(state={**other.state, "started": jnp.array(False)})), folder / "codes",
                evaluations=())
    with pytest.raises(FileNotFoundError, match="needs its first stage 'codes' as it was .digest .*another one is in "
                                                ".*made/codes: fetch both together"):
        load(folder / "prior", build=build)
    shutil.copytree(tmp_path / "codes", tmp_path / "shipped" / "codes")  # the right one is among the shipped ones
    assert_same(load(folder / "prior", build=build).variables, wanted)
    file = tmp_path / "shipped" / "codes" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(DamagedCheckpointError, match="shipped/codes/model.safetensors is damaged"):
        load(folder / "prior", build=build)


@pytest.mark.parametrize("tokenizer", ["runs/x", "unknown", "codes", ""])
def test_weights_that_are_no_published_checkpoints_stay_where_they_are(folder, tokenizer):
    run = second_run(first_variables(), tokenizer)  # those of the run: not rounded
    publish(run, folder / "own", evaluations=())
    shutil.rmtree(folder / "codes")
    own = load(folder / "own", build=build)
    first = run.variables.state["codes"]
    assert_same(own.variables.state["codes"], Variables(half_of(first.params, np.float16), first.state))
    assert own.config["tokenizer"] == tokenizer and "first stage" not in (folder / "own" / "README.md").read_text()


def test_a_run_over_a_run_takes_the_checkpoint_that_was_made_of_it(folder):
    run = second_run(first_variables(), "runs/x")
    publish(run, folder / "whole", evaluations=())
    publish(run, folder / "prior", evaluations=(), first_stage="codes")
    prior = load(folder / "prior", build=build)
    assert_same(prior.variables, load(folder / "whole", build=build).variables)
    assert set(load_file(folder / "prior" / "model.safetensors")) == {"params/kernel", "state/std"}
    assert json.loads((folder / "prior" / "config.json").read_text())["tokenizer"] == "codes"


def test_a_second_stage_holds_its_own_where_that_is_asked_for(folder):
    run = second_run(load(folder / "codes", build=build).variables)
    publish(run, folder / "own", evaluations=(), first_stage="")
    wanted = load(folder / "prior", build=build).variables
    shutil.rmtree(folder / "codes")
    assert_same(load(folder / "own", build=build).variables, wanted)


def test_those_that_another_first_stage_leaves_without_theirs_are_named(folder):
    publish(second_run(first_variables()), folder / "own", evaluations=(), first_stage="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        publish(first_run(), folder / "codes", evaluations=())  # the same again
    first = first_variables()
    with pytest.warns(UserWarning, match="made/codes no longer has the weights .* first stage's: prior. Publ"):
        publish(first_run(first._replace(params={"kernel": first.params["kernel"] + 1})), folder / "codes",
                evaluations=())


def test_a_first_stage_is_found_beside_what_a_link_or_two_dots_lead_to(folder, tmp_path, monkeypatch):
    wanted = load(folder / "prior", build=build).variables
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(folder / "prior")
    assert_same(load(tmp_path / "other" / "link", build=build).variables, wanted)
    (folder / "prior" / "inner").mkdir()
    monkeypatch.chdir(folder / "prior" / "inner")
    assert_same(load("..", build=build).variables, wanted)


def test_all_first_stages_of_the_name_are_compared(folder, tmp_path):
    shutil.copytree(folder / "codes", tmp_path / "shipped" / "codes")
    first = first_variables()
    with pytest.warns(UserWarning, match="prior"):
        publish(first_run(first._replace(params={"kernel": first.params["kernel"] + 1})), folder / "codes",
                evaluations=())
    for options in ({}, {"first_stage": "codes"}):
        run = second_run(load(tmp_path / "shipped" / "codes", build=build).variables)
        publish(run, folder / "prior", evaluations=(), **options)
        assert set(load_file(folder / "prior" / "model.safetensors")) == {"params/kernel", "state/std"}


def test_a_checkpoint_of_other_weights_is_refused_and_nothing_is_written(folder):
    first = first_variables()
    other = first._replace(params={"kernel": first.params["kernel"].at[3, 4].add(0.01)})
    with pytest.raises(ValueError, match="first_stage=codes: tensor 'params/kernel' of the run's first stage is not"):
        publish(second_run(other), folder / "new", evaluations=(), first_stage="codes")
    with pytest.raises(FileNotFoundError, match="first_stage=kodes: no published checkpoint is at .*kodes"):
        publish(second_run(other), folder / "new", evaluations=(), first_stage="kodes")
    with pytest.raises(ValueError, match="first_stage=codes: the model is made over no first stage"):
        publish(first_run(), folder / "new", evaluations=(), first_stage="codes")
    assert not (folder / "new").exists()
