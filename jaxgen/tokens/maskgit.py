"""MaskGIT: a bidirectional prior that fills in many tokens at a time, the surest first.

    logits_fn(tokens [B, N], r [B], cond) -> logits [B, N, K]

with `mask_id` where a token is unknown and r the share of the way (`timed_by_masks` makes one of the logits of
`jaxgen.models.TokenPrior`, whose time is the share of masks). Known tokens: `known` [B, N] and `mask` [B, N] boolean,
**True keeps**.

Chang, Zhang, Jiang, Liu & Freeman, "MaskGIT: masked generative image transformer" (2022).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_fraction, check_integers, check_key, check_not_negative
from jaxgen.core.errors import unknown_name
from jaxgen.core.keys import numbered, sample_keys
from jaxgen.core.mapped import vary_like
from jaxgen.tokens.autoregressive import token_nats
from jaxgen.tokens.draw import draw_tokens
from jaxgen.tokens.masked import LogitsFn, clean_log_probs
from jaxgen.tokens.masked_sample import start_tokens

SCHEDULES = {
    "cosine": lambda r: jnp.cos(jnp.pi / 2 * r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cubic": lambda r: 1 - r**3,
    "sqrt": lambda r: 1 - jnp.sqrt(r),
}


def timed_by_masks(logits_fn: LogitsFn, mask_id: int) -> LogitsFn:
    """A function of this module from one of masked diffusion, (tokens, t, cond), where t is the share of masks.

    The share is counted and not taken from a schedule: where much is given, a decoding starts late.
    """

    def timed(tokens, r, cond):
        return logits_fn(tokens, jnp.mean(tokens == mask_id, axis=1), cond)

    return timed


def masking_schedule(name: str = "cosine") -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    """r in [0, 1] -> the share of tokens that are masks, falling from 1 to 0.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    return SCHEDULES[name]


def masked_loss(
    key: Array,
    logits_fn: LogitsFn,
    tokens: Int[Array, "B N"],
    r: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: str = "cosine",
    smoothing: float = 0.1,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """The mean of -log p over the masked tokens of each sequence, in nats; ceil(schedule(r) N) of them, at random.

    Args:
        key: for which tokens are masked; sequence i draws from fold_in(key, i).
        logits_fn: see this module.
        tokens: [B, N] clean tokens.
        r: [B] in [0, 1), uniform in training; at least one token is masked.
        mask_id: the mask token, outside the clean vocabulary.
        schedule: see `masking_schedule`.
        smoothing: of the labels.
        cond: passed to the network.
        sample_ids: [B] places in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Returns:
        [B]; NaN where a masked token is outside the clean vocabulary.

    Raises:
        ValueError: a setting out of its bounds; r, tokens or logits that do not fit; what is no key.
    """
    check_fraction("smoothing", smoothing)
    check_integers("tokens", tokens, mask_id)
    if jnp.shape(r) != tokens.shape[:1]:
        raise ValueError(f"r must hold one number per sequence, shape {tokens.shape[:1]}; got {jnp.shape(r)}")
    length = tokens.shape[1]
    count = jnp.clip(jnp.ceil(masking_schedule(schedule)(jnp.asarray(r)) * length), 1, length)
    keys = sample_keys(key, sample_ids, tokens.shape[0])
    scores = jax.vmap(lambda k: jax.random.uniform(k, (length,)))(keys)
    order = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    hidden = order < count[:, None]
    logits = logits_fn(jnp.where(hidden, mask_id, tokens), r, cond)
    nats = token_nats(logits[..., :mask_id], tokens, smoothing=smoothing)
    return jnp.sum(jnp.where(hidden, nats, 0.0), axis=1) / count


def masked_counts(unknown: Int[Array, "B"], length: int, steps: int, schedule: str = "cosine") -> Int[Array, "T B"]:
    """How many masks are left after each step: max(1, min(unknown - 1, floor(N schedule(r)))), r = (t + 1) / T.

    The last step's 1 is not used: it fills in everything.
    """
    r = (jnp.arange(steps) + 1) / steps
    wanted = jnp.floor(length * masking_schedule(schedule)(r) + 1e-4).astype(jnp.int32)
    return jnp.maximum(1, jnp.minimum(unknown - 1, wanted[:, None]))


def masked_decode(
    key: Array,
    logits_fn: LogitsFn,
    shape: tuple[int, int],
    *,
    mask_id: int,
    steps: int = 12,
    schedule: str = "cosine",
    temperature: Any = 1.0,
    choice_temperature: Any = 4.5,
    top_k: Any = None,
    top_p: Any = None,
    known: Int[Array, "B N"] | None = None,
    mask: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N"]:
    """Fills in all tokens in `steps` steps: draws them all, keeps the surest, masks the others again.

    A drawn token's confidence is log p + choice_temperature (1 - r) Gumbel noise; known tokens and those kept before
    stay. `masked_counts` says how many masks are left.

    Args:
        key: sample i at step t draws from fold_in(fold_in(key, i), t).
        logits_fn: see this module; guidance is `jaxgen.diffusion.cfg(scale, null_cond)(logits_fn)`.
        shape: (B, N).
        mask_id: the mask token.
        steps: T.
        schedule: see `masking_schedule`.
        temperature, top_k, top_p: of the drawn tokens; may be traced.
        choice_temperature: 0 is greedy in which tokens are kept; may be traced.
        known, mask: tokens to keep where `mask` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        [B, N] int32 tokens; -1 where the logits were NaN.

    Raises:
        ValueError: a setting out of its bounds; known tokens, a mask or logits that do not fit; what is no key.
    """
    check_key(key)
    steps = check_count("steps", steps)
    check_not_negative("choice_temperature", choice_temperature)
    tokens, keep = start_tokens(shape, known, mask, mask_id)
    ids = numbered(sample_ids, shape[0])
    tokens = vary_like(tokens, known, mask, cond, key, ids)
    left = masked_counts(jnp.sum(~keep, axis=1), shape[1], steps, schedule)

    def noise(step):
        folded = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), step))(ids)
        return jax.vmap(lambda k: jax.random.gumbel(jax.random.fold_in(k, 1), shape[1:]))(folded)

    def advance(tokens, inputs):
        step, left = inputs
        r = (step + 1) / steps
        log_p = clean_log_probs(logits_fn(tokens, jnp.full(shape[:1], step / steps), cond), mask_id, tokens)
        drawn = draw_tokens(key, log_p, ids, step, temperature=temperature, top_k=top_k, top_p=top_p)
        hidden = tokens == mask_id
        filled = jnp.where(hidden, drawn, tokens).astype(jnp.int32)
        sure = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        sure = sure + choice_temperature * (1 - r) * noise(step)
        order = jnp.argsort(jnp.argsort(jnp.where(hidden, sure, jnp.inf), axis=1), axis=1)
        again = hidden & (order < left[:, None]) & (step < steps - 1)
        return jnp.where(again, mask_id, filled), None

    tokens, _ = jax.lax.scan(advance, tokens, (jnp.arange(steps), left))
    return tokens
