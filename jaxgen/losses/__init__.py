"""Losses as plain functions on arrays; reconstruction losses return one number per example."""

from jaxgen.losses.diffusion import diffusion_loss
from jaxgen.losses.reconstruction import huber, l1, l2, logit_laplace, logit_laplace_mean
from jaxgen.losses.token_prior import masked_prior_loss
from jaxgen.losses.vqvae import vqvae_loss

__all__ = ["diffusion_loss", "huber", "l1", "l2", "logit_laplace", "logit_laplace_mean", "masked_prior_loss",
           "vqvae_loss"]
