"""Losses of models of tokens: nats per sequence, the bound of masked diffusion, and means over masks."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_floating, check_fraction, check_integers
from jaxgen.core.keys import sample_keys
from jaxgen.tokens.contract import LogitsFn, clean_log_probs, entries
from jaxgen.tokens.corrupt import mask_tokens
from jaxgen.tokens.schedules import MaskSchedule, masking_schedule, polynomial_masking


def token_nats(
    logits: Float[Array, "B N ... K"], tokens: Int[Array, "B N ..."], *, label_smoothing: float = 0.0
) -> Float[Array, "B N ..."]:
    """-log p of each token, in float32; with label smoothing s: (1 - s) of it and s times the mean over all K.

    Args:
        logits: [B, N, ..., K].
        tokens: [B, N, ...] below K.
        label_smoothing: s, in [0, 1).

    Returns:
        [B, N, ...]; NaN for a token that has no logit.

    Raises:
        ValueError: logits that are no floating-point numbers or of another shape, or (where their values are known)
            tokens that have none.

    Example:
        >>> print(token_nats(jnp.log(jnp.array([[[0.5, 0.25, 0.25]]])), jnp.array([[1]])).round(4))
        [[1.3863]]
    """
    check_floating("logits", logits)
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(f"logits must be [B, N, ..., K] for tokens {tokens.shape}, got {logits.shape}")
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.promote_types(jnp.result_type(logits), jnp.float32)))
    nats = -entries(log_p, tokens)
    if not label_smoothing:
        return nats
    return (1 - label_smoothing) * nats - label_smoothing * jnp.mean(log_p, axis=-1)


def autoregressive_loss(
    logits: Float[Array, "B N ... K"], tokens: Int[Array, "B N ..."], *, label_smoothing: float = 0.0
) -> Float[Array, "B"]:
    """-log p(tokens) of each sequence in nats: the sum of `token_nats`.

    Args:
        logits: [B, N, ..., K], where logits[:, i] depend on tokens[:, :i] only.
        tokens: [B, N, ...].
        label_smoothing: see `token_nats`.

    Returns:
        [B] nats.

    Raises:
        ValueError: as `token_nats`.

    Example:
        >>> print(autoregressive_loss(jnp.zeros((1, 3, 4)), jnp.array([[0, 3, 1]])).round(4))  # 3 log 4
        [4.1589]
    """
    nats = token_nats(logits, tokens, label_smoothing=label_smoothing)
    return jnp.sum(nats.reshape(nats.shape[0], -1), axis=1)


def masked_diffusion_loss(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    tokens: Int[Array, "B N"],
    t: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    keep: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """rate(t) sum over masked positions of -log p(x0 | xt): the ELBO's integrand at t, in nats per sequence.

    The bound on -log p(x0) is its integral over t from 0 to 1, with rate = -alpha'(t) / (1 - alpha(t)).

    Args:
        key: for which tokens are masked.
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`; a logit for the mask token itself, if there is
            one (K = mask_id + 1), is left out.
        tokens: [B, N] clean tokens.
        t: [B] in (0, 1]; uniform or stratified draws make the mean an estimate of the bound.
        mask_id: the mask token, outside the clean vocabulary.
        schedule: `polynomial_masking()` by default.
        keep: [B, N] True where a token is always known, for a network that fills in; not part of the loss.
        cond: passed to the network.
        sample_ids: see `mask_tokens`.

    Returns:
        [B] nats; divide by N log 2 for bits per token. NaN where a masked token is outside the vocabulary.

    Raises:
        ValueError: as `mask_tokens`; logits of another shape, or (where their values are known) tokens without a logit.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> loss = masked_diffusion_loss(jax.random.key(0), even, jnp.zeros((1, 5), int), jnp.ones(1), mask_id=4)
        >>> print(loss.round(4))  # 5 log 4
        [6.9315]

    Reference: Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data", 2024,
        arXiv:2406.04329
    """
    if jnp.shape(t) != tokens.shape[:1]:
        raise ValueError(f"t must hold one time per sequence, shape {tokens.shape[:1]}; got {jnp.shape(t)}")
    schedule = schedule or polynomial_masking()
    # At t = 0 nothing is masked and the rate is infinite; float32 draws reach it once in 2^23.
    t = jnp.maximum(jnp.asarray(t, jnp.float32), 1e-6)
    xt = mask_tokens(key, tokens, t, mask_id=mask_id, schedule=schedule, keep=keep, sample_ids=sample_ids)
    log_p = clean_log_probs(logits_fn(xt, t, cond), mask_id, tokens)
    nats = -entries(log_p, tokens)
    return schedule.rate(t) * jnp.sum(jnp.where(xt == mask_id, nats, 0.0), axis=-1)


def maskgit_loss(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    tokens: Int[Array, "B N"],
    r: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: str = "cosine",
    label_smoothing: float = 0.1,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """The mean of -log p over the masked tokens of each sequence, in nats; ceil(schedule(r) N) of them, at random.

    Args:
        key: for which tokens are masked; sequence i draws from fold_in(key, i).
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`, where t is the share of masks.
        tokens: [B, N] clean tokens.
        r: [B] the share of the way, in [0, 1), uniform in training; at least one token is masked.
        mask_id: the mask token, outside the clean vocabulary.
        schedule: see `masking_schedule`.
        label_smoothing: see `token_nats`.
        cond: passed to the network.
        sample_ids: [B] places in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Returns:
        [B]; NaN where a masked token is outside the clean vocabulary.

    Raises:
        ValueError: a setting out of its bounds; r, tokens or logits that do not fit; what is no key.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> loss = maskgit_loss(jax.random.key(0), even, jnp.zeros((1, 5), int), jnp.zeros(1), mask_id=4)
        >>> print(loss.round(4))  # log 4
        [1.3863]

    Reference: Chang, Zhang, Jiang, Liu, Freeman, "MaskGIT: masked generative image transformer", 2022, arXiv:2202.04200
    """
    check_fraction("label_smoothing", label_smoothing)
    check_integers("tokens", tokens, mask_id)
    _check_shares(r, tokens)
    length = tokens.shape[1]
    count = jnp.clip(jnp.ceil(masking_schedule(schedule)(jnp.asarray(r)) * length), 1, length)
    order = jax.vmap(lambda k: _draw_order(k, length))(sample_keys(key, sample_ids, tokens.shape[0]))
    hidden = order < count[:, None]
    logits = logits_fn(jnp.where(hidden, mask_id, tokens), jnp.mean(hidden, axis=1), cond)
    nats = token_nats(logits[..., :mask_id], tokens, label_smoothing=label_smoothing)
    return jnp.sum(jnp.where(hidden, nats, 0.0), axis=1) / count


def coarse_to_fine_loss(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    tokens: Int[Array, "B N"],
    r: Float[Array, "B"],
    *,
    mask_id: int,
    levels: int,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """The mean of -log p over the masked tokens of one level, in nats: coarser levels are known, finer ones masked.

    One level of each sequence is drawn, and ceil(r N / levels) of its tokens are masked at random. In expectation over
    r and the level it is the code length per token of sequences that are told level by level, the tokens of a level one
    by one in a random order: what a codec's file of codes takes.

    Args:
        key: for the levels and what is masked; sequence i draws from fold_in(key, i).
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`, where t is the share of masks.
        tokens: [B, N] clean tokens, the levels of a position one after the other, coarse to fine.
        r: [B] in [0, 1), uniform in training; at least one token of the level is masked.
        mask_id: the mask token, outside the clean vocabulary.
        levels: tokens per position.
        cond: passed to the network.
        sample_ids: [B] places in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Returns:
        [B]; NaN where a masked token is outside the clean vocabulary.

    Raises:
        ValueError: levels that do not divide N; r, tokens or logits that do not fit; what is no key.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> tokens = jnp.zeros((1, 6), int)
        >>> loss = coarse_to_fine_loss(jax.random.key(0), even, tokens, jnp.zeros(1), mask_id=4, levels=2)
        >>> print(loss.round(4))  # log 4
        [1.3863]

    Reference: Borsos et al., "SoundStorm: efficient parallel audio generation", 2023, arXiv:2305.09636, section 3.2
        (there with a cosine schedule and the levels of a prefix known)
    """
    check_integers("tokens", tokens, mask_id)
    _check_shares(r, tokens)
    if tokens.shape[1] % check_count("levels", levels):
        raise ValueError(f"levels={levels} does not divide the {tokens.shape[1]} tokens of a sequence")
    places = tokens.shape[1] // levels
    count = jnp.clip(jnp.ceil(jnp.asarray(r) * places), 1, places)

    def draw(key):
        level_key, order_key = jax.random.split(key)
        return jax.random.randint(level_key, (), 0, levels), _draw_order(order_key, places)

    level, order = jax.vmap(draw)(sample_keys(key, sample_ids, tokens.shape[0]))
    above = jnp.tile(jnp.arange(levels), places)[None] - level[:, None]
    scored = (above == 0) & (jnp.repeat(order, levels, axis=1) < count[:, None])
    hidden = scored | (above > 0)
    logits = logits_fn(jnp.where(hidden, mask_id, tokens), jnp.mean(hidden, axis=1), cond)
    return jnp.sum(jnp.where(scored, token_nats(logits[..., :mask_id], tokens), 0.0), axis=1) / count


def _check_shares(r: Array, tokens: Array) -> None:
    if jnp.shape(r) != tokens.shape[:1]:
        raise ValueError(f"r must hold one number per sequence, shape {tokens.shape[:1]}; got {jnp.shape(r)}")


def _draw_order(key: PRNGKeyArray, length: int) -> Int[Array, "length"]:
    """The place of each token in a random order."""
    return jnp.argsort(jnp.argsort(jax.random.uniform(key, (length,))))
