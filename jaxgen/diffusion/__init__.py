"""Diffusion models as plain functions: schedules, denoisers, guidance, solvers, sampling, likelihood, editing.

    denoiser = precondition(apply, kind="v", schedule=cosine())             # any network -> (x, sigma, cond) -> x0_hat
    guided = interval(cfg(scale, null_cond), lo, hi)(denoiser)              # denoiser -> denoiser
    sigmas = karras_sigmas(32)                                              # [n + 1], ending in 0
    x = prior_sample(key, (8, 32, 32, 3), sigmas[0])
    images = jax.jit(lambda s, x, k: sample(guided, dpmpp_2m(), s, x, k, cond=labels))(sigmas, x, key)

    schedules/   alpha and sigma over time; eps, x0, v, score and velocity from each other
    training/    times and noise levels to train on, weightings, `denoising_loss`
    sampling/    grids, solvers, guidance, `sample`, editing, inversion
    likelihood/  `log_prob`, `variational_bound`

Solvers work in the variance-exploding variable x = xt / alpha, at the noise level sigma / alpha, where all model
families are one. Time runs from data at 0 to noise at `schedule.end`.

The contract, which calls check as far as shapes, dtypes and concrete values tell:

- A denoiser is `(x [B, ...], sigma, cond) -> x0_hat [B, ...]`, three arguments in this order, even where cond is None.
  It returns one floating-point array of x's shape: the clean sample, not the noise (`precondition` makes it so).
  A network of kind "flow" predicts the velocity eps - x0.
- sigma is a scalar [] in samplers and a vector [B] in training. `jnp.broadcast_to(sigma, x.shape[:1])` is [B] of both.
- x is floating point (images in [-1, 1], `jaxgen.data.to_float`) and starts at the first noise level: sigmas[0] times
  standard normal noise, `prior_sample`. Noise of std 1, as other libraries take it, gives wrong samples: `sample`
  refuses it where its values are known and there are enough numbers to tell, 64.
- A solver is made by a call, `heun()`, before it is passed; `get_solver("heun")` takes a name.
- sigmas decrease strictly, usually to 0. key is one `jax.random.key(seed)`; sample_ids are whole numbers [B].
- Guidance needs `cond`; cond's leaves have the batch as their first axis.
- A NaN of x or of the network stays visible in the result.
"""

from jaxgen.diffusion import likelihood, sampling, schedules, training
from jaxgen.diffusion._precondition import Denoiser, edm_coefficients, precondition
from jaxgen.diffusion.likelihood import *  # noqa: F403
from jaxgen.diffusion.sampling import *  # noqa: F403
from jaxgen.diffusion.schedules import *  # noqa: F403
from jaxgen.diffusion.training import *  # noqa: F403

__all__ = [
    "Denoiser", "edm_coefficients", "precondition",
    *schedules.__all__, *training.__all__, *sampling.__all__, *likelihood.__all__,
]
