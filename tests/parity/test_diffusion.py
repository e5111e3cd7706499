"""Our solvers against diffusers' schedulers: one network, one start, one noise, side by side.

What is compared is the final sample, to 1e-4. Both sides run on the scheduler's own list of levels; the grids are
compared by themselves. Deliberate differences are stated where they are.
"""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from jaxgen import diffusion as d  # noqa: E402
from tests.parity.schedulers import (  # noqa: E402
    BETAS,
    NOISE,
    SCHEDULE,
    START,
    from_vp,
    network,
    ours,
    theirs,
    vp_levels,
)


@pytest.mark.parametrize("maximum", [1.0, 1.5, 100.0])
def test_the_dynamic_threshold_and_its_maximum_are_theirs(maximum):
    scheduler = diffusers.DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=maximum)
    x = np.concatenate([3 * START, 0.2 * START])
    result = d.threshold(0.8, maximum=maximum)(lambda x, sigma, cond=None: x)(jnp.asarray(x), 1.0)
    np.testing.assert_allclose(result, scheduler._threshold_sample(torch.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm(spacing, variance, monkeypatch):
    from diffusers.schedulers import scheduling_ddpm

    scheduler = diffusers.DDPMScheduler(**BETAS, timestep_spacing=spacing, variance_type=variance, clip_sample=False)
    scheduler.set_timesteps(10)
    levels = vp_levels(scheduler)
    got = ours(d.ddpm(float(variance == "fixed_large")), levels, from_vp(START, levels[0]))
    wanted = theirs(scheduler, START, monkeypatch, scheduling_ddpm)
    if spacing == "trailing" and variance == "fixed_large":
        # Theirs adds noise of variance beta on every step that does not start at index 0, the last one here (from 99)
        # too; ours never adds noise on the step into 0.
        noise = float(np.sqrt(1 - SCHEDULE.alpha(99) ** 2)) * NOISE[9]
        np.testing.assert_allclose(got + noise, wanted, atol=1e-4)
        return
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(spacing, eta):
    scheduler = diffusers.DDIMScheduler(**BETAS, timestep_spacing=spacing, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    levels = vp_levels(scheduler)
    x = torch.tensor(START)
    for i, t in enumerate(scheduler.timesteps):
        out = network(torch, x, float(t))
        x = scheduler.step(out, t, x, eta=eta, variance_noise=torch.tensor(NOISE[i])).prev_sample
    np.testing.assert_allclose(ours(d.ddim(eta), levels, from_vp(START, levels[0])), x.numpy(), atol=1e-4)


SIGMA_SPACE = {
    "euler": ("EulerDiscreteScheduler", d.euler(), {}),
    "heun": ("HeunDiscreteScheduler", d.heun(), {}),
    "lms": ("LMSDiscreteScheduler", d.lms(4), {}),
}


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", SIGMA_SPACE)
def test_solvers_in_sigma(name, spacing, karras):
    cls, solver, options = SIGMA_SPACE[name]
    scheduler = getattr(diffusers, cls)(**BETAS, timestep_spacing=spacing, use_karras_sigmas=karras, **options)
    scheduler.set_timesteps(10)
    levels = scheduler.sigmas.numpy().astype(np.float32)
    if name == "heun":  # theirs lists every level but the first and last twice, once for each evaluation
        levels = np.append(levels[:1], levels[1:-1:2]) if len(levels) == 20 else np.unique(levels)[::-1]
        levels = np.append(levels[levels > 0], 0.0).astype(np.float32)
    assert len(levels) == 11
    start = START * levels[0]
    np.testing.assert_allclose(ours(solver, levels, start), theirs(scheduler, start), atol=1e-4)


@pytest.mark.parametrize("karras", [False, True])
def test_the_karras_grid_and_the_spacings_are_theirs(karras):
    for spacing in ("leading", "trailing", "linspace"):
        scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing=spacing, use_karras_sigmas=karras)
        for n in (5, 10, 50):
            scheduler.set_timesteps(n)
            if karras:
                # Theirs takes the ends of the spaced list, ours is told them.
                plain = d.spaced_sigmas(SCHEDULE, n, spacing=spacing)
                mine = d.karras_sigmas(n, float(plain[-2]), float(plain[0]))
            else:
                mine = d.spaced_sigmas(SCHEDULE, n, spacing=spacing)
            # Theirs leaves fractional times in "linspace" (unless they are whole); ours rounds them to the table.
            tolerance = 1e-4 if spacing != "linspace" or n == 10 else 0.02
            np.testing.assert_allclose(mine, scheduler.sigmas.numpy(), rtol=tolerance, atol=2e-4)
    # One step: theirs starts "leading" and "linspace" at index 0, from which nothing can be sampled; ours at T - 1.
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    scheduler.set_timesteps(1)
    assert float(scheduler.timesteps[0]) == 0 and d.spaced_steps(1000, 1, spacing="leading")[0] == 999


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_euler_ancestral(spacing, monkeypatch):
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    scheduler = diffusers.EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    levels = scheduler.sigmas.numpy()
    start = START * levels[0]
    wanted = theirs(scheduler, start, monkeypatch, module)
    np.testing.assert_allclose(ours(d.euler_ancestral(), levels, start), wanted, atol=1e-4)


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("ancestral", [False, True])
def test_kdpm2(ancestral, spacing, exponential, monkeypatch):
    """On Karras grids theirs rounds the network's time at the levels and not in the middle of steps; not compared."""
    from diffusers.schedulers import scheduling_k_dpm_2_ancestral_discrete as module

    cls = diffusers.KDPM2AncestralDiscreteScheduler if ancestral else diffusers.KDPM2DiscreteScheduler
    scheduler = cls(**BETAS, timestep_spacing=spacing, use_exponential_sigmas=exponential)
    scheduler.set_timesteps(10)
    full = scheduler.sigmas.numpy()  # every level but the first and last twice, once for each evaluation
    levels = np.append(full[:1], full[1:-1:2]).astype(np.float32)
    assert len(levels) == 11 and levels[-1] == 0
    start = START * levels[0]
    solver = d.kdpm2_ancestral() if ancestral else d.kdpm2()
    wanted = theirs(scheduler, start, monkeypatch, module)
    np.testing.assert_allclose(ours(solver, levels, start), wanted, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("n", [5, 25])
def test_heun_of_flow_matching(n, shift):
    """From t = 1, pure noise; x0 has values of scale 4."""
    def velocity(xp, xt, t):
        x0 = 4 * xp.tanh(0.9 * xt + 0.2) + 0.15 * xp.cos(xt * 1.3)
        return xt * (1 + t) - x0

    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(n)
    full = scheduler.sigmas.numpy().astype(np.float64)
    shares = np.append(full[:1], full[1:-1:2])
    shares = np.append(shares[shares > 0], 0.0)
    levels = np.minimum(shares / np.maximum(1 - shares, 1e-9), d.MAX_RATIO)
    x = torch.tensor(START)
    for t in scheduler.timesteps:
        x = scheduler.step(velocity(torch, x, float(t) / 1000), t, x).prev_sample
    schedule = d.flow(shift=shift)
    denoiser = d.precondition(lambda xt, t, c: velocity(jnp, xt, t[:, None, None]), kind="flow", schedule=schedule)

    def run(solver):
        start = jnp.asarray(START) * float(1 + levels[0])
        return d.sample(denoiser, solver, jnp.asarray(levels, jnp.float32), start, jax.random.key(0))

    np.testing.assert_allclose(run(d.in_flow_time(d.heun())), x.numpy(), atol=2e-4)
    # Heun's in sigma, but for the first step, is another method: as near as two of second order are.
    assert np.abs(np.asarray(run(d.heun())) - x.numpy()).max() < (1.0 if n == 5 else 0.1)


def test_ddim_inversion():
    """Their inverse scheduler takes the same first-order steps upwards."""
    levels = d.spaced_sigmas(SCHEDULE, 10, spacing="leading")
    denoiser = d.precondition(lambda xt, t, c: network(jnp, xt, t[:, None, None]), kind="eps", schedule=SCHEDULE)
    up = d.invert(denoiser, d.ddim(), levels, jnp.asarray(START) * np.sqrt(1 + float(levels[-2]) ** 2))
    scheduler = diffusers.DDIMInverseScheduler(**BETAS, timestep_spacing="leading", clip_sample=False)
    scheduler.set_timesteps(10)
    x, steps = torch.tensor(START), [int(t) for t in scheduler.timesteps]
    for t in steps[1:]:  # their first step comes from before the table; ours starts at its first entry
        previous = min(t - 100, 999)
        out = network(torch, x, float(previous))
        x = scheduler.step(out, t, x).prev_sample
    final = float(levels[0])
    np.testing.assert_allclose(np.asarray(up) / np.sqrt(1 + final**2), x.numpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("rescale", [False, True])
def test_tables(name, rescale):
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if name == "scaled_linear" else {}
    scheduler = diffusers.DDIMScheduler(beta_schedule=name, rescale_betas_zero_snr=rescale, **ends)
    mine = {"linear": d.linear, "scaled_linear": d.scaled_linear, "squaredcos_cap_v2": d.cosine}[name]()
    mine = d.rescale_zero_terminal_snr(mine) if rescale else mine
    np.testing.assert_allclose(mine.alphas_cumprod, scheduler.alphas_cumprod.numpy(), rtol=2e-4, atol=2e-7)
