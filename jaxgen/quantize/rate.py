"""An entropy-constrained codebook: what a code costs in bits counts when it is chosen.

    index = argmin_k |z - e_k|^2 - w v log2 p_k

p_k is a moving average of the fraction of vectors on code k, and v one of the vectors' variance, E|z - E z|^2, which
makes w free of their scale: a bit is worth a growth of the mean squared distance by w v. Codes of D components have
distance d = c 2^(-2 R / D) at R bits where they are many, so that they come to d = w v D / (2 ln 2). Before the first
batch v is 0: training starts as without rate.

Reference: Chou, Lookabaugh & Gray 1989, "Entropy-constrained vector quantization", IEEE Transactions on Acoustics,
Speech, and Signal Processing 37(1).
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.types import Variables
from jaxgen.quantize.batch import Batch
from jaxgen.quantize.codebook import Wrapped, average

_RAREST = 2.0**-30  # the share of a code that nothing chose


@dataclass(frozen=True)
class WithRate(Wrapped):
    """A codebook whose codes have a cost: state "frequency" `[K]` and "variance" `[]`."""

    weight: float
    decay: float
    learns = True

    @property
    def draws(self) -> bool:
        return self.codebook.draws

    def init(self, key: Array, dim: int) -> Variables:
        params, state = self.codebook.init(key, dim)
        frequency = jnp.full(self.num_codes, 1 / self.num_codes, jnp.float32)
        return Variables(params, state | {"frequency": frequency, "variance": jnp.zeros((), jnp.float32)})

    def cost(self, state: dict) -> Float[Array, "K"]:
        frequency, variance = (state[name].astype(jnp.float32) for name in ("frequency", "variance"))
        return -self.weight * variance * jnp.log2(jnp.maximum(frequency, _RAREST))

    def update(self, params: dict, state: dict, batch: Batch, chosen: tuple[Array, Array], key: Array | None) -> dict:
        counts, sums = chosen
        total = jnp.sum(counts)
        size = jnp.maximum(total, 1)
        centre = jnp.mean(self.read(params, state), axis=0)  # near the vectors: a difference of small numbers
        mean = jnp.sum(sums, axis=0) / size - centre
        variance = jnp.maximum(batch.squares(centre) / size - jnp.sum(jnp.square(mean)), 0)
        new = {
            "frequency": average(state["frequency"], counts / size, self.decay, total),
            "variance": average(state["variance"], variance, self.decay, total),
        }
        state = self.codebook.update(params, state, batch, chosen, key)
        return state | {name: value.astype(state[name].dtype) for name, value in new.items()}

    def place(self, params: dict, state: dict, values: Array, where: Array, counts: Array | None = None) -> dict:
        state = self.codebook.place(params, state, values, where, counts)
        shares = 1 / self.num_codes if counts is None else counts / jnp.maximum(jnp.sum(counts), 1)
        frequency = jnp.where(where, shares, state["frequency"])
        return state | {"frequency": frequency.astype(state["frequency"].dtype)}
