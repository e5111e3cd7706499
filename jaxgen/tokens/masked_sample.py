"""Samplers of masked diffusion: ancestral, with remasking, and by confidence. All fill in around known tokens."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import (
    check_count,
    check_fraction,
    check_integers,
    check_keep_mask,
    check_key,
    check_not_negative,
    check_positive,
    concrete,
)
from jaxgen.core.keys import numbered
from jaxgen.core.mapped import vary_like
from jaxgen.tokens.categorical import draw_categorical
from jaxgen.tokens.masked import LogitsFn, MaskSchedule, clean_log_probs, polynomial_masking


def mask_times(n: int) -> Float[Array, "n+1"]:
    """n equal steps from t = 1 (all masks) to t = 0."""
    n = check_count("n", n)
    return 1 - jnp.arange(n + 1) / n


def start_tokens(shape, known, mask, mask_id) -> tuple[Array, Array]:
    """(tokens, keep): masks everywhere but where known."""
    if len(shape) != 2:
        raise ValueError(f"shape must be (B, N), got {tuple(shape)}")
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together: give both, or neither")
    if known is None:
        return jnp.full(shape, mask_id, jnp.int32), jnp.zeros(shape, bool)
    if jnp.shape(known) != tuple(shape):
        raise ValueError(f"known must have the shape {tuple(shape)} of the result, got {jnp.shape(known)}")
    check_keep_mask(mask, shape)
    check_integers("known", known)
    values, kept = concrete(known), concrete(mask)
    if values is not None and kept is not None and ((values == mask_id) & kept).any():
        raise ValueError(f"known holds the mask token {mask_id} where mask is True: what is kept must be a clean token")
    keep = jnp.broadcast_to(mask, shape)
    return jnp.where(keep, known, mask_id).astype(jnp.int32), keep


def _check_times(times) -> None:
    values = concrete(times)
    if np.ndim(times) != 1 or np.shape(times)[0] < 2:
        raise ValueError(f"times must be a vector [n + 1] from 1 to 0, got shape {np.shape(times)}")
    if values is not None and ((np.diff(values) >= 0).any() or values[0] > 1 or values[-1] < 0):
        raise ValueError(f"times must decrease strictly within [0, 1], got {values}; see mask_times(n)")


def _draw(key, ids, step, log_p) -> tuple[Array, Array, Array]:
    """Per sample: a token for each position [B, N], and two uniforms [B, N]."""

    def one(sample_id, log_p):
        folded = jax.random.fold_in(jax.random.fold_in(key, sample_id), step)
        token_key, first, second = jax.random.split(folded, 3)
        tokens = draw_categorical(token_key, log_p)
        shape = log_p.shape[:-1]
        return tokens, jax.random.uniform(first, shape), jax.random.uniform(second, shape)

    return jax.vmap(one)(ids, log_p)


def masked_sample(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    times: Float[Array, "n+1"],
    shape: tuple[int, int],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    remask: Any = 0.0,
    temperature: Any = 1.0,
    known: Int[Array, "B N"] | None = None,
    mask: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N"]:
    """The reverse process from all masks to tokens, ancestral or with remasking.

    From t to s, with r = remask min(1, (1 - alpha_s) / alpha_t):
        a mask becomes a drawn token with probability (alpha_s - (1 - r) alpha_t) / (1 - alpha_t),
        a token becomes a mask again with probability r.
    The share of masks at every time is that of the forward process for any `remask`; 0 is the ancestral sampler.

    Args:
        key: sample i at step s draws from fold_in(fold_in(key, i), s).
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`.
        times: [n + 1] decreasing, from 1 to 0 (`mask_times`).
        shape: (B, N).
        mask_id: the mask token.
        schedule: `polynomial_masking()` by default.
        remask: in [0, 1], the share of the largest possible remasking; may be traced.
        temperature: of the drawn tokens, above 0.
        known, mask: [B, N] tokens to keep where `mask` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        [B, N] int32 tokens; -1 where the logits were NaN.

    Raises:
        ValueError: a setting out of its bounds, what is no key, or times, known tokens, a mask or logits that do not
            fit.

    Shi et al. (2024), section 4; remasking: Wang et al., "Remasking discrete diffusion models" (2025).
    """
    check_key(key)
    check_fraction("remask", remask)
    check_positive("temperature", temperature)
    _check_times(times)
    schedule = schedule or polynomial_masking()
    tokens, keep = start_tokens(shape, known, mask, mask_id)
    ids = numbered(sample_ids, shape[0])
    tokens = vary_like(tokens, known, mask, cond, key, ids)
    times = jnp.asarray(times)

    def advance(tokens, inputs):
        step, t, s = inputs
        log_p = clean_log_probs(logits_fn(tokens, jnp.full(shape[:1], t), cond), mask_id, tokens)
        drawn, first, second = _draw(key, ids, step, log_p / temperature)
        alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
        again = remask * jnp.minimum(1.0, (1 - alpha_s) / jnp.maximum(alpha_t, 1e-12))
        # A time of 0 needs every mask gone, whatever rounding makes of the quotient.
        show = jnp.where(s > 0, (alpha_s - (1 - again) * alpha_t) / (1 - alpha_t), 1.0)
        masked = tokens == mask_id
        shown = jnp.where(masked & (first < show), drawn, tokens)
        return jnp.where(~masked & ~keep & (second < again), mask_id, shown), None

    steps = times.shape[0] - 1
    tokens, _ = jax.lax.scan(advance, tokens, (jnp.arange(steps), times[:-1], times[1:]))
    return tokens


def confidence_sample(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    times: Float[Array, "n+1"],
    shape: tuple[int, int],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    temperature: Any = 1.0,
    choice_temperature: Any = 1.0,
    known: Int[Array, "B N"] | None = None,
    mask: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N"]:
    """Shows the most confident tokens first: after a step to s, floor((1 - alpha(s)) unknown) masks are left.

    Confidence is log p(drawn token) + choice_temperature t Gumbel noise; known and shown tokens stay. At least one
    token is shown by every step while there are masks.

    Args:
        choice_temperature: 0 is greedy in which positions are shown.
        key, logits_fn, times, shape, mask_id, schedule, temperature, known, mask, cond, sample_ids: as in
            `masked_sample`.

    Chang et al., "MaskGIT" (2022), with the time of masked diffusion.
    """
    check_key(key)
    check_positive("temperature", temperature)
    check_not_negative("choice_temperature", choice_temperature)
    _check_times(times)
    schedule = schedule or polynomial_masking()
    tokens, keep = start_tokens(shape, known, mask, mask_id)
    ids = numbered(sample_ids, shape[0])
    tokens = vary_like(tokens, known, mask, cond, key, ids)
    unknown = jnp.sum(~keep, axis=-1)
    times = jnp.asarray(times)

    def advance(tokens, inputs):
        step, t, s = inputs
        log_p = clean_log_probs(logits_fn(tokens, jnp.full(shape[:1], t), cond), mask_id, tokens)
        drawn, uniform, _ = _draw(key, ids, step, log_p / temperature)
        masked = tokens == mask_id
        gumbel = -jnp.log(-jnp.log(jnp.clip(uniform, 1e-7, 1 - 1e-7)))
        confidence = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0] + choice_temperature * t * gumbel
        left = jnp.floor((1 - schedule.alpha(s)) * unknown + 1e-4).astype(jnp.int32)
        left = jnp.where(s > 0, jnp.minimum(left, jnp.maximum(jnp.sum(masked, axis=-1) - 1, 0)), 0)
        order = jnp.argsort(jnp.argsort(jnp.where(masked, confidence, jnp.inf), axis=-1), axis=-1)
        return jnp.where(masked & (order >= left[:, None]), drawn, tokens), None

    steps = times.shape[0] - 1
    tokens, _ = jax.lax.scan(advance, tokens, (jnp.arange(steps), times[:-1], times[1:]))
    return tokens
