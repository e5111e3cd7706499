"""From data back to the noise that a deterministic solver would have started from."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_batch, concrete
from jaxgen.core.mapped import vary_like
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import check_sigmas
from jaxgen.diffusion.sampling.loop import integrate
from jaxgen.diffusion.sampling.solvers.base import Solver
from jaxgen.diffusion.sampling.solvers.checked import checked_solver


def invert(
    denoiser: Denoiser, solver: Solver, sigmas: Float[Array, "n+1"], x0: Float[Array, "B ..."], *, cond: Any = None
) -> Float[Array, "B ..."]:
    """Runs the probability-flow equation upwards, over the same grid that `sample` runs down.

    A level of 0 at the grid's end is left out: x0 stands for the sample at the smallest level above 0, from where the
    first-order step into 0 leads back to it. Sampling from the result returns x0 up to the solver's order.

    Args:
        denoiser, cond: as in `sample`.
        solver: a deterministic one; orders hold for euler, heun, rk4, dpmpp_2s and the multistep solvers.
        sigmas: [n + 1] decreasing, as for `sample`; n >= 2 if it ends in 0.
        x0: [B, ...] data.

    Returns:
        x [B, ...] at sigmas[0].

    Raises:
        ValueError: a solver that draws noise, or a bad grid; what is no batch of floating-point numbers, no solver or
            no denoiser.

    Reference: Song, Meng, Ermon, "Denoising diffusion implicit models", 2021, arXiv:2010.02502, section 4.3

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> diffusion.invert(denoiser, diffusion.heun(), diffusion.karras_sigmas(8), jnp.ones((2, 4))).shape
        (2, 4)
    """
    check_batch("x0", x0)
    check_sigmas(sigmas)
    solver = checked_solver(solver)
    values = concrete(sigmas)
    upward = jnp.flip(sigmas if values is None or values[-1] > 0 else sigmas[:-1])
    if upward.shape[0] < 2:
        raise ValueError("sigmas must hold at least two levels above 0 to invert over; got one step")

    def no_noise(step, stream):
        raise ValueError(
            "the solver draws noise, so that its path cannot be followed backwards; invert with a deterministic "
            "solver such as heun(), dpmpp_2m() or ddim(eta=0.0)"
        )

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        # Whether a traced grid ends in 0 is not known when shapes are decided: such a step is passed over.
        start = jnp.where(sigma > 0, sigma, sigma_next / 2)

        def move(carry):
            return solver.step(denoiser, carry, start, sigma_next, noise_fn)

        return jax.lax.cond(sigma > 0, move, lambda carry: carry, carry)

    passing = solver if values is not None else solver._replace(step=step)
    return integrate(denoiser, passing, upward, vary_like(jnp.asarray(x0), cond), no_noise, cond=cond)
