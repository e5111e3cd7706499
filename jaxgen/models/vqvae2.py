"""VQ-VAE-2: two levels of codes.

    h       = bottom_encoder(x)                         local features
    top     = quantize_top(top_encoder(h))              global codes at half the resolution
    bottom  = quantize_bottom(merge([h, top_decoder(top)]))
    x_r     = decoder([bottom, upsample(top)])

Reference: Razavi, van den Oord & Vinyals, "Generating Diverse High-Fidelity Images with VQ-VAE-2", 2019,
arXiv:1906.00446.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_floating
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.models.description import make_network, to_dtype
from jaxgen.models.parts import make_quantizer
from jaxgen.models.vqvae import check_reconstruction
from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.nn.blocks import Upsample
from jaxgen.nn.conv_layer import Conv
from jaxgen.quantize import QuantizeOutput, Quantizer, apply_quantizer

LEVELS = ("top", "bottom")


@dataclass(frozen=True, kw_only=True)
class VQVAE2:
    """A two-level VQ-VAE; every value per level is a dict with the keys "top" and "bottom".

    The methods raise ValueError for images that are bytes and for latents that are whole numbers.

    Attributes:
        bottom_encoder: [B, H, W, C] -> [B, h, w, features].
        top_encoder: [B, h, w, features] -> [B, h / 2, w / 2, latent_channels].
        top_decoder: [B, h / 2, w / 2, latent_channels] -> [B, h, w, features].
        decoder: [B, h, w, 2 * latent_channels] -> [B, H, W, C].
        top_quantizer: quantizer of the coarse latents.
        bottom_quantizer: quantizer of the fine latents.
        latent_channels: dimension of both levels' vectors.
        dtype: computing dtype of the layers that join the levels; None for the parameters'.
    """

    bottom_encoder: nn.Module
    top_encoder: nn.Module
    top_decoder: nn.Module
    decoder: nn.Module
    top_quantizer: Quantizer
    bottom_quantizer: Quantizer
    latent_channels: int = 64
    dtype: Any = None

    def __post_init__(self):
        object.__setattr__(self, "latent_channels", check_count("latent_channels", self.latent_channels))

    @classmethod
    def from_description(
        cls, *, top_quantizer: Mapping, bottom_quantizer: Mapping, latent_channels: int, example_channels: int,
        bottom_encoder: Mapping, top_encoder: Mapping, top_decoder: Mapping, decoder: Mapping,
        dtype: str | None = None, axis_name: AxisName = None,
    ) -> "VQVAE2":
        """The model of plain values."""
        features = bottom_encoder.get("latent_channels", latent_channels)
        return cls(
            bottom_encoder=make_network(Encoder, {"latent_channels": features}, bottom_encoder, dtype),
            top_encoder=make_network(Encoder, {"latent_channels": latent_channels}, top_encoder, dtype),
            top_decoder=make_network(Decoder, {"image_channels": features}, top_decoder, dtype),
            decoder=make_network(Decoder, {"image_channels": example_channels}, decoder, dtype),
            top_quantizer=make_quantizer("top_quantizer", top_quantizer, axis_name),
            bottom_quantizer=make_quantizer("bottom_quantizer", bottom_quantizer, axis_name),
            latent_channels=latent_channels, dtype=to_dtype("dtype", dtype),
        )

    @property
    def num_codes(self) -> dict[str, int]:
        """Codes per index, of each level."""
        return {level: self._quantizer(level).num_codes for level in LEVELS}

    def init(self, key: PRNGKeyArray, example_shape: tuple[int, ...]) -> Variables:
        """Fresh variables; raises ValueError where the networks' shapes do not fit each other."""
        modules = self._modules()
        keys = iter(jax.random.split(key, len(modules) + len(LEVELS)))
        params = {}

        def init_module(name, x):
            y, variables = modules[name].init_with_output(next(keys), x)
            params[name] = variables["params"]
            return jnp.zeros(y.shape)

        features = init_module("bottom_encoder", jnp.zeros((1, *example_shape)))
        top = init_module("top_encoder", features)
        if top.shape[-1] != self.latent_channels:
            raise ValueError(f"latent_channels={self.latent_channels}, but top_encoder returns {top.shape[-1]} "
                             "channels; make them equal")
        context = init_module("top_decoder", top)
        bottom = init_module("merge", jnp.concatenate([features, context], axis=-1))
        x_r = init_module("decoder", jnp.concatenate([bottom, init_module("upsample", top)], axis=-1))
        check_reconstruction(x_r.shape[1:], example_shape)
        variables = {level: self._quantizer(level).init(next(keys), self.latent_channels) for level in LEVELS}
        params["quantizer"] = {level: variables[level].params for level in LEVELS}
        return Variables(params, {level: variables[level].state for level in LEVELS})

    def decode(self, variables: Variables, z_q: Mapping[str, Float[Array, "B ..."]]) -> Float[Array, "B H W C"]:
        """x_r of the quantized latents of both levels."""
        for level in LEVELS:
            check_floating(f"z_q[{level!r}]", z_q[level])
        top = self._run(variables, "upsample", z_q["top"])
        return self._run(variables, "decoder", jnp.concatenate([z_q["bottom"], top], axis=-1))

    def quantize(
        self, variables: Variables, x: Float[Array, "B H W C"], *, train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[dict[str, QuantizeOutput], dict[str, PyTree]]:
        """(outputs of both quantizers, their states) of images."""
        check_floating("x", x)
        top_key, bottom_key = (None, None) if key is None else jax.random.split(key)
        features = self._run(variables, "bottom_encoder", x)
        top, top_state = self._apply(variables, "top", self._run(variables, "top_encoder", features), train, top_key)
        context = self._run(variables, "top_decoder", top.quantized)
        z_e = self._run(variables, "merge", jnp.concatenate([features, context], axis=-1))
        bottom, bottom_state = self._apply(variables, "bottom", z_e, train, bottom_key)
        return {"top": top, "bottom": bottom}, {"top": top_state, "bottom": bottom_state}

    def forward(
        self, variables: Variables, x: Float[Array, "B H W C"], *, train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B H W C"], dict[str, QuantizeOutput], dict[str, PyTree]]:
        """(x_r, outputs of both quantizers, their states)."""
        outputs, state = self.quantize(variables, x, train=train, key=key)
        return self.decode(variables, {level: outputs[level].quantized for level in LEVELS}), outputs, state

    def to_indices(self, variables: Variables, x: Float[Array, "B H W C"]) -> dict[str, Int[Array, "B ..."]]:
        """Index maps of both levels."""
        outputs, _ = self.quantize(variables, x)
        return {level: outputs[level].indices for level in LEVELS}

    def from_indices(self, variables: Variables, indices: Mapping[str, Int[Array, "B ..."]]
                     ) -> Float[Array, "B H W C"]:
        """Images of index maps of both levels."""
        return self.decode(variables, {
            level: self._quantizer(level).lookup(self._of_quantizer(variables, level), indices[level])
            for level in LEVELS
        })

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "bottom_encoder": self.bottom_encoder, "top_encoder": self.top_encoder, "top_decoder": self.top_decoder,
            "decoder": self.decoder, "merge": Conv(self.latent_channels, (1, 1), dtype=self.dtype),
            "upsample": Upsample(self.latent_channels, dtype=self.dtype),
        }

    def _run(self, variables: Variables, name: str, x: Array) -> Array:
        return self._modules()[name].apply({"params": variables.params[name]}, x).astype(jnp.float32)

    def _quantizer(self, level: str) -> Quantizer:
        return {"top": self.top_quantizer, "bottom": self.bottom_quantizer}[level]

    def _of_quantizer(self, variables: Variables, level: str) -> Variables:
        return Variables(variables.params["quantizer"][level], variables.state[level])

    def _apply(self, variables, level, z_e, train, key):
        own = self._of_quantizer(variables, level)
        return apply_quantizer(self._quantizer(level), own, z_e, train=train, key=key)
