"""What a training measures and shows along the way: reconstructions, or a held-out loss and samples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, evaluate, generate, runs, show
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables

RECONSTRUCTED = 16  # held-out images in the image log
SAMPLED = 64  # samples in the image log
CHECKED = 512  # held-out examples whose loss is measured

Watch = Callable[[show.Logger, Variables, int], Mapping[str, Any]]


def watch_reconstructions(model: Any, held_out: data.Dataset) -> Watch:
    """`(logger, variables, step) -> metrics`: what can be measured of reconstructions; some go to the logger."""
    measure, pairs = evaluate.reconstruction(model), reconstructed_pairs(model)

    def watch(logger, variables, step):
        sheet, columns = pairs(variables, held_out, min(RECONSTRUCTED, len(held_out)))
        logger.images(step, "reconstructions", sheet, columns=columns, scale=2)
        return measure(variables, held_out)

    return watch


def reconstructed_pairs(model: Any) -> Callable[[Variables, data.Dataset, int], tuple[np.ndarray, int]]:
    """`(variables, dataset, count) -> ([2 * count, H, W, C] floats, columns)`.

    Rows of originals, each above the row of its reconstructions. An even count makes two rows of originals, an odd one
    makes one.
    """
    reconstruct = jax.jit(runs.reconstructor(model), compiler_options=compiler_options())

    def pairs(variables, dataset, count):
        images = np.asarray(data.to_float(dataset.spread(count)[dataset.example]))
        restored = np.asarray(reconstruct(variables, images), np.float32)
        columns = count if count % 2 else count // 2
        rows = [(images[i : i + columns], restored[i : i + columns]) for i in range(0, count, columns)]
        return np.concatenate([part for pair in rows for part in pair]), columns

    return pairs


def watch_samples(model: Any, loss_fn: Callable, settings: Mapping[str, Any], held_out: data.Dataset) -> Watch:
    """`(logger, variables, step) -> metrics`: a held-out loss; samples go to the logger.

    Args:
        model: the model.
        loss_fn: the training's objective, which takes `train=False`.
        settings: `config.sampling`.
        held_out: the set, prepared for the model's conditions. Samples are of its conditions where those are text, else
            of all classes in turn.
    """
    sampler, conditions = generate.make_sampler(model, settings), model.conditions
    batch = {name: jnp.asarray(value) for name, value in held_out.spread(CHECKED).items() if value.dtype.kind in "iu"}
    batch[held_out.example] = held_out.spec[held_out.example].to_model(batch[held_out.example])
    measure = jax.jit(lambda variables, batch: loss_fn(*variables, batch, jax.random.key(0), train=False)[1][0],
                      compiler_options=compiler_options())
    if "text" in conditions.entries:
        shown = held_out.spread(SAMPLED)
        cond = {"text": shown["text"][np.arange(SAMPLED) % len(shown["text"])]}
    else:
        cond = conditions.parse(SAMPLED)
    columns = conditions.num_classes if 1 < conditions.num_classes <= 16 else None

    def watch(logger, variables, step):
        samples = generate.sample(sampler, variables, jax.random.key(0), cond, SAMPLED)
        finite = generate.finite_images(samples)
        logger.images(step, "samples", generate.blank(samples, finite), columns=columns, scale=2)
        lost = int((~finite).sum())
        return {**measure(variables, batch), **({"samples_not_finite": lost} if lost else {})}

    return watch
