"""Grouped (product) quantization: the components are split into groups, each with its own codebook.

    z = (z_1, ..., z_G),   q = (Q_1(z_1), ..., Q_G(z_G))

Reference: Jegou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search"; in a VQ-VAE:
Baevski, Schneider and Auli 2020, arXiv:1910.05453.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.checks import check_count
from jaxgen.quantize.checks import check_indices
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables


def grouped(quantizer: Quantizer, groups: int) -> Quantizer:
    """A quantizer for each of `groups` equal slices of the components; every group has its own variables.

    q = concatenate(Q_1(z_1), ..., Q_G(z_G)).

    Args:
        quantizer: of each group.
        groups: G, a divisor of the number of components.

    Returns:
        A `Quantizer` whose indices have a last axis of `groups`, whose losses are means over the groups, and whose
        variables carry a leading axis of `groups`. `num_codes` is that of one group.

    Raises:
        ValueError: components that `groups` does not divide, or indices without a last axis of `groups`.

    Reference: Jegou et al. 2011; Baevski et al. 2020, arXiv:1910.05453.
    """
    check_count("groups", groups)

    def part(dim: int) -> int:
        if dim % groups:
            raise ValueError(f"groups={groups} does not divide the {dim} components: choose a divisor of {dim}.")
        return dim // groups

    def joined(parts: Float[Array, "G ... D"]) -> Array:
        parts = jnp.moveaxis(parts, 0, -2)
        return parts.reshape(*parts.shape[:-2], -1)

    def init(key: Array, dim: int) -> Variables:
        dim = part(dim)
        return jax.vmap(lambda group_key: quantizer.init(group_key, dim))(jax.random.split(key, groups))

    def apply(variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None):
        if z.ndim == 0:
            raise ValueError("z has shape (): pass vectors [..., D].")
        slices = jnp.moveaxis(z.reshape(*z.shape[:-1], groups, part(z.shape[-1])), -2, 0)
        keys = None if key is None else jax.random.split(key, groups)
        # A loop, not vmap: under vmap a group's lax.cond would compute k-means and revival at every step.
        outputs, state = jax.lax.map(
            lambda group: quantizer.apply(group[0], group[1], train=train, key=group[2]), (variables, slices, keys)
        )
        losses = jax.tree.map(lambda loss: jnp.mean(loss, axis=0), outputs.losses)
        return QuantizeOutput(joined(outputs.quantized), jnp.moveaxis(outputs.indices, 0, -1), losses), state

    def lookup(variables: Variables, indices: Int[Array, "... groups"]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        if indices.ndim == 0 or indices.shape[-1] != groups:
            raise ValueError(f"indices has shape {indices.shape}, but a quantizer of {groups} groups needs "
                             f"[..., {groups}].")
        check_indices(indices, quantizer.num_codes)
        parts = jax.lax.map(lambda group: quantizer.lookup(*group), (variables, jnp.moveaxis(indices, -1, 0)))
        return joined(parts)

    return Quantizer(init, apply, lookup, quantizer.num_codes)
