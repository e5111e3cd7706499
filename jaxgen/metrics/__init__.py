"""Metrics of images and of codes."""

from jaxgen.losses.perceptual import lpips
from jaxgen.metrics.image import mse, psnr, ssim
from jaxgen.quantize import CodebookUsage, usage

__all__ = ["CodebookUsage", "lpips", "mse", "psnr", "ssim", "usage"]
