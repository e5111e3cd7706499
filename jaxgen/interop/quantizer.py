"""What the quantizers of published VQGANs do differently: a loss with beta on the other term, and renumbered codes."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxgen.quantize import Quantizer, vq
from jaxgen.quantize.checks import check_indices


def published_vq(num_codes: int, *, beta: float = 0.25, legacy: bool = True) -> Quantizer:
    """`jaxgen.quantize.vq` with the loss that published VQGANs were trained with.

        legacy:  |z - sg(e)|² + beta |sg(z) - e|²        else:  beta |z - sg(e)|² + |sg(z) - e|²

    The two have the same value, (1 + beta) |z - e|², and different gradients: under `legacy`, the default of
    taming-transformers and of diffusers, beta slows the codes and not the encoder. It is for training such a model
    further; take `vq` for a new one.

    Args:
        num_codes: K.
        beta: weight of one of the terms.
        legacy: whether beta is the weight of the codebook's term, else of the commitment's.

    Example:
        >>> from jaxgen.interop import published_vq
        >>> published_vq(512).num_codes
        512
    """
    if not legacy:
        return vq(num_codes, commitment=beta)
    quantizer = vq(num_codes, commitment=1.0)
    return quantizer._replace(apply=_Legacy(quantizer, beta).apply)


@dataclasses.dataclass(frozen=True)
class _Legacy:
    """A quantizer with a weight on its codebook loss."""

    quantizer: Quantizer
    beta: float

    def apply(self, variables, z, **options):
        output, state = self.quantizer.apply(variables, z, **options)
        return output._replace(losses={**output.losses, "codebook": self.beta * output.losses["codebook"]}), state


def to_used(
    indices: Int[Array, "..."], used: Int[Array, "n"], *, unknown: int | None = None
) -> Int[Array, "..."]:
    """Codes renumbered by their positions in `used`, as taming-transformers does for priors over part of a codebook.

    Args:
        indices: codes of the whole codebook.
        used: the codes that the prior knows, for example a `LoadedVQGAN`'s.
        unknown: what a code outside `used` becomes; None for `len(used)`, taming's "extra" token. (Its "random", a
            new random code each time, is not offered: draw one and pass it.)

    Returns:
        int32 positions, or `unknown`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.interop import to_used
        >>> to_used(jnp.array([7, 3, 5]), jnp.array([3, 7])).tolist()
        [1, 0, 2]
    """
    used = jnp.asarray(used)
    order = jnp.argsort(used)
    position = order[jnp.clip(jnp.searchsorted(used[order], indices), 0, used.shape[0] - 1)]
    other = used.shape[0] if unknown is None else unknown
    return jnp.where(used[position] == indices, position, other).astype(jnp.int32)


def from_used(places: Int[Array, "..."], used: Int[Array, "n"]) -> Int[Array, "..."]:
    """The codes at these positions of `used`: the inverse of `to_used`. Position `len(used)` gives the first code.

    Raises:
        ValueError: a position below 0 or above `len(used)`; under `jit`, where nothing can be raised, it gives -1,
            whose vector is NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.interop import from_used
        >>> from_used(jnp.array([1, 0]), jnp.array([3, 7])).tolist()
        [7, 3]
    """
    used, places = jnp.asarray(used), jnp.asarray(places)
    count = used.shape[0]
    check_indices(places, count + 1)
    places = jnp.where(places == count, 0, jnp.where(places < 0, count, places))
    return used.at[places].get(mode="fill", fill_value=-1)
