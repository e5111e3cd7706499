"""The tokens of images as index maps, coarse to fine, whatever tokenizer they are of: what a codec stores."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.types import Variables
from jaxgen.models.base import SecondStage, Tokenizer

LARGEST = 1 << 12  # codes of a map; an index with more is split into digits


class IndexMaps(NamedTuple):
    """How a model's tokens become index maps [B, h, w], one for each level, resolution or digit.

    Attributes:
        num_codes: of each map.
        to_maps: (variables, x [B, H, W, C] in [-1, 1]) -> maps.
        from_maps: (variables, maps) -> x.
        progressive: whether `from_maps` takes the first maps only.
    """

    num_codes: tuple[int, ...]
    to_maps: Callable[[Variables, Float[Array, "B H W C"]], tuple[Int[Array, "B h w"], ...]]
    from_maps: Callable[[Variables, Sequence[Int[Array, "B h w"]]], Float[Array, "B H W C"]]
    progressive: bool


def index_maps(model: Any, variables: Variables, example_shape: tuple[int, ...]) -> IndexMaps:
    """The index maps of a tokenizer of images, of a model of two levels, or of a second stage's tokenizer.

    Args:
        model: with to_tokens and from_tokens, or to_indices and from_indices.
        variables: its own.
        example_shape: (H, W, C).

    Raises:
        ValueError: a model without tokens, or one whose tokens are of no image.
    """
    if isinstance(model, SecondStage):
        inner = index_maps(*model.first_stage(variables), example_shape)
        return inner._replace(to_maps=lambda v, x: inner.to_maps(model.first_stage(v)[1], x),
                              from_maps=lambda v, maps: inner.from_maps(model.first_stage(v)[1], maps))
    if hasattr(model, "to_indices"):
        names = tuple(model.num_codes)
        return _with_digits(IndexMaps(
            tuple(model.num_codes[name] for name in names),
            lambda v, x: tuple(model.to_indices(v, x)[name] for name in names),
            lambda v, maps: model.from_indices(v, dict(zip(names, maps, strict=True))), False))
    if not isinstance(model, Tokenizer) or len(example_shape) != 3:
        raise ValueError(f"a {type(model).__name__} for examples {example_shape} has no tokens of images: give a "
                         "VQ-VAE, or what is made over one")
    shape = model.token_shape(example_shape)
    if len(shape) == 2:
        return _with_digits(IndexMaps((model.num_tokens,), lambda v, x: (model.to_tokens(v, x),),
                                      lambda v, maps: model.from_tokens(v, maps[0]), False))
    levels = prod(shape[2:])

    def to_maps(v, x):
        tokens = model.to_tokens(v, x)
        return tuple(jnp.moveaxis(tokens.reshape(*tokens.shape[:3], levels), -1, 0))

    def from_maps(v, maps):
        last = shape[2:] if len(shape) > 3 else (len(maps),)
        return model.from_tokens(v, jnp.stack(maps, -1).reshape(*maps[0].shape, *last))

    return _with_digits(IndexMaps((model.num_tokens,) * levels, to_maps, from_maps,
                                  _takes_fewer(model, variables, shape)))


def _takes_fewer(model, variables, shape):
    """Whether the model decodes the first level only."""
    if len(shape) != 3 or shape[2] < 2:
        return False
    try:
        jax.eval_shape(model.from_tokens, variables, jnp.zeros((1, *shape[:2], 1), jnp.int32))
    except (TypeError, ValueError):
        return False
    return True


def _with_digits(maps: IndexMaps) -> IndexMaps:
    """The same with indices of more than `LARGEST` codes as digits, the high ones first."""
    digits = [_digits(codes) for codes in maps.num_codes]
    if all(len(own) == 1 for own in digits):
        return maps

    def split(v, x):
        parts = []
        for own, index in zip(digits, maps.to_maps(v, x), strict=True):
            for i, base in enumerate(own):
                parts.append(index // prod(own[i + 1:]) % base)
        return tuple(parts)

    def join(v, parts):
        parts, whole = iter(parts), []
        for own in digits:
            index = 0
            for base in own:
                index = index * base + next(parts)
            whole.append(index)
        return maps.from_maps(v, whole)

    return IndexMaps(tuple(base for own in digits for base in own), split, join, False)


def _digits(codes):
    """Numbers of codes, each up to LARGEST, whose product is at least `codes`."""
    count = 1
    while LARGEST**count < codes:
        count += 1
    base = next(size for size in range(2 if count > 1 else codes, LARGEST + 1) if size**count >= codes)
    return (base,) * count
