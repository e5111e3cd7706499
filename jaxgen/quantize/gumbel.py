"""Gumbel-softmax quantization: codes are drawn from learned logits, with the gradient of a relaxed draw.

    l = z W + b,   g ~ Gumbel(0, 1),   y = softmax((l + g)/tau)
    index = argmax(l + g),   q = e_index forward,   y E backward
    entropy loss = weight KL(softmax(l) | uniform) = weight (log K - H(softmax(l)))

References: Jang, Gu and Poole 2016, arXiv:1611.01144; Maddison, Mnih and Teh 2016, arXiv:1611.00712;
for image codes: Ramesh et al. 2021, arXiv:2102.12092.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_range
from jaxgen.core.mapped import first_position
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.checks import check_indices, gather, need_key
from jaxgen.quantize.estimators import straight_through
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import prepared


def gumbel(
    num_codes: int,
    *,
    temperature: float | Float[Array, ""] = 1.0,
    kl_weight: float = 5e-4,
    axis_name: AxisName = None,
) -> Quantizer:
    """Gumbel-softmax quantization, hard forward and soft backward.

    q = e_k, k = argmax(l + g); dq = d(softmax((l + g)/tau) E). Without `train=True` no noise is added.
    It needs the `[tokens, num_codes]` logits by its nature. The noise of a vector depends on the key and on its
    position in the global batch only.

    Args:
        num_codes: K.
        temperature: tau > 0; may be traced, so that `gumbel(K, temperature=tau)` inside a jitted step anneals without
            compiling again.
        kl_weight: weight of the divergence from uniform use.
        axis_name: mapped axis or axes over which the batch is split.

    Returns:
        A `Quantizer` with params "kernel" `[D, K]`, "bias" `[K]`, "codebook" `[K, D]`; the loss is "entropy".

    Raises:
        ValueError: an argument outside its range; training without a key.

    Reference: Jang et al. 2016, arXiv:1611.01144.

    Example:
        >>> quantizer = gumbel(512, temperature=0.5)
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> output, _ = quantizer.apply(variables, jnp.ones((2, 8, 4)), train=True, key=jax.random.key(1))
        >>> output.quantized.shape, output.indices.shape, sorted(output.losses)
        ((2, 8, 4), (2, 8), ['entropy'])
    """
    num_codes = check_count("num_codes", num_codes)
    check_range("temperature", temperature, 1e-12)
    check_range("kl_weight", kl_weight, 0)
    settings = _Gumbel(num_codes=num_codes, temperature=temperature, kl_weight=kl_weight, axis_name=axis_name)
    return Quantizer(settings.init, settings.apply, settings.lookup, num_codes)


@dataclasses.dataclass(frozen=True)
class _Gumbel:
    """The functions of `gumbel`, whose arguments are the fields."""

    num_codes: int
    temperature: float | Float[Array, ""]
    kl_weight: float
    axis_name: AxisName

    def init(self, key: Array, dim: int) -> Variables:
        dim = check_count("dim", dim)
        kernel_key, codebook_key = jax.random.split(key)
        params = {
            "kernel": jax.random.normal(kernel_key, (dim, self.num_codes), jnp.float32) / dim**0.5,
            "bias": jnp.zeros(self.num_codes, jnp.float32),
            "codebook": jax.random.normal(codebook_key, (self.num_codes, dim), jnp.float32) / dim**0.5,
        }
        return Variables(params, {})

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, dict]:
        kernel, bias, codebook = (variables.params[k].astype(jnp.float32) for k in ("kernel", "bias", "codebook"))
        vectors = prepared(z, kernel.shape[0], valid)
        shape, flat = vectors.z.shape, vectors.z.reshape(-1, kernel.shape[0])
        logits = jnp.dot(flat, kernel, precision=jax.lax.Precision.HIGHEST) + bias[None]
        noisy = logits
        if train:
            key = need_key(key, "gumbel")
            positions = first_position(flat.shape[0], self.axis_name) + jnp.arange(flat.shape[0])
            noisy += _noise(key, positions, self.num_codes)
        indices = jnp.argmax(noisy, axis=-1).astype(jnp.int32)
        soft = jnp.dot(jax.nn.softmax(noisy / self.temperature), codebook, precision=jax.lax.Precision.HIGHEST)
        log_p = jax.nn.log_softmax(logits)
        divergence = jnp.sum(jnp.exp(log_p) * (log_p + math.log(self.num_codes)), axis=-1)
        quantized = straight_through(soft, gather(codebook, indices)).reshape(shape)
        losses = {"entropy": (self.kl_weight * divergence).reshape(shape[:-1])}
        return vectors.output(quantized, indices.reshape(shape[:-1]), losses), variables.state

    def lookup(self, variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, self.num_codes)
        return gather(variables.params["codebook"].astype(jnp.float32), indices)


def _noise(key: Array, positions: Int[Array, "n"], num_codes: int) -> Float[Array, "n K"]:
    def of_one(position: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, position), (num_codes,), jnp.float32)

    return jax.vmap(of_one)(positions)
