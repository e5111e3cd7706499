"""The corruption of masked (absorbing) diffusion: clean tokens at t = 0, all masks at t = 1.

Each token of x0 is still there at time t with probability alpha(t), and is the mask token otherwise.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_integers, check_keep_mask, check_key, expand_to
from jaxgen.core.keys import sample_keys
from jaxgen.tokens.schedules import MaskSchedule, polynomial_masking


def mask_tokens(
    key: PRNGKeyArray,
    tokens: Int[Array, "B N"],
    t: Float[Array, "B"],
    *,
    mask_id: int,
    schedule: MaskSchedule | None = None,
    keep: Bool[Array, "B N"] | None = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Int[Array, "B N"]:
    """Tokens at time t: each is replaced by `mask_id` with probability 1 - alpha(t), where `keep` does not keep it.

    Args:
        key: for which tokens are masked.
        tokens: [B, N] clean tokens.
        t: [B] or [] in [0, 1].
        mask_id: the mask token.
        schedule: `polynomial_masking()` by default.
        keep: [B, N] True where a token is never masked.
        sample_ids: [B]; with them the masks of a sequence depend on the key and on its id only.

    Returns:
        [B, N] tokens.

    Raises:
        ValueError: what is no key, tokens or ids that are no whole numbers, or t or `keep` that does not fit.

    Example:
        >>> tokens = mask_tokens(jax.random.key(0), jnp.zeros((2, 4), int), jnp.array([0.0, 1.0]), mask_id=9)
        >>> print(tokens.tolist())
        [[0, 0, 0, 0], [9, 9, 9, 9]]

    Reference: Shi, Han, Wang, Doucet, Titsias, "Simplified and generalized masked diffusion for discrete data", 2024,
        arXiv:2406.04329
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
    if keep is not None:
        check_keep_mask(keep, tokens.shape, of="tokens")
        hide = hide & ~keep
    return jnp.where(hide, mask_id, tokens)
