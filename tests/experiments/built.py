"""Scripts' `build` of a configuration, on a few images of the right shape in place of the data set."""

import importlib
from unittest import mock

import jax
import numpy as np

from experiments.benchmarks.roofline import script_of
from jaxgen import data, models, runs


def get(name, variant=None):
    """The configuration."""
    return importlib.import_module(f"experiments.configs.{name}").get_config(variant)


def images(example_shape, classes=0):
    """A few black images, with labels and captions."""
    label = {"label": data.Class(classes)} if classes else {}
    spec = data.Spec({"image": data.Image(example_shape), "caption": data.Caption(), **label})
    arrays = {"image": np.zeros((4, *example_shape), np.uint8), "caption": ["one", "two", "three", "four"],
              **({"label": np.arange(4, dtype=np.int32)} if classes else {})}
    return data.Dataset.from_spec(spec, arrays, name="black", split="all")


def build(name, variant, example_shape, classes=0, first=None):
    """(configuration, Recipe) of the script whose configuration it is.

    Args:
        name: of the configuration.
        variant: None or "smoke".
        example_shape: of the images.
        classes: of the images.
        first: description of the first stage, where the script needs one.
    """
    config = get(name, variant)
    script = importlib.import_module(f"experiments.{script_of(config)}")
    if "perceptual" in config:
        config.perceptual.name = "none"  # its weights are not at hand
    dataset = images(example_shape, classes)
    stage = None
    if first is not None:
        first = {**first, "example_channels": example_shape[-1]}
        model = models.build(**first)
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), example_shape))
        state = {"autoencoder": variables, "std": np.ones(())} if script.__name__.endswith("diffusion") else variables
        stage = runs.FirstStage(first, {**config.data.to_dict(), "name": "black"}, model, variables, state)
    with mock.patch.object(script, "load_data", lambda config: (dataset, dataset)), \
            mock.patch.object(runs, "find_first_stage", lambda *arguments, **options: stage):
        return config, script.build(config)


def shapes(recipe):
    """The shapes of the model's variables, with the state that the recipe brings along."""
    shape = recipe.train_set.example_shape
    variables = jax.eval_shape(lambda: recipe.model.init(jax.random.key(0), shape))
    return variables if recipe.state is None else variables._replace(state=recipe.state)


def forward_shapes(recipe, variables, count=2):
    """The shapes of (x_r, outputs, state) of the model's reconstructions with variables of these shapes."""
    x = jax.ShapeDtypeStruct((count, *recipe.train_set.example_shape), np.float32)
    return jax.eval_shape(recipe.model.forward, variables, x)


def loss_shape(recipe, variables, count=2, **options):
    """The shape of the training objective of a batch, traced with everything it is made of."""
    batch = {name: value for name, value in recipe.train_set.take(np.arange(count)).items() if value.dtype.kind in "iu"}
    batch[recipe.train_set.example] = np.zeros((count, *recipe.train_set.example_shape), np.float32)
    return jax.eval_shape(lambda variables, key, options: recipe.loss_fn(*variables, batch, key, **options)[0],
                          variables, jax.random.key(0), options).shape
