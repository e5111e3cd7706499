"""Conditions of a model as pure functions: classes, or text that an encoder trained with the network turns to features.

A condition is a dict: {} for none, {"classes": [B]} or {"text": [B, L]}; text is bytes (`jaxgen.nn.text`). Encoded,
text becomes "context" [B, M, E] and "context_mask" [B, M], which the network attends to.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.checks import check_count
from jaxgen.nn.text import TextEncoder


class Conditioning(NamedTuple):
    """What models of classes, of text and without conditions have in common."""

    init: Callable  # (key) -> {"text": the encoder's parameters}, or {}
    encode: Callable  # (params, cond) -> cond whose text is encoded by params["text"]
    null: Callable  # (count) -> cond that stands for "no condition"


def conditioning(num_classes: int, text_encoder: TextEncoder | None, text_length: int) -> Conditioning:
    """The functions of a model of `num_classes` classes, of text where there is an encoder, or of neither.

    Args:
        num_classes: class `num_classes` means "no class"; 0 for a model without classes.
        text_encoder: `(tokens [B, L]) -> (features [B, M, E], mask [B, M])`.
        text_length: L.

    Raises:
        ValueError: both classes and text, or an encoder without a length. `encode` raises it for a condition that the
            model has not and for a class out of range, as far as the class is known while tracing.
    """
    num_classes, text_length = check_count("num_classes", num_classes, 0), check_count("text_length", text_length, 0)
    if num_classes and text_encoder is not None:
        raise ValueError(f"a model is conditioned on classes or on text: num_classes={num_classes} and a text_encoder")
    if (text_encoder is None) != (text_length < 1):
        given = "no text_encoder" if text_encoder is None else "a text_encoder"
        raise ValueError(f"text_encoder and text_length belong together: got {given} and text_length={text_length}")

    def init(key):
        return {} if text_encoder is None else {"text": text_encoder.init(key, null(1)["text"])["params"]}

    def encode(params, cond):
        cond = dict(cond or {})
        check_condition(cond, num_classes, text_encoder is not None)
        if "text" in cond:
            cond["context"], cond["context_mask"] = text_encoder.apply({"params": params["text"]}, cond.pop("text"))
        return cond

    def null(count):
        if num_classes:
            return {"classes": jnp.full((count,), num_classes, jnp.int32)}
        return {} if text_encoder is None else {"text": jnp.zeros((count, text_length), jnp.int32)}

    return Conditioning(init, encode, null)


def check_condition(cond: Mapping[str, Any], num_classes: int, has_text: bool) -> None:
    """Raises ValueError for a condition that a model has not, or a class beyond its last."""
    allowed = ["classes"] * bool(num_classes) + ["text", "context", "context_mask"] * has_text
    for name in cond:
        if name not in allowed:
            takes = " or ".join(map(repr, allowed[:1])) or "no condition"
            raise ValueError(f"cond has {name!r}, but this model takes {takes}")
    classes = cond.get("classes")
    if classes is None or isinstance(classes, jax.core.Tracer):
        return
    values = np.asarray(classes)
    outside = values[(values < 0) | (values > num_classes)]
    if outside.size:
        raise ValueError(f"class {outside[0]} is out of range: this model has classes 0 to {num_classes - 1}, and "
                         f"{num_classes} for none")
