"""A mistake in a training leaves its directory as it was, and the corrected command runs there."""

from types import SimpleNamespace

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import train_diffusion
from experiments.common import training
from experiments.common.training import Recipe, check_values, run_training
from experiments.configs import diffusion_mnist, vqgan_mnist, vqvae_mnist
from jaxgen import data
from jaxgen.core.types import Variables
from jaxgen.runs import LockedRunError, lock, lock_run


def smoke(module, **changes):
    config = module.get_config("smoke")
    with config.unlocked():
        for name, value in changes.items():
            *parts, last = name.split("__")
            part = config
            for name_of_part in parts:
                part = part[name_of_part]
            del part[last]  # a command line cannot change a type, a configuration file can
            part[last] = value
    return config


@pytest.mark.parametrize(("name", "value", "message"), [
    ("seed", -1, "config.seed must be an integer of at least 0, got -1"),
    ("seed", 1.5, "config.seed must be an integer of at least 0, got 1.5"),
    ("seed", 2**32, "config.seed=4294967296 must be below 2^32: give a smaller"),
    ("num_steps", 0, "config.num_steps must be an integer of at least 1, got 0"),
    ("num_steps", 10.0, "config.num_steps must be an integer of at least 1, got 10.0"),
    ("log_every", 0, "config.log_every must be an integer of at least 1, got 0"),
    ("log_every", -5, "config.log_every must be an integer of at least 1, got -5"),
    ("evaluate_every", 0, "config.evaluate_every must be an integer of at least 1, got 0"),
    ("checkpoint_every", 0, "config.checkpoint_every must be an integer of at least 1, got 0"),
    ("keep_checkpoints", 0, "config.keep_checkpoints must be an integer of at least 1, got 0"),
    ("keep_checkpoints", True, "config.keep_checkpoints must be an integer of at least 1, got True"),
    ("accumulate", 0, "config.accumulate must be an integer of at least 1, got 0"),
    ("ema_decay", 1.5, "config.ema_decay must be a fraction in [0, 1], got 1.5: give 0 for no average"),
    ("ema_decay", -0.1, "config.ema_decay must be a fraction in [0, 1], got -0.1"),
    ("ema_decay", float("nan"), "config.ema_decay must be a fraction in [0, 1], got nan"),
    ("data__batch_size", 0, "config.data.batch_size must be an integer of at least 1, got 0"),
    ("data__crop", -1, "config.data.crop must be an integer of at least 0, got -1"),
    ("parallel__fsdp", 0, "config.parallel.fsdp must be an integer of at least 1, got 0"),
    ("optimizer__learning_rate", -1e-3, "config.optimizer.learning_rate must not be below 0, got -0.001"),
    ("optimizer__learning_rate", float("inf"), "config.optimizer.learning_rate must be finite, got inf"),
    ("optimizer__warmup_steps", -1, "config.optimizer.warmup_steps must be an integer of at least 0, got -1"),
    ("discriminator_optimizer__learning_rate", -1.0, "config.discriminator_optimizer.learning_rate must not be"),
])
def test_a_value_with_which_nothing_trains_is_named_with_its_option(name, value, message):
    with pytest.raises(ValueError) as caught:
        check_values(smoke(vqgan_mnist, **{name: value}))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("changes", [
    {}, {"seed": 0}, {"seed": 2**32 - 1}, {"ema_decay": 0.0}, {"evaluate_every": None, "checkpoint_every": None},
    {"optimizer__learning_rate": 0.0},
])
def test_values_with_which_a_run_trains_pass(changes):
    check_values(smoke(vqgan_mnist, **changes))


def fit(workdir, *, error=None, **changes):
    """`run_training` of the smallest model there is, on sixteen images."""
    config = smoke(vqvae_mnist, **changes)
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), np.uint8)
    dataset = data.Dataset.from_arrays(images, name="noise", split="all")

    def loss_fn(params, state, batch, key):
        if error:
            raise ValueError(f"{error} {batch['image'].shape}")
        return jnp.mean((batch["image"] - params["mean"]) ** 2), ({}, state)

    model = SimpleNamespace(init=lambda key, shape: Variables({"mean": jnp.zeros(shape)}, {}))
    recipe = Recipe(model=model, sizes={}, train_set=dataset, test_set=dataset, loss_fn=loss_fn, watch=lambda *_: {})
    return run_training(lambda config, workdir: recipe, config, workdir)


@pytest.mark.parametrize(("changes", "message"), [
    ({"seed": -1}, "config.seed must be"), ({"checkpoint_every": 0}, "config.checkpoint_every"),
    ({"accumulate": 3}, "accumulate=3 does not divide the batch of 8 examples"),
    ({"optimizer__name": "adm"}, "Did you mean 'adam'"), ({"parallel__fsdp": 3}, "fsdp=3 does not divide"),
    ({"parallel__mode": "jjit"}, "Did you mean 'jit'"), ({"data__batch_size": 12}, "does not divide over 8 devices"),
    ({"error": "no"}, r"no \(8, 4, 4, 1\)"), ({"error": "no", "parallel__mode": "pmap"}, r"no \(1, 4, 4, 1\)"),
    ({"error": "no", "accumulate": 2}, r"no \(4, 4, 4, 1\)"),
])
def test_a_mistake_leaves_no_directory_and_the_corrected_start_runs_there(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()
    corrected = {name: value for name, value in changes.items() if (name, value) == ("parallel__mode", "pmap")}
    assert fit(tmp_path / "new", **corrected).step == 4


def test_a_kind_that_the_model_does_not_know_leaves_no_directory(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'epsilon'"):
        run_training(train_diffusion.build, smoke(diffusion_mnist, model__kind="epsilon", model__network__channels=(8,),
                                                  model__network__down=("plain",)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def trained(tmp_path):
    assert fit(tmp_path / "a").step == 4
    return tmp_path / "a"


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_steps": 2}, "at step 4 already, beyond config.num_steps=2"), ({"keep_checkpoints": 0}, "keep_checkpoints"),
    ({"data__batch_size": 16}, "data.batch_size: 8 before, 16 now"), ({"error": "no", "num_steps": 6}, "no "),
])
def test_a_mistake_leaves_a_run_as_it_was(trained, changes, message):
    before = contents(trained)
    with pytest.raises(ValueError, match=message):
        fit(trained, **changes)
    assert contents(trained) == before


def test_a_second_training_of_a_run_is_refused_and_leaves_it_as_it_was(trained, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    with lock_run(trained):
        before = contents(trained)
        with pytest.raises(LockedRunError, match="is being trained by process"):
            fit(trained, num_steps=6)
        assert contents(trained) == before
    assert fit(trained, num_steps=6).step == 6


def test_the_look_at_the_first_batch_takes_none_away(tmp_path, monkeypatch):
    with_look = fit(tmp_path / "a").state
    monkeypatch.setattr(training, "trace", lambda *_: None)
    chex.assert_trees_all_equal(with_look, fit(tmp_path / "b").state)
