"""Gumbel-softmax quantization: codes are drawn from learned logits, with the gradient of a relaxed draw.

    l = z W + b,   g ~ Gumbel(0, 1),   y = softmax((l + g)/tau)
    index = argmax(l + g),   q = e_index forward,   y E backward
    entropy loss = weight KL(softmax(l) | uniform) = weight (log K - H(softmax(l)))

References: Jang, Gu and Poole 2016, arXiv:1611.01144; Maddison, Mnih and Teh 2016, arXiv:1611.00712;
for image codes: Ramesh et al. 2021, arXiv:2102.12092.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.quantize.checks import check_count, check_indices, check_range, check_vectors, gather, need_key
from jaxgen.quantize.codebook import AxisName, first_position
from jaxgen.quantize.estimators import straight_through
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables


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
    position in the global batch alone.

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
    """
    check_count("num_codes", num_codes)
    check_range("temperature", temperature, 1e-12)
    check_range("kl_weight", kl_weight, 0)

    def init(key: Array, dim: int) -> Variables:
        check_count("dim", dim)
        kernel_key, codebook_key = jax.random.split(key)
        params = {
            "kernel": jax.random.normal(kernel_key, (dim, num_codes)) / jnp.sqrt(dim),
            "bias": jnp.zeros(num_codes),
            "codebook": jax.random.normal(codebook_key, (num_codes, dim)) / jnp.sqrt(dim),
        }
        return Variables(params, {})

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        kernel, bias, codebook = (variables.params[k].astype(jnp.float32) for k in ("kernel", "bias", "codebook"))
        check_vectors(z, kernel.shape[0])
        flat = z.reshape(-1, z.shape[-1]).astype(jnp.float32)
        logits = jnp.dot(flat, kernel, precision=jax.lax.Precision.HIGHEST) + bias
        noisy = logits
        if train:
            positions = first_position(len(flat), axis_name) + jnp.arange(len(flat))
            noisy += _noise(need_key(key, "gumbel"), positions, num_codes)
        indices = jnp.argmax(noisy, axis=-1).astype(jnp.int32)
        soft = jnp.dot(jax.nn.softmax(noisy / temperature), codebook, precision=jax.lax.Precision.HIGHEST)
        log_p = jax.nn.log_softmax(logits)
        divergence = jnp.sum(jnp.exp(log_p) * (log_p + jnp.log(num_codes)), axis=-1)
        quantized = straight_through(soft, gather(codebook, indices))
        losses = {"entropy": (kl_weight * divergence).reshape(z.shape[:-1])}
        return QuantizeOutput(quantized.reshape(z.shape), indices.reshape(z.shape[:-1]), losses), variables.state

    def lookup(variables: Variables, indices: Int[Array, "..."]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        check_indices(indices, num_codes)
        return gather(variables.params["codebook"].astype(jnp.float32), indices)

    return Quantizer(init, apply, lookup, num_codes)


def _noise(key: Array, positions: Int[Array, "n"], num_codes: int) -> Float[Array, "n K"]:
    return jax.vmap(lambda position: jax.random.gumbel(jax.random.fold_in(key, position), (num_codes,)))(positions)
