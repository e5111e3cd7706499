"""Weights in and out: safetensors; networks and schedules in the formats of diffusers and taming; LPIPS; Inception.

    model, params, config = load_unet("ddpm-cifar10-32")                    # a directory with config.json and weights
    save_unet("for-diffusers", model, params, sample_size=32)               # diffusers.UNet2DModel.from_pretrained(...)
    denoiser, schedule, unet = load_denoiser("a-pipeline")                  # for jaxgen.diffusion.sample
    model, variables, config = load_autoencoder("a-pipeline")               # VQModel or AutoencoderKL
    model, variables, used = load_taming_vqgan("vqgan.safetensors")
    params = load_lpips(net="vgg")                                          # for jaxgen.losses.lpips
    params = load_inception()                                               # for jaxgen.evaluate.inception_features

Neither PyTorch nor diffusers is imported, nothing is downloaded, and nothing is unpickled except the arrays of one
published file of LPIPS, by an unpickler that knows nothing else.
"""

from jaxgen.core.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.interop.diffusers import (
    LoadedAutoencoder,
    LoadedDenoiser,
    LoadedSchedule,
    LoadedUNet,
    load_autoencoder,
    load_denoiser,
    load_schedule,
    load_unet,
    save_autoencoder,
    save_unet,
)
from jaxgen.interop.inception import inception_from_tensors, load_inception
from jaxgen.interop.lpips import load_lpips, lpips_from_tensors, save_lpips
from jaxgen.interop.quantizer import from_used, published_vq, to_used
from jaxgen.interop.safetensors import read_safetensors, write_safetensors
from jaxgen.interop.taming import LoadedVQGAN, load_taming_vqgan

__all__ = [
    "LoadedAutoencoder", "LoadedDenoiser", "LoadedSchedule", "LoadedUNet", "LoadedVQGAN", "from_used",
    "inception_from_tensors", "load_autoencoder", "load_denoiser", "load_inception", "load_lpips", "load_schedule",
    "load_taming_vqgan", "load_unet", "lpips_from_tensors", "published_vq", "read_safetensors", "save_autoencoder",
    "save_lpips", "save_unet", "to_used", "write_safetensors",
]
