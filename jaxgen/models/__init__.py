"""Linen networks with explicit keyword arguments, and models as tuples of pure functions over their parameters."""

from jaxgen.models.autoencoder import Decoder, Encoder
from jaxgen.models.build import build, build_quantizer
from jaxgen.models.conv import Conv, conv
from jaxgen.models.vqvae import VQVAE, vqvae
from jaxgen.models.vqvae2 import VQVAE2, vqvae2

__all__ = ["VQVAE", "VQVAE2", "Conv", "Decoder", "Encoder", "build", "build_quantizer", "conv", "vqvae", "vqvae2"]
