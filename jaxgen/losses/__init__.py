"""Losses as plain functions on arrays; reconstruction losses return one number per example."""

from jaxgen.losses.reconstruction import huber, l1, l2, logit_laplace, logit_laplace_mean
from jaxgen.losses.vqvae import vqvae_loss

__all__ = ["huber", "l1", "l2", "logit_laplace", "logit_laplace_mean", "vqvae_loss"]
