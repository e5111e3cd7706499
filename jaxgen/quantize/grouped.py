"""Grouped (product) quantization: the components are split into groups, each with its own codebook.

    z = (z_1, ..., z_G),   q = (Q_1(z_1), ..., Q_G(z_G))

Reference: Jegou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search"; in a VQ-VAE:
Baevski, Schneider and Auli 2020, arXiv:1910.05453.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count, check_floating
from jaxgen.core.types import Variables
from jaxgen.quantize.apply import apply_quantizer
from jaxgen.quantize.checks import check_indices
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import is_finite


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
        ValueError: `groups` below 1, components that it does not divide, or indices without a last axis of `groups`.

    Reference: Jegou et al. 2011; Baevski et al. 2020, arXiv:1910.05453.

    Example:
        >>> from jaxgen.quantize import vq
        >>> quantizer = grouped(vq(16), groups=2)
        >>> variables = quantizer.init(jax.random.key(0), 6)
        >>> output, _ = quantizer.apply(variables, jnp.ones((5, 6)))
        >>> variables.params["codebook"].shape, output.indices.shape
        ((2, 16, 3), (5, 2))
    """
    settings = _Grouped(quantizer, check_count("groups", groups))
    return Quantizer(settings.init, settings.apply, settings.lookup, quantizer.num_codes)


@dataclasses.dataclass(frozen=True)
class _Grouped:
    """The functions of `grouped`, whose arguments are the fields."""

    quantizer: Quantizer
    groups: int

    def init(self, key: Array, dim: int) -> Variables:
        dim = self.part(check_count("dim", dim))
        return jax.vmap(lambda group_key: self.quantizer.init(group_key, dim))(jax.random.split(key, self.groups))

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *,
        train: bool = False, key: Array | None = None, valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, Any]:
        z = jnp.asarray(z)
        if z.ndim == 0:
            raise ValueError("z has shape (): pass vectors [..., D].")
        check_floating("z", z)
        # A vector that is not finite is so in every group, so that none of its parts enters a codebook.
        z = jnp.where(is_finite(z)[..., None], z, jnp.nan)
        slices = jnp.moveaxis(z.reshape(*z.shape[:-1], self.groups, self.part(z.shape[-1])), -2, 0)
        keys = None if key is None else jax.random.split(key, self.groups)

        def quantize(group: tuple) -> tuple[QuantizeOutput, Any]:
            own, z, own_key = group
            return apply_quantizer(self.quantizer, own, z, train=train, key=own_key, valid=valid)

        # A loop, not vmap: under vmap a group's lax.cond would compute k-means and revival at every step.
        outputs, state = jax.lax.map(quantize, (variables, slices, keys))
        losses = jax.tree.map(lambda loss: jnp.mean(loss, axis=0), outputs.losses)
        return QuantizeOutput(_joined(outputs.quantized), jnp.moveaxis(outputs.indices, 0, -1), losses), state

    def lookup(self, variables: Variables, indices: Int[Array, "... groups"]) -> Float[Array, "... D"]:
        indices = jnp.asarray(indices)
        if indices.ndim == 0 or indices.shape[-1] != self.groups:
            raise ValueError(f"indices has shape {indices.shape}, but a quantizer of {self.groups} groups needs "
                             f"[..., {self.groups}].")
        check_indices(indices, self.quantizer.num_codes)
        parts = jax.lax.map(lambda group: self.quantizer.lookup(*group), (variables, jnp.moveaxis(indices, -1, 0)))
        return _joined(parts)

    def part(self, dim: int) -> int:
        """The components of one group."""
        if dim % self.groups:
            raise ValueError(f"groups={self.groups} does not divide the {dim} components: choose a divisor of {dim}.")
        return dim // self.groups


def _joined(parts: Float[Array, "G ... D"]) -> Float[Array, "... GD"]:
    parts = jnp.moveaxis(parts, 0, -2)
    return parts.reshape(*parts.shape[:-2], -1)
