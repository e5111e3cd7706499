"""Exact denoisers, for tests that need no training: a Gaussian and a mixture of two Gaussians in one dimension."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from jaxgen import diffusion as d

MEANS, STDS, SHARES = (-1.0, 0.6), (0.3, 0.5), (0.4, 0.6)


def gaussian(mean=0.0, std=0.5):
    """E[x0 | x] for x0 ~ N(mean, std²)."""
    return lambda x, sigma, cond=None: (std**2 * x + _wide(sigma, x) ** 2 * mean) / (std**2 + _wide(sigma, x) ** 2)


def mixture(x, sigma, cond=None):
    """E[x0 | x] for the mixture, each number of x by itself."""
    mean, std, share = (jnp.asarray(a) for a in (MEANS, STDS, SHARES))
    s2 = _wide(sigma, x)[..., None] ** 2
    total = std**2 + s2
    log_p = jnp.log(share) - 0.5 * jnp.log(total) - 0.5 * (x[..., None] - mean) ** 2 / total
    return jnp.sum(jax.nn.softmax(log_p) * (std**2 * x[..., None] + s2 * mean) / total, axis=-1)


def wave(x, sigma, cond=None):
    """No posterior mean, but not linear and of few operations: for programs whose numbers need no meaning."""
    return jnp.sin(x / (1 + _wide(sigma, x)))


def _wide(sigma, x):
    sigma = jnp.asarray(sigma)
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim)) if sigma.ndim else sigma


def mixture_flow(x, start, stop):
    """The probability-flow solution for the mixture, by SciPy's DOP853 on NumPy's own arithmetic."""

    def slope(u, x):
        s2 = np.exp(2 * u)
        total = np.array(STDS) ** 2 + s2
        log_p = np.log(SHARES) - 0.5 * np.log(total) - 0.5 * (x[:, None] - MEANS) ** 2 / total
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return x - (p * (np.array(STDS) ** 2 * x[:, None] + s2 * np.array(MEANS)) / total).sum(1)

    return solve_ivp(slope, (np.log(start), np.log(stop)), x, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


def log_grid(n, start, stop):
    """n equal steps in log sigma, not ending in 0."""
    return np.geomspace(start, stop, n + 1)


def follow(solver, denoiser, sigmas, steps, x, noise=None):
    """`integrate` over the first `steps`, a traced number, of a grid: one program for grids of different lengths.

    Where noise is drawn it is `noise(step, stream)`.
    """

    def step(i, carry):
        return solver.step(denoiser, carry, sigmas[i], sigmas[i + 1], lambda stream=0: noise(i, stream))

    return jax.lax.fori_loop(0, steps, step, solver.init(x)).x


def padded(grid, length):
    """A grid, with zeros behind it."""
    return np.pad(grid, (0, length - len(grid)))


DETERMINISTIC = {
    "euler": d.euler(),
    "heun": d.heun(),
    "rk4": d.rk4(),
    "ddim": d.ddim(0.0),
    "dpmpp_2s": d.dpmpp_2s(),
    "dpmpp_2m": d.dpmpp_2m(),
    "dpmpp_2m_heun": d.dpmpp_2m_sde(0.0, kind="heun"),
    "dpmpp_3m": d.dpmpp_3m_sde(0.0),
    "unipc_1": d.unipc(1),
    "unipc_2": d.unipc(2),
    "unipc_2_bh1": d.unipc(2, kind="bh1"),
    "unipc_3": d.unipc(3),
    "lms_2": d.lms(2),
    "lms_3": d.lms(3),
    "lms_4": d.lms(4),
    "ipndm": d.ipndm(),
    "pndm": d.pndm(),
    "deis_2": d.deis(2),
    "deis_3": d.deis(3),
    "deis_3_in_time": d.deis(3, time=d.flow().time),
    "kdpm2": d.kdpm2(),
    "sa_1_2": d.sa_solver(0.0, predictor_order=1),
    "sa_3_4": d.sa_solver(0.0, predictor_order=3, corrector_order=4),
    "heun_in_time": d.in_flow_time(d.heun()),
    "lms_in_time": d.in_flow_time(d.lms(2)),
}
STOCHASTIC = {
    "ddim_half": d.ddim(0.5),
    "ddim_full": d.ddim(1.0),
    "ddpm": d.ddpm(),
    "ddpm_large": d.ddpm(1.0),
    "euler_ancestral": d.euler_ancestral(),
    "heun_churn": d.heun(0.2),
    "dpmpp_2s_ancestral": d.dpmpp_2s(1.0),
    "dpmpp_2m_sde": d.dpmpp_2m_sde(),
    "dpmpp_3m_sde": d.dpmpp_3m_sde(),
    "kdpm2_ancestral": d.kdpm2_ancestral(),
    "sa_solver": d.sa_solver(),
    "sa_3_3_between": d.sa_solver(0.8, predictor_order=3, corrector_order=3, lo=0.05, hi=1.0),
}
# With the code of another one; what holds for every solver is tested without them where it costs a compilation.
VARIANTS = (
    "ddim", "ddim_half", "dpmpp_2m_heun", "unipc_1", "unipc_2_bh1", "lms_2", "lms_3", "ddpm_large", "deis_2", "sa_1_2",
    "kdpm2_ancestral", "lms_in_time", "sa_3_3_between", "euler_ancestral",
    "dpmpp_2s", "dpmpp_3m", "deis_3_in_time", "sa_3_4",
)
ALL = {**DETERMINISTIC, **STOCHASTIC, "consistency": d.consistency()}
