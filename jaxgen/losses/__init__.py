"""Losses as plain functions on arrays, one number per example, and whole-model objectives made of them."""

from jaxgen.losses.adversarial import GanLoss, hinge, least_squares, non_saturating, vanilla, wasserstein
from jaxgen.losses.augment import diffaugment
from jaxgen.losses.balance import adaptive_weight, ramp
from jaxgen.losses.classifier import classifier_loss, cross_entropy
from jaxgen.losses.diffusion import diffusion_loss, latent_diffusion_loss
from jaxgen.losses.gaussian import Gaussian, gaussian_kl
from jaxgen.losses.penalties import LecamState, gradient_penalty, lazy, lecam, lecam_init, r1
from jaxgen.losses.perceptual import ConvParams, LpipsParams, feature_distance, lpips, lpips_features
from jaxgen.losses.reconstruction import huber, l1, l2, logit_laplace, logit_laplace_mean
from jaxgen.losses.token_prior import autoregressive_prior_loss, masked_prior_loss, maskgit_prior_loss
from jaxgen.losses.vqgan import vqgan_discriminator_loss, vqgan_generator_loss
from jaxgen.losses.vqvae import vqvae_loss

__all__ = [
    "ConvParams", "GanLoss", "Gaussian", "LecamState", "LpipsParams", "adaptive_weight", "autoregressive_prior_loss",
    "classifier_loss", "cross_entropy", "diffaugment", "diffusion_loss", "feature_distance", "gaussian_kl",
    "gradient_penalty", "hinge", "huber", "l1", "l2", "latent_diffusion_loss", "lazy", "least_squares", "lecam",
    "lecam_init", "logit_laplace", "logit_laplace_mean", "lpips", "lpips_features", "masked_prior_loss",
    "maskgit_prior_loss", "non_saturating", "r1", "ramp", "vanilla", "vqgan_discriminator_loss", "vqgan_generator_loss",
    "vqvae_loss", "wasserstein",
]
