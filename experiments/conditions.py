"""Conditions of samples: from the command line's classes and captions, and from a data set's."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data
from jaxgen.models import DiffusionModel, TokenPrior, encode_text


def to_condition(model: DiffusionModel | TokenPrior, count: int, *, classes: Sequence[int | str] | None = None,
                 prompts: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The condition of `count` samples: the given classes or prompts in turn; all of the model's classes by default.

    Raises:
        ValueError: a class out of range, or a condition that the model does not take.
    """
    text_length = getattr(model, "text_length", 0)
    takes = "classes" if model.num_classes else "text" if text_length else "nothing"
    for name, given in (("classes", classes), ("text", prompts)):
        if given is not None and takes != name:
            raise ValueError(f"this run's model is conditioned on {takes}, so it cannot be asked for {name}")
    if model.num_classes:
        try:
            chosen = list(range(model.num_classes)) if classes is None else [int(label) for label in classes]
        except ValueError as error:
            raise ValueError(f"classes must be whole numbers with commas between them: {error}") from None
        for label in chosen:
            if not 0 <= label <= model.num_classes:
                raise ValueError(f"class {label} is out of range: this model has classes 0 to {model.num_classes - 1}, "
                                 f"and {model.num_classes} for none")
        return {"classes": np.resize(np.asarray(chosen, np.int32), count)}
    if text_length:
        chosen = [""] if prompts is None else list(prompts)
        tokens = encode_text(chosen, text_length)
        return {"text": tokens[np.arange(count) % len(chosen)]}
    return {}


def batch_condition(model: DiffusionModel | TokenPrior, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The condition that belongs to a batch of pictures: their labels or the tokens of their captions."""
    if model.num_classes:
        return {"classes": jnp.asarray(batch["label"])}
    return {"text": jnp.asarray(batch["text"])} if getattr(model, "text_length", 0) else {}


def with_text(dataset: data.Dataset, length: int) -> data.Dataset:
    """The set with its captions as bytes, "text" [B, length]; as it is where length is 0."""
    if not length:
        return dataset
    return dataset.map(lambda batch: {**batch, "text": encode_text([str(c) for c in batch["caption"]], length)})
