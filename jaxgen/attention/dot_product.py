"""Scaled dot products: each query takes a mean of the values, weighted by how well it fits the keys."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.attention.blocks import blocked, mix
from jaxgen.core.checks import check_floating

# Up to so many bytes of scores all are computed at once and kept for gradients: blocks take the same time there.
WHOLE_BYTES = 8 << 20
# Scores of a block: on CPU they stay in the cache (with twice as many, 256 tokens take a fifth longer and 4,096 a tenth
# less), elsewhere they fill the device.
CPU_BLOCK_BYTES = 4 << 20
BLOCK_BYTES = 256 << 20


def attend(
    q: Float[Array, "... N H F"],
    k: Float[Array, "... M H F"],
    v: Float[Array, "... M H G"],
    *,
    allowed: Bool[Array, "... #H #N #M"] | None = None,
    causal: bool = False,
    index: int | Int[Array, ""] = 0,
) -> Float[Array, "... N H G"]:
    """Attention of N queries to M keys, by each of H heads.

        y_i = sum_j w_ij v_j,   w_ij = exp(q_i . k_j / sqrt(F)) / sum over the allowed j of the same

    Dot products and softmax are float32, wider if an array is; the weights are rounded to the dtype of v. A query that
    may attend to nothing gives 0, with a gradient of 0. Memory is linear in N and in M: long sequences are computed in
    blocks, and gradients compute the scores again. Forward and reverse mode of any order.

    Args:
        q: queries `[..., N, H, F]`.
        k: keys `[..., M, H, F]`.
        v: values `[..., M, H, G]`.
        allowed: True where a query may attend to a key; broadcasts to `[..., H, N, M]`. A mask of keys `[B, M]` is
            `mask[:, None, None]`. None allows all.
        causal: query i attends to the keys 0 .. index + i only, of those that `allowed` allows.
        index: the position of the first query among the keys; traced.

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
    _check(q, k, v, allowed, causal, index)
    *leading, length, heads, features = q.shape
    if not (length and v.size):  # of no keys there is no largest score
        return jnp.zeros((*leading, length, heads, v.shape[-1]), v.dtype)
    latest = index + jnp.arange(length) if causal else None
    if allowed is not None:
        allowed = _merged(allowed, (*leading, heads))
    q = jnp.swapaxes(q, -3, -2).reshape(-1, length, features)
    k, v = (jnp.moveaxis(x, -3, -1).reshape(-1, x.shape[-1], x.shape[-3]) for x in (k, v))
    if 4 * q.shape[0] * length * k.shape[2] <= WHOLE_BYTES:
        y = mix(q, k, v, allowed, latest)
    else:
        y = jax.lax.platform_dependent(
            q, k, v, allowed, latest,
            cpu=partial(blocked, block_bytes=CPU_BLOCK_BYTES, least=math.gcd(q.shape[0], 2)),
            # A batch that lies on up to 256 devices stays where it is.
            default=partial(blocked, block_bytes=BLOCK_BYTES, least=math.gcd(q.shape[0] // heads, 256)),
        )
    return jnp.swapaxes(y.reshape(*leading, heads, length, -1), -3, -2)


def _merged(allowed: Array, leading: tuple[int, ...]) -> Array:
    """`[..., #H, #N, #M]` as `[h or 1, N or 1, M]`."""
    allowed = jnp.expand_dims(allowed, tuple(range(len(leading) + 2 - allowed.ndim)))
    if any(size > 1 for size in allowed.shape[:-2]):
        allowed = jnp.broadcast_to(allowed, (*leading, *allowed.shape[-2:]))
    return allowed.reshape(-1, *allowed.shape[-2:])


def _check(q: Array, k: Array, v: Array, allowed: Array | None, causal: bool, index: int | Array) -> None:
    shapes = f"q {jnp.shape(q)}, k {jnp.shape(k)} and v {jnp.shape(v)}"
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_floating(name, x)
        if jnp.ndim(x) < 3:
            raise ValueError(f"{name} must be [..., length, heads, features], got shape {jnp.shape(x)}")
    if q.shape[:-3] != k.shape[:-3] or q.shape[-2:] != k.shape[-2:] or k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"q [..., N, H, F], k [..., M, H, F] and v [..., M, H, G] do not fit each other: got {shapes}")
    if not causal and isinstance(index, int) and index:
        raise ValueError(f"index={index} places the first query among the keys, which matters with causal=True only")
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
