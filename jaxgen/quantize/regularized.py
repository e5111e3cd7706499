"""Regularisation of what a quantizer is trained with: noise on its vectors, and examples that pass unquantized.

Both act on examples, the elements of the first axis of z, in training only; their variables are the inner quantizer's.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgen.core.checks import check_floating, check_fraction, check_not_negative
from jaxgen.core.keys import global_positions, sample_keys
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.quantize.apply import apply_quantizer
from jaxgen.quantize.checks import need_key
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import checked_mask, is_finite


def noisy(quantizer: Quantizer, std: float, *, axis_name: AxisName = None) -> Quantizer:
    """Latent noise: in training the quantizer gets z + std s n, n ~ N(0, 1).

    s is the std of all entries of the example's latents (of its vectors that count, about their mean), a constant for
    the gradient: an encoder cannot escape the noise by larger latents, as it can from noise of one size. Neighbouring
    codes are confused in training, so that they come to decode to similar images.

    Args:
        quantizer: of the noisy vectors, which its losses and codebook see too.
        std: of the noise, in units of s.
        axis_name: mapped axis or axes over which the batch is split; the draws follow the place in the global batch.

    Returns:
        A `Quantizer` with the variables, indices and losses of `quantizer`; training needs a key.

    Raises:
        ValueError: `std` is below 0 or not finite, training without a key, or what the inner quantizer refuses.

    Reference: noise on the latents of a tokenizer in training: Yang et al., "Latent denoising makes good visual
    tokenizers", 2025, arXiv:2507.15856, there of one size and on the decoder's side; the relative size is ours.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxgen.quantize import vq
        >>> quantizer = noisy(vq(16), 0.2)
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> output, _ = quantizer.apply(variables, jnp.ones((2, 5, 4)), train=True, key=jax.random.key(1))
        >>> output.indices.shape
        (2, 5)
    """
    check_not_negative("std", std)
    settings = _Noisy(quantizer, float(std), axis_name)
    return Quantizer(quantizer.init, settings.apply, quantizer.lookup, quantizer.num_codes)


def dropout(quantizer: Quantizer, rate: float, *, axis_name: AxisName = None) -> Quantizer:
    """Quantizer dropout: in training each example passes unquantized with probability `rate`.

    `quantized` is then z, with its gradient, and not `lookup(indices)`; indices, losses and what the codebook learns
    are those without dropout. It is for quantizers whose codes have the scale of z, not for those that squash or
    normalise it (`fsq`, `lfq`, `metric="cosine"`). `residual(..., dropout=)` drops the last levels instead.

    Args:
        quantizer: any.
        rate: probability, 0 to 1; .5 in the paper.
        axis_name: mapped axis or axes over which the batch is split; the draws follow the place in the global batch.

    Returns:
        A `Quantizer` with the variables, indices and losses of `quantizer`; training needs a key.

    Raises:
        ValueError: `rate` outside [0, 1], training without a key, or what the inner quantizer refuses.

    Reference: Défossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024, arXiv:2410.00037
    (its codec Mimi); `no_quantization_rate` of its code.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxgen.quantize import vq
        >>> quantizer, z = dropout(vq(16), 1.0), jnp.ones((2, 5, 4))
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> output, _ = quantizer.apply(variables, z, train=True, key=jax.random.key(1))
        >>> bool((output.quantized == z).all())
        True
    """
    check_fraction("rate", rate)
    settings = _Dropout(quantizer, float(rate), axis_name)
    return Quantizer(quantizer.init, settings.apply, quantizer.lookup, quantizer.num_codes)


@dataclasses.dataclass(frozen=True)
class _Noisy:
    """The function of `noisy`, whose arguments are the fields."""

    quantizer: Quantizer
    std: float
    axis_name: AxisName

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None,
        valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, PyTree]:
        if train:
            own_key, key = jax.random.split(need_key(key, "noisy"))
            z, examples = _by_example(z)
            counted = is_finite(z) if valid is None else is_finite(z) & checked_mask(valid, z.shape[:-1])
            scale = self.std * _std(examples, counted.reshape(examples.shape[:-1]))
            keys = _example_keys(own_key, examples, self.axis_name)
            noise = jax.vmap(lambda one: jax.random.normal(one, examples.shape[1:], jnp.float32))(keys)
            z = z + (scale * noise).reshape(z.shape)
        return apply_quantizer(self.quantizer, variables, z, train=train, key=key, valid=valid)


@dataclasses.dataclass(frozen=True)
class _Dropout:
    """The function of `dropout`, whose arguments are the fields."""

    quantizer: Quantizer
    rate: float
    axis_name: AxisName

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None,
        valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, PyTree]:
        if not train:
            return apply_quantizer(self.quantizer, variables, z, key=key, valid=valid)
        own_key, key = jax.random.split(need_key(key, "dropout"))
        z, examples = _by_example(z)
        output, state = apply_quantizer(self.quantizer, variables, z, train=True, key=key, valid=valid)
        keys = _example_keys(own_key, examples, self.axis_name)
        dropped = jax.vmap(lambda one: jax.random.uniform(one, (), jnp.float32))(keys) < self.rate
        passes = is_finite(z) & jnp.broadcast_to(dropped[:, None], examples.shape[:-1]).reshape(z.shape[:-1])
        return output._replace(quantized=jnp.where(passes[..., None], z, output.quantized)), state


def _by_example(z: Float[Array, "... D"]) -> tuple[Float[Array, "... D"], Float[Array, "B N D"]]:
    """(z in float32, the same by example); one vector [D] is one example."""
    z = jnp.asarray(z)
    check_floating("z", z)
    if z.ndim == 0:
        raise ValueError("z has shape (): pass vectors [..., D].")
    z = z.astype(jnp.float32)
    return z, z.reshape(z.shape[0] if z.ndim > 1 else 1, math.prod(z.shape[1:-1]), z.shape[-1])


def _example_keys(key: Array, examples: Float[Array, "B N D"], axis_name: AxisName) -> Array:
    """[B], by the place in the global batch."""
    count = examples.shape[0]
    return sample_keys(key, global_positions(count, axis_name)[0], count)


def _std(z: Float[Array, "B N D"], counted: Bool[Array, "B N"]) -> Float[Array, "B 1 1"]:
    """The std of each example's entries in the vectors that count, a constant; 0 without any."""
    mask = jnp.broadcast_to(counted[..., None], z.shape)
    z = jnp.where(mask, jax.lax.stop_gradient(z), 0)
    count = jnp.maximum(jnp.sum(mask, axis=(1, 2), keepdims=True), 1)
    mean = jnp.sum(z, axis=(1, 2), keepdims=True) / count
    return jnp.sqrt(jnp.sum(jnp.where(mask, jnp.square(z - mean), 0), axis=(1, 2), keepdims=True) / count)
