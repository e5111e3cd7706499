"""Diffusion models as plain functions: schedules, denoisers, guidance, solvers, sampling, likelihood, editing.

    denoiser = precondition(apply, kind="v", schedule=cosine())             # any network -> (x, sigma, cond) -> x0_hat
    guided = interval(cfg(scale, null_cond), lo, hi)(denoiser)              # denoiser -> denoiser
    sigmas = karras_sigmas(32)                                              # [n + 1], ending in 0
    x = prior_sample(key, (8, 32, 32, 3), sigmas[0])
    images = jax.jit(lambda s, x, k: sample(guided, dpmpp_2m(), s, x, k, cond=labels))(sigmas, x, key)

Solvers work in the variance-exploding variable x = xt / alpha, at the noise level sigma / alpha, where all model
families are one. Time runs from data at 0 to noise at `schedule.end`.

The contract, which calls check as far as shapes, dtypes and concrete values tell:

- A denoiser is `(x [B, ...], sigma, cond) -> x0_hat [B, ...]`, three arguments in this order, even where cond is None.
  It returns one floating-point array of x's shape: the clean sample, not the noise (`precondition` makes it so).
- sigma is a scalar [] in samplers and a vector [B] in training. `jnp.broadcast_to(sigma, x.shape[:1])` is [B] of both.
- x is floating point (images in [-1, 1], `jaxgen.data.to_float`) and starts at the first noise level: sigmas[0] times
  standard normal noise, `prior_sample`. Noise of std 1, as other libraries take it, is a quiet mistake.
- A solver is called before it is given, `heun()`; `get_solver("heun")` takes a name.
- sigmas decrease strictly, usually to 0. key is one `jax.random.key(seed)`; sample_ids are whole numbers [B].
- Guidance needs `cond`; cond's leaves have the batch as their first axis.
- A NaN of x or of the network stays visible in the result.
"""

from jaxgen.diffusion.likelihood.bound import Bound, variational_bound
from jaxgen.diffusion.likelihood.ode import BITS_OFFSET_127_5, BITS_OFFSET_256, bits_per_dim, log_prob
from jaxgen.diffusion.precondition import Denoiser, edm_coefficients, precondition
from jaxgen.diffusion.sampling.editing import add_noise, inpaint, repaint, sdedit, slerp
from jaxgen.diffusion.sampling.grids import (
    SPACINGS,
    exponential_sigmas,
    karras_sigmas,
    spaced_sigmas,
    spaced_steps,
    truncate,
    uniform_sigmas,
)
from jaxgen.diffusion.sampling.guidance import Transform, autoguide, cfg, clip, dps, interval, threshold
from jaxgen.diffusion.sampling.invert import invert
from jaxgen.diffusion.sampling.loop import PostStep, integrate, prior_sample, sample, sample_noise
from jaxgen.diffusion.sampling.solvers import (
    Carry,
    Solver,
    consistency,
    ddim,
    ddpm,
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2s,
    dpmpp_3m_sde,
    euler,
    euler_ancestral,
    get_solver,
    heun,
    in_flow_time,
    ipndm,
    kdpm2,
    kdpm2_ancestral,
    lms,
    pndm,
    rk4,
    sa_solver,
    unipc,
)
from jaxgen.diffusion.schedules.continuous import MAX_RATIO, Schedule, edm, flow, sigmoid, trigonometric
from jaxgen.diffusion.schedules.conversions import convert, from_pair, to_pair
from jaxgen.diffusion.schedules.discrete import (
    Discrete,
    cosine,
    discretize,
    from_alphas_cumprod,
    from_betas,
    linear,
    rescale_zero_terminal_snr,
    scaled_linear,
)
from jaxgen.diffusion.training.draws import (
    log_normal_sigmas,
    logit_normal_times,
    stratified_times,
    uniform_steps,
    uniform_times,
)
from jaxgen.diffusion.training.loss import denoising_loss
from jaxgen.diffusion.training.weighting import Weighting, edm_weighting, min_snr, p2, sigmoid_weighting, uniform

__all__ = [
    "BITS_OFFSET_127_5", "BITS_OFFSET_256", "MAX_RATIO", "SPACINGS", "Bound", "Carry", "Denoiser", "Discrete",
    "PostStep", "Schedule", "Solver", "Transform", "Weighting", "add_noise", "autoguide", "bits_per_dim", "cfg",
    "clip", "consistency", "convert", "cosine", "ddim", "ddpm", "deis", "denoising_loss", "discretize", "dpmpp_2m",
    "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_3m_sde", "dps", "edm", "edm_coefficients", "edm_weighting", "euler",
    "euler_ancestral", "exponential_sigmas", "flow", "from_alphas_cumprod", "from_betas", "from_pair", "get_solver",
    "heun", "in_flow_time", "inpaint", "integrate", "interval", "invert", "ipndm", "karras_sigmas", "kdpm2",
    "kdpm2_ancestral", "linear", "lms", "log_normal_sigmas", "log_prob", "logit_normal_times", "min_snr", "p2",
    "pndm", "precondition", "prior_sample", "repaint", "rescale_zero_terminal_snr", "rk4", "sa_solver", "sample",
    "sample_noise", "scaled_linear", "sdedit", "sigmoid", "sigmoid_weighting", "slerp", "spaced_sigmas",
    "spaced_steps", "stratified_times", "threshold", "to_pair", "trigonometric", "truncate", "uniform",
    "uniform_sigmas", "uniform_steps", "uniform_times", "unipc", "variational_bound",
]
