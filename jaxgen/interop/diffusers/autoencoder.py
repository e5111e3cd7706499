"""Autoencoders in the format of diffusers: VQModel as a `VQVAE`, AutoencoderKL as a `KLAutoencoder`, both ways."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.core.types import Variables
from jaxgen.interop.diffusers.autoencoder_config import (
    KL,
    complete,
    decoder_arguments,
    encoder_arguments,
    saved_config,
    with_convolutions,
)
from jaxgen.interop.diffusers.autoencoder_names import diffusers_layout
from jaxgen.interop.diffusers.files import CONFIG, WEIGHTS, find, naming, read_config, read_weights
from jaxgen.interop.diffusers.unet_weights import plain_network
from jaxgen.interop.quantizer import published_vq
from jaxgen.interop.safetensors import write_safetensors
from jaxgen.interop.state_dict import to_params, to_tensors
from jaxgen.models.base import Tokenizer
from jaxgen.models.kl_autoencoder import KLAutoencoder
from jaxgen.models.vqvae import VQVAE
from jaxgen.nn.autoencoder import Decoder, Encoder

PyTree = Any


class LoadedAutoencoder(NamedTuple):
    """What `load_autoencoder` gives."""

    model: VQVAE | KLAutoencoder
    variables: Variables  # state {}
    config: dict[str, Any]  # the file's, completed with diffusers' defaults


def load_autoencoder(
    directory: str | Path, *, dtype: Any = None, beta: float = 0.25, legacy: bool = True, variant: str | None = None
) -> LoadedAutoencoder:
    """A VQModel or AutoencoderKL of diffusers.

        model, variables, config = load_autoencoder("stable-diffusion-v1-5")
        gaussian = model.encode(variables.params, x)
        x_r = model.decode(variables.params, model.mode(gaussian))

    An AutoencoderKL's `scaling_factor` and `shift_factor` become the model's `scale` and `shift`: its latents are
    scaled as a diffusion model takes them, which diffusers leaves to the pipeline. A VQModel's encoder gives latents
    unscaled, with its 1x1 convolution applied, as diffusers' does.

    Height and width of the images must be multiples of the total reduction, 2^(levels - 1); other sizes are rounded
    up where diffusers rounds down.

    Args:
        directory: with `config.json` and the weights, or a pipeline's, with `vae/` or `vqvae/`.
        dtype: of parameters and computation, for example bfloat16; None for float32, to which weights in half
            precision are widened. A codebook stays float32.
        beta: of a VQModel's loss, where it goes on training; its configuration does not tell.
        legacy: weigh the codebook's term by beta and not the commitment, see `published_vq`, as VQModel does.
        variant: of the weights' files, for example "fp16" for `diffusion_pytorch_model.fp16.safetensors`.

    Returns:
        `LoadedAutoencoder(model, variables, config)`; the parameters are on the default device.

    Raises:
        FileNotFoundError: a file is missing; says what was looked for, and how to convert pickled weights.
        ValueError: an entry of the configuration that cannot be honoured, or weights that do not fit it; names the
            entry, or the tensors and both shapes.
    """
    file = find(directory, CONFIG, "vae", "vqvae")
    types = computing_types(dtype)
    config = read_config(file)
    with naming(file):
        config = complete(config)
        encoder = Encoder(**encoder_arguments(config), **types)
        decoder = Decoder(**decoder_arguments(config), **types)
        if config["_class_name"] == KL:
            scale, shift = config["scaling_factor"], config["shift_factor"] or 0.0
            model = KLAutoencoder(encoder=encoder, decoder=decoder, scale=scale, shift=shift)
        else:
            quantizer = published_vq(config["num_vq_embeddings"], beta=beta, legacy=legacy)
            model = VQVAE(encoder=encoder, decoder=decoder, quantizer=quantizer)
        expected = expected_params(model, config["in_channels"])
    tensors, source = read_weights(file, variant)
    params = to_params(tensors, expected, source, diffusers_layout(len(encoder.multipliers)))
    return LoadedAutoencoder(model, Variables(params, {}), config)


def save_autoencoder(
    directory: str | Path, model: VQVAE | KLAutoencoder, variables: Variables, *, sample_size: int = 32
) -> None:
    """Writes an autoencoder so that `from_pretrained(directory)` of diffusers' class loads it.

    A `VQVAE` becomes a VQModel, whose codebook is what the quantizer looks up (moving averages and SimVQ's map
    applied); where it has no 1x1 convolutions next to the latents, VQModel's are written as identities. Its
    `scaling_factor` is 1. A `KLAutoencoder` becomes an AutoencoderKL with its `scale` and `shift`.

    Args:
        directory: made if it is not there; its `config.json` and weights are replaced.
        model: of `Encoder` and `Decoder` and, in a VQVAE, a quantizer with one codebook.
        variables: the model's, in any floating-point dtype.
        sample_size: height and width of the images, noted for diffusers' pipelines.

    Raises:
        ValueError: diffusers cannot express the model, or the parameters are not the model's; names the attribute
            or the parameters.
    """
    if not (hasattr(model, "encoder") and hasattr(model, "decoder")):
        raise ValueError("model must have an encoder and a decoder, as a VQVAE or a KLAutoencoder has, got "
                         f"{type(model).__name__}")
    params = variables.params
    if "conv_in" not in params.get("encoder", {}) or "decoder" not in params:
        raise ValueError(f"variables must be the autoencoder's; their params have {sorted(params)}")
    channels = params["encoder"]["conv_in"]["kernel"].shape[-2]
    config = saved_config(model, channels, sample_size)
    written = {name: params[name] for name in ("encoder", "decoder")}
    if isinstance(model, Tokenizer):
        written["quantizer"] = {"codebook": _codebook(model, variables)}
        model, written = with_convolutions(model, written)
    layout = diffusers_layout(len(model.encoder.multipliers))
    tensors = to_tensors(written, expected_params(model, channels), "variables.params", layout)
    directory = Path(directory)
    write_safetensors(directory / WEIGHTS, tensors, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def computing_types(dtype: Any) -> dict[str, Any]:
    """The networks' `dtype` and `param_dtype` from the argument `dtype` of the functions that load."""
    return {"dtype": None if dtype is None else jnp.dtype(dtype),
            "param_dtype": jnp.dtype(jnp.float32 if dtype is None else dtype)}


def expected_params(model: VQVAE | KLAutoencoder, channels: int) -> PyTree:
    """Shapes and dtypes of the parameters, for images of so many channels; no array is made."""
    encoder, decoder = plain_network(model.encoder), plain_network(model.decoder)
    if isinstance(model, Tokenizer):
        # The model's own quantizer may be anything; what is written and read is a codebook.
        plain = VQVAE(encoder=encoder, decoder=decoder, quantizer=published_vq(model.num_codes))
    else:
        plain = KLAutoencoder(encoder=encoder, decoder=decoder)
    return jax.tree.map(lambda shape: shape, _traced(plain, channels))  # a tree of the caller's own


@lru_cache(maxsize=16)
def _traced(model: VQVAE | KLAutoencoder, channels: int) -> PyTree:
    """Kept for as many models: tracing a large one takes seconds, each time that it is loaded or saved."""
    size = 2 ** (len(model.encoder.multipliers) - 1)
    return jax.eval_shape(lambda key: model.init(key, (size, size, channels)), jax.random.key(0)).params


def _codebook(model: VQVAE, variables: Variables) -> jax.Array:
    own = Variables(variables.params["quantizer"], variables.state)
    arrays = {**own.params, **own.state}
    # Several levels of codes have one codebook each, stacked; Gumbel's codes are chosen by a kernel.
    if "kernel" in arrays or jnp.ndim(arrays.get("codebook", 0)) != 2:
        raise ValueError(f"a VQVAE whose quantizer has {sorted(arrays)} cannot be saved for diffusers: VQModel has one "
                         "codebook and takes the nearest code, as vq and simvq do")
    return model.quantizer.lookup(own, jnp.arange(model.num_codes))
