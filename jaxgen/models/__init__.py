"""Linen networks with explicit keyword arguments, and models as tuples of pure functions over their parameters."""

from jaxgen.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.conv import conv
from jaxgen.models.autoencoder import Decoder, Encoder
from jaxgen.models.build import build, build_discriminator, build_quantizer
from jaxgen.models.classifier import Classifier, ConvClassifier, classifier
from jaxgen.models.conv_layer import Conv
from jaxgen.models.diffusion import DiffusionModel, diffusion_model
from jaxgen.models.discriminator import PatchDiscriminator, StyleDiscriminator
from jaxgen.models.dit import DiT
from jaxgen.models.kl_autoencoder import KLAutoencoder, kl_autoencoder
from jaxgen.models.latent_diffusion import LatentDiffusion, latent_diffusion
from jaxgen.models.text import TextEncoder, encode_text
from jaxgen.models.token_prior import TokenPrior, token_prior
from jaxgen.models.transformer import Transformer
from jaxgen.models.unet import UNet
from jaxgen.models.vqvae import VQVAE, vqvae
from jaxgen.models.vqvae2 import VQVAE2, vqvae2

__all__ = [
    "VQVAE", "VQVAE2", "Classifier", "Conv", "ConvClassifier", "Decoder", "DiT", "DiffusionModel", "Encoder",
    "KLAutoencoder", "LatentDiffusion", "PatchDiscriminator", "StyleDiscriminator", "TextEncoder", "TokenPrior",
    "Transformer", "UNet", "build", "build_discriminator", "build_quantizer", "classifier", "conv", "diffusion_model",
    "encode_text", "kl_autoencoder", "latent_diffusion", "token_prior", "vqvae", "vqvae2",
]
