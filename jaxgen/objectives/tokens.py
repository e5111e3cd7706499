"""The training objectives of priors over tokens, each as one function of its parameters and a batch."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.keys import global_positions
from jaxgen.core.types import AxisName, PyTree
from jaxgen.diffusion import stratified_times
from jaxgen.objectives.batch import get_whole
from jaxgen.objectives.conditions import Conditions, drop_conditions
from jaxgen.tokens import (
    MaskSchedule,
    autoregressive_loss,
    coarse_to_fine_loss,
    masked_diffusion_loss,
    maskgit_loss,
)


def masked_prior_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    logits: Callable,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    conditions: Conditions | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "tokens",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """The bound of masked diffusion in nats per token, a mean over the batch (Shi et al., 2024).

    Times, masks and drops of example i of the global batch depend on the key and on i, so that one device or eight
    under `axis_name` compute the same loss.

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"tokens": [B, N], and what `conditions` name}.
        key: the step's key.
        logits: `(params, tokens, t, cond) -> [B, N, K]`, as `jaxgen.models.TokenPrior` has it.
        mask_id: the mask token.
        schedule: `jaxgen.tokens.polynomial_masking()` by default.
        conditions, train, axis_name: see `diffusion_loss`.
        entry: which entry of the batch holds the tokens.

    Returns:
        (loss [], (metrics, state)); the metrics have the loss in bits per token too.

    Raises:
        ValueError: the batch lacks an entry, the tokens are no integers, or a setting is out of its bounds.
    """
    tokens, t, mask_key, positions, cond = _masked_step(batch, key, conditions, train, axis_name, entry)
    nats = masked_diffusion_loss(
        mask_key, partial(logits, params), tokens, t, mask_id=mask_id, schedule=schedule, cond=cond,
        sample_ids=positions,
    )
    return _per_token(nats, tokens, state)


def maskgit_prior_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    logits: Callable,
    mask_id: int,
    schedule: str = "cosine",
    label_smoothing: float = 0.1,
    conditions: Conditions | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "tokens",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """-log p of the masked tokens of each sequence, a mean over them and over the batch, in nats.

    MaskGIT's objective, which sums where this takes the mean of each sequence. With the linear schedule and without
    smoothing it is in expectation the bound of `masked_prior_loss`, and varies less, since it divides by the number of
    masks and not by the expected one. The cosine schedule hides more, which is no bound and draws better after short
    training. The network sees the share of masks as its time, as in masked diffusion with the linear schedule, so that
    either sampler and the bound work with it.

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"tokens": [B, N], and what `conditions` name}.
        key: the step's key; masks and drops of example i of the global batch depend on the key and on i.
        logits: `(params, tokens, t, cond) -> [B, N, K]`, as `jaxgen.models.TokenPrior` has it.
        mask_id: the mask token.
        schedule: see `jaxgen.tokens.masking_schedule`.
        label_smoothing: see `jaxgen.tokens.token_nats`; with `train=False` there is none.
        conditions, train, axis_name: see `diffusion_loss`.
        entry: which entry of the batch holds the tokens.

    Returns:
        (loss [], (metrics, state)).

    Raises:
        ValueError: the batch lacks an entry, the tokens are no integers, a setting is out of its bounds, or an unknown
            schedule.

    Chang, Zhang, Jiang, Liu & Freeman, "MaskGIT: masked generative image transformer" (2022), section 3.1.
    """
    tokens, r, mask_key, positions, cond = _masked_step(batch, key, conditions, train, axis_name, entry)
    loss = jnp.mean(maskgit_loss(
        mask_key, partial(logits, params), tokens, r, mask_id=mask_id, schedule=schedule,
        label_smoothing=label_smoothing if train else 0.0, cond=cond, sample_ids=positions,
    ))
    return loss, ({"loss": loss}, state)


def coarse_to_fine_prior_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    logits: Callable,
    mask_id: int,
    levels: int,
    conditions: Conditions | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "tokens",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """-log p of masked tokens of one level given the coarser ones, in nats per token, a mean over the batch.

    For priors over residual codes that a file holds level by level (`jaxgen.codec`), which see no other masks than
    these; see `jaxgen.tokens.coarse_to_fine_loss`.

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"tokens": [B, N], and what `conditions` name}.
        key: the step's key; masks and drops of example i of the global batch depend on the key and on i.
        logits: `(params, tokens, t, cond) -> [B, N, K]`, as `jaxgen.models.TokenPrior` has it.
        mask_id: the mask token.
        levels: tokens per position, coarse to fine.
        conditions, train, axis_name: see `diffusion_loss`.
        entry: which entry of the batch holds the tokens.

    Returns:
        (loss [], (metrics, state)); the metrics have the loss in bits per token too.

    Raises:
        ValueError: the batch lacks an entry, the tokens are no integers, or levels that do not divide them.

    Borsos et al., "SoundStorm: efficient parallel audio generation" (2023).
    """
    tokens, r, mask_key, positions, cond = _masked_step(batch, key, conditions, train, axis_name, entry)
    loss = jnp.mean(coarse_to_fine_loss(mask_key, partial(logits, params), tokens, r, mask_id=mask_id, levels=levels,
                                        cond=cond, sample_ids=positions))
    return loss, ({"loss": loss, "bits_per_token": loss / math.log(2)}, state)


def autoregressive_prior_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    logits: Callable,
    conditions: Conditions | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "tokens",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """-log p of each token given those before it, in nats per token, a mean over the batch.

        loss = -1 / (B N) sum over b, n of log p(tokens[b, n] | tokens[b, :n], cond[b])

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"tokens": [B, N], and what `conditions` name}.
        key: the step's key, for the drops; that of example i of the global batch depends on the key and on i.
        logits: `(params, tokens, cond) -> [B, N, K]`, where those at n depend only on the tokens before n, as
            `jaxgen.models.TokenPrior` of the kind "autoregressive" has it.
        conditions, train, axis_name: see `diffusion_loss`.
        entry: which entry of the batch holds the tokens.

    Returns:
        (loss [], (metrics, state)); the metrics have the loss in bits per token too. With `train=False` it is the exact
        code length of the tokens.

    Raises:
        ValueError: the batch lacks an entry, the tokens are no integers, or a setting is out of its bounds.

    Razavi, van den Oord & Vinyals, "Generating diverse high-fidelity images with VQ-VAE-2" (2019).
    """
    tokens = get_whole(batch, entry)
    positions, total = global_positions(tokens.shape[0], axis_name)
    cond = drop_conditions(key, batch, conditions, positions, total, train=train)
    return _per_token(autoregressive_loss(logits(params, tokens, cond), tokens), tokens, state)


def _masked_step(
    batch, key, conditions, train, axis_name, entry
) -> tuple[Array, Array, Array, Array, Any]:
    """(tokens, a time in [0, 1) for each, the key of their masks, their places in the global batch, conditions)."""
    tokens = get_whole(batch, entry)
    positions, total = global_positions(tokens.shape[0], axis_name)
    time_key, mask_key, drop_key = jax.random.split(key, 3)
    cond = drop_conditions(drop_key, batch, conditions, positions, total, train=train)
    times = stratified_times(time_key, total)[positions].astype(jnp.float32)
    return tokens, times, mask_key, positions, cond


def _per_token(nats: Float[Array, "B"], tokens: Array, state: PyTree) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
    loss = jnp.mean(nats) / math.prod(tokens.shape[1:])
    return loss, ({"loss": loss, "bits_per_token": loss / math.log(2)}, state)
