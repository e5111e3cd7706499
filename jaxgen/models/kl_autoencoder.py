"""Variational autoencoder whose latents a diffusion model works on.

    N(mean, exp(logvar)) = encode(x);  z = (mean + exp(logvar / 2) eps - shift) scale;  x_r = decode(z)

`scale` and `shift` bring the latents to mean 0 and std 1. They are the model's own: what `sample` and `mode` return and
`decode` takes is scaled, so that no caller can forget it. The Gaussian itself, and so its KL divergence, is that of the
unscaled latents.

Reference: Kingma & Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114; Rombach et al., "High-Resolution
Image Synthesis with Latent Diffusion Models", 2022, arXiv:2112.10752, section 3.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_finite, check_floating, check_not_negative
from jaxgen.core.keys import global_positions, numbered
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.losses import Gaussian, gaussian_kl
from jaxgen.models.description import make_network
from jaxgen.models.vqvae import check_reconstruction
from jaxgen.nn.autoencoder import Decoder, Encoder

LOGVAR_RANGE = (-30.0, 20.0)  # of the published models: exp() and its gradient stay finite


class GaussianOutput(NamedTuple):
    """What a forward pass says of its latents.

    Attributes:
        gaussian: of the unscaled latents, [B, h, w, D] each.
        losses: {"kl": [B]}, kl_weight * KL per number of the image.
    """

    gaussian: Gaussian
    losses: dict[str, Float[Array, "B"]]


@dataclass(frozen=True, kw_only=True)
class KLAutoencoder:
    """A KL autoencoder; `params` holds "encoder" and "decoder", the state is {}.

    Latents are float32, whatever the networks compute in. The methods raise ValueError for images that are bytes and
    for latents that are whole numbers.

    Attributes:
        encoder: Linen module, [B, H, W, C] -> [B, h, w, 2 * D]: means, then logarithms of variances, which are
            clipped to [-30, 20].
        decoder: Linen module, [B, h, w, D] -> [B, H, W, C].
        scale: factor of the latents, one over their std (0.18215 in Stable Diffusion).
        shift: mean of the latents, subtracted before they are scaled.
        kl_weight: weight of the KL divergence. As in LDM's published code it is compared with sums over an image; since
            distances are means here, it is divided by as many numbers.
        axis_name: mapped axis of devices, so that draws follow the place in the global batch.

    Raises:
        ValueError: `scale` is not above 0, a number is not finite, or `kl_weight` is below 0; at init, an encoder with
            an odd number of channels, or images that the decoder does not give back in their shape.
    """

    encoder: nn.Module
    decoder: nn.Module
    scale: float = 1.0
    shift: float = 0.0
    kl_weight: float = 1e-6
    axis_name: AxisName = None
    num_codes: ClassVar[None] = None

    def __post_init__(self):
        check_finite("scale", self.scale)
        check_finite("shift", self.shift)
        check_not_negative("kl_weight", self.kl_weight)
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}: it is one over the latents' std")

    @classmethod
    def from_description(
        cls, *, latent_channels: int, example_channels: int, encoder: Mapping | None = None,
        decoder: Mapping | None = None, scale: float = 1.0, shift: float = 0.0, kl_weight: float = 1e-6,
        dtype: str | None = None, axis_name: AxisName = None,
    ) -> "KLAutoencoder":
        """The model of plain values; `encoder` and `decoder` are arguments of `Encoder` and `Decoder`."""
        channels = 2 * check_count("latent_channels", latent_channels)
        return cls(
            encoder=make_network(Encoder, {"latent_channels": channels}, encoder, dtype),
            decoder=make_network(Decoder, {"image_channels": example_channels}, decoder, dtype),
            scale=scale, shift=shift, kl_weight=kl_weight, axis_name=axis_name,
        )

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables."""
        encoder_key, decoder_key = jax.random.split(key)
        moments, encoder = self.encoder.init_with_output(encoder_key, jnp.zeros((1, *example_shape)))
        if moments.shape[-1] % 2:
            raise ValueError(f"the encoder must give a mean and a logvar for each latent channel, an even number of "
                             f"channels; got {moments.shape[-1]}")
        z = jnp.zeros((*moments.shape[:-1], moments.shape[-1] // 2))
        x_r, decoder = self.decoder.init_with_output(decoder_key, z)
        check_reconstruction(x_r.shape[1:], example_shape)
        return Variables({"encoder": encoder["params"], "decoder": decoder["params"]}, {})

    def encode(self, variables: Variables, x: Float[Array, "B H W C"]) -> Gaussian:
        """The posterior of the unscaled latents, [B, h, w, D] each, of images in [-1, 1]."""
        check_floating("x", x)
        moments = self.encoder.apply({"params": variables.params["encoder"]}, x).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return Gaussian(mean, jnp.clip(logvar, *LOGVAR_RANGE))

    def sample(
        self, key: PRNGKeyArray, gaussian: Gaussian, *, sample_ids: Int[Array, "B"] | None = None
    ) -> Float[Array, "B h w D"]:
        """z drawn from the posterior; example i draws from fold_in(key, its id)."""
        ids = numbered(sample_ids, gaussian.mean.shape[0])
        shape = gaussian.mean.shape[1:]
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape))(ids)
        return (gaussian.mean + jnp.exp(gaussian.logvar / 2) * noise - self.shift) * self.scale

    def mode(self, gaussian: Gaussian) -> Float[Array, "B h w D"]:
        """z at the posterior's mean."""
        return (gaussian.mean - self.shift) * self.scale

    def decode(self, variables: Variables, z: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        """x_r of scaled latents."""
        check_floating("z", z)
        params = {"params": variables.params["decoder"]}
        return self.decoder.apply(params, z / self.scale + self.shift).astype(jnp.float32)

    def forward(
        self, variables: Variables, x: Float[Array, "B H W C"], *, train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B H W C"], GaussianOutput, PyTree]:
        """(x_r, the posterior and its loss, state): of a draw in training with a key, else of the mode."""
        gaussian = self.encode(variables, x)
        if train and key is not None:
            z = self.sample(key, gaussian, sample_ids=global_positions(x.shape[0], self.axis_name)[0])
        else:
            z = self.mode(gaussian)
        losses = {"kl": self.kl_weight * gaussian_kl(gaussian) / x[0].size}
        return self.decode(variables, z), GaussianOutput(gaussian, losses), variables.state

    def to_latents(
        self, variables: Variables, x: Float[Array, "B H W C"], *, key: PRNGKeyArray | None = None,
        sample_ids: Int[Array, "B"] | None = None,
    ) -> Float[Array, "B h w D"]:
        """Latents of std 1: a draw with a key, else the mode."""
        gaussian = self.encode(variables, x)
        return self.mode(gaussian) if key is None else self.sample(key, gaussian, sample_ids=sample_ids)

    def from_latents(self, variables: Variables, z: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        """Images of latents."""
        return self.decode(variables, z)
