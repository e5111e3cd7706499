"""Conditions of samples: from the command line's classes and captions, and from a data set's."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data
from jaxgen.core.errors import unknown_name
from jaxgen.models import DiffusionModel, LatentDiffusion, TokenPrior
from jaxgen.models.conditioning import check_condition
from jaxgen.nn import encode_text

Conditioned = DiffusionModel | LatentDiffusion | TokenPrior
CONDITIONS = {"classes": {"classes": "label"}, "text": {"text": "text"}, "none": None}
"""`config.condition`: the conditions' names in the model, and in a batch of data."""


def to_condition(model: Conditioned, count: int, *, classes: Sequence[int | str] | None = None,
                 prompts: Sequence[str] | None = None, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The condition of `count` samples: the given classes or prompts in turn; all of the model's classes by default.

    Args:
        model: the model.
        count: samples.
        classes: numbers, or strings: a class of that name where there is one, else the class of that number.
        prompts: captions.
        names: of the classes, where the data have them.

    Raises:
        ValueError: an unknown class, a caption longer than the model reads, or a condition that it does not take.
    """
    text_length = model.text_length
    takes = "classes" if model.num_classes else "text" if text_length else "nothing"
    advice = {"classes": "use --classes", "text": "use --prompt", "nothing": "leave it out"}[takes]
    for name, given in (("classes", classes), ("text", prompts)):
        if given is not None and takes != name:
            raise ValueError(f"this run's model is conditioned on {takes}, so it cannot be asked for {name}: {advice}")
    for prompt in prompts or ():
        if (length := len(prompt.encode("utf-8", "surrogateescape"))) > text_length:
            raise ValueError(f"prompt {prompt!r} has {length} bytes, and this run's model reads {text_length}: shorten "
                             "it")
    if model.num_classes:
        chosen = range(model.num_classes) if classes is None else [_class_number(c, names) for c in classes]
        if not len(chosen):
            raise ValueError(f"classes is empty: give some of 0 to {model.num_classes - 1}, or leave it out for all")
        check_condition({"classes": np.asarray(chosen)}, model.num_classes, has_text=False)
        return {"classes": np.resize(np.asarray(chosen, np.int32), count)}
    if text_length:
        chosen = [""] if prompts is None else list(prompts)
        tokens = encode_text(chosen, text_length)
        return {"text": tokens[np.arange(count) % len(chosen)]}
    return {}


def _class_number(given: int | str, names: Sequence[str] | None) -> int:
    if isinstance(given, str) and given in (names or ()):
        return list(names).index(given)
    try:
        number = int(str(given))
    except ValueError:
        number = None
    # The number after the last class stands for none.
    if names and (number is None or not 0 <= number <= len(names)):
        raise unknown_name("class", given, names)
    if number is None:
        raise ValueError(f"class {given!r} is not a whole number, and this run's classes have no names")
    return number


def check_condition_name(condition: str) -> None:
    """Raises ValueError for an unknown `config.condition`."""
    if condition not in CONDITIONS:
        raise unknown_name("config.condition", condition, CONDITIONS)


def class_sizes(condition: str, dataset: data.Dataset) -> dict[str, int]:
    """What the set adds to the model's description for `config.condition`: {"num_classes": its classes}, or nothing.

    Raises:
        ValueError: a set without labels.
    """
    if condition != "classes":
        return {}
    if not dataset.num_classes:
        raise ValueError(f"config.condition='classes' needs labels, and {dataset.name} has none: use 'none'")
    return {"num_classes": dataset.num_classes}


def check_text(condition: str, model: Conditioned) -> None:
    """Raises ValueError where `config.condition` is text and the model has no encoder of it, or the other way round."""
    if condition == "text" and not model.text_length:
        raise ValueError("config.condition='text' needs config.model.text, the encoder of text: its length, features, "
                         "depth and heads")
    if condition != "text" and model.text_length:
        raise ValueError(f"config.model.text is an encoder of text, but config.condition={condition!r}: use 'text', or "
                         "another configuration")


def batch_condition(model: Conditioned, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The condition that belongs to a batch of pictures: their labels or the tokens of their captions."""
    if model.num_classes:
        return {"classes": jnp.asarray(batch["label"])}
    return {"text": jnp.asarray(batch["text"])} if model.text_length else {}


def with_text(dataset: data.Dataset, length: int) -> data.Dataset:
    """The set with its captions as bytes, "text" [B, length], where longer ones end; as it is where length is 0.

    Raises:
        ValueError: the set has no captions.
    """
    if not length:
        return dataset
    if "caption" not in dataset.take(np.arange(1)):
        raise ValueError(f"a model of text needs captions, and {dataset.name} has none: use config.condition='classes' "
                         "or 'none', or a set with captions such as noto_emoji")
    return dataset.map(lambda batch: {**batch, "text": encode_text([str(c) for c in batch["caption"]], length)})
