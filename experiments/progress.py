"""What the training of a generative model measures and shows along the way: a held-out loss, and samples."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.conditions import to_condition
from experiments.finite import blank, finite_images
from experiments.runs import spread
from experiments.sampler import Sampler
from jaxgen import data, show
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables

SHOWN = 64  # samples in the image log
CHECKED = 512  # held-out pictures whose loss is measured


def make_evaluate(
    loss_fn: Callable, sampler: Sampler, held_out: data.Dataset
) -> Callable[[show.Logger, Variables, int], Mapping[str, Any]]:
    """`evaluate(logger, variables, step) -> metrics` for `train_model`; the samples go to the logger.

    Args:
        loss_fn: the training's objective, which takes `train=False`.
        sampler: of the model.
        held_out: the set. A model of text shows samples of its captions, a model of classes all classes in turn.
    """
    model = sampler.model
    batch = {name: jnp.asarray(value) for name, value in spread(held_out, CHECKED).items() if value.dtype.kind in "iu"}
    batch["image"] = data.to_float(batch["image"])
    measure = jax.jit(lambda variables, batch: loss_fn(*variables, batch, jax.random.key(0), train=False)[1][0],
                      compiler_options=compiler_options())
    if model.text_length:
        text = spread(held_out, SHOWN)["text"]
        cond = {"text": text[np.arange(SHOWN) % len(text)]}
    else:
        cond = to_condition(model, SHOWN)
    columns = model.num_classes if 1 < model.num_classes <= 16 else None

    def evaluate(logger, variables, step):
        pictures = sampler.all(variables, jax.random.key(0), cond, SHOWN)
        finite = finite_images(pictures)
        logger.images(step, "samples", blank(pictures, finite), columns=columns, scale=2)
        lost = int((~finite).sum())
        return {**measure(variables, batch), **({"samples_not_finite": lost} if lost else {})}

    return evaluate
