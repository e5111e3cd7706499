"""A quantizer of one's own, named on the command line: it trains, and a run read back imports nothing by itself."""

import sys
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from experiments import train_vqvae
from experiments.common import training
from experiments.common.own_quantizers import own_quantizers
from jaxgen import models, runs
from jaxgen.models.parts import parse_quantizer
from jaxgen.quantize import lfq, residual
from tests.experiments.built import get, images, loss_shape, shapes

MODULE = """
from jaxgen.quantize import lfq

imported = True

def signs(count, *, temperature=1.0, axis_name=None):
    return lfq(count, temperature=temperature, axis_name=axis_name)

def broken():
    return 3
"""
TEXT = "residual(own_module.signs(2, temperature=0.5), depth=2)"
SIGNS = {"name": "own_module.signs", "count": 2, "temperature": 0.5}
DESCRIPTION = {"name": "residual", "quantizer": SIGNS, "depth": 2}


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file in a folder that Python looks into; what was imported of it is forgotten."""
    (tmp_path / "own_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_module", None)


def recipe_of(text, mode="jit"):
    config = get("vqvae_mnist", "smoke")
    config.quantizer, config.parallel.mode, config.model.latent_channels = text, mode, 2
    for part in ("encoder", "decoder"):
        config.model[part].update(multipliers=(1,), patch_size=4)
    dataset = images((8, 8, 1))
    with mock.patch.object(train_vqvae, "load_data", lambda config: (dataset, dataset)):
        return config, train_vqvae.build(config)


@pytest.fixture
def run(module, tmp_path):
    """(its model, its directory) of a run as a training writes it, with weights of zero."""
    config, recipe = recipe_of(TEXT)
    assert loss_shape(recipe, shapes(recipe)) == ()  # it trains
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes(recipe))
    model = training.describe_model(config, recipe.sizes)
    run = runs.open_run(tmp_path / "run", {"model": model, "example_shape": (8, 8, 1)})
    with runs.Checkpointer(run.checkpoints) as checkpointer:
        checkpointer.save(1, {"params": variables.params, "model_state": variables.state})
    del sys.modules["own_module"]
    return recipe.model, run.path


def test_its_text_is_a_description_of_plain_values(module):
    assert parse_quantizer(TEXT, own_quantizers(TEXT)) == DESCRIPTION
    assert own_quantizers("residual(vq(512), depth=2)") == own_quantizers(None) == own_quantizers("vq(") == {}


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_model_is_built_of_it(module, mode):
    _, recipe = recipe_of(TEXT, mode)
    axis = "devices" if mode == "pmap" else None
    assert recipe.model.quantizer == residual(lfq(2, temperature=0.5, axis_name=axis), 2, axis_name=axis)


def test_a_run_that_is_read_back_imports_no_module_and_says_what_to_pass(run):
    model, directory = run
    with pytest.raises(ValueError, match="quantizer 'own_module.signs' is not of this library.*import own_module") as e:
        runs.load(directory)
    assert str(e.value).endswith("pass the function, as in jaxgen.runs.load(directory, build=functools.partial("
                                 "jaxgen.models.build, quantizers={'own_module.signs': own_module.signs}))")
    assert "own_module" not in sys.modules
    own = {"own_module.signs": lambda count, temperature: lfq(count, temperature=temperature)}
    assert runs.load(directory, build=partial(models.build, quantizers=own)).model == model
    assert "own_module" not in sys.modules


def test_a_first_stage_may_hold_it():
    tokenizer = {"name": "vqvae", "latent_channels": 2, "example_channels": 1, "quantizer": DESCRIPTION}
    prior = {"name": "token_prior", "network": {}, "tokenizer": tokenizer, "shape": (2, 2, 2)}
    own = {"own_module.signs": lambda count, temperature: lfq(count, temperature=temperature)}
    assert models.build(**prior, quantizers=own).tokenizer.num_codes == 4
    with pytest.raises(ValueError, match="'own_module.signs' is not of this library"):
        models.build(**prior)


@pytest.mark.parametrize(("text", "message"), [
    ("no_such_module.signs(3)", "config.quantizer names no_such_module.signs, but no_such_module cannot be imported"),
    ("own_module.sign(3)", "unknown function of own_module 'sign': .*Did you mean 'signs'"),
    ("own_module.imported(3)", "unknown function of own_module 'imported'"),
    ("own_module.signs(cnt=3)", "unknown argument of quantizer 'own_module.signs' 'cnt'.*Did you mean 'count'"),
    ("own_module.signs(open('x'))", "unknown quantizer 'open'"),
    ("own_module.signs(count)", "count must be a number"),
    ("own_module.broken()", "quantizer 'own_module.broken' returned int: it must return a Quantizer"),
    ("__import__('own_module').signs(3)", r"__import__\('own_module'\) cannot be imported"),
    ("own_module:signs(3)", "must be a call such as"),
])
def test_mistakes_in_its_text_are_said(module, text, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(text)
