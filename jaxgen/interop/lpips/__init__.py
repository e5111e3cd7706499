"""The weights of LPIPS."""

from jaxgen.interop.lpips.weights import load_lpips, lpips_from_tensors, save_lpips

__all__ = ["load_lpips", "lpips_from_tensors", "save_lpips"]
