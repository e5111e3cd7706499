"""U-Nets in the format of diffusers: published weights come in, ours go out, with equal outputs both ways.

A directory holds `config.json` and `diffusion_pytorch_model.safetensors` (or an index of several files); a pipeline's
has them in `unet/`, and `scheduler/scheduler_config.json` next to it. Images are [B, H, W, C] here, [B, C, H, W]
there. Nothing of PyTorch is needed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxgen import diffusion
from jaxgen.core.errors import unknown_name
from jaxgen.interop.diffusers.files import CONFIG, WEIGHTS, find, naming, read_config, read_weights
from jaxgen.interop.diffusers.schedule import load_schedule, network_steps, read_scheduler_config
from jaxgen.interop.diffusers.unet_config import complete, unet_arguments
from jaxgen.interop.diffusers.unet_export import unet_config
from jaxgen.interop.diffusers.unet_weights import LAYOUT, expected_params, inputs_of
from jaxgen.interop.safetensors import write_safetensors
from jaxgen.interop.state_dict import to_params, to_tensors
from jaxgen.nn.unet import UNet

PyTree = Any
CONDITIONS = ("classes", "context", "context_mask")


class LoadedUNet(NamedTuple):
    """What `load_unet` gives."""

    model: UNet
    params: PyTree
    config: dict[str, Any]  # the file's, completed with diffusers' defaults


class LoadedDenoiser(NamedTuple):
    """What `load_denoiser` gives."""

    denoiser: diffusion.Denoiser
    schedule: diffusion.Schedule
    unet: LoadedUNet


def load_unet(directory: str | Path, *, dtype: Any = None, variant: str | None = None) -> LoadedUNet:
    """A UNet2DModel or UNet2DConditionModel of diffusers.

        model, params, config = load_unet("ddpm-cifar10-32")
        prediction = model.apply({"params": params}, xt, time)

    A class table of K rows becomes `num_classes=K - 1`, whose last row is what `classes=None` takes. Where that row
    stands for a class too, as in a model that was never trained without one, always give classes.

    Args:
        directory: with `config.json` and the weights, or a pipeline's, with `unet/`.
        dtype: of parameters and computation, for example bfloat16; None for float32, to which weights in half
            precision are widened. Fourier frequencies stay float32. (`model.clone(dtype=...)` changes only the
            computation.)
        variant: of the weights' files, for example "fp16" for `diffusion_pytorch_model.fp16.safetensors`.

    Returns:
        `LoadedUNet(model, params, config)`; the parameters are on the default device.

    Raises:
        FileNotFoundError: a file is missing; says what was looked for, and how to convert pickled weights.
        ValueError: an entry of the configuration that `UNet` cannot honour, or weights that do not fit it; names
            the entry or the tensors.
    """
    file = find(directory, CONFIG, "unet")
    param_dtype = jnp.dtype(jnp.float32 if dtype is None else dtype)
    config = read_config(file)
    with naming(file):
        config = complete(config)
        arguments, inputs = unet_arguments(config)
        model = UNet(**arguments, dtype=None if dtype is None else param_dtype, param_dtype=param_dtype)
        expected = expected_params(model, inputs)
    tensors, source = read_weights(file, variant)
    return LoadedUNet(model, to_params(tensors, expected, source, LAYOUT), config)


def save_unet(directory: str | Path, model: UNet, params: PyTree, *, sample_size: Any = None) -> None:
    """Writes a U-Net so that `from_pretrained(directory)` of diffusers' class loads it.

    The class is UNet2DConditionModel if a level has cross-attention, else UNet2DModel. The table of a model with
    classes has num_classes + 1 rows; the last is "no class", which diffusers must be told as class `num_classes`.

    Args:
        directory: made if it is not there; its `config.json` and weights are replaced.
        model: with what diffusers has; not `patch_size`, `time_scale` and some combinations.
        params: the tree `variables["params"]`, in any floating-point dtype.
        sample_size: height and width of the images, which diffusers' pipelines need: a number, or a pair.

    Raises:
        ValueError: diffusers cannot express the model, or the parameters are not the model's; names the attribute
            or the parameters.
    """
    inputs = inputs_of(params, "params")
    config = unet_config(model, inputs, sample_size)
    tensors = to_tensors(params, expected_params(model, inputs), "params", LAYOUT)
    directory = Path(directory)
    write_safetensors(directory / WEIGHTS, tensors, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_denoiser(directory: str | Path, *, dtype: Any = None, variant: str | None = None) -> LoadedDenoiser:
    """A pipeline's U-Net and schedule as a denoiser for `jaxgen.diffusion.sample`.

        denoiser, schedule, unet = load_denoiser("stable-diffusion-v1-5")
        sigmas = spaced_sigmas(schedule, 20)
        x = sample(cfg(7.5, {"context": empty})(denoiser), dpmpp_2m(), sigmas, x, key, cond={"context": text})

    `cond` is a dict of the U-Net's keyword arguments "classes", "context" and "context_mask", or None. The denoiser
    is only the network: where a pipeline clips x0, use `jaxgen.diffusion.clip`; where it works on latents, so does
    the denoiser.

    Args:
        directory: of the pipeline; see `load_unet` and `load_schedule`.
        dtype, variant: see `load_unet`.

    Returns:
        `LoadedDenoiser(denoiser, schedule, unet)`.

    Raises:
        FileNotFoundError, ValueError: see `load_unet` and `load_schedule`; and for a network whose prediction does
            not have the channels of its input (variances as well, or a masked image's as further input).
    """
    config = read_scheduler_config(directory)
    schedule, kind = load_schedule(directory)
    unet = load_unet(directory, dtype=dtype, variant=variant)
    channels = unet.config["in_channels"], unet.config["out_channels"]
    if channels[0] != channels[1]:
        raise ValueError(
            f"a denoiser needs a U-Net that predicts the channels of its input, got in_channels={channels[0]} and "
            f"out_channels={channels[1]}: take load_unet and load_schedule, and join them as the pipeline does"
        )

    def apply(xt, time, cond):
        if cond is not None and not isinstance(cond, dict):
            raise ValueError(f"cond must be a dict of {', '.join(CONDITIONS)}, or None; got {type(cond).__name__}")
        for name in cond or ():
            if name not in CONDITIONS:
                raise unknown_name("entry of cond", name, CONDITIONS)
        return unet.model.apply({"params": unet.params}, xt, time, **(cond or {}))

    def flow_time(sigma):
        return network_steps(config) * schedule.network_time(schedule.time(sigma))

    time = flow_time if kind == "flow" else None
    return LoadedDenoiser(diffusion.precondition(apply, kind=kind, schedule=schedule, time=time), schedule, unet)
