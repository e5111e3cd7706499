"""Losses as plain functions on arrays, one number per example."""

from jaxgen.losses._cross_entropy import cross_entropy
from jaxgen.losses.adversarial import (
    GAN_LOSSES,
    GanLoss,
    hinge,
    least_squares,
    non_saturating,
    vanilla,
    vqgan_vanilla,
    wasserstein,
)
from jaxgen.losses.attack import pgd
from jaxgen.losses.augment import POLICIES, diffaugment
from jaxgen.losses.balance import adaptive_weight, ramp
from jaxgen.losses.gaussian import Gaussian, gaussian_kl
from jaxgen.losses.penalties import LecamState, gradient_penalty, lazy, lecam, lecam_init, r1
from jaxgen.losses.perceptual import ConvParams, LpipsParams, feature_distance, lpips, lpips_features
from jaxgen.losses.reconstruction import RECONSTRUCTIONS, huber, l1, l2, logit_laplace, logit_laplace_mean

__all__ = [
    "GAN_LOSSES", "POLICIES", "RECONSTRUCTIONS", "ConvParams", "GanLoss", "Gaussian", "LecamState", "LpipsParams",
    "adaptive_weight", "cross_entropy", "diffaugment", "feature_distance", "gaussian_kl", "gradient_penalty", "hinge",
    "huber", "l1", "l2", "lazy", "least_squares", "lecam", "lecam_init", "logit_laplace", "logit_laplace_mean", "lpips",
    "lpips_features", "non_saturating", "pgd", "r1", "ramp", "vanilla", "vqgan_vanilla", "wasserstein",
]
