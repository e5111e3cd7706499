"""Networks of whole numbers as the priors of `jaxgen.codec.prior` take them, and how they are made of float ones."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxgen.codec.integer_transformer import Cache, IntegerTransformer, empty_cache, forward, quantize
from jaxgen.core.batches import filled, in_batches
from jaxgen.core.digest import digest


@dataclass(frozen=True, kw_only=True)
class IntegerNext:
    """A causal network; see `jaxgen.codec.prior.NextNetwork`.

    Attributes:
        network: with a token of its own for each level's codes.
        levels: tokens of a place.
    """

    network: IntegerTransformer
    levels: int = 1
    exact = True

    @property
    def digest(self) -> str:
        return f"{digest(self.network.arrays)} {self.network.sizes} {self.levels}"

    def all(self, tokens: Int[np.ndarray, "B N"]) -> Int[np.ndarray, "B N K"]:
        """Logits of known tokens."""
        own = self._own(tokens, np.arange(tokens.shape[1]))
        return in_batches(lambda part: _forward(self.network.sizes, self.network.on_device, part[..., None], 0), own)

    def start(self, batch: int, length: int) -> Cache:
        """See `NextNetwork`."""
        return empty_cache(self.network, filled(batch), length)

    def next(self, state: Cache, before: Int[np.ndarray, "B"], index: int) -> tuple[Int[np.ndarray, "B K"], Cache]:
        """See `NextNetwork`."""
        own = np.zeros(state.keys.shape[1], np.int32)
        own[:len(before)] = self._own(before, index - 1)
        logits, state = _next(self.network.sizes, self.network.on_device, own[:, None, None], state, np.int32(index))
        return np.asarray(logits)[:len(before)], state

    def _own(self, tokens, places):
        codes = self.network.weights["tokens0"].shape[0] // self.levels
        return (tokens + codes * (places % self.levels)).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class IntegerMasked:
    """A network that sees both sides; see `jaxgen.codec.prior.MaskedNetwork`.

    Attributes:
        network: whose last token is the mask, with a modulation for each step.
    """

    network: IntegerTransformer
    exact = True

    @property
    def digest(self) -> str:
        return f"{digest(self.network.arrays)} {self.network.sizes}"

    def logits(self, tokens: Int[np.ndarray, "B N"], known: Int[np.ndarray, "N"], step: int
               ) -> Int[np.ndarray, "B N K"]:
        """See `MaskedNetwork`."""
        levels, mask = self.network.sizes.levels, self.network.weights["tokens0"].shape[0] - 1
        seen = np.where(known, tokens, mask).astype(np.int32).reshape(len(tokens), -1, levels)
        sizes, arrays = self.network.sizes, self.network.on_device
        logits = in_batches(lambda part: _forward(sizes, arrays, part, np.int32(step)), seen)
        return logits.reshape(*tokens.shape, -1)


def integer_next(params: Mapping[str, Any], tokens: Int[np.ndarray, "B N"], condition: Float[np.ndarray, "D"] | None,
                 *, heads: int, levels: int) -> IntegerNext:
    """The whole-number network of a causal `jaxgen.nn.Transformer`; see `integer_transformer.quantize`.

    Args:
        params: of the network.
        tokens: of a training set, which the ranges are taken from.
        condition: what modulates it.
        heads: of its attention.
        levels: tokens of a place, whose codes follow each other in its table.
    """
    codes = len(params["tokens0"]["embedding"]) // levels
    own = tokens + codes * (np.arange(tokens.shape[1]) % levels)
    return IntegerNext(network=quantize(params, [own[..., None]], [condition], heads=heads, causal=True), levels=levels)


def integer_masked(
    params: Mapping[str, Any], tokens: Int[np.ndarray, "B N"], conditions: Sequence[Float[np.ndarray, "D"] | None],
    known: Sequence[Int[np.ndarray, "N"]], *, heads: int,
) -> IntegerMasked:
    """The whole-number network of a `jaxgen.nn.Transformer` of masked tokens.

    Args:
        params: of the network.
        tokens: of a training set, which the ranges are taken from.
        conditions: what modulates each step.
        known: which tokens are known at each step.
        heads: of its attention.
    """
    levels = sum(name.startswith("tokens") for name in params)
    mask = len(params["tokens0"]["embedding"]) - 1
    seen = [np.where(own, tokens, mask).reshape(len(tokens), -1, levels) for own in known]
    return IntegerMasked(network=quantize(params, seen, conditions, heads=heads, causal=False))


@functools.partial(jax.jit, static_argnums=0)
def _forward(sizes, arrays, tokens, step):
    logits = forward(sizes, arrays, tokens, step=step)[0]
    return logits.reshape(len(tokens), -1, logits.shape[-1])


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _next(sizes, arrays, tokens, cache, index):
    logits, cache = forward(sizes, arrays, tokens, cache=cache, index=index)
    return logits[:, 0, 0], cache
