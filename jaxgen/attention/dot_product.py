"""Scaled dot products: each query takes a mean of the values, weighted by how well it fits the keys."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgen.core.checks import check_floating


def attend(
    q: Float[Array, "... N H F"],
    k: Float[Array, "... M H F"],
    v: Float[Array, "... M H G"],
    *,
    allowed: Bool[Array, "... #H #N #M"] | None = None,
) -> Float[Array, "... N H G"]:
    """Attention of N queries to M keys, by each of H heads.

        y_i = sum_j w_ij v_j,   w_ij = exp(q_i . k_j / sqrt(F)) / sum over the allowed j of the same

    Dot products and softmax are float32 (wider if q is); the weights are rounded to the dtype of v. A query that may
    attend to nothing gives 0, with a gradient of 0.

    Args:
        q: queries `[..., N, H, F]`.
        k: keys `[..., M, H, F]`.
        v: values `[..., M, H, G]`.
        allowed: True where a query may attend to a key; broadcasts to `[..., H, N, M]`. A mask of keys `[B, M]` is
            `mask[:, None, None]`; the causal one is `jnp.tril(jnp.ones((N, N), bool))`. None allows all.

    Returns:
        `[..., N, H, G]` in the dtype of v.

    Raises:
        ValueError: arrays that do not hold floating-point numbers, shapes that do not fit each other, or `allowed`
            that is not boolean or does not broadcast to `[..., H, N, M]`.

    Reference: Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762.

    Example:
        >>> import jax.numpy as jnp
        >>> q, k, v = jnp.ones((2, 5, 4, 8)), jnp.ones((2, 3, 4, 8)), jnp.ones((2, 3, 4, 6))
        >>> attend(q, k, v).shape
        (2, 5, 4, 6)
        >>> mask = jnp.array([[True, True, False], [False, False, False]])
        >>> attend(q, k, v, allowed=mask[:, None, None])[:, 0, 0, 0].round().astype(int).tolist()
        [1, 0]
    """
    _check(q, k, v, allowed)
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=wide) / math.sqrt(q.shape[-1])
    if allowed is None:
        weights = jax.nn.softmax(logits, axis=-1)
    else:
        # Not -inf, which makes a row without any allowed key NaN: so it is uniform, and the second select empties it.
        weights = jax.nn.softmax(jnp.where(allowed, logits, jnp.finfo(wide).min), axis=-1)
        weights = jnp.where(allowed, weights, 0)
    # Heads first, then moved: asked for [..., N, H, G] at once, XLA on CPU multiplies transposed matrices, and 256
    # tokens of 8 heads of 8 features take five times as long forward.
    return jnp.swapaxes(jnp.einsum("...hqk,...khd->...hqd", weights.astype(v.dtype), v), -3, -2)


def _check(q: Array, k: Array, v: Array, allowed: Array | None) -> None:
    shapes = f"q {jnp.shape(q)}, k {jnp.shape(k)} and v {jnp.shape(v)}"
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_floating(name, x)
        if jnp.ndim(x) < 3:
            raise ValueError(f"{name} must be [..., length, heads, features], got shape {jnp.shape(x)}")
    if q.shape[:-3] != k.shape[:-3] or q.shape[-2:] != k.shape[-2:] or k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"q [..., N, H, F], k [..., M, H, F] and v [..., M, H, G] do not fit each other: got {shapes}")
    if allowed is None:
        return
    if jnp.result_type(allowed) != jnp.bool_:
        raise ValueError(f"allowed must be boolean (True may be attended to), got dtype {jnp.result_type(allowed)}: "
                         "compare it with a threshold")
    logits = (*q.shape[:-3], q.shape[-2], q.shape[-3], k.shape[-3])
    try:
        fits = jnp.broadcast_shapes(jnp.shape(allowed), logits) == logits
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"allowed must broadcast to [..., H, N, M] = {logits}, got shape {jnp.shape(allowed)}")
