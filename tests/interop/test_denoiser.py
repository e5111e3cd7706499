"""Denoisers from pipelines in the format of diffusers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.interop import load_denoiser, save_unet
from tests.interop.cases import SINGLE, make


def denoiser_directory(directory, scheduler, options=SINGLE):
    save_unet(directory / "unet", *make(options))
    (directory / "scheduler").mkdir(exist_ok=True)
    (directory / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_a_denoiser_joins_network_and_schedule(kind, tmp_path):
    ddim = {"_class_name": "DDIMScheduler", "num_train_timesteps": 10, "beta_start": 0.1, "beta_end": 0.1}
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    denoiser_directory(tmp_path, {"eps": ddim, "flow": flow}[kind])
    denoiser, schedule, unet = load_denoiser(tmp_path)
    x0, noise = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    if kind == "eps":
        alpha, time = 0.9**2, 3.0  # after four betas of 0.1: alpha-bar is 0.9^4
        sigma = np.sqrt(1 - alpha**2)
    else:
        alpha, sigma, time = 0.25, 0.75, 750.0  # the network is told the share of noise, in thousandths
        np.testing.assert_allclose(schedule.sigma(0.5), 0.75, rtol=1e-6)
    xt = alpha * x0 + sigma * noise
    apply = jax.jit(lambda x, t: unet.model.apply({"params": unet.params}, x, t))
    prediction = np.asarray(apply(xt, jnp.full(2, time)))
    wanted = (xt - sigma * prediction) / alpha if kind == "eps" else xt - sigma * prediction
    got = jax.jit(denoiser)(jnp.asarray(xt / alpha), jnp.float32(sigma / alpha))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_the_condition_of_a_denoiser_is_the_networks_keyword_arguments(tmp_path):
    ddim = {"_class_name": "DDIMScheduler"}
    denoiser_directory(tmp_path, ddim, {**SINGLE, "num_classes": 2})
    denoiser = load_denoiser(tmp_path).denoiser
    x = jnp.ones((2, 4, 4, 3))
    run = jax.jit(denoiser)
    none, classes = run(x, 1.0, None), run(x, 1.0, {"classes": jnp.array([2, 0])})
    np.testing.assert_allclose(none[0], classes[0], rtol=1e-5)
    assert np.abs(none[1] - classes[1]).max() > 1e-3
    with pytest.raises(ValueError, match="unknown entry of cond 'class'.*Did you mean 'classes'"):
        denoiser(x, 1.0, {"class": jnp.array([2, 0])})
    with pytest.raises(ValueError, match="cond must be a dict of classes, context, context_mask, or None; got"):
        denoiser(x, 1.0, jnp.array([2, 0]))
    denoiser_directory(tmp_path, ddim, {**SINGLE, "out_channels": 6})
    with pytest.raises(ValueError, match="got in_channels=3 and out_channels=6"):
        load_denoiser(tmp_path)
