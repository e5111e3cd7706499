"""Diffusion in the latent space of a trained autoencoder.

    z = to_latents(x) = autoencoder.to_latents(x) / std;    x = from_latents(z) = autoencoder.from_latents(std z)

Of a VQ-VAE the latents are the encoder's outputs, and decoding quantizes them first; of a KL autoencoder they are draws
of the posterior. `std` is the latents' measured standard deviation, one number, so that noise levels mean what they
mean for data of std 1.

Reference: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022, arXiv:2112.10752.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_floating
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.diffusion import Schedule
from jaxgen.models.base import Autoencoder
from jaxgen.models.conditions import Condition
from jaxgen.models.description import call
from jaxgen.models.diffusion import DiffusionModel
from jaxgen.models.vqvae import shape_of


@dataclass(frozen=True, kw_only=True)
class LatentDiffusion:
    """A diffusion model of latents, and the autoencoder whose latents they are.

    Variables(params, state): `params` are the diffusion model's; `state` is {"autoencoder": the autoencoder's own
    Variables, "std": []}, so that a checkpoint is all that sampling needs. `from_latents` raises ValueError for latents
    that are whole numbers, `to_latents` for latents of another shape.

    Attributes:
        model: of arrays [B, h, w, D].
        autoencoder: trained; its weights are no parameters here.

    Raises:
        ValueError: what has no to_latents and from_latents is no autoencoder.
    """

    model: DiffusionModel
    autoencoder: Autoencoder

    def __post_init__(self):
        if not isinstance(self.autoencoder, Autoencoder):
            raise ValueError("latent diffusion needs an autoencoder, with to_latents and from_latents, such as a "
                             f"'vqvae' or a 'kl_autoencoder'; got a {type(self.autoencoder).__name__}")

    @classmethod
    def from_description(
        cls, *, autoencoder: Autoencoder, sigma_data: float = 1.0, axis_name: AxisName = None, **own: Any
    ) -> "LatentDiffusion":
        """The model of plain values, those of `DiffusionModel`, over an autoencoder."""
        own = {"sigma_data": sigma_data, **own}
        model = call("model 'latent_diffusion'", DiffusionModel.from_description, own)
        return cls(model=model, autoencoder=autoencoder)

    @property
    def conditions(self) -> Condition:
        return self.model.conditions

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.model.sample_shape

    @property
    def schedule(self) -> Schedule | None:
        return self.model.schedule

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables, with latents of std 1."""
        state = {"autoencoder": self.autoencoder.init(key, example_shape), "std": jnp.ones(())}
        return Variables(self.model.init(key, self.sample_shape).params, state)

    def denoise(
        self, params: PyTree, z: Float[Array, "B ..."], sigma: Float[Array, "..."],
        cond: Mapping[str, Array] | None = None, *, key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B ..."]:
        """z0 of z at noise level sigma, see `DiffusionModel.denoise`."""
        return self.model.denoise(params, z, sigma, cond, key=key)

    def encode(self, params: PyTree, cond: Mapping[str, Array] | None) -> dict[str, Any]:
        """cond whose text is encoded, for many calls of `denoise`."""
        return self.model.encode(params, cond)

    def null(self, count: int) -> dict[str, Any]:
        """The cond of `count` samples that stands for "no condition"."""
        return self.model.null(count)

    def first_stage(self, variables: Variables) -> tuple[Autoencoder, Variables]:
        """The autoencoder and its variables."""
        return self.autoencoder, Variables(*variables.state["autoencoder"])

    def to_latents(
        self, variables: Variables, x: Float[Array, "B ..."], *, key: PRNGKeyArray | None = None,
        sample_ids: Int[Array, "B"] | None = None,
    ) -> Float[Array, "B ..."]:
        """z of std 1; without a key the posterior's mode."""
        autoencoder, own = self.first_stage(variables)
        z = autoencoder.to_latents(own, x, key=key, sample_ids=sample_ids)
        if z.shape[1:] != self.sample_shape:
            raise ValueError(f"examples {x.shape[1:]} have latents {z.shape[1:]}, but this model is over "
                             f"{self.sample_shape}")
        return z / variables.state["std"]

    def from_latents(self, variables: Variables, z: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        """x in about [-1, 1] of z."""
        check_floating("z", z)
        autoencoder, own = self.first_stage(variables)
        return autoencoder.from_latents(own, z * variables.state["std"])


def latent_shape(autoencoder: Autoencoder, example_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the latents that an autoencoder has of one example."""
    return shape_of(autoencoder, "to_latents", example_shape)


def measure_std(
    autoencoder: Autoencoder, variables: Variables, batches: Iterable[tuple[Array, Array, np.ndarray]], *,
    seed: int = 0,
) -> np.ndarray:
    """The standard deviation of all numbers of the latents, [] float32; draws of a posterior count with theirs.

    Args:
        autoencoder: whose latents.
        variables: of the autoencoder.
        batches: (x [B, ...], ids [B], mask [B] of the examples that count), each example once.
        seed: of the posterior's draws.

    Raises:
        ValueError: the latents do not vary.
    """

    def sums(variables, x, ids):
        z = autoencoder.to_latents(variables, x, key=jax.random.key(seed), sample_ids=ids)
        axes = tuple(range(1, z.ndim))
        return z.sum(axis=axes), (z**2).sum(axis=axes), jnp.full(z.shape[:1], z[0].size)

    run, totals = jax.jit(sums, compiler_options=compiler_options()), np.zeros(3)
    for x, ids, mask in batches:
        totals += [np.asarray(value, np.float64)[mask].sum() for value in run(variables, x, ids)]
    total, square, count = totals
    variance = square / count - (total / count) ** 2
    if not variance > 0:
        raise ValueError(f"the latents have the variance {variance:.3g}: this autoencoder tells no example from "
                         "another")
    return np.float32(np.sqrt(variance))
