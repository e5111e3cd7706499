"""Our multistep solvers against diffusers' schedulers, in the same way as `test_diffusion`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import jax.numpy as jnp  # noqa: E402

from jaxgen import diffusion as d  # noqa: E402
from tests.parity.schedulers import (  # noqa: E402
    BETAS,
    SCHEDULE,
    START,
    from_vp,
    ours,
    theirs,
)

MULTISTEP = {
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, d.dpmpp_2m()),
    "dpmpp_2m_heun": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_type": "heun"},
        d.dpmpp_2m_sde(0.0, kind="heun"),
    ),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, d.dpmpp_2m_sde()),
    "unipc_bh2": ("UniPCMultistepScheduler", {"solver_type": "bh2"}, d.unipc()),
    "unipc_bh1": ("UniPCMultistepScheduler", {"solver_type": "bh1"}, d.unipc(kind="bh1")),
}


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep_solvers(name, spacing, karras, monkeypatch):
    from diffusers.schedulers import scheduling_dpmsolver_multistep as module

    cls, options, solver = MULTISTEP[name]
    # Theirs with "bh1" is NaN on a step into 0 (B(h) = h is infinite there); ours takes the first-order step.
    final = "sigma_min" if name == "unipc_bh1" else "zero"
    if name == "unipc_bh1":
        options = {**options, "lower_order_final": False}
    # Order 2; their order-3 curvature term has half its weight (see the test of the order), so it is not compared.
    scheduler = getattr(diffusers, cls)(
        **BETAS, solver_order=2, timestep_spacing=spacing, use_karras_sigmas=karras, final_sigmas_type=final, **options
    )
    scheduler.set_timesteps(12)
    levels = scheduler.sigmas.numpy()
    wanted = theirs(scheduler, START, monkeypatch, module)
    # Theirs rounds the network's time on a Karras grid; ours interpolates. The network here rounds for both.
    got = ours(solver, levels, from_vp(START, levels[0]), round_time=karras)
    np.testing.assert_allclose(got / np.sqrt(1 + levels[-1] ** 2), wanted, atol=1e-4)


def test_pndm():
    scheduler = diffusers.PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=True, steps_offset=0)
    scheduler.set_timesteps(10)
    # Theirs lists the second step twice, for the two evaluations of the start.
    steps = [int(t) for i, t in enumerate(scheduler.timesteps) if i == 0 or t != scheduler.timesteps[i - 1]]
    levels = np.append(np.asarray(SCHEDULE.ratio(jnp.asarray(steps))), 0.0)
    wanted = theirs(scheduler, START)
    np.testing.assert_allclose(ours(d.pndm(), levels, from_vp(START, levels[0])), wanted, atol=1e-4)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(order, spacing, karras):
    """Theirs is the one in log sigma. Its last level is the table's first entry, not 0."""
    scheduler = diffusers.DEISMultistepScheduler(
        **BETAS, solver_order=order, timestep_spacing=spacing, use_karras_sigmas=karras, lower_order_final=False
    )
    scheduler.set_timesteps(12)
    levels = scheduler.sigmas.numpy().astype(np.float32)
    if levels[-1] == levels[-2]:  # a "leading" grid gets there one step earlier, and then stays
        assert spacing != "trailing" or karras
        levels = levels[:-1]
    wanted = theirs(scheduler, START)
    got = ours(d.deis(order), levels, from_vp(START, levels[0]), round_time=karras)
    np.testing.assert_allclose(got / np.sqrt(1 + levels[-1] ** 2), wanted, atol=1e-4)


class ExactWeights(diffusers.SASolverScheduler):
    """Theirs replaces the exact weights of order 2, which the warm-up takes too, by others; ours are the exact ones.

    They add the difference to what this method returns, so that it is taken off here.
    """

    def get_coefficients_fn(self, order, interval_start, interval_end, lambda_list, tau):
        coefficients = super().get_coefficients_fn(order, interval_start, interval_end, lambda_list, tau)
        if order == 2:
            h, k = interval_end - interval_start, 1 + tau**2
            added = torch.exp(k * interval_end) * (h**2 / 2 - (h * k - 1 + torch.exp(-k * h)) / k**2)
            added = added / (lambda_list[0] - lambda_list[1])
            coefficients = [coefficients[0] - added, coefficients[1] + added]
        return coefficients


@pytest.mark.parametrize(("predictor", "corrector"), [(1, 1), (1, 2), (2, 2), (3, 3), (2, 4)])
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
def test_sa_solver(tau, predictor, corrector, monkeypatch):
    """On a Karras grid: other grids end in a step so long that our predictor takes it in first order."""
    from diffusers.schedulers import scheduling_sasolver as module

    scheduler = ExactWeights(
        **BETAS, predictor_order=predictor, corrector_order=corrector, tau_func=lambda t: tau, use_karras_sigmas=True,
        lower_order_final=False,
    )
    scheduler.set_timesteps(12)
    scheduler.timesteps = scheduler.timesteps[:-1]  # their last step stays at its level
    levels = scheduler.sigmas.numpy()[:-1]
    wanted = theirs(scheduler, START, monkeypatch, module)
    solver = d.sa_solver(tau, predictor_order=predictor, corrector_order=corrector)
    got = ours(solver, levels, from_vp(START, levels[0]), round_time=True)
    np.testing.assert_allclose(got / np.sqrt(1 + levels[-1] ** 2), wanted, atol=1e-4)
