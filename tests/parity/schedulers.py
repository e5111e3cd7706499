"""What the comparisons with diffusers' schedulers share: one network, one start, one noise, and both sides' loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d

torch = pytest.importorskip("torch")

SHAPE = (2, 3, 4)
START, *NOISE = np.random.default_rng(0).normal(size=(65, *SHAPE)).astype(np.float32)
NOISE = np.stack(NOISE)
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}
SCHEDULE = d.linear()


def network(xp, xt, t):
    """The noise that belongs to a smooth, bounded x0; t is a number or broadcasts, a fraction on some grids."""
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    if xp is torch:
        alpha, sigma = float(alpha), float(sigma)
    x0 = 0.8 * xp.tanh(0.9 * xt + 0.2) + 0.15 * xp.cos(xt * 1.3)
    return (xt - alpha * x0) / sigma


def ours(solver, sigmas, x, *, round_time=False):
    def apply(xt, time, cond):
        time = jnp.round(time) if round_time else time
        return network(jnp, xt, time[:, None, None])

    denoiser = d.precondition(apply, kind="eps", schedule=SCHEDULE)
    source = lambda step, stream: jnp.asarray(NOISE)[step]  # noqa: E731
    return np.asarray(jax.jit(lambda s, x: d.integrate(denoiser, solver, s, x, source))(jnp.asarray(sigmas), x))


def theirs(scheduler, x, monkeypatch=None, module=None):
    """Their loop; the n-th noise that they draw is the n-th of ours."""
    x, draws = torch.tensor(x), iter(torch.tensor(NOISE))
    if module is not None:
        monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(draws))
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(torch, seen, float(t)), t, x).prev_sample
    return x.numpy()


def vp_levels(scheduler):
    """The levels of a scheduler that works with timesteps, ending in 0."""
    return np.append(np.asarray(SCHEDULE.ratio(jnp.asarray(scheduler.timesteps.numpy()))), 0.0)


def from_vp(x, sigma):
    """Their variance-preserving start, in our variable."""
    return x * float(np.sqrt(1 + sigma**2))
