"""The one place where a solver is held to its contract: what its functions take, return and draw."""

from typing import Any

import numpy as np
from jax import Array

from jaxgen.core.callables import check_call, keeps_types, name_of, shapes_of
from jaxgen.diffusion.contract import check_solver
from jaxgen.diffusion.sampling.solvers.base import Carry, Solver


def checked_solver(solver: Any) -> Solver:
    """The solver, whose functions check while tracing what they return and how many noises they draw.

    Raises:
        ValueError: now, for what is no solver, or functions that take other arguments; when called, for what is no
            `Carry`, one whose types change from step to step, or a noise beyond the solver's `draws`.
    """
    check_solver(solver)
    init, step = f"the solver's {name_of(solver.init)}", f"the solver's {name_of(solver.step)}"
    check_call(init, solver.init, "init(x)", "x")
    check_call(step, solver.step, "step(denoiser, carry, sigma, sigma_next, noise_fn)", *"dcsnf")
    order, nfe, draws = (getattr(solver, fact, 1) for fact in ("order", "nfe", "draws"))

    def checked_init(x: Array) -> Carry:
        carry = solver.init(x)
        _check_carry(init, carry)
        if not keeps_types(x, carry.x):
            raise ValueError(f"{init} returned {shapes_of(carry)}: its x must be like the one that it got, "
                             f"{shapes_of(x)}")
        return carry

    def checked_step(denoiser, carry, sigma, sigma_next, noise_fn):
        def noise(stream=0):
            if isinstance(stream, (int, np.integer)) and not 0 <= stream < draws:
                raise ValueError(f"{step} draws noise({stream}), but the solver has draws={draws}: streams run from 0 "
                                 "to draws - 1, and draws is how many a step takes")
            return noise_fn(stream)

        after = solver.step(denoiser, carry, sigma, sigma_next, noise)
        _check_carry(step, after)
        if not keeps_types(carry, after):
            raise ValueError(f"{step} made {shapes_of(after)} of {shapes_of(carry)}: a carry must keep the structure, "
                             "shapes and dtypes that init gave it")
        return after

    return Solver(checked_init, checked_step, order, nfe, draws)


def _check_carry(who: str, carry: Any) -> None:
    if not isinstance(carry, Carry):
        raise ValueError(f"{who} returned {shapes_of(carry)}: return a Carry(x, memory)")
