"""Linen networks with explicit keyword arguments, and models as tuples of pure functions over their parameters."""

from jaxgen.core.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.models.build import build, build_discriminator, build_quantizer
from jaxgen.models.classifier import Classifier, classifier
from jaxgen.models.diffusion import DiffusionModel, diffusion_model
from jaxgen.models.kl_autoencoder import KLAutoencoder, kl_autoencoder
from jaxgen.models.latent_diffusion import LatentDiffusion, latent_diffusion
from jaxgen.models.token_prior import TokenPrior, token_prior
from jaxgen.models.vqvae import VQVAE, vqvae
from jaxgen.models.vqvae2 import VQVAE2, vqvae2

__all__ = [
    "VQVAE", "VQVAE2", "Classifier", "DiffusionModel", "KLAutoencoder", "LatentDiffusion", "TokenPrior",
    "build", "build_discriminator", "build_quantizer", "classifier", "diffusion_model",
    "kl_autoencoder", "latent_diffusion", "token_prior", "vqvae", "vqvae2",
]
