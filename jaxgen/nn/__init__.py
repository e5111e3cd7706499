"""Linen networks with explicit keyword arguments; each holds parameters and calls the plain functions below it."""

from jaxgen.core.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.nn.autoencoder import Decoder, Encoder
from jaxgen.nn.classifier import ConvClassifier
from jaxgen.nn.conv_layer import Conv
from jaxgen.nn.discriminator import PatchDiscriminator, StyleDiscriminator
from jaxgen.nn.dit import DiT
from jaxgen.nn.inception import InceptionFeatures, InceptionV3
from jaxgen.nn.text import TextEncoder, encode_text
from jaxgen.nn.transformer import Transformer
from jaxgen.nn.unet import UNet

__all__ = [
    "Conv", "ConvClassifier", "Decoder", "DiT", "Encoder", "InceptionFeatures", "InceptionV3", "PatchDiscriminator",
    "StyleDiscriminator", "TextEncoder", "Transformer", "UNet", "encode_text",
]
