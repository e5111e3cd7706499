"""What a decoder makes of each code of a tokenizer."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import show
from jaxgen.core.batches import in_batches
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables


def decoded_codes(stage: Any, variables: Variables, chosen: np.ndarray, tokens: np.ndarray,
                  example_shape: Sequence[int]) -> np.ndarray:
    """uint8 [K, h, w, C]: the decoder's images around the places of a code, half a cell wider on each side, their mean.

    A code that has no place among the tokens [N, h, w] is decoded with the same code all around.
    """
    decode = jax.jit(stage.from_tokens, compiler_options=compiler_options())
    cells = [size // parts for size, parts in zip(example_shape, tokens.shape[1:])]
    edges = [cell // 2 for cell in cells]
    size = [cell + 2 * edge for cell, edge in zip(cells, edges)]
    rows = np.full(stage.num_tokens, len(chosen))  # the last row takes all codes that were not chosen
    rows[chosen] = np.arange(len(chosen))
    sums, counts = np.zeros((len(chosen) + 1, *size, example_shape[-1])), np.zeros(len(chosen) + 1)
    alone = np.setdiff1d(chosen, tokens)
    constant = np.broadcast_to(alone.reshape(-1, 1, 1), (len(alone), *tokens.shape[1:]))
    tokens = np.concatenate([constant.astype(tokens.dtype), tokens])
    images = in_batches(lambda part: show.to_uint8(decode(variables, jnp.asarray(part))), tokens)
    images = np.pad(images, ((0, 0), *((edge, edge) for edge in edges), (0, 0)), "edge")
    for row, column in np.ndindex(tokens.shape[1:]):
        top, left = row * cells[0], column * cells[1]
        np.add.at(sums, rows[tokens[:, row, column]], images[:, top : top + size[0], left : left + size[1]])
        np.add.at(counts, rows[tokens[:, row, column]], 1)
    return np.round(sums[:-1] / np.maximum(counts[:-1], 1).reshape(-1, 1, 1, 1)).astype(np.uint8)
