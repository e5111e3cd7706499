"""Networks and schedules in the format of diffusers."""

from jaxgen.interop.diffusers.autoencoder import LoadedAutoencoder, load_autoencoder, save_autoencoder
from jaxgen.interop.diffusers.schedule import LoadedSchedule, load_schedule
from jaxgen.interop.diffusers.unet import LoadedDenoiser, LoadedUNet, load_denoiser, load_unet, save_unet

__all__ = [
    "LoadedAutoencoder", "LoadedDenoiser", "LoadedSchedule", "LoadedUNet", "load_autoencoder", "load_denoiser",
    "load_schedule", "load_unet", "save_autoencoder", "save_unet",
]
