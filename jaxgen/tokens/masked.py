"""Masked (absorbing) diffusion over tokens: the schedule, the corruption and the ELBO.

Each token of x0 is still there at time t with probability alpha(t), and is the mask token otherwise; data at t = 0,
all masks at t = 1. A network gives logits for the clean token at every position,

    logits_fn(tokens [B, N], t [B], cond) -> logits [B, N, K],

and the bound on -log p(x0) is the integral over t of rate(t) times the cross-entropy at masked positions,
rate = -alpha'(t) / (1 - alpha(t)).

Known tokens are given as for pixels: `known` [B, N] and `mask` [B, N] boolean, **True keeps** (see `editing`).

Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data" (2024).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_floating, check_integers, check_keep_mask, check_key, check_positive, expand_to
from jaxgen.core.keys import sample_keys

LogitsFn = Callable[[Array, Array, Any], Array]
"""(tokens [B, N] with mask_id where unknown, t [B], cond) -> logits [B, N, K] over clean tokens."""


class MaskSchedule(NamedTuple):
    """alpha(t), the share of tokens left, and rate(t) = -alpha' / (1 - alpha), the weight of the ELBO."""

    alpha: Callable[[Array], Array]
    rate: Callable[[Array], Array]


def polynomial_masking(power: Any = 1.0) -> MaskSchedule:
    """alpha = 1 - t^w, rate = w / t; w = 1 is the linear schedule."""
    check_positive("power", power)
    return MaskSchedule(lambda t: 1 - jnp.asarray(t) ** power, lambda t: power / jnp.asarray(t))


def cosine_masking() -> MaskSchedule:
    """alpha = 1 - sin(pi t / 2), rate = pi / 2 cot(pi t / 2): few masks change at a time near t = 1."""
    return MaskSchedule(
        lambda t: 1 - jnp.sin(jnp.pi / 2 * jnp.asarray(t)),
        lambda t: jnp.pi / 2 / jnp.tan(jnp.pi / 2 * jnp.asarray(t)),
    )


def mask_tokens(
    key: PRNGKeyArray,
    tokens: Int[Array, "B N"],
    t: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    mask: Bool[Array, "B N"] | None = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N"]:
    """Tokens at time t: each is replaced by `mask_id` with probability 1 - alpha(t), where `mask` does not keep it.

    With `sample_ids` the masks of an example depend on the key and on its id alone.

    Raises:
        ValueError: what is no key, tokens or ids that are no whole numbers, or t or a mask that does not fit.
    """
    check_key(key)
    check_integers("tokens", tokens)
    schedule = schedule or polynomial_masking()
    if sample_ids is None:
        draws = jax.random.uniform(key, tokens.shape)
    else:
        keys = sample_keys(key, sample_ids, tokens.shape[0])
        draws = jax.vmap(lambda k: jax.random.uniform(k, tokens.shape[1:]))(keys)
    hide = draws >= expand_to(schedule.alpha(t), tokens, name="t")
    if mask is not None:
        check_keep_mask(mask, tokens.shape, of="tokens")
        hide = hide & ~mask
    return jnp.where(hide, mask_id, tokens)


def masked_diffusion_loss(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    tokens: Int[Array, "B N"],
    t: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    mask: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """rate(t) sum over masked positions of -log p(x0 | xt): the ELBO's integrand at t, in nats per sequence.

    Args:
        key: for which tokens are masked.
        logits_fn: see this module; a logit for the mask token itself, if there is one (K = mask_id + 1), is left out.
        tokens: [B, N] clean tokens.
        t: [B] in (0, 1]; uniform or stratified draws (`noise_levels`) make the mean an estimate of the bound.
        mask_id: the mask token, outside the clean vocabulary.
        schedule: `polynomial_masking()` by default.
        mask: [B, N] True where a token is always known, for a network that fills in; not part of the loss.
        cond: passed to the network.
        sample_ids: see `mask_tokens`.

    Returns:
        [B] nats; divide by N log 2 for bits per token. NaN where a masked token is outside the vocabulary.

    Raises:
        ValueError: as `mask_tokens`; logits of another shape, or (where their values are known) tokens without a logit.
    """
    if jnp.shape(t) != tokens.shape[:1]:
        raise ValueError(f"t must hold one time per sequence, shape {tokens.shape[:1]}; got {jnp.shape(t)}")
    schedule = schedule or polynomial_masking()
    # At t = 0 nothing is masked and the rate is infinite; float32 draws reach it once in 2^23.
    t = jnp.maximum(jnp.asarray(t, jnp.float32), 1e-6)
    xt = mask_tokens(key, tokens, t, mask_id=mask_id, schedule=schedule, mask=mask, sample_ids=sample_ids)
    log_p = clean_log_probs(logits_fn(xt, t, cond), mask_id, tokens)
    nats = -entries(log_p, tokens)
    return schedule.rate(t) * jnp.sum(jnp.where(xt == mask_id, nats, 0.0), axis=-1)


def entries(log_p: Float[Array, "... K"], tokens: Int[Array, "..."]) -> Float[Array, "..."]:
    """log_p of the tokens; NaN for a traced token that has none, an error for a known one."""
    check_integers("tokens", tokens, log_p.shape[-1])
    found = jnp.take_along_axis(log_p, jnp.asarray(tokens)[..., None], axis=-1, mode="fill")[..., 0]
    return jnp.where(tokens >= 0, found, jnp.nan)  # negative ones count from the end


def clean_log_probs(logits: Float[Array, "B N K"], mask_id: int, tokens: Int[Array, "B N"]) -> Float[Array, "B N K"]:
    """Log-softmax in float32 over the clean tokens; the mask token is never an answer."""
    check_floating("what logits_fn returns", logits)
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(f"logits_fn must return logits [B, N, K] of tokens {tokens.shape}, got {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if mask_id < logits.shape[-1]:
        logits = logits.at[..., mask_id].set(-jnp.inf)
    return jax.nn.log_softmax(logits)
