"""Whole-model training objectives, each one function of parameters and a batch.

    (params, state, batch, key, *, ...) -> (loss [], (metrics, state))

They take functions, not modules: any network serves.
"""

from jaxgen.objectives.classifier import classifier_loss
from jaxgen.objectives.conditions import Conditions
from jaxgen.objectives.diffusion import diffusion_loss, latent_diffusion_loss
from jaxgen.objectives.robust import robust_forward
from jaxgen.objectives.tokens import (
    autoregressive_prior_loss,
    coarse_to_fine_prior_loss,
    masked_prior_loss,
    maskgit_prior_loss,
)
from jaxgen.objectives.vqgan import vqgan_discriminator_loss, vqgan_generator_loss
from jaxgen.objectives.vqvae import vqvae_loss

__all__ = [
    "Conditions", "autoregressive_prior_loss", "classifier_loss", "coarse_to_fine_prior_loss",
    "diffusion_loss", "latent_diffusion_loss", "masked_prior_loss",
    "maskgit_prior_loss", "robust_forward", "vqgan_discriminator_loss", "vqgan_generator_loss", "vqvae_loss",
]
