"""Decoding many tokens at a time, from masks to tokens: one loop, and the rules of which masks become tokens.

An unmasker is for tokens what a solver is for noise levels: a pair of pure functions, to which the loop hands a
proposal of tokens for all positions. Time runs from 1, all masks, to 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_fraction, check_not_negative
from jaxgen.core.keys import sample_keys
from jaxgen.core.mapped import vary_like
from jaxgen.tokens.contract import LogitsFn, as_times, check_clean, clean_log_probs, known_tokens
from jaxgen.tokens.draw import draw_each
from jaxgen.tokens.schedules import MaskSchedule, masking_schedule, polynomial_masking

_LEVEL = 1e4  # nats, more than confidences differ by


class Decoding(NamedTuple):
    """What an unmasker hands from step to step."""

    tokens: Int[Array, "B N"]  # not looked at where `masked`
    masked: Bool[Array, "B N"]
    memory: Any = ()  # the unmasker's own; a pytree of fixed shape


ProposeFn = Callable[[Decoding, Array, Array], tuple[Array, Array]]
"""(decoding, t [] or [B], keys [B]) -> (a drawn token for every position [B, N], log p of all tokens [B, N, K]).

One call of the network at time t. The tokens are drawn with the temperature, top_k and top_p of `sample_tokens`; the
log-probabilities are the network's own.
"""


class Unmasker(NamedTuple):
    """A pair of pure functions.

        init(tokens [B, N], masked [B, N]) -> Decoding, where only the known tokens are not masked
        step(propose, decoding, t [], s [], keys [B]) -> Decoding, from time t to s < t
    """

    init: Callable[[Array, Array], Decoding]
    step: Callable[[ProposeFn, Decoding, Array, Array, Array], Decoding]


def ancestral(remask: Any = 0.0, schedule: MaskSchedule | None = None) -> Unmasker:
    """The reverse process of masked diffusion, ancestral or with remasking.

    From t to s, with r = remask min(1, (1 - alpha_s) / alpha_t):
        a mask becomes a drawn token with probability (alpha_s - (1 - r) alpha_t) / (1 - alpha_t),
        a token becomes a mask again with probability r.
    The share of masks at every time is that of the forward process for any `remask`; 0 is the ancestral sampler.

    Args:
        remask: in [0, 1], the share of the largest possible remasking; may be traced.
        schedule: `polynomial_masking()` by default.

    Raises:
        ValueError: remask outside [0, 1], or what is no schedule.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> sample_tokens(jax.random.key(0), even, ancestral(remask=0.5), jnp.array([1.0, 0.5, 0.0]), (2, 6),
        ...               mask_id=4).shape
        (2, 6)

    Reference: Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data", 2024,
        arXiv:2406.04329; Wang, Schiff, Sahoo, Kuleshov, "Remasking discrete diffusion models with inference-time
        scaling", 2025, arXiv:2503.00307
    """
    check_fraction("remask", remask)
    schedule = _mask_schedule(schedule)

    def init(tokens, masked):
        return Decoding(tokens, masked, masked)  # what was a mask may be one again

    def step(propose, decoding, t, s, keys):
        tokens, masked, unknown = decoding
        token_keys, show_keys, hide_keys = _split(keys)
        drawn, _ = propose(decoding, t, token_keys)
        alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
        again = remask * jnp.minimum(1.0, (1 - alpha_s) / jnp.maximum(alpha_t, 1e-12))
        # A time of 0 needs every mask gone, whatever rounding makes of the quotient.
        show = jnp.where(s > 0, (alpha_s - (1 - again) * alpha_t) / (1 - alpha_t), 1.0)
        shown = masked & (_uniform(show_keys, tokens) < show)
        hidden = ~masked & unknown & (_uniform(hide_keys, tokens) < again)
        return Decoding(jnp.where(shown, drawn, tokens), (masked & ~shown) | hidden, unknown)

    return Unmasker(init, step)


def confidence(choice_temperature: Any = 1.0, schedule: MaskSchedule | None = None, *, levels: int = 1) -> Unmasker:
    """Shows the most confident tokens first: after a step to s, floor((1 - alpha(s)) unknown) masks are left.

    Confidence is log p(drawn token) + choice_temperature t Gumbel noise; known and shown tokens stay. At least one
    token is shown by every step while there are masks.

    Args:
        choice_temperature: 0 is greedy in which positions are shown; may be traced.
        schedule: `polynomial_masking()` by default.
        levels: tokens per position, one after the other: all of a coarser level are shown before those of a finer one,
            as `coarse_to_fine_loss` trains. A number of steps that `levels` divides keeps levels apart.

    Raises:
        ValueError: choice_temperature below 0 or infinite, what is no schedule, or levels below 1.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> sample_tokens(jax.random.key(0), even, confidence(), jnp.array([1.0, 0.5, 0.0]), (2, 6), mask_id=4).shape
        (2, 6)

    Reference: Chang, Zhang, Jiang, Liu, Freeman, "MaskGIT: masked generative image transformer", 2022,
        arXiv:2202.04200, with the time of masked diffusion
    """
    check_not_negative("choice_temperature", choice_temperature)
    schedule, levels = _mask_schedule(schedule), check_count("levels", levels)

    def step(propose, decoding, t, s, keys):
        tokens, masked, unknown = decoding
        token_keys, noise_keys, _ = _split(keys)
        drawn, log_p = propose(decoding, t, token_keys)
        gumbel = -jnp.log(-jnp.log(jnp.clip(_uniform(noise_keys, tokens), 1e-7, 1 - 1e-7)))
        scores = _of_drawn(log_p, drawn) + choice_temperature * t * gumbel
        scores = scores - _LEVEL * (jnp.arange(tokens.shape[1]) % levels).astype(scores.dtype)[None]
        left = jnp.floor((1 - schedule.alpha(s)) * unknown + 1e-4).astype(jnp.int32)
        left = jnp.where(s > 0, jnp.minimum(left, jnp.maximum(jnp.sum(masked, axis=-1) - 1, 0)), 0)
        shown = masked & (_ranks(scores, masked) >= left[:, None])
        return Decoding(jnp.where(shown, drawn, tokens), masked & ~shown, unknown)

    return Unmasker(_counted, step)


def maskgit(choice_temperature: Any = 4.5, schedule: str = "cosine") -> Unmasker:
    """MaskGIT: draws all tokens in every step, keeps the most confident, masks the others again.

    Confidence is log p(drawn token) + choice_temperature s Gumbel noise; known tokens and those kept before stay.
    max(1, min(unknown - 1, floor(N schedule(1 - s)))) masks are left after a step to s > 0, none at s = 0. The network
    gets the share of masks as its time, counted and not taken from a schedule: where much is known, decoding starts
    late.

    Args:
        choice_temperature: 0 is greedy in which tokens are kept; may be traced.
        schedule: see `masking_schedule`.

    Raises:
        ValueError: choice_temperature below 0 or infinite, or an unknown schedule, with the nearest one.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> sample_tokens(jax.random.key(0), even, maskgit(), jnp.array([1.0, 0.5, 0.0]), (2, 6), mask_id=4).shape
        (2, 6)

    Reference: Chang, Zhang, Jiang, Liu, Freeman, "MaskGIT: masked generative image transformer", 2022, arXiv:2202.04200
    """
    check_not_negative("choice_temperature", choice_temperature)
    share = masking_schedule(schedule)

    def step(propose, decoding, t, s, keys):
        tokens, masked, unknown = decoding
        drawn, log_p = propose(decoding, jnp.mean(masked, axis=1), keys)
        gumbel = jax.vmap(lambda k: jax.random.gumbel(jax.random.fold_in(k, 1), tokens.shape[1:]))(keys)
        scores = _of_drawn(log_p, drawn) + choice_temperature * s * gumbel
        wanted = jnp.floor(tokens.shape[1] * share(1 - s) + 1e-4).astype(jnp.int32)
        left = jnp.maximum(1, jnp.minimum(unknown - 1, wanted))
        again = masked & (_ranks(scores, masked) < left[:, None]) & (s > 0)
        return Decoding(jnp.where(masked, drawn, tokens), again, unknown)

    return Unmasker(_counted, step)


UNMASKERS = {"ancestral": ancestral, "confidence": confidence, "maskgit": maskgit}
"""The makers by name, for scripts that take the name as an argument."""


def sample_tokens(
    key: PRNGKeyArray,
    logits_fn: LogitsFn,
    unmasker: Unmasker,
    times: Float[Array, "n+1"],
    shape: tuple[int, int],
    *,
    mask_id: int,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    known: Int[Array, "B N"] | None = None,
    keep: Bool[Array, "B N"] | None = None,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
    trajectory: bool = False,
) -> Int[Array, "B N"] | tuple[Int[Array, "B N"], Int[Array, "n B N"]]:
    """From masks everywhere to tokens, in one `lax.scan` with one call of the network per step.

    Args:
        key: sample i at step n draws from fold_in(fold_in(key, i), n).
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`; guided by `jaxgen.diffusion.cfg`. Around known
            tokens see `timed_by_masks`.
        unmasker: `ancestral()`, `confidence()` or `maskgit()`.
        times: [n + 1] decreasing, from 1 to 0 (`mask_times`); masks are left where they end above 0. May be traced.
        shape: (B, N).
        mask_id: the mask token; it is never drawn.
        temperature, top_k, top_p: see `draw_tokens`; may be traced.
        known, keep: [B, N] tokens to keep where `keep` is True; they come back exactly.
        cond: passed to the network.
        sample_ids: [B], 0 .. B - 1 by default.
        trajectory: also return the tokens after each step, `mask_id` where they are masks.

    Returns:
        [B, N] int32 tokens; -1 where the logits were NaN. With a trajectory (tokens, [n, B, N]).

    Raises:
        ValueError: what is no key or no unmasker, a setting out of its bounds, or an argument that does not fit.

    Example:
        >>> even = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))
        >>> times, known, keep = jnp.array([1.0, 0.5, 0.0]), jnp.array([[3, 0]]), jnp.array([[True, False]])
        >>> sample_tokens(jax.random.key(0), even, maskgit(), times, (1, 2), mask_id=4, known=known, keep=keep)[0, 0]
        Array(3, dtype=int32)
    """
    times = as_times(times)
    _check_unmasker(unmasker)
    tokens, masked = _start(shape, known, keep, mask_id)
    keys = sample_keys(key, sample_ids, shape[0])

    def propose(decoding, t, keys):
        seen = jnp.where(decoding.masked, mask_id, decoding.tokens)
        log_p = clean_log_probs(logits_fn(seen, jnp.broadcast_to(t, shape[:1]), cond), mask_id, seen)
        return draw_each(keys, log_p, temperature=temperature, top_k=top_k, top_p=top_p), log_p

    def advance(decoding, inputs):
        step, t, s = inputs
        decoding = unmasker.step(propose, decoding, t, s, jax.vmap(jax.random.fold_in, (0, None))(keys, step))
        return decoding, seen_tokens(decoding) if trajectory else None

    def seen_tokens(decoding):
        return jnp.where(decoding.masked, mask_id, decoding.tokens)

    start = vary_like(unmasker.init(tokens, masked), known, keep, cond, keys, times, temperature, top_k, top_p)
    decoding, seen = jax.lax.scan(advance, start, (jnp.arange(len(times) - 1), times[:-1], times[1:]))
    return (seen_tokens(decoding), seen) if trajectory else seen_tokens(decoding)


def _start(shape: tuple[int, ...], known: Any, keep: Any, mask_id: int) -> tuple[Array, Array]:
    """(tokens, masked) [B, N]: masks everywhere but where known tokens are kept."""
    if len(shape) != 2:
        raise ValueError(f"shape must be (B, N), got {tuple(shape)}")
    tokens, kept = known_tokens(shape, known, keep)
    check_clean(known, keep, mask_id)
    return tokens, ~kept


def _check_unmasker(unmasker: Any) -> None:
    """Refuses an unmasker's name, and an unmasker that was not made yet."""
    if hasattr(unmasker, "init") and hasattr(unmasker, "step") and not isinstance(unmasker, type):
        return
    if isinstance(unmasker, str):
        fix = "make one, such as jaxgen.tokens.maskgit(), or look it up in jaxgen.tokens.UNMASKERS"
    elif callable(unmasker):
        fix = f"call it first, {getattr(unmasker, '__name__', type(unmasker).__name__)}()"
    else:
        fix = "make one, such as jaxgen.tokens.maskgit()"
    raise ValueError(f"unmasker must be an Unmasker, got {unmasker!r}: {fix}")


def _mask_schedule(schedule: MaskSchedule | None) -> MaskSchedule:
    """The linear schedule where None is given; refuses a name, which is MaskGIT's."""
    if schedule is not None and not hasattr(schedule, "alpha"):
        raise ValueError(f"schedule must be a MaskSchedule, got {schedule!r}: make one, such as cosine_masking()")
    return polynomial_masking() if schedule is None else schedule


def _counted(tokens: Array, masked: Array) -> Decoding:
    """The start of an unmasker that remembers how many tokens were unknown, [B]."""
    return Decoding(tokens, masked, jnp.sum(masked, axis=1))


def _split(keys: Array) -> tuple[Array, Array, Array]:
    """Three keys [B] of each sample's."""
    three = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
    return three[:, 0], three[:, 1], three[:, 2]


def _uniform(keys: Array, like: Array) -> Array:
    return jax.vmap(lambda k: jax.random.uniform(k, like.shape[1:]))(keys)


def _of_drawn(log_p: Array, drawn: Array) -> Array:
    return jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]


def _ranks(scores: Array, masked: Array) -> Array:
    """[B, N] the place of each score from the lowest, 0; what is no mask comes after all masks."""
    return jnp.argsort(jnp.argsort(jnp.where(masked, scores, jnp.inf), axis=1), axis=1)
