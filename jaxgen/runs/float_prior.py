"""A token prior as it was trained, in floating point, as probabilities of the codec.

Any prior will do, and nothing need be fitted. Devices must agree on its logits to 1/64 nats, which most do: where they
do not, a file says so and is not read, see `jaxgen.codec.prior`. For files that are kept take the whole-number prior.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxgen.codec.prior import Autoregressive, Masked, halton_groups
from jaxgen.codec.tables import to_grid
from jaxgen.core.batches import filled, in_batches
from jaxgen.core.cpu import compiler_options
from jaxgen.core.digest import digest
from jaxgen.core.types import PyTree, Variables
from jaxgen.models.base import MaskedTokens, NextTokens, TokenGenerating
from jaxgen.models.index_maps import IndexMaps


@dataclass(frozen=True, kw_only=True, eq=False)
class _Float:
    """A model of tokens and its parameters."""

    model: Any
    params: PyTree
    exact = False

    @functools.cached_property
    def digest(self) -> str:
        return f"float {digest(self.params)} {self.model}"


class FloatNext(_Float):
    """`NextTokens` without a condition; see `jaxgen.codec.prior.NextNetwork`."""

    model: NextTokens

    def all(self, tokens: Int[np.ndarray, "B N"]) -> None:
        """None: many tokens at a time would be computed in another order than one by one."""

    def start(self, batch: int, length: int) -> PyTree:
        return self.model.init_cache(filled(batch), length)

    def next(self, state: PyTree, before: Int[np.ndarray, "B"], index: int) -> tuple[Int[np.ndarray, "B K"], PyTree]:
        own = np.zeros((filled(len(before)), 1), np.int32)
        own[:len(before), 0] = before
        logits, state = _program("next_logits", self.model)(self.params, own, state, np.int32(index))
        return to_grid(logits[:len(before), 0]), state


class FloatMasked(_Float):
    """`MaskedTokens` without a condition; see `jaxgen.codec.prior.MaskedNetwork`."""

    model: MaskedTokens

    def logits(self, tokens: Int[np.ndarray, "B N"], known: Int[np.ndarray, "N"], step: int
               ) -> Int[np.ndarray, "B N K"]:
        seen = np.where(known, tokens, self.model.mask_id).astype(np.int32)
        share = np.float32(1 - np.mean(known))
        logits = _program("logits", self.model)
        return to_grid(in_batches(lambda part: logits(self.params, part, np.full(len(part), share)), seen))


def float_prior(model: TokenGenerating, variables: Variables, maps: IndexMaps) -> Autoregressive | Masked:
    """The probabilities of a token prior.

    Args:
        model, variables: of the prior.
        maps: its tokenizer's index maps.

    Raises:
        ValueError: no token prior, or one of other codes than the index maps'.
    """
    if not isinstance(model, TokenGenerating):
        raise ValueError("only a token prior has a prior of floating point: take 'static' or 'context'")
    check_codes(model, maps)
    own, block = {"model": model.model, "params": variables.params}, tuple(model.sample_shape[:2])
    if isinstance(model.model, MaskedTokens):
        return Masked(network=FloatMasked(**own), num_codes=maps.num_codes, groups=halton_groups(*block))
    return Autoregressive(network=FloatNext(**own), num_codes=maps.num_codes, block=block)


def check_codes(model: TokenGenerating, maps: IndexMaps) -> None:
    """Raises ValueError where the index maps have other codes than the prior, as those that are split into digits."""
    if set(maps.num_codes) != {model.model.num_tokens}:
        raise ValueError(f"a prior of {model.model.num_tokens} codes has no tables of index maps with "
                         f"{maps.num_codes}: take a tokenizer with fewer codes")


@functools.lru_cache(maxsize=4)
def _program(name, model):
    return jax.jit(getattr(model, name), compiler_options=compiler_options())
