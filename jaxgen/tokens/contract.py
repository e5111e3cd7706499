"""What a network over tokens takes and returns, and the checks that losses and decoding share.

A network gives logits of the clean token at every position,

    logits_fn(tokens [B, N], t [B], cond) -> logits [B, N, K],

with `mask_id` where a token is unknown. t = 1 stands for all masks and t = 0 for none. Known tokens are given in the
same way everywhere: `known` [B, N] and `keep` [B, N] boolean, True keeps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_floating, check_integers, check_keep_mask, concrete

LogitsFn = Callable[[Array, Array, Any], Array]
"""(tokens [B, N] with mask_id where unknown, t [B], cond) -> logits [B, N, K] of the clean tokens."""


def timed_by_masks(logits_fn: LogitsFn, mask_id: int) -> LogitsFn:
    """The network at the share of masks that it sees, whatever time it is called with: t = mean(tokens == mask_id).

    Decoding around known tokens has fewer masks than a schedule says. A network that was trained on masks everywhere
    has not seen so few at such a time; with this function it gets the time that belongs to them, if its schedule is the
    linear one.

    Args:
        logits_fn: `(tokens [B, N], t [B], cond) -> logits [B, N, K]`.
        mask_id: the mask token.

    Example:
        >>> shares = timed_by_masks(lambda tokens, t, cond: t, mask_id=9)
        >>> print(shares(jnp.array([[9, 1, 9, 9], [0, 1, 2, 3]]), None, None))
        [0.75 0.  ]
    """

    def timed(tokens, t, cond):
        return logits_fn(tokens, jnp.mean(tokens == mask_id, axis=1), cond)

    return timed


def clean_log_probs(logits: Float[Array, "B N K"], mask_id: int, tokens: Int[Array, "B N"]) -> Float[Array, "B N K"]:
    """Log-softmax in float32 over the clean tokens; the mask token is never an answer."""
    check_floating("what logits_fn returns", logits)
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(f"logits_fn must return logits [B, N, K] of tokens {tokens.shape}, got {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if mask_id < logits.shape[-1]:
        logits = logits.at[..., mask_id].set(-jnp.inf)
    return jax.nn.log_softmax(logits)


def entries(log_p: Float[Array, "... K"], tokens: Int[Array, "..."]) -> Float[Array, "..."]:
    """log_p of the tokens; NaN for a traced token that has none, an error for a known one."""
    check_integers("tokens", tokens, log_p.shape[-1])
    result = jnp.take_along_axis(log_p, jnp.asarray(tokens)[..., None], axis=-1, mode="fill")[..., 0]
    return jnp.where(tokens >= 0, result, jnp.nan)  # negative ones count from the end


def known_tokens(
    shape: tuple[int, ...], known: Int[Array, "B N ..."] | None, keep: Bool[Array, "B N ..."] | None
) -> tuple[Int[Array, "B N ..."], Bool[Array, "B N ..."]]:
    """(known, keep) of `shape` after their checks; zeros of which none is kept, where neither is given."""
    if (known is None) != (keep is None):
        raise ValueError("known and keep belong together: give both, or neither")
    if known is None:
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
    if jnp.shape(known) != tuple(shape):
        raise ValueError(f"known must have the shape {tuple(shape)} of the result, got {jnp.shape(known)}")
    check_keep_mask(keep, tuple(shape))
    check_integers("known", known)
    return jnp.asarray(known, jnp.int32), jnp.broadcast_to(keep, shape)


def check_clean(known: Int[Array, "B N"] | None, keep: Bool[Array, "B N"] | None, mask_id: int) -> None:
    """Refuses a mask token among what is to be kept, where the values are known."""
    if known is None or keep is None:
        return
    values, kept = concrete(known), concrete(keep)
    if values is not None and kept is not None and ((values == mask_id) & kept).any():
        raise ValueError(f"known holds the mask token {mask_id} where keep is True: what is kept must be a clean token")


def as_times(times: Float[Array, "n+1"]) -> Float[Array, "n+1"]:
    """The times in float32 or wider; refuses what is no vector and, where values are known, does not fall in [0, 1]."""
    values = concrete(times)
    if np.ndim(times) != 1 or np.shape(times)[0] < 2:
        raise ValueError(f"times must be a vector [n + 1] from 1 to 0, got shape {np.shape(times)}")
    # Written so that NaN is refused too.
    if values is not None and not ((np.diff(values) < 0).all() and values[0] <= 1 and values[-1] >= 0):
        raise ValueError(f"times must decrease strictly within [0, 1], got {values}; see mask_times(n)")
    return jnp.asarray(times, jnp.promote_types(jnp.result_type(times), jnp.float32))
