"""Models from plain values: what a run's config.json holds, turned back into pure functions.

Names are looked up in the fixed tables below and nowhere else, so a configuration from outside can run no code.
"""

import inspect
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxgen import diffusion, quantize
from jaxgen.core.checks import check_count, check_counts
from jaxgen.core.errors import unknown_name
from jaxgen.models.classifier import Classifier, classifier
from jaxgen.models.description import check_description
from jaxgen.models.diffusion import DiffusionModel, diffusion_model
from jaxgen.models.kl_autoencoder import KLAutoencoder, kl_autoencoder
from jaxgen.models.latent_diffusion import LatentDiffusion, latent_diffusion
from jaxgen.models.token_prior import TokenPrior, token_prior
from jaxgen.models.vqvae import VQVAE, vqvae
from jaxgen.models.vqvae2 import VQVAE2, vqvae2
from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.nn.classifier import ConvClassifier
from jaxgen.nn.discriminator import PatchDiscriminator, StyleDiscriminator
from jaxgen.nn.dit import DiT
from jaxgen.nn.text import TextEncoder
from jaxgen.nn.transformer import Transformer
from jaxgen.nn.unet import UNet
from jaxgen.quantize import Quantizer

QUANTIZERS = {
    "vq": quantize.vq, "fsq": quantize.fsq, "lfq": quantize.lfq, "gumbel": quantize.gumbel, "simvq": quantize.simvq,
    "residual": quantize.residual, "grouped": quantize.grouped, "projected": quantize.projected,
}

NETWORKS = {"unet": UNet, "dit": DiT}
DISCRIMINATORS = {"patch": PatchDiscriminator, "style": StyleDiscriminator}
SCHEDULES = {
    "linear": diffusion.linear, "scaled_linear": diffusion.scaled_linear, "cosine": diffusion.cosine,
    "sigmoid": diffusion.sigmoid, "trigonometric": diffusion.trigonometric, "flow": diffusion.flow,
}


def build_quantizer(name: str, *, axis_name: str | None = None, **kwargs: Any) -> Quantizer:
    """A quantizer by name; combinators take another one's description under "quantizer".

    Args:
        name: a key of `QUANTIZERS`.
        axis_name: mapped axis of devices, handed to those that reduce over the batch.
        **kwargs: the function's own keyword arguments, for example `num_codes=512`.

    Returns:
        A `Quantizer`.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    if name not in QUANTIZERS:
        raise unknown_name("quantizer", name, QUANTIZERS)
    function = QUANTIZERS[name]
    if "quantizer" in kwargs:
        kwargs["quantizer"] = _build_part("quantizer", kwargs["quantizer"], axis_name)
    if axis_name is not None and "axis_name" in inspect.signature(function).parameters:
        kwargs["axis_name"] = axis_name
    return _call(f"quantizer {name!r}", function, kwargs)


Model = VQVAE | VQVAE2 | KLAutoencoder | DiffusionModel | LatentDiffusion | TokenPrior | Classifier


def build_discriminator(
    name: str, *, dtype: str | None = None, axis_name: str | None = None, **kwargs: Any
) -> nn.Module:
    """A discriminator by name, for example `build_discriminator("patch", layers=2)`.

    Args:
        name: a key of `DISCRIMINATORS`: "patch" gives logits [B, h, w, 1], "style" [B].
        dtype: computing dtype, for example "bfloat16"; None computes in the parameters'.
        axis_name: mapped axis of devices, for what reduces over the batch.
        **kwargs: the network's own keyword arguments.

    Returns:
        A Linen module; its variables are {"params": ...} alone.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    if name not in DISCRIMINATORS:
        raise unknown_name("discriminator", name, DISCRIMINATORS)
    return _network(DISCRIMINATORS[name], {"axis_name": axis_name}, kwargs, dtype)


def build(name: str, *, axis_name: str | None = None, **kwargs: Any) -> Model:
    """A model by name from plain values.

    Args:
        name: a key of `MODELS`.
        axis_name: mapped axis of devices, for quantizers that reduce over the batch.
        **kwargs: that model's own description; see the functions behind `MODELS`.

    Returns:
        A tuple of pure functions.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return _call(f"model {name!r}", MODELS[name], {**kwargs, "axis_name": axis_name})


def _call(what: str, function: Callable, kwargs: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters
    for argument in kwargs:
        if argument not in parameters:
            raise unknown_name(f"argument of {what}", argument, parameters)
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in kwargs]
    if missing:
        raise ValueError(f"{what} needs {', '.join(map(repr, missing))}, got only {sorted(kwargs)}")
    return function(**{name: tuple(v) if isinstance(v, list) else v for name, v in kwargs.items()})


def _network(module: Callable, defaults: Mapping[str, Any], own: Mapping[str, Any] | None, dtype: str | None):
    if own is not None and not isinstance(own, Mapping):
        raise ValueError(f"arguments of {module.__name__} must be a mapping {{name: value}}, got {own!r}")
    kwargs = {"dtype": dtype, **defaults, **(own or {})}
    types = {name: _dtype(name, kwargs[name]) for name in ("dtype", "param_dtype") if kwargs.get(name) is not None}
    return _call(module.__name__, module, {**kwargs, **types})


def _dtype(argument: str, value: Any):
    try:
        return jnp.dtype(value)
    except TypeError as error:
        raise ValueError(f"{argument} must name a type such as 'bfloat16', got {value!r}") from error


def _build_part(argument: str, description: Any, axis_name: str | None) -> Quantizer:
    return build_quantizer(axis_name=axis_name, **check_description(argument, description))


def _build_vqvae(
    *, quantizer: Mapping, latent_channels: int, image_channels: int, encoder: Mapping | None = None,
    decoder: Mapping | None = None, dtype: str | None = None, axis_name: str | None = None,
) -> VQVAE:
    return vqvae(
        _network(Encoder, {"latent_channels": latent_channels}, encoder, dtype),
        _network(Decoder, {"image_channels": image_channels}, decoder, dtype),
        _build_part("quantizer", quantizer, axis_name),
    )


def _build_kl_autoencoder(
    *, latent_channels: int, image_channels: int, encoder: Mapping | None = None, decoder: Mapping | None = None,
    scale: float = 1.0, shift: float = 0.0, dtype: str | None = None, axis_name: str | None = None,
) -> KLAutoencoder:
    latent_channels = check_count("latent_channels", latent_channels)
    return kl_autoencoder(
        _network(Encoder, {"latent_channels": 2 * latent_channels}, encoder, dtype),
        _network(Decoder, {"image_channels": image_channels}, decoder, dtype),
        scale=scale, shift=shift,
    )


def _build_vqvae2(
    *, top_quantizer: Mapping, bottom_quantizer: Mapping, latent_channels: int, image_channels: int,
    bottom_encoder: Mapping, top_encoder: Mapping, top_decoder: Mapping, decoder: Mapping,
    dtype: str | None = None, axis_name: str | None = None,
) -> VQVAE2:
    features = bottom_encoder.get("latent_channels", latent_channels)
    return vqvae2(
        _network(Encoder, {"latent_channels": features}, bottom_encoder, dtype),
        _network(Encoder, {"latent_channels": latent_channels}, top_encoder, dtype),
        _network(Decoder, {"image_channels": features}, top_decoder, dtype),
        _network(Decoder, {"image_channels": image_channels}, decoder, dtype),
        _build_part("top_quantizer", top_quantizer, axis_name),
        _build_part("bottom_quantizer", bottom_quantizer, axis_name),
        latent_channels=latent_channels,
        dtype=None if dtype is None else _dtype("dtype", dtype),
    )


def build_schedule(name: str, *, zero_terminal_snr: bool = False, **kwargs: Any) -> diffusion.Schedule:
    """A noise schedule by name, for example `build_schedule("linear", steps=1000)`.

    Args:
        name: a key of `SCHEDULES`.
        zero_terminal_snr: rescale a discrete schedule so that no signal is left at its end.
        **kwargs: the function's own keyword arguments.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    schedule = _call(f"schedule {name!r}", SCHEDULES[name], kwargs)
    return diffusion.rescale_zero_terminal_snr(schedule) if zero_terminal_snr else schedule


def _schedule(description: Mapping | None) -> diffusion.Schedule | None:
    return build_schedule(**check_description("schedule", description)) if description else None


def _build_diffusion(
    *, network: Mapping, image_channels: int, kind: str = "edm", schedule: Mapping | None = None,
    sigma_data: float = 0.5, num_classes: int = 0, text: Mapping | None = None, dtype: str | None = None,
    axis_name: str | None = None,
) -> DiffusionModel:
    own = check_description("network", network)
    name = own.pop("name")
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return diffusion_model(
        _network(NETWORKS[name], {"out_channels": image_channels, "num_classes": num_classes}, own, dtype),
        kind=kind, schedule=_schedule(schedule), sigma_data=sigma_data,
        num_classes=num_classes, **_text(text, dtype),
    )


def _text(text: Mapping | None, dtype: str | None) -> dict[str, Any]:
    """The text's encoder and length as a model takes them; empty without text."""
    if not text:
        return {}
    if not isinstance(text, Mapping):
        raise ValueError(f"text must be a mapping {{'length': ..., arguments of TextEncoder}}, got {text!r}")
    own = dict(text)
    length = check_count("length of text, the bytes that are read,", own.pop("length", None))
    return {"text_encoder": _network(TextEncoder, {}, own, dtype), "text_length": length}


def _build_latent_diffusion(
    *, network: Mapping, autoencoder: Mapping, shape: tuple[int, int, int], kind: str = "edm",
    schedule: Mapping | None = None, sigma_data: float = 1.0, num_classes: int = 0, text: Mapping | None = None,
    dtype: str | None = None, axis_name: str | None = None,
) -> LatentDiffusion:
    autoencoder, shape = check_description("autoencoder", autoencoder), check_counts("shape", shape, length=3)
    if autoencoder["name"] not in ("vqvae", "kl_autoencoder"):
        raise ValueError("latent diffusion needs an autoencoder of the kind 'vqvae' or 'kl_autoencoder', got "
                         f"{autoencoder['name']!r}")
    model = _build_diffusion(network=network, image_channels=shape[-1], kind=kind, schedule=schedule,
                             sigma_data=sigma_data, num_classes=num_classes, text=text, dtype=dtype)
    return latent_diffusion(model, build(**autoencoder), shape=shape)


def _build_token_prior(
    *, network: Mapping, tokenizer: Mapping, shape: tuple[int, ...], kind: str = "masked", num_classes: int = 0,
    text: Mapping | None = None, dtype: str | None = None, axis_name: str | None = None,
) -> TokenPrior:
    description, shape = check_description("tokenizer", tokenizer), check_counts("shape", shape)
    if description["name"] != "vqvae":
        raise ValueError(f"a token prior needs a tokenizer of the kind 'vqvae', got {description['name']!r}")
    if len(shape) not in (2, 3):
        raise ValueError(f"a token prior takes index maps [h, w] or [h, w, levels], got {tuple(shape)}: a residual or "
                         "grouped quantizer of another one of these has no prior")
    tokenizer, levels = build(**description), prod(shape[2:])
    codes, described = tokenizer.num_codes, _text(text, dtype)
    sizes = {"num_outputs": codes, "num_classes": num_classes, "context": bool(described)}
    if kind == "autoregressive":
        sizes |= {"num_tokens": levels * codes, "max_length": prod(shape), "grid_width": shape[1] * levels,
                  "causal": True}
    else:
        sizes |= {"num_tokens": codes + 1, "max_length": shape[0] * shape[1], "grid_width": shape[1],
                  "levels": levels}
    network = _network(Transformer, sizes, network, dtype)
    return token_prior(network, tokenizer, shape=shape[:2], levels=levels, kind=kind, **described)


def _build_classifier(
    *, num_classes: int, channels: tuple[int, ...] = (32, 64, 128), convs: int = 1, dtype: str | None = None,
    axis_name: str | None = None,
) -> Classifier:
    own = {"num_classes": num_classes, "channels": channels, "convs": convs}
    return classifier(_network(ConvClassifier, {}, own, dtype))


MODELS = {"vqvae": _build_vqvae, "vqvae2": _build_vqvae2, "kl_autoencoder": _build_kl_autoencoder,
          "diffusion": _build_diffusion, "latent_diffusion": _build_latent_diffusion,
          "token_prior": _build_token_prior, "classifier": _build_classifier}
