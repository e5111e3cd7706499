"""Cross entropy of classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_alike, check_integers


def cross_entropy(
    logits: Float[Array, "B K"], labels: Int[Array, "B"], *, label_smoothing: float = 0.0
) -> Float[Array, "B"]:
    """-sum_k q_k log softmax(logits)_k with q = (1 - s) onehot(label) + s / K, in nats and float32.

    Args:
        logits: of K classes.
        labels: integers in [0, K).
        label_smoothing: s, in [0, 1).

    Returns:
        [B] float32; NaN for a label outside [0, K).

    Raises:
        ValueError: the shapes or dtypes do not fit, or s is out of its bounds.

    Reference: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, arXiv:1512.00567

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import cross_entropy
        >>> losses = cross_entropy(jnp.zeros((2, 10)), jnp.array([3, 7]))
        >>> [round(loss, 3) for loss in losses.tolist()]  # log 10
        [2.303, 2.303]
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits must be [B, K] and labels [B], got {logits.shape} and {labels.shape}")
    check_alike(logits=logits)
    check_integers("labels", labels)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    # Indexing would count a negative label from the end.
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    places = jnp.where(labels < 0, logits.shape[1], labels)[:, None]
    label_log_p = jnp.take_along_axis(log_p, places, axis=1, mode="fill", fill_value=jnp.nan)[:, 0]
    return -(1 - label_smoothing) * label_log_p - label_smoothing * jnp.mean(log_p, axis=1)
