"""A run read back: configuration, model and weights, and what of them is missing, damaged or edited."""

import json
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.runs import Checkpointer, open_run, read_run
from jaxgen.train import init_state, make_mesh, shard_state
from tests.helpers import toy

OPTIMIZER = optax.adam(1e-2)
Model = namedtuple("Model", "init scale")
Variables = namedtuple("Variables", "params state")


def build(name, scale):
    assert name == "toy"
    return Model(lambda key, example_shape: Variables(toy.make_params(), {"mean": jnp.zeros(toy.CODE)}), scale)


def write_run(directory, state, config):
    open_run(directory, config)
    with Checkpointer(directory / "checkpoints") as checkpointer:
        checkpointer.save(int(state.step), state, {"position": 4})


def test_load_gives_config_model_and_weights_without_the_optimizer_or_the_devices(tmp_path):
    config = {"model": {"name": "toy", "scale": 2}, "example_shape": [12], "other": 1}
    sharded = shard_state(toy.state_at(9, OPTIMIZER), make_mesh(fsdp=4), min_size=0)
    write_run(tmp_path, sharded, config)
    loaded = read_run(tmp_path, build=build)
    assert (loaded.config, loaded.model.scale, loaded.step) == (config, 2, 9)
    toy.assert_same_bits(
        (loaded.params, loaded.model_state, loaded.ema_params),
        (sharded.params, sharded.model_state, sharded.ema_params),
    )
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(loaded.params))


def test_load_knows_a_run_without_moving_average(tmp_path):
    write_run(tmp_path, init_state(toy.make_params(), {"mean": jnp.ones(toy.CODE)}, OPTIMIZER),
              {"model": {"name": "toy", "scale": 1}, "example_shape": [12]})
    loaded = read_run(tmp_path, build=build)
    assert loaded.ema_params is None
    np.testing.assert_array_equal(loaded.model_state["mean"], np.ones(toy.CODE))


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        read_run(tmp_path)
    open_run(tmp_path / "no_model", {"example_shape": [3]})
    with pytest.raises(ValueError, match="has no 'model', which reading it back needs"):
        read_run(tmp_path / "no_model")
    open_run(tmp_path / "new", {"example_shape": [3], "model": {"name": "toy", "scale": 1}})
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        read_run(tmp_path / "new", build=build)


def test_load_names_a_configuration_that_is_damaged_or_edited(tmp_path):
    config = {"model": {"name": "toy", "scale": 1}, "example_shape": [12]}
    write_run(tmp_path, toy.state_at(9, OPTIMIZER), config)
    file, written = tmp_path / "config.json", (tmp_path / "config.json").read_text()
    for content, message in (
        (written[:-9], "is no JSON: .*Restore it from a copy"), ("", "is no JSON"), ("[]", "must hold an object"),
        (written.replace('"scale": 1', '"scale": 2'), "its values are not those that were written"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"config\.json is damaged or was edited: .*{message}"):
            read_run(tmp_path, build=build)
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json has no checksum, so this version of jaxgen did not write it"):
        read_run(tmp_path, build=build)
    file.write_text(json.dumps(json.loads(written), indent=None))  # the same values in another layout
    assert read_run(tmp_path, build=build).config == config
