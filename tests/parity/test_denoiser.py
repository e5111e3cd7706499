"""Loaded denoisers against diffusers' pipelines and schedulers: one start, a few steps, the same images."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from jaxgen import diffusion as d  # noqa: E402
from jaxgen.interop import load_denoiser, load_schedule  # noqa: E402
from tests.parity.unets import TINY, blocks, conditional, context, unconditional  # noqa: E402


@pytest.mark.parametrize(("prediction", "kind"), [("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")])
def test_a_pipeline_draws_the_same_images(prediction, kind, tmp_path):
    # Few betas, so that the images of a network that knows nothing stay in the range to which theirs clips.
    scheduler = diffusers.DDIMScheduler(
        beta_end=0.001, prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
    )
    model = unconditional(**TINY)
    with torch.no_grad():
        model.conv_out.weight *= 0.3
    pipeline = diffusers.DDIMPipeline(model, scheduler)
    pipeline.save_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    wanted = pipeline(batch_size=2, generator=generator, num_inference_steps=4, output_type="np").images
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).permute(0, 2, 3, 1).numpy()
    denoiser, schedule, _ = load_denoiser(tmp_path)
    assert load_schedule(tmp_path).kind == kind
    sigmas = d.spaced_sigmas(schedule, 4)
    start = jnp.sqrt(1 + sigmas[0] ** 2) * noise
    got = jax.jit(lambda x: d.sample(denoiser, d.ddim(), sigmas, x, jax.random.key(0)))(start)
    assert ((wanted > 0) & (wanted < 1)).mean() > 0.4
    np.testing.assert_allclose(np.clip(np.asarray(got) / 2 + 0.5, 0, 1), wanted, atol=1e-4)


def save_parts(directory, model, scheduler):
    model.save_pretrained(directory / "unet")
    scheduler.save_pretrained(directory / "scheduler")
    return load_denoiser(directory)


def test_a_flow_and_its_shift(tmp_path):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    model = unconditional(**TINY)
    denoiser, schedule, _ = save_parts(tmp_path, model, scheduler)
    assert schedule.shift == 3 and load_schedule(tmp_path).kind == "flow"
    scheduler.set_timesteps(4)
    x = start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        with torch.no_grad():
            x = scheduler.step(model(x, time).sample, time, x).prev_sample
    share = jnp.asarray(scheduler.sigmas.numpy())
    sigmas = share / jnp.maximum(1 - share, 1 / d.MAX_RATIO)
    first = (1 + sigmas[0]) * start.permute(0, 2, 3, 1).numpy()
    got = jax.jit(lambda x: d.sample(denoiser, d.euler(), sigmas, x, jax.random.key(0)))(first)
    np.testing.assert_allclose(got, x.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_guidance_with_a_context(tmp_path):
    one_level = {"down_block_types": blocks("Down", "CrossAttn"), "up_block_types": blocks("Up", "CrossAttn")}
    model = conditional(block_out_channels=(32,), layers_per_block=1, mid_block_type=None, **one_level)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="v_prediction",
    )
    denoiser, schedule, _ = save_parts(tmp_path, model, scheduler)
    scheduler.set_timesteps(4)
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text, null = context(), context()[:1] * 0.5
    for time in scheduler.timesteps:
        with torch.no_grad():
            guided, plain = (model(x, time, encoder_hidden_states=c).sample for c in (text, null.repeat(2, 1, 1)))
        x = scheduler.step(plain + 3 * (guided - plain), time, x, eta=0.0).prev_sample
    levels = schedule.ratio(jnp.asarray([*scheduler.timesteps.numpy(), 0]))  # theirs ends at index 0, not at no noise
    guide = d.cfg(3.0, {"context": jnp.asarray(null.numpy())})
    first = jnp.sqrt(1 + levels[0] ** 2) * start.permute(0, 2, 3, 1).numpy()
    cond = {"context": jnp.asarray(text.numpy())}
    got = jax.jit(lambda x: d.sample(guide(denoiser), d.ddim(), levels, x, jax.random.key(0), cond=cond))(first)
    got = np.asarray(got / jnp.sqrt(1 + levels[-1] ** 2))
    wanted = x.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
