"""A prior over the tokens of a tokenizer: a masked or autoregressive model of tokens, and the way to examples and back.

Tokens are in row-major order, N = h w levels. Residual and grouped codes have several levels; those of one position
follow each other, and each may be known or not by itself. A masked model sees the tokens around a mask; an
autoregressive one the tokens before, which at the same position are the lower levels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_counts, choose
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.models.base import MaskedTokens, NextTokens, Tokenizer
from jaxgen.models.conditions import UNCONDITIONAL, Condition, build_conditions
from jaxgen.models.description import make_network
from jaxgen.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class _TokenModel:
    """What both models of tokens are: a transformer and its conditions.

    `params` are the transformer's or, with conditions that have parameters, hold its as "network".
    """

    network: Transformer
    conditions: Condition = UNCONDITIONAL

    def __post_init__(self):
        takes = bool(self.conditions.network.get("context"))
        if self.network.context != takes:
            raise ValueError(f"a network with context={self.network.context} needs conditions "
                             f"{'of text' if self.network.context else 'without text'}, got {self.conditions}")
        if self.network.num_classes != self.conditions.num_classes:
            raise ValueError(f"the network has num_classes={self.network.num_classes}, but the conditions are of "
                             f"{self.conditions.num_classes} classes: make them equal")

    @property
    def num_tokens(self) -> int:
        """Tokens that are drawn."""
        return self.network.num_outputs

    def init(self, key: PRNGKeyArray, length: int) -> PyTree:
        """Fresh parameters for sequences of `length` tokens."""
        own = self.conditions.init(jax.random.fold_in(key, 1))
        tokens, time = jnp.zeros((1, *self._split(length)), jnp.int32), None if self.network.causal else jnp.ones(1)
        params = self.network.init(key, tokens, time=time, **self.encode(own, self.null(1)))["params"]
        return {**own, "network": params} if own else params

    def encode(self, params: PyTree, cond: Mapping[str, Array] | None) -> dict[str, Any]:
        """cond whose text is encoded, for many calls of `logits`."""
        return self.conditions.encode(params, cond)

    def null(self, count: int) -> dict[str, Any]:
        """The cond of `count` sequences that stands for "no condition"."""
        return self.conditions.null(count)

    def _split(self, length):
        """The shape of `length` tokens as the network takes them: its levels have an axis of their own."""
        return (length // self.network.levels, self.network.levels) if self.network.levels > 1 else (length,)

    def _apply(self, params, tokens, cond, **options):
        cond = self.encode(params, cond or self.null(len(tokens)))
        own = params.get("network", params)
        return self.network.apply({"params": own}, tokens, **cond, **options)


@dataclass(frozen=True, kw_only=True)
class MaskedModel(_TokenModel):
    """Sees tokens of which some are masks, and the time.

    Attributes:
        network: of num_outputs + 1 tokens, the last being the mask; its levels are those of a position.
        conditions: see `jaxgen.models.conditions`.

    Raises:
        ValueError: a network of another vocabulary or a causal one, or one that does not suit the conditions.
    """

    def __post_init__(self):
        super().__post_init__()
        network = self.network
        if network.causal or network.num_tokens != network.num_outputs + 1:
            raise ValueError(f"a masked model needs a network that is not causal, of num_tokens = num_outputs + 1 (the "
                             f"mask); got causal={network.causal}, {network.num_tokens} and {network.num_outputs}")

    @property
    def mask_id(self) -> int:
        return self.network.num_outputs

    @property
    def levels(self) -> int:
        """Tokens per position."""
        return self.network.levels

    def logits(self, params: PyTree, tokens: Int[Array, "B N"], t: Float[Array, "B"],
               cond: Mapping[str, Array] | None = None) -> Float[Array, "B N K"]:
        """Of every token, at a time t that is the share of masks."""
        logits = self._apply(params, tokens.reshape(-1, *self._split(tokens.shape[1])), cond, time=t)
        return logits.reshape(*tokens.shape, self.num_tokens)


@dataclass(frozen=True, kw_only=True)
class AutoregressiveModel(_TokenModel):
    """A causal network that reads the tokens as one sequence; the levels of a position are drawn given each other.

    Each level has codes of its own: the network has levels * num_outputs tokens.

    Attributes:
        network: causal; see above.
        conditions: see `jaxgen.models.conditions`.

    Raises:
        ValueError: a network that is not causal or whose tokens are no multiple of its outputs, or one that does not
            suit the conditions.
    """

    def __post_init__(self):
        super().__post_init__()
        network = self.network
        if not network.causal or network.levels != 1 or network.num_tokens % network.num_outputs:
            raise ValueError("an autoregressive model needs a causal network with levels=1, of num_tokens = levels * "
                             f"num_outputs; got causal={network.causal}, levels={network.levels}, "
                             f"{network.num_tokens} and {network.num_outputs}")

    @property
    def levels(self) -> int:
        """Tokens per position."""
        return self.network.num_tokens // self.network.num_outputs

    def logits(self, params: PyTree, tokens: Int[Array, "B N"], cond: Mapping[str, Array] | None = None
               ) -> Float[Array, "B N K"]:
        """Of every token, given those before it."""
        return self._apply(params, self._own_codes(tokens, jnp.arange(tokens.shape[1])), cond)

    def next_logits(self, params: PyTree, before: Int[Array, "B 1"], cache: PyTree, index: Int[Array, ""],
                    cond: Mapping[str, Array] | None = None) -> tuple[Float[Array, "B 1 K"], PyTree]:
        """(logits of the token at `index`, cache), of the token before it, which index 0 does not look at."""
        return self._apply(params, self._own_codes(before, index - 1), cond, cache=cache, index=index)

    def init_cache(self, count: int, length: int) -> PyTree:
        """The empty cache of `count` sequences of `length` tokens."""
        return self.network.init_cache(count, length)

    def _own_codes(self, tokens, places):
        return tokens + self.num_tokens * (places % self.levels)


TOKEN_MODELS = {"masked": MaskedModel, "autoregressive": AutoregressiveModel}


@dataclass(frozen=True, kw_only=True)
class TokenPrior:
    """A model of tokens over a tokenizer.

    Variables(params, state): `params` are the token model's; `state` holds the tokenizer's own Variables, so that a
    checkpoint is all that sampling needs.

    Attributes:
        model: `MaskedModel` or `AutoregressiveModel`.
        tokenizer: trained, such as a `VQVAE`, or `ByteTokenizer`.
        sample_shape: of the tokens of one example: (h, w), (h, w, levels), (length,).

    Raises:
        ValueError: what has no to_tokens and from_tokens is no tokenizer; a model of another vocabulary than the
            tokenizer's, or of other levels than the shape's; in `to_tokens` examples of another shape.
    """

    model: MaskedTokens | NextTokens
    tokenizer: Tokenizer
    sample_shape: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "sample_shape", check_counts("sample_shape", self.sample_shape))
        _check_tokenizer(self.tokenizer)
        if self.model.num_tokens != self.tokenizer.num_tokens:
            raise ValueError(f"the tokenizer has {self.tokenizer.num_tokens} tokens, but the model draws "
                             f"{self.model.num_tokens}: give its network num_outputs={self.tokenizer.num_tokens}")
        if self.model.levels != prod(self.sample_shape[2:]):
            raise ValueError(f"the model has {self.model.levels} tokens per position, but examples have tokens of the "
                             f"shape {self.sample_shape}")

    @classmethod
    def from_description(
        cls, *, network: Mapping, tokenizer: Tokenizer, shape: tuple[int, ...], kind: str = "masked",
        conditions: Mapping | None = None, dtype: str | None = None, axis_name: AxisName = None,
    ) -> "TokenPrior":
        """The model of plain values over a tokenizer; `kind` is a key of `TOKEN_MODELS`."""
        maker = choose("kind of a token prior", kind, TOKEN_MODELS)
        _check_tokenizer(tokenizer)
        shape = check_counts("shape", shape)
        if len(shape) > 3:
            raise ValueError(f"a token prior takes tokens [length], [h, w] or [h, w, levels], got {tuple(shape)}: a "
                             "residual or grouped quantizer of another one of these has no prior")
        codes, levels, conditions = tokenizer.num_tokens, prod(shape[2:]), build_conditions(conditions, dtype)
        width = shape[1] if len(shape) > 1 else None
        sizes = {"num_outputs": codes, "num_classes": conditions.num_classes,
                 "context": bool(conditions.network.get("context"))}
        if kind == "autoregressive":
            sizes |= {"num_tokens": levels * codes, "max_length": prod(shape), "causal": True,
                      "grid_width": width and width * levels}
        else:
            sizes |= {"num_tokens": codes + 1, "max_length": prod(shape[:2]), "grid_width": width, "levels": levels}
        network = make_network(Transformer, sizes, network, dtype)
        return cls(model=maker(network=network, conditions=conditions), tokenizer=tokenizer, sample_shape=shape)

    @property
    def conditions(self) -> Condition:
        return self.model.conditions

    @property
    def num_tokens(self) -> int:
        return self.tokenizer.num_tokens

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables, with those of the tokenizer."""
        network_key, tokenizer_key = jax.random.split(key)
        params = self.model.init(network_key, prod(self.sample_shape))
        return Variables(params, self.tokenizer.init(tokenizer_key, example_shape))

    def encode(self, params: PyTree, cond: Mapping[str, Array] | None) -> dict[str, Any]:
        """cond whose text is encoded, for many calls."""
        return self.model.encode(params, cond)

    def null(self, count: int) -> dict[str, Any]:
        """The cond of `count` samples that stands for "no condition"."""
        return self.model.null(count)

    def first_stage(self, variables: Variables) -> tuple[Tokenizer, Variables]:
        """The tokenizer and its variables."""
        return self.tokenizer, Variables(*variables.state)

    def to_tokens(self, variables: Variables, x: Array) -> Int[Array, "B N"]:
        """Tokens of examples, in row-major order."""
        tokenizer, own = self.first_stage(variables)
        tokens = tokenizer.to_tokens(own, x)
        if tokens.shape[1:] != self.sample_shape:
            raise ValueError(f"examples {x.shape[1:]} have tokens {tokens.shape[1:]}, but this prior is over "
                             f"{self.sample_shape}")
        return tokens.reshape(tokens.shape[0], -1)

    def from_tokens(self, variables: Variables, tokens: Int[Array, "B N"]) -> Array:
        """Examples of tokens."""
        tokenizer, own = self.first_stage(variables)
        return tokenizer.from_tokens(own, tokens.reshape(-1, *self.sample_shape))

    def token_shape(self, example_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(N,)."""
        return (prod(self.sample_shape),)


def _check_tokenizer(tokenizer: Any) -> None:
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError("a token prior needs a tokenizer, with to_tokens and from_tokens, such as a 'vqvae' or "
                         f"'bytes'; got a {type(tokenizer).__name__}")
