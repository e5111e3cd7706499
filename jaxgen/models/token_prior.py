"""A prior over the index maps of a VQ-VAE, its tokenizer, as a tuple of pure functions around a transformer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.models.diffusion import check_condition
from jaxgen.models.transformer import Transformer
from jaxgen.models.vqvae import VQVAE
from jaxgen.quantize import Variables


class TokenPrior(NamedTuple):
    """A prior over index maps in row-major order, N = h w levels tokens; the mask token is `num_codes`.

    Residual and grouped codes have several levels; those of one position follow each other, and each may be known or
    masked by itself.

    Variables(params, state): `params` are the transformer's; `state` holds the tokenizer's own Variables, so that a
    checkpoint of the prior is all that sampling needs.
    """

    init: Callable  # (key, image_shape [H, W, C]) -> Variables(params, tokenizer's Variables)
    logits: Callable  # (params, tokens [B, N], t [B], cond=None) -> [B, N, K]
    tokens: Callable  # (state, x [B, H, W, C]) -> [B, N] int32
    pictures: Callable  # (state, tokens [B, N]) -> [B, H, W, C] in [-1, 1]
    null: Callable  # (count) -> cond that stands for "no condition"
    shape: tuple[int, ...]  # (h, w), or (h, w, levels)
    num_codes: int
    num_classes: int
    mask_id: int


def token_prior(network: Transformer, tokenizer: VQVAE, *, shape: tuple[int, int]) -> TokenPrior:
    """A masked prior, whose network sees tokens of which some are masks, and the time.

    Args:
        network: with num_codes + 1 tokens, the last being the mask, and num_codes outputs.
        tokenizer: whose index maps are modelled.
        shape: (h, w) of the index maps.

    Returns:
        A `TokenPrior`; cond is {} or {"classes": [B]}.

    Raises:
        ValueError: the network's vocabulary is not the tokenizer's.
    """
    num_codes = tokenizer.num_codes
    if (network.num_tokens, network.num_outputs) != (num_codes + 1, num_codes):
        raise ValueError(
            f"the tokenizer has {num_codes} codes, so a masked prior needs num_tokens={num_codes + 1} (with the mask) "
            f"and num_outputs={num_codes}, got {network.num_tokens} and {network.num_outputs}"
        )
    positions, levels = shape[0] * shape[1], () if network.levels == 1 else (network.levels,)
    maps = (*shape, *levels)

    def null(count):
        return {"classes": jnp.full((count,), network.num_classes, jnp.int32)} if network.num_classes else {}

    def init(key, image_shape):
        network_key, tokenizer_key = jax.random.split(key)
        inputs = {"time": jnp.ones(1), "classes": null(1).get("classes")}
        params = network.init(network_key, jnp.zeros((1, positions, *levels), jnp.int32), **inputs)["params"]
        return Variables(params, tokenizer.init(tokenizer_key, image_shape))

    def logits(params, tokens, t, cond=None):
        cond = dict(cond or {})
        check_condition(cond, network.num_classes, has_text=False)
        split = tokens.reshape(tokens.shape[0], positions, *levels)
        found = network.apply({"params": params}, split, time=t, classes=cond.get("classes"))
        return found.reshape(*tokens.shape, num_codes)

    def tokens(state, x):
        indices = tokenizer.indices(Variables(*state), x)
        if indices.shape[1:] != maps:
            raise ValueError(f"pictures {x.shape[1:]} have index maps {indices.shape[1:]}, but this prior is "
                             f"over {maps}")
        return indices.reshape(indices.shape[0], -1)

    def pictures(state, tokens):
        return tokenizer.decode_indices(Variables(*state), tokens.reshape(-1, *maps))

    return TokenPrior(init, logits, tokens, pictures, null, maps, num_codes, network.num_classes, num_codes)
