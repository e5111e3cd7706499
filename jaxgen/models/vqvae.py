"""VQ-VAE: z_e = encode(x);  z_q = quantize(z_e);  x_r = decode(z_q).

Reference: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017, arXiv:1711.00937.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_floating
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.models.description import make_network
from jaxgen.models.parts import make_quantizer
from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.quantize import QuantizeOutput, Quantizer, apply_quantizer


@dataclass(frozen=True, kw_only=True)
class VQVAE:
    """A VQ-VAE; `params` holds "encoder", "decoder" and "quantizer", `state` is the quantizer's.

    Latents go to the quantizer in float32, whatever the networks compute in. The methods raise ValueError for images
    that are bytes and for latents that are whole numbers, such as indices.

    Attributes:
        encoder: Linen module, [B, H, W, C] -> [B, h, w, D].
        decoder: Linen module, [B, h, w, D] -> [B, H, W, C].
        quantizer: any of `jaxgen.quantize`, of dimension D (set at init from the encoder's output).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxgen.nn import Decoder, Encoder
        >>> from jaxgen.quantize import fsq
        >>> sizes = {"channels": 8, "multipliers": (1,), "num_res_blocks": 1, "patch_size": 2}
        >>> model = VQVAE(encoder=Encoder(latent_channels=3, **sizes), decoder=Decoder(image_channels=1, **sizes),
        ...               quantizer=fsq([8, 5, 5]))
        >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 1))
        >>> tokens = jax.jit(model.to_tokens)(variables, jnp.zeros((2, 8, 8, 1)))
        >>> tokens.shape, model.num_tokens
        ((2, 4, 4), 200)
    """

    encoder: nn.Module
    decoder: nn.Module
    quantizer: Quantizer

    @classmethod
    def from_description(
        cls, *, quantizer: Mapping, latent_channels: int, example_channels: int, encoder: Mapping | None = None,
        decoder: Mapping | None = None, dtype: str | None = None, axis_name: AxisName = None,
    ) -> "VQVAE":
        """The model of plain values; `encoder` and `decoder` are arguments of `Encoder` and `Decoder`."""
        return cls(
            encoder=make_network(Encoder, {"latent_channels": latent_channels}, encoder, dtype),
            decoder=make_network(Decoder, {"image_channels": example_channels}, decoder, dtype),
            quantizer=make_quantizer("quantizer", quantizer, axis_name),
        )

    @property
    def num_codes(self) -> int:
        """Codes per index."""
        return self.quantizer.num_codes

    @property
    def num_tokens(self) -> int:
        return self.quantizer.num_codes

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables; raises ValueError unless the decoder gives back the shape of the images."""
        encoder_key, decoder_key, quantizer_key = jax.random.split(key, 3)
        z_e, encoder = self.encoder.init_with_output(encoder_key, jnp.zeros((1, *example_shape)))
        x_r, decoder = self.decoder.init_with_output(decoder_key, jnp.zeros(z_e.shape))
        check_reconstruction(x_r.shape[1:], example_shape)
        quantizer_params, state = self.quantizer.init(quantizer_key, z_e.shape[-1])
        params = {"encoder": encoder["params"], "decoder": decoder["params"], "quantizer": quantizer_params}
        return Variables(params, state)

    def encode(self, variables: Variables, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        """z_e of images in [-1, 1]."""
        check_floating("x", x)
        return self.encoder.apply({"params": variables.params["encoder"]}, x).astype(jnp.float32)

    def quantize(
        self, variables: Variables, z_e: Float[Array, "B h w D"], *, train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[QuantizeOutput, PyTree]:
        """(output, state), see `jaxgen.quantize.Quantizer`."""
        return apply_quantizer(self.quantizer, _of_quantizer(variables), z_e, train=train, key=key)

    def decode(self, variables: Variables, z_q: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        """x_r of quantized latents."""
        check_floating("z_q", z_q)
        return self.decoder.apply({"params": variables.params["decoder"]}, z_q).astype(jnp.float32)

    def forward(
        self, variables: Variables, x: Float[Array, "B H W C"], *, train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B H W C"], QuantizeOutput, PyTree]:
        """(x_r, output of the quantizer, state)."""
        output, state = self.quantize(variables, self.encode(variables, x), train=train, key=key)
        return self.decode(variables, output.quantized), output, state

    def to_latents(
        self, variables: Variables, x: Float[Array, "B H W C"], *, key: PRNGKeyArray | None = None,
        sample_ids: Int[Array, "B"] | None = None,
    ) -> Float[Array, "B h w D"]:
        """The encoder's output, before it is quantized; nothing is drawn."""
        return self.encode(variables, x)

    def from_latents(self, variables: Variables, z: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        """Images of latents, which are quantized first."""
        check_floating("z", z)
        return self.decode(variables, self.quantize(variables, z)[0].quantized)

    def to_tokens(self, variables: Variables, x: Float[Array, "B H W C"]) -> Int[Array, "B h w ..."]:
        """Indices [B, h, w], or [B, h, w, depth] of residual and grouped quantizers."""
        return self.quantize(variables, self.encode(variables, x))[0].indices

    def from_tokens(self, variables: Variables, tokens: Int[Array, "B h w ..."]) -> Float[Array, "B H W C"]:
        """Images of indices."""
        return self.decode(variables, self.quantizer.lookup(_of_quantizer(variables), tokens))

    def token_shape(self, example_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(h, w) or (h, w, depth) of the indices of one image."""
        return shape_of(self, "to_tokens", example_shape)


def check_reconstruction(shape: tuple[int, ...], example_shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the decoder gives back the shape that the encoder took."""
    if tuple(shape) != tuple(example_shape):
        raise ValueError(
            f"example_shape {tuple(example_shape)} comes back from the decoder as {tuple(shape)}: use the same "
            "channels and a height and width that the encoder's total reduction, patch_size * 2^(levels - 1), divides"
        )


def shape_of(model: Any, method: str, example_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, without the batch, of what a method of a model makes of one example; nothing is computed."""

    def run(key):
        return getattr(model, method)(model.init(key, tuple(example_shape)), jnp.zeros((1, *example_shape)))

    return jax.eval_shape(run, jax.random.key(0)).shape[1:]


def _of_quantizer(variables: Variables) -> Variables:
    return Variables(variables.params["quantizer"], variables.state)
