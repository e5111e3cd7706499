"""Any deterministic solver in the time of a rectified flow, u = s / (1 + s), instead of in sigma.

With y = x / (1 + s) the probability-flow equation keeps its form,

    dy / du = (y - D) / u,        D the same denoised sample,

so that a solver in sigma with y and u for x and s is the same rule in u. u is bounded: infinite noise is u = 1.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxgen.diffusion.sampling.solvers.base import Solver
from jaxgen.diffusion.schedules.base import MAX_RATIO


def in_flow_time(solver: Solver) -> Solver:
    """The solver in u = s / (1 + s), the share of noise: `in_flow_time(heun())` is the Heun sampler of flow models.

    Where a rule needs no bounded variable it has the same order in both, with another error. On a flow with a shift
    u is the shifted time. The first-order step is the same in every variable.

    Args:
        solver: a deterministic one.

    Returns:
        A solver with the same order and the same number of evaluations.

    Raises:
        ValueError: for what is no solver; while sampling, if it draws noise, which does not belong to this variable.

    Reference: Liu, Gong, Liu, "Flow straight and fast: learning to generate and transfer data with rectified flow",
    2022, arXiv:2209.03003

    Reference: Ma et al., "SiT: exploring flow and diffusion-based generative models with scalable interpolant
    transformers", 2024, arXiv:2401.08740, who sample with Heun's method in u

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.in_flow_time(diffusion.heun()).nfe
        2
    """
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be a Solver, such as heun(), got {solver!r}")

    def no_noise(stream=0):
        raise ValueError(
            "in_flow_time takes a deterministic solver, such as heun() or rk4(), but this one draws noise: use it as "
            "it is, every solver works from every grid"
        )

    moved = moved_by(lambda sigma, sigma_next: 1, solver)

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        return moved.step(denoiser, carry, sigma, sigma_next, no_noise)

    return solver._replace(step=step)


def moved_by(share: Callable[[Array, Array], Array | float], solver: Solver) -> Solver:
    """The solver in u = s / (1 + k s), y = x / (1 + k s) with k = share(s, s') of each step; k = 0 is sigma itself.

    A solver with a history must have the same k in every step.
    """

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        k = share(sigma, sigma_next)
        scale, scale_next = 1 + k * sigma, 1 + k * sigma_next

        def inside(y, u):
            rest = jnp.maximum(1 - k * u, 1 / (1 + MAX_RATIO))  # u = 1 in this precision stands for the cap
            return denoiser(y / rest, u / rest)

        carry = carry._replace(x=carry.x / scale)
        carry = solver.step(inside, carry, sigma / scale, sigma_next / scale_next, noise_fn)
        return carry._replace(x=carry.x * scale_next)

    return solver._replace(step=step)
