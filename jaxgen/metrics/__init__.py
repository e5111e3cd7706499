"""Metrics: arrays in, numbers out.

Of pairs of images, one number each: `mse`, `psnr`, `ssim`, `ms_ssim`, `lpips`. Of codes: `usage`.

Of sets of features [N, D], which any network computed, on the host:

- Gaussians: `moments`, `merge` and `covariance` in one pass; `frechet_distance`, `frechet_to` for many sets against one
  reference, `frechet_distance_infinity` without the bias of N;
- kernels: `kernel_distance` (KID's estimator), `gaussian_mmd` (CMMD's);
- neighbours: `precision_recall_density_coverage`, `nearest_neighbours`, `authenticity`.

Of one set: `inception_score` of a classifier's logits, `pairwise_diversity`, `bits_per_dim`.
Of any of them: `bootstrap_interval`; of shares: `binomial_interval`.
Of two codecs, over their curves of rate and quality: `bd_rate`.

Rules for what is reported:

- FID, KID, IS and CMMD are names of one network each (Inception-v3 of 2015; CLIP ViT-L/14 at 336 pixels), with one way
  of resizing. A distance in other features is named after theirs, "FD-VGG16", never FID.
- Every value needs N, of both sets: most depend on it. It needs the split, the resizing and the seed, too.
- A value means little without its interval and its floor, the distance of training data from held-out data.
"""

from jaxgen.losses.perceptual import lpips
from jaxgen.metrics.bootstrap import binomial_interval, bootstrap_interval
from jaxgen.metrics.frechet import frechet_distance, frechet_distance_infinity, frechet_to
from jaxgen.metrics.image import ms_ssim, mse, psnr, ssim
from jaxgen.metrics.kernel import gaussian_mmd, kernel_distance
from jaxgen.metrics.manifold import (
    Authenticity,
    PrecisionRecallDensityCoverage,
    authenticity,
    nearest_neighbours,
    precision_recall_density_coverage,
)
from jaxgen.metrics.moments import Moments, covariance, merge, moments
from jaxgen.metrics.rate import bd_rate
from jaxgen.metrics.scores import bits_per_dim, inception_score, pairwise_diversity
from jaxgen.quantize import CodebookUsage, usage

__all__ = [
    "Authenticity", "CodebookUsage", "Moments", "PrecisionRecallDensityCoverage", "authenticity", "bd_rate",
    "binomial_interval", "bits_per_dim", "bootstrap_interval", "covariance", "frechet_distance",
    "frechet_distance_infinity", "frechet_to", "gaussian_mmd", "inception_score", "kernel_distance", "lpips", "merge",
    "moments", "ms_ssim", "mse", "nearest_neighbours", "pairwise_diversity", "precision_recall_density_coverage",
    "psnr", "ssim", "usage",
]
