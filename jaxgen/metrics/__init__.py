"""Metrics of pictures and of codes."""

from jaxgen.metrics.image import mse, psnr, ssim
from jaxgen.quantize import CodebookUsage, usage

__all__ = ["CodebookUsage", "mse", "psnr", "ssim", "usage"]
