"""Text as a condition: UTF-8 bytes as tokens, and a small transformer that turns them into features."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.transformer import TransformerBlock, small_init

NUM_TEXT_TOKENS = 257
"""The 256 bytes and the padding."""


def encode_text(strings: Sequence[str], length: int) -> Int[np.ndarray, "B length"]:
    """The UTF-8 bytes of each string, plus 1, padded with 0.

    A longer text ends where its last whole character fits: no character is cut into bytes without meaning.

    Args:
        strings: B texts.
        length: tokens per text.

    Returns:
        [B, length] int32 in [0, 256].

    Raises:
        ValueError: `length` is below 1.
        TypeError: `strings` is one string.
    """
    if isinstance(strings, str):
        raise TypeError(f"strings must be a sequence of texts, got the one text {strings!r}: use [text]")
    length = check_count("length", length)
    tokens = np.zeros((len(strings), length), np.int32)
    for row, string in zip(tokens, strings):
        # Only the end can be incomplete, so that is all that "ignore" leaves out. Where the locale is not UTF-8,
        # "surrogateescape" gives back the bytes of a command line.
        data = string.encode("utf-8", "surrogateescape")[:length].decode(errors="ignore").encode()
        row[: len(data)] = np.frombuffer(data, np.uint8) + np.int32(1)
    return tokens


class TextEncoder(nn.Module):
    """Features of a text's bytes and the mask that says which to attend to: [B, L] -> ([B, L, features], [B, L]).

    A transformer in both directions with rotary positions (`TransformerBlock`) and a norm at the end. Padding is
    not attended to and does not change the features, except at position 0: there it stands for the empty text, with
    a learned embedding. So the empty text has one attended position too, and serves as the null condition of
    classifier-free guidance.

    Attributes:
        features: E; heads must divide it into an even number of features each.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: see `TransformerBlock`.
        dtype: computing dtype; None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: tokens are not [B, L].
    """

    features: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 4.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: Int[Array, "B L"]) -> tuple[Float[Array, "B L features"], Bool[Array, "B L"]]:
        if jnp.ndim(tokens) != 2:
            raise ValueError(f"tokens must have shape [B, L], got {jnp.shape(tokens)}; see encode_text")
        tokens = jnp.asarray(tokens)
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        slots = jnp.arange(tokens.shape[1])
        mask = (tokens > 0) | (slots == 0)
        x = nn.Embed(NUM_TEXT_TOKENS, self.features, embedding_init=small_init, name="tokens", **types)(tokens)
        for i in range(self.depth):
            x, _ = TransformerBlock(self.heads, self.mlp_ratio, name=f"block{i}", **types)(
                x, mask=mask, positions=slots
            )
        return nn.LayerNorm(epsilon=1e-6, name="norm", **types)(x), mask
