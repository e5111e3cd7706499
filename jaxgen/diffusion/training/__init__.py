"""What training draws and weights, and the denoising loss."""

from jaxgen.diffusion.training.draws import (
    TIMES,
    draw_noise_levels,
    log_normal_sigmas,
    logit_normal_times,
    stratified_times,
    uniform_steps,
    uniform_times,
)
from jaxgen.diffusion.training.loss import denoising_loss
from jaxgen.diffusion.training.weighting import (
    WEIGHTINGS,
    Weighting,
    edm_weighting,
    make_weighting,
    min_snr_weighting,
    p2_weighting,
    sigmoid_weighting,
    uniform_weighting,
)

__all__ = [
    "TIMES", "WEIGHTINGS", "Weighting", "denoising_loss", "draw_noise_levels", "edm_weighting", "log_normal_sigmas",
    "logit_normal_times", "make_weighting", "min_snr_weighting", "p2_weighting", "sigmoid_weighting",
    "stratified_times", "uniform_steps", "uniform_times", "uniform_weighting",
]
