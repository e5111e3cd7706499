"""A prior over the index maps of a VQ-VAE, its tokenizer, as a tuple of pure functions around a transformer."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.core.checks import check_count, check_counts
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables
from jaxgen.models.conditioning import conditioning
from jaxgen.models.vqvae import VQVAE
from jaxgen.nn.text import TextEncoder
from jaxgen.nn.transformer import Transformer

KINDS = ("masked", "autoregressive")


class TokenPrior(NamedTuple):
    """A prior over index maps in row-major order, N = h w levels tokens.

    Residual and grouped codes have several levels; those of one position follow each other, and each may be known or
    not by itself. A masked prior sees the tokens around a mask; an autoregressive one the tokens before, which of the
    same position are the lower levels.

    Variables(params, state): `params` are the transformer's, or, for a prior of text, hold its as "network" and the
    encoder's as "text"; `state` holds the tokenizer's own Variables, so that a checkpoint of the prior is all that
    sampling needs.
    """

    init: Callable  # (key, image_shape [H, W, C]) -> Variables(params, tokenizer's Variables)
    logits: Callable  # masked: (params, tokens [B, N], t [B], cond=None) -> [B, N, K]; autoregressive: without t
    tokens: Callable  # (state, x [B, H, W, C]) -> [B, N] int32
    pictures: Callable  # (state, tokens [B, N]) -> [B, H, W, C] in [-1, 1]
    null: Callable  # (count) -> cond that stands for "no condition"
    shape: tuple[int, ...]  # (h, w), or (h, w, levels)
    num_codes: int
    num_classes: int
    mask_id: int | None  # num_codes; None for an autoregressive prior, which has no mask
    kind: str = "masked"  # or "autoregressive"
    next_logits: Callable | None = None  # autoregressive: (params, before [B, 1], cache, index [], cond=None)
    #                                      -> (logits [B, 1, K] of the token at index, cache)
    init_cache: Callable | None = None  # autoregressive: (count) -> the empty cache of so many sequences
    encode: Callable = lambda params, cond: dict(cond or {})  # cond whose text is encoded, for many calls of `logits`
    text_length: int = 0  # bytes; 0 without text


def token_prior(network: Transformer, tokenizer: VQVAE, *, shape: tuple[int, int], levels: int = 1,
                kind: str = "masked", text_encoder: TextEncoder | None = None, text_length: int = 0) -> TokenPrior:
    """A prior of one of two kinds.

    "masked": the network sees tokens of which some are masks, and the time. It has num_codes + 1 tokens, the last
    being the mask, num_codes outputs, and the tokenizer's levels as its own.

    "autoregressive": a causal network reads the N = h w levels tokens as one sequence, so that the levels of a
    position are drawn given each other. Each level has codes of its own: levels * num_codes tokens, num_codes outputs.

    Args:
        network: the transformer.
        tokenizer: whose index maps are modelled.
        shape: (h, w) of the index maps.
        levels: indices per position.
        kind: see above.
        text_encoder, text_length: as `diffusion_model` takes them; the network has `context=True` then.

    Returns:
        A `TokenPrior`; cond is {}, {"classes": [B]} or {"text": [B, L]}.

    Raises:
        ValueError: an unknown kind, a network whose vocabulary is not the tokenizer's or that is of the other kind,
            text without a network of context, or both classes and text.
    """
    if kind not in KINDS:
        raise unknown_name("kind of a token prior", kind, KINDS)
    shape, levels = check_counts("shape", shape, length=2), check_count("levels", levels)
    codes, causal, masked = tokenizer.num_codes, kind == "autoregressive", kind == "masked"
    inputs, each = (codes + 1, levels) if masked else (levels * codes, 1)
    if (network.num_tokens, network.num_outputs) != (inputs, codes):
        raise ValueError(
            f"the tokenizer has {codes} codes, so this prior of the kind {kind!r} needs num_tokens={inputs}"
            f"{' (with the mask)' * masked} and num_outputs={codes}, got {network.num_tokens} and "
            f"{network.num_outputs}"
        )
    if (network.causal, network.levels) != (causal, each):
        raise ValueError(f"a prior of the kind {kind!r} over {levels} levels needs a network with causal={causal} and "
                         f"levels={each}, got {network.causal} and {network.levels}")
    if network.context != (text_encoder is not None):
        raise ValueError(f"a network with context={network.context} {'needs a' if network.context else 'takes no'} "
                         "text_encoder")
    maps = (*shape, levels) if levels > 1 else tuple(shape)
    split = (prod(shape), levels) if masked and levels > 1 else (prod(maps),)

    conditions = conditioning(network.num_classes, text_encoder, text_length)

    def init(key, image_shape):
        network_key, tokenizer_key = jax.random.split(key)
        text = conditions.init(jax.random.fold_in(network_key, 1))
        cond = conditions.encode(text, conditions.null(1))
        time = jnp.ones(1) if masked else None
        params = network.init(network_key, jnp.zeros((1, *split), jnp.int32), time=time, **cond)["params"]
        return Variables({**text, "network": params} if text else params, tokenizer.init(tokenizer_key, image_shape))

    def apply(params, tokens, cond, **options):
        cond = conditions.encode(params, cond or conditions.null(len(tokens)))
        own = params if text_encoder is None else params["network"]
        return network.apply({"params": own}, tokens, **cond, **options)

    def masked_logits(params, tokens, t, cond=None):
        return apply(params, tokens.reshape(-1, *split), cond, time=t).reshape(*tokens.shape, codes)

    def causal_logits(params, tokens, cond=None):
        return apply(params, own_codes(tokens, jnp.arange(tokens.shape[1])), cond)

    def next_logits(params, before, cache, index, cond=None):
        return apply(params, own_codes(before, index - 1), cond, cache=cache, index=index)

    def own_codes(tokens, places):
        return tokens + codes * (places % levels)

    def tokens(state, x):
        indices = tokenizer.indices(Variables(*state), x)
        if indices.shape[1:] != maps:
            raise ValueError(f"pictures {x.shape[1:]} have index maps {indices.shape[1:]}, but this prior is "
                             f"over {maps}")
        return indices.reshape(indices.shape[0], -1)

    def pictures(state, tokens):
        return tokenizer.decode_indices(Variables(*state), tokens.reshape(-1, *maps))

    functions = (init, masked_logits if masked else causal_logits, tokens, pictures, conditions.null)
    sizes = (maps, codes, network.num_classes, codes if masked else None, kind)
    cached = (None, None) if masked else (next_logits, lambda count: network.init_cache(count, prod(maps)))
    return TokenPrior(*functions, *sizes, *cached, conditions.encode, text_length)
