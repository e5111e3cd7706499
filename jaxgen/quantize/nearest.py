"""Nearest codes without the matrix of all distances.

    index = argmin_k |z - e_k|^2 = argmax_k (z . e_k - |e_k|^2 / 2)          euclidean
    index = argmax_k z . e_k / |e_k|                                         cosine

A running maximum goes over blocks of codes (and of vectors), so that no more than one block of scores is alive.
"""

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_count, choose
from jaxgen.quantize.checks import check_vectors

_WHOLE = 2**22  # scores that are computed in one piece
_BLOCK = 2**20  # scores of one block: 4 MB, which stays in a CPU's cache
_BLOCK_ACCELERATOR = 2**26
_CODES = 512  # codes per block, unless told
_CODES_ACCELERATOR = 8192


def unit(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """`x / |x|`; zero, with a zero gradient, where x is zero."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square > 0, square, 1))


METRICS = {"euclidean": lambda x: x, "cosine": unit}
"""What each metric does to vectors and codes before it compares them."""


def scaled(x: Float[Array, "... D"], metric: str) -> Float[Array, "... D"]:
    """`x`, of unit length for the cosine metric."""
    return METRICS[metric](x)


def nearest(
    z: Float[Array, "... D"],
    codebook: Float[Array, "K D"],
    *,
    metric: str = "euclidean",
    cost: Float[Array, "K"] | None = None,
    block_size: int | None = None,
) -> Int[Array, "..."]:
    """The index of the code nearest to each vector; the lowest such index where several are equally near.

    argmin_k |z - e_k|^2 + cost_k, or argmax_k of the cosine. Computed in float32 at full precision whatever the dtypes.
    A vector with a NaN gets index 0; a code whose squared length is not finite is nearest to no vector. No gradient.

    Args:
        z: vectors `[..., D]`.
        codebook: codes `[K, D]`.
        metric: "euclidean" or "cosine".
        cost: added to the squared distance to each code; of the euclidean metric only.
        block_size: codes per block; `None` compares with all codes at once while that matrix is small, and in blocks
            that suit the device otherwise.

    Returns:
        indices `[...]`, int32.

    Raises:
        ValueError: an unknown metric, a block size below 1, a cost with the cosine metric, or shapes that do not fit.

    Example:
        >>> codebook = jnp.array([[0.0, 0.0], [1.0, 1.0], [4.0, 4.0]])
        >>> nearest(jnp.array([[0.9, 1.2], [9.0, 9.0]]), codebook).tolist()
        [1, 2]
    """
    choose("metric", metric, METRICS)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    if codebook.ndim != 2 or codebook.shape[0] == 0:
        raise ValueError(f"codebook must have shape [K, D] with at least one code, got {codebook.shape}.")
    check_vectors(z, codebook.shape[1])
    if cost is not None and (metric != "euclidean" or cost.shape != codebook.shape[:1]):
        raise ValueError(f"cost of shape {cost.shape} with metric={metric!r}: it must have the shape "
                         f"{codebook.shape[:1]}, one number for each code, and be of the euclidean metric.")
    z, codebook = (jax.lax.stop_gradient(x.astype(jnp.float32)) for x in (z, codebook))
    flat = z.reshape(-1, z.shape[-1])
    square = jnp.sum(jnp.square(codebook), axis=-1)
    finite = jnp.isfinite(square)
    codebook = jnp.where(finite[:, None], codebook, 0)
    if metric == "cosine":
        codebook, square = unit(codebook), jnp.zeros_like(square)
    if cost is not None:
        square = square + jax.lax.stop_gradient(cost.astype(jnp.float32))
    bias = jnp.where(finite, square / 2, jnp.inf)
    tokens, codes = flat.shape[0], codebook.shape[0]
    # A symbolic number of vectors, under `jax.export`, goes through in blocks, which suit any number.
    if block_size is None and not is_symbolic_dim(tokens) and tokens * codes <= _WHOLE:
        indices = _best_of_block(flat, codebook, bias)[1]
    else:
        accelerator = jax.default_backend() != "cpu"
        width = min(codes, block_size or (_CODES_ACCELERATOR if accelerator else _CODES))
        height = max(1, (_BLOCK_ACCELERATOR if accelerator else _BLOCK) // width)
        indices = _in_token_blocks(flat, *_code_blocks(codebook, bias, width), height)
    return indices.reshape(z.shape[:-1])


def _best_of_block(z: Array, codes: Array, bias: Array) -> tuple[Array, Array]:
    """The highest score and the lowest index that has it: two vectorised passes, faster than argmax on a CPU."""
    scores = jnp.dot(z, codes.T, precision=jax.lax.Precision.HIGHEST) - bias[None]
    best = jnp.max(scores, axis=-1)
    count = codes.shape[0]
    numbers = jnp.arange(count, dtype=jnp.int32)[None]
    index = jnp.min(jnp.where(scores == best[:, None], numbers, count), axis=-1)
    return best, jnp.where(index < count, index, 0)


def _code_blocks(codebook: Array, bias: Array, width: int) -> tuple[Array, Array]:
    """Codes `[blocks, width, D]` and biases `[blocks, width]`; the padding's infinite bias lets it never win."""
    blocks = -(-codebook.shape[0] // width)
    padding = blocks * width - codebook.shape[0]
    codebook = jnp.pad(codebook, ((0, padding), (0, 0)))
    bias = jnp.pad(bias, (0, padding), constant_values=jnp.inf)
    return codebook.reshape(blocks, width, -1), bias.reshape(blocks, width)


def _in_token_blocks(flat: Array, codes: Array, bias: Array, height: int) -> Array:
    """The running maximum for at most `height` vectors at a time."""
    tokens = flat.shape[0]
    blocks = -(-tokens // height)
    if blocks == 1:
        return _running_best(flat, codes, bias)
    if not is_symbolic_dim(tokens):
        height = -(-tokens // blocks)
    padded = jnp.pad(flat, ((0, height * blocks - tokens), (0, 0)))
    # A block takes every blocks-th vector, so that a sharded first axis stays sharded within each block.
    strided = jnp.swapaxes(padded.reshape(height, blocks, -1), 0, 1)
    indices = jax.lax.map(lambda block: _running_best(block, codes, bias), strided)
    return indices.T.reshape(-1)[:tokens]


def _running_best(z: Array, codes: Array, bias: Array) -> Array:
    """Indices of the best codes over blocks `codes [blocks, width, D]`, in one scan."""
    width = codes.shape[1]

    def step(carry, block):
        best, index = carry
        number, block_codes, block_bias = block
        block_best, block_index = _best_of_block(z, block_codes, block_bias)
        better = block_best > best
        return (jnp.where(better, block_best, best), jnp.where(better, number * width + block_index, index)), None

    first = _best_of_block(z, codes[0], bias[0])
    numbers = jnp.arange(1, codes.shape[0], dtype=jnp.int32)
    (_, index), _ = jax.lax.scan(step, first, (numbers, codes[1:], bias[1:]))
    return index
