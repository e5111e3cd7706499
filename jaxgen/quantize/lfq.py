"""Lookup-free quantization: the code of a vector is its signs; and binary spherical quantization, on the unit sphere.

    q_i = a if z_i > 0 else -a;   index = sum_i 2^i [z_i > 0]      (component 0 is the lowest bit)
    a = 1;   spherical: z <- z/|z| first, a = 1/sqrt(bits)
    p(c | z) = softmax_c(2 z . c / tau) = prod_i sigmoid(4 z_i c_i / tau)
    entropy loss = H(p(. | z)) - g H(E[p]);   commitment = mean_i (z_i - sg(q_i))^2

p is a product over bits. So H(p(. | z)) is a sum of binary entropies, exactly; and E[p] is an average of outer products
of the distributions of the low and of the high half of the bits: one matrix product of `[tokens, 2^(bits/2)]` factors,
exact as well. The `[tokens, 2^bits]` matrix is never needed.

References: Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", arXiv:2310.05737;
Zhao et al. 2024, "Image and Video Tokenization with Binary Spherical Quantization", arXiv:2406.07548.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_range, choose
from jaxgen.core.mapped import psum
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.checks import check_indices
from jaxgen.quantize.estimators import straight_through
from jaxgen.quantize.nearest import unit
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import along_last, prepared

_JOINT_BITS = 24
_CHUNK = 2**23  # elements of one half-factor that are alive at once


def lfq(
    num_bits: int,
    *,
    commitment: float = 0.25,
    entropy_weight: float = 0.1,
    diversity: float = 1.0,
    temperature: float = 0.01,
    spherical: bool = False,
    entropy: str | None = None,
    axis_name: AxisName = None,
) -> Quantizer:
    """Lookup-free quantization by signs, with entropy losses; `spherical=True` is binary spherical quantization.

    q = a sign(z); losses "commitment" and "entropy" = entropy_weight (H(p(. | z)) - diversity H(E[p])), in nats.

    Args:
        num_bits: bits of an index; the vectors must have as many components, else use `projected`.
        commitment: weight of the commitment loss.
        entropy_weight: weight of the entropy loss: confident decisions, but all codes in use. 0 leaves it out.
        diversity: g, the weight of the entropy of the average within it.
        temperature: tau > 0. Small is sharp.
        spherical: scale vectors to unit length, and use the codes (+-1)/sqrt(num_bits).
        entropy: of the average: "joint" is exact and takes `2^num_bits` memory; "factorised" takes the bits as
            independent, sum_i H(E[p_i]), an upper bound, at any number of bits. `None` is "factorised" if spherical
            or above 18 bits, else "joint".
        axis_name: mapped axis or axes over which the batch is split; E[p] is that of the global batch.

    Returns:
        A `Quantizer` of `2^num_bits` codes without parameters.

    Raises:
        ValueError: an argument outside its range, "joint" above 24 bits, or another `dim` than `num_bits`.

    References: Yu et al. 2023, arXiv:2310.05737; Zhao et al. 2024, arXiv:2406.07548.

    Example:
        >>> quantizer = lfq(3)
        >>> variables = quantizer.init(jax.random.key(0), 3)
        >>> output, _ = quantizer.apply(variables, jnp.array([[0.2, -3.0, 0.1], [-1.0, -1.0, -1.0]]), train=True)
        >>> output.indices.tolist(), output.quantized.tolist(), sorted(output.losses)
        ([5, 0], [[1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]], ['commitment', 'entropy'])
    """
    num_bits = check_count("num_bits", num_bits)
    if num_bits > 30:
        raise ValueError(f"num_bits={num_bits}, but an int32 index holds 30: use grouped(lfq(...), groups).")
    for name, weight in (("commitment", commitment), ("entropy_weight", entropy_weight), ("diversity", diversity)):
        check_range(name, weight, 0)
    check_range("temperature", temperature, 1e-12)
    entropy = entropy or ("factorised" if spherical or num_bits > 18 else "joint")
    choose("entropy", entropy, ENTROPIES)
    if entropy == "joint" and num_bits > _JOINT_BITS:
        raise ValueError(f'entropy="joint" at num_bits={num_bits} needs 2^{num_bits} floats: use "factorised".')
    settings = _LFQ(
        num_bits=num_bits, commitment=commitment, entropy_weight=entropy_weight, diversity=diversity,
        temperature=temperature, spherical=spherical, entropy=entropy, axis_name=axis_name,
    )
    return Quantizer(settings.init, settings.apply, settings.lookup, 2**num_bits)


@dataclasses.dataclass(frozen=True)
class _LFQ:
    """The functions of `lfq`, whose arguments are the fields."""

    num_bits: int
    commitment: float
    entropy_weight: float
    diversity: float
    temperature: float
    spherical: bool
    entropy: str
    axis_name: AxisName

    def init(self, key: Array, dim: int) -> Variables:
        if dim != self.num_bits:
            raise ValueError(f"dim={dim}, but lfq(num_bits={self.num_bits}) quantizes {self.num_bits} components: "
                             f"use projected(lfq({self.num_bits}), {self.num_bits}).")
        return Variables(params={}, state={})

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        vectors = prepared(z, self.num_bits, valid)
        z = unit(vectors.z) if self.spherical else vectors.z
        places = along_last(1 << np.arange(self.num_bits, dtype=np.int32), z)
        indices = jnp.sum(jnp.where(z > 0, places, 0), axis=-1, dtype=jnp.int32)
        q = self.codes(indices)
        losses = {"commitment": self.commitment * jnp.mean(jnp.square(z - q), axis=-1)}
        if self.entropy_weight:
            logits = 4 * self.size / self.temperature * z
            single = jnp.sum(binary_entropy(logits), axis=-1)
            flat, counted = logits.reshape(-1, self.num_bits), vectors.counted.reshape(-1)
            average = ENTROPIES[self.entropy](flat, counted, axis_name=self.axis_name)
            losses["entropy"] = self.entropy_weight * (single - self.diversity * average)
        return vectors.output(straight_through(z, q), indices, losses), variables.state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices, num_codes = jnp.asarray(indices), 2**self.num_bits
        check_indices(indices, num_codes)
        outside = (indices < 0) | (indices >= num_codes)
        return jnp.where(outside[..., None], jnp.nan, self.codes(indices))

    @property
    def size(self) -> float:
        """The absolute value of a code's components."""
        return self.num_bits**-0.5 if self.spherical else 1.0

    def codes(self, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = indices[..., None].astype(jnp.int32)
        bits = indices >> along_last(np.arange(self.num_bits, dtype=np.int32), indices) & 1
        return jnp.where(bits == 1, jnp.float32(self.size), jnp.float32(-self.size))


def binary_entropy(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """H(sigmoid(logits)) in nats, elementwise: softplus(-|s|) + |s| sigmoid(-|s|), accurate in the tails."""
    size = jnp.abs(logits)
    return jax.nn.softplus(-size) + size * jax.nn.sigmoid(-size)


def factorised_entropy(
    logits: Float[Array, "n bits"], counted: Bool[Array, "n"] | None = None, *, axis_name: AxisName = None
) -> Float[Array, ""]:
    """sum_i H(E[sigmoid(logits_i)]), the entropy of the average code distribution if its bits were independent.

    Args:
        logits: of each bit being one, `[n, bits]`.
        counted: `[n]`, which of the vectors the average is over; `None` for all.
        axis_name: mapped axes over which the n vectors are split.

    Returns:
        `[]`, nats.
    """
    weight = _weight(logits, counted)
    count = jnp.maximum(psum(jnp.sum(weight), axis_name), 1)
    ones, zeros = (
        psum(jnp.dot(weight, jax.nn.sigmoid(s), precision=jax.lax.Precision.HIGHEST), axis_name) / count
        for s in (logits, -logits)
    )
    return jnp.sum(_surprise(ones) + _surprise(zeros))


def joint_entropy(
    logits: Float[Array, "n bits"], counted: Bool[Array, "n"] | None = None, *, axis_name: AxisName = None
) -> Float[Array, ""]:
    """H(E[p]) over all `2^bits` codes, p a product of Bernoulli distributions; exact.

    E[p] = L' R / n, L and R `[n, 2^(bits/2)]` being the distributions of the lower and the upper half of the bits.
    Long batches go through in chunks that the backward pass computes again.

    Args:
        logits: of each bit being one, `[n, bits]`.
        counted: `[n]`, which of the vectors the average is over; `None` for all.
        axis_name: mapped axes over which the n vectors are split.

    Returns:
        `[]`, nats.
    """
    count, bits = logits.shape
    lower = (bits + 1) // 2
    chunk = max(1, _CHUNK >> lower)

    def summed(logits: Array, weight: Array) -> Array:
        left = _product_distribution(logits[:, :lower], weight)
        right = _product_distribution(logits[:, lower:], jnp.ones_like(weight))
        return jnp.dot(left.T, right, precision=jax.lax.Precision.HIGHEST)

    weight = _weight(logits, counted)
    # A symbolic number of vectors, under `jax.export`, goes through in one piece.
    if is_symbolic_dim(count) or count <= chunk:
        total = summed(logits, weight)
    else:
        chunks = -(-count // chunk)
        padding = chunks * chunk - count
        blocks = jnp.pad(logits, ((0, padding), (0, 0))).reshape(chunks, chunk, bits)
        weights = jnp.pad(weight, (0, padding)).reshape(chunks, chunk)
        again = jax.checkpoint(summed)
        total, _ = jax.lax.scan(
            lambda total, block: (total + again(*block), None), again(blocks[0], weights[0]), (blocks[1:], weights[1:])
        )
    average = psum(total, axis_name) / jnp.maximum(psum(jnp.sum(weight), axis_name), 1)
    return jnp.sum(_surprise(average))


def _weight(logits: Float[Array, "n bits"], counted: Bool[Array, "n"] | None) -> Float[Array, "n"]:
    return jnp.ones_like(logits[:, 0]) if counted is None else counted.astype(logits.dtype)


def _product_distribution(logits: Float[Array, "n bits"], weight: Float[Array, "n"]) -> Float[Array, "n codes"]:
    """`weight` times the distribution over the `2^bits` values of independent bits, bit 0 the lowest."""
    p = weight[:, None]
    for bit in range(logits.shape[1]):
        s = logits[:, bit : bit + 1]
        p = jnp.concatenate([p * jax.nn.sigmoid(-s), p * jax.nn.sigmoid(s)], axis=1)
    return p


def _surprise(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """-p log p, with value and gradient 0 at 0."""
    return jnp.where(p > 0, -p * jnp.log(jnp.where(p > 0, p, 1)), 0)


ENTROPIES = {"joint": joint_entropy, "factorised": factorised_entropy}
