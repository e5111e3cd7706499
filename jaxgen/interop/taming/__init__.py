"""Autoencoders in the format of taming-transformers."""

from jaxgen.interop.taming.vqgan import LoadedVQGAN, load_taming_vqgan

__all__ = ["LoadedVQGAN", "load_taming_vqgan"]
