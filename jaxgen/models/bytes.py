"""Bytes as tokens: a tokenizer without weights, so that text needs no VQ-VAE."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from jaxgen.core.checks import check_integers
from jaxgen.core.types import AxisName, Variables
from jaxgen.nn.text import NUM_TEXT_TOKENS


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """Text as `jaxgen.nn.encode_text` gives it: each byte plus 1, and 0 after the end. Nothing is learned.

    Example:
        >>> from jaxgen.nn import encode_text
        >>> tokenizer = ByteTokenizer()
        >>> variables = tokenizer.init(None, (4,))
        >>> tokenizer.to_tokens(variables, encode_text(["cat"], 4)).tolist()
        [[100, 98, 117, 0]]
    """

    @classmethod
    def from_description(cls, *, dtype: str | None = None, axis_name: AxisName = None) -> "ByteTokenizer":
        """The tokenizer; nothing is to be said of it."""
        return cls()

    @property
    def num_tokens(self) -> int:
        return NUM_TEXT_TOKENS

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """No variables."""
        return Variables({}, {})

    def to_tokens(self, variables: Variables, x: Int[Array, "B L"]) -> Int[Array, "B L"]:
        """The text itself; raises ValueError for numbers that are no bytes plus 1."""
        check_integers("x", x, NUM_TEXT_TOKENS)
        return jnp.asarray(x, jnp.int32)

    def from_tokens(self, variables: Variables, tokens: Int[Array, "B L"]) -> Int[Array, "B L"]:
        """The text itself."""
        return tokens

    def token_shape(self, example_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(L,), the shape of the text."""
        return tuple(example_shape)
