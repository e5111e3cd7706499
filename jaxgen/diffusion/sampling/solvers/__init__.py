"""Solvers of the probability-flow equation and of the reverse diffusion, as pairs of pure functions."""

import inspect

from jaxgen.core.checks import choose
from jaxgen.core.errors import unknown_name
from jaxgen.diffusion.sampling.solvers.adams import deis, ipndm, lms, pndm
from jaxgen.diffusion.sampling.solvers.base import Carry, Solver
from jaxgen.diffusion.sampling.solvers.dpm import dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde, unipc
from jaxgen.diffusion.sampling.solvers.flow_time import in_flow_time
from jaxgen.diffusion.sampling.solvers.single_step import (
    consistency,
    ddim,
    ddpm,
    dpmpp_2s,
    euler,
    euler_ancestral,
    heun,
    kdpm2,
    kdpm2_ancestral,
    rk4,
)
from jaxgen.diffusion.sampling.solvers.stochastic_adams import sa_solver

SOLVERS = {
    solver.__name__: solver
    for solver in (
        euler,
        heun,
        rk4,
        ddim,
        ddpm,
        euler_ancestral,
        kdpm2,
        kdpm2_ancestral,
        dpmpp_2s,
        dpmpp_2m,
        dpmpp_2m_sde,
        dpmpp_3m_sde,
        unipc,
        sa_solver,
        lms,
        deis,
        ipndm,
        pndm,
        consistency,
    )
}


def get_solver(name: str, **options) -> Solver:
    """The solver of this name, `get_solver("ddim", eta=0.5)`, for scripts that take the name as an argument.

    Raises:
        ValueError: for an unknown name, of the solver or of an option, with the nearest one.

    Example:
        >>> from jaxgen import diffusion
        >>> diffusion.get_solver("unipc", order=3).order
        4
    """
    maker = choose("solver", name, SOLVERS)
    known = inspect.signature(maker).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return maker(**options)


__all__ = ["SOLVERS", "Carry", "Solver", "get_solver", "in_flow_time", *sorted(SOLVERS)]
