"""The families: frozen dataclasses whose methods are pure functions of explicit variables.

`jaxgen.models.base` says what a model can do, `build` makes one of plain values.
"""

from jaxgen.core.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.models.base import (
    Autoencoder,
    Classifying,
    Denoising,
    Generator,
    MaskedTokens,
    Model,
    NextTokens,
    Reconstructing,
    SecondStage,
    TokenGenerating,
    Tokenizer,
)
from jaxgen.models.build import build, build_discriminator
from jaxgen.models.bytes import ByteTokenizer
from jaxgen.models.classifier import Classifier
from jaxgen.models.conditions import Classes, Condition, Text, Unconditional, describe_conditions
from jaxgen.models.diffusion import DiffusionModel
from jaxgen.models.kl_autoencoder import GaussianOutput, KLAutoencoder
from jaxgen.models.latent_diffusion import LatentDiffusion, latent_shape, measure_std
from jaxgen.models.parts import build_quantizer, build_schedule
from jaxgen.models.token_prior import AutoregressiveModel, MaskedModel, TokenPrior
from jaxgen.models.vqvae import VQVAE
from jaxgen.models.vqvae2 import VQVAE2

__all__ = [
    "VQVAE", "VQVAE2", "Autoencoder", "AutoregressiveModel", "ByteTokenizer", "Classes", "Classifier", "Classifying",
    "Condition", "Denoising", "DiffusionModel", "GaussianOutput", "Generator", "KLAutoencoder", "LatentDiffusion",
    "MaskedModel", "MaskedTokens", "Model", "NextTokens", "Reconstructing", "SecondStage", "Text", "TokenGenerating",
    "TokenPrior", "Tokenizer", "Unconditional", "build", "build_discriminator", "build_quantizer", "build_schedule",
    "describe_conditions", "latent_shape", "measure_std",
]
