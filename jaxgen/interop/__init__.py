"""Weights in and out: safetensors files, and U-Nets and schedules in the format of diffusers.

    model, params, config = load_unet("ddpm-cifar10-32")                    # a directory with config.json and weights
    save_unet("for-diffusers", model, params, sample_size=32)               # diffusers.UNet2DModel.from_pretrained(...)
    denoiser, schedule, unet = load_denoiser("a-pipeline")                  # for jaxgen.diffusion.sample

Neither PyTorch nor diffusers is imported, and nothing is unpickled.
"""

from jaxgen.interop.diffusers import LoadedDenoiser, LoadedUNet, load_denoiser, load_unet, save_unet
from jaxgen.interop.diffusers_schedule import LoadedSchedule, load_schedule
from jaxgen.interop.safetensors import read_safetensors, write_safetensors

__all__ = [
    "LoadedDenoiser",
    "LoadedSchedule",
    "LoadedUNet",
    "load_denoiser",
    "load_schedule",
    "load_unet",
    "read_safetensors",
    "save_unet",
    "write_safetensors",
]
