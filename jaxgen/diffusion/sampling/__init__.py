"""Sampling: grids of noise levels, solvers, guidance, the loop, editing, inversion.

`sample` takes any solver. To see what it does, here is one sampler whole, algorithm 2 of EDM in the paper's symbols. It
gives the numbers of `sample` with `heun`, in the order in which a reader meets them:

Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jaxgen import diffusion
    >>> def edm_sampler(D, t, x, noise, *, S_churn=0.0, S_tmin=0.0, S_tmax=float("inf"), S_noise=1.0):
    ...     N = len(t) - 1                                          # t_0 > t_1 > .. > t_N = 0; x ~ N(0, t_0² I)
    ...     for i in range(N):
    ...         gamma = min(S_churn / N, 2**0.5 - 1) if S_tmin <= t[i] <= S_tmax else 0.0
    ...         # Add noise, to a level above t_i.
    ...         t_hat = t[i] + gamma * t[i]
    ...         x_hat = x + (t_hat**2 - t[i]**2) ** 0.5 * S_noise * noise(i)
    ...         # A step of Euler's method from t_hat to t_(i+1) along dx / dt.
    ...         d = (x_hat - D(x_hat, t_hat)) / t_hat
    ...         x = x_hat + (t[i + 1] - t_hat) * d
    ...         # Heun's correction: the mean of the slopes at both ends.
    ...         if t[i + 1] != 0:
    ...             d_next = (x - D(x, t[i + 1])) / t[i + 1]
    ...             x = x_hat + (t[i + 1] - t_hat) * (d + d_next) / 2
    ...     return x
    >>> denoiser = lambda x, sigma, cond=None: 0.5 + (x - 0.5) * 0.04 / (0.04 + sigma**2)  # of data from N(.5, .2²)
    >>> key, t = jax.random.key(0), diffusion.karras_sigmas(8)
    >>> x = diffusion.prior_sample(key, (2, 4), t[0])
    >>> by_hand = edm_sampler(denoiser, t, x, noise=lambda i: 0.0)
    >>> bool(jnp.allclose(diffusion.sample(denoiser, diffusion.heun(), t, x, key), by_hand, atol=1e-4))
    True

Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, arXiv:2206.00364,
algorithm 2
"""

from jaxgen.diffusion.sampling._invert import invert
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
from jaxgen.diffusion.sampling.guidance import autoguide, cfg, dps, interval
from jaxgen.diffusion.sampling.limits import Transform, clip, threshold
from jaxgen.diffusion.sampling.loop import PostStep, integrate, prior_sample, sample, sample_noise
from jaxgen.diffusion.sampling.solvers import (
    SOLVERS,
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

__all__ = [
    "SOLVERS", "SPACINGS", "Carry", "PostStep", "Solver", "Transform", "add_noise", "autoguide", "cfg", "clip",
    "consistency", "ddim", "ddpm", "deis", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2s", "dpmpp_3m_sde", "dps", "euler",
    "euler_ancestral", "exponential_sigmas", "get_solver", "heun", "in_flow_time", "inpaint", "integrate", "interval",
    "invert", "ipndm", "karras_sigmas", "kdpm2", "kdpm2_ancestral", "lms", "pndm", "prior_sample", "repaint", "rk4",
    "sa_solver", "sample", "sample_noise", "sdedit", "slerp", "spaced_sigmas", "spaced_steps", "threshold", "truncate",
    "uniform_sigmas", "unipc",
]
